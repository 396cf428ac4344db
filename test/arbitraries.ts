/**
 * What the suites draw at random: whole programs that are legal by construction; tensors are in `arbitrary-tensors.ts`.
 *
 * A program comes with a bound on how far a correct device may be from the reference, from a forward error analysis
 * that runs along with the construction. Bound 0 means: every device gives the same numbers (−0 and +0 count as one
 * number, all NaNs as one). Operations that jump (topK, comparisons, casts to integers ...) are only applied to values
 * with bound 0, so that a rounding error never turns into another answer.
 */
import fc from 'fast-check'
import {
  abs, add, all, any, argmax, cast, concat, constant, contract, div, exp, gather, iota, layerNorm, logSumExp, lt, map, max, maximum, mean,
  merge, min, minimum, minus, mod, monoid, mul, neg, not, plus, pool, printGraph, reduce, rename, round, size, slice, softmax, split, sub, sum, tanh, tensor, times,
  topK, where, type Expr, type Size, type Sizes, type Tensor,
} from '../src/dsl/index.js'
import type { Dtype } from '../src/dsl/dtype.js'
import { topological } from '../src/dsl/expr.js'
import { equalSizes, evaluateSize } from '../src/dsl/size.js'
import type { HostTensor } from '../src/runtime/host-tensor.js'
import { arbitraryLength, randomTensor, type Flavour } from './arbitrary-tensors.js'

export * from './arbitrary-tensors.js'

export interface Program {
  readonly outputs: Readonly<Record<string, Expr>>
  readonly inputs: Readonly<Record<string, HostTensor>>
  /** By output: how far a correct device may be from the reference. */
  readonly bounds: Readonly<Record<string, number>>
  /** Symbols' values, those included that no shape of an input that the outputs need tells. */
  readonly sizes: Sizes
}

export interface ProgramOptions {
  /** `exact` gives programs with bounds of 0 only. Default `exact`. */
  readonly flavour?: Flavour
  /** Operations at most. Default 7. */
  readonly steps?: number
  /** Elements of a node at most. Default 20000. */
  readonly elements?: number
}

/** A node with what is known about its elements. */
interface Entry {
  readonly e: Tensor
  /** No finite element is larger in magnitude. */
  readonly most: number
  /** The error of a finite element at most. */
  readonly error: number
  /** Every finite element is a whole number. */
  readonly whole: boolean
}

const ulp = 2 ** -24
const isFloat = (t: Entry): boolean => t.e.dtype === 'f32' || t.e.dtype === 'f16' || t.e.dtype === 'bf16'
const isInteger = (t: Entry): boolean => t.e.dtype === 'i32' || t.e.dtype === 'u32'

/** Affine maps x ↦ m x + c under composition, modulo 2^32: exact, associative, not commutative. */
export const affineMonoid = monoid('affine', {
  takes: 'i32', components: { m: 'i32', c: 'i32' }, identity: { m: 1, c: 0 },
  lift: (x, at, $) => ({ m: $.add($.mul(x, 2), 1), c: $.add(x, at) }),
  combine: (a, b, $) => ({ m: $.mul(a.m, b.m), c: $.add($.mul(a.c, b.m), b.c) }),
  result: (c, _, $) => $.add(c.m, c.c), ordered: true, emptyAllowed: true,
})

class Builder {
  readonly entries: Entry[] = []
  readonly lengths: Record<string, number> = {}
  private fresh = 0

  constructor(readonly exact: boolean, readonly limit: number) {}

  freshAxis(): string { return `n${this.fresh++}` }
  at(s: Size): number { return evaluateSize(s, this.lengths) }
  length(e: Expr, axis: string): number { return this.at(this.sizeOf(e, axis)) }
  sizeOf(e: Expr, axis: string): Size { return e.axes.find(a => a.name === axis)!.size }
  count(axes: readonly { readonly name: string; readonly size: Size }[]): number {
    return [...new Map(axes.map(a => [a.name, this.at(a.size)])).values()].reduce((a, b) => a * b, 1)
  }
  /** Whether the two can meet: shared axes provably equal, the result not too large. */
  meet(a: Expr, b: Expr): boolean {
    const shared = a.axes.every(x => { const y = b.axes.find(z => z.name === x.name); return y === undefined || equalSizes(x.size, y.size) })
    return shared && this.count([...a.axes, ...b.axes]) <= this.limit
  }
}

