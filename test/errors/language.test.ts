/** Every complaint of the language: what happened, where in the user's file, what to do about it. */
import { describe, expect, test } from 'vitest'
import {
  add, all, and, argmax, cast, concat, constant, contract, div, eq, exp, gather, iota, label, layerNorm, logSumExp, map, max, mean, merge, minus, mod, monoid, mul, not, plus, pool, reduce,
  printGraph, rename, size, slice, softmax, split, sum, tensor, times, topK, where, WeftError, type Expr,
} from '../../src/dsl/index.js'
import { hostTensor, type HostTensor } from '../../src/runtime/host-tensor.js'
import { interpret, type InterpretOptions } from '../../src/runtime/reference.js'

/** The message, with this file's place in it as `here`; any other place would show. */
function complaint(f: () => unknown): string {
  try { f() } catch (e) {
    if (!(e instanceof WeftError)) throw e
    return `[${e.code}] ${e.message.replace(/\/\S*\/test\/errors\/language\.test\.ts:\d+:\d+/, 'here')}`
  }
  throw new Error('no complaint')
}
/** For calls that TypeScript refuses. */
const any = (x: unknown): never => x as never

const x = tensor('x', 'f32', ['a', 'b']), i = tensor('i', 'i32', ['n']), flags = tensor('flags', 'bool', ['a'])
const fixed = tensor('fixed', 'f32', { a: 4, b: 3 })

describe('names and axes', () => {
  test('names', () => {
    expect(complaint(() => tensor('2x', 'f32', ['a']))).toMatchInlineSnapshot(`
      "[name] "2x" cannot name a tensor
        at here
        fix: use a letter, then up to 62 letters, digits and underscores"
    `)
    expect(complaint(() => tensor('y', 'f32', ['no way']))).toMatchInlineSnapshot(`
      "[name] "no way" cannot name an axis
        at here
        fix: use a letter, then up to 62 letters, digits and underscores"
    `)
    expect(complaint(() => map({ _v: x }, v => v._v))).toMatchInlineSnapshot(`
      "[name] "_v" cannot name an argument of map
        at here
        fix: use a letter, then up to 62 letters, digits and underscores"
    `)
    expect(complaint(() => interpret({ e: add(tensor('x', 'f32', ['a']), sum(tensor('x', 'f32', ['b']), 'b')) }, {}))).toMatchInlineSnapshot(`
      "[name] two different tensors are named 'x'
        at here
        fix: give one of them another name"
    `)
  })
  test('an axis that is not there', () => {
    expect(complaint(() => sum(x, any('c')))).toMatchInlineSnapshot(`
      "[axis] sum: no axis 'c' in f32[a, b]
        at here
        fix: its axes are 'a', 'b'"
    `)
    expect(complaint(() => sum(constant(1), any('c')))).toMatchInlineSnapshot(`
      "[axis] sum: no axis 'c' in f32[]
        at here
        fix: it has no axes at all"
    `)
    expect(complaint(() => contract(x, flags as never, any('a')))).toMatchInlineSnapshot(`
      "[dtype] contract: an operand has dtype bool
        at here
        fix: cast it: cast(x, 'f32')"
    `)
    expect(complaint(() => contract(x, tensor('y', 'f32', ['b']), any('a')))).toMatchInlineSnapshot(`
      "[axis] contract: no axis 'a' in f32[b]
        at here
        fix: its axes are 'b'"
    `)
    expect(complaint(() => gather(x, any('c'), i))).toMatchInlineSnapshot(`
      "[axis] gather: no axis 'c' in f32[a, b]
        at here
        fix: its axes are 'a', 'b'"
    `)
    expect(complaint(() => softmax(x, any('c')))).toMatchInlineSnapshot(`
      "[axis] softmax: no axis 'c' in f32[a, b]
        at here
        fix: its axes are 'a', 'b'"
    `)
  })
  test('no axis at all', () => {
    expect(complaint(() => softmax(x))).toMatchInlineSnapshot(`
      "[axis] softmax: no axis
        at here
        fix: name at least one of 'a', 'b'"
    `)
    expect(complaint(() => layerNorm(x, any('c')))).toMatchInlineSnapshot(`
      "[axis] layerNorm: no axis 'c' in f32[a, b]
        at here
        fix: its axes are 'a', 'b'"
    `)
    expect(complaint(() => logSumExp(x, any('c')))).toMatchInlineSnapshot(`
      "[axis] logSumExp: no axis 'c' in f32[a, b]
        at here
        fix: its axes are 'a', 'b'"
    `)
    expect(complaint(() => sum(x))).toMatchInlineSnapshot(`
      "[axis] sum: no axis to reduce over
        at here
        fix: name at least one of 'a', 'b'"
    `)
    expect(complaint(() => contract(x, x))).toMatchInlineSnapshot(`
      "[axis] contract: no axis to sum over
        at here
        fix: name at least one, or use mul for a product without a sum"
    `)
    expect(complaint(() => concat([], any('a')))).toMatchInlineSnapshot(`
      "[axis] concat: no parts
        at here
        fix: give it at least one"
    `)
    expect(complaint(() => split(x, 'a', {}))).toMatchInlineSnapshot(`
      "[axis] split: into no axes
        at here
        fix: name at least one"
    `)
    expect(complaint(() => merge(x, [], 'c'))).toMatchInlineSnapshot(`
      "[axis] merge: no axes
        at here
        fix: name at least one"
    `)
  })
  test('an axis twice', () => {
    expect(complaint(() => tensor('y', 'f32', ['a', 'a']))).toMatchInlineSnapshot(`
      "[duplicate-axis] tensor y: axis 'a' occurs twice
        at here
        fix: name each axis once; rename(x, from, to) gives one another name"
    `)
    expect(complaint(() => sum(x, 'a', 'a'))).toMatchInlineSnapshot(`
      "[duplicate-axis] sum: axis 'a' occurs twice
        at here
        fix: name each axis once; rename(x, from, to) gives one another name"
    `)
    expect(complaint(() => rename(x, 'a', 'b'))).toMatchInlineSnapshot(`
      "[duplicate-axis] rename: there is an axis 'b' already
        at here
        fix: choose another name"
    `)
    expect(complaint(() => gather(x, 'a', any(tensor('j', 'i32', ['a']))))).toMatchInlineSnapshot(`
      "[duplicate-axis] gather: the index has the axis 'a' that it looks along
        at here
        fix: rename it: rename(index, 'a', ...)"
    `)
    expect(complaint(() => topK(x, 'a', { k: 1, as: 'b' }))).toMatchInlineSnapshot(`
      "[duplicate-axis] topK: there is an axis 'b' already
        at here
        fix: choose another name"
    `)
  })
})

