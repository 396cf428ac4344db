/**
 * Contractions by tensor cores against the interpreter: operands of every layout, sizes that are no multiple of a tile,
 * random schedules of that path. Products of whole numbers are exact in any order, the rest is within the language's bound.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { refusal } from '../../src/codegen/pipeline.js'
import type { Group } from '../../src/codegen/plan.js'
import { defaultMma, space, type MmaSchedule, type Schedule } from '../../src/codegen/schedule.js'
import { cast, contract, mul, rename, size, softmax, sum, tensor, type Expr } from '../../src/dsl/index.js'
import type { HostTensor } from '../../src/runtime/host-tensor.js'
import { interpret } from '../../src/runtime/reference.js'
import { randomTensor } from '../arbitrary-tensors.js'
import { describeDevices, kernelDevices, threadOrders } from '../devices.js'
import { fault } from '../fuzz/judge.js'
import { Session, type Job } from '../session.js'

type Half = 'bf16' | 'f16'
interface Case { readonly outputs: Readonly<Record<string, Expr>>; readonly inputs: Readonly<Record<string, HostTensor>>; readonly bounds?: Readonly<Record<string, number>>; readonly blocks?: number }

const shapes = fc.record({
  dtype: fc.constantFrom<Half>('bf16', 'f16'), heads: fc.constantFrom(1, 2), group: fc.constantFrom(1, 3, 5, 8), rows: fc.constantFrom(1, 2, 7, 8, 9, 16, 20, 33, 65), columns: fc.constantFrom(1, 15, 16, 17, 63, 64, 65, 130, 200),
  depth: fc.constantFrom(8, 16, 24, 40, 64, 80, 96, 128, 256), wide: fc.constantFrom(8, 16, 24, 40, 64, 80), seed: fc.nat(),
})
type Shape = typeof shapes extends fc.Arbitrary<infer S> ? S : never

/** Programs whose contractions have 16-bit operands, by where the operands' axes lie. */
const programs: Readonly<Record<string, (s: Shape) => Case>> = {
  'rows × columns over a whole axis': ({ dtype, rows, columns, depth, seed }) => ({
    outputs: { y: contract(tensor('a', dtype, { row: rows, d: depth }), tensor('b', dtype, { n: size('n'), d: depth }), 'd') },
    inputs: { a: randomTensor(dtype, { row: rows, d: depth }, 'exact', seed), b: randomTensor(dtype, { n: columns, d: depth }, 'exact', seed + 1) },
  }),
  'over the streamed axis': ({ dtype, rows, columns, wide, seed }) => ({
    outputs: { y: contract(tensor('a', dtype, { row: rows, n: size('n') }), tensor('b', dtype, { n: size('n'), e: wide }), 'n') },
    inputs: { a: randomTensor(dtype, { row: rows, n: columns }, 'exact', seed), b: randomTensor(dtype, { n: columns, e: wide }, 'exact', seed + 1) }, blocks: 1,
  }),
  'both operands along a long axis': ({ dtype, rows, wide, seed }) => ({
    outputs: { y: contract(tensor('a', dtype, { row: rows, k: 1040 }), tensor('b', dtype, { e: wide, k: 1040 }), 'k') },
    inputs: { a: randomTensor(dtype, { row: rows, k: 1040 }, 'exact', seed), b: randomTensor(dtype, { e: wide, k: 1040 }, 'exact', seed + 1) }, blocks: 1,
  }),
  'folded over the columns, then over rows': ({ dtype, heads, group, rows, columns, depth, seed }) => {
    const q = tensor('q', dtype, { head: size('head'), group, row: rows, d: depth }), k = tensor('k', dtype, { head: size('head'), n: size('n'), d: depth })
    return {
      outputs: { y: sum(softmax(mul(contract(q, k, 'd'), 1 / 16), 'n'), 'row', 'group') },
      inputs: { q: randomTensor(dtype, { head: heads, group, row: rows, d: depth }, 'float', seed), k: randomTensor(dtype, { head: heads, n: columns, d: depth }, 'float', seed + 1) }, bounds: { y: 2e-4 * rows * group },
    }
  },
  'weights that the kernel computes, in 16 bits': ({ dtype, rows, columns, depth, wide, seed }) => {
    const q = tensor('q', dtype, { row: rows, d: depth }), k = tensor('k', dtype, { n: size('n'), d: depth }), v = tensor('v', dtype, { n: size('n'), e: wide })
    return {
      outputs: { y: contract(cast(softmax(mul(contract(q, k, 'd'), 1 / 16), 'n'), dtype), v, 'n') },
      inputs: { q: randomTensor(dtype, { row: rows, d: depth }, 'float', seed), k: randomTensor(dtype, { n: columns, d: depth }, 'float', seed + 1), v: randomTensor(dtype, { n: columns, e: wide }, 'exact', seed + 2) },
      // Weights may be rounded the other way: one unit of 2^-8 of each, times values up to 8.
      bounds: { y: 2 ** -8 * 8 + 1e-3 }, blocks: 1,
    }
  },
  'one tensor as both operands': ({ dtype, rows, depth, seed }) => {
    const x = tensor('x', dtype, { n: size('n'), d: depth })
    return { outputs: { y: contract(x, rename(x, 'n', 'm'), 'd') }, inputs: { x: randomTensor(dtype, { n: rows, d: depth }, 'exact', seed) } }
  },
}

