/** From files' axes to programs' and back; the bypass; batches. */
import { describe, expect, test } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import { interpret } from '../../src/runtime/reference.js'
import type { HostTensor } from '../../src/runtime/host-tensor.js'
import { snapkv } from '../../src/snapkv/presets.js'
import { compressed, passUnchanged, promptOf, type PromptTensor, type PromptTensors } from '../../src/snapkv/prompt.js'

const filled = (dtype: string, ...shape: number[]): PromptTensor => {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1))
  for (let i = 0; i < data.length; i++) data[i] = Math.sin(i * i + shape.length) * 2
  return { dtype, shape, data }
}
const tensors = (changes: Partial<PromptTensors> = {}): PromptTensors =>
  ({ q: filled('f32', 4, 5, 8), k: filled('f32', 2, 12, 8), v: filled('f32', 2, 12, 8), ...changes })
const outputs = (r: Record<string, HostTensor>): Record<'keys' | 'values' | 'positions' | 'scores', HostTensor> => r as never

describe('refused', () => {
  test.each<[string, PromptTensors, string]>([
    ['heads that do not divide', tensors({ q: filled('f32', 5, 5, 8) }), '5 query heads do not divide evenly among 2 KV heads'],
    ['k and v of different length', tensors({ v: filled('f32', 2, 11, 8) }), 'k is f32[2, 12, 8], but v is f32[2, 11, 8]'],
    ['another dim', tensors({ q: filled('f32', 4, 5, 4) }), 'q has dim 4, but k has dim 8'],
    ['another dtype', tensors({ q: filled('bf16', 4, 5, 8) }), 'q, k and v are bf16, f32 and f32'],
    ['integers', tensors({ q: filled('i32', 4, 5, 8) }), 'q has dtype i32'],
    ['two axes', tensors({ q: filled('f32', 4, 8) }), 'q is f32[4, 8]'],
    ['a batch of one tensor only', tensors({ q: filled('f32', 1, 4, 5, 8) }), 'q is f32[1, 4, 5, 8], but k is f32[2, 12, 8]'],
    ['more queries than tokens', tensors({ q: filled('f32', 4, 13, 8) }), 'q has 13 rows, but the prompt only 12 tokens'],
    ['no rows', tensors({ k: filled('f32', 2, 0, 8), v: filled('f32', 2, 0, 8) }), 'k is f32[2, 0, 8], which has no elements'],
    ['missing elements', tensors({ k: { dtype: 'f32', shape: [2, 12, 8], data: new Float32Array(5) } }), 'k is f32[2, 12, 8], but has 5 elements'],
  ])('%s', (_, given, reason) => {
    let error: unknown
    try { promptOf(given) } catch (e) { error = e }
    expect(error).toBeInstanceOf(WeftError)
    expect(error).toMatchObject({ code: 'shape', reason })
    expect((error as WeftError).fix).toBeTruthy()
  })
})

describe('bypass', () => {
  test.each([12, 13, 1000])('capacity %i of 12 rows: unchanged, positions 0 … 11, no scores', capacity => {
    const prompt = promptOf(tensors()), policy = snapkv({ window: 3, capacity })
    expect(policy.budget(prompt.shape)).toMatchObject({ bypass: true, kept: 12 })
    const result = passUnchanged(policy, prompt)
    expect(result.keys).toMatchObject({ axes: ['head', 'kept', 'dim'], shape: [2, 12, 8] })
    expect(result.keys.data).toBe(prompt.inputs.k.data)
    expect(result.values.data).toBe(prompt.inputs.v.data)
    expect(Array.from(result.positions.data)).toEqual([...Array(24).keys()].map(i => i % 12))
    expect(result.positions).toMatchObject({ axes: ['head', 'kept'], shape: [2, 12], dtype: 'i32' })
    expect(result).not.toHaveProperty('scores')
    expect(result.length).toBe(12)
  })
  test('per query head, the head axis is still the query head', () => {
    const prompt = promptOf(tensors()), policy = snapkv({ window: 3, capacity: 12, group: 'none' })
    const result = passUnchanged(policy, prompt), each = 12 * 8
    expect(result.keys.shape).toEqual([4, 12, 8])
    expect(result.positions.shape).toEqual([4, 12])
    for (let h = 0; h < 4; h++) {
      const kv = Math.floor(h / 2)
      expect(result.values.data.slice(h * each, (h + 1) * each)).toEqual(prompt.inputs.v.data.slice(kv * each, (kv + 1) * each))
    }
  })
})

test('a batch is more KV heads, and comes back as a batch', () => {
  const q = filled('f32', 2, 4, 5, 8), k = filled('f32', 2, 2, 12, 8), v = filled('f32', 2, 2, 12, 8)
  const policy = snapkv({ window: 3, capacity: 7, poolSize: 3 })
  const run = (t: PromptTensors): ReturnType<typeof compressed> => {
    const prompt = promptOf(t), program = policy.build(prompt.shape)
    return compressed(prompt, outputs(interpret(program.outputs, prompt.inputs, { sizes: program.sizes })))
  }
  const all = run({ q, k, v })
  expect(all.keys).toMatchObject({ axes: ['batch', 'head', 'kept', 'dim'], shape: [2, 2, 7, 8] })
  expect(all.scores).toMatchObject({ axes: ['batch', 'head', 'past'], shape: [2, 2, 9] })
  expect(all.length).toBe(12)
  for (let b = 0; b < 2; b++) {
    const one = (t: PromptTensor): PromptTensor => {
      const n = t.data.length / 2
      return { dtype: t.dtype, shape: t.shape.slice(1), data: (t.data as Float32Array).slice(b * n, (b + 1) * n) }
    }
    const alone = run({ q: one(q), k: one(k), v: one(v) })
    for (const name of ['keys', 'values', 'positions', 'scores'] as const) {
      const n = alone[name]!.data.length
      expect(all[name]!.data.slice(b * n, (b + 1) * n)).toEqual(alone[name]!.data)
    }
  }
})
