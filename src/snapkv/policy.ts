/**
 * What every cache-compression policy offers, so that policies stand beside each other: a name, settings, a budget, and
 * a program in the language. Everything that knows prompts, heads and caches lives in this folder; the compiler does not.
 */
import type { Sizes, Tensor } from '../dsl/index.js'
import { WeftError } from '../dsl/errors.js'

export type FloatDtype = 'f32' | 'f16' | 'bf16'

/** One layer's data at the end of the prefill. Query head h reads KV head ⌊h / group⌋. */
export interface PromptShape {
  /** Of q, k and v. */
  readonly dtype: FloatDtype
  readonly kvHeads: number
  /** Query heads per KV head. */
  readonly group: number
  /** Rows of q: at least as many of the last queries as the policy looks at. */
  readonly queries: number
  /** Rows of k and v: tokens of the prompt. */
  readonly length: number
  readonly dim: number
}

/** How much of a prompt stays. */
export interface Budget {
  /** Tokens of the prompt: the position of the next token, whatever was dropped. */
  readonly length: number
  /** Rows kept per head. */
  readonly kept: number
  /** Nothing is dropped and no program runs: `kept` is `length`, positions are 0 … length − 1, there are no scores. */
  readonly bypass: boolean
  /** The last rows, which are kept without a score. 0 for policies that score every row. */
  readonly window: number
}

export type HeadAxes = 'kvHead' | 'group'

/**
 * What a policy computes. The axis `group` is there only for policies that choose per query head (`perQueryHead`);
 * kvHead × group in row-major order are then the query heads.
 */
export interface PolicyOutputs {
  /** [kvHead, (group,) kept, dim], dtype of k. */
  readonly keys: Tensor<HeadAxes | 'kept' | 'dim', FloatDtype>
  /** [kvHead, (group,) kept, dim], dtype of v. */
  readonly values: Tensor<HeadAxes | 'kept' | 'dim', FloatDtype>
  /** [kvHead, (group,) kept], i32: the prompt position of each kept row. */
  readonly positions: Tensor<HeadAxes | 'kept', 'i32'>
  /** [kvHead, (group,) past], f32: what the selection compared; past = length − window. */
  readonly scores: Tensor<HeadAxes | 'past', 'f32'>
}

export interface PolicyProgram {
  readonly outputs: PolicyOutputs & Readonly<Record<string, Tensor>>
  /** A value for every symbol: those the inputs tell too, so that a plan needs no data. `selected` is told by nothing else. */
  readonly sizes: Sizes
  /** The inputs in physical order: axis names with lengths. Reshaping [queryHead, query, dim] to q's axes is free. */
  readonly inputs: { readonly q: Axes; readonly k: Axes; readonly v: Axes }
  readonly budget: Budget
}
type Axes = Readonly<Record<string, number>>

/** An option's value after validation; absent ones are undefined. */
export type Setting = number | string
export type Settings = Readonly<Record<string, Setting | undefined>>

export interface Policy {
  readonly name: string
  /** All settings in force, defaults included. */
  readonly settings: Settings
  /** Whether rows are chosen per query head (outputs have the axis `group`) rather than per KV head. */
  readonly perQueryHead: boolean
  /** Checks the shape against the settings. @throws WeftError `option` or `shape` */
  budget(shape: PromptShape): Budget
  /** The program for this shape. Its text depends on dtype and dim only; other lengths are symbols. @throws WeftError `bypass` when there is nothing to drop */
  build(shape: PromptShape): PolicyProgram
}

/** What a setting may be. Used by validation, by `--set name=value` and by help texts. */
export type OptionSpec = { readonly meaning: string } & (
  | { readonly kind: 'integer'; readonly atLeast: number; readonly odd?: boolean }
  | { readonly kind: 'fraction' }
  | { readonly kind: 'choice'; readonly values: readonly string[] }
)
export type OptionTable = Readonly<Record<string, OptionSpec>>

export const optionError = (reason: string, fix: string): WeftError => new WeftError('option', reason, { fix })

const say = (x: unknown): string => (typeof x === 'string' ? `'${x}'` : String(x))

/** @throws WeftError `option`: an unknown name, a wrong type, a value out of range */
export function checkSettings(policy: string, table: OptionTable, settings: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(settings)) {
    if (!Object.hasOwn(table, name)) {
      throw optionError(`${policy} has no option '${name}'`, `its options are ${Object.keys(table).join(', ')}`)
    }
    if (value !== undefined) checkSetting(name, table[name]!, value)
  }
}

function checkSetting(name: string, spec: OptionSpec, value: unknown): void {
  switch (spec.kind) {
    case 'integer':
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < spec.atLeast) {
        throw optionError(`${name} is ${say(value)}`, `use a whole number, at least ${spec.atLeast}`)
      }
      if (spec.odd === true && value % 2 === 0) {
        throw optionError(`${name} ${value} is even, so a centred window would shift the scores by half a position`, `use ${value - 1} or ${value + 1}`)
      }
      return
    case 'fraction':
      if (typeof value !== 'number' || !(value >= 0 && value < 1)) throw optionError(`${name} is ${say(value)}`, 'use a number from 0 up to, not including, 1')
      return
    case 'choice':
      if (typeof value !== 'string' || !spec.values.includes(value)) throw optionError(`${name} is ${say(value)}`, `use one of ${spec.values.join(', ')}`)
      return
  }
}

/**
 * Settings from texts `name=value`, as a command line gives them; the values are checked where the policy is made.
 * @throws WeftError `option`: no `=`, an unknown name, a name given twice, not a number
 */
export function parseSettings(policy: string, table: OptionTable, texts: readonly string[]): Settings {
  const settings: Record<string, Setting> = {}
  for (const text of texts) {
    const at = text.indexOf('=')
    if (at < 1) throw optionError(`'${text}' is not of the form name=value`, `for example ${Object.keys(table)[0] ?? 'name'}=${64}`)
    const name = text.slice(0, at), value = text.slice(at + 1).trim()
    if (!Object.hasOwn(table, name)) throw optionError(`${policy} has no option '${name}'`, `its options are ${Object.keys(table).join(', ')}`)
    if (Object.hasOwn(settings, name)) throw optionError(`${name} is set twice`, 'set it once')
    const spec = table[name]!
    if (spec.kind === 'choice') { settings[name] = value; continue }
    if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value)) throw optionError(`${name} is '${value}', which is not a number`, spec.kind === 'integer' ? `use a whole number, at least ${spec.atLeast}` : 'use a number from 0 up to, not including, 1')
    settings[name] = Number(value)
  }
  return settings
}
