/** Runs random programs on a device and says what is wrong with the results. */
import { node, type Expr } from '../../src/dsl/expr.js'
import { interpret } from '../../src/runtime/reference.js'
import type { Program } from '../arbitraries.js'
import { numbers } from '../compare.js'
import { rebuild } from '../rebuild.js'
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
export function fault(outcome: Outcome, expected: Results | ((device: Results) => Results), bounds: Readonly<Record<string, number>>): string | undefined {
  if (outcome.error !== undefined) return `${outcome.error.stage}: ${outcome.error.message}`
  const [first, ...others] = outcome.results
  for (const name of Object.keys(first!)) if (others.some(o => !sameBits(o[name]!, first![name]!))) return `${name} depends on the order of threads`
  return difference(first!, typeof expected === 'function' ? expected(first!) : expected, bounds)
}

/** The reference's results; what is computed from an anchor, from the device's own values of it. */
export function reference(p: Program, device: Results = {}): Results {
  const own = new Map<Expr, string>(p.anchors.filter(name => name in device).map(name => [p.outputs[name]!, name]))
  if (own.size === 0) return interpret(p.outputs, p.inputs, { sizes: p.sizes })
  const given = (name: string): string => `device_${name}`
  const outputs = rebuild(p.outputs, axis => axis, e => {
    const name = own.get(e)
    return name === undefined ? undefined : node<'tensor'>({ kind: 'tensor', name: given(name), dtype: e.dtype, axes: e.axes })
  })
  return interpret(outputs, { ...p.inputs, ...Object.fromEntries([...own.values()].map(name => [given(name), device[name]!])) }, { sizes: p.sizes })
}

export interface Failure { readonly index: number; readonly program: Program; readonly reason: string; readonly outcome: Outcome }

/** All programs at once; those that fail. */
export async function judge(session: Session, programs: readonly Program[], orders: readonly string[], more: (i: number) => Partial<Job> = () => ({})): Promise<Failure[]> {
  const outcomes = await session.run(programs.map((p, i) => ({ outputs: p.outputs, inputs: p.inputs, sizes: p.sizes, ...more(i) })), orders)
  return programs.flatMap((program, index) => {
    const reason = fault(outcomes[index]!, device => reference(program, device), program.bounds)
    return reason === undefined ? [] : [{ index, program, reason, outcome: outcomes[index]! }]
  })
}
