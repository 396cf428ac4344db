/**
 * The tensor cores' intrinsics, each alone. Where an element lies is taken from the formulas of the PTX manual, which
 * number the 16-bit elements of a lane (a0 .. a7, b0 .. b3, c0 .. c3), and from single places of its figures; what comes
 * out is compared with a plain matrix product.
 */
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { preludeText } from '../../src/codegen/intrinsics.js'
import { copies } from '../../src/codegen/intrinsics/copies.js'
import { tensorCores } from '../../src/codegen/intrinsics/tensor-cores.js'
import { allOrders, noCompiler, openEmulator, type Emulator } from './emulator-driver.js'
import { nvrtcOrReason } from './nvrtc-here.js'

const types = ['bf16', 'f16'] as const
type Type = (typeof types)[number]
const names = { bf16: 'Bf16', f16: 'F16' } as const

// The manual's formulas: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"
const placeOfA = (lane: number, i: number): [row: number, column: number] =>
  [(lane >> 2) + ((i >= 0 && i < 2) || (i >= 4 && i < 6) ? 0 : 8), (lane % 4) * 2 + (i & 1) + (i >= 4 ? 8 : 0)]
const placeOfB = (lane: number, i: number): [row: number, column: number] => [(lane % 4) * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane >> 2]
const placeOfC = (lane: number, i: number): [row: number, column: number] => [(lane >> 2) + (i < 2 ? 0 : 8), (lane % 4) * 2 + (i & 1)]

/** Numbers that both types hold exactly, as bits: m · 2^e with |m| < 128. */
function bitsOf(x: number, type: Type): number {
  const f = new Float32Array([x]), bits = new Uint32Array(f.buffer)[0]!
  if (type === 'bf16') return bits >>> 16
  if (x === 0) return bits >>> 16
  return ((bits >>> 16) & 0x8000) | ((((bits >>> 23) & 0xff) - 112) << 10) | ((bits >>> 13) & 0x3ff)
}

const kernels = types.map(type => `
extern "C" __global__ void multiply_${type}(Global<const u32> a, Global<const u32> b, Global<f32> c) {
  u32 left[2][4], right[2];
  f32 sums[2][2][4] = {};
  for (i32 i = 0; i < 4; ++i) left[1][i] = a[threadIdx.x % 32 * 4 + i], sums[1][0][i] = c[threadIdx.x * 4 + i];
  for (i32 i = 0; i < 2; ++i) right[i] = b[threadIdx.x % 32 * 2 + i];
  f32 (&own)[4] = sums[1][0];
  mma${names[type]}(own[0], own[1], own[2], own[3], left[1], right[0], right[1]);
  for (i32 i = 0; i < 4; ++i) c[threadIdx.x * 4 + i] = sums[1][0][i] + sums[0][1][i] + sums[1][1][i];
}
extern "C" __global__ void load_${type}(Global<const ${type}> from, Global<u32> to, Global<u32> transposed, i32 stride) {
  Shared<${type}, 2048> tile = sharedAt<${type}, 2048>(0);
  for (i32 i = threadIdx.x; i < 2048; i += 32) tile[i] = from[i];
  blockBarrier();
  u32 a[4];
  loadMatrix4(a, tile + i32(threadIdx.x) * stride);
  for (i32 i = 0; i < 4; ++i) to[threadIdx.x * 4 + i] = a[i];
  loadMatrix4Transposed(a, tile + i32(threadIdx.x) * stride);
  for (i32 i = 0; i < 4; ++i) transposed[threadIdx.x * 4 + i] = a[i];
}
// c = left * right^T, both row-major in shared memory, as kernels do it
extern "C" __global__ void product_${type}(Global<const ${type}> left, Global<const ${type}> right, Global<f32> c) {
  Shared<${type}, 256> rows = sharedAt<${type}, 256>(0), columns = sharedAt<${type}, 256>(512);
  for (i32 i = threadIdx.x; i < 256; i += 32) rows[i] = left[i], columns[i] = right[i];
  blockBarrier();
  const i32 lane = threadIdx.x, block = lane / 8;
  u32 a[4], b[4];
  loadMatrix4(a, rows + (lane % 8 + block % 2 * 8) * 16 + block / 2 * 8);
  loadMatrix4(b, columns + (lane % 8 + block / 2 * 8) * 16 + block % 2 * 8);
  for (i32 half = 0; half < 2; ++half) {
    f32 sum[4] = {};
    mma${names[type]}(sum[0], sum[1], sum[2], sum[3], a, b[2 * half], b[2 * half + 1]);
    for (i32 i = 0; i < 4; ++i) c[(lane / 4 + i / 2 * 8) * 16 + half * 8 + lane % 4 * 2 + i % 2] = sum[i];
  }
}
extern "C" __global__ void pack_${type}(Global<const f32> from, Global<u32> to) { to[threadIdx.x] = pack${names[type]}(from[2 * threadIdx.x], from[2 * threadIdx.x + 1]); }
`).join('')
const uses = ['mmaBf16', 'mmaF16', 'loadMatrix4', 'loadMatrix4Transposed', 'packBf16', 'packF16', 'blockBarrier'] as const

