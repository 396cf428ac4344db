/** Steps that put elements together: contractions, reductions with monoids, windows, composites of them. */
import {
  all, any, argmax, contract, label, layerNorm, logSumExp, max, mean, min, monoid, pool, reduce, softmax, sum, type Monoid, type Tensor,
} from '../../src/dsl/index.js'
import { axesOf, axisOf, entry, hasAxes, hasAxis, isBool, isFloat, isNarrow, isNumber, one, pick, pickSettled, wrapped, type Builder, type Choose, type Entry, type Step } from './builder.js'
import { averaged, exactly, exponentials, product, summed, unit, type Range } from './ranges.js'

type F32 = Tensor<string, 'f32'>

/** Affine maps x ↦ m x + c under composition, modulo 2^32: exact, associative, not commutative. */
export const affineMonoid = monoid('affine', {
  takes: 'i32', components: { m: 'i32', c: 'i32' }, identity: { m: 1, c: 0 },
  lift: (x, at, $) => ({ m: $.add($.mul(x, 2), 1), c: $.add(x, at) }),
  combine: (a, b, $) => ({ m: $.mul(a.m, b.m), c: $.add($.mul(a.c, b.m), b.c) }),
  result: (c, _, $) => $.add(c.m, c.c), ordered: true, emptyAllowed: true,
})
/** The last element that is not 0: of any neighbours the later one counts. */
const lastMonoid = monoid('last', {
  takes: 'f32', components: { value: 'f32' }, identity: { value: 0 }, lift: v => ({ value: v }),
  combine: (a, b, $) => ({ value: $.where($.ne(b.value, 0), b.value, a.value) }), result: c => c.value, ordered: true, emptyAllowed: true,
})
const parityMonoid = monoid('parity', {
  takes: 'bool', components: { odd: 'bool' }, identity: { odd: false }, lift: v => ({ odd: v }),
  combine: (a, b, $) => ({ odd: $.ne(a.odd, b.odd) }), result: c => c.odd, emptyAllowed: true,
})
const productMonoid = monoid('product', {
  takes: 'u32', components: { total: 'u32' }, identity: { total: 1 }, lift: (v, at, $) => ({ total: $.add($.mul(v, 2), $.add($.cast(at, 'u32'), 1)) }),
  combine: (a, b, $) => ({ total: $.mul(a.total, b.total) }), result: c => c.total, emptyAllowed: true,
})
const rangeMonoid = monoid('range', {
  takes: 'f32', components: { low: 'f32', high: 'f32' }, identity: { low: Infinity, high: -Infinity }, lift: v => ({ low: v, high: v }),
  combine: (a, b, $) => ({ low: $.min(a.low, b.low), high: $.max(a.high, b.high) }), result: (c, _, $) => $.sub(c.high, c.low),
})
const varianceMonoid = monoid('variance', {
  takes: 'f32', components: { total: 'f32', squares: 'f32' }, identity: { total: 0, squares: 0 }, lift: (v, _, $) => ({ total: v, squares: $.mul(v, v) }),
  combine: (a, b, $) => ({ total: $.add(a.total, b.total), squares: $.add(a.squares, b.squares) }),
  result: (c, count, $) => $.sub($.div(c.squares, count), $.mul($.div(c.total, count), $.div(c.total, count))),
})
/** Three components of three dtypes: whether an element is true, the first that is, and how many are. */
const whereaboutsMonoid = monoid('whereabouts', {
  takes: 'bool', components: { some: 'bool', first: 'i32', many: 'u32' }, identity: { some: false, first: 2 ** 31 - 1, many: 0 },
  lift: (v, at, $) => ({ some: v, first: $.where(v, at, 2 ** 31 - 1), many: $.cast(v, 'u32') }),
  combine: (a, b, $) => ({ some: $.or(a.some, b.some), first: $.min(a.first, b.first), many: $.add(a.many, b.many) }),
  result: (c, _, $) => $.where(c.some, $.add(c.first, $.cast(c.many, 'i32')), -1), emptyAllowed: true,
})

interface Folded { readonly x: Entry; readonly over: readonly string[]; readonly n: number }
/** Axes of an entry, folded in one piece: not too much work, not empty unless allowed. */
function folded(b: Builder, choose: Choose, x: Entry | undefined, emptyAllowed: boolean): Folded | undefined {
  if (x === undefined || !hasAxes(x)) return undefined
  const over = axesOf(x, choose), n = over.reduce((a, name) => a * b.length(x.e, name), 1)
  return n === 0 && !emptyAllowed ? undefined : { x, over, n }
}

