/** Every edge of a plan is accounted for, with the bytes that it costs or saves. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { contract, max, mul, size, softmax, sub, sum, tensor, type Expr } from '../../src/dsl/index.js'
import { printPlan } from '../../src/codegen/explain.js'
import { plan } from '../../src/codegen/plan.js'
import { plannedEdges, type CutEdge, type FusedEdge, type PlannedEdge } from '../../src/codegen/plan/edges.js'
import { memoryBytes, traffic, groupMemories, groupReads } from '../../src/codegen/traffic.js'
import { symbolsOf } from '../../src/dsl/bind.js'
import { arbitraryProgram } from '../arbitraries.js'

const edgesOf = (outputs: Readonly<Record<string, Expr>>, sizes: Record<string, number>, splits = 4): { cut: CutEdge[]; fused: FusedEdge[]; again: PlannedEdge[] } => {
  const edges = plannedEdges(plan(outputs, { sizes }), { sizes, splits })
  return {
    cut: edges.filter((e): e is CutEdge => e.decision === 'cut'), fused: edges.filter((e): e is FusedEdge => e.decision === 'fused'), again: edges.filter(e => e.decision === 'recomputed'),
  }
}

test('elementwise edges are fused: what they would write and read', () => {
  const x = tensor('x', 'f32', ['n'])
  const { cut, fused, again } = edgesOf({ y: mul(sub(x, 1), 2) }, { n: 1000 })
  expect(cut).toEqual([])
  expect(again).toEqual([])
  expect(fused).toMatchObject([{ kernel: 'computeY', bytes: 8000, reason: 'computed where it is used' }])
})
test('parts of a split fold: written by one kernel, read by the next', () => {
  const { cut } = edgesOf({ s: sum(tensor('x', 'f32', ['n']), 'n') }, { n: 1_000_000 })
  expect(cut).toMatchObject([{ writer: 'sStatistics', reader: 'computeS', bytes: 2 * 4 * 4 }])
})
test('products under a softmax are computed again, or stored where that takes less', () => {
  const program = (m: number): Readonly<Record<string, Expr>> => {
    const a = tensor('a', 'bf16', { head: 8, m, dim: 128 }), b = tensor('b', 'bf16', { head: 8, n: size('n'), dim: 128 })
    return { y: max(softmax(contract(a, b, 'dim'), 'n'), 'm') }
  }
  const many = edgesOf(program(64), { n: 100_000 }), few = edgesOf(program(2), { n: 100_000 })
  expect(many.again).toMatchObject([{ bytes: 8 * 64 * 100_000 * 4 * 3 }])
  expect(few.again).toEqual([])
  // Written once; the largest element's fold and its user read it.
  expect(few.cut.filter(e => e.from.kind === 'contract').map(e => e.bytes)).toEqual([2 * 8 * 2 * 100_000 * 4, 8 * 2 * 100_000 * 4])
})
test('cut edges are the traffic of what lies between kernels, and each of those arrays has one', () => {
  fc.assert(fc.property(arbitraryProgram({ flavour: 'float' }), p => {
    const planned = plan(p.outputs, { sizes: p.sizes }), numbers = { sizes: Object.fromEntries(symbolsOf(p.outputs).map(n => [n, p.sizes[n] ?? 7])), splits: 3 }
    const edges = plannedEdges(planned, numbers).filter((e): e is CutEdge => e.decision === 'cut')
    const written = new Set(planned.groups.flatMap(groupMemories)), readLater = new Set(planned.groups.flatMap(g => groupReads(g, numbers)).map(r => r.memory).filter(m => written.has(m)))
    const expected = [...readLater].reduce((n, m) => n + memoryBytes(m, numbers), 0) + planned.groups.flatMap(g => groupReads(g, numbers)).filter(r => written.has(r.memory)).reduce((n, r) => n + r.bytes, 0)
    expect(edges.reduce((n, e) => n + e.bytes, 0), printPlan(planned)).toBe(expected)
    for (const e of edges) expect(e.reason.length).toBeGreaterThan(10)
    expect(traffic(planned, numbers).kernels.length).toBe(planned.groups.length)
  }), { numRuns: 200, seed: 7 })
})