describe('dtypes', () => {
  test('operands that do not meet', () => {
    expect(complaint(() => add(x, i))).toMatchInlineSnapshot(`
      "[dtype] add: operands of dtype f32 and i32
        at here
        fix: cast one of them: cast(x, 'f32')"
    `)
    expect(complaint(() => add(i, 1.5))).toMatchInlineSnapshot(`
      "[dtype] constant: 1.5 is not a value of dtype i32
        at here
        fix: cast the other operand to f32, or use a whole number in range"
    `)
    expect(complaint(() => add(x, true))).toMatchInlineSnapshot(`
      "[dtype] constant: true meets an operand of dtype f32
        at here
        fix: use a number"
    `)
    expect(complaint(() => add(flags, flags))).toMatchInlineSnapshot(`
      "[dtype] add: takes numbers, not bool
        at here
        fix: cast it: cast(x, 'f32')"
    `)
    expect(complaint(() => eq(flags, size('a')))).toMatchInlineSnapshot(`
      "[dtype] size: a size is not a bool
        at here
        fix: compare it with something"
    `)
    expect(complaint(() => constant(2 ** 31, 'i32'))).toMatchInlineSnapshot(`
      "[dtype] constant: 2147483648 is not a value of dtype i32
        at here
        fix: cast the other operand to f32, or use a whole number in range"
    `)
  })
  test('functions that want another one', () => {
    expect(complaint(() => exp(i))).toMatchInlineSnapshot(`
      "[dtype] exp: takes float, not i32
        at here
        fix: cast it: cast(x, 'f32')"
    `)
    expect(complaint(() => mod(x, x))).toMatchInlineSnapshot(`
      "[dtype] mod: takes integer, not f32
        at here
        fix: cast it: cast(x, 'i32')"
    `)
    expect(complaint(() => not(x))).toMatchInlineSnapshot(`
      "[dtype] not: takes bool, not f32
        at here
        fix: compare first: ne(x, 0)"
    `)
    expect(complaint(() => and(x, x))).toMatchInlineSnapshot(`
      "[dtype] and: takes bool, not f32
        at here
        fix: compare first: ne(x, 0)"
    `)
    expect(complaint(() => where(any(x), x, x))).toMatchInlineSnapshot(`
      "[dtype] where: the condition has dtype f32, not bool
        at here
        fix: compare it: ne(x, 0)"
    `)
    expect(complaint(() => contract(any(i), any(i), any('n')))).toMatchInlineSnapshot(`
      "[dtype] contract: an operand has dtype i32
        at here
        fix: cast it: cast(x, 'f32')"
    `)
    expect(complaint(() => pool.max(any(i), any('n'), { size: 3 }))).toMatchInlineSnapshot(`
      "[dtype] pool.max: takes floats, not i32
        at here
        fix: cast it: cast(x, 'f32')"
    `)
    expect(complaint(() => topK(any(i), any('n'), { k: 1, as: 'k' }))).toMatchInlineSnapshot(`
      "[dtype] topK: takes floats, not i32
        at here
        fix: cast it: cast(x, 'f32')"
    `)
    expect(complaint(() => gather(x, 'a', any(x)))).toMatchInlineSnapshot(`
      "[dtype] gather: the index has dtype f32
        at here
        fix: cast it: cast(index, 'i32')"
    `)
    expect(complaint(() => concat([x, cast(x, 'f16') as never], 'a'))).toMatchInlineSnapshot(`
      "[dtype] concat: parts of dtype f32 and f16
        at here
        fix: cast one of them: cast(x, 'f32')"
    `)
    expect(complaint(() => mean(any(i), any('n')))).toMatchInlineSnapshot(`
      "[dtype] mean: takes f32, not i32
        at here
        fix: cast it: cast(x, 'f32')"
    `)
    expect(complaint(() => all(any(x), any('a')))).toMatchInlineSnapshot(`
      "[dtype] all: takes bool, not f32
        at here
        fix: cast it: cast(x, 'bool')"
    `)
    expect(complaint(() => argmax(flags, 'a'))).toMatchInlineSnapshot(`
      "[dtype] gt: takes numbers, not bool
        at here
        fix: cast it: cast(x, 'f32')"
    `)
  })
})

