/** Whether a node only moves whole rows of what is stored, so that several neighbours can move at once. */
import { axisOf, type Expr } from '../../dsl/expr.js'
import { open, type Stored } from './value.js'

/** `axis` runs along the rows of the array that the node's elements come from, unchanged. */
export function movesRows(e: Expr, axis: string, stored: ReadonlyMap<Expr, Stored>): boolean {
  const node = open(e), kept = stored.get(node)
  if (kept !== undefined) return kept.form === 'array' && kept.memory.axes[kept.memory.axes.length - 1]?.name === axis
  switch (node.kind) {
    case 'slice': return node.as !== axis && node.axis !== axis && movesRows(node.arg, axis, stored)
    // An index that changes along the row takes neighbours from different rows.
    case 'gather': return node.axis !== axis && axisOf(node.index, axis) === undefined && movesRows(node.arg, axis, stored)
    case 'concat': return node.axis !== axis && node.parts.every(p => movesRows(p, axis, stored))
    case 'rename': return movesRows(node.arg, node.to === axis ? node.from : axis, stored)
    default: return false
  }
}
