/**
 * Schedules: how big the pieces are. One flat record per lowering rule, plain JSON. A schedule may change the order in
 * which sums are accumulated, never anything else.
 */
import { defaultSelect, invalidSelect, selectSpace, type SelectSchedule } from './schedule-select.js'
import { portable, type Target } from './target.js'
import { isPowerOfTwo } from './powers.js'

export interface PointSchedule {
  readonly rule: 'point'
  /** Threads of a block. */
  readonly threads: number
  /** Elements per thread; where whole rows are copied, rows. */
  readonly items: number
}

/** A streaming kernel whose threads compute contractions by products of their own. */
export interface ScalarSchedule {
  readonly rule: 'stream'
  readonly path: 'scalar'
  readonly threads: number
  /** Rows that one block holds at once, at most. */
  readonly rows: number
  /** Length of a tile of the streamed axis. */
  readonly columns: number
  /** A contraction within a tile stages so many elements of the summed axis at once. */
  readonly depth: number
}

/** A streaming kernel that contracts 16-bit operands by tensor cores; its other contractions are computed by threads. */
export interface MmaSchedule {
  readonly rule: 'stream'
  readonly path: 'mma'
  readonly threads: number
  /** Rows that one block holds at once, at most. */
  readonly rows: number
  /** Rows that one warp multiplies, as far as there are warps for the others. */
  readonly warpRows: number
  /** Length of a tile of the streamed axis in shared memory. */
  readonly columns: number
  /** Columns that one warp multiplies at once: 16 or a multiple. */
  readonly step: number
  /** Tiles in shared memory at once: one is used while the others are on their way. */
  readonly stages: number
  /** Other contractions within a tile stage so many elements of the summed axis at once. */
  readonly depth: number
  /** Blocks that a multiprocessor should hold at once: registers are limited to what that allows. */
  readonly residency: number
}
export type StreamSchedule = ScalarSchedule | MmaSchedule

export type Schedule = PointSchedule | StreamSchedule | SelectSchedule
export type RuleName = Schedule['rule']

export const defaultPoint: PointSchedule = { rule: 'point', threads: 256, items: 1 }
/** Of kernels that copy rows: 4 rows of each array under way in a thread, 32 KB of two in a block, hide the latency of scattered rows. */
export const defaultRows: PointSchedule = { ...defaultPoint, items: 4 }
export const defaultStream: ScalarSchedule = { rule: 'stream', path: 'scalar', threads: 256, rows: 128, columns: 64, depth: 256 }
export const defaultMma: MmaSchedule = { rule: 'stream', path: 'mma', threads: 128, rows: 128, warpRows: 32, columns: 64, step: 32, stages: 3, depth: 256, residency: 3 }

/** Default tiles of streaming kernels without tensor cores, the largest first; the first that fits is taken. */
export const streamCandidates: readonly ScalarSchedule[] = [
  defaultStream,
  { ...defaultStream, rows: 64 },
  { ...defaultStream, rows: 64, columns: 32, threads: 128 },
  { ...defaultStream, rows: 32, columns: 32, threads: 128 },
  { ...defaultStream, rows: 16, columns: 32, threads: 128 },
  { ...defaultStream, rows: 8, columns: 32, threads: 64 },
  { ...defaultStream, rows: 16, columns: 32, threads: 128, depth: 64 },
  { ...defaultStream, rows: 4, columns: 32, threads: 32, depth: 32 },
]

/** The values that a tuner may try: by rule, and within it by path. */
export const space = {
  point: [{ threads: [64, 128, 256, 512], items: [1, 2, 4] }],
  stream: [
    { path: ['scalar'], threads: [64, 128, 256, 512], rows: [16, 32, 64, 128, 256], columns: [32, 64, 128], depth: [32, 64, 128, 256] },
    {
      path: ['mma'], threads: [32, 64, 128, 256, 512], rows: [16, 32, 64, 128, 256, 512], warpRows: [8, 16, 32, 64], columns: [32, 64, 128], step: [16, 32, 64],
      stages: [2, 3, 4], depth: [64, 256], residency: [1, 2, 3, 4],
    },
  ],
  select: [selectSpace],
} as const satisfies { readonly [R in RuleName]: readonly Readonly<Record<string, readonly (number | string)[]>>[] }

