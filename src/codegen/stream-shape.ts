/**
 * How a streaming kernel divides its axes: which are the grid, which are the rows of a tile, which is streamed, and which
 * lie beside the streamed one in the result of a contraction along it.
 */
import { axisOf, children, type Axis, type Expr } from '../dsl/expr.js'
import { fixedSize } from '../dsl/size.js'
import { inside, isFold, longAxes, foldArg, longestResident, type Fold } from './folds.js'
import { open } from './lower/value.js'

export interface RowAxis {
  readonly axis: Axis
  /** Folded within the kernel; else it is part of the result. */
  readonly folded: boolean
  /** A folded axis that a later pass needs whole, or that cannot be taken in parts. */
  readonly whole: boolean
}

export interface StreamShape {
  /** One block per position along these. */
  readonly grid: readonly Axis[]
  readonly rows: readonly RowAxis[]
  /** The result's own streamed axis, if it has one: tiles of it are stored. */
  readonly column: Axis | undefined
  /** Result axes of a contraction along the streamed axis that only its right operand has. */
  readonly beside: readonly Axis[]
  /** Arrays are contiguous along the rows, not along the streamed axis: neighbouring threads hold neighbouring rows. */
  readonly across?: true
}

/** The shape of a kernel for this root, or the reason why there is none. `about`: roughly how long an axis is. */
export function streamShape(root: Expr, folds: readonly Fold[], leaf: (e: Expr) => boolean, about: (a: Axis) => number): StreamShape | string {
  if (folds.some(f => f.kind === 'reduce' && f.monoid.ordered)) return 'its order of elements is fixed: one thread goes through them'
  const streams = folds.filter(f => longAxes(f).length > 0)
  const several = streams.find(f => longAxes(f).length > 1)
  if (several !== undefined) return `it folds over ${longAxes(several).length} long axes at once`
  if (streams.some(f => f.kind === 'contract' && f.over.length > 1)) return 'a contraction along the streamed axis has no other axes'
  // One dimension of a tile goes along the streamed axis; a fold below another one needs it for itself.
  const crossed = streams.find(f => streams.some(g => g !== f && axisOf(g, longAxes(f)[0]!) !== undefined && inside(f, leaf).includes(g)))
  if (crossed !== undefined) return `what it folds over ${longAxes(crossed)[0]} is itself a fold along another axis`

  // The result's axis that no streamed fold has is the column.
  const free = root.axes.filter(a => streams.every(f => axisOf(f, a.name) === undefined))
  const reused = reusedAxes(root, leaf)
  const column = streams.length > 0 ? (free.length === 1 ? free[0] : undefined) : columnOf(root, reused, about)
  if (streams.length > 0 && free.length > 1) return 'the result goes along several axes that the fold does not have'
  if (streams.length === 0 && column === undefined) return 'there is no long axis to go along'
  const contracts = folds.filter(f => f.kind === 'contract')
  const wide = contracts.filter(f => longAxes(f).length > 0)
  if (wide.length > 1 || wide.some(f => inside(root, leaf).some(e => isFold(e) && e !== f && longAxes(e).length > 0 && inside(e, leaf).includes(f)))) {
    return 'one contraction along the streamed axis is the limit, and nothing may stream over its result'
  }
  // The last such axis is contiguous in memory; it alone shares the column's threads.
  const beside = wide.flatMap(f => f.right.axes.filter(a => axisOf(root, a.name) !== undefined && axisOf(f.left, a.name) === undefined)).slice(-1)
  if (wide.some(f => inside(open(f.right), leaf).some(isFold))) return 'the right operand of a contraction along the streamed axis is computed'

  const rows: RowAxis[] = [], grid: Axis[] = []
  for (const a of root.axes) {
    if (a === column || beside.some(b => b.name === a.name)) continue
    // Tiles pay where one operand lacks the axis: what it loads serves all rows.
    if (reused.has(a.name) && !wide.some(f => axisOf(f.left, a.name) === undefined)) rows.push({ axis: a, folded: false, whole: false })
    else grid.push(a)
  }
  for (const f of folds) {
    const needed = f.kind === 'reduce' ? f.over.filter(n => !longAxes(f).includes(n))
      : [f.left, f.right].some(e => inside(open(e), leaf).some(isFold)) ? f.over.filter(n => !longAxes(f).includes(n)) : []
    for (const n of needed) {
      const axis = axisOf(foldArg(f), n)!
      if (rows.some(r => r.axis.name === n) || grid.some(g => g.name === n) || column?.name === n) return `axis '${n}' is folded and kept in one kernel`
      if ((fixedSize(axis.size) ?? Infinity) > longestResident) return `axis '${n}' is too long to be held by a block`
      const later = f.kind === 'contract' || streams.some(s => axisOf(s, n) !== undefined)
      rows.unshift({ axis, folded: true, whole: later })
    }
  }
  const seen = rows.map(r => r.axis.name)
  if (new Set(seen).size !== seen.length) return 'two folds use the same axis'
  // Unfolded rows first, then folds from the last to the first: the first fold's axis lies innermost.
  rows.sort((x, y) => Number(x.folded) - Number(y.folded))
  // Down the columns of a matrix: a tile of columns, each a row of the kernel's, makes loads contiguous.
  const across = rows.length === 0 && streams.length > 0 && contracts.length === 0 ? grid.find(a => contiguousAlong(a, streams, leaf)) : undefined
  if (across !== undefined) return { grid: grid.filter(a => a !== across), rows: [{ axis: across, folded: false, whole: false }], column, beside, across: true }
  return { grid, rows, column, beside }
}

