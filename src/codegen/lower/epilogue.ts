/**
 * What a kernel computes from positions that its own blocks have just found, row by row of the selection: each block of
 * a row takes every so many-th tile of each result. Whole rows are copied as `rows.ts` does it; everything else is
 * computed element by element, as point kernels do.
 */
import type { Expr } from '../../dsl/expr.js'
import { printSize } from '../../dsl/size.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Dim, Statement } from '../kernel.js'
import { binaryValue, indexValue } from '../values.js'
import { nodeComments } from './common.js'
import { rowsAtOnce, rowsOf, rowStatements, type PointRoot, type Rows } from './rows.js'
import { insideFacts, memoryOffset, unflatten, valueAt, type Environment, type Stored } from './value.js'

export interface Epilogue {
  /** Each has all axes of the selection's rows. */
  readonly roots: readonly PointRoot[]
  /** What the kernel loads for them: its own positions, none of its other results. */
  readonly stored: ReadonlyMap<Expr, Stored>
}

/** Rows of one thread that are under way at once: as many as the registers of so many threads allow. */
const itemsOf = (threads: number): number => (threads > 512 ? 2 : 4)

/**
 * @param row the block's position along the axes of the selection's rows
 * @param rank which of the `blocks` of a row the block is
 */
export function epilogueStatements(e: Epilogue, row: Environment, rank: Index, blocks: number, threads: number, fresh: (wish: string) => string): Statement[] {
  const items = itemsOf(threads)
  const strange = e.roots.find(r => [...row.keys()].some(name => !r.node.axes.some(a => a.name === name)))
  if (strange !== undefined) throw new Error(`${strange.memory.name} has not all axes of the rows that are selected of`)
  const tiled = (count: Index, extent: number, body: (tile: Index) => Statement[]): Statement => {
    const tile = fresh('tile'), tiles = ix.ceilDiv(count, ix.constant(extent))
    return { kind: 'for', variable: tile, from: rank, to: tiles, step: blocks, body: body(ix.scalar(tile, Math.floor(ix.longest / extent))) }
  }
  const rows = (r: Rows): Statement => tiled(ix.sizeIndex(r.row.size), rowsAtOnce(r, threads, items), tile => rowStatements(r, tile, row, threads, items, e.stored, fresh))
  const ofRows = (roots: readonly PointRoot[]): Rows | undefined => {
    const r = rowsOf(roots, e.stored, threads)
    return r !== undefined && r.outer.length === row.size && r.outer.every(a => row.has(a.name)) ? r : undefined
  }
  // Together where they are alike, so that each position is loaded once.
  const alike = (r: PointRoot): string => r.node.axes.filter(a => !row.has(a.name)).slice(0, 1).map(a => `${a.name} ${printSize(a.size)}`).join()
  return [...new Set(e.roots.map(alike))].flatMap(kind => {
    const roots = e.roots.filter(r => alike(r) === kind), together = ofRows(roots)
    return together !== undefined ? [rows(together)] : roots.map(r => { const alone = ofRows([r]); return alone === undefined ? elements(r) : rows(alone) })
  })

  function elements({ node, memory }: PointRoot): Statement {
    const inner = node.axes.filter(a => !row.has(a.name))
    const total = ix.atMost(inner.map(a => ix.sizeIndex(a.size)).reduce(ix.mul, ix.constant(1)), ix.longest)
    return tiled(total, threads, tile => {
      const item: Dim = { name: fresh('item'), extent: threads, threads, stride: 1 }, name = fresh('element')
      const running = ix.scalar(name, ix.longest), split = inner.length === 0 ? [] : unflatten(running, inner)
      const env: Environment = new Map([...row, ...split])
      const facts = node.axes.flatMap(a => insideFacts(env.get(a.name)!, a.size))
      return [
        { kind: 'let', name, value: ix.add(ix.mul(tile, ix.constant(threads)), ix.dimIndex(item)) },
        ...nodeComments([node], e.stored),
        {
          kind: 'store', memory, dims: [item], at: memoryOffset(memory, env), condition: binaryValue('lt', indexValue(running), indexValue(total)), vector: 1,
          value: valueAt(node, env, { stored: e.stored, tile: () => undefined, fresh, safe: facts, assumed: facts }),
        },
      ]
    })
  }
}
