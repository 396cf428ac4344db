/** Every edge of a program's graph as the plan treats it: through memory, in registers, or computed again, with the bytes. */
import { children, type Expr } from '../../dsl/expr.js'
import { byteSize } from '../../dsl/dtype.js'
import { fusedNodes } from '../explain.js'
import { foldKey, isFold } from '../folds.js'
import type { Memory } from '../kernel.js'
import { open } from '../lower/value.js'
import type { Group, Plan } from '../plan.js'
import { completed, elementsIn, needs, wholeRegion, type Region } from '../regions.js'
import { groupReads, isPass, lastPass, memoryBytes, passHeights, type TrafficNumbers } from '../traffic.js'

/** A stored node and a kernel that reads it. */
export interface CutEdge {
  readonly decision: 'cut'
  readonly from: Expr
  readonly memories: readonly Memory[]
  readonly writer: string
  readonly reader: string
  /** What the edge costs: what the reader reads, and what is written, with the first reader. */
  readonly bytes: number
  readonly reason: string
}
/** A node and its reader in one kernel. */
export interface FusedEdge {
  readonly decision: 'fused'
  readonly from: Expr
  readonly to: Expr
  readonly kernel: string
  /** What the edge saves: the node's elements written and read. */
  readonly bytes: number
  readonly reason: string
}
/** A node that is computed several times: in several kernels, or in several passes of one. */
export interface RecomputedNode {
  readonly decision: 'recomputed'
  readonly from: Expr
  /** Each kernel as often as it computes the node. */
  readonly kernels: readonly string[]
  /** What it saves: the node's elements written once and read each time. */
  readonly bytes: number
  readonly reason: string
}
export type PlannedEdge = CutEdge | FusedEdge | RecomputedNode

const elements = (e: Expr, n: TrafficNumbers): number => elementsIn(wholeRegion(e, n.sizes))
const free = new Set(['tensor', 'const', 'iota'])
/** Nodes whose values are those of an argument at another position. */
const moves = new Set(['slice', 'rename', 'split', 'merge', 'concat', 'gather'])

/** All edges of a plan, in the order of its kernels. Inputs, constants and positions have none. */
export function plannedEdges(plan: Plan, n: TrafficNumbers): PlannedEdge[] {
  return [...cutEdges(plan, n), ...recomputedNodes(plan, n), ...plan.groups.flatMap(g => fusedEdges(g, n))]
}

function cutEdges(plan: Plan, n: TrafficNumbers): CutEdge[] {
  const writers = new Map<Memory, string>(), counted = new Set<Memory>(), found: CutEdge[] = []
  for (const g of plan.groups) {
    const byNode = new Map<string, Expr>()
    for (const e of [...g.roots.map(r => r.node), ...fusedNodes(g).flatMap(e => (g.loads.has(e) ? [] : children(e).map(open)))]) {
      const stored = g.loads.get(e)
      if (stored !== undefined && e.kind !== 'tensor') byNode.set(stored.form === 'array' ? stored.memory.name : stored.memories[0]!.name, e)
    }
    const reads = groupReads(g, n)
    for (const from of byNode.values()) {
      const stored = g.loads.get(from)!, memories = stored.form === 'array' ? [stored.memory] : stored.memories
      const writer = writers.get(memories[0]!)
      if (writer === undefined) continue
      const read = reads.filter(r => memories.includes(r.memory)).reduce((a, r) => a + r.bytes, 0)
      const written = memories.filter(m => !counted.has(m)).reduce((a, m) => a + memoryBytes(m, n), 0)
      memories.forEach(m => counted.add(m))
      found.push({ decision: 'cut', from, memories, writer, reader: g.name, bytes: read + written, reason: cutReason(plan, from, stored.form === 'partials') })
    }
    for (const r of g.roots) for (const m of r.stored.form === 'array' ? [r.stored.memory] : r.stored.memories) writers.set(m, g.name)
  }
  return found
}

function cutReason(plan: Plan, from: Expr, inParts: boolean): string {
  const same = (e: Expr): boolean => e === from || (isFold(e) && isFold(from) && foldKey(e) === foldKey(from))
  const told = plan.edges.find(e => e.decision === 'cut' && same(e.from))?.reason
  if (told !== undefined) return told
  if (inParts) return 'blocks take shares of the axis: the parts are put together by whoever reads them'
  return Object.values(plan.outputs).some(e => open(e) === from) ? 'it is an output, so it is stored anyway' : 'another kernel has stored it'
}

/** How often a kernel computes each of its nodes: once for each pass that needs it. */
function timesIn(g: Group, n: TrafficNumbers): Map<Expr, number> {
  const passes = new Map<Expr, Set<number>>(), heights = passHeights(e => g.loads.has(e)), seen = new Set<string>()
  const visit = (x: Expr, wanted: Region, pass: number): void => {
    const e = open(x)
    if (g.loads.has(e)) return
    const at = isPass(e) ? heights(e) : pass
    if (seen.has(`${e.id} ${at}`)) return
    seen.add(`${e.id} ${at}`)
    passes.set(e, (passes.get(e) ?? new Set()).add(at))
    const region = completed(e, wanted, n.sizes)
    for (const [c, r] of needs(e, region, n.sizes)) visit(c, r, at)
  }
  for (const r of g.roots) visit(r.node, new Map(), lastPass(open(r.node), heights))
  return new Map([...passes].map(([e, at]) => [e, at.size]))
}

function recomputedNodes(plan: Plan, n: TrafficNumbers): RecomputedNode[] {
  const where = new Map<Expr, string[]>()
  for (const g of plan.groups) for (const [e, times] of timesIn(g, n)) where.set(e, [...(where.get(e) ?? []), ...Array<string>(times).fill(g.name)])
  const inner = new Set([...where].filter(([, list]) => list.length > 1).flatMap(([e]) => children(e).map(open)))
  // What lies below a node that is computed again is computed again with it: the highest such node says it all.
  return [...where].filter(([e, list]) => list.length > 1 && !free.has(e.kind) && !moves.has(e.kind) && !isPass(e) &&
    !(inner.has(e) && [...where].some(([p, l]) => children(p).map(open).includes(e) && l.length >= list.length))).map(([from, kernels]) => ({
    decision: 'recomputed', from, kernels, bytes: elements(from, n) * byteSize[from.dtype] * (1 + kernels.length),
    reason: new Set(kernels).size === 1 ? 'each pass along the axis computes it again' : 'each kernel computes it again',
  }))
}

function fusedEdges(g: Group, n: TrafficNumbers): FusedEdge[] {
  return fusedNodes(g).filter(e => !g.loads.has(e)).flatMap(to => [...new Set(children(to).map(open))].filter(c => !g.loads.has(c) && !free.has(c.kind)).map((from): FusedEdge => ({
    decision: 'fused', from, to, kernel: g.name, bytes: 2 * elements(from, n) * byteSize[from.dtype],
    reason: moves.has(to.kind) ? 'it only moves elements: arithmetic on positions' : isPass(from) ? 'a pass before the one that reads it'
      : isFold(from) ? 'folded within a tile, in registers' : to.kind === 'window' ? 'its neighbours are computed where they are read' : 'computed where it is used',
  })))
}