describe.skipIf(noCompiler)('tensor cores on the emulator', () => {
  let emu: Emulator
  let kernel: (name: string) => bigint
  beforeAll(async () => {
    emu = await openEmulator()
    kernel = await emu.compile(kernels, uses, { races: true })
  })

  const small = fc.tuple(fc.integer({ min: -127, max: 127 }), fc.integer({ min: -6, max: 6 })).map(([m, e]) => m * 2 ** e)
  const matrix = (rows: number, columns: number, element: fc.Arbitrary<number> = small): fc.Arbitrary<number[][]> =>
    fc.array(fc.array(element, { minLength: columns, maxLength: columns }), { minLength: rows, maxLength: rows })
  const pairs = (elements: readonly number[]): Uint32Array => Uint32Array.from({ length: elements.length / 2 }, (_, i) => (elements[2 * i]! | (elements[2 * i + 1]! << 16)) >>> 0)
  const lanes = Array.from({ length: 32 }, (_, lane) => lane)

  test.each(types)('sum += a * b of %s, at the places of the manual, the same under every order', type => {
    fc.assert(fc.property(matrix(16, 16), matrix(16, 8), matrix(16, 8), fc.constantFrom(...allOrders), (a, b, c, order) => {
      const bits = (m: number[][], [row, column]: [number, number]): number => bitsOf(m[row]![column]!, type)
      const left = pairs(lanes.flatMap(lane => [0, 1, 2, 3, 4, 5, 6, 7].map(i => bits(a, placeOfA(lane, i)))))
      const right = pairs(lanes.flatMap(lane => [0, 1, 2, 3].map(i => bits(b, placeOfB(lane, i)))))
      const at = (lane: number, i: number, m: number[][]): number => m[placeOfC(lane, i)[0]]![placeOfC(lane, i)[1]]!
      const four = [0, 1, 2, 3]
      const buffers = [left, right, Float32Array.from(lanes.flatMap(lane => four.map(i => at(lane, i, c))))].map(x => emu.upload(x))
      emu.setOrder(order)
      emu.launch(kernel(`multiply_${type}`), { block: 32 }, ...buffers)
      // All products are whole multiples of 2^-12 below 2^31: their sum is exact in f64.
      const product = a.map((row, i) => b[0]!.map((_, j) => Math.fround(row.reduce((sum, x, k) => sum + x * b[k]![j]!, c[i]![j]!))))
      expect([...emu.download(buffers[2]!, new Float32Array(128))]).toEqual(lanes.flatMap(lane => four.map(i => at(lane, i, product) + 0)))
      for (const buffer of buffers) emu.must('cuMemFree_v2', buffer)
    }), { numRuns: 30 })
  })

  test('single places of the manual\'s figures', () => {
    // a: row 0 begins T0:{a0,a1} T1:{a0,a1}, row 8 T0:{a2,a3}; the right half has a4 .. a7; the last element is T31's a7.
    expect([placeOfA(0, 0), placeOfA(1, 1), placeOfA(0, 3), placeOfA(4, 0), placeOfA(0, 4), placeOfA(31, 7)]).toEqual([[0, 0], [0, 3], [8, 1], [1, 0], [0, 8], [15, 15]])
    // b: column 0 is T0:b0, T0:b1, T1:b0 ...; its lower half b2, b3; column 7 is T28 .. T31.
    expect([placeOfB(0, 0), placeOfB(0, 1), placeOfB(1, 0), placeOfB(0, 2), placeOfB(28, 0), placeOfB(31, 3)]).toEqual([[0, 0], [1, 0], [2, 0], [8, 0], [0, 7], [15, 7]])
    expect([placeOfC(0, 0), placeOfC(0, 1), placeOfC(0, 2), placeOfC(5, 0), placeOfC(31, 3)]).toEqual([[0, 0], [0, 1], [8, 0], [1, 2], [15, 7]])
    // And the emulator agrees with the figures: one element of each operand is set, one of the sum comes out.
    const single = (laneA: number, wordA: number, upperA: boolean, laneB: number, wordB: number, upperB: boolean): [lane: number, i: number, value: number][] => {
      const left = new Uint32Array(128), right = new Uint32Array(64)
      left[laneA * 4 + wordA] = bitsOf(3, 'bf16') << (upperA ? 16 : 0)
      right[laneB * 2 + wordB] = bitsOf(5, 'bf16') << (upperB ? 16 : 0)
      const c = emu.upload(new Float32Array(128))
      emu.launch(kernel('multiply_bf16'), { block: 32 }, emu.upload(left), emu.upload(right), c)
      return [...emu.download(c, new Float32Array(128))].flatMap((value, i) => (value === 0 ? [] : [[i >> 2, i & 3, value]]))
    }
    expect(single(0, 0, false, 0, 0, false)).toEqual([[0, 0, 15]])       // a(0,0) · b(0,0)
    expect(single(0, 0, true, 28, 0, true)).toEqual([[3, 1, 15]])        // a(0,1) · b(1,7) → c(0,7): T3's c1
    expect(single(0, 1, false, 4, 0, false)).toEqual([[0, 3, 15]])       // a(8,0) · b(0,1) → c(8,1): T0's c3
    expect(single(31, 3, true, 3, 1, true)).toEqual([[28, 2, 15]])       // a(15,15) · b(15,0) → c(15,0): T28's c2
    expect(single(5, 2, false, 5, 0, false)).toEqual([])                 // a(1,10) · b(2,1): other k
  })

  test.each(types)('infinities, NaN, subnormals and rounding of %s', type => {
    const one = (x: number, y: number, c: number): number => {
      const left = new Uint32Array(128), right = new Uint32Array(64), sums = new Float32Array(128)
      left[0] = x, right[0] = y, sums[0] = c
      const out = emu.upload(sums)
      emu.launch(kernel(`multiply_${type}`), { block: 32 }, emu.upload(left), emu.upload(right), out)
      return emu.download(out, new Float32Array(1))[0]!
    }
    const [infinity, nan, smallest, unit] = type === 'bf16' ? [0x7f80, 0x7fc0, 1, 2 ** -133] : [0x7c00, 0x7e00, 1, 2 ** -24]
    expect(one(infinity, bitsOf(-2, type), 1)).toBe(-Infinity)
    expect(one(infinity, 0, 1)).toBeNaN()
    expect(one(nan, bitsOf(1, type), 1)).toBeNaN()
    expect(one(infinity, bitsOf(1, type), -Infinity)).toBeNaN()
    expect(one(smallest, bitsOf(64, type), 0)).toBe(unit * 64)
    expect(one(bitsOf(1, type), bitsOf(1, type), 2 ** 24)).toBe(2 ** 24)               // a tie, to even
    expect(one(bitsOf(1, type), bitsOf(1, type), 2 ** 24 + 2)).toBe(2 ** 24 + 4)
    expect(one(bitsOf(3, type), bitsOf(1, type), 2 ** 24)).toBe(2 ** 24 + 4)
  })

  test.each(types)('four blocks of %s, plain and transposed', type => {
    const from = Uint16Array.from({ length: 2048 }, (_, i) => (i * 40503) & 0xffff)
    fc.assert(fc.property(fc.integer({ min: 1, max: 7 }), fc.constantFrom(...allOrders), (eighths, order) => {
      const to = emu.out('cuMemAlloc_v2', 512), transposed = emu.out('cuMemAlloc_v2', 512)
      emu.setOrder(order)
      emu.launch(kernel(`load_${type}`), { block: 32, shared: 4096 }, emu.upload(from), to, transposed, { i32: eighths * 8 })
      // Lane 8i + r named row r of block i: "thread 0 gets the first two elements of row 0", and so on by fours.
      const element = (block: number, row: number, column: number): number => from[(block * 8 + row) * eighths * 8 + column]!
      const plain = lanes.flatMap(lane => [0, 1, 2, 3].flatMap(block => [0, 1].map(side => element(block, lane >> 2, 2 * (lane & 3) + side))))
      const turned = lanes.flatMap(lane => [0, 1, 2, 3].flatMap(block => [0, 1].map(side => element(block, 2 * (lane & 3) + side, lane >> 2))))
      expect([...emu.download(to, new Uint16Array(256))]).toEqual(plain)
      expect([...emu.download(transposed, new Uint16Array(256))]).toEqual(turned)
    }), { numRuns: 12 })
  })

  test.each(types)('loads and multiplications fit together: a product of two row-major tiles of %s', type => {
    fc.assert(fc.property(matrix(16, 16), matrix(16, 16), (left, right) => {
      const [a, b] = [left, right].map(m => emu.upload(Uint16Array.from(m.flat(), x => bitsOf(x, type))))
      const c = emu.out('cuMemAlloc_v2', 1024)
      emu.launch(kernel(`product_${type}`), { block: 32, shared: 1024 }, a!, b!, c)
      expect([...emu.download(c, new Float32Array(256))]).toEqual(left.flatMap(x => right.map(y => Math.fround(x.reduce((sum, v, k) => sum + v * y[k]!, 0)) + 0)))
    }), { numRuns: 20 })
  })

  test('packed conversions: the first number in the lower half, to nearest even', () => {
    const numbers = [1, 2, -1.5, 0.333251953125, 65504, -65536, 1.00390625, 1.01171875, 2 ** -25, Infinity]
    const packed = (type: Type): number[] => {
      const to = emu.out('cuMemAlloc_v2', 20)
      emu.launch(kernel(`pack_${type}`), { block: 5 }, emu.upload(Float32Array.from(numbers)), to)
      return [...emu.download(to, new Uint16Array(10))]
    }
    // 1.00390625 = 1 + 2^-8 is a tie of bf16, to 1; 1.01171875 = 1 + 3·2^-8 one to 1 + 2^-6.
    expect(packed('bf16')).toEqual([0x3f80, 0x4000, 0xbfc0, 0x3eab, 0x4780, 0xc780, 0x3f80, 0x3f82, 0x3300, 0x7f80])
    // 65536 is beyond the largest f16; 2^-25 is a tie between 0 and the smallest one.
    expect(packed('f16')).toEqual([0x3c00, 0x4000, 0xbe00, 0x3555, 0x7bff, 0xfc00, 0x3c04, 0x3c0c, 0x0000, 0x7c00])
  })
})

