/** Random small prompts over all options: the program, run by the interpreter, against the oracle and the rules for ties and order. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { newArray, reader, writer } from '../../src/dsl/dtype.js'
import { hostTensor, type HostTensor } from '../../src/runtime/host-tensor.js'
import { interpret } from '../../src/runtime/reference.js'
import { compareNumbers, compareSelection, explainMismatch, relative, ulps } from '../../src/snapkv/compare.js'
import { oracle } from '../../src/snapkv/oracle.js'
import type { SnapKVOptions } from '../../src/snapkv/options.js'
import type { FloatDtype, PromptShape } from '../../src/snapkv/policy.js'
import { snapkv } from '../../src/snapkv/presets.js'
import { checkRows } from './fixture.js'

const oneOf = <T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values)

const cases = fc.record({
  options: fc.record({
    window: fc.integer({ min: 1, max: 6 }), pool: oneOf<SnapKVOptions['pool']>('max', 'avg', 'none'), poolSize: oneOf(1, 3, 5, 7, 9, 25),
    vote: oneOf<SnapKVOptions['vote']>('sum', 'mean'), group: oneOf<SnapKVOptions['group']>('none', 'mean', 'max', 'sum'),
    rounding: oneOf<SnapKVOptions['rounding']>('f32', 'reference'), order: oneOf<SnapKVOptions['order']>('position', 'score'),
  }),
  dtype: oneOf<FloatDtype>('f32', 'f16', 'bf16'),
  kvHeads: fc.integer({ min: 1, max: 3 }), group: fc.integer({ min: 1, max: 8 }), dim: oneOf(1, 2, 3, 5, 8, 16),
  /** Scored rows, then how many of them are dropped, and queries besides the window. */
  past: fc.integer({ min: 2, max: 20 }), dropped: fc.nat(), more: fc.nat({ max: 2 }),
  /** Few different values make ties. */
  levels: oneOf(2, 5, 1000), seed: fc.integer(),
})

type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never

/** Numbers from −2 to 2, `levels` of them. */
function fill(dtype: FloatDtype, shape: Record<string, number>, levels: number, seed: number): HostTensor<FloatDtype> {
  const t = hostTensor(dtype, shape, newArray(dtype, Object.values(shape).reduce((a, b) => a * b, 1)))
  let state = seed >>> 0
  for (let i = 0; i < t.data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    writer[dtype](t.data, i, Math.round((state >>> 8) / 2 ** 24 * (levels - 1)) / (levels - 1) * 4 - 2)
  }
  return t
}
const numbersOf = (t: HostTensor): Float64Array => Float64Array.from({ length: t.data.length }, (_, i) => reader[t.dtype](t.data, i))

function setUp(c: Case): { shape: PromptShape; options: SnapKVOptions; inputs: Record<'q' | 'k' | 'v', HostTensor<FloatDtype>> } {
  const { dtype, kvHeads, group, dim } = c, { window } = c.options
  const length = c.past + window, selected = c.past - 1 - (c.dropped % (c.past - 1))   // 1 … past − 1
  const shape = { dtype, kvHeads, group, queries: Math.min(length, window + c.more), length, dim }
  return {
    shape, options: { ...c.options, capacity: window + selected },
    inputs: {
      q: fill(dtype, { kvHead: kvHeads, group, query: shape.queries, dim }, c.levels, c.seed),
      k: fill(dtype, { kvHead: kvHeads, key: length, dim }, c.levels, c.seed + 1),
      v: fill(dtype, { kvHead: kvHeads, key: length, dim }, 1000, c.seed + 2),
    },
  }
}

