/** The planner's alternatives: each can be had again by its choices, and its kernels compute the same program. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WeftError, cast, contract, gather, mul, neg, pool, size, softmax, sum, tensor, topK, type Expr, type Sizes } from '../../src/dsl/index.js'
import { bindSizes, inputsOf, symbolsOf } from '../../src/dsl/bind.js'
import { printPlan } from '../../src/codegen/explain.js'
import { plan, plans, type Plan } from '../../src/codegen/plan.js'
import { interpret } from '../../src/runtime/reference.js'
import { arbitraryProgram, type Program } from '../arbitraries.js'
import { emulatorDevice, threadOrders } from '../devices.js'
import { fault } from '../fuzz/judge.js'
import { corpus } from '../programs/index.js'
import { Session, type Job } from '../session.js'

const q = tensor('q', 'bf16', { head: 2, m: size('m'), dim: 16 }), k = tensor('k', 'bf16', { head: 2, n: size('n'), dim: 16 })
const votes = sum(softmax(mul(contract(q, k, 'dim'), 0.25), 'n'), 'm')
const kept = topK(pool.max(votes, 'n', { size: 5 }), 'n', { k: 8, as: 'kept' })
const program = { kept, rows: gather(k, 'n', kept) }
const sizes = { m: 8, n: 100_000 }

/** The program's own sizes, as a device would bind them. */
function bound(job: Pick<Job, 'outputs' | 'inputs' | 'sizes'>): Sizes {
  const shapes = Object.fromEntries([...inputsOf(job.outputs).keys()].map(name => {
    const t = job.inputs[name]!
    return [name, Object.fromEntries(t.axes.map((a, i) => [a, t.shape[i]!]))]
  }))
  const needed = symbolsOf(job.outputs)
  return bindSizes(job.outputs, shapes, Object.fromEntries(Object.entries(job.sizes ?? {}).filter(([n]) => needed.includes(n))))
}
const again = (outputs: Readonly<Record<string, Expr>>, p: Plan, options: { sizes?: Sizes; blocks?: number }): Plan =>
  plan(outputs, { ...options, choices: JSON.parse(JSON.stringify(p.choices)) as Plan['choices'] })

describe('alternatives of a plan', () => {
  const found = plans(program, { sizes })

  test('every decision comes up that the program has', () => {
    const names = new Set(plans(program, { sizes, count: 100 }).flatMap(p => p.decisions.map(d => d.name.split(' ')[0])))
    expect([...names].sort()).toEqual(['fold', 'passes', 'tile', 'window'])
    expect(found.length).toBe(4)
    expect(new Set(found.map(printPlan)).size).toBe(4)
  })
  test('the first is the cheapest, and the one that is planned', () => {
    const seconds = found.map(p => p.cost.seconds)
    expect(seconds).toEqual([...seconds].sort((a, b) => a - b))
    expect(printPlan(plan(program, { sizes }))).toBe(printPlan(found[0]!))
  })
  test('costs add up', () => {
    for (const p of found) {
      expect(p.cost.kernels.map(c => c.name)).toEqual(p.groups.map(g => g.name))
      expect(p.cost.kernels.reduce((n, c) => n + c.seconds, 0)).toBeCloseTo(p.cost.seconds, 12)
      for (const c of p.cost.kernels) expect(c.seconds).toBeGreaterThan(0)
    }
  })
  test('few decisions leave the rest to the cost', () => {
    const stored = plan(program, { sizes, choices: { 'window maxPooled': 'at the reader' } })
    expect(stored.choices).toMatchObject({ 'window maxPooled': 'at the reader', 'fold softmax': 'split' })
    expect(plan(program, { sizes, choices: { 'fold softmax': 'whole' } }).choices).toMatchObject({ 'fold softmax': 'whole', 'window maxPooled': 'stored' })
  })
  test('a decision that does not come up is refused, and so is a way that there is not', () => {
    const message = (choices: Record<string, string>): string => {
      try { plan(program, { sizes, choices }) } catch (error) { if (error instanceof WeftError && error.code === 'plan') return error.message; throw error }
      throw new Error('it was accepted')
    }
    expect(message({ 'tile hat': 'store' })).toMatchInlineSnapshot(`
      "the decision 'tile hat' does not come up in this program at these sizes
        fix: the decisions are 'tile mapped' (recompute or store), 'passes sum' (cut or one kernel), 'fold softmax' (split or whole), 'window maxPooled' (at the reader or stored)"
    `)
    expect(message({ 'fold softmax': 'thrice' })).toMatchInlineSnapshot(`
      "the decision 'fold softmax' cannot go the way 'thrice' here
        fix: the ways are 'split', 'whole'"
    `)
  })
  test('more rows than blocks: one kernel goes along the axis twice; few rows: the axis is split', () => {
    const y = { y: softmax(tensor('x', 'f32', ['row', 'n']), 'n') }
    expect(plan(y, { sizes: { row: 4096, n: 5000 } }).choices).toEqual({ 'passes softmax': 'one kernel' })
    expect(plan(y, { sizes: { row: 4, n: 500_000 } }).choices).toEqual({ 'passes softmax': 'cut', 'fold softmax': 'split' })
  })
  test('products are stored where rows are few against the contracted axis, in 16 bits only if the program rounds them', () => {
    const decode = (rounded: boolean): Plan => {
      const a = tensor('a', 'bf16', { head: 8, m: 2, dim: 128 }), b = tensor('b', 'bf16', { head: 8, n: size('n'), dim: 128 })
      const logits = contract(a, b, 'dim')
      return plan({ y: sum(softmax(rounded ? cast(logits, 'bf16') : mul(neg(logits), 0.5), 'n'), 'm') }, { sizes: { n: 100_000 } })
    }
    const memory = (p: Plan): string[] => p.groups.flatMap(g => g.roots).flatMap(r => (r.stored.form === 'array' && r.node.axes.length === 3 ? [r.stored.memory.dtype] : []))
    expect(memory(decode(false))).toEqual(['f32'])
    expect(memory(decode(true))).toEqual(['bf16'])
  })
})

