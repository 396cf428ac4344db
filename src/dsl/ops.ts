/**
 * The public constructors. Axes are aligned by name: an operand without an axis is the same all along it.
 * Every function checks its operands and throws a `WeftError` with the user's line, the reason and the fix.
 * `docs/language.md` says what each computes, to the last bit.
 */
import { arithmetic, isInteger, type Arithmetic, type Dtype } from './dtype.js'
import { checkAtLeast, checkAxis, checkDistinct, checkEqual, checkFresh, checkList, checkName, checkOperand, checkOptions, checkTensor, fail, isTensor, taken, unite } from './checks.js'
import { nameValue } from './errors.js'
import { axisOf, node, type Expr, type Pool } from './expr.js'
import { allMonoid, anyMonoid, argmaxMonoid, maxMonoid, meanMonoid, minMonoid, sumMonoid, type Monoid } from './monoid.js'
import { checkDtype, isScalar, literal, scalars, variable, type Scalar, type Scalars } from './scalar.js'
import { equalSizes, fixedSize, minus, plus, printSize, size, times, toSize, type Size, type SizeLike } from './size.js'
import type { AxesOf, AxisSpec, DtypeOf, Tensor } from './tensor.js'

// ---------------------------------------------------------------------------------------------- sources of elements

/**
 * An input. `axes` are names, whose sizes become symbols of the same name, or names with sizes.
 * Physical order is the order given here: row-major, the last axis fastest.
 */
export function tensor<const A extends string, D extends Dtype>(name: string, dtype: D, axes: AxisSpec<A>): Tensor<A, D> {
  checkName(name, 'a tensor')
  checkDtype(`tensor ${name}`, dtype)
  if (!Array.isArray(axes)) checkOptions(`tensor ${name}`, axes, [], `tensor('${name}', 'f32', ['row', 'column']) or tensor('${name}', 'f32', { row: 4, column: size('n') })`)
  for (const n of Array.isArray(axes) ? axes as readonly A[] : Object.keys(axes)) checkName(n, 'an axis')
  const list = Array.isArray(axes) ? (axes as readonly A[]).map(n => ({ name: n as string, size: size(n) }))
    : Object.entries(axes as Record<A, SizeLike>).map(([n, s]) => ({ name: n, size: toSize(s as SizeLike) }))
  for (const a of list) {
    checkAtLeast('size', a.size, size(0), `tensor ${name}: axis '${a.name}' has size ${printSize(a.size)}`, 'sizes are not negative')
  }
  checkDistinct(`tensor ${name}`, list.map(a => a.name))
  return node<'tensor'>({ kind: 'tensor', name, dtype, axes: list }) as Tensor<A, D>
}

/** A constant without axes. */
export const constant = <D extends Dtype = 'f32'>(value: number | boolean, dtype?: D): Tensor<never, D> => {
  if (typeof value !== 'number' && typeof value !== 'boolean') fail('argument', `constant: ${nameValue(value)} is neither a number nor a boolean`, 'sizes and tensors are operands as they are')
  const s = literal(value, dtype ?? 'f32') as Extract<Scalar, { op: 'const' }>
  return node<'const'>({ kind: 'const', value: s.value, dtype: s.dtype, axes: [] }) as Tensor<never, D>
}

/** The positions 0, 1, 2 ... along an axis, i32. The size defaults to the symbol of the same name. */
export function iota<const A extends string>(axis: A, length?: SizeLike): Tensor<A, 'i32'> {
  checkName(axis, 'an axis')
  return node<'iota'>({ kind: 'iota', dtype: 'i32', axes: [{ name: axis, size: length === undefined ? size(axis) : toSize(length) }] }) as Tensor<A, 'i32'>
}

// ---------------------------------------------------------------------------------------------- elementwise

/** An operand of an elementwise function. Numbers and sizes take the dtype of the other operand. */
export type Operand<A extends string = string, D extends Dtype = Dtype> = Tensor<A, D> | number | boolean | Size
type OperandAxes<T> = T extends number | boolean ? never : T extends Size ? never : AxesOf<T>
type OperandDtype<T> = T extends number | boolean ? never : T extends Size ? never : DtypeOf<T>
type Known<D> = [D] extends [never] ? 'f32' : Arithmetic<D & Dtype>
/** Two booleans make a bool; everything else follows the tensors among the operands. */
type Chosen<X, Y> = [X, Y] extends [boolean, boolean] ? 'bool' : Known<OperandDtype<X> | OperandDtype<Y>>