describe('random programs', () => {
  test('agree with the oracle; ties and order follow the rules; rows are the rows of the cache', () => {
    fc.assert(fc.property(cases, c => {
      const { shape, options, inputs } = setUp(c)
      const policy = snapkv(options), program = policy.build(shape)
      const result = interpret(program.outputs, inputs, { sizes: program.sizes })
      const heads = options.group === 'none' ? shape.kvHeads * shape.group : shape.kvHeads
      const past = shape.length - options.window, kept = options.capacity!, k = kept - options.window
      expect(result['scores']!.axes).toEqual(options.group === 'none' ? ['kvHead', 'group', 'past'] : ['kvHead', 'past'])
      const scores = numbersOf(result['scores']!), positions = result['positions']!
      expect(scores.length).toBe(heads * past)

      const format = options.rounding === 'f32' || shape.dtype === 'f32' ? 'exact' : shape.dtype
      const judge = oracle({ ...options, capacity: kept, rounding: format }, {
        q: numbersOf(inputs.q), k: numbersOf(inputs.k), queryHeads: shape.kvHeads * shape.group, kvHeads: shape.kvHeads, queries: shape.queries, length: shape.length, dim: shape.dim,
      })
      expect(judge.heads).toBe(heads)
      const bound = format === 'exact' ? relative(1e-5) : ulps(format, 2)
      const report = compareNumbers(scores, judge.scores, bound)
      expect(report.ok, JSON.stringify(report)).toBe(true)
      const choice = compareSelection(judge.scores, positions.data, { heads, past, rows: kept, k }, bound)
      expect(choice.mismatches.map(explainMismatch)).toEqual([])

      for (let h = 0; h < heads; h++) {
        const own = scores.subarray(h * past, (h + 1) * past)
        const best = Array.from(own.keys()).sort((a, b) => own[b]! - own[a]! || a - b).slice(0, k)
        if (options.order === 'position') best.sort((a, b) => a - b)
        const window = Array.from({ length: options.window }, (_, i) => past + i)
        expect(Array.from(positions.data.subarray(h * kept, (h + 1) * kept))).toEqual([...best, ...window])
      }
      const flat = (t: HostTensor): HostTensor => ({ ...t, shape: [heads, kept, shape.dim] })
      checkRows(flat(result['keys']!), inputs.k, positions)
      checkRows(flat(result['values']!), inputs.v, positions)
    }), { numRuns: 250 })
  })

  test('one program text serves all lengths and budgets', () => {
    const policy = snapkv({ window: 4, capacity: 9 })
    const at = (length: number): PromptShape => ({ dtype: 'f32', kvHeads: 2, group: 2, queries: 4, length, dim: 8 })
    const a = policy.build(at(20)).outputs, b = policy.build({ ...at(33), kvHeads: 1, group: 3 }).outputs
    const c = snapkv({ window: 4, capacity: 12 }).build(at(20)).outputs
    for (const name of ['keys', 'values', 'positions', 'scores'] as const) {
      expect(b[name]).toBe(a[name])
      expect(c[name]).toBe(a[name])
    }
  })
})

describe('the window', () => {
  // Keys of the window draw nearly all attention; each step by hand on dim 1.
  const shape: PromptShape = { dtype: 'f32', kvHeads: 1, group: 1, queries: 2, length: 6, dim: 1 }
  const inputs = {
    q: hostTensor('f32', { kvHead: 1, group: 1, query: 2, dim: 1 }, Float32Array.of(1, 1)),
    k: hostTensor('f32', { kvHead: 1, key: 6, dim: 1 }, Float32Array.of(0, 3, 0, 0, 8, 20)),
    v: hostTensor('f32', { kvHead: 1, key: 6, dim: 1 }, Float32Array.of(0, 1, 2, 3, 4, 5)),
  }
  const scoresWith = (options: Partial<SnapKVOptions>): number[] => {
    const program = snapkv({ window: 2, capacity: 4, ...options }).build(shape)
    return Array.from(interpret(program.outputs, inputs, { sizes: program.sizes })['scores']!.data)
  }
  // Row 0 does not see key 5: its weights are those of keys 0 … 4.
  const row0 = 3 + Math.exp(3) + Math.exp(8), row1 = row0 + Math.exp(20)
  const votes = [0, 3, 0, 0].map(x => Math.exp(x) / row0 + Math.exp(x) / row1)

  test('is masked causally and counts in the denominator', () => {
    scoresWith({ pool: 'none' }).forEach((s, i) => { expect(s).toBeCloseTo(votes[i]!, 9) })
  })
  test('does not leak into pooling', () => {
    const [, big, small] = votes as [number, number, number]
    scoresWith({ pool: 'max', poolSize: 3 }).forEach((s, i) => { expect(s).toBeCloseTo([big, big, big, small][i]!, 9) })
    scoresWith({ pool: 'avg', poolSize: 3 }).forEach((s, i) => { expect(s).toBeCloseTo([big + small, big + 2 * small, big + 2 * small, 2 * small][i]! / 3, 9) })
  })
})
