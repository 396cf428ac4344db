/**
 * Default schedules on the path of tensor cores, from the size of the contraction. The operand that stays takes
 * warpRows / 8 · depth / 16 · 2 registers of a thread, the product warpRows / 4 · step / 8: 64 and 32 of them leave room
 * for three blocks of 128 threads on a multiprocessor (measured with NVRTC 13.5: 160 to 170 registers in all). More rows
 * than four warps have take more warps, then more rows a warp, so that a tile of the streamed axis serves all of them.
 */
import type { MmaSchedule } from './schedule.js'
import { powerAbove, powerBelow } from './powers.js'

export interface MmaFacts {
  /** Rows of the tile, all axes multiplied. */
  readonly rows: number
  /** Length of the longest summed axis that the block holds whole. */
  readonly depth: number
}

const within = (n: number, low: number, high: number): number => Math.min(high, Math.max(low, n))

/** The best first; the first that fits shared memory is taken. */
export function mmaCandidates({ rows, depth }: MmaFacts): MmaSchedule[] {
  const steps = Math.ceil(depth / 16)
  const fitting = within(powerBelow((8 * 64) / (2 * steps)), 8, 32)
  const wide = rows > 8 * fitting   // more than 8 warps of them
  const warpRows = wide ? 2 * fitting : fitting
  const threads = within(32 * powerAbove(Math.ceil(rows / warpRows)), 128, 256)
  const best: MmaSchedule = {
    rule: 'stream', path: 'mma', threads, rows: within((threads / 32) * warpRows, 16, 1024), warpRows, columns: 64, step: wide ? 16 : 32, stages: 3, depth: 256,
    residency: threads === 128 ? 3 : 1,
  }
  const smaller = [best, { ...best, stages: 2 }, { ...best, columns: 32, stages: 2 }, { ...best, rows: Math.max(16, best.rows / 4), columns: 32, stages: 2 }]
  return [...smaller, { ...best, rows: 16, columns: 16, step: 16, stages: 2 }]
}
