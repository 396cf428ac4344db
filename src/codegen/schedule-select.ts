/** The schedule of a radix selection: how big its shared tiles are. None of it can change the result. */
import { portable, type Target } from './target.js'

export interface SelectSchedule {
  readonly rule: 'select'
  /** Threads of the block that has a row. */
  readonly threads: number
  /** Bits that one pass over the row finds out about the threshold. */
  readonly digitBits: number
  /** So many elements in the threshold's bin, or fewer, are ranked against each other instead of another pass. */
  readonly candidates: number
  /** Rows up to this length are evaluated once, into shared memory. */
  readonly cached: number
  /** Positions that are put in order of score at once, in shared memory. */
  readonly sorted: number
}

// 11 bits are the sign, the exponent and two bits of the fraction: of 16K votes some 200 share the threshold's bin, and
// ranking them takes about as long as another pass. 16K cached keys are 64 KB of shared memory.
export const defaultSelect: SelectSchedule = { rule: 'select', threads: 1024, digitBits: 11, candidates: 512, cached: 16384, sorted: 2048 }

/** The values that a tuner may try. */
export const selectSpace = {
  threads: [256, 512, 1024],
  digitBits: [8, 10, 11, 12],
  candidates: [128, 256, 512, 1024],
  cached: [0, 4096, 8192, 16384, 32768],
  sorted: [256, 1024, 2048, 4096],
} as const satisfies { readonly [F in Exclude<keyof SelectSchedule, 'rule'>]: readonly number[] }

/** Shared memory of the tiles, at most: rows of a fixed length may need less, and `sorted` counts in order of score only. */
export const selectBytes = (s: SelectSchedule): number => 4 * (2 ** s.digitBits + s.candidates + s.cached + 2 * s.sorted + 32 + 8)

/** Why a schedule cannot be used on the target. */
export function invalidSelect(s: SelectSchedule, target: Target = portable): string | undefined {
  const powerOfTwo = (n: number): boolean => Number.isInteger(n) && n > 0 && (n & (n - 1)) === 0
  if (!powerOfTwo(s.threads) || s.threads < 32 || s.threads > 1024) return `threads is ${s.threads}: a power of two from 32 to 1024 is needed`
  if (!Number.isInteger(s.digitBits) || s.digitBits < 1 || s.digitBits > 16) return `digitBits is ${s.digitBits}: 1 to 16 are possible`
  if (!Number.isInteger(s.candidates) || s.candidates < 1) return `candidates is ${s.candidates}: at least 1 is needed`
  if (s.candidates > s.threads) return `candidates is ${s.candidates}: a thread ranks one, and there are ${s.threads}`
  if (!Number.isInteger(s.cached) || s.cached < 0) return `cached is ${s.cached}: it cannot be negative`
  if (!Number.isInteger(s.sorted) || s.sorted < 1) return `sorted is ${s.sorted}: at least 1 is needed`
  if (selectBytes(s) > target.sharedPerBlock) return `the tiles take ${selectBytes(s)} bytes of shared memory: a block has ${target.sharedPerBlock}`
  return undefined
}
