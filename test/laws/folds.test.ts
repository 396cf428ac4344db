/** Sums, folds and windows: laws, and values computed by hand. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  all, any, argmax, cast, contract, exp, gather, iota, logSumExp, max, maximum, mean, min, minimum, mul, pool, reduce, rename, add, layerNorm, size, slice,
  softmax, sub, sum, tensor, where, lt, merge, constant, ge, and,
} from '../../src/dsl/index.js'
import { expSumMonoid } from '../../src/dsl/monoid.js'
import { interpret } from '../../src/runtime/reference.js'
import { affineMonoid, arbitraryLength, arbitraryTensor, randomTensor, type Flavour } from '../arbitraries.js'
import { evaluate, expectClose, f32, numbers, tensorOf } from '../compare.js'

const x = tensor('x', 'f32', ['a', 'b'])
const row = tensor('x', 'f32', ['a'])
const rowI = tensor('x', 'i32', ['a'])

describe('contract', () => {
  test('is the sum of the products, within the bound for sums', () => {
    fc.assert(fc.property(arbitraryLength({ max: 65 }), arbitraryLength({ max: 5 }), arbitraryLength({ max: 17 }), fc.nat(), (k, m, n, seed) => {
      const l = tensor('l', 'f32', ['m', 'k']), r = tensor('r', 'bf16', ['k', 'n'])
      const inputs = { l: randomTensor('f32', { m, k }, 'float', seed), r: randomTensor('bf16', { k, n }, 'float', seed + 1) }
      const { direct, summed } = interpret({ direct: contract(l, r, 'k'), summed: sum(mul(l, r), 'k') }, inputs)
      expectClose(summed!, direct!, 2 * Math.max(k, 1) * 2 ** -24 * k * 4)
    }))
  })

  test('is exact on whole numbers, over several axes, with shared and absent axes', () => {
    fc.assert(fc.property(fc.nat(), arbitraryLength({ max: 7 }), arbitraryLength({ max: 5 }), (seed, a, b) => {
      const l = tensor('l', 'f16', ['batch', 'a', 'm', 'b']), r = tensor('r', 'f32', ['b', 'batch', 'a', 'n'])
      const inputs = { l: randomTensor('f16', { batch: 2, a, m: 3, b }, 'exact', seed), r: randomTensor('f32', { b, batch: 2, a, n: 4 }, 'exact', seed + 1) }
      const { direct, summed } = interpret({ direct: contract(l, r, 'a', 'b'), summed: sum(mul(l, r), 'a', 'b') }, inputs)
      expectClose(summed!, direct!)
    }))
  })

  test('by hand', () => {
    const l = tensor('l', 'f32', ['m', 'k']), r = tensor('r', 'f32', ['k', 'n'])
    expect(evaluate(contract(l, r, 'k'), { l: f32({ m: 2, k: 3 }, [1, 2, 3, 4, 5, 6]), r: f32({ k: 3, n: 2 }, [7, 8, 9, 10, 11, 12]) })).toEqual([58, 64, 139, 154])
    expect(evaluate(contract(l, r, 'k'), { l: f32({ m: 1, k: 0 }, []), r: f32({ k: 0, n: 2 }, []) })).toEqual([0, 0])
  })

  test('rounds once: what cancels in f32 does not cancel away', () => {
    const l = tensor('l', 'f32', ['k']), r = tensor('r', 'f32', ['k'])
    expect(evaluate(contract(l, r, 'k'), { l: f32({ k: 3 }, [2 ** 24, 1, -(2 ** 24)]), r: f32({ k: 3 }, [1, 1, 1]) })).toEqual([1])
  })

  test('an infinity times zero is NaN, opposite infinities are NaN', () => {
    const l = tensor('l', 'f32', ['k']), r = tensor('r', 'f32', ['k'])
    expect(evaluate(contract(l, r, 'k'), { l: f32({ k: 2 }, [Infinity, 1]), r: f32({ k: 2 }, [0, 1]) })).toEqual([NaN])
    expect(evaluate(contract(l, r, 'k'), { l: f32({ k: 2 }, [Infinity, 1]), r: f32({ k: 2 }, [1, -Infinity]) })).toEqual([NaN])
  })
})

describe('reduce', () => {
  test.each<Flavour>(['exact', 'exactSpecial'])('over two axes is one after the other: sum, max, min on %s data', flavour => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { flavour, min: 1, max: 33 }), t => {
      for (const f of [sum, max, min]) {
        const r = interpret({ both: f(x, 'a', 'b'), ab: f(f(x, 'a'), 'b'), ba: f(f(x, 'b'), 'a'), named: f(x, 'b', 'a') }, { x: t })
        expectClose(r['ab']!, r['both']!)
        expectClose(r['ba']!, r['both']!)
        expectClose(r['named']!, r['both']!)
      }
    }))
  })

  test('counts several axes as one, the last named fastest', () => {
    fc.assert(fc.property(arbitraryTensor('i32', ['a', 'b'], { min: 1, max: 9 }), t => {
      const y = tensor('x', 'i32', { a: size('a'), b: t.shape[1]! })   // merged sizes must be affine
      const r = interpret({
        ab: reduce(y, affineMonoid, 'a', 'b'), merged: reduce(merge(y, ['a', 'b'], 'ab'), affineMonoid, 'ab'),
        ba: reduce(y, affineMonoid, 'b', 'a'), swapped: reduce(merge(y, ['b', 'a'], 'ba'), affineMonoid, 'ba'),
      }, { x: t })
      expectClose(r['ab']!, r['merged']!)
      expectClose(r['ba']!, r['swapped']!)
    }))
  })

  test('sums of empty axes are 0, all is true, any is false', () => {
    const empty = f32({ a: 0, b: 2 }, [])
    expect(evaluate(sum(x, 'a'), { x: empty })).toEqual([0, 0])
    const flags = tensor('x', 'bool', ['a'])
    expect(evaluate(all(flags, 'a'), { x: tensorOf('bool', { a: 0 }, []) })).toEqual([1])
    expect(evaluate(any(flags, 'a'), { x: tensorOf('bool', { a: 0 }, []) })).toEqual([0])
  })

  test('max and min: NaN if there is one, +0 above −0', () => {
    expect(evaluate(max(row, 'a'), { x: f32({ a: 3 }, [1, NaN, 2]) })).toEqual([NaN])
    expect(evaluate(min(row, 'a'), { x: f32({ a: 3 }, [1, NaN, 2]) })).toEqual([NaN])
    expect(evaluate(max(row, 'a'), { x: f32({ a: 2 }, [0, -0]) })).toEqual([0])
    expect(evaluate(min(row, 'a'), { x: f32({ a: 2 }, [0, -0]) })).toEqual([-0])
    expect(evaluate(max(row, 'a'), { x: f32({ a: 2 }, [-Infinity, -Infinity]) })).toEqual([-Infinity])
  })

  test('argmax is the first of topK', () => {
    expect(evaluate(argmax(row, 'a'), { x: f32({ a: 5 }, [1, 7, 7, -Infinity, 0]) })).toEqual([1])
    expect(evaluate(argmax(row, 'a'), { x: f32({ a: 5 }, [1, NaN, Infinity, NaN, 0]) })).toEqual([1])
    expect(evaluate(argmax(row, 'a'), { x: f32({ a: 2 }, [-0, 0]) })).toEqual([0])
    expect(evaluate(argmax(row, 'a'), { x: f32({ a: 2 }, [-Infinity, -Infinity]) })).toEqual([0])
    expect(evaluate(argmax(rowI, 'a'), { x: tensorOf('i32', { a: 3 }, [-(2 ** 31), 5, 5]) })).toEqual([1])
  })

  test('whole numbers wrap around', () => {
    expect(evaluate(sum(rowI, 'a'), { x: tensorOf('i32', { a: 2 }, [2 ** 31 - 1, 1]) })).toEqual([-(2 ** 31)])
    expect(evaluate(sum(tensor('x', 'u32', ['a']), 'a'), { x: tensorOf('u32', { a: 2 }, [2 ** 32 - 1, 3]) })).toEqual([2])
  })

  test('mean divides the exact sum', () => {
    expect(evaluate(mean(row, 'a'), { x: f32({ a: 3 }, [2 ** 24, 1, 1]) })).toEqual([Math.fround((2 ** 24 + 2) / 3)])
    expect(evaluate(mean(x, 'a', 'b'), { x: f32({ a: 2, b: 2 }, [1, 2, 3, 5]) })).toEqual([2.75])
  })
})

describe('exponentials', () => {
  test('the online fold (m, l) is the two-pass one', () => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { flavour: 'special', min: 1, max: 65 }), t => {
      const m = max(x, 'b')
      const shifted = where(and(ge(x, m), ge(m, x)), constant(0), sub(x, m))   // x = m = ±∞ counts e^0
      const r = interpret({ m: reduce(x, expSumMonoid('max'), 'b'), m2: m, l: reduce(x, expSumMonoid('sum'), 'b'), l2: sum(exp(shifted), 'b') }, { x: t })
      expectClose(r['m']!, r['m2']!)
      expectClose(r['l']!, r['l2']!, t.shape[1]! * 2 ** -20)
    }))
  })

  test('rows of softmax sum to 1, and a shift changes nothing', () => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { flavour: 'float', min: 1, max: 65 }), fc.integer({ min: -50, max: 50 }), (t, shift) => {
      const r = interpret({ p: softmax(x, 'b'), total: sum(softmax(x, 'b'), 'b'), shifted: softmax(add(x, shift), 'b') }, { x: t })
      for (const total of numbers(r['total']!)) expect(Math.abs(total - 1)).toBeLessThanOrEqual(t.shape[1]! * 2 ** -23)
      // x + shift is rounded to f32: half a unit in the last place of at most 64.
      expectClose(r['shifted']!, r['p']!, 2 ** -17)
    }))
  })

  test('infinities and NaN', () => {
    expect(evaluate(softmax(row, 'a'), { x: f32({ a: 3 }, [1, -Infinity, 1]) })).toEqual([0.5, 0, 0.5])
    expect(evaluate(softmax(row, 'a'), { x: f32({ a: 2 }, [-Infinity, -Infinity]) })).toEqual([NaN, NaN])
    expect(evaluate(softmax(row, 'a'), { x: f32({ a: 2 }, [Infinity, 0]) })).toEqual([NaN, 0])
    expect(evaluate(softmax(row, 'a'), { x: f32({ a: 2 }, [NaN, 0]) })).toEqual([NaN, NaN])
    expect(evaluate(logSumExp(row, 'a'), { x: f32({ a: 2 }, [-Infinity, -Infinity]) })).toEqual([-Infinity])
    expect(evaluate(logSumExp(row, 'a'), { x: f32({ a: 2 }, [Infinity, 0]) })).toEqual([Infinity])
    expect(evaluate(logSumExp(row, 'a'), { x: f32({ a: 2 }, [1000, 1000]) })).toEqual([Math.fround(1000 + Math.LN2)])
  })

  test('softmax over two axes is softmax over the merged one', () => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { flavour: 'float', min: 1, max: 17 }), t => {
      const y = tensor('x', 'f32', { a: size('a'), b: t.shape[1]! })
      const one = interpret({ e: merge(softmax(y, 'a', 'b'), ['a', 'b'], 'c'), f: softmax(merge(y, ['a', 'b'], 'c'), 'c') }, { x: t })
      expectClose(one['e']!, one['f']!)
    }))
  })

  test('layerNorm by hand', () => {
    const [p, q] = evaluate(layerNorm(row, 'a', { epsilon: 0, weight: tensor('w', 'f32', ['a']), bias: tensor('c', 'f32', ['a']) }), {
      x: f32({ a: 2 }, [1, 3]), w: f32({ a: 2 }, [1, 2]), c: f32({ a: 2 }, [0, 10]),
    })
    expect([p, q]).toEqual([-1, 12])
  })
})

describe('pool', () => {
  test('max of max is a wider max', () => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { max: 65 }), fc.constantFrom(1, 3, 5, 7), fc.constantFrom(1, 3, 9), (t, m, n) => {
      const r = interpret({ twice: pool.max(pool.max(x, 'a', { size: m }), 'a', { size: n }), once: pool.max(x, 'a', { size: m + n - 1 }) }, { x: t })
      expectClose(r['twice']!, r['once']!)
    }))
  })

  test.each(['max', 'sum', 'mean', 'real'] as const)('%s is what gathering the neighbours gives', kind => {
    fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { flavour: 'exactSpecial', min: 1, max: 33 }), fc.constantFrom(1, 3, 5, 9), (t, n) => {
      const position = add(iota('a'), sub(iota('near', n), (n - 1) / 2))
      const inside = and(ge(position, 0), lt(position, size('a')))
      const neighbours = gather(rename(x, 'a', 'from'), 'from', position)   // clamped; padding is put in below
      const filled = where(inside, neighbours, kind === 'max' ? -Infinity : 0)
      const direct = kind === 'max' ? pool.max(x, 'a', { size: n }) : kind === 'sum' ? pool.sum(x, 'a', { size: n }) : pool.mean(x, 'a', { size: n, countPadding: kind === 'mean' })
      const counts = kind === 'real' ? sum(cast(inside, 'f32'), 'near') : n
      const defined = kind === 'max' ? max(filled, 'near') : kind === 'sum' ? sum(filled, 'near') : mul(sum(filled, 'near'), 1)
      const r = interpret({ direct, defined, counts: kind === 'real' ? add(counts as never, 0) : constant(n) }, { x: { ...t, axes: ['a', 'b'] } }, { sizes: { from: t.shape[0]! } })
      const got = numbers(r['direct']!), sums = numbers(r['defined']!)
      const b = t.shape[1]!
      const want = kind === 'max' || kind === 'sum' ? sums : sums.map((s, i) => Math.fround(s / (kind === 'mean' ? n : numbers(r['counts']!)[Math.floor(i / b)]!)))
      got.forEach((g, i) => { if (!(g === want[i] || (Number.isNaN(g) && Number.isNaN(want[i])))) expect.fail(`${i}: ${g} is not ${want[i]}`) })
    }), { numRuns: 60 })
  })

  test("PyTorch's avg_pool1d(kernel_size=3, stride=1, padding=1), both counts", () => {
    const t = f32({ a: 4 }, [3, 6, 9, 30])
    expect(evaluate(pool.mean(row, 'a', { size: 3 }), { x: t })).toEqual([3, 6, 15, 13])
    expect(evaluate(pool.mean(row, 'a', { size: 3, countPadding: false }), { x: t })).toEqual([4.5, 6, 15, 19.5])
    expect(evaluate(pool.max(row, 'a', { size: 3 }), { x: f32({ a: 4 }, [-3, -6, -9, -30]) })).toEqual([-3, -3, -6, -9])
    expect(evaluate(pool.sum(row, 'a', { size: 3 }), { x: t })).toEqual([9, 18, 45, 39])
    expect(evaluate(pool.max(row, 'a', { size: 3 }), { x: f32({ a: 5 }, [1, 2, NaN, 3, -Infinity]) })).toEqual([2, NaN, NaN, NaN, 3])
    expect(evaluate(pool.max(row, 'a', { size: 9 }), { x: f32({ a: 2 }, [1, 2]) })).toEqual([2, 2])
  })

  test('stops at the end of a slice', () => {
    const cut = slice(row, 'a', { from: 1, to: 3, as: 'cut' })
    expect(evaluate(pool.sum(cut, 'cut', { size: 3 }), { x: f32({ a: 4 }, [100, 1, 2, 1000]) })).toEqual([3, 3])
  })
})

test('minimum and maximum of two are min and max of a pair', () => {
  fc.assert(fc.property(arbitraryTensor('f32', ['a', 'b'], { flavour: 'special', max: 33 }), t => {
    const y = tensor('x', 'f32', { a: size('a'), b: 2 })
    const pair = { dtype: t.dtype, axes: ['a', 'b'], shape: [t.data.length >> 1, 2], data: t.data.slice(0, t.data.length & ~1) }
    const first = sum(slice(y, 'b', { to: 1, as: 'c' }), 'c'), second = sum(slice(y, 'b', { from: 1, as: 'c' }), 'c')
    const r = interpret({ p: maximum(first, second), q: max(y, 'b'), s: minimum(first, second), t: min(y, 'b') }, { x: pair })
    expectClose(r['p']!, r['q']!)
    expectClose(r['s']!, r['t']!)
  }))
})
