/**
 * The schedule of a radix selection: how many threads and blocks have a row, and how big the shared tiles are. None of it
 * can change the result.
 */
import { portable, type Target } from './target.js'
import { isPowerOfTwo, powerAbove } from './powers.js'

export interface SelectSchedule {
  readonly rule: 'select'
  /** Threads of a block; each has 4 neighbouring elements at a time. */
  readonly threads: number
  /** Bits that one pass over the row finds out about the threshold. */
  readonly digitBits: number
  /** So many elements in the threshold's bin, or fewer, are ranked against each other instead of another pass. */
  readonly candidates: number
  /** Elements of a row that a block keeps in shared memory; what is longer is evaluated in every sweep. */
  readonly cached: number
  /** Positions that are put in order of score at once, in shared memory. */
  readonly sorted: number
  /** Blocks that share a row. */
  readonly blocksPerRow: 1 | 2 | 4 | 8
  /** How they do: through each other's shared memory, or by two launches with the parts' best in memory between them. */
  readonly exchange: 'cluster' | 'launches'
}

// 11 bits are the sign, the exponent and two bits of the fraction: of 16K votes some 200 share the threshold's bin, and
// ranking them takes about as long as another pass. 16K cached elements are 64 KB of shared memory.
export const defaultSelect: SelectSchedule =
  { rule: 'select', threads: 1024, digitBits: 11, candidates: 512, cached: 16384, sorted: 2048, blocksPerRow: 1, exchange: 'launches' }

/** The values that a tuner may try. */
export const selectSpace = {
  threads: [32, 64, 128, 256, 512, 1024],
  digitBits: [8, 10, 11, 12],
  candidates: [32, 128, 256, 512, 1024],
  cached: [0, 4096, 8192, 16384, 32768],
  sorted: [256, 1024, 2048, 4096],
  blocksPerRow: [1, 2, 4, 8],
  exchange: ['cluster', 'launches'],
} as const satisfies { readonly [F in Exclude<keyof SelectSchedule, 'rule'>]: readonly (number | string)[] }

/** Shared memory of the tiles, at most: rows of a fixed length may need less, and `sorted` counts in order of score only. */
export const selectBytes = (s: SelectSchedule): number =>
  4 * (2 ** s.digitBits + s.candidates * (s.exchange === 'cluster' && s.blocksPerRow > 1 ? 2 : 1) + s.cached + 2 * s.sorted + 64 + 8)

/** What is known of a selection before it runs. */
export interface SelectSizes {
  /** Elements of a row, and whether that is all a kernel will ever see. */
  readonly length: number
  readonly fixed: boolean
  readonly k: number
  /** Rows that are selected of at the same time. */
  readonly rows: number
  /** The score is a fold of its own, or a window of sums: its text, once in every sweep, needs more registers. */
  readonly heavy: boolean
}

const clamp = (n: number, low: number, high: number): number => Math.min(high, Math.max(low, n))

/**
 * The schedule for a selection on a target. A text serves all lengths of a class, of which rows without a fixed length
 * have three: up to 1024, up to 32768, longer. Several blocks have a row where rows are too few to fill the device.
 */
export function chooseSelect({ length, fixed, k, rows, heavy }: SelectSizes, target: Target): SelectSchedule {
  const typical = fixed ? length : length <= 1024 ? 1024 : length <= 32768 ? 16384 : length
  const threads = clamp(powerAbove(typical / 4), 32, heavy ? 512 : 1024)   // 1024 threads have 64 registers each
  const spare = clamp(target.multiprocessors / Math.max(1, rows), 1, 8)
  // In a cluster every block should have elements in the first round; two launches cost more and pay later, and only if
  // the parts' best are much fewer than the row.
  const enough = (n: number): boolean => n === 1 || (n <= spare && (target.clusters ? typical > n * 2048 : typical > 32768 && typical >= 4 * n * k))
  const blocksPerRow = ([8, 4, 2, 1] as const).find(enough)!
  return {
    ...defaultSelect, threads, blocksPerRow, exchange: target.clusters ? 'cluster' : 'launches',
    digitBits: clamp(Math.log2(threads) + 1, 8, 11), candidates: Math.min(threads, 512),
    cached: (fixed || typical === 1024) && typical <= 4 * threads * blocksPerRow ? 0 : defaultSelect.cached,
  }
}

/** Why a schedule cannot be used on the target. */
export function invalidSelect(s: SelectSchedule, target: Target = portable): string | undefined {
  if (!isPowerOfTwo(s.threads) || s.threads < 32 || s.threads > 1024) return `threads is ${s.threads}: a power of two from 32 to 1024 is needed`
  if (!Number.isInteger(s.digitBits) || s.digitBits < 1 || s.digitBits > 16) return `digitBits is ${s.digitBits}: 1 to 16 are possible`
  // A thread scans the bins that fall to it in registers.
  if (2 ** s.digitBits > 16 * s.threads) return `digitBits is ${s.digitBits}: ${2 ** s.digitBits} bins are more than 16 for each of ${s.threads} threads`
  if (!Number.isInteger(s.candidates) || s.candidates < 1) return `candidates is ${s.candidates}: at least 1 is needed`
  if (s.candidates > s.threads) return `candidates is ${s.candidates}: a thread ranks one, and there are ${s.threads}`
  if (!Number.isInteger(s.cached) || s.cached < 0) return `cached is ${s.cached}: it cannot be negative`
  if (!Number.isInteger(s.sorted) || s.sorted < 1) return `sorted is ${s.sorted}: at least 1 is needed`
  if (![1, 2, 4, 8].includes(s.blocksPerRow)) return `blocksPerRow is ${String(s.blocksPerRow)}: 1, 2, 4 and 8 are possible`
  if (s.exchange !== 'cluster' && s.exchange !== 'launches') return `exchange is ${String(s.exchange)}: cluster and launches are possible`
  if (s.exchange === 'cluster' && s.blocksPerRow > 1 && !target.clusters) return `exchange is cluster: ${target.name} has no clusters of blocks`
  if (selectBytes(s) > target.sharedPerBlock) return `the tiles take ${selectBytes(s)} bytes of shared memory: a block has ${target.sharedPerBlock}`
  return undefined
}
