/** topK, gather and the operations that only move elements. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { argmax, add, concat, gather, iota, merge, minus, mul, neg, rename, size, slice, split, sum, tensor, times, topK } from '../../src/dsl/index.js'
import { interpret } from '../../src/runtime/reference.js'
import { arbitraryLength, arbitraryTensor, randomTensor } from '../arbitraries.js'
import { evaluate, expectClose, f32, numbers, permuted, tensorOf } from '../compare.js'

const row = tensor('x', 'f32', ['a'])
const x = tensor('x', 'f32', ['a', 'b'])

/** By the words of the specification: repeatedly take the best of what is left. */
function naive(scores: readonly number[], k: number): number[] {
  const left = scores.map((_, i) => i), taken: number[] = []
  const beats = (i: number, j: number): boolean => {
    const p = scores[i]!, q = scores[j]!
    if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) && !Number.isNaN(q)
    return p > q
  }
  while (taken.length < k) {
    const best = left.reduce((a, b) => (beats(b, a) ? b : a))
    taken.push(best)
    left.splice(left.indexOf(best), 1)
  }
  return taken
}

describe('topK', () => {
  const withK = arbitraryTensor('f32', ['a'], { max: 65 }).chain(t => fc.tuple(fc.constant(t), fc.oneof(fc.constant(0), fc.constant(t.data.length), fc.nat(t.data.length))))

  test('by score is the naive choice; by position is the same set in order', () => {
    fc.assert(fc.property(withK, ([t, k]) => {
      const byScore = evaluate(topK(row, 'a', { k, as: 'k', order: 'score' }), { x: t })
      expect(byScore).toEqual(naive(numbers(t), k))
      expect(evaluate(topK(row, 'a', { k, as: 'k' }), { x: t })).toEqual([...byScore].sort((a, b) => a - b))
    }))
  })

  test('each row on its own, wherever the axis lies', () => {
    fc.assert(fc.property(arbitraryTensor('bf16', ['a', 'b', 'c'], { max: 8 }), t => {
      const y = tensor('x', 'bf16', ['a', 'b', 'c']), k = Math.ceil(t.shape[1]! / 2)
      const chosen = interpret({ e: topK(y, 'b', { k, as: 'k', order: 'score' }) }, { x: t })['e']!
      expect(chosen.axes).toEqual(['a', 'c', 'k'])
      const rows = numbers(permuted(t, ['a', 'c', 'b'])), n = t.shape[1]!
      const want = Array.from({ length: t.shape[0]! * t.shape[2]! }, (_, r) => naive(rows.slice(r * n, (r + 1) * n), k)).flat()
      expect(numbers(chosen)).toEqual(want)
    }), { numRuns: 60 })
  })

  test('special values and equals', () => {
    const t = f32({ a: 9 }, [0, -0, NaN, Infinity, -Infinity, 5, NaN, 5, 0])
    expect(evaluate(topK(row, 'a', { k: 9, as: 'k', order: 'score' }), { x: t })).toEqual([2, 6, 3, 5, 7, 0, 1, 8, 4])
    expect(evaluate(topK(row, 'a', { k: 4, as: 'k' }), { x: t })).toEqual([2, 3, 5, 6])
    expect(evaluate(topK(row, 'a', { k: 2, as: 'k' }), { x: f32({ a: 4 }, [-0, 0, -0, 0]) })).toEqual([0, 1])
    expect(evaluate(topK(row, 'a', { k: 0, as: 'k' }), { x: t })).toEqual([])
    expect(evaluate(topK(row, 'a', { k: 0, as: 'k' }), { x: f32({ a: 0 }, []) })).toEqual([])
    expect(evaluate(topK(row, 'a', { k: size('a'), as: 'k' }), { x: t })).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
  })

  test('gathered by score they fall; nothing left out is above the last one', () => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a'], { flavour: 'float', min: 1, max: 65 }), t => {
      const k = Math.ceil(t.data.length / 2), chosen = topK(row, 'a', { k, as: 'k', order: 'score' })
      const r = interpret({ chosen, values: gather(row, 'a', chosen) }, { x: t })
      const values = numbers(r['values']!), positions = new Set(numbers(r['chosen']!))
      for (let i = 1; i < values.length; i++) expect(values[i]!).toBeLessThanOrEqual(values[i - 1]!)
      numbers(t).forEach((v, i) => { if (!positions.has(i)) expect(v).toBeLessThanOrEqual(values[k - 1]!) })
    }))
  })

  test('choosing from what was chosen changes nothing', () => {
    fc.assert(fc.property(withK, ([t, k]) => {
      const chosen = topK(row, 'a', { k, as: 'k' })
      if (k === 0) return
      const again = topK(gather(row, 'a', chosen), 'k', { k, as: 'again' })
      expect(evaluate(again, { x: t })).toEqual(Array.from({ length: k }, (_, i) => i))
    }))
  })

  test('k = 1 is argmax; a monotone function chooses alike', () => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a'], { flavour: 'exactSpecial', min: 1, max: 65 }), t => {
      expect(evaluate(topK(row, 'a', { k: 1, as: 'k' }), { x: t })).toEqual(evaluate(argmax(row, 'a'), { x: t }))
      const k = Math.ceil(t.data.length / 3)
      expect(evaluate(topK(mul(row, 2), 'a', { k, as: 'k' }), { x: t })).toEqual(evaluate(topK(row, 'a', { k, as: 'k' }), { x: t }))
    }))
  })
})