describe('sizes', () => {
  test('that are none', () => {
    expect(complaint(() => size(1.5))).toMatchInlineSnapshot(`
      "[size] a size must be an integer, not 1.5
        at here
        fix: round it yourself, so that the rounding is visible"
    `)
    expect(complaint(() => tensor('y', 'f32', { a: -1 }))).toMatchInlineSnapshot(`
      "[size] tensor y: axis 'a' has size -1
        at here
        fix: sizes are not negative"
    `)
    expect(complaint(() => times(size('a'), size('b')))).toMatchInlineSnapshot(`
      "[size] (a) × (b) is not affine in its symbols
        at here
        fix: give one of the two axes a fixed size"
    `)
  })
  test('that do not agree', () => {
    expect(complaint(() => add(x, fixed))).toMatchInlineSnapshot(`
      "[size] add: axis 'a' has size a in one operand and 4 in another, which is not provably the same
        at here
        fix: give both the same size, cut the longer one with slice, or rename one of them"
    `)
    expect(complaint(() => add(fixed, tensor('y', 'f32', { a: plus(size('c'), 1) })))).toMatchInlineSnapshot(`
      "[size] add: axis 'a' has size 4 in one operand and c + 1 in another, which is not provably the same
        at here
        fix: give both the same size, cut the longer one with slice, or rename one of them"
    `)
    expect(complaint(() => split(fixed, 'a', { c: 3, d: 2 }))).toMatchInlineSnapshot(`
      "[size] split: 3 × 2 is not provably 4, the size of axis 'a'
        at here
        fix: declare the axis with the product as its size"
    `)
  })
  test('slices, k and pools', () => {
    expect(complaint(() => slice(fixed, 'a', { from: -1, as: 'c' }))).toMatchInlineSnapshot(`
      "[slice] slice: -1 .. 4 of axis 'a' with 4 elements
        at here
        fix: from is not negative"
    `)
    expect(complaint(() => slice(fixed, 'a', { from: 3, to: 2, as: 'c' }))).toMatchInlineSnapshot(`
      "[slice] slice: 3 .. 2 of axis 'a' with 4 elements
        at here
        fix: from is at most to"
    `)
    expect(complaint(() => slice(x, 'a', { to: plus(size('a'), 1), as: 'c' }))).toMatchInlineSnapshot(`
      "[slice] slice: 0 .. a + 1 of axis 'a' with a elements
        at here
        fix: to is at most the length"
    `)
    expect(complaint(() => topK(fixed, 'a', { k: 5, as: 'k' }))).toMatchInlineSnapshot(`
      "[topk] topK: k is 5, but axis 'a' has only 4 elements
        at here
        fix: lower k"
    `)
    expect(complaint(() => topK(fixed, 'a', { k: -1, as: 'k' }))).toMatchInlineSnapshot(`
      "[topk] topK: k is -1
        at here
        fix: k is not negative"
    `)
    expect(complaint(() => pool.max(x, 'a', { size: 4 }))).toMatchInlineSnapshot(`
      "[pool] pool.max: size 4 is even, so a centred window would shift the result by half a position
        at here
        fix: use 3 or 5"
    `)
    expect(complaint(() => pool.max(x, 'a', { size: 0 }))).toMatchInlineSnapshot(`
      "[pool] pool.max: size 0
        at here
        fix: use a positive odd number"
    `)
  })
  test('empty axes', () => {
    const none = tensor('none', 'f32', { a: 0 })
    expect(complaint(() => max(none, 'a'))).toMatchInlineSnapshot(`
      "[empty] max: axis 'a' is empty
        at here
        fix: only sum, all, any and monoids that say emptyAllowed have a result for no elements"
    `)
    expect(complaint(() => gather(none, 'a', i))).toMatchInlineSnapshot(`
      "[empty] gather: axis 'a' is empty
        at here
        fix: there is nothing to look up"
    `)
  })
})

