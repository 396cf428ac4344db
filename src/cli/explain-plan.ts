/** `weft explain --stage plan`: the kernels, what the plan costs beside its alternatives, and every edge with its reason. */
import { shortSource } from '../dsl/source.js'
import type { Sizes } from '../dsl/size.js'
import { memoriesOf, memoryText } from '../codegen/explain.js'
import { describe } from '../codegen/lower/common.js'
import type { Plan } from '../codegen/plan.js'
import { plannedEdges, type CutEdge, type FusedEdge, type PlannedEdge, type RecomputedNode } from '../codegen/plan/edges.js'
import { traffic, type Traffic, type TrafficNumbers } from '../codegen/traffic.js'
import type { Expr } from '../dsl/expr.js'
import { formatBytes } from '../runtime/errors.js'
import { fused, word } from './fused.js'
import { columns, count, table, wrapped } from './output.js'

export interface PlanView {
  readonly dtype: string
  readonly sizes: Sizes
  /** The chosen plan first. */
  readonly plans: readonly Plan[]
  readonly numbers: TrafficNumbers
}

const micro = (seconds: number): string => `${(seconds * 1e6).toFixed(1)} µs`
const total = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0)
const movedBytes = (t: Traffic): number => total(t.kernels.map(k => k.read + k.written))

/** `contract over dim  program.ts:12`: a node for people. */
const nodeText = (e: Expr): string => `${word(e) === 'map' ? describe(e) : word(e)}${e.source === undefined ? '' : `  ${shortSource(e.source)}`}`

export function planText(v: PlanView): string {
  const plan = v.plans[0]!, t = traffic(plan, v.numbers), least = t.compulsory.read + t.compulsory.written
  const rows = plan.groups.map((g, i) => {
    const cost = plan.cost.kernels[i]!
    return [g.name, g.rule, formatBytes(t.kernels[i]!.read), formatBytes(t.kernels[i]!.written), micro(cost.seconds), cost.bound, fused(g)]
  })
  return [
    `${v.dtype}, ${Object.entries(v.sizes).map(([n, x]) => `${n} ${x}`).join(', ')}`, '',
    ...table([['kernel', 'rule', 'reads', 'writes', 'modelled', 'bound by', 'fuses'], ...rows], [2, 3, 4]),
    `together ${formatBytes(movedBytes(t))}; compulsory ${formatBytes(least)} (inputs once, outputs once): ${(movedBytes(t) / least).toFixed(2)} times as much`, '',
    ...plansText(v), '', ...edgesText(plannedEdges(plan, v.numbers)),
  ].join('\n')
}

/** The plans side by side: how each differs from the chosen one. */
function plansText(v: PlanView): string[] {
  const chosen = v.plans[0]!
  const rows = v.plans.map(p => [micro(p.cost.seconds), String(p.groups.length), formatBytes(movedBytes(traffic(p, v.numbers))), p === chosen ? 'chosen' : differences(p, chosen).join('; ')])
  const ways = chosen.decisions.map(d => `${d.name}: ${d.taken}`)
  return [
    ...table([['modelled', 'kernels', 'moves', `${count(v.plans.length, 'plan')}, the cheapest first`], ...rows], [0, 1, 2]),
    ...wrapped(ways.length === 0 ? 'nothing to decide: there is one plan' : `decided: ${ways.join('; ')}`, columns(), '  '),
  ]
}
const differences = (p: Plan, from: Plan): string[] => p.decisions.filter(d => from.choices[d.name] !== d.taken).map(d => `${d.name}: ${d.taken}`)

function edgesText(edges: readonly PlannedEdge[]): string[] {
  const cuts = edges.filter((e): e is CutEdge => e.decision === 'cut')
  const again = edges.filter((e): e is RecomputedNode => e.decision === 'recomputed')
  const inside = edges.filter((e): e is FusedEdge => e.decision === 'fused')
  const reasons = (list: readonly PlannedEdge[], line: (e: PlannedEdge, i: number) => string): string[] =>
    list.flatMap((e, i) => [line(e, i), ...wrapped(e.reason, columns() - 4).map(l => `    ${l}`)])
  const cutRows = table(cuts.map(e => [`  ${e.memories.map(m => m.name).join(', ')}`, `${e.writer} -> ${e.reader}`, formatBytes(e.bytes)]), [2])
  const againRows = table(again.map(e => [`  ${nodeText(e.from)}`, runs(e.kernels), formatBytes(e.bytes)]), [2])
  const reasonsOf = new Map([...new Set(inside.map(e => e.reason))].map(r => [r, inside.filter(e => e.reason === r)]))
  const byReason = [...reasonsOf].sort(([, a], [, b]) => total(b.map(e => e.bytes)) - total(a.map(e => e.bytes)))
  const largest = (list: readonly FusedEdge[]): string => nodeText(list.reduce((a, b) => (b.bytes > a.bytes ? b : a)).from)
  return [
    ...(cuts.length === 0 ? [] : ['cut: through memory, and what that costs', ...reasons(cuts, (_, i) => cutRows[i]!), '']),
    ...(again.length === 0 ? [] : ['recomputed: instead of stored, and what that saves', ...reasons(again, (_, i) => againRows[i]!), '']),
    ...(inside.length === 0 ? [] : [`fused: ${count(inside.length, 'edge')} that would move ${formatBytes(total(inside.map(e => e.bytes)))}`,
      ...table(byReason.map(([reason, list]) => [`  ${reason}`, count(list.length, 'edge'), formatBytes(total(list.map(e => e.bytes))), `the largest ${largest(list)}`]), [2])]),
  ]
}
/** `computeVotes ×2, softmaxStatistics`. */
const runs = (names: readonly string[]): string => [...new Set(names)].map(n => { const k = names.filter(x => x === n).length; return k === 1 ? n : `${n} ×${k}` }).join(', ')

export function planDocument(v: PlanView): object {
  const plan = v.plans[0]!, t = traffic(plan, v.numbers)
  return {
    dtype: v.dtype, sizes: v.sizes,
    kernels: plan.groups.map((g, i) => {
      const { seconds, bound, blocks } = plan.cost.kernels[i]!
      return { name: g.name, rule: g.rule, writes: memoriesOf(g).map(memoryText), readBytes: t.kernels[i]!.read, writtenBytes: t.kernels[i]!.written, modelledSeconds: seconds, boundBy: bound, blocks }
    }),
    compulsoryBytes: t.compulsory,
    plans: v.plans.map(p => ({ modelledSeconds: p.cost.seconds, bytes: movedBytes(traffic(p, v.numbers)), kernels: p.groups.map(g => g.name), choices: p.choices })),
    decisions: plan.decisions.map(d => ({ name: d.name, ways: d.ways, taken: d.taken })),
    edges: plannedEdges(plan, v.numbers).map(edgeDocument),
  }
}

function edgeDocument(e: PlannedEdge): object {
  const own = { from: describe(e.from), ...(e.from.source === undefined ? {} : { source: shortSource(e.from.source) }), decision: e.decision, bytes: e.bytes, reason: e.reason }
  switch (e.decision) {
    case 'cut': return { ...own, memories: e.memories.map(memoryText), writer: e.writer, reader: e.reader }
    case 'fused': return { ...own, to: describe(e.to), kernel: e.kernel }
    case 'recomputed': return { ...own, kernels: e.kernels }
  }
}