/** Numbers that decide one step; each is used for one decision. */
type Choose = (n: number) => number
type Step = (b: Builder, choose: Choose) => Entry | undefined

const entry = (e: Expr, most: number, error: number, whole: boolean): Entry => ({ e: e as Tensor, most, error, whole })
const pick = (b: Builder, choose: Choose, fits: (t: Entry) => boolean): Entry | undefined => {
  const fitting = b.entries.filter(fits)
  // Recent nodes are likelier: programs grow deep rather than wide.
  return fitting.length === 0 ? undefined : fitting[fitting.length - 1 - Math.min(choose(fitting.length), choose(fitting.length))]
}
const axisOf = (t: Entry, choose: Choose): string | undefined => t.e.axes[choose(Math.max(t.e.axes.length, 1))]?.name
/** Arithmetic on exact values may round, but every device rounds alike. */
const rounded = (a: Entry, b: Entry, error: number, most: number): number => (a.error === 0 && b.error === 0 ? 0 : error + ulp * most)
const wraps = (t: Entry, most: number): number => (isInteger(t) && most > 2 ** 31 ? 2 ** 32 : most)
/** The error of a sum of n terms, by the language's bound; whole numbers add up exactly. */
const summed = (n: number, most: number, error: number, whole: boolean): number =>
  n <= 1 ? error : whole && error === 0 && n * most <= 2 ** 24 ? 0 : n * error + n * ulp * n * most

const floats = isFloat
const numbers = (t: Entry): boolean => t.e.dtype !== 'bool'
const settled = (t: Entry): boolean => t.error === 0

const binarySteps = (op: 'add' | 'sub' | 'mul' | 'min' | 'max'): Step => (b, choose) => {
  const x = pick(b, choose, numbers)
  if (x === undefined) return undefined
  const y = pick(b, choose, t => (isFloat(t) ? isFloat(x) : t.e.dtype === x.e.dtype) && b.meet(t.e, x.e))
  if (y === undefined) return undefined
  const f = { add, sub, mul, min: minimum, max: maximum }[op]
  const e = f(x.e, y.e), whole = x.whole && y.whole
  if (op === 'min' || op === 'max') return entry(e, Math.max(x.most, y.most), Math.max(x.error, y.error), whole)
  const most = op === 'mul' ? x.most * y.most : x.most + y.most
  const error = op === 'mul' ? x.error * y.most + y.error * x.most + x.error * y.error : x.error + y.error
  return entry(e, wraps(x, most), rounded(x, y, error, most), whole)
}

const foldSteps = (op: 'sum' | 'max' | 'min' | 'mean'): Step => (b, choose) => {
  const x = pick(b, choose, op === 'mean' ? floats : numbers), axis = x && axisOf(x, choose)
  if (x === undefined || axis === undefined) return undefined
  const second = choose(3) === 0 ? axisOf(x, choose) : undefined
  const over = second === undefined || second === axis ? [axis] : [axis, second]
  const n = over.reduce((a, name) => a * b.length(x.e, name), 1)
  if (n === 0 && op !== 'sum') return undefined
  if (op === 'max' || op === 'min') return entry({ max, min }[op](x.e, ...over), x.most, x.error, x.whole)
  if (op === 'sum') return entry(sum(x.e, ...over), wraps(x, n * x.most), isInteger(x) ? 0 : summed(n, x.most, x.error, x.whole), x.whole)
  return entry(mean(x.e as Tensor<string, 'f32'>, ...over), x.most, x.error + (n + 2) * ulp * x.most, false)
}