const simple = (name: 'sum' | 'max' | 'min' | 'mean'): Step => (b, choose) => {
  const f = folded(b, choose, pick(b, choose, t => hasAxes(t) && (name === 'mean' ? isFloat(t) : isNumber(t))), name === 'sum')
  if (f === undefined) return undefined
  const { x, over, n } = f
  if (name === 'mean') return entry(mean(x.e as F32, ...over), averaged(n, x))
  if (name === 'sum') return entry(sum(x.e, ...over), wrapped(x, summed(n, x)))
  return entry({ max, min }[name](x.e, ...over), x)
}
const custom = (monoidOf: Monoid, range: (n: number, x: Entry) => Range, exact: boolean): Step => (b, choose) => {
  const f = folded(b, choose, (exact ? pickSettled : pick)(b, choose, t => hasAxes(t) && (monoidOf.takes === 'f32' ? isFloat(t) : t.e.dtype === monoidOf.takes)), monoidOf.emptyAllowed)
  return f && entry(reduce(f.x.e, monoidOf, ...f.over), range(f.n, f.x))
}
const any32 = (): Range => exactly(2 ** 32)

/** Σ x y over axes that both have. */
export function contracted(b: Builder, choose: Choose, x: Entry | undefined, y: Entry | undefined): Entry | undefined {
  if (x === undefined || y === undefined) return undefined
  const shared = x.e.axes.filter(a => hasAxis(y, a.name)).map(a => a.name), start = choose(Math.max(shared.length, 1))
  const over = [...shared.slice(start), ...shared.slice(0, start)].slice(0, [1, 1, 1, 1, 2, 3][choose(6)])
  const n = over.reduce((a, name) => a * b.length(x.e, name), 1)
  if (over.length === 0 || b.count([...x.e.axes, ...y.e.axes]) > b.work) return undefined
  const narrow = isNarrow(x) && isNarrow(y) || x.whole && y.whole && x.error === 0 && y.error === 0 && x.most * y.most <= 2 ** 24
  const term = product(x, y, narrow)
  return term && entry(contract(x.e as F32, y.e as F32, ...over), summed(n, term))
}
/** Whether two can be contracted: they meet, large as the product may be before it is summed. */
const contractible = (b: Builder, x: Entry) => (t: Entry): boolean => isFloat(t) && t.e.axes.some(a => hasAxis(x, a.name)) &&
  b.meet(...[x, t].map(o => ({ ...o.e, axes: o.e.axes.filter(a => hasAxis(x, a.name) && hasAxis(t, a.name)) })))

const contraction: Step = (b, choose) => {
  const x = pick(b, choose, t => isFloat(t) && hasAxes(t)), y = x && pick(b, choose, contractible(b, x))
  return contracted(b, choose, x, y)
}
/** Of two inputs, 16-bit ones first: what tensor cores multiply. */
const matrixProduct: Step = (b, choose) => {
  const inputs = b.entries.filter(t => t.e.kind === 'tensor' && isFloat(t) && hasAxes(t)), narrow = inputs.filter(isNarrow)
  const from = narrow.length > 1 ? narrow : inputs
  if (from.length === 0) return undefined
  const x = one(choose, from), y = one(choose, from.filter(contractible(b, x)))
  return contracted(b, choose, x, y)
}

const pooling = (kinds: readonly ('max' | 'sum' | 'mean' | 'uncounted')[]): Step => (b, choose) => {
  const x = pick(b, choose, t => isFloat(t) && hasAxes(t)), axis = x && axisOf(x, choose)
  if (x === undefined || axis === undefined) return undefined
  const y = x.e as F32, n = one(choose, [1, 3, 3, 5, 7, 9, 31, 63]), options = { size: n }
  if (b.count(x.e.axes) * n > b.work) return undefined
  switch (one(choose, kinds)) {
    case 'max': return entry(pool.max(y, axis, options), x)
    case 'sum': return entry(pool.sum(y, axis, options), summed(n, x))
    case 'mean': return entry(pool.mean(y, axis, options), averaged(n, x))
    // Whatever the number of neighbours is, the sum is exact or it is not.
    case 'uncounted': return entry(pool.mean(y, axis, { size: n, countPadding: false }), averaged(n, x))
  }
}

