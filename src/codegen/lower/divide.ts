/**
 * How the axes of a streaming kernel become blocks, rows of a tile and columns of a tile, and which threads hold what.
 *
 * Rows and columns share the threads of a block as a rectangle. About 8 rows fall to a thread, so that each loaded
 * column serves 8 products. Where rows are folded they are neighbours in a warp, so that the fold is a few shuffles; where
 * arrays are contiguous along the rows they are, too, so that loads and stores are coalesced; else columns are, for the
 * same reason. On the path of tensor cores the instruction says which thread holds what: see `divide-mma.ts`.
 */
import type { Axis } from '../../dsl/expr.js'
import { fixedSize, type Size } from '../../dsl/size.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Dim, GridAxis } from '../kernel.js'
import type { Fact } from '../prove.js'
import type { ScalarSchedule, StreamSchedule } from '../schedule.js'
import type { StreamShape } from '../stream-shape.js'
import { mmaDims } from './divide-mma.js'
import { besideExtent, inTurns, unknownTile, type TileDims } from './tile-dims.js'
import { insideFacts } from './value.js'
import { powerBelow } from '../powers.js'

export interface Division extends Omit<TileDims, 'rows' | 'beside'> {
  readonly grid: readonly GridAxis[]
  /** Rows, column, beside: the order in which tiles list them. */
  readonly order: readonly Dim[]
  readonly besideDims: readonly Dim[]
  rowDim(axis: string): Dim
  rowLength(axis: string): number
  /** The positions of the result's axes, the streamed one excepted. */
  environment(axes: readonly Axis[]): Map<string, Index>
  /** What holds for the block's own indices. */
  readonly facts: readonly Fact[]
}

export function divideAxes(shape: StreamShape, schedule: StreamSchedule, fresh: (wish: string) => string): Division {
  const extents = rowExtents(shape, schedule.rows)
  const dims = schedule.path === 'mma' ? mmaDims(shape, extents, schedule, fresh) : scalarDims(shape, extents, schedule, fresh)
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
    if (!r.folded) tiled(r.axis, dims.rows.get(r.axis.name)!)
    // Passes before the fold have a result for each of its rows.
    else if (r.whole) positions.set(r.axis.name, ix.dimIndex(dims.rows.get(r.axis.name)!))
  }
  for (const a of shape.beside) tiled(a, dims.beside.get(a.name)!)

  const find = <T>(map: ReadonlyMap<string, T>, axis: string): T => {
    const found = map.get(axis)
    if (found === undefined) throw new Error(`axis '${axis}' has no rows in this kernel`)
    return found
  }
  const { column, tile, lane } = dims
  return {
    grid, column, tile, facts, ...(lane === undefined ? {} : { lane }),
    order: [...shape.rows.map(r => dims.rows.get(r.axis.name)!), column, ...dims.beside.values()],
    besideDims: [...dims.beside.values()],
    rowDim: axis => find(dims.rows, axis),
    rowLength: axis => fixedSize(shape.rows.find(r => r.axis.name === axis)!.axis.size)!,
    environment: axes => new Map(axes.map(a => [a.name, find(positions, a.name)])),
  }
}

const wholeAxis = (s: Size, extent: number): boolean => { const n = fixedSize(s); return n !== undefined && n <= extent }

function scalarDims(shape: StreamShape, extents: ReadonlyMap<string, number>, schedule: ScalarSchedule, fresh: (wish: string) => string): TileDims {
  const { threads } = schedule
  const rowTotal = [...extents.values()].reduce((a, b) => a * b, 1)
  let rowThreads = shape.across === true ? Math.min(32, powerBelow(rowTotal), threads) : Math.min(16, powerBelow(rowTotal / 8), threads)
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
  const neighbours = shape.across === true || shape.rows.some(r => r.folded)
  let stride = neighbours ? 1 : columnThreads
  const rows = new Map<string, Dim>()
  for (const r of [...shape.rows].reverse()) {
    const own = perRow.get(r.axis.name)!
    rows.set(r.axis.name, inTurns({ name: fresh(r.axis.name), extent: extents.get(r.axis.name)!, threads: own, stride }, r.axis))
    stride *= own
  }
  const columnStride = neighbours ? usedRows : 1
  const column: Dim = { name: fresh(shape.column?.name ?? 'column'), extent: Math.max(schedule.columns, columnThreads), threads: columnThreads, stride: columnStride }
  const beside = new Map(shape.beside.map(a => {
    const extent = besideExtent(a)
    return [a.name, { name: fresh(a.name), extent, threads: Math.min(columnThreads, powerBelow(extent)), stride: columnStride } satisfies Dim] as const
  }))
  return { rows, column, beside, tile: column.extent }
}

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