/** The fields that a schedule must have, or nothing if its rule or path is not known. */
export function fieldsOf(s: Readonly<Record<string, unknown>>): string[] | undefined {
  const known: readonly Schedule[] = [defaultPoint, defaultStream, defaultMma, defaultSelect]
  const own = known.find(d => d.rule === s['rule'] && (d.rule !== 'stream' || d.path === s['path']))
  return own === undefined ? undefined : Object.keys(own)
}

/** Why a schedule cannot be used on the target, or nothing. What it accepts compiles and runs. */
export function invalid(s: Schedule, target: Target = portable): string | undefined {
  // Schedules come from files, too: what is not understood must not be passed over.
  if (!Object.hasOwn(space, s.rule)) return `there is no rule ${String(s.rule)}: the rules are ${Object.keys(space).join(', ')}`
  const fields = fieldsOf({ ...s })
  if (fields === undefined) return `path is ${String((s as StreamSchedule).path)}: scalar and mma are possible`
  const strange = Object.keys(s).find(f => !fields.includes(f))
  if (strange !== undefined) return `there is no field '${strange}': the fields of the rule ${s.rule} are ${fields.join(', ')}`
  if (s.rule === 'select') return invalidSelect(s, target)
  if (!isPowerOfTwo(s.threads) || s.threads < 32 || s.threads > 1024) return `threads is ${s.threads}: a power of two from 32 to 1024 is needed`
  if (s.rule === 'point') return isPowerOfTwo(s.items) && s.items <= 16 ? undefined : `items is ${s.items}: a power of two up to 16 is needed`
  if (!Number.isInteger(s.rows) || s.rows < 1 || s.rows > 1024) return `rows is ${s.rows}: 1 to 1024 are possible`
  if (!isPowerOfTwo(s.columns) || s.columns > 1024) return `columns is ${s.columns}: a power of two up to 1024 is needed`
  if (!isPowerOfTwo(s.depth) || s.depth < 4 || s.depth > 1024) return `depth is ${s.depth}: a power of two from 4 to 1024 is needed`
  if (s.path === 'mma') return invalidMma(s, target)
  // A thread has at most 255 registers; the tile takes most of them.
  if (s.rows * s.columns > 128 * s.threads) return `${s.rows} × ${s.columns} elements are more than 128 for each of ${s.threads} threads`
  return undefined
}

function invalidMma(s: MmaSchedule, target: Target): string | undefined {
  const whole = (n: number, from: number, to: number): boolean => Number.isInteger(n) && n >= from && n <= to
  if (!isPowerOfTwo(s.warpRows) || !whole(s.warpRows, 8, 128)) return `warpRows is ${s.warpRows}: a power of two from 8 to 128 is needed`
  if (!isPowerOfTwo(s.step) || !whole(s.step, 16, 128)) return `step is ${s.step}: a power of two from 16 to 128 is needed`
  if (s.columns < 16) return `columns is ${s.columns}: a tile of mma has 16 at least`
  if (!whole(s.stages, 2, 8)) return `stages is ${s.stages}: 2 to 8 are possible`
  if (!whole(s.residency, 1, 16)) return `residency is ${s.residency}: 1 to 16 are possible`
  if (s.residency * s.threads > target.threadsPerMultiprocessor) return `${s.residency} blocks of ${s.threads} threads are more than the ${target.threadsPerMultiprocessor} of a multiprocessor`
  // A warp's tile, and where other rows than its own fall to it, one for each of them.
  const elements = Math.max(s.warpRows, (s.rows * 32) / s.threads) * s.step / 32
  if (elements > 128) return `${s.rows} rows of ${s.step} columns on ${s.threads} threads are ${elements} elements for each thread: 128 are possible`
  return undefined
}