/**
 * One scalar expression for all positions: `map({ s: votes, age }, ({ s, age }, $) => $.mul(s, $.exp($.div(age, -64))))`.
 * The function is called once, with symbolic scalars; `$` holds the scalar functions.
 */
export function map<const T extends Readonly<Record<string, Tensor>>>(
  args: T, body: (values: { readonly [N in keyof T]: Scalar }, $: Scalars) => Scalar,
): Tensor<{ [N in keyof T]: AxesOf<T[N]> }[keyof T], Dtype> {
  const example = 'map({ x, y }, (v, $) => $.add(v.x, v.y))'
  checkOptions('map', args, [], example)
  if (typeof body !== 'function') fail('argument', `map: ${nameValue(body)} in the place of a function`, `write it as in ${example}`)
  const entries = Object.entries(args)
  for (const [name, value] of entries) { checkName(name, 'an argument of map'); checkTensor('map', value) }
  const scalar = body(Object.fromEntries(entries.map(([n, e]) => [n, variable(n, e.dtype)])) as { [N in keyof T]: Scalar }, scalars)
  if (!isScalar(scalar)) fail('argument', `map: the function gives ${nameValue(scalar)}, not a scalar`, `return one of its values, or what a function of $ gives: ${example}`)
  return node<'map'>({
    kind: 'map', dtype: scalar.dtype, axes: unite('map', entries.map(([, e]) => e)),
    args: entries.map(([name, value]) => ({ name, value })), body: scalar,
  }) as never
}

function elementwise(op: string, operands: readonly Operand[], body: (...xs: (Scalar | number | boolean | Size)[]) => Scalar): Expr {
  for (const x of operands) checkOperand(op, x)
  const tensors = [...new Set(operands.filter(isTensor))]
  const args = tensors.map((value, i) => ({ name: 'abc'[i]!, value }))
  const scalar = body(...operands.map(x => (isTensor(x) ? variable('abc'[tensors.indexOf(x)]!, x.dtype) : x)))
  return node<'map'>({ kind: 'map', dtype: scalar.dtype, axes: unite(op, tensors), args, body: scalar })
}

type Unary = <A extends string, D extends Dtype>(x: Tensor<A, D>) => Tensor<A, Arithmetic<D>>
type Binary = <const X extends Operand, const Y extends Operand>(x: X, y: Y) =>
  Tensor<OperandAxes<X> | OperandAxes<Y>, Known<OperandDtype<X> | OperandDtype<Y>>>
type Comparison = <const X extends Operand, const Y extends Operand>(x: X, y: Y) => Tensor<OperandAxes<X> | OperandAxes<Y>, 'bool'>

const unaryOp = (name: 'neg' | 'abs' | 'exp' | 'exp2' | 'log' | 'log2' | 'sqrt' | 'rsqrt' | 'sin' | 'cos' | 'tanh' | 'floor' | 'ceil' | 'round' | 'trunc' | 'not'): Unary =>
  x => elementwise(name, [x], a => scalars[name](a!)) as never
const binaryOp = (name: 'add' | 'sub' | 'mul' | 'div' | 'mod' | 'pow' | 'min' | 'max' | 'and' | 'or'): Binary =>
  (x, y) => elementwise(name, [x, y], (a, b) => scalars[name](a!, b!)) as never
const comparison = (name: 'lt' | 'le' | 'gt' | 'ge' | 'eq' | 'ne'): Comparison =>
  (x, y) => elementwise(name, [x, y], (a, b) => scalars[name](a!, b!)) as never

/** −x */
export const neg = unaryOp('neg')
/** |x| */
export const abs = unaryOp('abs')
/** e^x */
export const exp = unaryOp('exp')
/** 2^x */
export const exp2 = unaryOp('exp2')
/** Natural logarithm. */
export const log = unaryOp('log')
/** Logarithm to base 2. */
export const log2 = unaryOp('log2')
export const sqrt = unaryOp('sqrt')
/** 1 / √x */
export const rsqrt = unaryOp('rsqrt')
/** x in radians. */
export const sin = unaryOp('sin')
/** x in radians. */
export const cos = unaryOp('cos')
export const tanh = unaryOp('tanh')
/** Toward negative infinity; stays f32. */
export const floor = unaryOp('floor')
/** Toward positive infinity; stays f32. */
export const ceil = unaryOp('ceil')
/** To the nearest whole number, ties to even; stays f32. */
export const round = unaryOp('round')
/** Toward zero; stays f32. */
export const trunc = unaryOp('trunc')
/** bool only. */
export const not = unaryOp('not')
/** Whether x is NaN. */
export const isNaN = <A extends string, D extends Dtype>(x: Tensor<A, D>): Tensor<A, 'bool'> => elementwise('isNaN', [x], a => scalars.isNaN(a!)) as never

