/** SnapKV's options: what they mean, what they may be, how many rows they keep. */
import { WeftError } from '../dsl/errors.js'
import { checkSettings, optionError, type Budget, type OptionTable, type PromptShape } from './policy.js'

export interface SnapKVOptions {
  /** The last queries vote, and their rows are always kept. */
  readonly window: number
  /** Rows kept per head, window included. Not together with `ratio`. */
  readonly capacity?: number | undefined
  /** Part of the rows that is dropped: keeps ⌊length · (1 − ratio)⌋ rows (in float64), window included. */
  readonly ratio?: number | undefined
  /** How votes spread to neighbours: the largest near by, the mean (padding counts as 0, divisor always `poolSize`), not at all. */
  readonly pool: 'max' | 'avg' | 'none'
  /** Neighbours pooled, the position itself included; odd. */
  readonly poolSize: number
  /** How the window's rows are put together. The mean is the sum over `window`: the same choice of rows, scores on another scale. */
  readonly vote: 'sum' | 'mean'
  /** How a KV head's query heads are put together, before pooling. `none`: each query head chooses its own rows. */
  readonly group: 'none' | 'mean' | 'max' | 'sum'
  /**
   * `f32`: every step rounds to f32. `reference`: to the dtype of the inputs, where the official code does so: logits,
   * logits / √dim, softmax, vote, group and pooling.
   */
  readonly rounding: 'f32' | 'reference'
  /** Kept rows by position or by falling score; the window's rows come last in both. */
  readonly order: 'position' | 'score'
}

export const snapkvOptionTable = {
  window: { kind: 'integer', atLeast: 1, meaning: 'last queries that vote; their rows are always kept' },
  capacity: { kind: 'integer', atLeast: 2, meaning: 'rows kept per head, window included' },
  ratio: { kind: 'fraction', meaning: 'part of the rows that is dropped, instead of capacity' },
  pool: { kind: 'choice', values: ['max', 'avg', 'none'], meaning: 'how votes spread to neighbours' },
  poolSize: { kind: 'integer', atLeast: 1, odd: true, meaning: 'neighbours pooled, odd' },
  vote: { kind: 'choice', values: ['sum', 'mean'], meaning: "how the window's rows are put together" },
  group: { kind: 'choice', values: ['none', 'mean', 'max', 'sum'], meaning: 'how query heads are put together; none: per query head' },
  rounding: { kind: 'choice', values: ['f32', 'reference'], meaning: "f32, or the official code's 16-bit roundings" },
  order: { kind: 'choice', values: ['position', 'score'], meaning: 'order of the kept rows' },
} as const satisfies OptionTable & { readonly [N in keyof SnapKVOptions]-?: OptionTable[string] }

/**
 * Defaults overlaid with what is given: an explicit `capacity` or `ratio` replaces the default of either.
 * @throws WeftError `option`
 */
export function resolveOptions(name: string, defaults: SnapKVOptions, given: Partial<SnapKVOptions>): SnapKVOptions {
  checkSettings(name, snapkvOptionTable, given)
  if (given.capacity !== undefined && given.ratio !== undefined) {
    throw optionError(`both capacity ${given.capacity} and ratio ${given.ratio} are given, and they say different things`, 'give one of them')
  }
  const { capacity, ratio, ...rest } = defaults
  const budget = given.capacity !== undefined ? { capacity: given.capacity } : given.ratio !== undefined ? { ratio: given.ratio }
    : capacity !== undefined ? { capacity } : { ratio }
  const set = Object.fromEntries(Object.entries(given).filter(([n, v]) => v !== undefined && n !== 'capacity' && n !== 'ratio')) as Partial<SnapKVOptions>
  const options: SnapKVOptions = Object.freeze({ ...rest, ...set, ...budget })
  if (options.capacity !== undefined && options.capacity <= options.window) {
    throw optionError(`capacity ${options.capacity} is not larger than the window of ${options.window} rows, which it includes`,
      `use a capacity of at least ${options.window + 1}, or a smaller window`)
  }
  return options
}

/** How much of this prompt stays. @throws WeftError `option` where the options do not fit it, `shape` where it makes no sense */
export function snapkvBudget(o: SnapKVOptions, shape: PromptShape): Budget {
  checkShape(shape)
  const { length, queries } = shape
  const { window, ratio } = o
  if (window >= length) {
    throw optionError(`the window of ${window} rows is not shorter than the prompt of ${length} tokens`, length > 1 ? `use a window of at most ${length - 1}` : 'a prompt needs two tokens at least')
  }
  if (queries < window) {
    throw optionError(`the window needs the last ${window} queries, but q has ${queries}`, `pass ${window} rows of q, or use a window of ${queries}`)
  }
  const kept = o.capacity ?? Math.floor(length * (1 - (ratio ?? 0)))
  if (kept <= window) {
    throw optionError(`ratio ${ratio} keeps ${kept} of ${length} rows, not more than the window of ${window}, which it includes`, 'use a lower ratio or a smaller window')
  }
  return length <= kept ? { length, kept: length, bypass: true, window } : { length, kept, bypass: false, window }
}

function checkShape(shape: PromptShape): void {
  for (const [name, n] of Object.entries(shape)) {
    if (name !== 'dtype' && (!Number.isSafeInteger(n) || (n as number) < 1)) {
      throw new WeftError('shape', `${name} is ${n}`, { fix: 'use a whole number, at least 1' })
    }
  }
  if (shape.queries > shape.length) {
    throw new WeftError('shape', `q has ${shape.queries} rows, but the prompt only ${shape.length} tokens`, { fix: 'pass the last queries of the same prompt' })
  }
}