describe('monoids', () => {
  const base = { takes: 'f32', components: { t: 'f32' }, identity: { t: 0 }, lift: (v: never) => ({ t: v }), combine: (a: { t: never }) => ({ t: a.t }), result: (c: { t: never }) => c.t } as const
  test('definitions', () => {
    expect(complaint(() => monoid('m', { ...base, components: {}, identity: {} } as never))).toMatchInlineSnapshot(`
      "[monoid] m: no components
        at here
        fix: give it at least one"
    `)
    expect(complaint(() => monoid('m', { ...base, components: { count: 'f32' }, identity: { count: 0 } } as never))).toMatchInlineSnapshot(`
      "[monoid] m: 'count' cannot be a component's name
        at here
        fix: use a letter, then letters and digits"
    `)
    expect(complaint(() => monoid('m', { ...base, lift: (_: never, at: never) => ({ t: at }) } as never))).toMatchInlineSnapshot(`
      "[monoid] m: lift gives i32 for component 't' of dtype f32
        at here
        fix: cast it: $.cast(x, 'f32')"
    `)
    expect(complaint(() => reduce(i, monoid('m', base as never), 'n'))).toMatchInlineSnapshot(`
      "[dtype] m: takes f32, not i32
        at here
        fix: cast it: cast(x, 'f32')"
    `)
  })
})