export const add = binaryOp('add')
export const sub = binaryOp('sub')
export const mul = binaryOp('mul')
/** Integers: toward negative infinity, 0 for a zero divisor. */
export const div = binaryOp('div')
/** Integers only: has the sign of the divisor. */
export const mod = binaryOp('mod')
export const pow = binaryOp('pow')
/** The smaller of two; NaN if either is. The reduction is `min`. */
export const minimum = binaryOp('min')
/** The larger of two; NaN if either is. The reduction is `max`. */
export const maximum = binaryOp('max')
export const and = binaryOp('and')
export const or = binaryOp('or')
export const lt = comparison('lt')
export const le = comparison('le')
export const gt = comparison('gt')
export const ge = comparison('ge')
export const eq = comparison('eq')
export const ne = comparison('ne')

/** x where the condition holds, else y. The other one's NaN does not matter. */
export const where = <C extends string, const X extends Operand, const Y extends Operand>(condition: Tensor<C, 'bool'>, x: X, y: Y):
  Tensor<C | OperandAxes<X> | OperandAxes<Y>, Chosen<X, Y>> =>
  elementwise('where', [condition, x, y], (c, a, b) => scalars.where(c!, a!, b!)) as never

/** To another dtype. To 16 bits: to nearest even. Float to integer: toward zero, saturating, NaN gives 0. */
export function cast<A extends string, D extends Dtype>(x: Tensor<A>, dtype: D): Tensor<A, D> {
  checkTensor('cast', x)
  checkDtype('cast', dtype)
  return (x.dtype === dtype ? x : node<'cast'>({ kind: 'cast', arg: x, dtype, axes: x.axes })) as never
}

// ---------------------------------------------------------------------------------------------- sums and folds

type Float = 'f32' | 'f16' | 'bf16'

/** Σ over the named axes of x · y, accumulated exactly and rounded to f32. Both operands must have these axes. */
export function contract<A extends string, B extends string, const O extends A & B>(x: Tensor<A, Float>, y: Tensor<B, Float>, ...over: readonly O[]): Tensor<Exclude<A | B, O>, 'f32'>
export function contract(x: Expr, y: Expr, ...over: readonly string[]): Expr {
  if (over.length === 0) fail('axis', 'contract: no axis to sum over', "name at least one, or use mul for a product without a sum")
  checkDistinct('contract', over)
  for (const e of [x, y]) {
    checkTensor('contract', e)
    if (arithmetic(e.dtype) !== 'f32') fail('dtype', `contract: an operand has dtype ${e.dtype}`, "cast it: cast(x, 'f32')")
    for (const n of over) checkAxis('contract', e, n)
  }
  return node<'contract'>({ kind: 'contract', dtype: 'f32', left: x, right: y, over, axes: unite('contract', [x, y]).filter(a => !over.includes(a.name)) })
}

/** Puts the elements along the axes together with a monoid; several axes count as one, the last named fastest. */
export function reduce<A extends string, const O extends A>(x: Tensor<A>, by: Monoid, ...over: readonly O[]): Tensor<Exclude<A, O>, Dtype> {
  checkOptions('reduce', by, ['components'], 'reduce(x, monoid(...), \'row\')')
  checkTensor(by.name, x)
  if (over.length === 0) fail('axis', `${by.name}: no axis to reduce over`, `name at least one of ${x.axes.map(a => `'${a.name}'`).join(', ')}`)
  checkDistinct(by.name, over)
  const arg = arithmetic(x.dtype) === x.dtype ? x : cast(x, arithmetic(x.dtype))
  if (arg.dtype !== by.takes) fail('dtype', `${by.name}: takes ${by.takes}, not ${x.dtype}`, `cast it: cast(x, '${by.takes}')`)
  for (const n of over) {
    const axis = checkAxis(by.name, x, n)
    if (!by.emptyAllowed && fixedSize(axis.size) === 0) fail('empty', `${by.name}: axis '${n}' is empty`, 'only sum, all, any and monoids that say emptyAllowed have a result for no elements')
  }
  return node<'reduce'>({ kind: 'reduce', dtype: by.result.dtype, arg, over, monoid: by, axes: x.axes.filter(a => !over.includes(a.name as O)) }) as never
}

