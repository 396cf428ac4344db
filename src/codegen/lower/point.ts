/**
 * Point kernels: every thread computes elements of the result by itself. Elementwise work, gathers, concatenations and
 * short folds (as loops within the thread) become such kernels, and it is the fallback for every node that no other
 * rule takes.
 *
 * The outer axes are the grid; the two innermost are one running number in tiles of 256 elements, neighbours in
 * neighbouring threads, so that loads and stores of rows are coalesced. Results over the same axes share a kernel: K
 * and V rows are gathered by one. A result that lacks some of the axes is written where those are 0. Where all that
 * happens to an element is that it moves, and rows are multiples of 16 bytes, an element is 16 bytes wide.
 */
import { byteSize } from '../../dsl/dtype.js'
import { axisOf, type Axis, type Expr } from '../../dsl/expr.js'
import { fixedSize } from '../../dsl/size.js'
import { symbolsIn } from '../facts.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Dim, GridAxis, Kernel, Memory, Statement, Value } from '../kernel.js'
import { freshNames } from '../reserved.js'
import type { PointSchedule } from '../schedule.js'
import { allOf, binaryValue, constantValue, indexValue } from '../values.js'
import { insideFacts, memoryOffset, valueAt, type Environment, type Stored } from './value.js'
import { memoriesIn, memoryNames, mentionsSplits, nodeComments } from './common.js'
import { movesRows } from './rows.js'

type Named = Extract<Index, { op: 'scalar' }>

export interface PointGroup {
  readonly name: string
  readonly summary: readonly string[]
  readonly roots: readonly { readonly node: Expr; readonly memory: Memory }[]
  readonly stored: ReadonlyMap<Expr, Stored>
}

export function lowerPoint(g: PointGroup, schedule: PointSchedule): Kernel {
  const axes = g.roots.map(r => r.node.axes).reduce((a, b) => (b.length > a.length ? b : a))
  const vector = commonVector(g, axes)
  const inner = axes.slice(-2), outer = axes.slice(0, -2)
  const threads = schedule.threads
  const item: Dim = { name: 'item', extent: threads * schedule.items, threads, stride: 1 }

  const innerExtents = inner.map(a => ix.sizeIndex(a.size))
  if (vector > 1) innerExtents[innerExtents.length - 1] = ix.div(innerExtents[innerExtents.length - 1]!, ix.constant(vector))
  const fresh = freshNames([g.name, ...g.roots.map(r => r.memory.name), ...memoryNames(g.stored)])

  const total = ix.atMost(innerExtents.reduce(ix.mul, ix.constant(1)), ix.longest)
  const tile = ix.scalar(fresh('tile'), Math.floor(ix.longest / item.extent)) as Named
  const outerIndex = outer.map(a => ix.scalar(fresh(a.name), ix.longest, ix.boundText(a.size)) as Named)
  const grid: GridAxis[] = [
    { name: tile.name, blocks: ix.ceilDiv(total, ix.constant(item.extent)) },
    ...outerIndex.map((i, n) => ({ name: i.name, blocks: ix.sizeIndex(outer[n]!.size) })).reverse(),
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
  if (vector > 1) split[split.length - 1] = ix.mul(split[split.length - 1]!, ix.constant(vector))
  const environment: Environment = new Map([
    ...outer.map((a, n) => [a.name, outerIndex[n]!] as const),
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
      { kind: 'store', memory, dims: [item], at: memoryOffset(memory, env), value, condition: allOf([inRange, ...missing]), vector } satisfies Statement,
    ]
  })]
  const outputs = g.roots.map(r => r.memory)
  return {
    name: g.name, summary: g.summary, threads, grid, inputs: memoriesIn(body).filter(m => !outputs.includes(m)), outputs,
    symbols: symbolsIn(body, grid.slice(0, -1).map(x => x.blocks)), counts: mentionsSplits(body) ? ['splits'] : [], body,
  }
}

/** Elements that move together: 16 bytes of a row, if every result only moves elements along whole rows. */
function commonVector(g: PointGroup, axes: readonly Axis[]): number {
  const last = axes[axes.length - 1]
  if (last === undefined) return 1
  const rowLength = fixedSize(last.size)
  const widths = g.roots.map(r => {
    const wide = 16 / byteSize[r.node.dtype]
    return rowLength !== undefined && rowLength % wide === 0 && r.node.axes[r.node.axes.length - 1]?.name === last.name && movesRows(r.node, last.name, g.stored) ? wide : 1
  })
  return widths.every(w => w === widths[0]) ? widths[0]! : 1
}