describe('when sizes are bound', () => {
  const f32 = (shape: Record<string, number>): HostTensor => hostTensor('f32', shape)
  const run = (e: Expr, inputs: Record<string, HostTensor>, options?: InterpretOptions) => () => interpret({ e }, inputs, options)
  const row = tensor('row', 'f32', ['a'])

  test('inputs', () => {
    expect(complaint(run(x, {}))).toMatchInlineSnapshot(`
      "[input] the input 'x' is missing
        at here
        fix: give it: x: a typed array over a, b"
    `)
    expect(complaint(run(x, { x: f32({ a: 2 }) }))).toMatchInlineSnapshot(`
      "[shape] the input 'x' has no axis 'b'
        at here
        fix: its axes are a, b"
    `)
    expect(complaint(run(row, { row: f32({ a: 2, c: 1 }) }))).toMatchInlineSnapshot(`
      "[shape] the input 'row' has an axis 'c', which is not declared
        at here
        fix: its axes are a"
    `)
    expect(complaint(run(row, { row: hostTensor('bf16', { a: 2 }) }))).toMatchInlineSnapshot(`
      "[dtype] the input 'row' holds bf16, but is declared f32
        fix: convert the data, or declare the other dtype"
    `)
    expect(complaint(run(row, { row: { ...f32({ a: 2 }), shape: [3] } }))).toMatchInlineSnapshot(`
      "[shape] the input 'row' holds 2 elements for the shape 3
        fix: pass 3"
    `)
    expect(complaint(() => hostTensor('f32', { a: 2, b: 3 }, new Float32Array(5)))).toMatchInlineSnapshot(`
      "[shape] 5 elements for the shape 2 × 3
        fix: pass 6"
    `)
  })
  test('shapes that contradict', () => {
    expect(complaint(run(fixed, { fixed: f32({ a: 4, b: 2 }) }))).toMatchInlineSnapshot(`
      "[shape] the input 'fixed' has 2 elements along 'b', but its size is 3
        at here
        fix: pass data of the declared shape, or declare another"
    `)
    expect(complaint(run(add(x, row), { x: f32({ a: 2, b: 1 }), row: f32({ a: 3 }) }))).toMatchInlineSnapshot(`
      "[shape] the input 'row' has 3 elements along 'a', but its size is a with a = 2
        at here
        fix: pass data of the declared shape, or declare another"
    `)
    expect(complaint(run(tensor('even', 'f32', { a: times(2, size('h')) }), { even: f32({ a: 3 }) }))).toMatchInlineSnapshot(`
      "[shape] the input 'even' has 3 elements along 'a', but its size is 2*h
        at here
        fix: pass data of the declared shape, or declare another"
    `)
    expect(complaint(run(tensor('more', 'f32', { a: plus(size('h'), 3) }), { more: f32({ a: 2 }) }))).toMatchInlineSnapshot(`
      "[shape] the input 'more' has 2 elements along 'a', but its size is h + 3
        at here
        fix: pass data of the declared shape, or declare another"
    `)
  })
  test('symbols', () => {
    expect(complaint(run(iota('z'), {}))).toMatchInlineSnapshot(`
      "[unbound-size] the size 'z' is not known: no input's shape tells it
        fix: give it: { z: ... }"
    `)
    expect(complaint(run(topK(row, 'a', { k: size('k'), as: 'k' }), { row: f32({ a: 3 }) }))).toMatchInlineSnapshot(`
      "[unbound-size] the size 'k' is not known: no input's shape tells it
        fix: give it: { k: ... }"
    `)
    expect(complaint(run(div(row, size('q')), { row: f32({ a: 3 }) }))).toMatchInlineSnapshot(`
      "[unbound-size] the size 'q' is not known: no input's shape tells it
        fix: give it: { q: ... }"
    `)
    expect(complaint(run(row, { row: f32({ a: 3 }) }, { sizes: { a: 1.5 } }))).toMatchInlineSnapshot(`
      "[size] the size 'a' is given as 1.5
        fix: give a whole number that is not negative"
    `)
    expect(complaint(run(row, { row: f32({ a: 3 }) }, { sizes: { a: 4 } }))).toMatchInlineSnapshot(`
      "[shape] the input 'row' has 3 elements along 'a', but its size is a with a = 4
        at here
        fix: pass data of the declared shape, or declare another"
    `)
  })
  test('what the constructors could not know', () => {
    const inputs = { row: f32({ a: 3 }) }
    expect(complaint(run(slice(row, 'a', { to: size('m'), as: 'c' }), inputs, { sizes: { m: 4 } }))).toMatchInlineSnapshot(`
      "[slice] slice: 0 .. m = 0 .. 4 of axis 'a' with 3 elements
        at here
        fix: cut within the axis"
    `)
    expect(complaint(run(slice(row, 'a', { from: minus(size('a'), 4), as: 'c' }), inputs))).toMatchInlineSnapshot(`
      "[slice] slice: a - 4 .. a = -1 .. 3 of axis 'a' with 3 elements
        at here
        fix: cut within the axis"
    `)
    expect(complaint(run(topK(row, 'a', { k: 4, as: 'k' }), inputs))).toMatchInlineSnapshot(`
      "[topk] topK: k is 4, but axis 'a' has only 3 elements
        at here
        fix: lower k"
    `)
    expect(complaint(run(iota('z', minus(size('a'), 4)), inputs, { sizes: { a: 3 } }))).toMatchInlineSnapshot(`
      "[size] axis 'z' has size a - 4 = -1
        at here
        fix: sizes are not negative: check the lengths of the inputs"
    `)
    expect(complaint(run(max(row, 'a'), { row: f32({ a: 0 }) }))).toMatchInlineSnapshot(`
      "[empty] max: axis 'a' is empty
        at here
        fix: only sum, all, any and monoids that say emptyAllowed have a result for no elements"
    `)
    expect(complaint(run(softmax(row, 'a'), { row: f32({ a: 0 }) }))).toMatchInlineSnapshot(`
      "[empty] expSum.max: axis 'a' is empty
        at here
        fix: only sum, all, any and monoids that say emptyAllowed have a result for no elements"
    `)
    expect(complaint(run(gather(row, 'a', i), { row: f32({ a: 0 }), i: hostTensor('i32', { n: 1 }) }))).toMatchInlineSnapshot(`
      "[empty] gather: axis 'a' is empty
        at here
        fix: there is nothing to look up"
    `)
    expect(complaint(run(mul(mean(row, 'a'), 2), { row: f32({ a: 0 }) }))).toMatchInlineSnapshot(`
      "[empty] mean: axis 'a' is empty
        at here
        fix: only sum, all, any and monoids that say emptyAllowed have a result for no elements"
    `)
  })
})

