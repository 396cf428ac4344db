/**
 * Schedules: how big the pieces are. One flat record per lowering rule, plain JSON. A schedule may change the order in
 * which sums are accumulated, never anything else.
 */
import { defaultSelect, invalidSelect, selectSpace, type SelectSchedule } from './schedule-select.js'
import { portable, type Target } from './target.js'

export interface PointSchedule {
  readonly rule: 'point'
  /** Threads of a block. */
  readonly threads: number
  /** Elements per thread. */
  readonly items: number
}

export interface StreamSchedule {
  readonly rule: 'stream'
  readonly threads: number
  /** Rows that one block holds at once, at most. */
  readonly rows: number
  /** Length of a tile of the streamed axis. */
  readonly columns: number
  /** A contraction within a tile stages so many elements of the summed axis at once. */
  readonly depth: number
  /** How a contraction inside a tile is computed. */
  readonly path: 'scalar'
}

export type Schedule = PointSchedule | StreamSchedule | SelectSchedule
export type RuleName = Schedule['rule']

export const defaultPoint: PointSchedule = { rule: 'point', threads: 256, items: 1 }
export const defaultStream: StreamSchedule = { rule: 'stream', threads: 256, rows: 128, columns: 64, depth: 256, path: 'scalar' }

/** Default tiles of streaming kernels, the largest first; the first that fits is taken. */
export const streamCandidates: readonly StreamSchedule[] = [
  defaultStream,
  { ...defaultStream, rows: 64 },
  { ...defaultStream, rows: 64, columns: 32, threads: 128 },
  { ...defaultStream, rows: 32, columns: 32, threads: 128 },
  { ...defaultStream, rows: 16, columns: 32, threads: 128 },
  { ...defaultStream, rows: 8, columns: 32, threads: 64 },
  { ...defaultStream, rows: 16, columns: 32, threads: 128, depth: 64 },
  { ...defaultStream, rows: 4, columns: 32, threads: 32, depth: 32 },
]

/** The values that a tuner may try, per rule. */
export const space = {
  point: { threads: [64, 128, 256, 512], items: [1, 2, 4] },
  stream: { threads: [64, 128, 256, 512], rows: [16, 32, 64, 128, 256], columns: [32, 64, 128], depth: [32, 64, 128, 256], path: ['scalar'] },
  select: selectSpace,
} as const

const defaults: { readonly [R in RuleName]: Schedule } = { point: defaultPoint, stream: defaultStream, select: defaultSelect }

/** Why a schedule cannot be used on the target, or nothing. What it accepts compiles and runs. */
export function invalid(s: Schedule, target: Target = portable): string | undefined {
  // Schedules come from files, too: what is not understood must not be passed over.
  if (!Object.hasOwn(defaults, s.rule)) return `there is no rule ${String(s.rule)}: the rules are ${Object.keys(defaults).join(', ')}`
  const fields = Object.keys(defaults[s.rule]), strange = Object.keys(s).find(f => !fields.includes(f))
  if (strange !== undefined) return `there is no field '${strange}': the fields of the rule ${s.rule} are ${fields.join(', ')}`
  if (s.rule === 'select') return invalidSelect(s, target)
  const powerOfTwo = (n: number): boolean => Number.isInteger(n) && n > 0 && (n & (n - 1)) === 0
  if (!powerOfTwo(s.threads) || s.threads < 32 || s.threads > 1024) return `threads is ${s.threads}: a power of two from 32 to 1024 is needed`
  if (s.rule === 'point') return powerOfTwo(s.items) && s.items <= 16 ? undefined : `items is ${s.items}: a power of two up to 16 is needed`
  if (!Number.isInteger(s.rows) || s.rows < 1 || s.rows > 1024) return `rows is ${s.rows}: 1 to 1024 are possible`
  if (!powerOfTwo(s.columns) || s.columns > 1024) return `columns is ${s.columns}: a power of two up to 1024 is needed`
  if (!powerOfTwo(s.depth) || s.depth < 4 || s.depth > 1024) return `depth is ${s.depth}: a power of two from 4 to 1024 is needed`
  if (s.path !== 'scalar') return `path is ${String(s.path)}: scalar is possible`
  // A thread has at most 255 registers; the tile takes most of them.
  if (s.rows * s.columns > 128 * s.threads) return `${s.rows} × ${s.columns} elements are more than 128 for each of ${s.threads} threads`
  return undefined
}
