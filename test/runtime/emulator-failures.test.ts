/**
 * Every mistake that the emulator is there to catch, made once on purpose. Each test says which error a program gets,
 * what the sentence names, and that a reset makes the device usable again.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { allOrders, noCompiler, openEmulator, type Argument, type Emulator, type Grid } from './emulator-driver.js'

const kernels = `
// ---- barriers and exchanges ----
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
extern "C" __global__ void twoKindsOfBarrier() {
  if (threadIdx.x < 16) blockBarrier();
  else blockAny(true);
}
extern "C" __global__ void ballotOrShuffle(Global<f32> out) {
  if (threadIdx.x == 3) out[0] = f32(ballot(true));
  else out[threadIdx.x] = shuffleXor(1.f, 1);
}
extern "C" __global__ void divergentMultiply(Global<f32> out) {
  f32 sums[2][4] = {};
  const u32 a[4] = {}, b[2] = {};
  if (threadIdx.x % 2 == 0) mmaBf16(sums[0][0], sums[0][1], sums[0][2], sums[0][3], a, b[0], b[1]);
  else mmaBf16(sums[1][0], sums[1][1], sums[1][2], sums[1][3], a, b[0], b[1]);
  out[threadIdx.x] = sums[0][0];
}
extern "C" __global__ void twoKindsOfMultiply(Global<f32> out) {
  f32 sum[4] = {};
  const u32 a[4] = {}, b[2] = {};
  if (threadIdx.x < 8) mmaBf16(sum[0], sum[1], sum[2], sum[3], a, b[0], b[1]); else mmaF16(sum[0], sum[1], sum[2], sum[3], a, b[0], b[1]);
  out[threadIdx.x] = sum[0];
}
extern "C" __global__ void fewLanes(Global<f32> out, i32 n) {
  f32 sum[4] = {};
  const u32 a[4] = {}, b[2] = {};
  if (i32(threadIdx.x) < n) mmaF16(sum[0], sum[1], sum[2], sum[3], a, b[0], b[1]);
  out[threadIdx.x] = sum[0];
}
extern "C" __global__ void matrixRow(Global<u32> out, i32 lane, i32 at) {
  Shared<bf16, 256> tile = sharedAt<bf16, 256>(0);
  for (i32 i = threadIdx.x; i < 256; i += 32) tile[i] = bf16{};
  blockBarrier();
  u32 a[4];
  loadMatrix4(a, tile + (i32(threadIdx.x) == lane ? at : i32(threadIdx.x) * 8));
  out[threadIdx.x] = a[0];
}
extern "C" __global__ void operandOutside(Global<f32> out, i32 i) {
  f32 sums[2][4] = {};
  const u32 a[4] = {}, b[2] = {};
  mmaBf16(sums[i][0], sums[i][1], sums[i][2], sums[i][3], a, b[0], b[1]);
  out[threadIdx.x] = sums[0][0];
}
extern "C" __global__ void noSuchLane(Global<f32> out) { out[threadIdx.x] = shuffleFrom(f32(threadIdx.x), 20); }

// ---- memory ----
extern "C" __global__ void readAt(Global<const f32> in, Global<f32> out, i64 i) { out[0] = in[i]; }
extern "C" __global__ void writeAt(Global<const f32> in, Global<f32> out, i64 i) { out[i] = 1.f; }
extern "C" __global__ void sharedIndex(i32 i) {
  Shared<u32, 32> words = sharedAt<u32, 32>(64);
  words[i] = 1;
}
extern "C" __global__ void sharedPlace(i32 at) { sharedAt<f32, 8>(at)[0] = 1.f; }
extern "C" __global__ void vectorAt(Global<const f32> in, Global<f32> out, i32 i) { out[0] = loadVector<4>(in + i).at[0]; }
extern "C" __global__ void sharedVectorAt(Global<f32> out, i32 i) {
  Shared<f32, 16> tile = sharedAt<f32, 16>(0);
  storeVector(tile + i, Vector<f32, 4>{});
  out[0] = tile[0];
}
extern "C" __global__ void reads64(Global<const u64> in, Global<f32> out) { out[0] = f32(in[0]); }
extern "C" __global__ void behindTheAccessor(Global<f32> out, i32 at) { *(reinterpret_cast<u8*>(out.address()) + at) = 1; }
extern "C" __global__ void behindShared(i32 at) {
  Shared<u8, 64> tile = sharedAt<u8, 64>(0);
  *((tile + 0).address() + at) = 1;
}

// ---- what watched kernels are caught in ----
extern "C" __global__ void neverWritten(Global<f32> out, i32 i) {
  Shared<f32, 64> tile = sharedAt<f32, 64>(64);
  if (threadIdx.x < 32) tile[threadIdx.x] = 1.f;
  blockBarrier();
  out[threadIdx.x] = tile[(threadIdx.x + i) % 64];
}
extern "C" __global__ void readsBuffer(Global<const f32> in, Global<f32> out, i32 i) { out[blockIdx.x] = in[i]; }
extern "C" __global__ void writesTwice(Global<f32> out) {
  Shared<f32, 8> tile = sharedAt<f32, 8>(0);
  tile[threadIdx.x / 8] = out[threadIdx.x];
}
extern "C" __global__ void throughBuffer(Global<f32> out) {
  out[threadIdx.x] = 1.f;
  const f32 other = out[threadIdx.x ^ 1];
  if (other > 2.f) out[0] = other;
}
extern "C" __global__ void blocksWrite(Global<f32> out, i32 n) { out[(blockIdx.x * 4 + threadIdx.x) % n] = 1.f; }
extern "C" __global__ void blocksRead(Global<f32> out) {
  if (blockIdx.x == 2) out[5] = 1.f;
  else out[32 + blockIdx.x] = out[5];
}
extern "C" __global__ void copyThenTouch(Global<const f32> in, Global<f32> out, i32 mode) {
  Shared<f32, 128> tile = sharedAt<f32, 128>(128);
  copyAsync(tile + threadIdx.x * 4, in + threadIdx.x % 16 * 4);
  if (mode != 1) copyAsyncCommit();
  if (mode == 1) copyAsyncWait<0>();
  if (mode == 2) copyAsyncWait<1>();
  if (mode == 3) tile[threadIdx.x * 4 + 1] = 1.f;
  if (mode == 4) copyAsync(tile + threadIdx.x * 4, in);
  if (mode == 5) blockBarrier();
  out[threadIdx.x] = tile[mode == 5 ? (threadIdx.x * 4 + 4) % 128 : threadIdx.x * 4 + 2];
}

// ---- clusters ----
extern "C" __global__ void __cluster_dims__(2) readsPeer(Global<u32> out, i32 mode, i32 rank) {
  Shared<u32, 32> tile = sharedAt<u32, 32>(0);
  if (mode != 1) tile[threadIdx.x] = 7;
  if (mode != 2) clusterBarrier();
  const u32 theirs = peerValue(tile, threadIdx.x, rank);
  if (mode == 3) tile[threadIdx.x] = theirs + 1;
  if (mode != 4) clusterBarrier();                 // a block stays while the other one reads its shared memory
  out[blockIdx.x * 32 + threadIdx.x] = theirs;
}

// ---- undefined behaviour ----
extern "C" __global__ void localArray(Global<f32> out, i32 i) {
  f32 local[4] = {1, 2, 3, 4};
  out[0] = local[i];
}
extern "C" __global__ void shiftBy(Global<u32> out, i32 n) { out[0] = 1u << n; }
extern "C" __global__ void divideBy(Global<i32> out, i32 n) { out[0] = 100 / n; }
extern "C" __global__ void overflow(Global<i32> out, i32 n) { out[0] = 2147483647 + n; }
extern "C" __global__ void toInteger(Global<i32> out, f32 x) { out[0] = i32(x); }
extern "C" __global__ void arithmetic(Global<i32> out, i32 kind, i32 a, i32 b) {
  out[0] = kind == 0 ? a - b : kind == 1 ? a * b : kind == 2 ? -a : kind == 3 ? a / b : a % b;
}
__noinline__ i32 sometimes(i32 n) { if (n > 0) return n; }
extern "C" __global__ void noReturn(Global<i32> out, i32 n) { out[0] = sometimes(n); }
extern "C" __global__ void unreachable(Global<i32> out, i32 n) {
  if (n == 0) __builtin_unreachable();
  out[0] = n;
}
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
  const uses = ['shuffleXor', 'shuffleFrom', 'ballot', 'blockBarrier', 'blockAny', 'loadVector', 'storeVector', 'fetchAdd',
    'mmaBf16', 'mmaF16', 'loadMatrix4', 'copyAsync', 'copyAsyncCommit', 'copyAsyncWait', 'clusterBarrier', 'peerValue'] as const

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
      expect(text).toMatch(new RegExp(`line (${write}: race: writes|${read}: race: reads) index \\d+ of shared array 'tile' of 64 elements of 4 bytes, which thread \\(\\d+,0,0\\) (reads at line ${read}|writes at line ${write}), with no barrier between|line ${read}: reads index \\d+ of shared array 'tile' of 64 elements of 4 bytes, which no thread of the block has written so far`))
    })
    test('a tile overwritten while another thread still reads it', async () => {
      const { text } = await race('ascending', 'warpAhead', emu.upload(input), out)
      expect(text).toContain(`line ${at('another barrier is due')}: race: reads index 31 of shared array 'tile' of 64 elements of 4 bytes, which thread (31,0,0) writes at line ${at('+ round')}, with no barrier between`)
    })
    test('atomic additions are none with each other, but one with a plain read', async () => {
      expect(await race('ascending', 'mixedAtomics', out, { i32: 1 })).toEqual({ error: 0, text: '' })
      const { text } = await race('descending', 'mixedAtomics', out, { i32: 0 })
      expect(text).toContain(`line ${at('words[0] + halves')}: race: reads index 0 of shared array 'words' of 4 elements of 4 bytes, which another thread adds to atomically at line ${at('fetchAdd(words, 0, 1);')}`)
    })
  })

  /** A mistake and what is said about it; `where` is the line that the sentence names, +1 the one after it. */
  interface Trap {
    readonly title: string
    readonly kernel: string
    readonly shape: Grid
    readonly args?: () => Argument[]
    readonly error: number
    readonly where?: string
    /** Only a kernel compiled with `races` is caught. */
    readonly watched?: true
  }
  const trap = (title: string, error: number, kernel: string, shape: Grid, args: () => Argument[], where?: string): Trap => ({ title, kernel, shape, args, error, ...(where === undefined ? {} : { where }) })
  const watched = (title: string, kernel: string, shape: Grid, args: () => Argument[], where: string): Trap => ({ ...trap(title, 719, kernel, shape, args, where), watched: true })
  const one: Grid = { block: 1 }, warp: Grid = { block: 32 }, pair: Grid = { grid: 2, block: 32, shared: 128 }, n = (...values: number[]): Argument[] => values.map(i32 => ({ i32 }))
  const blank = (): bigint => emu.out('cuMemAlloc_v2', 256)

  /** By what is wrong: the members of the emulator's enum Wrong, then what is found where threads meet, and by signals. */
  const traps: Record<string, { readonly says: RegExp; readonly traps: readonly Trap[] }> = {
    globalIndex: { says: /(reads|writes) index -?\d+ (of argument \d|through a null pointer)/, traps: [
      trap('a read behind a buffer', 700, 'readAt', one, () => [small, out, { i64: 10n }], 'out[0] = in[i]'),
      trap('a read before a buffer', 700, 'readAt', one, () => [small, out, { i64: -1n }], 'out[0] = in[i]'),
      trap('a read far behind a buffer', 700, 'readAt', one, () => [small, out, { i64: 1n << 40n }], 'out[0] = in[i]'),
      trap('a write behind a buffer', 700, 'writeAt', one, () => [small, out, { i64: 64n }], 'out[i] = 1.f'),
      trap('a null pointer', 700, 'readAt', one, () => [0n, out, { i64: 2n }], 'out[0] = in[i]'),
      trap('an address that no allocation has', 700, 'readAt', one, () => [0x1230n, out, { i64: 2n }], 'out[0] = in[i]'),
      trap('a vector that reaches over the end', 700, 'vectorAt', one, () => [small, out, ...n(8)], 'loadVector<4>(in + i)'),
    ] },
    sharedIndex: { says: /(reads|writes) index \d+ of shared array '\w+' of \d+ elements/, traps: [
      trap('an index outside a shared array', 700, 'sharedIndex', { block: 1, shared: 192 }, () => n(32), 'words[i] = 1'),
      trap('a shared vector that reaches over the end', 700, 'sharedVectorAt', { block: 1, shared: 64 }, () => [out, ...n(13)], 'storeVector(tile + i'),
      trap('a matrix row that reaches over the end', 700, 'matrixRow', { block: 32, shared: 512 }, () => [out, ...n(9, 256)], 'loadMatrix4(a, tile'),
    ] },
    globalAlignment: { says: /a vector at address 0x\w+ of argument \d '\w+', which is not a multiple of 16 bytes/, traps: [
      trap('a misaligned vector', 716, 'vectorAt', one, () => [out, out, ...n(1)], 'loadVector<4>(in + i)'),
    ] },
    sharedAlignment: { says: /at byte \d+ of shared memory, which is not a multiple of \d+/, traps: [
      trap('a misaligned shared array', 716, 'sharedPlace', { block: 1, shared: 64 }, () => n(2), 'sharedAt<f32, 8>(at)'),
      trap('a misaligned shared vector', 716, 'sharedVectorAt', { block: 1, shared: 64 }, () => [out, ...n(2)], 'storeVector(tile + i'),
      trap('a misaligned matrix row', 716, 'matrixRow', { block: 32, shared: 512 }, () => [out, ...n(9, 4)], 'loadMatrix4(a, tile'),
    ] },
    sharedPlace: { says: /places a shared array at byte \d+ for \d+ bytes; the launch gave/, traps: [
      trap('a shared array outside what the launch gave', 700, 'sharedPlace', { block: 1, shared: 64 }, () => n(36), 'sharedAt<f32, 8>(at)'),
    ] },
    argument: { says: /argument \d '\w+' is the address 0x\w+, which is not a multiple of its element's alignment/, traps: [
      trap('an argument that is misaligned for its type', 716, 'reads64', one, () => [out + 4n, out]),
    ] },
    shuffleLane: { says: /asks for the value of lane \d+, which this warp does not have/, traps: [
      trap('a lane that the warp does not have', 719, 'noSuchLane', { block: 16 }, () => [out], 'shuffleFrom('),
    ] },
    undefined: { says: /undefined behaviour: /, traps: [
      trap('an index outside a local array', 719, 'localArray', one, () => [out, ...n(4)], 'out[0] = local[i]'),
      trap('a negative index into a local array', 719, 'localArray', one, () => [out, ...n(-1)], 'out[0] = local[i]'),
      trap('an operand outside its local array', 719, 'operandOutside', warp, () => [out, ...n(2)], 'mmaBf16(sums[i]'),
      trap('a shift by too much', 719, 'shiftBy', one, () => [out, ...n(32)], '1u << n'),
      trap('a shift by less than nothing', 719, 'shiftBy', one, () => [out, ...n(-1)], '1u << n'),
      trap('a division by zero', 719, 'divideBy', one, () => [out, ...n(0)], '100 / n'),
      trap('a remainder of a division by zero', 719, 'arithmetic', one, () => [out, ...n(4, 7, 0)], 'kind == 0 ? a - b'),
      trap('a quotient that is too large', 719, 'arithmetic', one, () => [out, ...n(3, -(2 ** 31), -1)], 'kind == 0 ? a - b'),
      trap('a sum that overflows', 719, 'overflow', one, () => [out, ...n(1)], '2147483647 + n'),
      trap('a difference that overflows', 719, 'arithmetic', one, () => [out, ...n(0, -(2 ** 31), 1)], 'kind == 0 ? a - b'),
      trap('a product that overflows', 719, 'arithmetic', one, () => [out, ...n(1, 65536, 32768)], 'kind == 0 ? a - b'),
      trap('a negation that overflows', 719, 'arithmetic', one, () => [out, ...n(2, -(2 ** 31), 0)], 'kind == 0 ? a - b'),
      trap('NaN made an integer', 719, 'toInteger', one, () => [out, { f32: NaN }], 'out[0] = i32(x)'),
      trap('a number too large for the integer', 719, 'toInteger', one, () => [out, { f32: 3e9 }], 'out[0] = i32(x)'),
      trap('a function that ends without its value', 719, 'noReturn', one, () => [out, ...n(0)], 'i32 sometimes'),
      trap('a place declared unreachable', 719, 'unreachable', one, () => [out, ...n(0)], '__builtin_unreachable()'),
    ] },
    race: { says: /race: (reads|writes) index \d+ of .*, which .* (reads|writes|adds to atomically|copies to asynchronously) at line \d+/, traps: [
      watched('two threads write one element of a tile', 'writesTwice', { block: 64, shared: 32 }, () => [out], 'tile[threadIdx.x / 8] = out'),
      watched('a read with no barrier after the write', 'throughBuffer', { block: 64 }, () => [out], 'out[threadIdx.x ^ 1]'),
      watched('a write with no barrier after the read', 'warpAhead', { block: 64, shared: 256 }, () => [out, out], 'another barrier is due'),
      watched('an atomic addition and a plain read', 'mixedAtomics', { block: 64, shared: 256 }, () => [out, ...n(0)], 'words[0] + halves'),
      watched('two blocks write one element', 'blocksWrite', { grid: 8, block: 4 }, () => [out, ...n(20)], 'blockIdx.x * 4 + threadIdx.x'),
      watched('a block writes what another one has read', 'blocksRead', { grid: 4, block: 1 }, () => [out], 'if (blockIdx.x == 2)'),
      watched('another thread reads what is still being copied, in spite of the barrier', 'copyThenTouch', { block: 32, shared: 640 }, () => [out, out, ...n(5)], 'mode == 5 ? (thread'),
    ] },
    beforeWait: { says: /(reads|writes) index \d+ of shared array '\w+' .* before its wait: the thread copies to it asynchronously at line \d+/, traps: [
      watched('a copy read with no wait', 'copyThenTouch', { block: 32, shared: 640 }, () => [out, blank(), ...n(0)], 'mode == 5 ? (thread'),
      watched('a wait for copies that were never committed', 'copyThenTouch', { block: 32, shared: 640 }, () => [out, blank(), ...n(1)], 'mode == 5 ? (thread'),
      watched('a wait that leaves the last group', 'copyThenTouch', { block: 32, shared: 640 }, () => [out, blank(), ...n(2)], 'mode == 5 ? (thread'),
      watched('a write to the target of a copy under way', 'copyThenTouch', { block: 32, shared: 640 }, () => [out, blank(), ...n(3)], 'if (mode == 3)'),
      watched('a second copy to the target of a copy under way', 'copyThenTouch', { block: 32, shared: 640 }, () => [out, blank(), ...n(4)], 'if (mode == 4)'),
    ] },
    uninitialised: { says: /reads index \d+ of .*, which (no thread of the block has written so far|nobody has written)/, traps: [
      watched('shared memory that no thread has written', 'neverWritten', { block: 64, shared: 320 }, () => [out, ...n(0)], 'tile[(threadIdx.x + i) % 64]'),
      watched('a buffer that nobody has written', 'readsBuffer', one, () => [blank(), out, ...n(3)], 'out[blockIdx.x] = in[i]'),
      watched('a part of a buffer that nobody has written', 'readsBuffer', one, () => {
        const half = blank()
        emu.must('cuMemsetD32_v2', half, 0, 32)
        return [half, out, ...n(32)]
      }, 'out[blockIdx.x] = in[i]'),
    ] },
    peerRank: { says: /asks for shared memory of block -?\d+ of its cluster, which has 2 blocks/, traps: [
      trap('a rank that the cluster does not have', 700, 'readsPeer', pair, () => [out, ...n(0, 2)], 'peerValue('),
      trap('a negative rank', 700, 'readsPeer', pair, () => [out, ...n(0, -1)], 'peerValue('),
    ] },
    peerEnded: { says: /reads shared memory of block 0 of its cluster, which has ended/, traps: [
      trap('shared memory of a block that has ended', 719, 'readsPeer', pair, () => [out, ...n(4, 0)], 'peerValue('),
    ] },
    peerRace: { says: /race: reads index \d+ of shared array 'tile' .* in block \(0,0,0\) of its cluster, which thread \(\d+,0,0\) there writes at line \d+/, traps: [
      watched('another block’s shared memory read with no cluster barrier after the write', 'readsPeer', pair, () => [out, ...n(2, 0)], 'peerValue('),
    ] },
    peerRaceWrite: { says: /race: writes index \d+ of shared array 'tile' .*, which block \(0,0,0\) of its cluster reads at line \d+/, traps: [
      watched('shared memory written with no cluster barrier after another block’s read', 'readsPeer', pair, () => [out, ...n(3, 1)], 'if (mode == 3) tile'),
    ] },
    peerUnwritten: { says: /reads index \d+ of shared array 'tile' .* in block \(1,0,0\) of its cluster, which no thread there has written/, traps: [
      watched('another block’s shared memory that nobody has written', 'readsPeer', pair, () => [out, ...n(1, 1)], 'peerValue('),
    ] },
    barriers: { says: /(is at a barrier|waits at a barrier)/, traps: [
      trap('threads at different barriers', 719, 'divergentBarrier', warp, () => [], 'if (threadIdx.x < 16)+1'),
      trap('threads at barriers of different kinds', 719, 'twoKindsOfBarrier', warp, () => [], 'if (threadIdx.x < 16) blockBarrier();'),
      trap('a thread that exits before a barrier', 719, 'exitBeforeBarrier', { block: 64 }, () => n(40), '>= n) return;+1'),
    ] },
    exchanges: { says: /(is|waits) in a (shuffle|ballot|matrix multiplication|matrix load)/, traps: [
      trap('lanes at different shuffles', 719, 'divergentShuffle', warp, () => [out], 'if (threadIdx.x % 2) x = shuffleXor'),
      trap('a lane that is missing in a shuffle', 719, 'missingLane', { block: 64 }, () => [out, ...n(50)], 'shuffleXor(f32(threadIdx.x), 1);'),
      trap('a lane at a barrier while the others shuffle', 719, 'barrierOrShuffle', warp, () => [out], 'else out[threadIdx.x] = shuffleXor'),
      trap('a ballot while the others shuffle', 719, 'ballotOrShuffle', warp, () => [out], 'else out[threadIdx.x] = shuffleXor(1.f, 1)'),
      trap('lanes at different multiplications', 719, 'divergentMultiply', warp, () => [out], 'mmaBf16(sums[0][0]'),
      trap('lanes at multiplications of different types', 719, 'twoKindsOfMultiply', warp, () => [out], 'if (threadIdx.x < 8)'),
      trap('a lane that is missing in a multiplication', 719, 'fewLanes', warp, () => [out, ...n(31)], '< n) mmaF16'),
      trap('a warp that is not full', 719, 'fewLanes', { block: 24 }, () => [out, ...n(24)], '< n) mmaF16'),
    ] },
    signals: { says: /(touches memory at 0x|touches byte \d+ of shared memory|illegal instruction|its stack)/, traps: [
      trap('memory touched behind the accessors', 700, 'behindTheAccessor', one, () => [out, ...n(4096)]),
      trap('shared memory touched behind the accessors', 700, 'behindShared', { block: 1, shared: 64 }, () => n(1024)),
      trap('an illegal instruction', 719, 'trap', one, () => n(1)),
      trap('a stack that overflows', 719, 'recursion', one, () => [out, ...n(100_000)]),
    ] },
  }

  test('every kind of mistake that the emulator knows is in the table', () => {
    const abi = readFileSync(new URL('../../src/runtime/emulator/abi.h', import.meta.url), 'utf8')
    const members = [.../enum class Wrong : u32 \{([^}]*)\}/.exec(abi)![1]!.matchAll(/^\s*(\w+),/gm)].map(m => m[1]!)
    expect(members.length).toBeGreaterThan(9)
    expect(Object.keys(traps)).toEqual(expect.arrayContaining(members))
  })

  const messages = new Map<string, string>()
  const all = Object.entries(traps).flatMap(([kind, { says, traps }]) => traps.map(t => [`${kind}: ${t.title}`, says, t] as const))
  test.each(all)('%s', async (name, says, { kernel: called, shape, args, error, where, watched }) => {
    const from = watched ? await emu.compile(kernels, uses, { races: true }) : kernel
    const result = emu.outcome(from(called), shape, ...(args?.() ?? []))
    expect(result).toEqual({ error, text: expect.stringMatching(says) as unknown })
    expect(result.text).toMatch(new RegExp(`^kernel '${called}', block \\(\\d,0,0\\), thread \\(`))
    // As a file: lines counted from the kernels' first, addresses hidden.
    messages.set(name, result.text.replace(/line (\d+)/g, (_, l) => `line ${Number(l) - preludeLines}`).replace(/^ +(\d+) \| /gm, (_, l) => `${String(Number(l) - preludeLines).padStart(7)} | `).replace(/0x[0-9a-f]{5,}/g, '0x…'))
    if (where === undefined) return
    const [part = '', more = '0'] = where.split(/\+(?=\d$)/)
    const expected = preludeLines + line(part) + Number(more)
    expect(result.text).toMatch(new RegExp(`line ${expected}\\b`))
    expect(result.text).toContain(`${expected} | ${kernels.split('\n')[line(part) - 1 + Number(more)]}`)
  })
  test('what it says about them', async () => {
    expect(messages.size).toBe(all.length)
    await expect([...messages].map(([name, text]) => `${name}\n${text}\n`).join('\n')).toMatchFileSnapshot('emulator-messages.txt')
  })
  test('what looks alike and is right is not caught', async () => {
    const right = await emu.compile(kernels, uses, { races: true })
    const fine = (name: string, shape: Grid, ...args: Argument[]): void => expect(emu.outcome(right(name), shape, ...args), name).toEqual({ error: 0, text: '' })
    fine('blocksWrite', { grid: 8, block: 4 }, out, ...n(32))
    fine('blocksWrite', { grid: 8, block: 4 }, out, ...n(32))           // a launch later: the first one has ended
    fine('readsBuffer', { grid: 8, block: 1 }, out, blank(), ...n(3))    // blocks may read the same
    fine('mixedAtomics', { block: 64, shared: 256 }, out, ...n(1))
    fine('readsPeer', pair, out, ...n(0, 1))
    const written = blank()
    fine('fine', { block: 64 }, written)
    fine('readsBuffer', one, written, out, ...n(63))                      // by a watched kernel
    const plain = blank()
    emu.launch(kernel('fine'), { block: 64 }, plain)
    fine('readsBuffer', one, plain, out, ...n(63))                        // by one that is not
  })

  test.each(['endless', 'endlessBarriers'])('a kernel that does not end: %s', (name) => {
    process.env['WEFT_EMULATOR_TIMEOUT'] = '0.2'
    const started = performance.now()
    const result = run(name, { grid: 3, block: 64 }, out)
    expect(result).toEqual({ error: 702, text: expect.stringContaining(`kernel '${name}'`) as unknown })
    expect(result.text).toContain('does not end; the watchdog stopped it')
    expect(performance.now() - started).toBeLessThan(30_000)
  })

  test('a hundred of the watchdog\'s signals at once, as after a busy machine let a thread wait', () => {
    emu.launch(kernel('fine'), { grid: 64, block: 64 }, out)
    emu.must('cuCtxSynchronize')
    // Signals of this kind queue up: another process stops this one, so that they do, for every thread.
    const sender = `
      const tgkill = require('koffi').load('libc.so.6').func('int tgkill(int, int, int)')
      process.kill(${process.pid}, 'SIGSTOP')
      for (const thread of require('node:fs').readdirSync('/proc/${process.pid}/task')) for (let i = 0; i < 100; i++) tgkill(${process.pid}, Number(thread), 64 - 5)
      process.kill(${process.pid}, 'SIGCONT')`
    expect(spawnSync(process.execPath, ['-e', sender], { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' })
    emu.launch(kernel('fine'), { grid: 64, block: 64 }, out)
    expect(emu.download(out, new Float32Array(64)).every(x => x === 1)).toBe(true)
  })

  test('use after free', () => {
    emu.must('cuMemFree_v2', small)
    expect(run('readAt', { block: 1 }, small, out, { i64: 0n })).toEqual({
      error: 700, text: expect.stringMatching(/reads index 0 of argument 0 'in', which points into freed memory \(it was 40 bytes at 0x/) as unknown,
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
