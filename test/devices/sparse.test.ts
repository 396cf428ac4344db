/**
 * Arrays beyond 32 bits on the emulator, whose memory is mapped but not reserved: 32 × 389,120 × 128 bf16 have 3.2 GB of
 * addresses, 64 × 389,120 × 128 more than 2^31 elements. Only places at the far ends are written. The interpreter could
 * not hold such an input, so what should come out is computed here from what was written.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { contract, gather, slice, size, minus, sum, tensor, topK, type SizeLike } from '../../src/dsl/index.js'
import { openDevice, type OpenedDevice } from '../../src/runtime/devices.js'
import { hostTensor } from '../../src/runtime/host-tensor.js'
import { compile, type DeviceTensor } from '../../src/runtime/program.js'
import { emulatorDevice } from '../devices.js'

const keys = 389_120, dim = 128, tail = 2048
const queries = [0, 1].map(q => Array.from({ length: dim }, (_, d) => (d * (q + 3)) % 4 - 1))

/** What is written: whole numbers up to 100 in the first and last row, at the first eight keys and in the tail; 0 elsewhere. */
const element = (rows: number, row: number, key: number, d: number): number =>
  (row === 0 || row === rows - 1) && (key < 8 || key >= keys - tail) ? 1 + (row * 31 + key * 7 + d * 3 + (key * d) % 11) % 100 : 0

const bf16 = (x: number): number => new Uint32Array(Float32Array.of(x).buffer)[0]! >>> 16
const positions = [0, 7, keys - tail, keys - 1]

const memory = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024
/** Forgets the greatest resident size so far. */
const forgetPeak = (): void => writeFileSync('/proc/self/clear_refs', '5')

describe.skipIf(emulatorDevice.missing !== undefined)('arrays beyond 32 bits', () => {
  let opened: OpenedDevice
  beforeAll(async () => { opened = await openDevice('emulator') })
  afterAll(() => opened[Symbol.dispose]())

  const table = (rows: number): DeviceTensor => {
    const { device } = opened
    const buffer = device.alloc(rows * keys * dim * 2, 'table')
    const write = (row: number, from: number, count: number): void => {
      const data = Uint16Array.from({ length: count * dim }, (_, i) => bf16(element(rows, row, from + Math.floor(i / dim), i % dim)))
      device.upload(device.wrap(buffer.pointer + BigInt((row * keys + from) * dim * 2), data.byteLength), data)
    }
    for (const row of [0, rows - 1]) { write(row, 0, 8); write(row, keys - tail, tail) }
    return { dtype: 'bf16', axes: ['row', 'key', 'dim'], shape: [rows, keys, dim], buffer }
  }
  /** Looks rows up at the far ends, and streams over the last part: sums, products with two queries, the best of them. */
  const program = (rows: SizeLike, key: SizeLike) => {
    const k = tensor('k', 'bf16', { row: rows, key, dim }), at = tensor('at', 'i32', { row: rows, pick: positions.length })
    const last = slice(k, 'key', { from: minus(key, tail), as: 'last' })
    const scores = contract(tensor('q', 'bf16', { query: queries.length, dim }), last, 'dim')
    return { found: gather(k, 'key', at), sums: sum(last, 'dim'), scores, best: topK(sum(scores, 'query'), 'last', { k: 5, as: 'kept', order: 'score' }) }
  }
  const inputs = (rows: number, k: DeviceTensor) => ({
    k, at: hostTensor('i32', { row: rows, pick: positions.length }, Int32Array.from({ length: rows * positions.length }, (_, i) => positions[i % positions.length]!)),
    q: hostTensor('bf16', { query: queries.length, dim }, Uint16Array.from(queries.flat(), bf16)),
  })
  const expected = (rows: number) => {
    const row = Array.from({ length: rows }, (_, r) => r), place = Array.from({ length: tail }, (_, i) => i), along = Array.from({ length: dim }, (_, d) => d)
    const product = (r: number, i: number, factor: (d: number) => number): number => (r === 0 || r === rows - 1 ? along.reduce((n, d) => n + factor(d) * element(rows, r, keys - tail + i, d), 0) : 0)
    return {
      found: row.flatMap(r => positions.flatMap(p => along.map(d => bf16(element(rows, r, p, d))))),
      sums: row.flatMap(r => place.map(i => product(r, i, () => 1))),
      scores: queries.flatMap(q => row.flatMap(r => place.map(i => product(r, i, d => q[d]!) + 0))),
      best: row.flatMap(r => place.map(i => [product(r, i, d => queries[0]![d]! + queries[1]![d]!), i] as const).sort(([a, i], [b, j]) => b - a || i - j).slice(0, 5).map(([, i]) => i)),
    }
  }

  test.each([
    [32, 'fixed', 32, keys], [64, 'fixed', 64, keys],
    [32, 'symbolic', size('row'), size('key')], [64, 'symbolic', size('row'), size('key')],
  ] as const)('%i rows, %s sizes: what lies at the far ends', { timeout: 120_000 }, async (rows, _, row, key) => {
    using p = await compile(program(row, key), { device: opened })
    const k = table(rows), given = inputs(rows, k)
    await p.prepare({ row: rows, key: keys })
    const wanted = expected(rows)
    forgetPeak()
    const before = memory('VmRSS')
    const result = await p.run(given)
    const peak = memory('VmHWM')
    k.buffer.free()
    expect([...result.found.data]).toEqual(wanted.found)
    expect([...result.sums.data]).toEqual(wanted.sums)
    expect(p.outputs.scores.axes.map(a => a.name)).toEqual(['query', 'row', 'last'])
    expect([...result.scores.data].map(x => x + 0)).toEqual(wanted.scores)
    expect([...result.best.data]).toEqual(wanted.best)
    console.log(`${rows} rows: ${(rows * keys * dim * 2 / 1e9).toFixed(1)} GB of addresses, ${((peak - before) / 1e6).toFixed(0)} MB more resident at the peak, ${(peak / 1e6).toFixed(0)} MB in all`)
    expect(peak - before).toBeLessThan(100e6)
  })

  test('with 32 bits in their places the same text is caught', { timeout: 120_000 }, async () => {
    const { compiler } = opened
    const narrow: OpenedDevice = { ...opened, device: opened.device, emulator: opened.emulator, compiler: { ...compiler, compile: r => compiler.compile({ ...r, text: r.text.replaceAll('i64(', 'i32(') }) }, [Symbol.dispose]: () => {} }
    using p = await compile(program(64, size('key')), { device: narrow })
    await expect(p.run(inputs(64, table(64)))).rejects.toThrow(/signed integer overflow|reads index -\d+/)
  })
})