const random = { numRuns: Number(process.env['WEFT_FUZZ_COUNT'] ?? 40), seed: 20260303 }

test('choices lead to the plan that they come from: random programs and the corpus', () => {
  const same = (outputs: Program['outputs'], options: { sizes?: Sizes; blocks?: number }): void => {
    for (const p of plans(outputs, options)) expect(printPlan(again(outputs, p, options))).toBe(printPlan(p))
  }
  fc.assert(fc.property(arbitraryProgram({ flavour: 'float' }), fc.constantFrom(1, 264), (p, blocks) => same(p.outputs, { sizes: bound(p), blocks })), random)
  for (const cases of Object.values(corpus)) for (const c of cases) {
    const n = c.lengths[c.lengths.length - 1]!
    same(c.outputs(n), { sizes: bound({ outputs: c.outputs(n), inputs: c.inputs(n, 1), ...(c.sizes === undefined ? {} : { sizes: c.sizes(n) }) }) })
  }
})

describe.skipIf(emulatorDevice.missing !== undefined)('alternatives on the emulator', () => {
  let session: Session
  beforeAll(async () => { session = await Session.open('emulator', { bundle: 20 }) })
  afterAll(() => session.dispose())
  const orders = [threadOrders[1], threadOrders[4]]
  const all = 100

  async function check(jobs: readonly { readonly job: Job; readonly bounds: Readonly<Record<string, number>>; readonly what: string }[]): Promise<number> {
    const outcomes = await session.run(jobs.map(j => j.job), orders)
    const faults = jobs.flatMap(({ job, bounds, what }, i) => {
      const wrong = fault(outcomes[i]!, interpret(job.outputs, job.inputs, { sizes: job.sizes ?? {} }), bounds)
      return wrong === undefined ? [] : [`${what}, choices ${JSON.stringify(job.choices)}: ${wrong}`]
    })
    expect(faults.join('\n\n')).toBe('')
    return jobs.length
  }

  test('the corpus at a boundary length: every plan agrees with the interpreter', { timeout: 400_000 }, async () => {
    const jobs = Object.values(corpus).flat().flatMap((c, i) => {
      const n = c.lengths.find(x => x > 32) ?? c.lengths[c.lengths.length - 1]!
      const outputs = c.outputs(n), inputs = c.inputs(n, 77 * i), own = c.sizes === undefined ? {} : { sizes: c.sizes(n) }
      const found = plans(outputs, { sizes: bound({ outputs, inputs, ...own }), count: all })
      return found.length < 2 ? [] : found.slice(1).map(p => ({ what: `${c.name}, n = ${n}`, bounds: c.bounds?.(n) ?? {}, job: { outputs, inputs, ...own, choices: p.choices } }))
    })
    expect(await check(jobs)).toBeGreaterThan(50)
  })
  test(`${random.numRuns} random programs: every plan agrees with the interpreter`, { timeout: 60_000 + random.numRuns * 10_000 }, async () => {
    const jobs = fc.sample(arbitraryProgram({ flavour: 'float' }), random).concat(fc.sample(arbitraryProgram({ flavour: 'exactSpecial' }), random)).flatMap((p, i) =>
      plans(p.outputs, { sizes: bound(p), count: all }).slice(1).map(x => ({
        what: `program ${i}: ${fc.stringify(p)}`, bounds: p.bounds, job: { outputs: p.outputs, inputs: p.inputs, sizes: p.sizes, choices: x.choices },
      })))
    expect(await check(jobs)).toBeGreaterThan(random.numRuns)
  })
})
