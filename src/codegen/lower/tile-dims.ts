/** What the threads of a streaming kernel hold, whichever path its contractions take. */
import type { Axis } from '../../dsl/expr.js'
import { fixedSize } from '../../dsl/size.js'
import { padded, type Dim } from '../kernel.js'

/** What the threads hold of rows, columns and the axes beside the streamed one. */
export interface TileDims {
  readonly rows: ReadonlyMap<string, Dim>
  readonly column: Dim
  readonly beside: ReadonlyMap<string, Dim>
  /** Length of a tile of the streamed axis: `column` or a multiple of it. */
  readonly tile: number
  /** Of the path of tensor cores: the rows that lie along mma's columns. */
  readonly lane?: Dim
}

/** Tiles along an axis of unknown length. */
export const unknownTile = 64

/** Where an axis is taken in turns, what threads add to a tile would belong to the next one: the tile takes it itself. */
export function inTurns(d: Dim, a: Axis): Dim {
  return (fixedSize(a.size) ?? Infinity) <= d.extent ? d : { ...d, extent: padded(d) }
}

/** How much of an axis beside the streamed one a block holds. */
export function besideExtent(a: Axis): number {
  const length = fixedSize(a.size)
  return length !== undefined && length <= 256 ? length : unknownTile
}
