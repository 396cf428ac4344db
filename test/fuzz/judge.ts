/** Runs random programs on a device and says what is wrong with the results. */
import { interpret } from '../../src/runtime/reference.js'
import type { Program } from '../arbitraries.js'
import { numbers } from '../compare.js'
import { sameBits, type Job, type Outcome, type Results, type Session } from '../session.js'

/** The first element that is off, or nothing. */
export function difference(got: Results, expected: Results, bounds: Readonly<Record<string, number>>): string | undefined {
  for (const [name, b] of Object.entries(expected)) {
    const a = got[name]
    if (a === undefined) return `${name} is missing`
    if (a.dtype !== b.dtype || a.axes.join() !== b.axes.join() || a.shape.join() !== b.shape.join()) {
      return `${name} is ${a.dtype} [${a.axes.join()}] ${a.shape.join('×')}, not ${b.dtype} [${b.axes.join()}] ${b.shape.join('×')}`
    }
    const x = numbers(a), y = numbers(b), bound = bounds[name] ?? 0
    for (let i = 0; i < y.length; i++) {
      if (x[i] === y[i] || (Number.isNaN(x[i]) && Number.isNaN(y[i])) || Math.abs(x[i]! - y[i]!) <= bound) continue
      return `${name}[${i} of ${y.length}, shape ${b.shape.join('×')}] is ${x[i]}, not ${y[i]}: off by ${Math.abs(x[i]! - y[i]!)}, allowed are ${bound}`
    }
  }
  return undefined
}

/** What is wrong with an outcome: an error, results that depend on the order of threads, or wrong ones. */
export function fault(outcome: Outcome, expected: Results, bounds: Readonly<Record<string, number>>): string | undefined {
  if (outcome.error !== undefined) return `${outcome.error.stage}: ${outcome.error.message}`
  const [first, ...others] = outcome.results
  for (const name of Object.keys(expected)) if (others.some(o => !sameBits(o[name]!, first![name]!))) return `${name} depends on the order of threads`
  return difference(first!, expected, bounds)
}

export const reference = (p: Program): Results => interpret(p.outputs, p.inputs, { sizes: p.sizes })

export interface Failure { readonly index: number; readonly program: Program; readonly reason: string; readonly outcome: Outcome }

/** All programs at once; those that fail. */
export async function judge(session: Session, programs: readonly Program[], orders: readonly string[], more: (i: number) => Partial<Job> = () => ({})): Promise<Failure[]> {
  const outcomes = await session.run(programs.map((p, i) => ({ outputs: p.outputs, inputs: p.inputs, sizes: p.sizes, ...more(i) })), orders)
  return programs.flatMap((program, index) => {
    const reason = fault(outcomes[index]!, reference(program), program.bounds)
    return reason === undefined ? [] : [{ index, program, reason, outcome: outcomes[index]! }]
  })
}
