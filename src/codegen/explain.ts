/** Plans for people: what each kernel does and why the cuts are where they are. */
import type { Expr } from '../dsl/expr.js'
import { printSize } from '../dsl/size.js'
import { shortSource } from '../dsl/source.js'
import { inside } from './folds.js'
import type { Memory } from './kernel.js'
import { describe } from './lower/common.js'
import { open } from './lower/value.js'
import type { Group, Plan } from './plan.js'

const axesText = (m: Memory): string => m.axes.map(a => (a.size === 'splits' ? 'splits' : printSize(a.size) === a.name ? a.name : `${a.name} ${printSize(a.size)}`)).join(', ')
export const memoryText = (m: Memory): string => `${m.name} ${m.dtype}[${axesText(m)}]`

/** The nodes that a group computes, in the order of the graph; of one whose parts it only puts together nothing else. */
export const fusedNodes = (group: Group): Expr[] => [...new Set(group.roots.flatMap(r => (group.loads.has(r.node) ? [r.node]
  : inside(r.node, e => group.loads.has(open(e)) && e !== r.node))))].filter(e => !['tensor', 'const', 'iota'].includes(e.kind))

export const memoriesOf = (group: Group): Memory[] => group.roots.flatMap(r => (r.stored.form === 'array' ? [r.stored.memory] : [...r.stored.memories]))

export const nodesText = (group: Group): string => { const n = fusedNodes(group).length; return `${n} node${n === 1 ? '' : 's'}` }

/** The head of a kernel's text, for the rules that always make one kernel. */
export function groupSummary(group: Group): string[] {
  const how = group.rule === 'point' ? 'each thread computes elements by itself'
    : `blocks along ${[...group.shape!.grid.map(a => a.name), ...(group.shape!.rows.filter(r => !r.folded).map(r => `tiles of ${r.axis.name}`))].join(', ') || 'no axis'}; ` +
      `${group.shape!.rows.length > 0 ? `rows ${group.shape!.rows.map(r => r.axis.name).join(' × ')}; ` : ''}streams ${group.shape!.column?.name ?? 'the folded axis'}`
  return [`${group.name}: ${memoriesOf(group).map(memoryText).join(', ')}`, `${how}. ${nodesText(group)} fused`]
}

/** The plan as canonical text. */
export function printPlan(plan: Plan): string {
  const lines = plan.groups.flatMap(g => [
    `${g.name}  (${g.rule})  -> ${memoriesOf(g).map(memoryText).join(', ')}`,
    ...(g.shape === undefined ? [] : [`  blocks ${g.shape.grid.map(a => a.name).join(' × ') || '-'}; rows ${g.shape.rows.map(r => r.axis.name + (r.folded ? ' (folded)' : '')).join(' × ') || '-'}; streams ${g.shape.column?.name ?? 'the folded axis'}`]),
    ...fusedNodes(g).map(e => `  ${describe(e)}${e.source === undefined ? '' : `   ${shortSource(e.source)}`}`),
  ])
  const edges = plan.edges.map(e => `${describe(e.from)} -> ${e.to}: ${e.decision}: ${e.reason}`)
  return [...lines, '', ...edges].join('\n') + '\n'
}

