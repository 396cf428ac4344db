/** The shipped data of a real model, and what public implementations computed on it. */
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { newArray, reader, writer } from '../../src/dsl/dtype.js'
import { readSafetensors, type TensorFile, type TensorRecord } from '../../src/runtime/safetensors.js'
import type { HostTensor } from '../../src/runtime/host-tensor.js'
import { compareNumbers, compareSelection, explainMismatch, relative, ulps } from '../../src/snapkv/compare.js'
import { decode16, type OracleInput } from '../../src/snapkv/oracle.js'
import { promptOf, type Prompt, type PromptTensor } from '../../src/snapkv/prompt.js'
import type { FloatDtype } from '../../src/snapkv/policy.js'

const read = (name: string): TensorFile => readSafetensors(fileURLToPath(new URL(`../data/${name}`, import.meta.url)))

export const data = read('jargon-4k-layer23.safetensors')
export const expected = read('expected/jargon-4k-layer23.safetensors')

export interface Config {
  readonly key: string
  readonly window: number
  readonly capacity: number
  readonly kernel: number
  readonly pool: 'max' | 'avg'
  readonly dtype: 'f32' | 'bf16'
}

/** The official code's runs. */
export const official: readonly Config[] = Object.entries(
  JSON.parse(expected.metadata.get('configs')!) as Record<string, { window: number; capacity: number; kernel: number; pooling: string; dtype: string }>,
).filter(([key]) => key.startsWith('official.')).map(([key, c]) => ({
  key, window: c.window, capacity: c.capacity, kernel: c.kernel, pool: c.pooling === 'maxpool' ? 'max' : 'avg', dtype: c.dtype === 'float32' ? 'f32' : 'bf16',
}))

export function record(file: TensorFile, name: string): TensorRecord {
  const t = file.tensors.get(name)
  if (t === undefined) throw new Error(`no tensor ${name}`)
  return t
}

/** The numbers of a record. */
export function numbers(t: TensorRecord): Float64Array {
  if (t.dtype === 'bf16' || t.dtype === 'f16') return decode16(t.dtype, t.data)
  if (t.dtype === 'i64') throw new Error('i64')
  return Float64Array.from(t.data)
}

const inDtype = (t: TensorRecord, dtype: FloatDtype): PromptTensor => {
  const from = t.dtype as FloatDtype
  if (from === dtype) return t
  const out = newArray(dtype, t.data.length)
  for (let i = 0; i < out.length; i++) writer[dtype](out, i, reader[from](t.data as Float32Array, i))
  return { dtype, shape: t.shape, data: out }
}

/** The shipped prompt in a dtype, for a program. */
export const prompt = (dtype: FloatDtype): Prompt =>
  promptOf({ q: inDtype(record(data, 'q'), dtype), k: inDtype(record(data, 'k'), dtype), v: inDtype(record(data, 'v'), dtype) })

/** The shipped prompt for the oracle. */
export function oracleInput(): OracleInput {
  const q = record(data, 'q'), k = record(data, 'k')
  return {
    q: numbers(q), k: numbers(k), queryHeads: q.shape[0]!, kvHeads: k.shape[0]!, queries: q.shape[1]!, length: k.shape[1]!, dim: k.shape[2]!,
  }
}

export interface Result {
  readonly scores: ArrayLike<number>
  readonly positions: ArrayLike<number>
}

/** A result for one of the official runs against the official result: scores, then the choice by the score rule. */
export function checkOfficial(who: string, c: Config, { scores, positions }: Result): void {
  const theirs = numbers(record(expected, `${c.key}.scores`)), past = 3816 - c.window
  const report = c.dtype === 'f32' ? compareNumbers(scores, theirs, relative(1e-5)) : compareNumbers(scores, theirs, ulps('bf16', 1), 0.001)
  const shape = { heads: 9, past, rows: c.capacity, k: c.capacity - c.window }
  const tolerance = c.dtype === 'f32' ? relative(1e-5) : ulps('bf16', 2)
  const choice = compareSelection(theirs, positions, shape, tolerance)
  told(`${who} ${c.key}: ${JSON.stringify(report)}, ties at the cut of ${choice.headsWithTies} heads, ${choice.borderline} borderline positions`)
  expect(report, JSON.stringify(report)).toMatchObject({ ok: true, count: 9 * past })
  expect(choice.mismatches.map(explainMismatch)).toEqual([])
  // The rule holds for their own choice, and for theirs by our scores.
  const own = numbers(record(expected, `${c.key}.positions`))
  expect(compareSelection(theirs, own, shape, () => 0).mismatches.map(explainMismatch)).toEqual([])
  expect(compareSelection(scores, own, shape, tolerance).mismatches.map(explainMismatch)).toEqual([])
}

/** The same for kvpress's scores [3, 3816], whose window rows hold padding. It keeps half of the rows. */
export function checkKvpress(who: string, window: number, poolSize: number, { scores, positions }: Result): void {
  const all = numbers(record(expected, `kvpress.snapkv.w${window}.avg${poolSize}.scores`)), past = 3816 - window
  const theirs = Float64Array.from({ length: 3 * past }, (_, i) => all[Math.floor(i / past) * 3816 + (i % past)]!)
  const report = compareNumbers(scores, theirs, relative(1e-5))
  told(`${who} kvpress w${window} avg${poolSize}: ${JSON.stringify(report)}`)
  expect(report, JSON.stringify(report)).toMatchObject({ ok: true, count: 3 * past })
  const choice = compareSelection(theirs, positions, { heads: 3, past, rows: 1908, k: 1908 - window }, relative(1e-5))
  expect(choice.mismatches.map(explainMismatch)).toEqual([])
}

/** Every kept row [head, kept, dim] is, bit by bit, the row of the cache [kvHead, key, dim] at its position. */
export function checkRows(rows: HostTensor, cache: HostTensor, positions: HostTensor): void {
  const [heads, kept, dim] = rows.shape as [number, number, number], [kvHeads, length] = cache.shape as [number, number]
  let wrong = 0
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < kept; i++) {
      const from = (Math.floor(h / (heads / kvHeads)) * length + positions.data[h * kept + i]!) * dim, to = (h * kept + i) * dim
      for (let d = 0; d < dim; d++) if (rows.data[to + d] !== cache.data[from + d]) wrong += 1
    }
  }
  expect(wrong).toBe(0)
}

const told = (text: string): void => { if (process.env['WEFT_TEST_REPORT'] === '1') console.log(text) }
