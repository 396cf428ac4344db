/**
 * 16-bit numbers on the emulator against a model that knows nothing of bits: a code's value by the formula of its
 * format, and of a number the nearest value in the sorted table of all of them, the even code where two are as near.
 */
import { beforeAll, describe, expect, test } from 'vitest'
import { noCompiler, openEmulator, type Emulator } from './emulator-driver.js'

interface Format { readonly exponentBits: number; readonly fractionBits: number }
const formats = { f16: { exponentBits: 5, fractionBits: 10 }, bf16: { exponentBits: 8, fractionBits: 7 } } as const

function valueOf(code: number, { exponentBits, fractionBits }: Format): number {
  const sign = code & 0x8000 ? -1 : 1, magnitude = code & 0x7fff
  const exponent = Math.floor(magnitude / 2 ** fractionBits), fraction = (magnitude % 2 ** fractionBits) / 2 ** fractionBits
  const bias = 2 ** (exponentBits - 1) - 1
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN
  return sign * (exponent === 0 ? 2 ** (1 - bias) * fraction : 2 ** (exponent - bias) * (1 + fraction))
}

const tables = new Map<Format, Float64Array>()
function tableOf(format: Format): Float64Array {
  const infinity = (2 ** format.exponentBits - 1) * 2 ** format.fractionBits
  const table = tables.get(format) ?? Float64Array.from({ length: infinity + 1 }, (_, code) => (code === infinity ? 2 ** (2 ** (format.exponentBits - 1)) : valueOf(code, format)))
  tables.set(format, table)
  return table
}

/** Of a number the code; infinity counts as the value that would follow the largest finite one. */
function codeOf(x: number, format: Format): number | 'NaN' {
  if (Number.isNaN(x)) return 'NaN'
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0
  const table = tableOf(format), infinity = table.length - 1
  const size = Math.abs(x), finite = (code: number): number => table[code]!
  if (size >= finite(infinity)) return sign | infinity
  let low = 0, high = infinity   // value(low) <= size < value(high)
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (finite(middle) <= size) low = middle
    else high = middle
  }
  const below = size - finite(low), above = finite(high) - size
  return sign | (below < above ? low : above < below ? high : low % 2 === 0 ? low : high)
}

const kernels = `
extern "C" __global__ void decodeF16(Global<const f16> in, Global<f32> out) { const i32 i = blockIdx.x * 256 + threadIdx.x; out[i] = fromF16(in[i]); }
extern "C" __global__ void decodeBf16(Global<const bf16> in, Global<f32> out) { const i32 i = blockIdx.x * 256 + threadIdx.x; out[i] = fromBf16(in[i]); }
extern "C" __global__ void encodeF16(Global<const f32> in, Global<f16> out) { const i32 i = blockIdx.x * 256 + threadIdx.x; out[i] = toF16(in[i]); }
extern "C" __global__ void encodeBf16(Global<const f32> in, Global<bf16> out) { const i32 i = blockIdx.x * 256 + threadIdx.x; out[i] = toBf16(in[i]); }
extern "C" __global__ void names(Global<const f32> in, Global<f32> out, Global<u32> bits) {
  const f32 x = in[0], y = in[1];
  const f32 all[] = {min(x, y), max(x, y), fminf(x, notANumber), fmaxf(notANumber, y), maximum(x, notANumber), minimum(-0.f, 0.f), maximum(-0.f, 0.f), exp2f(x), log2f(y), rsqrtf(4.f), floorf(-x), fmaf(x, y, 1.f)};
  for (i32 i = 0; i < 12; ++i) out[i] = all[i];
  bits[0] = __popc(0xf0f0u), bits[1] = __clz(1), bits[2] = __ffs(8), bits[3] = __clz(0), bits[4] = __float_as_uint(1.f), bits[5] = __brev(1u);
  bits[6] = orderedBits(-0.f) == orderedBits(0.f), bits[7] = __umulhi(1u << 31, 6u), bits[8] = min(3u, u32(-1)), bits[9] = toI32(notANumber);
}
`

describe.skipIf(noCompiler)('16-bit numbers', () => {
  let emu: Emulator
  let kernel: (name: string) => bigint
  beforeAll(async () => {
    emu = await openEmulator()
    kernel = await emu.compile(kernels, ['fromF16', 'toF16', 'fromBf16', 'toBf16', 'notANumber', 'maximum', 'minimum', 'orderedBits', 'toI32'])
  })

  describe.each([['f16', 'F16'], ['bf16', 'Bf16']] as const)('%s', (name, suffix) => {
    const format = formats[name]
    test('every code has its value', () => {
      const codes = Uint16Array.from({ length: 65_536 }, (_, i) => i)
      const out = emu.out('cuMemAlloc_v2', 4 * 65_536)
      emu.launch(kernel(`decode${suffix}`), { grid: 256, block: 256 }, emu.upload(codes), out)
      const got = emu.download(out, new Float32Array(65_536))
      const wrong = [...codes].filter((code) => !Object.is(got[code], valueOf(code, format)))
      expect(wrong).toEqual([])
    })

    test('every value, the middle of every two and their neighbours are rounded to nearest even; NaN stays NaN', () => {
      const cell = new Float32Array(1), bits = new Uint32Array(cell.buffer)
      const numbers: number[] = []
      for (let code = 0; code < 0x8000; code++) {
        const value = valueOf(code, format)
        const next = valueOf(code + 1, format)
        const middle = Number.isFinite(next) ? (value + next) / 2 : value * (1 + 2 ** -(format.fractionBits + 2))
        for (const x of [value, middle]) {
          cell[0] = x
          const at = bits[0]!
          for (const step of [-1, 0, 1]) {
            if ((at === 0 && step < 0) || Number.isNaN(x)) continue
            bits[0] = at + step
            numbers.push(cell[0]!, -cell[0]!)
          }
        }
      }
      numbers.push(NaN, Infinity, -Infinity, 65_519.996, 65_520, 3.3895313892515355e38, 3.4028234663852886e38, 1e-45, -1e-45, 2 ** -25, 2 ** -24)
      for (let i = 0, x = 1; i < 50_000; i++) {
        x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0
        bits[0] = x
        numbers.push(cell[0]!)
      }
      while (numbers.length % 256 !== 0) numbers.push(0)
      const input = Float32Array.from(numbers), out = emu.out('cuMemAlloc_v2', 2 * input.length)
      emu.launch(kernel(`encode${suffix}`), { grid: input.length / 256, block: 256 }, emu.upload(input), out)
      const got = emu.download(out, new Uint16Array(input.length))
      const wrong: unknown[] = []
      input.forEach((x, i) => {
        const expected = codeOf(x, format)
        const right = expected === 'NaN' ? Number.isNaN(valueOf(got[i]!, format)) : got[i] === expected
        if (!right) wrong.push([x, got[i], expected])
      })
      expect(wrong.slice(0, 5)).toEqual([])
    })
  })

  test('names that CUDA has without a header', () => {
    const out = emu.out('cuMemAlloc_v2', 48), bits = emu.out('cuMemAlloc_v2', 40)
    emu.launch(kernel('names'), { block: 1 }, emu.upload(Float32Array.of(1.5, 8)), out, bits)
    const numbers = emu.download(out, new Float32Array(12))
    expect([...numbers]).toEqual([1.5, 8, 1.5, 8, NaN, -0, 0, Math.fround(2 ** 1.5), 3, 0.5, -2, 13])
    expect([...emu.download(bits, new Uint32Array(10))]).toEqual([8, 31, 4, 32, 0x3f800000, 0x80000000, 1, 3, 3, 0])
  })
})
