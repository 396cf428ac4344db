/**
 * Every mistake that the emulator is there to catch, made once on purpose. Each test says which error a program gets,
 * what the sentence names, and that a reset makes the device usable again.
 */
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { allOrders, noCompiler, openEmulator, type Argument, type Emulator, type Grid } from './emulator-driver.js'

const kernels = `
extern "C" __global__ void fine(Global<f32> out) { out[threadIdx.x] = 1.f; }

extern "C" __global__ void droppedBarrier(Global<const f32> in, Global<f32> out) {
  Shared<f32, 64> tile = sharedAt<f32, 64>(0);
  tile[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void warpAhead(Global<const f32> in, Global<f32> out) {
  Shared<f32, 64> tile = sharedAt<f32, 64>(0);
  for (i32 round = 0; round < 4; ++round) {
    tile[threadIdx.x] = in[threadIdx.x] + round;
    blockBarrier();
    out[threadIdx.x] = out[threadIdx.x] + tile[63 - threadIdx.x];  // another barrier is due: the next round writes
  }
}
extern "C" __global__ void mixedAtomics(Global<u32> out, i32 mode) {
  Shared<u32, 4> words = sharedAt<u32, 4>(0);
  Shared<u16, 64> halves = sharedAt<u16, 64>(16);
  halves[threadIdx.x] = threadIdx.x;               // neighbours, not the same bytes
  if (threadIdx.x < 4) words[threadIdx.x] = 0;
  blockBarrier();
  fetchAdd(words, 0, 1);
  if (mode == 1) blockBarrier();
  if (threadIdx.x == 40) out[0] = words[0] + halves[63];
}
extern "C" __global__ void divergentBarrier() {
  if (threadIdx.x < 16)
    blockBarrier();
  else
    blockBarrier();
}
extern "C" __global__ void exitBeforeBarrier(i32 n) {
  if (i32(threadIdx.x) >= n) return;
  blockBarrier();
}
extern "C" __global__ void divergentShuffle(Global<f32> out) {
  f32 x = threadIdx.x;
  if (threadIdx.x % 2) x = shuffleXor(x, 1);
  else x = shuffleXor(x, 2);
  out[threadIdx.x] = x;
}
extern "C" __global__ void missingLane(Global<f32> out, i32 n) {
  if (i32(threadIdx.x) < n) out[threadIdx.x] = shuffleXor(f32(threadIdx.x), 1);
}
extern "C" __global__ void barrierOrShuffle(Global<f32> out) {
  if (threadIdx.x == 5) blockBarrier();
  else out[threadIdx.x] = shuffleXor(f32(threadIdx.x), 1);
}
extern "C" __global__ void noSuchLane(Global<f32> out) { out[threadIdx.x] = shuffleFrom(f32(threadIdx.x), 20); }

extern "C" __global__ void readAt(Global<const f32> in, Global<f32> out, i64 i) { out[0] = in[i]; }
extern "C" __global__ void writeAt(Global<const f32> in, Global<f32> out, i64 i) { out[i] = 1.f; }
extern "C" __global__ void sharedIndex(i32 i) {
  Shared<u32, 32> words = sharedAt<u32, 32>(64);
  words[i] = 1;
}
extern "C" __global__ void sharedPlace(i32 at) { sharedAt<f32, 8>(at)[0] = 1.f; }
extern "C" __global__ void vectorAt(Global<const f32> in, Global<f32> out, i32 i) { out[0] = loadVector<4>(in + i).at[0]; }
extern "C" __global__ void reads64(Global<const u64> in, Global<f32> out) { out[0] = f32(in[0]); }
extern "C" __global__ void behindTheAccessor(Global<f32> out, i32 at) { *(reinterpret_cast<u8*>(out.address()) + at) = 1; }

extern "C" __global__ void localArray(Global<f32> out, i32 i) {
  f32 local[4] = {1, 2, 3, 4};
  out[0] = local[i];
}
extern "C" __global__ void shiftBy(Global<u32> out, i32 n) { out[0] = 1u << n; }
extern "C" __global__ void divideBy(Global<i32> out, i32 n) { out[0] = 100 / n; }
extern "C" __global__ void overflow(Global<i32> out, i32 n) { out[0] = 2147483647 + n; }
extern "C" __global__ void toInteger(Global<i32> out, f32 x) { out[0] = i32(x); }
extern "C" __global__ void trap(i32 n) { if (n > 0) __builtin_trap(); }
__noinline__ i32 deep(Global<i32> out, i32 n) {
  volatile i32 local[512];
  local[n & 511] = n;
  return n == 0 ? 0 : deep(out, n - 1) + local[n & 511];
}
extern "C" __global__ void recursion(Global<i32> out, i32 n) { out[0] = deep(out, n); }
extern "C" __global__ void endless(Global<i32> out) { for (volatile i32 i = 0; i < 10; i = i ^ 1) {} out[0] = 1; }
extern "C" __global__ void endlessBarriers(Global<i32> out) { for (i32 i = 0; i < 10; i = i ^ 1) blockBarrier(); out[0] = 1; }
`
const line = (part: string): number => kernels.split('\n').findIndex((text) => text.includes(part)) + 1

