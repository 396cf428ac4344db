/**
 * Clusters on the emulator: what their blocks share, and every mistake that can be made with it, made once on purpose.
 */
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { allOrders, noCompiler, openEmulator, type Argument, type Emulator, type Grid } from './emulator-driver.js'

const kernels = `constexpr i32 blocks = 4;
__device__ i32 rankOf() { return i32(blockIdx.x) % blocks; }
extern "C" __global__ void __cluster_dims__(blocks) __launch_bounds__(64, 1) rotate(Global<const u32> in, Global<u32> out) {
  Shared<u32, 64> tile = sharedAt<u32, 64>(0);
  tile[threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
  clusterBarrier();
  u32 sum = 0;
  for (i32 peer = 0; peer < blocks; ++peer) sum = sum * 10 + peerValue(tile, 63 - threadIdx.x, peer);
  blockBarrier();
  clusterBarrier();
  tile[threadIdx.x] = sum;
  clusterBarrier();
  out[blockIdx.x * 64 + threadIdx.x] = peerValue(tile, threadIdx.x, (rankOf() + 1) % blocks);
  clusterBarrier();
}
extern "C" __global__ void alone(Global<u32> out) {
  Shared<u32, 64> tile = sharedAt<u32, 64>(0);
  tile[threadIdx.x] = threadIdx.x;
  clusterBarrier();
  out[threadIdx.x] = peerValue(tile, 63 - threadIdx.x, 0);
}
extern "C" __global__ void __cluster_dims__(4) readTooEarly(Global<u32> out) {
  Shared<u32, 64> tile = sharedAt<u32, 64>(0);
  tile[threadIdx.x] = 7;
  blockBarrier();
  out[blockIdx.x * 64 + threadIdx.x] = peerValue(tile, threadIdx.x, (rankOf() + 1) % 4);   // no cluster barrier before
  clusterBarrier();
}
extern "C" __global__ void __cluster_dims__(4) writeTooEarly(Global<u32> out) {
  Shared<u32, 64> tile = sharedAt<u32, 64>(0);
  tile[threadIdx.x] = 7;
  clusterBarrier();
  const u32 theirs = peerValue(tile, threadIdx.x, (rankOf() + 1) % 4);
  blockBarrier();
  tile[threadIdx.x] = 8;                           // others may still read the 7
  clusterBarrier();
  out[blockIdx.x * 64 + threadIdx.x] = theirs;
}
extern "C" __global__ void __cluster_dims__(4) leaveEarly(Global<u32> out) {
  Shared<u32, 64> tile = sharedAt<u32, 64>(0);
  tile[threadIdx.x] = 7;
  clusterBarrier();
  out[blockIdx.x * 64 + threadIdx.x] = peerValue(tile, threadIdx.x, (rankOf() + 1) % 4);   // nobody waits at the end
}
extern "C" __global__ void __cluster_dims__(4) divergentBlocks() {
  if (rankOf() == 2)
    clusterBarrier();
  else
    clusterBarrier();
}
extern "C" __global__ void __cluster_dims__(2) divergentThreads() {
  if (threadIdx.x < 32)
    clusterBarrier();
  else
    blockBarrier();
}
extern "C" __global__ void __cluster_dims__(2) threadExits() {
  if (threadIdx.x == 40) return;
  clusterBarrier();
}
extern "C" __global__ void __cluster_dims__(2) neverWritten(Global<u32> out) {
  Shared<u32, 64> tile = sharedAt<u32, 64>(0);
  if (i32(blockIdx.x) % 2 == 0) tile[threadIdx.x] = 0;
  clusterBarrier();
  if (i32(blockIdx.x) % 2 == 0) out[threadIdx.x] = peerValue(tile, threadIdx.x, 1);
  clusterBarrier();
}
extern "C" __global__ void __cluster_dims__(2) noSuchRank(Global<u32> out, i32 rank) {
  Shared<u32, 64> tile = sharedAt<u32, 64>(0);
  tile[threadIdx.x] = 0;
  clusterBarrier();
  out[threadIdx.x] = peerValue(tile, threadIdx.x, rank);
  clusterBarrier();
}
extern "C" __global__ void __cluster_dims__(2) noSuchIndex(Global<u32> out, i32 i) {
  Shared<u32, 64> tile = sharedAt<u32, 64>(0);
  tile[threadIdx.x] = 0;
  clusterBarrier();
  out[threadIdx.x] = peerValue(tile, i, 1 - i32(blockIdx.x) % 2);
  clusterBarrier();
}
extern "C" __global__ void __cluster_dims__(2) throughBuffer(Global<u32> buffer, Global<u32> out, i32 mode) {
  for (i32 round = 0; round < 3; ++round) {
    buffer[blockIdx.x * 32 + threadIdx.x] = round;
    if (blockIdx.x % 2 == 0) blockBarrier();       // so that blocks differ in how many barriers they pass
    if (mode != 1) clusterBarrier();
    const u32 from = mode == 2 ? blockIdx.x ^ 2 : blockIdx.x ^ 1;
    out[blockIdx.x * 32 + threadIdx.x] = buffer[from * 32 + threadIdx.x];
    if (mode != 3) clusterBarrier();
  }
}
`
const uses = ['blockBarrier', 'clusterBarrier', 'peerValue'] as const