const steps: Readonly<Record<string, Step>> = {
  add: binarySteps('add'), sub: binarySteps('sub'), mul: binarySteps('mul'), minimum: binarySteps('min'), maximum: binarySteps('max'),
  sum: foldSteps('sum'), max: foldSteps('max'), min: foldSteps('min'), mean: foldSteps('mean'),
  unary: (b, choose) => {
    const x = pick(b, choose, t => numbers(t) && t.e.dtype !== 'u32')
    return x && entry((choose(2) === 0 ? neg : abs)(x.e), wraps(x, x.most), x.error, x.whole)
  },
  constant: (b, choose) => {
    const x = pick(b, choose, t => t.e.dtype === 'f32' || t.e.dtype === 'i32')
    const c = choose(7) - 3
    return x && entry(mul(x.e, c), wraps(x, x.most * Math.abs(c)), x.error * Math.abs(c) + (x.error && ulp * x.most * 3), x.whole)
  },
  size: (b, choose) => {
    const x = pick(b, choose, t => (t.e.dtype === 'f32' || t.e.dtype === 'i32') && t.e.axes.length > 0), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined) return undefined
    const most = x.most + b.length(x.e, axis)
    return entry(sub(x.e, b.sizeOf(x.e, axis)), wraps(x, most), x.error && x.error + ulp * most, x.whole)
  },
  integerDivision: (b, choose) => {
    const x = pick(b, choose, isInteger)
    if (x === undefined) return undefined
    const y = pick(b, choose, t => t.e.dtype === x.e.dtype && b.meet(t.e, x.e))!
    return choose(2) === 0 ? entry(div(x.e, y.e), wraps(x, x.most * 2), 0, true) : entry(mod(x.e, y.e), Math.max(x.most, y.most), 0, true)
  },
  divide: (b, choose) => {
    const x = pick(b, choose, floats), y = pick(b, choose, t => floats(t) && x !== undefined && b.meet(t.e, x.e))
    if (x === undefined || y === undefined) return undefined
    const denominator = add(abs(y.e), 1)
    const error = x.error + x.most * y.error
    return entry(div(x.e, denominator), x.most, rounded(x, y, error * (1 + 2 * y.error), 3 * x.most), false)
  },
  compare: (b, choose) => {
    const x = pick(b, choose, t => numbers(t) && settled(t))
    const y = x && pick(b, choose, t => (isFloat(t) ? isFloat(x) : t.e.dtype === x.e.dtype) && settled(t) && b.meet(t.e, x.e))
    return x && y && entry(lt(x.e, y.e), 1, 0, true)
  },
  not: (b, choose) => { const x = pick(b, choose, t => t.e.dtype === 'bool'); return x && entry(not(x.e), 1, 0, true) },
  allAny: (b, choose) => {
    const x = pick(b, choose, t => t.e.dtype === 'bool'), axis = x && axisOf(x, choose)
    return x && axis && entry((choose(2) === 0 ? all : any)(x.e as Tensor<string, 'bool'>, axis), 1, 0, true) || undefined
  },
  where: (b, choose) => {
    const c = pick(b, choose, t => t.e.dtype === 'bool')
    const x = c && pick(b, choose, t => numbers(t) && b.meet(t.e, c.e))
    const y = c && x && pick(b, choose, t => (isFloat(t) ? isFloat(x) : t.e.dtype === x.e.dtype) && b.meet(t.e, c.e) && b.meet(t.e, x.e) && b.count([...c.e.axes, ...x.e.axes, ...t.e.axes]) <= b.limit)
    return c && x && y && entry(where(c.e as Tensor<string, 'bool'>, x.e, y.e), Math.max(x.most, y.most), Math.max(x.error, y.error), x.whole && y.whole)
  },
  round: (b, choose) => { const x = pick(b, choose, t => floats(t) && settled(t)); return x && entry(round(x.e), x.most + 1, 0, true) },
  polynomial: (b, choose) => {
    const x = pick(b, choose, t => t.e.dtype === 'f32')
    if (x === undefined) return undefined
    const e = map({ x: x.e }, ({ x: s }, $) => $.sub($.mul(s, $.add(s, 1)), $.max(s, 0)))
    const most = x.most * (x.most + 2)
    return entry(e, most, x.error && x.error * (2 * x.most + 2 + x.error) + 4 * ulp * most, x.whole)
  },
  cast: (b, choose) => {
    const to = (['f32', 'f16', 'bf16', 'i32', 'u32', 'bool', 'f32', 'f32'] as const)[choose(8)]!
    const x = pick(b, choose, t => t.e.dtype !== to && (settled(t) || to === 'f32'))
    if (x === undefined) return undefined
    const most = to === 'bool' ? 1 : to === 'u32' || to === 'i32' ? 2 ** 32 : to === 'f32' ? x.most : x.most * 1.01 + 1
    return entry(cast(x.e, to), isFloat(x) && (to === 'i32' || to === 'u32') ? 2 ** 32 : most, x.error, to === 'f32' || to === 'f16' || to === 'bf16' ? x.whole : true)
  },
  contract: (b, choose) => {
    const x = pick(b, choose, t => floats(t) && t.e.axes.length > 0)
    const axis = x && axisOf(x, choose)
    const y = x && pick(b, choose, t => floats(t) && t.e.axes.some(a => a.name === axis) && b.meet(t.e, x.e))
    if (x === undefined || y === undefined || axis === undefined) return undefined
    const n = b.length(x.e, axis), most = x.most * y.most
    const product = x.error * y.most + y.error * x.most + x.error * y.error
    const narrow = x.e.dtype !== 'f32' && y.e.dtype !== 'f32' || (x.whole && y.whole)
    return entry(contract(x.e as Tensor<string, 'f32'>, y.e as Tensor<string, 'f32'>, axis), n * most, summed(n, most, product + (narrow ? 0 : ulp * most), x.whole && y.whole), x.whole && y.whole)
  },
  argmax: (b, choose) => {
    const x = pick(b, choose, t => numbers(t) && settled(t) && t.e.axes.length > 0), axis = x && axisOf(x, choose)
    return x && axis && b.length(x.e, axis) > 0 ? entry(argmax(x.e, axis), b.length(x.e, axis), 0, true) : undefined
  },
  ordered: (b, choose) => {
    const x = pick(b, choose, t => t.e.dtype === 'i32' && t.e.axes.length > 0), axis = x && axisOf(x, choose)
    return x && axis && entry(reduce(x.e, affineMonoid, axis), 2 ** 32, 0, true) || undefined
  },
  pool: (b, choose) => {
    const x = pick(b, choose, t => floats(t) && t.e.axes.length > 0), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined) return undefined
    const y = x.e as Tensor<string, 'f32'>, n = [1, 3, 5, 7, 63][choose(5)]!, options = { size: n }
    switch (choose(b.exact ? 2 : 4)) {
      case 0: return entry(pool.max(y, axis, options), x.most, x.error, x.whole)
      case 1: return entry(pool.sum(y, axis, options), n * x.most, summed(n, x.most, x.error, x.whole), x.whole)
      case 2: return entry(pool.mean(y, axis, options), x.most, x.error + (n + 2) * ulp * x.most, false)
      default: return entry(pool.mean(y, axis, { size: n, countPadding: false }), x.most, x.error + (n + 2) * ulp * x.most, false)
    }
  },
  topK: (b, choose) => {
    const x = pick(b, choose, t => floats(t) && settled(t) && t.e.axes.length > 0), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined) return undefined
    const n = b.length(x.e, axis), along = b.sizeOf(x.e, axis)
    const k = n === 0 ? along : [0, 1, Math.min(n, 2), n - 1, along, minus(along, 1), Math.ceil(n / 2), Math.ceil(n / 3)][choose(8)]!
    return entry(topK(x.e as Tensor<string, 'f32'>, axis, { k, as: b.freshAxis(), order: choose(2) === 0 ? 'position' : 'score' }), n, 0, true)
  },
  gather: (b, choose) => {
    const index = pick(b, choose, isInteger)
    const x = index && pick(b, choose, t => t.e.axes.some(a => index.e.axes.every(i => i.name !== a.name) && b.length(t.e, a.name) > 0) && b.meet(t.e, index.e))
    if (index === undefined || x === undefined) return undefined
    const axes = x.e.axes.filter(a => index.e.axes.every(i => i.name !== a.name) && b.at(a.size) > 0)
    return entry(gather(x.e, axes[choose(axes.length)]!.name, index.e as Tensor<string, 'i32'>), x.most, x.error, x.whole)
  },
  slice: (b, choose) => {
    const x = pick(b, choose, t => t.e.axes.length > 0), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined) return undefined
    const n = b.length(x.e, axis), along = b.sizeOf(x.e, axis)
    const from = choose(Math.min(n, 3) + 1), to = choose(2) === 0 ? from + choose(n - from + 1) : minus(along, choose(n - from + 1))
    return entry(slice(x.e, axis, { from, to, as: b.freshAxis() }), x.most, x.error, x.whole)
  },
  concat: (b, choose) => {
    const x = pick(b, choose, t => t.e.axes.length > 0), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined) return undefined
    const rest = (e: Expr): Expr['axes'] => e.axes.filter(a => a.name !== axis)
    const y = pick(b, choose, t => t.e.dtype === x.e.dtype && t.e.axes.some(a => a.name === axis) &&
      rest(t.e).every(a => { const o = x.e.axes.find(z => z.name === a.name); return o === undefined || equalSizes(o.size, a.size) }) &&
      b.count([...rest(x.e), ...rest(t.e)]) * (b.length(x.e, axis) + b.length(t.e, axis)) <= b.limit)
    if (y === undefined) return undefined
    // The result's axis gets a name of its own, so that it can meet what has the old one.
    return entry(rename(concat([x.e, y.e], axis), axis, b.freshAxis()), Math.max(x.most, y.most), Math.max(x.error, y.error), x.whole && y.whole)
  },
  rename: (b, choose) => {
    const x = pick(b, choose, t => t.e.axes.length > 0), axis = x && axisOf(x, choose)
    return x && axis && entry(rename(x.e, axis, b.freshAxis()), x.most, x.error, x.whole) || undefined
  },
  split: (b, choose) => {
    const x = pick(b, choose, t => t.e.axes.length > 0), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined) return undefined
    const along = b.sizeOf(x.e, axis)
    const even = along.constant % 2 === 0 && along.terms.every(([, c]) => c % 2 === 0)
    const by = even ? 2 : 1
    const rest = along.terms.reduce<Size>((s, [name, c]) => plus(s, times(c / by, size(name))), size(along.constant / by))
    const [outer, inner] = choose(2) === 0 ? [rest, size(by)] : [size(by), rest]
    return entry(split(x.e, axis, { [b.freshAxis()]: outer, [b.freshAxis()]: inner }), x.most, x.error, x.whole)
  },
  merge: (b, choose) => {
    const x = pick(b, choose, t => t.e.axes.length > 1)
    if (x === undefined) return undefined
    const i = choose(x.e.axes.length), j = (i + 1 + choose(x.e.axes.length - 1)) % x.e.axes.length
    const [p, q] = [x.e.axes[i]!, x.e.axes[j]!]
    if (p.size.terms.length > 0 && q.size.terms.length > 0) return undefined   // the product would not be affine
    return entry(merge(x.e, [p.name, q.name], b.freshAxis()), x.most, x.error, x.whole)
  },
  iota: (b, choose) => {
    const x = pick(b, choose, t => t.e.axes.length > 0), axis = x && axisOf(x, choose)
    return x && axis && entry(iota(axis, b.sizeOf(x.e, axis)), b.length(x.e, axis), 0, true) || undefined
  },
  scalar: (_, choose) => entry(constant(choose(5) - 2), 2, 0, true),
}

