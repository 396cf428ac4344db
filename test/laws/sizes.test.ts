/** Sizes are affine forms in a canonical text: equal means provably equal. And how they are bound. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { iota, minus, plus, printSize, size, slice, tensor, times, topK, map, type Size } from '../../src/dsl/index.js'
import { bindSizes, symbolsOf } from '../../src/dsl/bind.js'
import { equalSizes, evaluateSize, provablyAtLeast, provablyLess, substituteSize } from '../../src/dsl/size.js'

const symbols = ['a', 'b', 'key'] as const
const arbitrarySize: fc.Arbitrary<Size> = fc.tuple(fc.integer({ min: -99, max: 99 }), ...symbols.map(() => fc.integer({ min: -5, max: 5 })))
  .map(([c, ...ks]) => ks.reduce<Size>((s, k, i) => plus(s, times(k, size(symbols[i]!))), size(c)))
const arbitraryValues = fc.record({ a: fc.nat(99), b: fc.nat(99), key: fc.nat(99) })

describe('affine sizes', () => {
  test('are a commutative group under plus', () => {
    fc.assert(fc.property(arbitrarySize, arbitrarySize, arbitrarySize, (p, q, r) => {
      expect(plus(p, q)).toEqual(plus(q, p))
      expect(plus(plus(p, q), r)).toEqual(plus(p, plus(q, r)))
      expect(plus(p, 0)).toEqual(p)
      expect(minus(p, p)).toEqual(size(0))
      expect(minus(plus(p, q), q)).toEqual(p)
    }))
  })

  test('times distributes, with 1 and 0', () => {
    fc.assert(fc.property(arbitrarySize, arbitrarySize, fc.integer({ min: -9, max: 9 }), (p, q, n) => {
      expect(times(n, plus(p, q))).toEqual(plus(times(n, p), times(n, q)))
      expect(times(p, n)).toEqual(times(n, p))
      expect(times(1, p)).toEqual(p)
      expect(times(0, p)).toEqual(size(0))
    }))
  })

  test('evaluation goes through all of it', () => {
    fc.assert(fc.property(arbitrarySize, arbitrarySize, arbitraryValues, fc.integer({ min: -9, max: 9 }), (p, q, values, n) => {
      const at = (s: Size): number => evaluateSize(s, values)
      expect(at(plus(p, q))).toBe(at(p) + at(q))
      expect(at(minus(p, q))).toBe(at(p) - at(q))
      expect(at(times(n, p)) + 0).toBe(n * at(p) + 0)
      expect(at(substituteSize(p, { a: values.a }))).toBe(at(p))
    }))
  })

  test('equal text is equal for all values; what is proven holds', () => {
    fc.assert(fc.property(arbitrarySize, arbitrarySize, arbitraryValues, (p, q, values) => {
      const at = (s: Size): number => evaluateSize(s, values)
      expect(equalSizes(p, q)).toBe(JSON.stringify(p) === JSON.stringify(q))
      if (provablyAtLeast(p, q)) expect(at(p)).toBeGreaterThanOrEqual(at(q))
      if (provablyLess(p, q)) expect(at(p)).toBeLessThan(at(q))
      if (provablyAtLeast(p, q)) expect(provablyLess(p, q)).toBe(false)
    }))
  })

  test('print', () => {
    expect(printSize(minus(plus(times(4, size('group')), size('key')), 32))).toBe('4*group + key - 32')
    expect(printSize(minus(0, size('key')))).toBe('-key')
    expect(printSize(size(0))).toBe('0')
  })
})

describe('binding', () => {
  test('finds the symbols behind affine sizes', () => {
    fc.assert(fc.property(arbitraryValues, fc.integer({ min: 1, max: 9 }), fc.nat(9), (v, n, c) => {
      const x = tensor('x', 'f32', { p: plus(times(n, size('a')), c), q: plus(size('a'), size('b')) }), y = tensor('y', 'f32', { r: plus(size('key'), times(2, size('b'))) })
      const sizes = bindSizes({ x, y }, { x: { p: n * v.a + c, q: v.a + v.b }, y: { r: v.key + 2 * v.b } })
      expect({ ...sizes }).toEqual(v)
    }))
  })

  test('the symbols of a graph: of axes, of slices, of k, and of sizes in scalar bodies', () => {
    const x = tensor('x', 'f32', ['a'])
    const cut = slice(x, 'a', { from: size('n'), to: plus(size('n'), 3), as: 'c' })
    expect(symbolsOf({ cut })).toEqual(['a', 'n'])
    expect(symbolsOf({ e: topK(x, 'a', { k: size('k'), as: 'c' }) })).toEqual(['a', 'k'])
    expect(symbolsOf({ e: map({ i: iota('z', 3) }, ({ i }, $) => $.add(i, size('m'))) })).toEqual(['m'])
  })

  test('axes and tensors may have the names of what JavaScript objects have', () => {
    const x = tensor('constructor', 'f32', ['toString', 'valueOf'])
    expect({ ...bindSizes({ x }, { constructor: { toString: 2, valueOf: 3 } as never }) }).toEqual({ toString: 2, valueOf: 3 })
    expect(() => bindSizes({ x }, {})).toThrow("the input 'constructor' is missing")
    expect(() => bindSizes({ x }, { constructor: { toString: 2 } as never })).toThrow("has no axis 'valueOf'")
  })
})
