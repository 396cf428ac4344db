/**
 * Rows that move as a whole: by kernels of their own, and by the kernel that selected them. Programs are planned as ever;
 * what follows a selection is then put into its group by hand.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { add, concat, gather, iota, minus, mul, pool, size, tensor, topK, type Expr, type Tensor } from '../../src/dsl/index.js'
import type { Group, Plan } from '../../src/codegen/plan.js'
import { lower } from '../../src/codegen/pipeline.js'
import { emit, sourceText } from '../../src/codegen/emit/cuda.js'
import { plan } from '../../src/codegen/plan.js'
import { defaultPoint, defaultRows, type Schedule } from '../../src/codegen/schedule.js'
import { defaultSelect, type SelectSchedule } from '../../src/codegen/schedule-select.js'
import { targetOf } from '../../src/codegen/target.js'
import { interpret } from '../../src/runtime/reference.js'
import { expectClose } from '../compare.js'
import { emulatorDevice, threadOrders } from '../devices.js'
import { nvrtcOrReason } from '../runtime/nvrtc-here.js'
import { data } from '../programs/case.js'
import { Session } from '../session.js'

interface Shape { readonly dim: number; readonly dtype: 'bf16' | 'f32' | 'f16'; readonly last: number; readonly order: 'position' | 'score' }

/** Kept rows of two tables and the last `last` ones behind them, the positions of all, and scores and ranks of the kept. */
function program({ dim, dtype, last, order }: Shape): Record<string, Expr> {
  const scores = tensor('scores', 'f32', ['row', 'n'])
  const table = (name: string): Tensor<'row' | 'n' | 'dim'> => tensor(name, dtype, { row: size('row'), n: size('n'), dim }) as Tensor<'row' | 'n' | 'dim'>
  const kept = topK(pool.max(scores, 'n', { size: 3 }), 'n', { k: size('k'), as: 'kept', order })
  const positions = last === 0 ? kept : concat([kept, add(iota('kept', last), minus(size('n'), last))], 'kept')
  return {
    kept, keys: gather(table('k'), 'n', positions), values: gather(table('v'), 'n', positions), ...(last === 0 ? {} : { positions }),
    best: gather(scores, 'n', kept), ranks: mul(kept, 2),
  }
}

const inputs = (n: number, { dim, dtype }: Shape, seed: number) =>
  ({ scores: data('f32', { row: 3, n }, seed, 'exactSpecial'), k: data(dtype, { row: 3, n, dim }, seed + 1, 'float'), v: data(dtype, { row: 3, n, dim }, seed + 2, 'float') })

/** A selection and all kernels behind it that need only its positions and inputs, as one kernel. */
function joined(p: Plan): Plan {
  const select = p.groups.find(g => g.rule === 'select')!, node = select.roots[0]!.node
  const after = p.groups.filter(g => g.rule === 'point' && p.groups.indexOf(g) > p.groups.indexOf(select))
  const group: Group = { ...select, roots: [...select.roots, ...after.flatMap(g => g.roots)], loads: new Map([...select.loads, ...after.flatMap(g => [...g.loads])].filter(([e]) => e !== node)) }
  return { ...p, groups: p.groups.filter(g => !after.includes(g)).map(g => (g === select ? group : g)) }
}

const shapes = fc.record<Shape>({
  dim: fc.constantFrom(1, 2, 7, 8, 10, 24, 80, 128), dtype: fc.constantFrom('bf16' as const, 'f16' as const, 'f32' as const),
  last: fc.constantFrom(0, 1, 5), order: fc.constantFrom('position' as const, 'position' as const, 'score' as const),
})
const lengths = fc.constantFrom(5, 6, 31, 32, 33, 127, 129, 300)
const selections: fc.Arbitrary<SelectSchedule> = fc.record({
  rule: fc.constant('select' as const), threads: fc.constantFrom(32, 64, 128), digitBits: fc.constantFrom(4, 8), candidates: fc.constantFrom(8, 32), cached: fc.constantFrom(0, 512),
  sorted: fc.constantFrom(16, 256), blocksPerRow: fc.constantFrom(1 as const, 2 as const, 4 as const, 8 as const), exchange: fc.constantFrom('cluster' as const, 'launches' as const),
})
const points = fc.record({ rule: fc.constant('point' as const), threads: fc.constantFrom(32, 64, 256), items: fc.constantFrom(1, 2, 4) })