/** The relative error of Σ e^(x − m), each element and each rescaling off by the bound of exp. */
const exponentials = (n: number, x: Entry): number => (16 + 8 * x.most + 4 * n) * 2 ** -23

/** Steps whose results are not the same on all devices. */
const inexactSteps: Readonly<Record<string, Step>> = {
  exp: (b, choose) => {
    const x = pick(b, choose, t => floats(t) && t.most < 20)
    return x && entry(exp(x.e), Math.exp(x.most), Math.exp(x.most) * (Math.expm1(x.error) + (2 + x.most) * 2 ** -23) + 2 ** -126, false)
  },
  tanh: (b, choose) => { const x = pick(b, choose, floats); return x && entry(tanh(x.e), 1, x.error + 5 * 2 ** -23, false) },
  softmax: (b, choose) => {
    const x = pick(b, choose, t => floats(t) && t.e.axes.length > 0 && t.most < 1e3), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined || b.length(x.e, axis) === 0) return undefined
    const n = b.length(x.e, axis), relative = 2 * Math.expm1(2 * x.error) + exponentials(n, x)
    return entry(softmax(x.e as Tensor<string, 'f32'>, axis), 1, relative, false)
  },
  logSumExp: (b, choose) => {
    const x = pick(b, choose, t => floats(t) && t.e.axes.length > 0 && t.most < 1e3), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined || b.length(x.e, axis) === 0) return undefined
    const n = b.length(x.e, axis), most = x.most + Math.log(n)
    return entry(logSumExp(x.e as Tensor<string, 'f32'>, axis), most, x.error + exponentials(n, x) + 8 * ulp * (most + 1), false)
  },
  layerNorm: (b, choose) => {
    const x = pick(b, choose, t => floats(t) && t.e.axes.length > 0 && t.most < 100), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined || b.length(x.e, axis) === 0) return undefined
    // With ε = 1 the slope is at most about 2 + |x|^2: errors stay small where the variance is.
    const n = b.length(x.e, axis)
    return entry(layerNorm(x.e as Tensor<string, 'f32'>, axis, { epsilon: 1 }), Math.sqrt(n) + 1, (x.error + (2 * n + 16) * ulp * x.most) * (4 + 8 * x.most * x.most), false)
  },
}

