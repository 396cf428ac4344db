/** What nodes of a program share: costly nodes that several passes or kernels read, folds that do the same work. */
import { allChildren } from '../../dsl/bind.js'
import { topological, type Expr } from '../../dsl/expr.js'
import { foldKey, inside, isFold, longAxes, type Fold } from '../folds.js'
import { open } from '../lower/value.js'

/** Who reads each node; compositions stand for what they are. */
export type Readers = ReadonlyMap<Expr, ReadonlySet<Expr>>
const opened = (outputs: Readonly<Record<string, Expr>>): Expr[] =>
  topological(Object.values(outputs).map(open), e => allChildren(e).map(open)).filter(e => e.kind !== 'composite')
export function readersOf(outputs: Readonly<Record<string, Expr>>): Readers {
  const readers = new Map<Expr, Set<Expr>>()
  for (const e of opened(outputs)) for (const c of allChildren(e).map(open)) readers.set(c, (readers.get(c) ?? new Set()).add(e))
  return readers
}

/**
 * Nodes with a fold below them that has no long axis, such as the products under a softmax, if they are read at least
 * twice and go along the axis of a fold or of a selection. Where such a node only widens a 16-bit one, the narrow one
 * is what is stored: the program rounds there itself.
 */
export function sharedTiles(outputs: Readonly<Record<string, Expr>>, readers: Readers): ReadonlyMap<Expr, Expr> {
  const all = opened(outputs)
  const streamed = new Set(all.filter(e => e.kind === 'topK' || isFold(e) && longAxes(e).length > 0)
    .flatMap(e => inside(e, () => false).filter(x => x !== e)))
  const long = (e: Expr): boolean => isFold(e) && longAxes(e).length > 0
  const tiles = new Map<Expr, Expr>()
  for (const e of all) {
    if ((readers.get(e)?.size ?? 0) < 2 || !streamed.has(e)) continue
    const nodes = inside(e, () => false)
    if (!nodes.some(isFold) || nodes.some(x => long(x) || x.kind === 'topK')) continue
    const narrow = e.kind === 'cast' && e.dtype === 'f32' && (e.arg.dtype === 'f16' || e.arg.dtype === 'bf16') ? open(e.arg) : e
    tiles.set(e, narrow)
  }
  return tiles
}

/** All folds of a program by their `foldKey`: of those with one key the first is computed, the others are read off it. */
export function twinFolds(outputs: Readonly<Record<string, Expr>>): ReadonlyMap<string, readonly Fold[]> {
  const twins = new Map<string, Fold[]>()
  for (const e of new Set(Object.values(outputs).flatMap(x => inside(x, () => false)))) if (isFold(e)) twins.set(foldKey(e), [...(twins.get(foldKey(e)) ?? []), e])
  return twins
}
