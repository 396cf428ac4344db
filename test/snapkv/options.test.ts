/** Options: what is refused and in which words; presets; how many rows stay. */
import { describe, expect, test } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import type { PromptShape } from '../../src/snapkv/policy.js'
import { findPreset, policyByName, presets, snapkv } from '../../src/snapkv/presets.js'

const shape: PromptShape = { dtype: 'bf16', kvHeads: 3, group: 3, queries: 64, length: 3816, dim: 64 }

/** The message of what is thrown; everything a user can get wrong is a WeftError with a fix. */
function refusal(action: () => unknown): string {
  try {
    action()
  } catch (e) {
    expect(e).toBeInstanceOf(WeftError)
    expect((e as WeftError).fix).toBeTruthy()
    return (e as WeftError).message
  }
  throw new Error('nothing was refused')
}

describe('refused', () => {
  test.each<[string, () => unknown, string]>([
    ['both budgets', () => snapkv({ capacity: 100, ratio: 0.5 }), 'both capacity 100 and ratio 0.5 are given, and they say different things\n  fix: give one of them'],
    ['an empty window', () => snapkv({ window: 0 }), 'window is 0\n  fix: use a whole number, at least 1'],
    ['half a row', () => snapkv({ window: 1.5 }), 'window is 1.5\n  fix: use a whole number, at least 1'],
    ['a capacity that is all window', () => snapkv({ window: 64, capacity: 64 }), 'capacity 64 is not larger than the window of 64 rows, which it includes\n  fix: use a capacity of at least 65, or a smaller window'],
    ['a window as large as the default capacity', () => snapkv({ window: 1024 }), 'capacity 1024 is not larger than the window of 1024 rows, which it includes\n  fix: use a capacity of at least 1025, or a smaller window'],
    ['an even pool', () => snapkv({ poolSize: 8 }), 'poolSize 8 is even, so a centred window would shift the scores by half a position\n  fix: use 7 or 9'],
    ['no pool size', () => snapkv({ poolSize: NaN }), 'poolSize is NaN\n  fix: use a whole number, at least 1'],
    ['a ratio of one', () => snapkv({ ratio: 1 }), 'ratio is 1\n  fix: use a number from 0 up to, not including, 1'],
    ['a negative ratio', () => snapkv({ ratio: -0.1 }), 'ratio is -0.1\n  fix: use a number from 0 up to, not including, 1'],
    ['an unknown pool', () => snapkv({ pool: 'median' as 'max' }), "pool is 'median'\n  fix: use one of max, avg, none"],
    ['an unknown group', () => snapkv({ group: 'min' as 'max' }), "group is 'min'\n  fix: use one of none, mean, max, sum"],
    ['an unknown option', () => policyByName('snapkv', { windows: 3 }), "snapkv has no option 'windows'\n  fix: its options are window, capacity, ratio, pool, poolSize, vote, group, rounding, order"],
    ['an inherited name', () => policyByName('snapkv', ['constructor=3']), "snapkv has no option 'constructor'\n  fix: its options are window, capacity, ratio, pool, poolSize, vote, group, rounding, order"],
    ['an unknown policy', () => policyByName('snap'), "there is no policy 'snap'\n  fix: the policies are snapkv, snapkv-official, snapkv-kvpress"],
    ['a text without =', () => policyByName('snapkv', ['window']), "'window' is not of the form name=value\n  fix: for example window=64"],
    ['a text that is no number', () => policyByName('snapkv', ['window=0x20']), "window is '0x20', which is not a number\n  fix: use a whole number, at least 1"],
    ['a number left out', () => policyByName('snapkv', ['window=']), "window is '', which is not a number\n  fix: use a whole number, at least 1"],
    ['a name set twice', () => policyByName('snapkv', ['window=3', 'window=4']), 'window is set twice\n  fix: set it once'],
    ['a window as long as the prompt', () => snapkv().budget({ ...shape, length: 32, queries: 32 }), 'the window of 32 rows is not shorter than the prompt of 32 tokens\n  fix: use a window of at most 31'],
    ['too few queries', () => snapkv({ window: 65 }).budget(shape), 'the window needs the last 65 queries, but q has 64\n  fix: pass 65 rows of q, or use a window of 64'],
    ['a ratio that leaves only the window', () => snapkv({ ratio: 0.99, window: 38 }).budget(shape), 'ratio 0.99 keeps 38 of 3816 rows, not more than the window of 38, which it includes\n  fix: use a lower ratio or a smaller window'],
    ['more queries than tokens', () => snapkv().budget({ ...shape, length: 60 }), 'q has 64 rows, but the prompt only 60 tokens\n  fix: pass the last queries of the same prompt'],
    ['no heads', () => snapkv().budget({ ...shape, kvHeads: 0 }), 'kvHeads is 0\n  fix: use a whole number, at least 1'],
    ['building a bypass', () => snapkv().build({ ...shape, length: 1024 }), 'snapkv keeps all 1024 rows of this prompt: there is nothing to compute\n  fix: pass k and v on as they are'],
  ])('%s', (_, action, message) => { expect(refusal(action)).toBe(message) })

  test('options before the bypass: a short prompt does not hide them', () => {
    expect(refusal(() => snapkv({ window: 40 }).budget({ ...shape, length: 40, queries: 40 }))).toContain('not shorter than the prompt')
  })
})