/** Programs over the whole language, with data. */
export function arbitraryProgram(options: ProgramOptions = {}): fc.Arbitrary<Program> {
  const { flavour = 'exact', steps: maxLength = 7, elements = 20000 } = options
  const exact = flavour === 'exact' || flavour === 'exactSpecial'
  return fc.record({
    axes: fc.tuple(arbitraryAxis(129), arbitraryAxis(33), arbitraryAxis(5), arbitraryAxis(5)),
    inputs: fc.array(fc.record({ dtype: fc.constantFrom<Dtype>('f32', 'f32', 'f16', 'bf16', 'i32', 'u32', 'bool'), axes: fc.subarray([0, 1, 2, 3], { minLength: 1 }) }), { minLength: 1, maxLength: 3 }),
    seed: fc.nat(),
    choices: fc.array(fc.array(fc.nat(9972), { minLength: 8, maxLength: 8 }), { minLength: 1, maxLength }),
  }).map(recipe => build(recipe, flavour, exact ? steps : { ...steps, ...inexactSteps }, elements))
}

interface AxisRecipe { readonly length: number; readonly form: 'symbol' | 'fixed' | 'double' | 'more' }
const arbitraryAxis = (most: number): fc.Arbitrary<AxisRecipe> =>
  fc.record({ length: fc.oneof({ arbitrary: arbitraryLength({ min: 1, max: most }), weight: 9 }, { arbitrary: fc.constant(0), weight: 1 }), form: fc.constantFrom('symbol', 'fixed', 'double', 'more') })

