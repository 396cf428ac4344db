/** Kernels that become one: results over the same axes that do not need each other. */
import { axisOf, children, type Expr } from '../../dsl/expr.js'
import { equalSizes, fixedSize } from '../../dsl/size.js'
import { foldKey, inside, isFold, type Fold } from '../folds.js'
import type { Memory } from '../kernel.js'
import { open, type Stored } from '../lower/value.js'
import type { Group, Root } from '../plan.js'
import type { StreamShape } from '../stream-shape.js'

/** Point groups over the same axes, or fewer, and streaming groups of one shape. */
export function mergeGroups(groups: readonly Group[]): Group[] {
  const merged: Group[] = []
  for (const g of groups) {
    const other = merged.find((m, i) => m.rule === g.rule && (g.rule === 'point' ? pointsFit(g, m) : g.rule === 'stream' && streamsFit(g, m)) &&
      !merged.slice(i).some(later => needs(g, later)))
    if (other === undefined) merged.push(g)
    else merged[merged.indexOf(other)] = { ...other, roots: [...other.roots, ...g.roots], loads: without(new Map([...other.loads, ...readBy(g)]), [...other.roots, ...g.roots]) }
  }
  return merged
}

const names = (x: Group): string[] => [...new Set(x.roots.flatMap(r => r.node.axes.map(a => a.name)))]

/** A result that lacks most axes leaves most threads idle, but a launch costs more. Folds keep their own kernels. */
const pointsFit = (g: Group, m: Group): boolean =>
  (names(g).every(n => names(m).includes(n)) || names(m).every(n => names(g).includes(n))) &&
  [...g.roots, ...m.roots].some(r => r.node.axes.length === Math.max(names(g).length, names(m).length)) &&
  sameLengths(g, m) && [...g.roots, ...m.roots].every(r => !isFold(r.node)) && coversAll([...g.roots, ...m.roots])

/**
 * Streaming groups that go along the same axes over the same arrays: what one loads, the other has. Contractions fill a
 * block's registers and stay alone, unless the results are read off one fold.
 */
const streamsFit = (g: Group, m: Group): boolean =>
  sameShape(g.shape!, m.shape!) && [...g.roots, ...m.roots].every(r => r.stored.form === 'array' && sameAxes(r.node, m.roots[0]!.node)) && sameLengths(g, m) &&
  (twins(g, m) || [g, m].every(x => nodesOf(x).every(e => e.kind !== 'contract'))) && arraysOf(g).some(a => arraysOf(m).includes(a)) && streamedOver(g) === streamedOver(m)

const twins = (g: Group, m: Group): boolean => { const folds = [...g.roots, ...m.roots].map(r => r.node); return folds.every(isFold) && folds.every(f => foldKey(f as Fold) === foldKey(folds[0] as Fold)) }
const nodesOf = (g: Group): Expr[] => g.roots.flatMap(r => inside(r.node, e => g.loads.has(open(e))))
const arraysOf = (g: Group): Expr[] => g.roots.flatMap(r => inside(r.node, e => g.loads.has(e) && e !== r.node).flatMap(e => children(e)).map(open)).filter(e => g.loads.has(e) && e.axes.length > 1)
const sameAxes = (a: Expr, b: Expr): boolean => a.axes.map(x => x.name).join() === b.axes.map(x => x.name).join()
const shapeText = (s: StreamShape): string => JSON.stringify(s)
const sameShape = (a: StreamShape, b: StreamShape): boolean => shapeText(a) === shapeText(b)
const streamedOver = (g: Group): string => [...new Set(nodesOf(g).filter(isFold).map(f => f.over.join(' ')))].sort().join('; ')

/** Results of one kernel do not read each other. */
const without = (loads: Map<Expr, Stored>, roots: readonly Root[]): Map<Expr, Stored> => {
  for (const r of roots) {
    const known = loads.get(r.node)
    if (known?.form === 'array' && roots.some(o => o.stored.form === 'array' && o.stored.memory === known.memory)) loads.delete(r.node)
  }
  return loads
}
/** The widest result's grid must reach the others: the axes that they lack are certainly not empty. */
const coversAll = (roots: readonly Root[]): boolean => {
  const widest = roots.reduce((a, b) => (b.node.axes.length > a.node.axes.length ? b : a)).node
  return roots.every(r => widest.axes.every(a => axisOf(r.node, a.name) !== undefined || (fixedSize(a.size) ?? 0) > 0))
}
const sameLengths = (g: Group, m: Group): boolean => g.roots.every(r => m.roots.every(s => r.node.axes.every(a => {
  const b = axisOf(s.node, a.name)
  return b === undefined || equalSizes(a.size, b.size)
})))
const memoriesOf = (s: Stored): readonly Memory[] => (s.form === 'array' ? [s.memory] : s.memories)
/** What a group reads of what is stored before it. The rest may be written after a group that it joins, which computes it itself. */
function readBy(g: Group): Map<Expr, Stored> {
  const read = new Set(g.roots.flatMap(r => (g.loads.has(r.node) ? [r.node] : inside(r.node, e => g.loads.has(e) && e !== r.node).flatMap(e => children(e)).map(open))))
  return new Map([...g.loads].filter(([e]) => read.has(e)))
}
/** Whether a group reads what another writes; folds that share their parts are written by one of them. */
function needs(g: Group, before: Group): boolean {
  const written = new Set(before.roots.flatMap(r => memoriesOf(r.stored)))
  return [...readBy(g).values()].some(s => memoriesOf(s).some(m => written.has(m)))
}
