/**
 * Point kernels: every thread computes elements of the result by itself. Elementwise work, gathers, concatenations and
 * short folds (as loops within the thread) become such kernels, and it is the fallback for every node that no other
 * rule takes.
 *
 * The outer axes are the grid; the two innermost are one running number in tiles of 256 elements, neighbours in
 * neighbouring threads, so that loads and stores of rows are coalesced. Results over the same axes share a kernel: K
 * and V rows are gathered by one. A result that lacks some of the axes is written where those are 0. Where all that
 * happens to elements is that they move along whole rows, `rows.ts` copies them in vectors.
 */
import { axisOf, type Axis, type Expr } from '../../dsl/expr.js'
import { symbolsIn } from '../facts.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Dim, GridAxis, Kernel, Memory, Statement, Value } from '../kernel.js'
import { freshNames } from '../reserved.js'
import type { PointSchedule } from '../schedule.js'
import { allOf, binaryValue, constantValue, indexValue } from '../values.js'
import { insideFacts, memoryOffset, valueAt, type Environment, type Stored } from './value.js'
import { memoriesIn, memoryNames, mentionsSplits, nodeComments } from './common.js'
import { rowsAtOnce, rowsOf, rowStatements, type Rows } from './rows.js'

type Named = Extract<Index, { op: 'scalar' }>

export interface PointGroup {
  readonly name: string
  readonly summary: readonly string[]
  readonly roots: readonly { readonly node: Expr; readonly memory: Memory }[]
  readonly stored: ReadonlyMap<Expr, Stored>
}

export function lowerPoint(g: PointGroup, schedule: PointSchedule): Kernel {
  const rows = rowsOf(g.roots, g.stored, schedule.threads)
  return rows === undefined ? lowerElements(g, schedule) : lowerRows(g, rows, schedule)
}

const outerAxes = (axes: readonly Axis[], fresh: (wish: string) => string): { readonly positions: Map<string, Named>; readonly grid: GridAxis[] } => {
  const positions = new Map(axes.map(a => [a.name, ix.scalar(fresh(a.name), ix.longest, ix.boundText(a.size)) as Named]))
  return { positions, grid: axes.map(a => ({ name: positions.get(a.name)!.name, blocks: ix.sizeIndex(a.size) })).reverse() }
}

function finished(g: PointGroup, threads: number, grid: readonly GridAxis[], body: readonly Statement[]): Kernel {
  const outputs = g.roots.map(r => r.memory)
  return {
    name: g.name, summary: g.summary, threads, grid, inputs: memoriesIn(body).filter(m => !outputs.includes(m)), outputs,
    symbols: symbolsIn(body, grid.slice(0, -1).map(x => x.blocks)), counts: mentionsSplits(body) ? ['splits'] : [], body,
  }
}

const freshFor = (g: PointGroup): ((wish: string) => string) => freshNames([g.name, ...g.roots.map(r => r.memory.name), ...memoryNames(g.stored)])

function lowerRows(g: PointGroup, rows: Rows, { threads, items }: PointSchedule): Kernel {
  const fresh = freshFor(g), { positions, grid } = outerAxes(rows.outer, fresh), extent = rowsAtOnce(rows, threads, items)
  const tile = ix.scalar(fresh('tile'), Math.floor(ix.longest / extent)) as Named
  const tiles: GridAxis = { name: tile.name, blocks: ix.ceilDiv(ix.sizeIndex(rows.row.size), ix.constant(extent)) }
  return finished(g, threads, [tiles, ...grid], rowStatements(rows, tile, positions, threads, items, g.stored, fresh))
}

function lowerElements(g: PointGroup, schedule: PointSchedule): Kernel {
  const axes = g.roots.map(r => r.node.axes).reduce((a, b) => (b.length > a.length ? b : a))
  const inner = axes.slice(-2), outer = axes.slice(0, -2)
  const threads = schedule.threads
  const item: Dim = { name: 'item', extent: threads * schedule.items, threads, stride: 1 }

  const innerExtents = inner.map(a => ix.sizeIndex(a.size))
  const fresh = freshFor(g)

  const total = ix.atMost(innerExtents.reduce(ix.mul, ix.constant(1)), ix.longest)
  const tile = ix.scalar(fresh('tile'), Math.floor(ix.longest / item.extent)) as Named
  const { positions, grid: outerGrid } = outerAxes(outer, fresh)
  const grid: GridAxis[] = [
    { name: tile.name, blocks: ix.ceilDiv(total, ix.constant(item.extent)) },
    ...outerGrid,
  ]
  const lets: Statement[] = []
  // A thread's own numbers get names where it has one element only.
  const named = (wish: string, value: Index, length: Index): Index => {
    if (schedule.items > 1 || value.op === 'scalar') return value
    const name = fresh(wish)
    lets.push({ kind: 'let', name, value })
    return ix.scalar(name, Math.max(0, length.max - 1))
  }
  const running = named('item', ix.add(ix.mul(tile, ix.constant(item.extent)), ix.dimIndex(item)), ix.constant(ix.longest))
  const split = inner.length === 2
    ? [ix.div(running, innerExtents[1]!), ix.mod(running, innerExtents[1]!)]
    : inner.length === 1 ? [running] : []
  const environment: Environment = new Map([
    ...positions,
    ...inner.map((a, n) => [a.name, named(a.name, split[n]!, ix.sizeIndex(a.size))] as const),
  ])
  const facts = axes.flatMap(a => insideFacts(environment.get(a.name)!, a.size))
  const inRange = inner.length === 0 ? binaryValue('eq', indexValue(running), constantValue(0, 'i32'))
    : binaryValue('lt', indexValue(running), indexValue(total))

  const body: Statement[] = [...lets, ...g.roots.flatMap(({ node, memory }) => {
    const env: Environment = new Map(node.axes.map(a => [a.name, environment.get(a.name)!]))
    const missing = axes.filter(a => axisOf(node, a.name) === undefined).map(a => binaryValue('eq', indexValue(environment.get(a.name)!), constantValue(0, 'i32')))
    const value: Value = valueAt(node, env, { stored: g.stored, tile: () => undefined, fresh, safe: facts, assumed: facts })
    return [
      ...nodeComments([node], g.stored),
      { kind: 'store', memory, dims: [item], at: memoryOffset(memory, env), value, condition: allOf([inRange, ...missing]), vector: 1 } satisfies Statement,
    ]
  })]
  return finished(g, threads, grid, body)
}
