/**
 * Random programs on the emulator against the reference: exact ones to the last bit, others within the language's
 * bound, in several orders of threads. WEFT_FUZZ_COUNT (programs of each flavour) and WEFT_FUZZ_SEED ask for more.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { space, type Schedule } from '../../src/codegen/schedule.js'
import { defaultSelect } from '../../src/codegen/schedule-select.js'
import type { Group } from '../../src/codegen/plan.js'
import { refusal } from '../../src/codegen/pipeline.js'
import { sourceText } from '../../src/codegen/emit/cuda.js'
import { arbitraryProgram, random, type Flavour, type Program } from '../arbitraries.js'
import { emulatorDevice, threadOrders } from '../devices.js'
import { nvrtcOrReason } from '../runtime/nvrtc-here.js'
import { Session } from '../session.js'
import { judge, type Failure } from './judge.js'

const count = Number(process.env['WEFT_FUZZ_COUNT'] ?? 60)
const seed = Number(process.env['WEFT_FUZZ_SEED'] ?? 20260101)
// Every program in three orders, which change from program to program within a run of the suite.
const orders = [threadOrders[0], threadOrders[3], threadOrders[4]]
const flavours: readonly Flavour[] = ['exact', 'exactSpecial', 'float', 'special']

/** Many short rows, each a block of 1024 fibers, would take most of the time; the corpus has the default. */
const narrow = (group: Group): Schedule | undefined => (group.rule === 'select' ? { ...defaultSelect, threads: 128, candidates: 128 } : undefined)

const say = (failures: readonly Failure[], more: (f: Failure) => string = () => ''): string => failures.map(f =>
  `program ${f.index} of seed ${seed}:\n${f.reason}\n${fc.stringify(f.program)}${more(f)}\nagain: WEFT_FUZZ_SEED=${seed} WEFT_FUZZ_COUNT=${count} npx vitest run test/fuzz`).join('\n\n')

describe.skipIf(emulatorDevice.missing !== undefined)('random programs', () => {
  let session: Session
  beforeAll(async () => { session = await Session.open('emulator', { bundle: 20 }) })
  afterAll(() => session.dispose())

  test.each(flavours)('on %s data', { timeout: 60_000 + count * 2000 }, async flavour => {
    const programs = fc.sample(arbitraryProgram({ flavour }), { numRuns: count, seed })
    expect(say(await judge(session, programs, orders, () => ({ schedule: narrow })))).toBe('')
  })

  describe('with random schedules', () => {
    /** The same for the same program and kernel; some of them are invalid. */
    const draw = (group: Group, next: () => number): Schedule => {
      const one = <T>(values: readonly T[]): T => values[Math.floor(next() * values.length)]!
      const fields = Object.fromEntries(Object.entries(one<Readonly<Record<string, readonly (number | string)[]>>>(space[group.rule])).map(([name, values]) => [name, one<unknown>(values)]))
      return { rule: group.rule, ...fields } as unknown as Schedule
    }
    const drawn = new Map<Program, Schedule[]>()
    const scheduler = (p: Program, i: number) => {
      const next = random(seed + i)
      drawn.set(p, [])
      return (group: Group): Schedule | undefined => {
        let schedule = draw(group, next)
        for (let tries = 0; tries < 100 && refusal(group, schedule) !== undefined; tries++) schedule = draw(group, next)
        drawn.get(p)!.push(schedule)
        return schedule
      }
    }

    test('those that are accepted run and give the same result', { timeout: 60_000 + count * 2000 }, async () => {
      for (const flavour of ['exact', 'float'] as const) {
        const programs = fc.sample(arbitraryProgram({ flavour }), { numRuns: count, seed: seed + 1 })
        const failures = await judge(session, programs, [orders[0]!, orders[2]!], i => ({ schedule: scheduler(programs[i]!, i) }))
        expect(say(failures, f => `\nschedules ${JSON.stringify(drawn.get(f.program))}`)).toBe('')
      }
    })

    const nvrtc = nvrtcOrReason()
    test.skipIf(typeof nvrtc === 'string')('and compile with NVRTC', { timeout: 120_000 }, async () => {
      if (typeof nvrtc === 'string') return
      const programs = fc.sample(arbitraryProgram({ flavour: 'float' }), { numRuns: 12, seed: seed + 2 })
      const outcomes = await session.run(programs.map((p, i) => ({ outputs: p.outputs, inputs: p.inputs, sizes: p.sizes, schedule: scheduler(p, i) })))
      for (const o of outcomes) for (const k of o.emitted) await nvrtc.compile({ text: sourceText([k], 'cuda'), arch: 'sm_90a', name: `${k.name}.cu` })
    })
  })
})
