/** The corpus at boundary lengths on every device that runs kernels, in all orders of threads, against the reference. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { interpret } from '../../src/runtime/reference.js'
import { describeDevices, kernelDevices, threadOrders } from '../devices.js'
import { fault } from '../fuzz/judge.js'
import { corpus, type Case } from '../programs/index.js'
import { Session, type Job, type Outcome } from '../session.js'

/** WEFT_CORPUS_LENGTHS=3,129 leaves the others out, for a quick look. */
const wanted = process.env['WEFT_CORPUS_LENGTHS']?.split(',').map(Number)
const lengthsOf = (c: Case): readonly number[] => {
  const some = wanted === undefined ? c.lengths : c.lengths.filter(n => wanted.includes(n))
  return some.length > 0 ? some : c.lengths.slice(-1)
}

describeDevices('the corpus', kernelDevices, device => {
  let session: Session
  beforeAll(async () => { session = await Session.open(device.name as 'emulator' | 'cuda') })
  afterAll(() => session.dispose())

  for (const [family, cases] of Object.entries(corpus)) {
    test(`${family}: ${cases.length} programs`, { timeout: 240_000 }, async () => {
      const jobs = cases.flatMap((c, i) => lengthsOf(c).map(n => {
        const inputs = c.inputs(n, 1000 * i + n), sizes = c.sizes?.(n)
        return { c, n, job: { outputs: c.outputs(n), inputs, ...(sizes === undefined ? {} : { sizes }) } satisfies Job }
      }))
      // All orders at some lengths of each kind, two at the others.
      const thorough = new Set([0, 1, 3, 33, 65, 129]), outcomes: Outcome[] = []
      for (const all of [true, false]) {
        const chosen = jobs.map((_, i) => i).filter(i => thorough.has(jobs[i]!.n) === all)
        const got = await session.run(chosen.map(i => jobs[i]!.job), device.name !== 'emulator' ? ['its own'] : all ? threadOrders : [threadOrders[1], threadOrders[4]])
        chosen.forEach((i, k) => { outcomes[i] = got[k]! })
      }
      const faults = jobs.flatMap(({ c, n, job }, i) => {
        const expected = interpret(job.outputs, job.inputs, 'sizes' in job ? { sizes: job.sizes as Record<string, number> } : {})
        const what = fault(outcomes[i]!, expected, c.bounds?.(n) ?? {})
        return what === undefined ? [] : [`${c.name}, n = ${n}: ${what}`]
      })
      expect(faults.join('\n')).toBe('')
    })
  }
})
