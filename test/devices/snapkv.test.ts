/** SnapKV over its options on small prompts: the kernels against the interpreter, in several orders of threads. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { interpret } from '../../src/runtime/reference.js'
import { compareSelection, explainMismatch, relative, ulps } from '../../src/snapkv/compare.js'
import { snapkv, type FloatDtype, type SnapKVOptions } from '../../src/snapkv/index.js'
import { randomTensor } from '../arbitrary-tensors.js'
import { numbers } from '../compare.js'
import { describeDevices, kernelDevices, threadOrders } from '../devices.js'
import { Session, sameBits } from '../session.js'

const oneOf = <T>(...values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values)
const cases = fc.record({
  options: fc.record({
    window: oneOf(1, 2, 3, 5, 8, 16, 32), pool: oneOf<SnapKVOptions['pool']>('max', 'avg', 'none'), poolSize: oneOf(1, 3, 5, 7, 63),
    vote: oneOf<SnapKVOptions['vote']>('sum', 'mean'), group: oneOf<SnapKVOptions['group']>('none', 'mean', 'max', 'sum'),
    rounding: oneOf<SnapKVOptions['rounding']>('f32', 'reference'), order: oneOf<SnapKVOptions['order']>('position', 'score'),
  }),
  dtype: oneOf<FloatDtype>('f32', 'f16', 'bf16'), kvHeads: fc.integer({ min: 1, max: 3 }), group: oneOf(1, 2, 3, 4, 7, 8), dim: oneOf(1, 3, 8, 16, 20, 64),
  past: oneOf(2, 3, 31, 32, 33, 63, 64, 65, 100, 127, 129, 257), part: fc.double({ min: 0, max: 1, noNaN: true }), more: fc.nat({ max: 2 }), seed: fc.nat(),
})

const count = Number(process.env['WEFT_FUZZ_COUNT'] ?? 40), seed = Number(process.env['WEFT_FUZZ_SEED'] ?? 20260102)

describeDevices('SnapKV', kernelDevices, device => {
  let session: Session
  beforeAll(async () => { session = await Session.open(device.name as 'emulator' | 'cuda') })
  afterAll(() => session.dispose())

  test(`${count} prompts agree with the interpreter`, { timeout: 60_000 + 3000 * count }, async () => {
    const drawn = fc.sample(cases, { numRuns: count, seed }).map(c => {
      const { window } = c.options, length = c.past + window, k = 1 + Math.floor(c.part * (c.past - 2))
      const shape = { dtype: c.dtype, kvHeads: c.kvHeads, group: c.group, queries: Math.min(length, window + c.more), length, dim: c.dim }
      const program = snapkv({ ...c.options, capacity: window + k }).build(shape)
      const fill = (axes: Readonly<Record<string, number>>, n: number) => randomTensor(c.dtype, axes, 'float', c.seed + n)
      return { c, k, program, inputs: { q: fill(program.inputs.q, 0), k: fill(program.inputs.k, 1), v: fill(program.inputs.v, 2) } }
    })
    const outcomes = await session.run(drawn.map(d => ({ outputs: d.program.outputs, inputs: d.inputs, sizes: d.program.sizes })), device.name === 'emulator' ? threadOrders.slice(1, 5) : ['its own'])
    const faults = drawn.flatMap(({ c, k, program, inputs }, i) => {
      const say = (what: string): string[] => [`prompt ${i} of seed ${seed}: ${JSON.stringify(c)}: ${what}`]
      const { error, results } = outcomes[i]!
      if (error !== undefined) return say(`${error.stage}: ${error.message}`)
      const got = results[0]!, expected = interpret(program.outputs, inputs, { sizes: program.sizes })
      for (const name of Object.keys(expected)) if (results.some(r => !sameBits(r[name]!, got[name]!))) return say(`${name} depends on the order of threads`)
      // Scores within the bound of the arithmetic; the choice by score; rows are the rows at the positions.
      const mine = numbers(got['scores']!), theirs = numbers(expected['scores']!)
      const format = c.options.rounding === 'f32' || c.dtype === 'f32' ? undefined : c.dtype
      // A rounding may go the other way at each of the steps between logits and pooling.
      const bound = format === undefined ? relative(2e-4) : ulps(format, 6)
      const heads = theirs.length / c.past
      const worst = mine.findIndex((x, n) => !(Math.abs(x - theirs[n]!) <= (format === undefined ? 2e-4 : format === 'f16' ? 2 ** -8 : 2 ** -5) * Math.max(1e-3, Math.abs(theirs[n]!)) + (format === undefined ? 0 : 1e-6)))
      if (worst >= 0) return say(`score ${worst} is ${mine[worst]}, not ${theirs[worst]}`)
      const kept = k + c.options.window, positions = got['positions']!
      const choice = compareSelection(Float64Array.from(theirs), positions.data as Int32Array, { heads, past: c.past, rows: kept, k }, bound)
      if (choice.mismatches.length > 0) return say(choice.mismatches.slice(0, 3).map(explainMismatch).join('; '))
      const own = [...interpretRows(inputs.k, positions, c.kvHeads, heads, kept)]
      const rows = numbers(got['keys']!)
      const wrong = own.findIndex((x, n) => x !== rows[n])
      return wrong >= 0 ? say(`element ${wrong} of keys is ${rows[wrong]}, not ${own[wrong]}`) : []
    })
    expect(faults.join('\n\n')).toBe('')
  })
})

function* interpretRows(k: ReturnType<typeof randomTensor>, positions: { readonly data: ArrayLike<number> }, kvHeads: number, heads: number, kept: number): Iterable<number> {
  const [, length, dim] = k.shape as readonly [number, number, number], from = numbers(k)
  for (let h = 0; h < heads; h++) for (let i = 0; i < kept; i++) for (let d = 0; d < dim; d++) {
    yield from[(Math.floor(h / (heads / kvHeads)) * length + positions.data[h * kept + i]!) * dim + d]!
  }
}