describe('gather', () => {
  test('clamps its index', () => {
    const t = f32({ a: 3 }, [10, 20, 30])
    expect(evaluate(gather(row, 'a', tensor('i', 'i32', ['n'])), { x: t, i: tensorOf('i32', { n: 5 }, [-7, 0, 2, 3, 2 ** 31 - 1]) })).toEqual([10, 10, 30, 30, 30])
    expect(evaluate(gather(row, 'a', tensor('i', 'u32', ['n'])), { x: t, i: tensorOf('u32', { n: 2 }, [1, 2 ** 32 - 1]) })).toEqual([20, 30])
  })

  test('aligns the axes that index and values share; rows stay rows', () => {
    const index = tensor('i', 'i32', ['b', 'n'])
    const r = interpret({ e: gather(x, 'a', index) }, { x: f32({ a: 2, b: 2 }, [1, 2, 3, 4]), i: tensorOf('i32', { b: 2, n: 3 }, [0, 1, 0, 1, 1, 0]) })['e']!
    expect(r.axes).toEqual(['n', 'b'])
    expect(numbers(r)).toEqual([1, 4, 3, 4, 1, 2])
  })

  test('with the positions themselves is the same', () => {
    fc.assert(fc.property(arbitraryTensor('f16', ['a', 'b'], { min: 1, max: 33 }), t => {
      const y = tensor('x', 'f16', ['a', 'b'])
      const r = interpret({ e: gather(y, 'a', iota('i', size('a'))) }, { x: t })['e']!
      expectClose({ ...r, axes: ['a', 'b'] }, t)
    }))
  })

  test('nothing to look up is fine where nothing is looked up', () => {
    expect(evaluate(gather(row, 'a', tensor('i', 'i32', ['n'])), { x: f32({ a: 0 }, []), i: tensorOf('i32', { n: 0 }, []) })).toEqual([])
  })
})

