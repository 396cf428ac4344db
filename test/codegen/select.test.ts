import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { emit, sourceText } from '../../src/codegen/emit/cuda.js'
import { layoutShared } from '../../src/codegen/facts.js'
import { defaultSelect, invalidSelect, selectBytes, selectSpace, type SelectSchedule } from '../../src/codegen/schedule-select.js'
import { findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { openNvrtc, type Nvrtc } from '../../src/runtime/nvrtc.js'
import { bf16Bits, fromBf16, naivePool, naiveTopK, openBench, orders, selectKernels, type Bench, type Form } from './select-kernels.js'

// Small blocks and tiles make small rows go through everything: several digits, no cache, many chunks.
const small = { threads: 64, digitBits: 4, candidates: 8, cached: 0, sorted: 32 } as const
const symbolic: readonly Form[] = [
  { name: 'plain' },
  { name: 'byScore', order: 'score' },
  { name: 'half', dtype: 'bf16', order: 'score', schedule: { threads: 256, digitBits: 8, candidates: 256, sorted: 256 } },
  { name: 'pooled', pool: 7, schedule: { threads: 128, digitBits: 11, candidates: 128, cached: 1024 } },
  { name: 'pooledByScore', pool: 3, order: 'score', schedule: { threads: 64, digitBits: 6, candidates: 64, cached: 512, sorted: 128 } },
  { name: 'launches', schedule: { threads: 64, digitBits: 8, candidates: 64, cached: 512, blocksPerRow: 4, exchange: 'launches' } },
  { name: 'launchesByScore', pool: 5, order: 'score', schedule: { threads: 32, digitBits: 6, candidates: 32, cached: 0, sorted: 256, blocksPerRow: 8, exchange: 'launches' } },
  { name: 'launchesHalf', dtype: 'bf16', pool: 9, schedule: { threads: 128, digitBits: 10, candidates: 100, cached: 0, blocksPerRow: 2, exchange: 'launches' } },
  { name: 'cluster', schedule: { threads: 64, digitBits: 8, candidates: 64, cached: 512, blocksPerRow: 4, exchange: 'cluster' } },
  { name: 'clusterPooled', pool: 7, schedule: { threads: 32, digitBits: 6, candidates: 20, cached: 0, blocksPerRow: 8, exchange: 'cluster' } },
  { name: 'clusterHalf', dtype: 'bf16', schedule: { threads: 128, digitBits: 7, candidates: 128, cached: 1024, blocksPerRow: 2, exchange: 'cluster' } },
  { name: 'farPool', pool: 63, schedule: { threads: 256, digitBits: 10, candidates: 256, cached: 1024 } },
  { name: 'small', schedule: small },
  { name: 'smallByScore', order: 'score', schedule: small },
  { name: 'oneWarp', order: 'score', schedule: { threads: 32, digitBits: 8, candidates: 32, cached: 100, sorted: 1 } },
]
const fixed: readonly (Form & { readonly length: number; readonly k: number })[] = [
  { name: 'fixedCached', length: 1025, k: 33 },
  { name: 'fixedUncached', length: 5000, k: 1024, pool: 5, schedule: { cached: 4096 } },
  { name: 'fixedByScore', length: 1000, k: 1000, order: 'score', schedule: { threads: 256, candidates: 200 } },
  { name: 'fixedChunks', length: 700, k: 600, order: 'score', schedule: { threads: 128, candidates: 100, sorted: 256 } },
  { name: 'fixedNothing', length: 10, k: 0 },
  // Names that the text would like to have for itself.
  { name: 'threshold', input: 'keys', output: 'i', length: 100, k: 7 },
  { name: 'begin', input: 'a', output: 'state', length: 100, k: 7, order: 'score' },
]

/** As the defaults are: 1024 threads, so only at a few lengths. */
const wide: readonly Form[] = [
  { name: 'clusterWide', pool: 5, schedule: { blocksPerRow: 8, exchange: 'cluster', cached: 4096 } },
  { name: 'launchesWide', pool: 7, schedule: { blocksPerRow: 8, exchange: 'launches' } },
]

type Filler = (i: number, n: number, random: () => number) => number
const kinds: Readonly<Record<string, Filler>> = {
  random: (_i, _n, random) => random() * 2 - 1,
  scores: (_i, _n, random) => Math.exp(random() * 12 - 10),
  fewValues: (_i, _n, random) => Math.floor(random() * 5) - 2,
  allEqual: () => 0.25,
  ascending: i => i,
  descending: i => -i,
  negative: (_i, _n, random) => -1 - random() * 1e-3,
  zeros: (_i, _n, random) => (random() < 0.5 ? 0 : -0),
  infinities: (_i, _n, random) => [Infinity, -Infinity, 1, -1][Math.floor(random() * 4)]!,
  someNaN: (_i, _n, random) => (random() < 0.2 ? NaN : random()),
  allNaN: () => NaN,
  allMinusInfinity: () => -Infinity,
  denormals: (_i, _n, random) => Math.round((random() - 0.5) * 50) * 2 ** -149,
  oneBin: (_i, _n, random) => 1 + Math.floor(random() * 2 ** 12) * 2 ** -23,
  plateaus: (i, n) => Math.sin(Math.floor(i / 7) * 12.9898 * n),
}

function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
function row(kind: string, length: number, seed: number, form: Form): Float32Array | Uint16Array {
  const random = generator(seed), values = Float32Array.from({ length }, (_, i) => kinds[kind]!(i, length, random))
  return form.dtype === 'bf16' ? Uint16Array.from(values, bf16Bits) : values
}
function expected(r: Float32Array | Uint16Array, f: Form, k: number): Int32Array {
  const values = r instanceof Float32Array ? r : Float32Array.from(r, fromBf16)
  return naiveTopK(f.pool === undefined ? values : naivePool(values, f.pool), k, f.order ?? 'position')
}
function check(bench: Bench, f: Form, rows: readonly (Float32Array | Uint16Array)[], k: number, threadOrders: readonly string[] = orders): void {
  const wanted = rows.map(r => expected(r, f, k))
  bench.run(f, rows, k, threadOrders).forEach((found, o) => rows.forEach((_, i) => expect(found[i], `${f.name}, row ${i}, ${threadOrders[o]}`).toEqual(wanted[i])))
}

const boundaries = [1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 129, 511, 512, 513, 1023, 1024, 1025, 4095, 4096, 4097, 5000]

describe.skipIf('missing' in findHostCompiler())('select on the emulator', () => {
  let bench: Bench
  beforeAll(async () => { bench = await openBench([...symbolic, ...wide, ...fixed]) })
  afterAll(() => bench?.[Symbol.dispose]())

  it.each(symbolic.map(f => f.name))('%s: every kind of data at every boundary length, k 0, 1 and length', name => {
    const f = symbolic.find(x => x.name === name)!
    const lengths = f.schedule?.sorted === 1 ? boundaries.filter(n => n <= 129) : boundaries
    lengths.forEach((length, n) => {
      const all = Object.keys(kinds), some = [all[n % all.length]!, all[(7 * n + 3) % all.length]!]
      const rows = some.map(kind => row(kind, length, n, f))
      const most = f.schedule === small || /ByScore/.test(name) ? Math.min(length, 600) : length
      for (const k of [0, 1, Math.ceil(most / 3), most]) check(bench, f, rows, k, [orders[(n + k) % orders.length]!, 'random:1'])
    })
  })

  it('gives what sorting gives', () => {
    const arbitrary = fc.record({
      form: fc.constantFrom(...symbolic), kind: fc.constantFrom(...Object.keys(kinds)), seed: fc.nat(),
      length: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constantFrom(...boundaries)), part: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    fc.assert(fc.property(arbitrary, ({ form, kind, seed, length, part }) => {
      const k = Math.min(Math.round(part * length), form.schedule?.sorted === 1 ? 40 : form.schedule === small ? 600 : length)
      check(bench, form, [row(kind, length, seed, form), row('random', length, seed, form)], k, [orders[seed % 4]!, `random:${seed % 1000}`])
    }), { numRuns: 150 })
  })

  it.each(Object.keys(kinds))('%s: the same in all orders of threads', kind => {
    for (const f of symbolic.filter(x => x.name === 'plain' || x.name === 'byScore' || x.name === 'pooled')) check(bench, f, [row(kind, 3001, 5, f)], 700)
  })

  it.each(fixed.map(f => f.name))('%s: sizes known beforehand', name => {
    const f = fixed.find(x => x.name === name)!
    for (const kind of ['random', 'fewValues', 'someNaN']) check(bench, f, [1, 2, 3].map(seed => row(kind, f.length, seed, f)), f.k)
  })

  it.each([[16384, 1024], [65537, 5000], [1_000_003, 2048]])('rows of %i', (length, k) => {
    for (const f of symbolic.filter(x => x.name === 'plain' || x.name === 'byScore')) check(bench, f, [row('plateaus', length, 1, f)], k, ['warp-greedy-descending'])
  })

  it.each([[16383, 1], [16385, 1024], [70_001, 30_000], [1_000_000, 2048]])('rows of %i, several blocks each', (length, k) => {
    for (const f of wide) for (const kind of ['plateaus', 'oneBin']) check(bench, f, [row(kind, length, 1, f)], k, ['random:3'])
  })

  it('every k', () => {
    for (const name of ['small', 'smallByScore']) {
      const f = symbolic.find(x => x.name === name)!
      for (let k = 0; k <= 130; k++) check(bench, f, [row('ascending', 130, 1, f), row('fewValues', 130, 2, f)], k, [orders[k % orders.length]!])
    }
  })

  it('rows without elements', () => {
    for (const f of symbolic) expect(bench.run(f, [new Float32Array(0)], 0)[0]).toEqual([new Int32Array(0)])
  })
})

// Apart, because a broken kernel may end the device for all who share it.
describe.skipIf('missing' in findHostCompiler())('a select kernel with a fault', () => {
  // Of 0 ... 702, 63 lie in the topmost bin of 11 bits; 99 ranks are three chunks of 32 and one of 3.
  const isNoticed = (broken: Bench, f: Form): boolean => Object.keys(kinds).some(kind => (f.name === 'launches' || f.name === 'cluster' ? [63, 300] : [63, 99]).some(k => {
    try {
      check(broken, f, [3, 4, 5, 6].map(seed => row(kind, 703, seed, f)), k, [...orders, 'random:1', 'random:2', 'random:3'])
      return false
    } catch {
      return true
    }
  }))

  it.each(['plain', 'smallByScore'])('%s: a barrier less is noticed in some order of threads', async name => {
    const f = symbolic.find(x => x.name === name)!
    const count = emit(selectKernels(f)[0]!).text.split('blockBarrier()').length - 1
    expect(count).toBeGreaterThan(4)
    const unnoticed: number[] = []
    for (let barrier = 0; barrier <= count; barrier++) {
      let seen = 0
      using broken = await openBench([f], text => text.replace(/blockBarrier\(\)/g, found => (seen++ === barrier ? '/* dropped */' : found)))
      if (!isNoticed(broken, f)) unnoticed.push(barrier)
    }
    expect(unnoticed).toEqual([count])   // the last one had nothing dropped
  })

  it.each([
    ['plain', 'isEqual && tied < need', 'isEqual && tied <= need'],
    ['plain', 'need <= higher', 'need < higher'],
    ['plain', 'min(tied, need)', 'tied'],
    ['plain', ': 0u}', ': ~0u}'],
    ['plain', 'u32(key + e) < u32(keySize)', 'key + e >= 0'],
    ['plain', 'key <= keySize - 4', 'key <= keySize - 3'],
    ['pooled', 'key >= 4', 'key >= 0'],
    ['pooled', 'votesNear[3 - e]', 'votesNear[4 - e]'],
    ['pooled', 'votesNear[8 + e]', 'votesNear[7 + e]'],
    ['plain', '- 1) / 4096 + 1', '- 1) / 4096'],
    ['plain', '(before >> 16)', '(before >> 17)'],
    ['launches', 'max(to - from, 0)', 'max(to - from + 1, 0)'],
    ['launches', 'min((rank + 1)', 'min(rank'],
    ['launches', 'bestKeys[i] = 0', 'bestKeys[i] = ~0u'],
    ['plain', 'need = state[foundNeed];\n    }', '}'],
    ['small', '|= state[foundBin]', '= state[foundBin]'],
    ['small', 'own.at[e] - threshold <= open', 'own.at[e] <= open'],
    ['smallByScore', 'atA < atB', 'atA > atB'],
    ['smallByScore', 'i + e <= lastBound', 'i + e < lastBound'],
    ['smallByScore', 'tied + 1 == need', 'tied == need'],
    ['smallByScore', 'j >= take', 'j > take'],
    ['smallByScore', 'mask = 2 * run - 1', 'mask = run'],
  ])('%s: %j as %j is noticed', async (name, right, wrong) => {
    const f = symbolic.find(x => x.name === name)!
    let found = false
    using broken = await openBench([f], text => { found ||= text.includes(right); return text.replaceAll(right, wrong) })
    expect(found).toBe(true)
    expect(isNoticed(broken, f)).toBe(true)
  })
})

describe('a select schedule', () => {
  const any: fc.Arbitrary<SelectSchedule> = fc.record({
    rule: fc.constant('select' as const), threads: fc.constantFrom(...selectSpace.threads), digitBits: fc.constantFrom(...selectSpace.digitBits),
    candidates: fc.constantFrom(...selectSpace.candidates), cached: fc.constantFrom(...selectSpace.cached), sorted: fc.constantFrom(...selectSpace.sorted),
    blocksPerRow: fc.constantFrom(...selectSpace.blocksPerRow), exchange: fc.constantFrom(...selectSpace.exchange),
  })
  it('that is accepted fits', () => {
    expect(invalidSelect(defaultSelect)).toBeUndefined()
    fc.assert(fc.property(any, fc.constantFrom('position' as const, 'score' as const), (schedule, order) => {
      fc.pre(invalidSelect(schedule) === undefined)
      expect(Math.max(...selectKernels({ name: 'chosen', order, schedule }).map(k => layoutShared(k).bytes))).toBeLessThanOrEqual(selectBytes(schedule))
    }))
  })
  it('that is refused says why', () => {
    expect(invalidSelect({ ...defaultSelect, threads: 100 })).toBe('threads is 100: a power of two from 32 to 1024 is needed')
    expect(invalidSelect({ ...defaultSelect, threads: 256 })).toBe('candidates is 512: a thread ranks one, and there are 256')
    expect(invalidSelect({ ...defaultSelect, cached: 32768 })).toMatch(/^the tiles take 157984 bytes of shared memory/)
    expect(invalidSelect({ ...defaultSelect, digitBits: 0 })).toMatch(/digitBits/)
  })
})

let nvrtc: Nvrtc | undefined
try { nvrtc = openNvrtc() } catch { /* npm run setup:nvrtc */ }

describe.skipIf(nvrtc === undefined)('select compiled by NVRTC', () => {
  it.each(['sm_80', 'sm_90a', 'sm_120'])('%s: no spills, at most 64 registers', async arch => {
    const forms: Form[] = [symbolic[0]!, symbolic[1]!, { name: 'pooledFixed', pool: 7, length: 16384, k: 1024 }, { name: 'pooledLong', pool: 7, k: 1024 }]
    const emitted = forms.flatMap(f => selectKernels(f).map(emit))
    // One block per multiprocessor: 64 registers for each of 1024 threads.
    const text = sourceText(emitted, 'cuda').replace(/__launch_bounds__\((\d+)\)/g, '__launch_bounds__($1, 1)')
    const { resources } = await nvrtc!.compile({ text, arch })
    expect(resources.map(r => r.name).sort()).toEqual(forms.map(f => f.name).sort())
    for (const r of resources) expect(r).toMatchObject({ spillStores: 0, spillLoads: 0 })
    for (const r of resources) expect(r.registers).toBeLessThanOrEqual(64)
    for (const e of emitted) expect(e.text.split('\n').length).toBeLessThan(160)
  })
})