/** Σ over the axes; 16-bit floats add up in f32. An empty axis gives 0. */
export const sum = <A extends string, D extends Dtype, const O extends A>(x: Tensor<A, D>, ...over: readonly O[]): Tensor<Exclude<A, O>, Arithmetic<D>> =>
  reduce(x, sumMonoid(taken('sum', x)), ...over) as never
/** The largest along the axes; NaN if there is one. */
export const max = <A extends string, D extends Dtype, const O extends A>(x: Tensor<A, D>, ...over: readonly O[]): Tensor<Exclude<A, O>, Arithmetic<D>> =>
  reduce(x, maxMonoid(taken('max', x)), ...over) as never
/** The smallest along the axes; NaN if there is one. */
export const min = <A extends string, D extends Dtype, const O extends A>(x: Tensor<A, D>, ...over: readonly O[]): Tensor<Exclude<A, O>, Arithmetic<D>> =>
  reduce(x, minMonoid(taken('min', x)), ...over) as never
/** The mean along the axes, f32. */
export const mean = <A extends string, const O extends A>(x: Tensor<A, Float>, ...over: readonly O[]): Tensor<Exclude<A, O>, 'f32'> =>
  reduce(x, meanMonoid, ...over) as never
/** The position of the largest element, i32; of equals the lowest; NaN counts as the largest. */
export const argmax = <A extends string, const O extends A>(x: Tensor<A>, over: O): Tensor<Exclude<A, O>, 'i32'> =>
  reduce(x, argmaxMonoid(taken('argmax', x)), over) as never

/** Whether all elements along the axes are true; true for an empty axis. */
export const all = <A extends string, const O extends A>(x: Tensor<A, 'bool'>, ...over: readonly O[]): Tensor<Exclude<A, O>, 'bool'> =>
  reduce(x, allMonoid, ...over) as never
/** Whether any element along the axes is true; false for an empty axis. */
export const any = <A extends string, const O extends A>(x: Tensor<A, 'bool'>, ...over: readonly O[]): Tensor<Exclude<A, O>, 'bool'> =>
  reduce(x, anyMonoid, ...over) as never

export interface PoolOptions {
  /** Number of neighbours, odd: (size − 1) / 2 on each side. */
  readonly size: number
}
function pooling(kind: Pool, x: Expr, axis: string, options: PoolOptions, counted: boolean): Expr {
  checkAxis(`pool.${kind}`, x, axis)
  checkOptions(`pool.${kind}`, options, ['size'], `pool.${kind}(x, '${axis}', { size: 3 })`)
  const { size: n } = options
  if (!Number.isInteger(n) || n < 1) fail('pool', `pool.${kind}: size ${typeof n === 'number' ? n : nameValue(n)}`, 'use a positive odd number')
  if (n % 2 === 0) fail('pool', `pool.${kind}: size ${n} is even, so a centred window would shift the result by half a position`, `use ${n - 1} or ${n + 1}`)
  if (arithmetic(x.dtype) !== 'f32') fail('dtype', `pool.${kind}: takes floats, not ${x.dtype}`, "cast it: cast(x, 'f32')")
  const arg = cast(x, 'f32')
  return node<'window'>({ kind: 'window', dtype: 'f32', arg, axis, size: n, pool: kind, counted, axes: x.axes })
}

/** Pooling with stride 1 along an axis, centred; the length stays. Positions beyond the ends are padding. f32. */
export const pool = {
  /** The largest of the neighbours; padding is left out; NaN if there is one. */
  max: <A extends string, const O extends A>(x: Tensor<A, Float>, axis: O, options: PoolOptions): Tensor<A, 'f32'> => pooling('max', x, axis, options, false) as never,
  /** The mean; `countPadding` (default, as PyTorch's count_include_pad) divides by `size` at the ends too. */
  mean: <A extends string, const O extends A>(x: Tensor<A, Float>, axis: O, options: PoolOptions & { readonly countPadding?: boolean }): Tensor<A, 'f32'> =>
    pooling('mean', x, axis, options, options?.countPadding ?? true) as never,
  /** The sum; padding counts 0. */
  sum: <A extends string, const O extends A>(x: Tensor<A, Float>, axis: O, options: PoolOptions): Tensor<A, 'f32'> => pooling('sum', x, axis, options, false) as never,
}

