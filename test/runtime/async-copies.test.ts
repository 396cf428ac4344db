/** Asynchronous copies: what lands when, under every order of threads, and what the emulator says about wrong waits. */
import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { preludeText } from '../../src/codegen/intrinsics.js'
import { allOrders, noCompiler, openEmulator, type Argument, type Emulator } from './emulator-driver.js'
import { nvrtcOrReason } from './nvrtc-here.js'

const kernels = `
// A ring of three stages: row r of 32 vectors, turned around within the row. Rows from there on count as zeros.
extern "C" __global__ void ring(Global<const u16> from, Global<u16> to, i32 rows, i32 there) {
  Shared<u16, 768> tile = sharedAt<u16, 768>(0);
  const i32 own = threadIdx.x * 8;
  for (i32 r = 0; r < 2; ++r) {
    if (r < rows) copyAsyncIf(r < there, tile + (r * 256 + own), from + i64(r) * 256 + own);
    copyAsyncCommit();
  }
  for (i32 r = 0; r < rows; ++r) {
    copyAsyncWait<1>();
    blockBarrier();
    if (r + 2 < rows) copyAsyncIf(r + 2 < there, tile + ((r + 2) % 3 * 256 + own), from + i64(r + 2) * 256 + own);
    copyAsyncCommit();
    storeVector(to + i64(r) * 256 + own, loadVector<8>(tile + (r % 3 * 256 + 248 - own)));
  }
}
extern "C" __global__ void bytes(Global<const u8> from, Global<u8> to) {
  Shared<u8, 512> tile = sharedAt<u8, 512>(0);
  copyAsync(tile + threadIdx.x * 16, from + threadIdx.x * 16);
  copyAsyncCommit();
  copyAsyncWait<0>();
  storeVector(to + threadIdx.x * 16, loadVector<16>(tile + threadIdx.x * 16));
}
`
const uses = ['copyAsync', 'copyAsyncIf', 'copyAsyncCommit', 'copyAsyncWait', 'blockBarrier', 'loadVector', 'storeVector'] as const

/** The ring with one line changed. */
const wrong = (from: string, to: string): string => {
  if (!kernels.includes(from)) throw new Error(`no such text: ${from}`)
  return kernels.replace(from, to)
}