export const foldSteps: Readonly<Record<string, Step>> = {
  sum: simple('sum'), max: simple('max'), min: simple('min'), mean: simple('mean'),
  allAny: (b, choose) => {
    const f = folded(b, choose, pick(b, choose, t => isBool(t) && hasAxes(t)), true)
    return f && entry((choose(2) === 0 ? all : any)(f.x.e as Tensor<string, 'bool'>, ...f.over), exactly(1))
  },
  argmax: (b, choose) => {
    const x = pickSettled(b, choose, t => isNumber(t) && hasAxes(t)), axis = x && axisOf(x, choose)
    return x && axis !== undefined && b.length(x.e, axis) > 0 ? entry(argmax(x.e, axis), exactly(b.length(x.e, axis))) : undefined
  },
  affine: custom(affineMonoid, any32, true), last: custom(lastMonoid, (_, x) => x, true), parity: custom(parityMonoid, () => exactly(1), true),
  product: custom(productMonoid, any32, true), whereabouts: custom(whereaboutsMonoid, n => exactly(2 * n), true),
  range: custom(rangeMonoid, (_, x) => ({ most: 2 * x.most, error: x.error === 0 ? 0 : 2 * x.error + unit * 2 * (x.most + x.error), whole: x.whole, finite: x.finite }), false),
  contract: contraction, matrixProduct, pool: pooling(['max', 'sum', 'mean', 'uncounted']),
  label: (b, choose) => { const x = pick(b, choose, () => true); return x && entry(label(`named${choose(9)}`, x.e), x) },
}

const rowOf = (b: Builder, choose: Choose, most: number): Folded | undefined => folded(b, choose, pick(b, choose, t => isFloat(t) && hasAxes(t) && t.most < most), false)
/** The language's bound of softmax by its definition: numerator and denominator, an error of x in both. */
const softmaxOf = (n: number, x: Range): Range => ({ most: 1, error: 2 * Math.expm1(2 * x.error) + exponentials(n, x), whole: false, finite: x.finite })

export const inexactFolds: Readonly<Record<string, Step>> = {
  softmax: (b, choose) => { const f = rowOf(b, choose, 1e3); return f && entry(softmax(f.x.e as F32, ...f.over), softmaxOf(f.n, f.x)) },
  logSumExp: (b, choose) => {
    const f = rowOf(b, choose, 1e3)
    if (f === undefined) return undefined
    const most = f.x.most + Math.log(f.n)
    return entry(logSumExp(f.x.e as F32, ...f.over), { most, error: f.x.error + exponentials(f.n, f.x) + 16 * unit * (most + 1), whole: false, finite: f.x.finite })
  },
  layerNorm: (b, choose) => {
    const f = rowOf(b, choose, 100)
    if (f === undefined) return undefined
    // With ε = 1 the slope is at most about 2 + |x|²: errors stay small where the variance is.
    const { x, n } = f, y: Range = { most: Math.sqrt(n) + 1, error: (x.error + (2 * n + 16) * unit * x.most) * (4 + 8 * x.most * x.most), whole: false, finite: x.finite }
    const scale = pick(b, choose, t => isFloat(t) && t.e.axes.every(a => hasAxis(x, a.name)) && b.meet(t.e, x.e))
    const weight = choose(2) === 0 ? undefined : scale, bias = choose(2) === 0 ? undefined : scale
    const weighted = weight === undefined ? y : product(y, weight, false)
    if (weighted === undefined) return undefined
    const biased = bias === undefined ? weighted : { ...weighted, most: weighted.most + bias.most, error: weighted.error + bias.error + unit * (weighted.most + bias.most) }
    const given = { ...(weight === undefined ? {} : { weight: weight.e as F32 }), ...(bias === undefined ? {} : { bias: bias.e as F32 }) }
    return entry(layerNorm(x.e as F32, f.over, { epsilon: 1, ...given }), biased)
  },
  variance: custom(varianceMonoid, (n, x) => {
    const m = x.most + x.error
    return { most: 2 * m * m, error: 4 * m * x.error + 2 * x.error ** 2 + (3 * n + 8) * unit * m * m, whole: false, finite: x.finite }
  }, false),
  /** Weighted sums: softmax of products, contracted with something along the same axis. */
  attend: (b, choose) => {
    const scores = matrixProduct(b, choose) ?? pick(b, choose, t => isFloat(t) && hasAxes(t)), axis = scores && axisOf(scores, choose)
    if (scores === undefined || axis === undefined || !isFloat(scores) || scores.most > 1e3 || b.count(scores.e.axes) > b.limit) return undefined
    const n = b.length(scores.e, axis)
    if (n === 0) return undefined
    const weights = entry(softmax(scores.e as F32, axis), softmaxOf(n, scores))
    const values = pick(b, choose, t => isFloat(t) && hasAxis(t, axis) && contractible(b, weights)(t))
    const term = values && product(weights, values, false)
    if (values === undefined || term === undefined || b.count([...weights.e.axes, ...values.e.axes]) > b.work) return weights
    // The weights of a row add up to about 1.
    const most = values.most * (1 + n * weights.error)
    return entry(contract(weights.e as F32, values.e as F32, axis), { most, error: n * term.error + n * unit * 2 * most, whole: false, finite: term.finite })
  },
}