describe('presets', () => {
  test('are what the documentation says', () => {
    expect(Object.fromEntries([...presets].map(([n, p]) => [n, p.create({}).settings]))).toEqual({
      'snapkv': { window: 32, capacity: 1024, pool: 'max', poolSize: 7, vote: 'sum', group: 'mean', rounding: 'f32', order: 'position' },
      'snapkv-official': { window: 32, capacity: 1024, pool: 'max', poolSize: 7, vote: 'sum', group: 'none', rounding: 'f32', order: 'position' },
      'snapkv-kvpress': { window: 64, ratio: 0.5, pool: 'avg', poolSize: 5, vote: 'mean', group: 'mean', rounding: 'f32', order: 'position' },
    })
  })
  test('an explicit budget replaces the default one of either kind', () => {
    expect(policyByName('snapkv-kvpress', ['capacity=200']).settings).toMatchObject({ capacity: 200 })
    expect(policyByName('snapkv-kvpress', ['capacity=200']).settings).not.toHaveProperty('ratio')
    expect(policyByName('snapkv', ['ratio=.25']).settings).toMatchObject({ ratio: 0.25 })
    expect(policyByName('snapkv', ['ratio=.25']).settings).not.toHaveProperty('capacity')
  })
  test('say which per query head they are, and how they differ', () => {
    expect([...presets.keys()].filter(n => policyByName(n).perQueryHead)).toEqual(['snapkv-official'])
    for (const p of presets.values()) expect(p.difference.length).toBeGreaterThan(40)
    expect(findPreset('snapkv').summary).toContain('window 32')
  })
})

describe('budget', () => {
  const kept = (length: number, options: Parameters<typeof snapkv>[0]): [number, boolean] => {
    const b = snapkv(options).budget({ ...shape, queries: 1, length })
    return [b.kept, b.bypass]
  }
  test('a prompt no longer than the capacity passes', () => {
    expect(kept(99, { window: 1, capacity: 100 })).toEqual([99, true])
    expect(kept(100, { window: 1, capacity: 100 })).toEqual([100, true])
    expect(kept(101, { window: 1, capacity: 100 })).toEqual([100, false])
  })
  test('a ratio keeps ⌊length · (1 − ratio)⌋ rows, in float64 as kvpress does', () => {
    expect(kept(101, { window: 1, ratio: 0.5 })).toEqual([50, false])
    expect(kept(101, { window: 1, ratio: 0 })).toEqual([101, true])
    expect(kept(1000, { window: 1, ratio: 0.9 })).toEqual([99, false])   // 1 − 0.9 is a little less than 0.1
    expect(kept(1000, { window: 1, ratio: 0.75 })).toEqual([250, false])
  })
})