describe.skipIf(noCompiler)('asynchronous copies on the emulator', () => {
  let emu: Emulator
  beforeAll(async () => { emu = await openEmulator() })
  afterEach(() => emu.reset())

  const source = (rows: number): Uint16Array => Uint16Array.from({ length: rows * 256 }, (_, i) => (i * 40503 + 1) & 0xffff)
  const ring = (kernel: bigint, rows: number, there: number): { error: number; text: string; result: number[] } => {
    // Rows beyond `there` do not exist: their addresses lie outside the buffer.
    const to = emu.out('cuMemAlloc_v2', Math.max(1, rows) * 512)
    const { error, text } = emu.outcome(kernel, { block: 32, shared: 1536 }, emu.upload(source(Math.max(1, there))), to, { i32: rows }, { i32: there })
    return { error, text, result: error === 0 ? [...emu.download(to, new Uint16Array(rows * 256))] : [] }
  }
  const turned = (rows: number, there: number): number[] =>
    [...source(rows)].map((_, i, all) => (i >= there * 256 ? 0 : all[(i & ~255) + 248 - (i & 248) + (i & 7)]!))

  test.each([false, true])('a ring of three stages gives every row, zeros where the source is not there (watched: %s)', async races => {
    const kernel = (await emu.compile(kernels, uses, { races }))('ring')
    fc.assert(fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }), fc.constantFrom(...allOrders), (rows, there, order) => {
      emu.setOrder(order)
      expect(ring(kernel, rows, Math.min(rows, there))).toEqual({ error: 0, text: '', result: turned(rows, Math.min(rows, there)) })
    }), { numRuns: 40 })
  })

  test('elements of one byte', async () => {
    const from = Uint8Array.from({ length: 512 }, (_, i) => i * 7), to = emu.out('cuMemAlloc_v2', 512)
    emu.launch((await emu.compile(kernels, uses))('bytes'), { block: 32, shared: 512 }, emu.upload(from), to)
    expect(emu.download(to, new Uint8Array(512))).toEqual(from)
  })

  // Each is caught unwatched by some order, because results differ, and watched in any order, with a sentence.
  test.each([
    ['a wait for one group too few', 'copyAsyncWait<1>', 'copyAsyncWait<2>', /reads index \d+ of shared array 'tile' of 768 elements of 2 bytes(?: before its wait: the thread copies|, which thread \(\d+,0,0\) copies to asynchronously at line \d+, with no wait and barrier between)/],
    ['no wait', 'copyAsyncWait<1>();', '', /reads index \d+ of shared array 'tile' of 768 elements of 2 bytes(?: before its wait|, which thread \(\d+,0,0\) copies to asynchronously at line \d+, with no wait and barrier between)/],
    ['a stage that is still read', '(r + 2) % 3', '(r + 2) % 2', /(writes index \d+ of shared array 'tile' of 768 elements of 2 bytes, which thread \(\d+,0,0\) reads at line \d+, with no barrier between|reads index \d+ of shared array 'tile' of 768 elements of 2 bytes, which thread \(\d+,0,0\) copies to asynchronously)/],
    ['no barrier', 'blockBarrier();', '', /race: (writes|reads) index \d+ of shared array 'tile' of 768 elements of 2 bytes, which thread \(\d+,0,0\) (copies to asynchronously|writes|reads) at line|reads index \d+ of shared array 'tile' of 768 elements of 2 bytes, which no thread of the block has written so far/],
  ])('%s', async (_, from, to, sentence) => {
    const text = wrong(from, to)
    const plain = (await emu.compile(text, uses))('ring')
    const results = allOrders.map(order => { emu.setOrder(order); return String(ring(plain, 7, 7).result) })
    expect(new Set([...results, String(turned(7, 7))]).size).toBeGreaterThan(1)
    for (const order of allOrders) {
      emu.reset()
      emu.setOrder(order)
      const watched = ring((await emu.compile(text, uses, { races: true }))('ring'), 7, 7)
      expect(watched, order).toMatchObject({ error: 719, text: expect.stringMatching(sentence) as unknown })
    }
  })

  const bad: [string, string, string, Argument, number, RegExp][] = [
    ['a source outside its array', 'from + i64(r) * 256 + own', 'from + i64(r + 9) * 256 + own', { i32: 2 }, 700, /reads index 2304 of argument 0 'from', an allocation of 512 elements of 2 bytes/],
    ['a misaligned source', 'from + i64(r) * 256 + own', 'from + i64(r) * 256 + own + 1', { i32: 2 }, 716, /reads a vector at address 0x[0-9a-f]+ of argument 0 'from', which is not a multiple of 16 bytes/],
    ['a target outside its array', 'tile + (r * 256 + own)', 'tile + (r * 256 + own + 768)', { i32: 2 }, 700, /writes index 768 of shared array 'tile' of 768 elements of 2 bytes/],
    ['a misaligned target', 'tile + (r * 256 + own)', 'tile + (r * 256 + own + 4)', { i32: 2 }, 716, /writes at byte 8 of shared memory, which is not a multiple of 16/],
  ]
  test.each(bad)('%s', async (_, from, to, there, error, sentence) => {
    const kernel = (await emu.compile(wrong(from, to), uses))('ring')
    const result = emu.outcome(kernel, { block: 32, shared: 1536 }, emu.upload(source(2)), emu.out('cuMemAlloc_v2', 1024), { i32: 2 }, there)
    expect(result).toEqual({ error, text: expect.stringMatching(sentence) as unknown })
  })
})

const here = nvrtcOrReason()
test.skipIf(typeof here === 'string')('the same text compiles for CUDA', async () => {
  if (typeof here === 'string') return
  for (const arch of ['sm_80', 'sm_90a']) {
    const { resources } = await here.compile({ text: preludeText(uses, 'cuda') + kernels, kernels: ['ring', 'bytes'], arch })
    expect(resources.map(r => [r.name, r.spillStores])).toEqual(expect.arrayContaining([['ring', 0], ['bytes', 0]]))
  }
})