// ---------------------------------------------------------------------------------------------- selection and layout

/**
 * The positions along `axis` of the k largest elements, as the new axis `as`, i32. Of equal elements the lowest
 * positions; NaN is the largest; −0 equals +0. Ascending by position, or with `order: 'score'` by falling element, then position.
 */
export function topK<A extends string, const O extends A, const S extends string>(
  x: Tensor<A, Float>, axis: O, options: { readonly k: SizeLike; readonly as: S; readonly order?: 'position' | 'score' },
): Tensor<Exclude<A, O> | S, 'i32'> {
  const along = checkAxis('topK', x, axis)
  checkOptions('topK', options, ['k', 'as'], `topK(x, '${axis}', { k: 32, as: 'kept' })`)
  const { order = 'position' } = options
  if (order !== 'position' && order !== 'score') fail('topk', `topK: there is no order ${nameValue(order)}`, "use 'position' or 'score'")
  const k = toSize(options.k), rest = x.axes.filter(a => a.name !== axis)
  if (arithmetic(x.dtype) !== 'f32') fail('dtype', `topK: takes floats, not ${x.dtype}`, "cast it: cast(x, 'f32')")
  checkFresh('topK', { axes: rest }, options.as)
  checkAtLeast('topk', k, size(0), `topK: k is ${printSize(k)}`, 'k is not negative')
  checkAtLeast('topk', along.size, k, `topK: k is ${printSize(k)}, but axis '${axis}' has only ${printSize(along.size)} elements`, 'lower k')
  return node<'topK'>({ kind: 'topK', dtype: 'i32', arg: cast(x, 'f32'), axis, k, as: options.as, order, axes: [...rest, { name: options.as, size: k }] }) as never
}

/** x at the positions that `index` holds (i32 or u32; clamped to the axis). Axes that both have are aligned. */
export function gather<A extends string, D extends Dtype, const O extends A, I extends string>(
  x: Tensor<A, D>, axis: O, index: Tensor<I, 'i32' | 'u32'>,
): Tensor<Exclude<A, O> | I, D> {
  const along = checkAxis('gather', x, axis)
  checkTensor('gather', index)
  if (!isInteger(index.dtype)) fail('dtype', `gather: the index has dtype ${index.dtype}`, "cast it: cast(index, 'i32')")
  if (axisOf(index, axis) !== undefined) fail('duplicate-axis', `gather: the index has the axis '${axis}' that it looks along`, `rename it: rename(index, '${axis}', ...)`)
  if (fixedSize(along.size) === 0) fail('empty', `gather: axis '${axis}' is empty`, 'there is nothing to look up')
  const kept = x.axes.filter(a => a.name !== axis)
  // The index's own axes stand where `axis` stood, so that rows stay rows.
  const own = index.axes.filter(a => !kept.some(b => b.name === a.name))
  for (const a of index.axes) { const b = kept.find(c => c.name === a.name); if (b) checkEqual('gather', a.name, a.size, b.size) }
  const at = x.axes.findIndex(a => a.name === axis)
  return node<'gather'>({ kind: 'gather', dtype: x.dtype, arg: x, axis, index, axes: [...x.axes.slice(0, at), ...own, ...x.axes.slice(at + 1)] }) as never
}

/** The positions from ≤ i < to, as the new axis `as` (which may keep the old name). */
export function slice<A extends string, D extends Dtype, const O extends A, const S extends string>(
  x: Tensor<A, D>, axis: O, options: { readonly from?: SizeLike; readonly to?: SizeLike; readonly as: S },
): Tensor<Exclude<A, O> | S, D> {
  const along = checkAxis('slice', x, axis)
  checkOptions('slice', options, ['as'], `slice(x, '${axis}', { from: 1, as: '${axis}' })`)
  const from = toSize(options.from ?? 0), to = options.to === undefined ? along.size : toSize(options.to)
  checkFresh('slice', { axes: x.axes.filter(a => a.name !== axis) }, options.as)
  const text = `slice: ${printSize(from)} .. ${printSize(to)} of axis '${axis}' with ${printSize(along.size)} elements`
  checkAtLeast('slice', from, size(0), text, 'from is not negative')
  checkAtLeast('slice', to, from, text, 'from is at most to')
  checkAtLeast('slice', along.size, to, text, 'to is at most the length')
  return node<'slice'>({ kind: 'slice', dtype: x.dtype, arg: x, axis, from, to, as: options.as, axes: x.axes.map(a => (a.name === axis ? { name: options.as, size: minus(to, from) } : a)) }) as never
}

