/** Monoids: identity on both sides, associativity, commutativity unless ordered; exactly, on exact data. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { concat, max, mean, monoid, reduce, rename, slice, tensor, type Dtype } from '../../src/dsl/index.js'
import { allMonoid, anyMonoid, argmaxMonoid, expSumMonoid, maxMonoid, meanMonoid, minMonoid, printMonoid, sumMonoid, type Monoid } from '../../src/dsl/monoid.js'
import { interpret } from '../../src/runtime/reference.js'
import { compile } from '../../src/runtime/reference/scalars.js'
import { affineMonoid, arbitraryTensor } from '../arbitraries.js'
import { evaluate, expectClose, f32, tensorOf } from '../compare.js'

/** A monoid's functions on numbers. */
function functionsOf(m: Monoid) {
  const options = { sizes: {}, wide: false }, names = m.components.map(c => c.name)
  const run = (p: ReturnType<typeof compile>, values: readonly number[]): number[] => {
    p.registers.set(values)
    p.run()
    return p.results.map(r => p.registers[r]!)
  }
  const identity = compile(m.components.map(c => c.identity), [], options), lift = compile(m.components.map(c => c.lift), ['x', 'at'], options)
  const combine = compile(m.components.map(c => c.combine), [...names.map(n => `a.${n}`), ...names.map(n => `b.${n}`)], options)
  return {
    identity: (): number[] => run(identity, []),
    lift: (x: number, at: number): number[] => run(lift, [x, at]),
    combine: (a: readonly number[], b: readonly number[]): number[] => run(combine, [...a, ...b]),
  }
}

const small = fc.integer({ min: -9, max: 9 }), whole = fc.oneof(fc.integer(), small), bit = fc.nat(1), natural = fc.nat(2 ** 32 - 1)
const special = fc.oneof(small, fc.constantFrom(NaN, Infinity, -Infinity, -0))
const cases: readonly (readonly [string, Monoid, fc.Arbitrary<number>])[] = [
  ['sum f32', sumMonoid('f32'), special], ['sum i32', sumMonoid('i32'), whole], ['sum u32', sumMonoid('u32'), natural],
  ['max f32', maxMonoid('f32'), special], ['max i32', maxMonoid('i32'), whole], ['max u32', maxMonoid('u32'), natural],
  ['min f32', minMonoid('f32'), special], ['min i32', minMonoid('i32'), whole], ['min u32', minMonoid('u32'), natural],
  ['all', allMonoid, bit], ['any', anyMonoid, bit], ['mean', meanMonoid, small],
  ['argmax f32', argmaxMonoid('f32'), special], ['argmax i32', argmaxMonoid('i32'), whole], ['argmax u32', argmaxMonoid('u32'), natural],
  ['affine', affineMonoid, whole],
  // Equal or infinite arguments: there e^(x − m) is 0 or 1, so nothing is rounded. (With a NaN m is NaN and l has no meaning.)
  ['expSum', expSumMonoid('sum'), fc.constantFrom(3, Infinity, -Infinity)],
]
const same = (a: readonly number[], b: readonly number[]): void => expect(a.map(v => v + 0)).toEqual(b.map(v => v + 0))

describe.each(cases)('%s', (_, m, element) => {
  const f = functionsOf(m)
  const lifted = fc.tuple(fc.tuple(element, element, element), fc.uniqueArray(fc.nat(99), { minLength: 3, maxLength: 3 }))
    .map(([xs, at]) => xs.map((x, i) => f.lift(x, [...at].sort((p, q) => p - q)[i]!)))

  test('the identity is neutral on both sides', () => {
    fc.assert(fc.property(lifted, ([a]) => {
      same(f.combine(f.identity(), a!), a!)
      same(f.combine(a!, f.identity()), a!)
    }))
    same(f.combine(f.identity(), f.identity()), f.identity())
  })

  test('is associative, and commutative unless ordered', () => {
    fc.assert(fc.property(lifted, ([a, b, c]) => {
      same(f.combine(f.combine(a!, b!), c!), f.combine(a!, f.combine(b!, c!)))
      if (!m.ordered) same(f.combine(a!, b!), f.combine(b!, a!))
    }))
  })
})

