/**
 * How the axes of a streaming kernel become blocks, rows of a tile and columns of a tile, and which threads hold what.
 *
 * Rows and columns share the threads of a block as a rectangle. About 8 rows fall to a thread, so that each loaded
 * column serves 8 products. Where rows are folded they are neighbours in a warp, so that the fold is a few shuffles;
 * else columns are, so that loads and stores along the axis are coalesced.
 */
import type { Axis } from '../../dsl/expr.js'
import { fixedSize, type Size } from '../../dsl/size.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Dim, GridAxis } from '../kernel.js'
import type { Fact } from '../prove.js'
import type { StreamSchedule } from '../schedule.js'
import type { StreamShape } from '../stream-shape.js'
import { insideFacts } from './value.js'

export interface Division {
  readonly grid: readonly GridAxis[]
  /** Rows, column, beside: the order in which tiles list them. */
  readonly order: readonly Dim[]
  readonly column: Dim
  rowDim(axis: string): Dim
  rowLength(axis: string): number
  /** The positions of the result's axes, the streamed one excepted. */
  environment(axes: readonly Axis[]): Map<string, Index>
  /** What holds for the block's own indices. */
  readonly facts: readonly Fact[]
}

/** Tiles along an axis of unknown length. */
const unknownTile = 64
const powerBelow = (n: number): number => 2 ** Math.floor(Math.log2(Math.max(1, n)))

export function divideAxes(shape: StreamShape, schedule: StreamSchedule, fresh: (wish: string) => string): Division {
  const { threads } = schedule
  const extents = rowExtents(shape, schedule.rows)
  const rowTotal = [...extents.values()].reduce((a, b) => a * b, 1)
  let rowThreads = Math.min(16, powerBelow(rowTotal / 8), threads)
  const perRow = new Map<string, number>()
  for (const r of [...shape.rows].reverse()) {
    const extent = extents.get(r.axis.name)!
    let own = Math.min(rowThreads, powerBelow(extent))
    // At most a quarter of the lanes may hold rows that are not there.
    while (own > 1 && Math.ceil(extent / own) * own > 1.25 * extent) own /= 2
    perRow.set(r.axis.name, own)
    rowThreads /= own
  }
  const usedRows = [...perRow.values()].reduce((a, b) => a * b, 1)
  const columnThreads = threads / usedRows
  const foldsRows = shape.rows.some(r => r.folded)
  let stride = foldsRows ? 1 : columnThreads
  const rowDims = new Map<string, Dim>()
  for (const r of [...shape.rows].reverse()) {
    const own = perRow.get(r.axis.name)!
    rowDims.set(r.axis.name, { name: fresh(r.axis.name), extent: extents.get(r.axis.name)!, threads: own, stride })
    stride *= own
  }
  const columnStride = foldsRows ? usedRows : 1
  const column: Dim = { name: fresh(shape.column?.name ?? 'column'), extent: Math.max(schedule.columns, columnThreads), threads: columnThreads, stride: columnStride }
  const beside = new Map(shape.beside.map(a => {
    const length = fixedSize(a.size)
    const extent = length !== undefined && length <= 256 ? length : unknownTile
    return [a.name, { name: fresh(a.name), extent, threads: Math.min(columnThreads, powerBelow(extent)), stride: columnStride } satisfies Dim] as const
  }))

  const grid: GridAxis[] = [], facts: Fact[] = [], positions = new Map<string, Index>()
  for (const a of [...shape.grid].reverse()) {
    const name = fresh(a.name), index = ix.scalar(name, ix.longest, ix.boundText(a.size))
    grid.push({ name, blocks: ix.sizeIndex(a.size) })
    positions.set(a.name, index)
    facts.push(...insideFacts(index, a.size))
  }
  const tiled = (a: Axis, d: Dim): void => {
    if (wholeAxis(a.size, d.extent)) { positions.set(a.name, ix.dimIndex(d)); return }
    const name = fresh(`${a.name}Tile`)
    grid.push({ name, blocks: ix.ceilDiv(ix.sizeIndex(a.size), ix.constant(d.extent)) })
    positions.set(a.name, ix.add(ix.mul(ix.scalar(name, Math.floor(ix.longest / d.extent)), ix.constant(d.extent)), ix.dimIndex(d)))
  }
  for (const r of shape.rows) {
    if (!r.folded) tiled(r.axis, rowDims.get(r.axis.name)!)
    // Passes before the fold have a result for each of its rows.
    else if (r.whole) positions.set(r.axis.name, ix.dimIndex(rowDims.get(r.axis.name)!))
  }
  for (const a of shape.beside) tiled(a, beside.get(a.name)!)

  const find = <T>(map: ReadonlyMap<string, T>, axis: string): T => {
    const found = map.get(axis)
    if (found === undefined) throw new Error(`axis '${axis}' has no rows in this kernel`)
    return found
  }
  return {
    grid, column, facts,
    order: [...shape.rows.map(r => rowDims.get(r.axis.name)!), column, ...beside.values()],
    rowDim: axis => find(rowDims, axis),
    rowLength: axis => fixedSize(shape.rows.find(r => r.axis.name === axis)!.axis.size)!,
    environment: axes => new Map(axes.map(a => [a.name, find(positions, a.name)])),
  }
}

const wholeAxis = (s: Size, extent: number): boolean => { const n = fixedSize(s); return n !== undefined && n <= extent }

/** How many rows of each axis a block holds at once: folded ones first, the innermost fold's before others. */
function rowExtents(shape: StreamShape, limit: number): Map<string, number> {
  const extents = new Map<string, number>()
  let left = limit
  const take = (a: Axis, whole: boolean): void => {
    const length = fixedSize(a.size) ?? unknownTile
    const extent = whole ? length : Math.min(length, Math.max(1, left))
    extents.set(a.name, extent)
    left = Math.floor(left / extent)
  }
  for (const r of shape.rows.filter(x => x.folded && x.whole)) take(r.axis, true)
  for (const r of [...shape.rows].reverse()) if (r.folded && !r.whole) take(r.axis, false)
  for (const r of [...shape.rows].reverse()) if (!r.folded) take(r.axis, false)
  return extents
}

