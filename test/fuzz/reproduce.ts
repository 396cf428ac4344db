/** What the tests call that failures are printed as. */
import { expect } from 'vitest'
import type { Expr } from '../../src/dsl/index.js'
import type { Choices } from '../../src/codegen/plan/choices.js'
import type { Schedule } from '../../src/codegen/schedule.js'
import type { HostTensor } from '../../src/runtime/host-tensor.js'
import { Session } from '../session.js'
import { jobOfCase, type Case } from './draw.js'
import { fault, reference } from './judge.js'

export interface Reproduction {
  readonly outputs: Readonly<Record<string, Expr>>
  readonly inputs: Readonly<Record<string, HostTensor>>
  readonly sizes: Readonly<Record<string, number>>
  readonly bounds: Readonly<Record<string, number>>
  readonly anchors?: readonly string[]
  readonly blocks?: number
  readonly specialise?: readonly string[]
  readonly choices?: Choices
  readonly schedules?: Readonly<Record<string, Schedule>>
  readonly orders: readonly string[]
}

export const caseOf = ({ outputs, inputs, sizes, bounds, anchors = [], schedules = {}, ...rest }: Reproduction): Case =>
  ({ program: { outputs, inputs, sizes, bounds, anchors, sources: {}, nodeBounds: new Map() }, schedules, ...rest })

/** What is wrong with each case on the emulator, or nothing. */
export async function verdicts(session: Session, cases: readonly Case[]): Promise<(string | undefined)[]> {
  const outcomes = await session.run(cases.map(jobOfCase))
  return cases.map((c, i) => fault(outcomes[i]!, device => reference(c.program, device), c.program.bounds))
}

/** Fails with what is wrong and the kernels' text. */
export async function expectRight(r: Reproduction): Promise<void> {
  await using session = await Session.open('emulator')
  const c = caseOf(r), [outcome] = await session.run([jobOfCase(c)])
  const wrong = fault(outcome!, device => reference(c.program, device), c.program.bounds)
  expect(wrong, outcome!.emitted.map(k => k.text).join('\n')).toBeUndefined()
}
