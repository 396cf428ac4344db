/** The policies by name. Each says in words how it differs from its neighbours, so that a result can name its "SnapKV". */
import { WeftError } from '../dsl/errors.js'
import { resolveOptions, snapkvOptionTable, type SnapKVOptions } from './options.js'
import { parseSettings, type OptionTable, type Policy, type Settings } from './policy.js'
import { snapkvPolicy } from './snapkv.js'

export interface Preset {
  readonly name: string
  /** One line. */
  readonly summary: string
  /** What it does otherwise than the other presets. */
  readonly difference: string
  readonly options: OptionTable
  readonly defaults: Settings
  /** @throws WeftError `option` */
  readonly create: (settings: Settings) => Policy
}

/** The paper's LongBench settings, one choice of rows per KV head. */
export const snapkvDefaults: SnapKVOptions = Object.freeze({
  window: 32, capacity: 1024, pool: 'max', poolSize: 7, vote: 'sum', group: 'mean', rounding: 'f32', order: 'position',
})

const variant = (name: string, summary: string, difference: string, changes: Partial<SnapKVOptions>): Preset => {
  const { capacity, ...rest } = snapkvDefaults
  const defaults: SnapKVOptions = Object.freeze({ ...rest, ...(changes.ratio === undefined ? { capacity } : {}), ...changes })
  return {
    name, summary, difference, options: snapkvOptionTable, defaults: { ...defaults },
    create: settings => snapkvPolicy(name, resolveOptions(name, defaults, settings as Partial<SnapKVOptions>)),
  }
}

const list: readonly Preset[] = [
  variant('snapkv', 'SnapKV with one choice of rows per KV head (window 32, capacity 1024, max pooling 7)',
    "votes are averaged over the query heads of a KV head before pooling, so the kept rows stay at KV heads: group times less memory than snapkv-official, and another choice of rows",
    {}),
  variant('snapkv-official', 'SnapKV as its authors published it: each query head chooses its own rows',
    'no averaging over a group, so keys and values are stored once per query head: group times the memory of snapkv. Add rounding=reference for the official 16-bit roundings, order=score for its order of rows',
    { group: 'none' }),
  variant('snapkv-kvpress', 'SnapKV as NVIDIA kvpress defines it (window 64, ratio 0.5, average pooling 5)',
    'the budget is a part of the prompt instead of a number of rows, votes are means over the window instead of sums (the same choice), pooling is an average over 5 positions instead of the maximum of 7 (another choice); rows per KV head',
    { window: 64, ratio: 0.5, pool: 'avg', poolSize: 5, vote: 'mean' }),
]

export const presets: ReadonlyMap<string, Preset> = new Map(list.map(p => [p.name, p]))

/** @throws WeftError `policy` for an unknown name */
export function findPreset(name: string): Preset {
  const preset = presets.get(name)
  if (preset === undefined) {
    throw new WeftError('policy', `there is no policy '${name}'`, { fix: `the policies are ${[...presets.keys()].join(', ')}` })
  }
  return preset
}

/** A policy by name, with settings as values or as texts `name=value`. @throws WeftError `policy` or `option` */
export function policyByName(name: string, settings: Settings | readonly string[] = {}): Policy {
  const preset = findPreset(name)
  return preset.create(Array.isArray(settings) ? parseSettings(name, preset.options, settings as readonly string[]) : settings as Settings)
}

/** SnapKV with options of one's own; the rest comes from the preset `snapkv`. @throws WeftError `option` */
export const snapkv = (options: Partial<SnapKVOptions> = {}): Policy => snapkvPolicy('snapkv', resolveOptions('snapkv', snapkvDefaults, options))