describe('slice and concat', () => {
  test('cutting and putting together again is the identity', () => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { max: 33 }), fc.nat(), fc.constantFrom('a' as const, 'b' as const), (t, n, axis) => {
      const at = n % (t.shape[axis === 'a' ? 0 : 1]! + 1)
      const parts = [slice(x, axis, { to: at, as: axis }), slice(x, axis, { from: at, as: axis })]
      expectClose(interpret({ e: concat(parts, axis) }, { x: t })['e']!, t)
    }))
  })

  test('slice is gather with shifted positions', () => {
    fc.assert(fc.property(arbitraryTensor('i32', ['a', 'b'], { min: 3, max: 33 }), t => {
      const y = tensor('x', 'i32', ['a', 'b'])
      const r = interpret({ s: slice(y, 'a', { from: 1, to: minus(size('a'), 1), as: 'c' }), g: gather(y, 'a', add(iota('c', minus(size('a'), 2)), 1)) }, { x: t })
      expectClose(r['s']!, r['g']!)
    }))
  })

  test('parts of concat broadcast, in the order they are given', () => {
    const y = tensor('y', 'f32', ['a'])
    const both = concat([rename(y, 'a', 'b') as never, x], 'b')
    const r = interpret({ e: both }, { x: f32({ a: 2, b: 1 }, [1, 2]), y: f32({ a: 2 }, [8, 9]) })['e']!
    expect(r.axes).toEqual(['b', 'a'])
    expect(numbers(r)).toEqual([8, 8, 9, 9, 1, 2])
  })

  test('of nothing', () => {
    expect(evaluate(slice(row, 'a', { from: 2, to: 2, as: 'c' }), { x: f32({ a: 3 }, [1, 2, 3]) })).toEqual([])
    expect(evaluate(concat([slice(row, 'a', { to: 0, as: 'a' }), row], 'a'), { x: f32({ a: 2 }, [1, 2]) })).toEqual([1, 2])
  })
})

describe('rename, split and merge', () => {
  test('split and merge are inverse', () => {
    fc.assert(fc.property(arbitraryLength({ max: 9 }), arbitraryLength({ max: 9 }), fc.constantFrom(1, 2, 3, 4), fc.nat(), (a, b, by, seed) => {
      const y = tensor('x', 'f32', { a: times(by, size('a')), b: size('b') })
      const t = randomTensor('f32', { a: a * by, b }, 'special', seed)
      const there = split(y, 'a', { hi: size('a'), lo: by })
      const r = interpret({ back: merge(there, ['hi', 'lo'], 'a'), there, again: split(merge(there, ['hi', 'lo'], 'c'), 'c', { hi: size('a'), lo: by }) }, { x: t })
      expectClose(r['back']!, t)
      expectClose(r['again']!, r['there']!)
    }))
  })

  test('the last one is fastest', () => {
    const t = f32({ a: 2, b: 3 }, [0, 1, 2, 3, 4, 5]), fixed = tensor('x', 'f32', { a: 2, b: 3 })
    expect(evaluate(merge(fixed, ['a', 'b'], 'c'), { x: t })).toEqual([0, 1, 2, 3, 4, 5])
    expect(evaluate(merge(fixed, ['b', 'a'], 'c'), { x: t })).toEqual([0, 3, 1, 4, 2, 5])
    const one = tensor('x', 'f32', { a: 6 })
    expect(evaluate(slice(split(one, 'a', { hi: 2, lo: 3 }), 'lo', { from: 1, to: 2, as: 'l' }), { x: f32({ a: 6 }, [0, 1, 2, 3, 4, 5]) })).toEqual([1, 4])
  })

  test('a merged axis stands where the first one named stood', () => {
    const y = tensor('x', 'f32', { a: 2, b: 2, c: 2 })
    const r = interpret({ e: merge(y, ['c', 'a'], 'm') }, { x: f32({ a: 2, b: 2, c: 2 }, [0, 1, 2, 3, 4, 5, 6, 7]) })['e']!
    expect(r.axes).toEqual(['b', 'm'])
    expect(numbers(r)).toEqual([0, 4, 1, 5, 2, 6, 3, 7])
  })

  test('sums see the same elements under any name and any split', () => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { flavour: 'exact', max: 33 }), t => {
      const y = tensor('x', 'f32', { a: t.shape[0]!, b: t.shape[1]! })
      const merged = merge(rename(y, 'a', 'z'), ['b', 'z'], 'm')
      expect(evaluate(sum(merged, 'm'), { x: t })).toEqual(evaluate(neg(sum(neg(y), 'a', 'b')), { x: t }).map(v => v + 0))
    }))
  })
})