const here = nvrtcOrReason()
describe.skipIf(typeof here === 'string')('on CUDA', () => {
  const nvrtc = typeof here === 'string' ? (undefined as never) : here
  const tile = 'Shared<bf16, 512> tile = sharedAt<bf16, 512>(0);', out = 'for (i32 i = 0; i < 4; ++i) to[threadIdx.x * 4 + i] = a[i];'
  const multiply = (name: string): string => `u32 a[4] = {from[0], from[1], from[2], from[3]}, b[2] = {from[4], from[5]}; f32 sum[2][4] = {}; ${name}(sum[1][0], sum[1][1], sum[1][2], sum[1][3], a, b[0], b[1]); to[threadIdx.x] = __float_as_uint(sum[1][0] + sum[1][3]);`
  const copy = (call: string): string => `${tile} Global<const bf16> source = reinterpret_cast<const bf16*>(from); ${call} asm volatile("" :: "r"(u32(tile[0].bits)));`
  const alone: Record<keyof typeof tensorCores | keyof typeof copies, readonly [body: string, ptx: string]> = {
    mmaBf16: [multiply('mmaBf16'), 'mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32'],
    mmaF16: [multiply('mmaF16'), 'mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32'],
    pairBits: ['to[threadIdx.x] = pairBits(Vector<bf16, 2>{{{u16(from[0])}, {u16(from[1])}}});', '<< 16'],
    loadMatrix4: [`${tile} u32 a[4]; loadMatrix4(a, tile + threadIdx.x * 8); ${out}`, 'ldmatrix.sync.aligned.m8n8.x4.shared.b16'],
    loadMatrix4Transposed: [`${tile} u32 a[4]; loadMatrix4Transposed(a, tile + threadIdx.x * 8); ${out}`, 'ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16'],
    packBf16: ['to[threadIdx.x] = packBf16(from[0], from[1]);', 'cvt.rn.bf16x2.f32'],
    packF16: ['to[threadIdx.x] = packF16(from[0], from[1]);', 'cvt.rn.f16x2.f32'],
    copyAsync: [copy('copyAsync(tile + threadIdx.x * 8, source + threadIdx.x * 8);'), 'cp.async.cg.shared.global.L2::128B'],
    copyAsyncIf: [copy('copyAsyncIf(threadIdx.x < 3, tile + threadIdx.x * 8, source + threadIdx.x * 8);'), 'cp.async.cg.shared.global.L2::128B'],
    copyAsyncCommit: ['copyAsyncCommit();', 'cp.async.commit_group'],
    copyAsyncWait: ['copyAsyncWait<2>();', 'cp.async.wait_group 2'],
  }
  test.each(Object.entries(alone))('%s compiles alone for sm_80 and sm_90a, without spills', async (name, [body, ptx]) => {
    const record = ({ ...tensorCores, ...copies } as Record<string, { readonly cuda?: string; readonly text?: string }>)[name]!
    expect((record.cuda ?? record.text)!.replace(/%\d/g, '2')).toContain(ptx.replace(/%\d/g, '2'))
    const text = `${preludeText([name as keyof typeof alone], 'cuda')}extern "C" __global__ void alone(Global<const u32> from, Global<u32> to) { ${body} }`
    for (const arch of ['sm_80', 'sm_90a']) {
      const { resources } = await nvrtc.compile({ text, kernels: ['alone'], arch })
      expect(resources[0]).toMatchObject({ name: 'alone', spillStores: 0, spillLoads: 0 })
    }
  })
  test('the kernels of the emulator\'s tests compile as they stand', async () => {
    const text = preludeText(uses, 'cuda') + kernels
    for (const arch of ['sm_80', 'sm_90a']) expect((await nvrtc.compile({ text, kernels: types.flatMap(type => ['multiply', 'load', 'product', 'pack'].map(name => `${name}_${type}`)), arch })).image.length).toBeGreaterThan(1000)
  })
})