const count = Number(process.env['WEFT_FUZZ_COUNT'] ?? 10), seed = Number(process.env['WEFT_FUZZ_SEED'] ?? 20260303)

describeDevices('tensor cores', kernelDevices, device => {
  let session: Session
  beforeAll(async () => { session = await Session.open(device.name as 'emulator' | 'cuda', { races: true }) })
  afterAll(() => session.dispose())

  test.each(Object.keys(programs))('%s', { timeout: 60_000 + 4000 * count }, async name => {
    const draws = fc.sample(fc.record({ shape: shapes, schedule: fc.record(Object.fromEntries(Object.entries(space.stream[1]!).map(([field, values]) => [field, fc.constantFrom<string | number>(...values)]))) }), { numRuns: count, seed })
    const chosen: (readonly [string, Schedule])[][] = draws.map(() => [])
    const cases = draws.map(d => programs[name]!(d.shape)), orders = device.name === 'emulator' ? threadOrders : ['its own']
    const jobs: Job[] = cases.map(({ outputs, inputs, blocks }, i) => ({
      outputs, inputs, ...(blocks === undefined ? {} : { blocks }),
      // The random schedule where it can be used, else one of the path's that can, else the default.
      schedule: (group: Group): Schedule | undefined => {
        const tries = [{ rule: 'stream', ...draws[i]!.schedule } as unknown as MmaSchedule, { ...defaultMma, stages: 2, rows: 16 }]
        const found = i % 3 === 2 || group.rule !== 'stream' ? undefined : tries.find(s => refusal(group, s) === undefined)
        if (found !== undefined) chosen[i]!.push([group.name, found])
        return found
      },
    }))
    const outcomes = await session.run(jobs, orders)
    const faults = outcomes.flatMap((o, i) => {
      const what = fault(o, interpret(cases[i]!.outputs, cases[i]!.inputs), cases[i]!.bounds ?? {})
      return what === undefined ? [] : [`case ${i} of seed ${seed}: ${JSON.stringify(draws[i]!.shape)} ${JSON.stringify(chosen[i])}: ${what}`]
    })
    expect(faults.join('\n\n')).toBe('')
    expect(outcomes.filter(o => o.emitted.some(k => /mma(Bf16|F16)\(/.test(k.text))).length, 'cases that use tensor cores').toBeGreaterThan(count / 4)
  })
})