describe('calls without types', () => {
  const each = (...calls: (() => unknown)[]): string => calls.map(complaint).join('\n')
  test('dtypes that there are not', () => {
    expect(each(
      () => tensor('x', any('f64'), ['a']),
      () => tensor('x', any(undefined), ['a']),
      () => cast(x, any('f64')),
      () => constant(1, any('f64')),
      () => map({ x }, (v, $) => $.cast(v.x, any('float'))),
      () => monoid('m', { takes: any('f64'), components: { t: 'f32' }, identity: { t: 0 }, lift: v => ({ t: v }), combine: a => a, result: c => c.t }),
    )).toMatchInlineSnapshot(`
      "[dtype] tensor x: there is no dtype "f64"
        at here
        fix: use one of 'f32', 'f16', 'bf16', 'i32', 'u32', 'bool'
      [dtype] tensor x: there is no dtype undefined
        at here
        fix: use one of 'f32', 'f16', 'bf16', 'i32', 'u32', 'bool'
      [dtype] cast: there is no dtype "f64"
        at here
        fix: use one of 'f32', 'f16', 'bf16', 'i32', 'u32', 'bool'
      [dtype] constant: there is no dtype "f64"
        at here
        fix: use one of 'f32', 'f16', 'bf16', 'i32', 'u32', 'bool'
      [dtype] cast: there is no dtype "float"
        at here
        fix: use one of 'f32', 'f16', 'bf16', 'i32', 'u32', 'bool'
      [dtype] m: there is no dtype "f64"
        at here
        fix: use one of 'f32', 'f16', 'bf16', 'i32', 'u32', 'bool'"
    `)
  })
  test('tensors that are none', () => {
    expect(each(
      () => sum(any('x'), any('a')),
      () => max(any(undefined), any('a')),
      () => mean(any([1, 2]), any('a')),
      () => reduce(any(1), any(monoid('m', { takes: 'f32', components: { t: 'f32' }, identity: { t: 0 }, lift: v => ({ t: v }), combine: a => a, result: c => c.t })), any('a')),
      () => cast(any(1), 'f32'),
      () => contract(x, any('y'), any('a')),
      () => contract(any(undefined), x, any('a')),
      () => gather(any('x'), any('a'), i),
      () => gather(x, 'a', any(undefined)),
      () => concat([x, any('y')], 'a'),
      () => concat([any(undefined)], any('a')),
      () => concat(any(x), any('a')),
      () => slice(any(size('a')), any('a'), { as: 'a' }),
      () => topK(any(null), any('a'), { k: 1, as: 'k' }),
      () => pool.max(any('x'), any('a'), { size: 3 }),
      () => rename(any('x'), any('a'), 'b'),
      () => split(any('x'), any('a'), { b: 1 }),
      () => merge(any('x'), [any('a')], 'b'),
      () => softmax(any('x'), any('a')),
      () => layerNorm(x, 'a', { weight: any(2) }),
      () => label(any(x), any('name')),
      () => map({ x: any(3) }, v => v.x),
    )).toMatchInlineSnapshot(`
      "[argument] sum: "x" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] max: undefined is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] mean: an array is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] m: 1 is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] cast: 1 is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] contract: "y" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] contract: undefined is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] gather: "x" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] gather: undefined is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] concat: "y" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] concat: undefined is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] concat: a tensor in the place of an array
        at here
        fix: write it as in concat([x, y], 'row')
      [argument] slice: a size is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] topK: null is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] pool.max: "x" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] rename: "x" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] split: "x" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] merge: "x" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] softmax: "x" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] layerNorm: 2 is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] label: "name" is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives
      [argument] map: 3 is not a tensor
        at here
        fix: pass what tensor, constant, iota or another operation gives"
    `)
  })
  test('operands', () => {
    expect(each(
      () => add(x, any(undefined)),
      () => add(any('x'), 1),
      () => mul(x, any([1, 2])),
      () => exp(any(null)),
      () => add(x, any(1n)),
      () => where(flags, x, any({})),
      () => constant(any('1')),
      () => constant(any(size('a'))),
      () => map({ x }, v => any(add(any(v.x), 1))),
      () => map({ x }, (v, $) => $.add(v.x, any(x))),
      () => map({ x }, (_, $) => $.exp(any(undefined))),
    )).toMatchInlineSnapshot(`
      "[argument] add: undefined is neither a tensor, a number, a boolean nor a size
        at here
        fix: pass what tensor, constant, iota or another operation gives, or a number
      [argument] add: "x" is neither a tensor, a number, a boolean nor a size
        at here
        fix: pass what tensor, constant, iota or another operation gives, or a number
      [argument] mul: an array is neither a tensor, a number, a boolean nor a size
        at here
        fix: pass what tensor, constant, iota or another operation gives, or a number
      [argument] exp: null is neither a tensor, a number, a boolean nor a size
        at here
        fix: pass what tensor, constant, iota or another operation gives, or a number
      [argument] add: 1n is neither a tensor, a number, a boolean nor a size
        at here
        fix: pass what tensor, constant, iota or another operation gives, or a number
      [argument] where: an object is neither a tensor, a number, a boolean nor a size
        at here
        fix: pass what tensor, constant, iota or another operation gives, or a number
      [argument] constant: "1" is neither a number nor a boolean
        at here
        fix: sizes and tensors are operands as they are
      [argument] constant: a size is neither a number nor a boolean
        at here
        fix: sizes and tensors are operands as they are
      [argument] add: a scalar is neither a tensor, a number, a boolean nor a size
        at here
        fix: within map use $.add
      [argument] add: a tensor is neither a scalar, a number, a boolean nor a size
        at here
        fix: name it in the first argument of map, whose function gets it as a scalar
      [argument] exp: undefined is neither a scalar, a number, a boolean nor a size
        at here
        fix: pass a value, what a function of $ gives, or a number"
    `)
  })
  test('map', () => {
    expect(each(
      () => map(any(x), v => v),
      () => map(any(undefined), () => any(1)),
      () => map({ x }, any(undefined)),
      () => map({ x }, () => any(1)),
      () => map({ x }, () => any(undefined)),
      () => map({ x }, () => any(x)),
    )).toMatchInlineSnapshot(`
      "[argument] map: a tensor in the place of a record
        at here
        fix: write it as in map({ x, y }, (v, $) => $.add(v.x, v.y))
      [argument] map: undefined in the place of a record
        at here
        fix: write it as in map({ x, y }, (v, $) => $.add(v.x, v.y))
      [argument] map: undefined in the place of a function
        at here
        fix: write it as in map({ x, y }, (v, $) => $.add(v.x, v.y))
      [argument] map: the function gives 1, not a scalar
        at here
        fix: return one of its values, or what a function of $ gives: map({ x, y }, (v, $) => $.add(v.x, v.y))
      [argument] map: the function gives undefined, not a scalar
        at here
        fix: return one of its values, or what a function of $ gives: map({ x, y }, (v, $) => $.add(v.x, v.y))
      [argument] map: the function gives a tensor, not a scalar
        at here
        fix: return one of its values, or what a function of $ gives: map({ x, y }, (v, $) => $.add(v.x, v.y))"
    `)
    expect(map({}, (_, $) => $.add(1, 2)).axes).toEqual([])
  })
  test('options', () => {
    expect(each(
      () => topK(x, 'a', any(undefined)),
      () => topK(x, 'a', any({ k: 1 })),
      () => topK(x, 'a', any({ as: 'k' })),
      () => topK(x, 'a', { k: 1, as: 'k', order: any('size') }),
      () => topK(x, 'a', { k: any('k'), as: 'k' }),
      () => slice(x, 'a', any(undefined)),
      () => slice(x, 'a', any({ from: 1 })),
      () => slice(x, 'a', { from: any({}), as: 'a' }),
      () => pool.max(x, 'a', any(undefined)),
      () => pool.mean(x, 'a', any(undefined)),
      () => pool.sum(x, 'a', any({})),
      () => pool.sum(x, 'a', { size: any('3') }),
      () => split(x, 'a', any(undefined)),
      () => merge(x, any('a'), 'c'),
      () => layerNorm(x, 'a', any(null)),
      () => layerNorm(x, any(undefined)),
    )).toMatchInlineSnapshot(`
      "[argument] topK: undefined in the place of a record
        at here
        fix: write it as in topK(x, 'a', { k: 32, as: 'kept' })
      [argument] topK: 'as' is missing
        at here
        fix: write it as in topK(x, 'a', { k: 32, as: 'kept' })
      [argument] topK: 'k' is missing
        at here
        fix: write it as in topK(x, 'a', { k: 32, as: 'kept' })
      [topk] topK: there is no order "size"
        at here
        fix: use 'position' or 'score'
      [size] a size must be an integer, not "k"
        at here
        fix: use size('k') for a length that is known later
      [argument] slice: undefined in the place of a record
        at here
        fix: write it as in slice(x, 'a', { from: 1, as: 'a' })
      [argument] slice: 'as' is missing
        at here
        fix: write it as in slice(x, 'a', { from: 1, as: 'a' })
      [size] a size must be an integer, not an object
        at here
        fix: use a number, or size('key') for a length that is known later
      [argument] pool.max: undefined in the place of a record
        at here
        fix: write it as in pool.max(x, 'a', { size: 3 })
      [argument] pool.mean: undefined in the place of a record
        at here
        fix: write it as in pool.mean(x, 'a', { size: 3 })
      [argument] pool.sum: 'size' is missing
        at here
        fix: write it as in pool.sum(x, 'a', { size: 3 })
      [pool] pool.sum: size "3"
        at here
        fix: use a positive odd number
      [argument] split: undefined in the place of a record
        at here
        fix: write it as in split(x, 'a', { outer: 4, inner: 8 })
      [argument] merge: "a" in the place of an array
        at here
        fix: write it as in merge(x, ['row', 'column'], 'cell')
      [argument] layerNorm: null in the place of a record
        at here
        fix: write it as in layerNorm(x, 'a', { epsilon: 1e-5, weight })
      [argument] layerNorm: undefined in the place of an array
        at here
        fix: write it as in layerNorm(x, ['row', 'column'])"
    `)
  })
  test('names, axes and monoids', () => {
    expect(each(
      () => tensor(any(undefined), 'f32', ['a']),
      () => tensor('y', 'f32', any(undefined)),
      () => tensor('y', 'f32', any('ab')),
      () => tensor('y', 'f32', { a: any('n') }),
      () => size('key - 32'),
      () => size(any(undefined)),
      () => rename(x, 'a', any(undefined)),
      () => sum(x, any(['a'])),
      () => argmax(x, any(undefined)),
      () => reduce(x, any('sum'), 'a'),
      () => reduce(x, any({}), 'a'),
      () => monoid('m', { takes: 'f32', components: { t: 'f32' }, identity: any({}), lift: v => ({ t: v }), combine: a => a, result: c => c.t }),
      () => monoid('m', { takes: 'f32', components: { t: 'f32' }, identity: { t: 0 }, lift: v => ({ t: v }), combine: a => a, result: () => any(1) }),
    )).toMatchInlineSnapshot(`
      "[name] undefined cannot name a tensor
        at here
        fix: use a letter, then up to 62 letters, digits and underscores
      [argument] tensor y: undefined in the place of a record
        at here
        fix: write it as in tensor('y', 'f32', ['row', 'column']) or tensor('y', 'f32', { row: 4, column: size('n') })
      [argument] tensor y: "ab" in the place of a record
        at here
        fix: write it as in tensor('y', 'f32', ['row', 'column']) or tensor('y', 'f32', { row: 4, column: size('n') })
      [size] a size must be an integer, not "n"
        at here
        fix: use size('n') for a length that is known later
      [name] "key - 32" cannot name a size
        at here
        fix: use a letter, then up to 62 letters, digits and underscores; forms are made with plus, minus and times
      [size] a size must be an integer, not undefined
        at here
        fix: use a number, or size('key') for a length that is known later
      [name] undefined cannot name an axis
        at here
        fix: use a letter, then up to 62 letters, digits and underscores
      [argument] sum: an array in the place of an axis's name
        at here
        fix: its axes are 'a', 'b'
      [argument] argmax: undefined in the place of an axis's name
        at here
        fix: its axes are 'a', 'b'
      [argument] reduce: "sum" in the place of a record
        at here
        fix: write it as in reduce(x, monoid(...), 'row')
      [argument] reduce: 'components' is missing
        at here
        fix: write it as in reduce(x, monoid(...), 'row')
      [monoid] m: identity gives undefined for component 't'
        at here
        fix: give a scalar or a number
      [monoid] m: result gives 1
        at here
        fix: give a scalar"
    `)
  })
})

test('a variable that is called like a symbol is not a size', () => {
  const text = printGraph({ e: map({ a: x }, (v, $) => $.sub(v.a, $.div(minus(size('a'), 1), v.a))) })
  expect(text).toMatchInlineSnapshot(`
    "%0 tensor "x" : f32[a, b]
    %1 map a => a - (size(a - 1) / a) %0 : f32[a, b]
    e = %1
    "
  `)
})
