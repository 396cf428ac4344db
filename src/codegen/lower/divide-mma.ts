/**
 * Which threads hold what where tensor cores multiply. mma.sync m16n8k16 leaves, in lane l of a warp, rows l / 4 and
 * l / 4 + 8 and columns 2 (l % 4) and 2 (l % 4) + 1 of its 16 × 8 result. The streamed axis lies along the 16 rows, one
 * axis of the tile's rows along the 8 columns: a fold over that axis is then sums within the thread and two shuffles,
 * and the operand without the streamed axis stays in registers for the whole loop.
 *
 * A warp has `warpRows` rows or as many as there are; other axes of rows lie in registers while they fit that number,
 * then along warps. Warps that are left over share the columns of a tile.
 */
import type { MmaSchedule } from '../schedule.js'
import type { StreamShape } from '../stream-shape.js'
import { padded, registers, type Dim } from '../kernel.js'
import { besideExtent, inTurns, type TileDims } from './tile-dims.js'
import { upTo } from '../powers.js'

export function mmaDims(shape: StreamShape, extents: ReadonlyMap<string, number>, schedule: MmaSchedule, fresh: (wish: string) => string): TileDims {
  const warps = schedule.threads / 32
  const rows = new Map<string, Dim>(), inner = [...shape.rows].reverse()
  let used = 1
  // The axis that wastes least of 8 columns; of equals the innermost.
  const waste = (axis: string): number => upTo(extents.get(axis)!, 8) / extents.get(axis)!
  const best = inner.reduce<typeof inner[number] | undefined>((a, b) => (a === undefined || waste(b.axis.name) < waste(a.axis.name) ? b : a), undefined)
  let warpRows = 1
  let lane: Dim | undefined
  const along = (parts: number): Pick<Dim, 'parts' | 'partStride'> => (parts === 1 ? {} : { parts, partStride: 32 * used })
  if (best !== undefined) {
    const extent = extents.get(best.axis.name)!
    let parts = 1
    while (parts * schedule.warpRows < extent && 2 * parts <= warps) parts *= 2
    lane = inTurns({ name: fresh(best.axis.name), extent, threads: 4, stride: 1, pack: 2, ...along(parts) }, best.axis)
    rows.set(best.axis.name, lane)
    used *= parts
    warpRows = padded(lane) / parts
  }
  for (const r of inner) {
    if (r === best) continue
    const extent = extents.get(r.axis.name)!, fit = Math.max(1, Math.floor(schedule.warpRows / warpRows))
    let parts = 1
    while (Math.ceil(extent / parts) > fit && 2 * parts * used <= warps && parts < extent) parts *= 2
    const d = inTurns({ name: fresh(r.axis.name), extent, threads: 1, stride: 1, ...along(parts) }, r.axis)
    rows.set(r.axis.name, d)
    used *= parts
    warpRows *= registers(d)
  }
  const parts = warps / used
  // The columns of all warps are one tile at most, 16 of each at least.
  const own = Math.max(16, Math.min(schedule.step, schedule.columns / parts))
  const column: Dim = { name: fresh(shape.column?.name ?? 'column'), extent: own * parts, threads: 8, stride: 4, ...along(parts) }
  const beside = new Map(shape.beside.map(a => [a.name, { name: fresh(a.name), extent: upTo(besideExtent(a), 16 * parts), threads: 8, stride: 4, ...along(parts) } satisfies Dim] as const))
  return { rows, column, beside, tile: Math.max(schedule.columns, column.extent), ...(lane === undefined ? {} : { lane }) }
}