interface Recipe {
  readonly axes: readonly AxisRecipe[]
  readonly inputs: readonly { readonly dtype: Dtype; readonly axes: readonly number[] }[]
  readonly seed: number
  readonly choices: readonly (readonly number[])[]
}

function build(recipe: Recipe, flavour: Flavour, vocabulary: Readonly<Record<string, Step>>, elements: number): Program {
  const exact = flavour === 'exact' || flavour === 'exactSpecial'
  const b = new Builder(exact, elements)
  const inputs: Record<string, HostTensor> = {}
  const axisNames = ['a', 'b', 'c', 'd']
  const sizes = recipe.axes.map(({ length, form }, i): Size => {
    const symbol = `s${axisNames[i]!}`
    const form2 = form === 'double' && length % 2 !== 0 || form === 'more' && length < 3 ? 'symbol' : form
    if (form2 === 'fixed') return size(length)
    b.lengths[symbol] = form2 === 'double' ? length / 2 : form2 === 'more' ? length - 3 : length
    return form2 === 'double' ? times(2, size(symbol)) : form2 === 'more' ? plus(size(symbol), size(3)) : size(symbol)
  })
  recipe.inputs.forEach(({ dtype, axes }, i) => {
    const chosen: number[] = []
    for (const a of axes) if (chosen.concat(a).reduce((n, c) => n * recipe.axes[c]!.length, 1) <= elements) chosen.push(a)
    const name = 'xyz'[i]!
    const e = tensor(name, dtype, Object.fromEntries(chosen.map(a => [axisNames[a]!, sizes[a]!])))
    inputs[name] = randomTensor(dtype, Object.fromEntries(chosen.map(a => [axisNames[a]!, recipe.axes[a]!.length])), flavour, recipe.seed + i)
    b.entries.push(entry(e, dtype === 'bool' ? 1 : dtype === 'i32' || dtype === 'u32' ? 9 : 4, 0, exact || dtype === 'bool' || dtype === 'i32' || dtype === 'u32'))
  })

  // Elementwise steps are many; those that make kernels interesting come up as often.
  const frequent = ['contract', 'sum', 'max', 'pool', 'topK', 'gather', 'slice', 'softmax']
  const names = [...Object.keys(vocabulary), ...frequent.filter(n => n in vocabulary)]
  for (const numbers of recipe.choices) {
    let used = 1
    const choose: Choose = n => numbers[used < numbers.length ? used++ : used % numbers.length]! % n
    const next = vocabulary[names[numbers[0]! % names.length]!]!(b, choose)
    if (next === undefined || b.count(next.e.axes) > elements) continue
    // An exact program keeps to whole numbers that f32 holds; an inexact one to errors that show a bug.
    const tame = next.error <= 1e-2 && next.most < 1e6
    const integral = next.error === 0 && (!isFloat(next) || next.whole && next.most <= 2 ** 24)
    if (exact ? integral : next.e.dtype === 'f32' ? tame : true) b.entries.push(next)
  }

  const computed = b.entries.slice(recipe.inputs.length)
  const results = computed.length > 0 ? computed : [fallback(b.entries[0]!)]
  const below = new Set(results.flatMap(t => topological([t.e]).filter(e => e !== t.e)))
  const sinks = results.filter(t => !below.has(t.e)).slice(-3)
  const outputs = Object.fromEntries(sinks.map((t, i) => [`out${i}`, t.e as Expr]))
  const bounds = Object.fromEntries(sinks.map((t, i) => [`out${i}`, t.error === 0 ? 0 : 2 * t.error + 2 ** -126]))   // the reference rounds, too
  const program: Program = { outputs, inputs, bounds, sizes: b.lengths }
  return Object.assign(program, { [fc.toStringMethod]: () => `${printGraph(outputs)}flavour ${flavour}, data seed ${recipe.seed}, sizes ${JSON.stringify(b.lengths)}` })
}

const fallback = (t: Entry): Entry => (t.e.dtype === 'bool' ? entry(not(t.e), 1, 0, true) : entry(add(t.e, t.e), t.most * 2, 0, t.whole))