/** One after the other along an axis that all parts have; their other axes are aligned and broadcast. */
export function concat<A extends string, D extends Dtype, const O extends A>(parts: readonly Tensor<A, D>[], axis: O): Tensor<A, D> {
  checkList('concat', parts, `concat([x, y], 'row')`)
  const first = parts[0]!
  if (parts.length === 0) fail('axis', 'concat: no parts', 'give it at least one')
  for (const p of parts) {
    checkAxis('concat', p, axis)
    if (p.dtype !== first.dtype) fail('dtype', `concat: parts of dtype ${first.dtype} and ${p.dtype}`, `cast one of them: cast(x, '${first.dtype}')`)
  }
  if (parts.length === 1) return first
  const total = parts.map(p => axisOf(p, axis)!.size).reduce((a, b) => plus(a, b))
  const rest = unite('concat', parts, [axis])
  const order = first.axes.map(a => a.name).concat(rest.map(a => a.name).filter(n => axisOf(first, n) === undefined))
  const axes = order.map(n => (n === axis ? { name: n, size: total } : rest.find(a => a.name === n)!))
  return node<'concat'>({ kind: 'concat', dtype: first.dtype, parts, axis, axes }) as never
}

/** Another name for an axis. */
export function rename<A extends string, D extends Dtype, const O extends A, const S extends string>(x: Tensor<A, D>, from: O, to: S): Tensor<Exclude<A, O> | S, D> {
  checkAxis('rename', x, from)
  if ((from as string) === to) return x as never
  checkFresh('rename', x, to)
  return node<'rename'>({ kind: 'rename', dtype: x.dtype, arg: x, from, to, axes: x.axes.map(a => (a.name === from ? { name: to, size: a.size } : a)) }) as never
}

/** One axis as several, the last one fastest; their sizes multiply to its size. */
export function split<A extends string, D extends Dtype, const O extends A, const S extends string>(
  x: Tensor<A, D>, axis: O, into: { readonly [N in S]: SizeLike },
): Tensor<Exclude<A, O> | S, D> {
  const along = checkAxis('split', x, axis)
  checkOptions('split', into, [], `split(x, '${axis}', { outer: 4, inner: 8 })`)
  const parts = Object.entries(into).map(([name, s]) => ({ name, size: toSize(s as SizeLike) }))
  if (parts.length === 0) fail('axis', 'split: into no axes', 'name at least one')
  for (const p of parts) checkFresh('split', { axes: x.axes.filter(a => a.name !== axis) }, p.name)
  const product = parts.map(p => p.size).reduce((a, b) => times(a, b))
  if (!equalSizes(product, along.size)) {
    fail('size', `split: ${parts.map(p => printSize(p.size)).join(' × ')} is not provably ${printSize(along.size)}, the size of axis '${axis}'`, 'declare the axis with the product as its size')
  }
  return node<'split'>({ kind: 'split', dtype: x.dtype, arg: x, axis, into: parts, axes: x.axes.flatMap(a => (a.name === axis ? parts : [a])) }) as never
}

/** Several axes as one, which stands where the first one stood; the last one named is fastest. */
export function merge<A extends string, D extends Dtype, const O extends A, const S extends string>(x: Tensor<A, D>, from: readonly O[], as: S): Tensor<Exclude<A, O> | S, D> {
  checkList('merge', from, `merge(x, ['row', 'column'], 'cell')`)
  if (from.length === 0) fail('axis', 'merge: no axes', 'name at least one')
  checkDistinct('merge', from)
  const parts = from.map(n => checkAxis('merge', x, n))
  checkFresh('merge', { axes: x.axes.filter(a => !from.includes(a.name as O)) }, as)
  const merged = { name: as as string, size: parts.map(p => p.size).reduce((a, b) => times(a, b)) }
  return node<'merge'>({ kind: 'merge', dtype: x.dtype, arg: x, from, as, axes: x.axes.flatMap(a => (a.name === from[0] ? [merged] : from.includes(a.name as O) ? [] : [a])) }) as never
}