test('folding in two parts and combining them is folding the whole', () => {
  const x = tensor('x', 'f32', ['a'])
  fc.assert(fc.property(arbitraryTensor('f32', ['a'], { flavour: 'exactSpecial', min: 2, max: 33 }), fc.nat(), (t, n) => {
    const at = 1 + n % (t.data.length - 1)
    const left = slice(x, 'a', { to: at, as: 'p' }), right = slice(x, 'a', { from: at, as: 'q' })
    const r = interpret({ whole: max(x, 'a'), parts: max(concat([rename(left, 'p', 'a'), rename(right, 'q', 'a')], 'a'), 'a') }, { x: t })
    expectClose(r['parts']!, r['whole']!)
  }))
})

describe("a user's monoid", () => {
  const secondMoment = monoid('secondMoment', {
    takes: 'f32', components: { total: 'f32', squares: 'f32' }, identity: { total: 0, squares: 0 },
    lift: (x, _, $) => ({ total: x, squares: $.mul(x, x) }),
    combine: (a, b, $) => ({ total: $.add(a.total, b.total), squares: $.add(a.squares, b.squares) }),
    result: (c, count, $) => $.sub($.div(c.squares, count), $.mul($.div(c.total, count), $.div(c.total, count))),
  })

  test('has components, positions and a count', () => {
    expect(evaluate(reduce(tensor('x', 'f32', ['a']), secondMoment, 'a'), { x: f32({ a: 4 }, [1, 2, 3, 4]) })).toEqual([1.25])
  })

  test('an ordered one sees its elements in order', () => {
    // (m, c): m x + c of the maps x ↦ (2e + 1) x + (e + at), first to last.
    const t = tensorOf('i32', { a: 3 }, [1, 0, 2])
    const [m, c] = [[3, 1], [1, 1], [5, 4]].reduce(([m1, c1], [m2, c2]) => [m1! * m2!, c1! * m2! + c2!])
    expect(evaluate(reduce(tensor('x', 'i32', ['a']), affineMonoid, 'a'), { x: t })).toEqual([m! + c!])
    expect(evaluate(reduce(tensor('x', 'i32', ['a']), affineMonoid, 'a'), { x: tensorOf('i32', { a: 0 }, []) })).toEqual([1])
  })

  test('what decides its meaning is in its text', () => {
    const make = (emptyAllowed: boolean): Monoid => monoid('m', { takes: 'f32', components: { t: 'f32' }, identity: { t: 0 }, lift: x => ({ t: x }), combine: (a, b, $) => ({ t: $.add(a.t, b.t) }), result: c => c.t, emptyAllowed })
    expect(printMonoid(make(true))).not.toBe(printMonoid(make(false)))
    const x = tensor('x', 'f32', ['a'])
    expect(reduce(x, make(true), 'a')).not.toBe(reduce(x, make(false), 'a'))
  })
})

test.each<[Dtype, number]>([['f16', 65504], ['bf16', 2 ** 100]])('mean of %s is taken in f32', (dtype, big) => {
  const x = tensor('x', dtype as 'f16', ['a'])
  const value = evaluate(x, { x: tensorOf(dtype, { a: 2 }, [big, big]) })[0]!
  expect(evaluate(mean(x, 'a'), { x: tensorOf(dtype, { a: 2 }, [big, big]) })).toEqual([value])
})

test.each(cases.filter(([, m]) => m.rescale !== undefined))('%s: rescale says what combine says', (_, m, element) => {
  const f = functionsOf(m), { shift, factor } = m.rescale!, at = m.components.findIndex(c => c.name === shift)
  const change = compile([factor], ['from', 'to'], { sizes: {}, wide: false })
  const by = (from: number, to: number): number => { change.registers.set([from, to]); change.run(); return change.registers[change.results[0]!]! }
  fc.assert(fc.property(element, element, (x, y) => {
    const a = f.lift(x, 0), b = f.lift(y, 1), both = f.combine(a, b), to = both[at]!
    same(both, both.map((_, i) => (i === at ? to : a[i]! * by(a[at]!, to) + b[i]! * by(b[at]!, to))))
  }))
})
