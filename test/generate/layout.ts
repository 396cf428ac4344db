/** Steps that choose and move elements: selections, gathers, layout. */
import { concat, gather, merge, minus, plus, rename, size, slice, split, times, topK, type Expr, type Size, type Tensor } from '../../src/dsl/index.js'
import { equalSizes, fixedSize } from '../../src/dsl/size.js'
import { axisOf, entry, hasAxes, hasAxis, isFloat, isInteger, one, pick, pickSettled, type Builder, type Choose, type Entry, type Step } from './builder.js'
import { exactly, type Range } from './ranges.js'

/** A length between 0 and n for an axis of n elements: a number, a form in the axis's symbols, or a symbol of its own. */
function lengthWithin(b: Builder, choose: Choose, along: Size, n: number): Size {
  const k = one(choose, [0, 1, Math.min(n, 2), Math.max(n - 1, 0), n, Math.ceil(n / 2), Math.ceil(n / 3), choose(n + 1)])
  switch (choose(5)) {
    case 0: return along
    case 1: return n === 0 ? along : minus(along, 1)
    case 2: return b.freshSymbol(Math.min(k, n))
    default: return size(Math.min(k, n))
  }
}
const withAxis = (b: Builder, choose: Choose): { x: Entry; axis: string; n: number; along: Size } | undefined => {
  const x = pick(b, choose, hasAxes), axis = x && axisOf(x, choose)
  return x === undefined || axis === undefined ? undefined : { x, axis, n: b.length(x.e, axis), along: b.sizeOf(x.e, axis) }
}
const joint = (all: readonly Range[]): Range => ({
  most: Math.max(...all.map(r => r.most)), error: Math.max(...all.map(r => r.error)), whole: all.every(r => r.whole), finite: all.every(r => r.finite),
})

/** What can be put behind an entry along an axis. */
function partner(b: Builder, choose: Choose, parts: readonly Entry[], axis: string): Entry | undefined {
  const rest = (e: Expr): Expr['axes'] => e.axes.filter(a => a.name !== axis), before = parts.flatMap(p => rest(p.e))
  return pick(b, choose, t => t.e.dtype === parts[0]!.e.dtype && hasAxis(t, axis) && rest(t.e).every(a => before.every(o => o.name !== a.name || equalSizes(o.size, a.size))) &&
    b.count([...before, ...rest(t.e)]) * [...parts, t].reduce((n, p) => n + b.length(p.e, axis), 0) <= b.limit)
}

export const layoutSteps: Readonly<Record<string, Step>> = {
  topK: (b, choose) => {
    const x = pickSettled(b, choose, t => isFloat(t) && hasAxes(t)), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined) return undefined
    const n = b.length(x.e, axis), k = lengthWithin(b, choose, b.sizeOf(x.e, axis), n)
    return entry(topK(x.e as Tensor<string, 'f32'>, axis, { k, as: b.freshAxis(), order: choose(2) === 0 ? 'position' : 'score' }), exactly(n))
  },
  gather: (b, choose) => {
    const index = pick(b, choose, isInteger), looked = (t: Entry): Expr['axes'] => t.e.axes.filter(a => !hasAxis(index!, a.name) && b.at(a.size) > 0)
    const x = index && pick(b, choose, t => looked(t).length > 0 && b.meet(t.e, index.e))
    return index && x && entry(gather(x.e, one(choose, looked(x)).name, index.e as Tensor<string, 'i32'>), x)
  },
  slice: (b, choose) => {
    const w = withAxis(b, choose)
    if (w === undefined) return undefined
    const { x, axis, n, along } = w, whole = choose(4)
    if (whole === 0) return entry(slice(x.e, axis, { to: lengthWithin(b, choose, along, n), as: axis }), x)
    const from = choose(Math.min(n, 3) + 1)
    const to = [from + choose(n - from + 1), minus(along, choose(n - from + 1)), along][choose(3)]!
    return entry(slice(x.e, axis, { from: choose(3) === 0 ? b.freshSymbol(from) : from, to, as: b.freshAxis() }), x)
  },
  concat: (b, choose) => {
    const w = withAxis(b, choose)
    if (w === undefined) return undefined
    const parts = [w.x]
    for (let i = 0; i < 1 + choose(2); i++) { const y = partner(b, choose, parts, w.axis); if (y !== undefined) parts.push(y) }
    // The result's axis gets a name of its own, so that it can meet what has the old one.
    return parts.length === 1 ? undefined : entry(rename(concat(parts.map(p => p.e), w.axis), w.axis, b.freshAxis()), joint(parts))
  },
  rename: (b, choose) => { const w = withAxis(b, choose); return w && entry(rename(w.x.e, w.axis, b.freshAxis()), w.x) },
  split: (b, choose) => {
    const w = withAxis(b, choose)
    if (w === undefined) return undefined
    const { x, axis, along } = w, divides = (by: number): boolean => along.constant % by === 0 && along.terms.every(([, c]) => c % by === 0)
    const by = one(choose, [1, 2, 2, 3, 4, 8, 16].filter(divides))
    const rest = along.terms.reduce<Size>((s, [name, c]) => plus(s, times(c / by, size(name))), size(along.constant / by))
    const sizes = by % 4 === 0 && choose(2) === 0 ? [size(by / 4), rest, size(4)] : choose(2) === 0 ? [rest, size(by)] : [size(by), rest]
    return entry(split(x.e, axis, Object.fromEntries(sizes.map(s => [b.freshAxis(), s]))), x)
  },
  merge: (b, choose) => {
    const x = pick(b, choose, t => t.e.axes.length > 1)
    if (x === undefined) return undefined
    const start = choose(x.e.axes.length), turned = [...x.e.axes.slice(start), ...x.e.axes.slice(0, start)]
    const some = turned.slice(0, 2 + choose(2)), from = choose(2) === 0 ? some : [...some].reverse()
    if (from.filter(a => fixedSize(a.size) === undefined).length > 1) return undefined   // the product would not be affine
    return entry(merge(x.e, from.map(a => a.name), b.freshAxis()), x)
  },
}
