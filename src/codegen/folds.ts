/** What the planner knows of folds: which nodes fold, along which axes, and how long those are. */
import { axisOf, children, topological, type Expr, type Of } from '../dsl/expr.js'
import { sumMonoid, printMonoid, type Monoid } from '../dsl/monoid.js'
import { fixedSize } from '../dsl/size.js'
import { open } from './lower/value.js'

export type Fold = Of<'reduce'> | Of<'contract'>
export const isFold = (e: Expr): e is Fold => e.kind === 'reduce' || e.kind === 'contract'

/** The operand that a fold's axes are read off. */
export const foldArg = (f: Fold): Expr => (f.kind === 'reduce' ? f.arg : f.left)
export const foldMonoid = (f: Fold): Monoid => (f.kind === 'reduce' ? f.monoid : sumMonoid('f32'))

/** Axes longer than this, or of unknown length, are streamed; shorter ones are held by a block whole. */
export const longestResident = 1024

const lengthOf = (f: Fold, axis: string): number => fixedSize(axisOf(foldArg(f), axis)!.size) ?? Infinity
/** The axes of a fold that are streamed. All of them together may be too long where each is not: then the longest is. */
export function longAxes(f: Fold): string[] {
  const long = f.over.filter(n => lengthOf(f, n) > longestResident)
  if (long.length > 0) return long
  const product = f.over.reduce((n, a) => n * lengthOf(f, a), 1)
  return product <= longestResident ? [] : [[...f.over].sort((a, b) => lengthOf(f, b) - lengthOf(f, a))[0]!]
}

/** Folds of one argument that differ only in what they read off the components share the work. */
export const foldKey = (f: Fold): string => f.kind === 'contract' ? `contract ${f.id}`
  : `${open(f.arg).id} over ${f.over.join(' ')} ${printMonoid(f.monoid).replace(/^[^{]*/, '').replace(/->.*$/, '')}`

/** All nodes of one kernel below a root: what is in `leaf` is not entered. */
export const inside = (root: Expr, leaf: (e: Expr) => boolean): Expr[] =>
  topological([root], e => (e.kind === 'composite' ? [open(e)] : e !== root && leaf(e) ? [] : children(e))).filter(e => e.kind !== 'composite' && (e === root || !leaf(e)))