describe.skipIf(noCompiler)('the emulator catches', () => {
  let emu: Emulator
  let kernel: (name: string) => bigint
  let preludeLines = 0
  let out: bigint, small: bigint
  const uses = ['shuffleXor', 'shuffleFrom', 'blockBarrier', 'loadVector', 'fetchAdd'] as const

  beforeAll(async () => {
    emu = await openEmulator()
    preludeLines = (await import('../../src/codegen/intrinsics.js')).preludeText(uses, 'host').split('\n').length - 1
  })
  const begin = async (): Promise<void> => {
    kernel = await emu.compile(kernels, uses)
    out = emu.upload(new Float32Array(64))
    small = emu.upload(Float32Array.from({ length: 10 }, (_, i) => i))
  }
  beforeAll(begin)
  afterEach(async () => {
    delete process.env['WEFT_EMULATOR_TIMEOUT']
    emu.reset()
    await begin()
  })
  const run = (name: string, shape: Grid, ...args: Argument[]): { error: number; text: string } => emu.outcome(kernel(name), shape, ...args)

  describe('missing barriers', () => {
    const input = Float32Array.from({ length: 64 }, (_, i) => i)
    const underAllOrders = (name: string): string[] => allOrders.map((order) => {
      emu.setOrder(order)
      emu.must('cuMemsetD32_v2', out, 0, 64)
      emu.launch(kernel(name), { block: 64, shared: 256 }, emu.upload(input), out)
      return String(emu.download(out, new Float32Array(64)))
    })
    test('a value that nobody has written yet is NaN, and orders disagree', () => {
      const results = underAllOrders('droppedBarrier')
      expect(results[0]).toContain('NaN')
      expect(new Set(results).size).toBeGreaterThan(1)
    })
    test('a tile overwritten while a slow warp still reads it', () => {
      expect(new Set(underAllOrders('warpAhead')).size).toBeGreaterThan(1)
    })
  })

  describe('races, in any order, where the kernel is compiled to find them', () => {
    const input = Float32Array.from({ length: 64 }, (_, i) => i)
    const race = async (order: string, name: string, ...args: Argument[]): Promise<{ error: number; text: string }> => {
      const racing = await emu.compile(kernels, uses, { races: true })
      emu.setOrder(order)
      return emu.outcome(racing(name), { block: 64, shared: 256 }, ...args)
    }
    const at = (part: string): number => preludeLines + line(part)
    test.each(allOrders)('%s', async (order) => {
      const { error, text } = await race(order, 'droppedBarrier', emu.upload(input), out)
      expect(error).toBe(719)
      const [write, read] = [at('tile[threadIdx.x] = in[threadIdx.x];'), at('out[threadIdx.x] = tile[63')]
      expect(text).toMatch(new RegExp(`line (${write}: race: writes|${read}: race: reads) index \\d+ of a shared array that thread \\(\\d+,0,0\\) (reads at line ${read}|writes at line ${write}), with no barrier between|line ${read}: reads index \\d+ of a shared array that no thread of the block has written so far`))
    })
    test('a tile overwritten while another thread still reads it', async () => {
      const { text } = await race('ascending', 'warpAhead', emu.upload(input), out)
      expect(text).toContain(`line ${at('another barrier is due')}: race: reads index 31 of a shared array that thread (31,0,0) writes at line ${at('+ round')}, with no barrier between`)
    })
    test('atomic additions are none with each other, but one with a plain read', async () => {
      expect(await race('ascending', 'mixedAtomics', out, { i32: 1 })).toEqual({ error: 0, text: '' })
      const { text } = await race('descending', 'mixedAtomics', out, { i32: 0 })
      expect(text).toContain(`line ${at('words[0] + halves')}: race: reads index 0 of a shared array that another thread adds to atomically at line ${at('fetchAdd(words, 0, 1);')}`)
    })
  })

  // name, arguments, error, what the sentence must say, the line it must name
  const cases: [string, string, Grid, () => Argument[], number, RegExp, string][] = [
    ['threads at different barriers', 'divergentBarrier', { block: 32 }, () => [], 719, /thread \(0,0,0\).*is at a barrier while thread \(16,0,0\) is at a barrier at line \d+/, 'if (threadIdx.x < 16)+1'],
    ['a thread that exits before a barrier', 'exitBeforeBarrier', { block: 64 }, () => [{ i32: 40 }], 719, /thread \(0,0,0\).*waits at a barrier for thread \(40,0,0\), which has exited/, '>= n) return;+1'],
    ['lanes at different shuffles', 'divergentShuffle', { block: 32 }, () => [out], 719, /thread \(0,0,0\).*is in a shuffle while thread \(1,0,0\) of its warp is in a shuffle at line/, 'else x = shuffleXor'],
    ['a lane that is missing in a shuffle', 'missingLane', { block: 64 }, () => [out, { i32: 50 }], 719, /thread \(32,0,0\).*waits in a shuffle for thread \(50,0,0\) of its warp, which has exited/, 'shuffleXor(f32(threadIdx.x), 1);'],
    ['a lane at a barrier while the others shuffle', 'barrierOrShuffle', { block: 32 }, () => [out], 719, /waits in a shuffle for thread \(5,0,0\) of its warp, which waits at the barrier of line/, 'else out[threadIdx.x] = shuffleXor'],
    ['a lane that the warp does not have', 'noSuchLane', { block: 16 }, () => [out], 719, /asks for the value of lane 20, which this warp does not have/, 'shuffleFrom('],
    ['a read behind a buffer', 'readAt', { block: 1 }, () => [small, out, { i64: 10n }], 700, /kernel 'readAt', block \(0,0,0\), thread \(0,0,0\).*reads index 10 of argument 0, an allocation of 10 elements of 4 bytes/, 'out[0] = in[i]'],
    ['a read before a buffer', 'readAt', { block: 1 }, () => [small, out, { i64: -1n }], 700, /reads index -1 of argument 0/, 'out[0] = in[i]'],
    ['a read far behind a buffer', 'readAt', { block: 1 }, () => [small, out, { i64: 1n << 40n }], 700, /reads index 1099511627776 of argument 0/, 'out[0] = in[i]'],
    ['a write behind a buffer', 'writeAt', { block: 1 }, () => [small, out, { i64: 64n }], 700, /writes index 64 of argument 1, an allocation of 64 elements/, 'out[i] = 1.f'],
    ['a null pointer', 'readAt', { block: 1 }, () => [0n, out, { i64: 2n }], 700, /reads index 2 through a null pointer/, 'out[0] = in[i]'],
    ['an address that no allocation has', 'readAt', { block: 1 }, () => [0x1230n, out, { i64: 2n }], 700, /points at no allocation \(0x1230\)/, 'out[0] = in[i]'],
    ['an index outside a shared array', 'sharedIndex', { block: 1, shared: 192 }, () => [{ i32: 32 }], 700, /writes index 32 of a shared array of 32 elements of 4 bytes/, 'words[i] = 1'],
    ['a shared array outside what the launch gave', 'sharedPlace', { block: 1, shared: 64 }, () => [{ i32: 36 }], 700, /places a shared array at byte 36 for 32 bytes; the launch gave 64 bytes/, 'sharedAt<f32, 8>(at)'],
    ['a misaligned shared array', 'sharedPlace', { block: 1, shared: 64 }, () => [{ i32: 2 }], 716, /at byte 2 of shared memory, which is not a multiple of 4/, 'sharedAt<f32, 8>(at)'],
    ['a misaligned vector', 'vectorAt', { block: 1 }, () => [out, out, { i32: 1 }], 716, /reads a vector at address 0x[0-9a-f]+ of argument 0, which is not a multiple of 16 bytes/, 'loadVector<4>(in + i)'],
    ['a vector that reaches over the end', 'vectorAt', { block: 1 }, () => [small, out, { i32: 8 }], 700, /reads index 11 of argument 0, an allocation of 10 elements/, 'loadVector<4>(in + i)'],
    ['an argument that is misaligned for its type', 'reads64', { block: 1 }, () => [out + 4n, out], 716, /argument 0 is the address 0x[0-9a-f]+, which is not a multiple of its element's alignment, 8/, ''],
    ['memory touched behind the accessors', 'behindTheAccessor', { block: 1 }, () => [out, { i32: 4096 }], 700, /touches memory at 0x/, ''],
    ['an index outside a local array', 'localArray', { block: 1 }, () => [out, { i32: 4 }], 719, /undefined behaviour: index 4 is outside a local array/, 'out[0] = local[i]'],
    ['a negative index into a local array', 'localArray', { block: 1 }, () => [out, { i32: -1 }], 719, /index -1 is outside a local array/, 'out[0] = local[i]'],
    ['a shift by too much', 'shiftBy', { block: 1 }, () => [out, { i32: 32 }], 719, /shift by 32/, '1u << n'],
    ['a division by zero', 'divideBy', { block: 1 }, () => [out, { i32: 0 }], 719, /integer division without a result: 100 \/ 0/, '100 / n'],
    ['a signed overflow', 'overflow', { block: 1 }, () => [out, { i32: 1 }], 719, /signed integer overflow: (1 \+ 2147483647|2147483647 \+ 1)/, '2147483647 + n'],
    ['NaN made an integer', 'toInteger', { block: 1 }, () => [out, { f32: NaN }], 719, /converted to it/, 'out[0] = i32(x)'],
    ['an illegal instruction', 'trap', { block: 1 }, () => [{ i32: 1 }], 719, /illegal instruction/, ''],
    ['a stack that overflows', 'recursion', { block: 1 }, () => [out, { i32: 100_000 }], 719, /need more than its stack of 128 KiB/, ''],
  ]
  test.each(cases)('%s', (_, name, shape, args, error, sentence, where) => {
    const result = run(name, shape, ...args())
    expect(result).toEqual({ error, text: expect.stringMatching(sentence) as unknown })
    expect(result.text).toContain(`kernel '${name}', block (0,0,0), thread (`)
    if (where === '') return
    const [part = '', more = '0'] = where.split('+').length === 2 && /\+\d$/.test(where) ? where.split(/\+(?=\d$)/) : [where]
    const expected = preludeLines + line(part) + Number(more)
    expect(result.text).toMatch(new RegExp(`line ${expected}\\b`))
    expect(result.text).toContain(`${expected} | ${kernels.split('\n')[line(part) - 1 + Number(more)]}`)
  })

  test.each(['endless', 'endlessBarriers'])('a kernel that does not end: %s', (name) => {
    process.env['WEFT_EMULATOR_TIMEOUT'] = '0.2'
    const started = performance.now()
    const result = run(name, { grid: 3, block: 64 }, out)
    expect(result).toEqual({ error: 702, text: expect.stringContaining(`kernel '${name}'`) as unknown })
    expect(result.text).toContain('does not end; the watchdog stopped it')
    expect(performance.now() - started).toBeLessThan(30_000)
  })

  test('use after free', () => {
    emu.must('cuMemFree_v2', small)
    expect(run('readAt', { block: 1 }, small, out, { i64: 0n })).toEqual({
      error: 700, text: expect.stringMatching(/reads index 0 of argument 0, which points into freed memory \(it was 40 bytes at 0x/) as unknown,
    })
  })

  test.each([[-1, 'before', -1], [40, 'behind', 40], [47, 'behind', 47]])('a canary at byte %i', (at, where, byte) => {
    const result = run('behindTheAccessor', { block: 1 }, small, { i32: at })
    expect(result).toEqual({ error: 700, text: `memory ${where} an allocation of 40 bytes was written, at its byte ${byte}` })
  })

  test('the error stays until the context is reset', () => {
    const fine = kernel('fine')
    expect(run('readAt', { block: 1 }, small, out, { i64: 10n }).error).toBe(700)
    const cell = new BigUint64Array(1)
    expect(emu.call('cuMemAlloc_v2', cell, 16)).toBe(700)
    expect(emu.call('cuMemcpyDtoH_v2', new Float32Array(1), out, 4)).toBe(700)
    expect(emu.launchStatus(fine, { block: 1 }, out)).toBe(700)
    expect(emu.call('cuCtxSynchronize')).toBe(700)
    emu.must('cuDevicePrimaryCtxReset_v2', 0)
    expect(emu.call('cuMemcpyDtoH_v2', new Float32Array(1), out, 4)).toBe(1)   // the old memory is gone
    const fresh = emu.upload(new Float32Array(4))
    expect([...emu.download(fresh, new Float32Array(4))]).toEqual([0, 0, 0, 0])
  })

  test('only the first failure of many blocks is told, and the device goes on after a reset', async () => {
    const result = run('readAt', { grid: 1000, block: 256 }, small, out, { i64: 99n })
    expect(result.error).toBe(700)
    emu.reset()
    await begin()
    emu.launch(kernel('fine'), { block: 64 }, out)
    expect(emu.download(out, new Float32Array(64)).every((x) => x === 1)).toBe(true)
  })

  test('launches that no device takes', () => {
    const fine = kernel('fine')
    const status = (shape: Grid): number => emu.launchStatus(fine, shape, out)
    expect(status({ block: 1025 })).toBe(1)
    expect(status({ block: 0 })).toBe(1)
    expect(status({ block: [32, 32, 2] })).toBe(1)
    expect(status({ block: 1, grid: 0 })).toBe(1)
    expect(status({ block: 1, grid: [1, 65536, 1] })).toBe(1)
    expect(status({ block: 1, shared: 49_153 })).toBe(1)
    expect(emu.call('cuFuncSetAttribute', fine, 8, 232_449)).toBe(1)
    emu.must('cuFuncSetAttribute', fine, 8, 232_448)
    expect(status({ block: 1, shared: 232_448 })).toBe(0)
    expect(emu.call('cuLaunchKernel', fine, 1, 1, 1, 1, 1, 1, 0, 0n, null, 0n)).toBe(1)
    expect(emu.call('cuLaunchKernel', out, 1, 1, 1, 1, 1, 1, 0, 0n, null, 0n)).toBe(400)
    expect(emu.call('cuCtxSynchronize')).toBe(0)
  })

  test('handles, modules and copies that are not right', () => {
    const cell = new BigUint64Array(1)
    expect(emu.call('cuModuleLoadData', cell, Buffer.from('no ELF at all, but long enough to hold a header, which it has not'))).toBe(200)
    expect(() => kernel('absent')).toThrow('500')
    expect(emu.call('cuModuleUnload', out)).toBe(400)
    expect(emu.call('cuStreamSynchronize', out)).toBe(400)
    expect(emu.call('cuMemFree_v2', small + 4n)).toBe(1)
    expect(emu.call('cuMemcpyDtoH_v2', Buffer.alloc(64), small, 41)).toBe(1)
    expect(emu.call('cuMemcpyDtoH_v2', Buffer.alloc(64), small + 8n, 32)).toBe(0)
    expect(emu.call('cuMemFree_v2', small)).toBe(0)
    expect(emu.call('cuMemFree_v2', small)).toBe(1)
    expect(emu.call('cuMemAlloc_v2', cell, 0)).toBe(1)
  })

  test('too little memory is an error that goes by', () => {
    process.env['WEFT_EMULATOR_MEMORY'] = String(1 << 20)
    try {
      const cell = new BigUint64Array(1)
      expect(emu.call('cuMemAlloc_v2', cell, 2 << 20)).toBe(2)
      const half = emu.out('cuMemAlloc_v2', 1 << 19)
      expect(emu.call('cuMemAlloc_v2', cell, 1 << 19)).toBe(2)
      emu.must('cuMemFree_v2', half)
      const free = new BigUint64Array(1), total = new BigUint64Array(1)
      emu.must('cuMemGetInfo_v2', free, total)
      expect(total[0]).toBe(1n << 20n)
      emu.must('cuMemFree_v2', emu.out('cuMemAlloc_v2', 1 << 19))
    } finally {
      delete process.env['WEFT_EMULATOR_MEMORY']
    }
  })

  test('a huge sparse buffer costs what is touched', () => {
    const huge = emu.out('cuMemAlloc_v2', 12 * 2 ** 30)
    expect(run('writeAt', { block: 1 }, small, huge, { i64: BigInt(3 * 2 ** 30 - 1) }).error).toBe(0)
    expect([...emu.download(huge + BigInt(12 * 2 ** 30 - 4), new Float32Array(1))]).toEqual([1])
  })

  test('fresh memory is not zero by accident', () => {
    const values = emu.download(emu.out('cuMemAlloc_v2', 40), new Float32Array(10))
    expect(values.every(Number.isNaN)).toBe(true)
  })
})