describe.skipIf(emulatorDevice.missing !== undefined)('rows that move as a whole', () => {
  let session: Session
  beforeAll(async () => { session = await Session.open('emulator', { bundle: 8 }) })
  afterAll(() => session.dispose())

  const check = async (cases: readonly { shape: Shape; n: number; part: number; select: SelectSchedule; point: Schedule; together: boolean }[]): Promise<void> => {
    const jobs = cases.map(({ shape, n, part, select, point, together }, i) => {
      const k = Math.max(shape.last === 0 ? 0 : 1, Math.round(part * n))
      return {
        outputs: program(shape), inputs: inputs(n, shape, i), sizes: { k },
        schedule: (g: Group): Schedule => (g.rule === 'select' ? select : point), ...(together ? { replan: joined } : {}),
      }
    })
    const outcomes = await session.run(jobs, [threadOrders[0], threadOrders[3], threadOrders[4]])
    outcomes.forEach((o, i) => {
      expect(o.error, `${JSON.stringify(cases[i])}\n${o.emitted.map(k => k.text).join('\n')}`).toBeUndefined()
      const expected = interpret(jobs[i]!.outputs, jobs[i]!.inputs, { sizes: jobs[i]!.sizes })
      for (const found of o.results) for (const [name, t] of Object.entries(expected)) {
        try { expectClose(found[name]!, t) } catch (error) { throw new Error(`${name} of ${JSON.stringify(cases[i])}\n${o.emitted.map(k => k.text).join('\n')}`, { cause: error }) }
      }
    })
  }
  const cases = (count: number, together: boolean, seed: number) => fc.sample(fc.record({
    shape: shapes, n: lengths, part: fc.double({ min: 0, max: 1, noNaN: true }), select: selections, point: points, together: fc.constant(together),
  }), { numRuns: count, seed })

  test('by kernels of their own, with any schedule', async () => { await check(cases(40, false, 1)) })
  test('by the kernel that selected them, with any schedule', async () => { await check(cases(60, true, 2)) })
})

const plannedAs = (shape: Shape): Plan => plan(program(shape), { sizes: { row: 8, n: 16384, k: 1024 } })
const usual: Shape = { dim: 128, dtype: 'bf16', last: 32, order: 'position' }

test('a thread moves 16 bytes at once, or what divides a row', () => {
  const widths = ([[128, 'bf16'], [80, 'bf16'], [10, 'bf16'], [96, 'f32'], [6, 'f32'], [7, 'f32']] as const).map(([dim, dtype]) => {
    const text = lower(plannedAs({ ...usual, dim, dtype })).map(k => emit(k.kernel).text).join('\n')
    return Number(/storeVector\(keys[^;]*keysHere/.test(text) ? /Vector<\w+, (\d+)> keysHere/.exec(text)![1] : 1)
  })
  expect(widths).toEqual([8, 8, 2, 4, 2, 1])
})

test('each position is loaded once for its row, and no load is guarded', () => {
  const gathering = lower(plannedAs(usual)).map(k => emit(k.kernel).text).find(t => t.includes('keysHere'))!
  expect(gathering.match(/\bkept\[/g)).toHaveLength(1)
  expect(gathering.match(/if \([^\n]*\n[^\n]*loadVector/g)).toBeNull()
})

const nvrtc = nvrtcOrReason()
test.skipIf(typeof nvrtc === 'string')('NVRTC compiles the joined kernel without spills', { timeout: 120_000 }, async () => {
  if (typeof nvrtc === 'string') return
  for (const [arch, select] of [['sm_80', { ...defaultSelect, blocksPerRow: 4, exchange: 'launches' }], ['sm_90a', { ...defaultSelect, blocksPerRow: 4, exchange: 'cluster' }]] as const) {
    const p = joined(plannedAs(usual)), schedules = Object.fromEntries(p.groups.map(g => [g.name, g.rule === 'select' ? select : defaultPoint]).filter(([, s]) => s !== undefined))
    const kernels = lower(p, schedules, targetOf(arch)).map(k => emit(k.kernel))
    for (const k of kernels) for (const r of (await nvrtc.compile({ text: sourceText([k], 'cuda'), arch })).resources) {
      console.log(`${arch} ${r.name} ${r.registers} registers`)
      expect(r.spillStores + r.spillLoads, r.name).toBe(0)
    }
  }
  const rows = lower(plannedAs(usual), {}, targetOf('sm_90a')).find(k => k.schedule === defaultRows)
  expect(rows).toBeDefined()
})