describe.skipIf(noCompiler)('clusters on the emulator', () => {
  let emu: Emulator
  let kernel: (name: string) => bigint, racing: (name: string) => bigint
  let preludeLines = 0
  let out: bigint
  beforeAll(async () => {
    emu = await openEmulator()
    preludeLines = (await import('../../src/codegen/intrinsics.js')).preludeText(uses, 'host').split('\n').length - 1
  })
  const begin = async (): Promise<void> => {
    kernel = await emu.compile(kernels, uses)
    racing = await emu.compile(kernels, uses, { races: true })
    out = emu.upload(new Uint32Array(1024))
  }
  beforeAll(begin)
  afterEach(async () => { emu.reset(); await begin() })
  const line = (part: string): number => preludeLines + kernels.split('\n').findIndex(text => text.includes(part)) + 1

  test('see each other’s shared memory, in every order of blocks and threads', () => {
    const input = Uint32Array.from({ length: 768 }, (_, i) => Math.floor(i / 64) % 10 + i % 64 * 100)
    const of = (block: number, t: number): number => [0, 1, 2, 3].reduce((sum, peer) => (sum * 10 + input[(Math.floor(block / 4) * 4 + peer) * 64 + 63 - t]!) >>> 0, 0)
    const wanted = Uint32Array.from({ length: 768 }, (_, i) => { const block = Math.floor(i / 64); return of(Math.floor(block / 4) * 4 + (block + 1) % 4, i % 64) })
    for (const order of allOrders) for (const make of [kernel, racing]) {
      emu.setOrder(order)
      emu.launch(make('rotate'), { grid: 12, block: 64, shared: 256 }, emu.upload(input), out)
      expect(emu.download(out, new Uint32Array(768)), order).toEqual(wanted)
    }
  })
  test('a block without a cluster is one of its own', () => {
    emu.launch(kernel('alone'), { block: 64, shared: 256 }, out)
    expect(emu.download(out, new Uint32Array(64))).toEqual(Uint32Array.from({ length: 64 }, (_, i) => 63 - i))
  })
  test('a grid that is no multiple of the cluster is refused', () => {
    expect(emu.launchStatus(kernel('rotate'), { grid: 6, block: 64, shared: 256 }, out, out)).toBe(912)
  })

  const run = (name: string, order: string, grid: Grid, ...args: Argument[]): { error: number; text: string } => {
    emu.setOrder(order)
    return emu.outcome(kernel(name), grid, ...args)
  }
  const shape = { grid: 4, block: 64, shared: 256 }
  test('a value that its block has not written yet is the pattern that memory begins with', () => {
    const { error } = run('readTooEarly', 'ascending', shape, out)
    expect(error).toBe(0)
    expect(emu.download(out, new Uint32Array(64))).toEqual(new Uint32Array(64).fill(0x7fbd7fbd))
  })

  const cases: [string, string, string, Grid, () => Argument[], number, string, string][] = [
    ['a peer that has ended', 'leaveEarly', 'ascending', shape, () => [out], 719, 'nobody waits at the end',
      "kernel 'leaveEarly', block (3,0,0), thread (0,0,0), line #: reads shared memory of block 0 of its cluster, which has ended"],
    ['blocks at different cluster barriers', 'divergentBlocks', 'ascending', shape, () => [], 719, 'if (rankOf() == 2)+1',
      "kernel 'divergentBlocks', block (2,0,0), thread (0,0,0), line #: is at a cluster barrier while thread (0,0,0) of block (0,0,0) is at another one at line"],
    ['threads at a cluster barrier and a barrier', 'divergentThreads', 'ascending', { grid: 2, block: 64 }, () => [], 719, 'if (threadIdx.x < 32)+1',
      "kernel 'divergentThreads', block (0,0,0), thread (0,0,0), line #: is at a cluster barrier while thread (32,0,0) is at a barrier at line"],
    ['a thread that exits before a cluster barrier', 'threadExits', 'ascending', { grid: 2, block: 64 }, () => [], 719, 'if (threadIdx.x == 40) return;+1',
      "kernel 'threadExits', block (0,0,0), thread (0,0,0), line #: waits at a cluster barrier for thread (40,0,0), which has exited"],
    ['a rank that the cluster does not have', 'noSuchRank', 'ascending', { grid: 2, block: 64, shared: 256 }, () => [out, { i32: 2 }], 700, 'peerValue(tile, threadIdx.x, rank)',
      "kernel 'noSuchRank', block (0,0,0), thread (0,0,0), line #: asks for shared memory of block 2 of its cluster, which has 2 blocks"],
    ['an index outside of the peer’s array', 'noSuchIndex', 'ascending', { grid: 2, block: 64, shared: 256 }, () => [out, { i32: 64 }], 700, 'peerValue(tile, i, 1',
      "kernel 'noSuchIndex', block (0,0,0), thread (0,0,0), line #: reads index 64 of shared array 'tile' of 64 elements of 4 bytes"],
  ]
  test.each(cases)('catch %s', (_, name, order, grid, args, error, part, message) => {
    const [text, more] = part.split(/\+(?=\d$)/) as [string, string | undefined]
    const found = run(name, order, grid, ...args())
    expect(found.error).toBe(error)
    expect(found.text).toContain(message.replace('#', String(line(text) + Number(more ?? 0))))
  })

  const tile = "shared array 'tile' of 64 elements of 4 bytes"
  test.each(allOrders)('a missing cluster barrier is a race in any order: %s', order => {
    emu.setOrder(order)
    const early = emu.outcome(racing('readTooEarly'), shape, out)
    const read = line('no cluster barrier before'), write = read - 2
    expect(early.error).toBe(719)
    // Whether the block has written before it is read, or not at all so far.
    expect(early.text).toMatch(new RegExp(`line ${read}: (race: reads index \\d+ of ${tile} in block \\(\\d,0,0\\) of its cluster, which thread \\(\\d+,0,0\\) there writes at line ${write}, with no cluster barrier between|` +
      `reads index \\d+ of ${tile} in block \\(\\d,0,0\\) of its cluster, which no thread there has written so far)`))
  })
  test.each(allOrders)('so is one between a reading and the next writing: %s', order => {
    emu.setOrder(order)
    const { error, text } = emu.outcome(racing('writeTooEarly'), shape, out)
    expect(error).toBe(719)
    const write = line('others may still read'), read = line('const u32 theirs')
    expect(text).toMatch(new RegExp(`line (${write}: race: writes index \\d+ of ${tile}, which block \\(\\d,0,0\\) of its cluster reads at line ${read}|` +
      `${read}: race: reads index \\d+ of ${tile} in block \\(\\d,0,0\\) of its cluster, which thread \\(\\d+,0,0\\) there writes at line ${write}), with no cluster barrier between`))
  })
  test('a peer’s memory that nobody has written', () => {
    const { error, text } = emu.outcome(racing('neverWritten'), { grid: 2, block: 64, shared: 256 }, out)
    expect(error).toBe(719)
    expect(text).toContain(`line ${line('peerValue(tile, threadIdx.x, 1)')}: reads index 0 of ${tile} in block (1,0,0) of its cluster, which no thread there has written so far`)
  })

  describe.each(allOrders)('buffers, %s', order => {
    const through = (mode: number): { error: number; text: string } => {
      emu.setOrder(order)
      return emu.outcome(racing('throughBuffer'), { grid: 4, block: 32 }, emu.upload(new Uint32Array(128)), out, { i32: mode })
    }
    test('a cluster barrier orders what its blocks do to them', () => {
      for (let launch = 0; launch < 3; ++launch) expect(through(0)).toEqual({ error: 0, text: '' })
      expect(emu.download(out, new Uint32Array(128))).toEqual(new Uint32Array(128).fill(2))
    })
    test.each([[1, 'no barrier before the reading'], [2, 'a block of another cluster'], [3, 'no barrier before the next writing']])('%i: %s is a race', mode => {
      const { error, text } = through(mode)
      expect(error).toBe(719)
      const write = line('= round;'), read = line('= buffer[from')
      const [, own, itsLine, other, access, otherLine] = /block (\(\d,0,0\)), thread .*, line (\d+): race: .* elements of 4 bytes, which thread \(\d+,0,0\) of block (\(\d,0,0\)) (reads|writes) at line (\d+) of the same launch/.exec(text) ?? [text]
      const rank = (block: string | undefined): number => Number(block?.[1])
      expect(rank(other)).toBe(rank(own) ^ (mode === 2 ? 2 : 1))
      expect([Number(itsLine), Number(otherLine)]).toEqual(access === 'reads' ? [write, read] : [read, write])
    })
  })
})