/** Whether what the folds go along lies across an axis in all the arrays that they read: it is the last one there. */
function contiguousAlong(a: Axis, streams: readonly Fold[], leaf: (e: Expr) => boolean): boolean {
  if ((fixedSize(a.size) ?? Infinity) < 32) return false
  const arrays = streams.flatMap(f => {
    const nodes = inside(f, leaf), long = longAxes(f)[0]!
    return nodes.flatMap(children).map(open).filter(e => leaf(e) && axisOf(e, long) !== undefined)
  })
  return arrays.length > 0 && arrays.every(e => e.axes[e.axes.length - 1]!.name === a.name)
}

/** The longest axis of the result; among those that one operand of a contraction lacks, if there are any. */
function columnOf(root: Expr, reused: ReadonlySet<string>, about: (a: Axis) => number): Axis | undefined {
  const long = root.axes.filter(a => (fixedSize(a.size) ?? Infinity) >= 32)
  const candidates = long.some(a => reused.has(a.name)) ? long.filter(a => reused.has(a.name)) : long
  return candidates.reduce<Axis | undefined>((best, a) => (best === undefined || about(a) >= about(best) ? a : best), undefined)
}

/** Axes of the root that one operand of some contraction has and the other lacks, by the root's names. */
function reusedAxes(root: Expr, leaf: (e: Expr) => boolean): Set<string> {
  const reused = new Set<string>(), seen = new Set<Expr>()
  // `names` translates a node's axis names into the root's; axes that the root does not have are not in it.
  const visit = (x: Expr, names: ReadonlyMap<string, string>): void => {
    const e = open(x)
    if (seen.has(e) || (e !== root && leaf(e))) return
    seen.add(e)
    if (e.kind === 'contract') {
      for (const [own, name] of names) if ((axisOf(e.left, own) === undefined) !== (axisOf(e.right, own) === undefined)) reused.add(name)
    }
    for (const c of children(e)) visit(c, namesBelow(e, names))
  }
  visit(root, new Map(root.axes.map(a => [a.name, a.name])))
  return reused
}
function namesBelow(e: Expr, names: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const moved = e.kind === 'slice' ? [e.as, e.axis] as const : e.kind === 'rename' ? [e.to, e.from] as const : undefined
  if (moved === undefined) return names
  const below = new Map(names), name = below.get(moved[0])
  below.delete(moved[0])
  if (name !== undefined) below.set(moved[1], name)
  return below
}
