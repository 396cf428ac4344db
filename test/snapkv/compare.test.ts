/** The comparison itself: it accepts every valid choice and tells every wrong one. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compareNumbers, compareSelection, explainMismatch, relative, ulp, ulps } from '../../src/snapkv/compare.js'

const none = (): number => 0
const shape = { heads: 1, past: 6, rows: 5, k: 3 }
const scores = [5, 1, 3, 3, 2, 4]   // t = 3: 0 and 5 are in, 2 or 3 is
const said = (kept: readonly number[], of: readonly number[] = scores, tolerance: (t: number) => number = none): string[] =>
  compareSelection(of, kept, shape, tolerance).mismatches.map(explainMismatch)

describe('selection', () => {
  test('either of the equals, in any order', () => {
    expect(said([0, 2, 5, 6, 7])).toEqual([])
    expect(said([5, 0, 3, 6, 7])).toEqual([])
    expect(compareSelection(scores, [0, 2, 5, 6, 7], shape, none)).toMatchObject({ ok: true, headsWithTies: 1, borderline: 2 })
  })
  test('what is wrong is told', () => {
    expect(said([0, 2, 3, 6, 7])).toEqual(['head 0: position 5 was dropped, but its score 4.000000 is above the threshold 3.000000 (by 1.00, tolerance 0.00)'])
    expect(said([0, 4, 5, 6, 7])).toEqual(['head 0: position 4 was kept, but its score 2.000000 is below the threshold 3.000000 (by 1.00, tolerance 0.00)'])
    expect(said([0, 0, 5, 6, 7])).toEqual(['head 0: position 0 was kept more than once'])
    expect(said([0, 5, 6, 7, 8])).toEqual(['head 0: 8 is not a position of the prompt', 'head 0: 2 positions were kept, not 3'])
    expect(said([0, 2, 3, 5, 6])).toEqual(['head 0: 4 positions were kept, not 3'])
    expect(said([0, -1, 5, 6, 7])).toEqual(['head 0: -1 is not a position of the prompt', 'head 0: 2 positions were kept, not 3'])
  })
  test('a tolerance forgives what lies near the cut, nothing else', () => {
    const near = [5, 1, 3, 3.00001, 2, 4]
    expect(said([0, 2, 5, 6, 7], near)).toHaveLength(1)   // t = 3.00001 and position 2 is below it
    expect(said([0, 2, 5, 6, 7], near, relative(1e-5))).toEqual([])
    expect(said([0, 4, 5, 6, 7], near, relative(1e-5))).toHaveLength(1)
  })
  test('NaN is the largest', () => {
    expect(said([1, 0, 5, 6, 7], [5, NaN, 3, 3, 2, 4])).toEqual([])
    expect(said([0, 5, 2, 6, 7], [5, NaN, 3, 3, 2, 4])).not.toEqual([])
  })
  test('any swap of an accepted choice across the cut is refused', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 2, maxLength: 30 }), fc.nat(), (of, n) => {
      const k = 1 + (n % (of.length - 1)), past = of.length
      const order = [...of.keys()].sort((a, b) => of[b]! - of[a]! || a - b), kept = order.slice(0, k)
      const check = (rows: readonly number[]): boolean => compareSelection(of, rows, { heads: 1, past, rows: k, k }, none).ok
      expect(check(kept)).toBe(true)
      for (const [i, inside] of kept.entries()) {
        for (const outside of order.slice(k)) expect(check(kept.map((j, n) => (n === i ? outside : j)))).toBe(of[inside] === of[outside])
      }
    }))
  })
})

describe('numbers', () => {
  test('worst, beyond and allowed', () => {
    expect(compareNumbers([1, 2, 3], [1, 2, 3], none)).toMatchObject({ ok: true, worst: 0, different: 0 })
    expect(compareNumbers([1, 2.5, 3], [1, 2, 3], () => 1)).toMatchObject({ ok: true, worst: 0.5, at: 1, different: 1, beyond: 0 })
    expect(compareNumbers([1, 4, 3], [1, 2, 3], () => 1)).toMatchObject({ ok: false, worst: 2, beyond: 1 })
    expect(compareNumbers([1, 4, 3], [1, 2, 3], () => 1, 0.34).ok).toBe(true)
    expect(compareNumbers([NaN, 1], [NaN, 1], none).ok).toBe(true)
    expect(compareNumbers([NaN, 1], [0, 1], () => 1)).toMatchObject({ ok: false, worst: Infinity })
    expect(compareNumbers([1, 2], [1, 2, 3], () => 1).ok).toBe(false)
  })
  test('units in the last place', () => {
    expect(ulp('bf16', 1)).toBe(2 ** -7)
    expect(ulp('bf16', 0.999)).toBe(2 ** -8)
    expect(ulp('f16', 0)).toBe(2 ** -24)
    expect(ulp('f16', 2 ** -14)).toBe(2 ** -24)
    expect(ulp('f32', -3)).toBe(2 ** -22)
    expect(ulps('f32', 4)(1)).toBe(2 ** -21)
  })
})
