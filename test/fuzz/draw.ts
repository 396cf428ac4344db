/**
 * One case of the random programs: a program, how it is planned, a schedule for each of its kernels and the orders its
 * threads run in. All of it is a function of a seed and a number.
 */
import fc from 'fast-check'
import { refusal } from '../../src/codegen/pipeline.js'
import { plan, type Group } from '../../src/codegen/plan.js'
import type { Choices } from '../../src/codegen/plan/choices.js'
import { space, type Schedule } from '../../src/codegen/schedule.js'
import { defaultSelect } from '../../src/codegen/schedule-select.js'
import { arbitraryProgram, random, type Flavour, type Program } from '../arbitraries.js'
import { threadOrders } from '../devices.js'
import type { Job } from '../session.js'

export interface Case {
  readonly program: Program
  readonly choices?: Choices
  readonly blocks?: number
  readonly specialise?: readonly string[]
  /** By kernel; a kernel that is not named has its default. */
  readonly schedules: Readonly<Record<string, Schedule>>
  readonly orders: readonly string[]
}

export const flavours: readonly Flavour[] = ['exact', 'exactSpecial', 'float', 'special', 'float']

/** A number that differs in all bits from those beside it. Source: the finalizer of MurmurHash3, public domain. */
const mixed = (a: number, b: number): number => {
  let h = Math.imul(a, 0x9e3779b1) ^ b
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
type Next = () => number
const among = <T>(next: Next, values: readonly T[]): T => values[Math.floor(next() * values.length)]!

/** Any values of the rule's space, valid together or not. */
export function anySchedule(rule: Group['rule'], next: Next): Schedule {
  const fields = among<Readonly<Record<string, readonly (number | string)[]>>>(next, space[rule])
  return { rule, ...Object.fromEntries(Object.entries(fields).map(([name, values]) => [name, among(next, values)])) } as unknown as Schedule
}

/** Many short rows, each a block of 1024 fibers, would take most of the time: a selection has few threads more often. */
const fewThreads = (next: Next): Schedule => ({
  ...defaultSelect, threads: among(next, [32, 64, 128]), candidates: among(next, [1, 8, 32]), cached: among(next, [0, 16, 100, 4096]), digitBits: among(next, [1, 4, 8, 9]),
  sorted: among(next, [8, 32, 256]), blocksPerRow: among(next, [1, 1, 2, 4, 8] as const),
})

function validSchedule(group: Group, next: Next): Schedule | undefined {
  if (group.rule === 'select' && next() < 0.9) { const schedule = fewThreads(next); return refusal(group, schedule) === undefined ? schedule : undefined }
  if (next() < 0.35) return undefined
  for (let tries = 0; tries < 20; tries++) {
    const schedule = anySchedule(group.rule, next)
    if (refusal(group, schedule) === undefined) return schedule
  }
  return undefined
}

/** Case `index` of a seed. Its schedules are drawn when the program is planned: `jobOf` does it. */
export interface Draw {
  readonly index: number
  readonly program: Program
  readonly blocks?: number
  readonly specialise?: readonly string[]
  readonly orders: readonly string[]
  readonly next: Next
}

export function draw(seed: number, index: number): Draw {
  const flavour = flavours[index % flavours.length]!, own = mixed(seed, index)
  const program = fc.sample(fc.noBias(arbitraryProgram({ flavour, steps: 12, elements: 3000 })), { numRuns: 1, seed: own | 0 })[0]!
  const next = random(own + 1)
  const blocks = among(next, [undefined, undefined, 1, 8]), symbols = Object.keys(program.sizes)
  const specialise = among(next, [undefined, undefined, undefined, [], symbols, symbols.filter(() => next() < 0.5)])
  const others = threadOrders.slice(1), first = Math.floor(next() * others.length)
  return {
    index, program, next, orders: [threadOrders[0], others[first]!, others[(first + 1 + Math.floor(next() * (others.length - 1))) % others.length]!],
    ...(blocks === undefined ? {} : { blocks }), ...(specialise === undefined ? {} : { specialise }),
  }
}

/** Another way for one decision of the plan, if there is one and it still comes up. */
function someChoices({ program, blocks, next }: Draw): Choices | undefined {
  if (next() < 0.4) return undefined
  const options = { sizes: program.sizes, ...(blocks === undefined ? {} : { blocks }) }
  try {
    const decisions = plan(program.outputs, options).decisions
    if (decisions.length === 0) return undefined
    const d = among(next, decisions), choices = { [d.name]: among(next, d.ways.filter(w => w !== d.taken)) }
    plan(program.outputs, { ...options, choices })
    return choices
  } catch {
    return undefined   // it does not come up any more; a program that cannot be planned at all is judged when it is run
  }
}

/** A job, and after it was run the case that it was: with the schedules that were drawn for its kernels. */
export function jobOf(d: Draw): { readonly job: Job; readonly settled: () => Case } {
  const schedules: Record<string, Schedule> = {}, { program, blocks, specialise, orders, next } = d
  const choices = someChoices(d)
  const options = { ...(blocks === undefined ? {} : { blocks }), ...(specialise === undefined ? {} : { specialise }), ...(choices === undefined ? {} : { choices }) }
  const schedule = (group: Group): Schedule | undefined => {
    const drawn = validSchedule(group, next)
    if (drawn !== undefined) schedules[group.name] = drawn
    return drawn
  }
  return { job: { outputs: program.outputs, inputs: program.inputs, sizes: program.sizes, schedule, orders, ...options }, settled: () => ({ program, schedules, orders, ...options }) }
}

export const jobOfCase = (c: Case): Job => ({
  outputs: c.program.outputs, inputs: c.program.inputs, sizes: c.program.sizes, orders: c.orders, schedule: g => c.schedules[g.name],
  ...(c.blocks === undefined ? {} : { blocks: c.blocks }), ...(c.specialise === undefined ? {} : { specialise: c.specialise }), ...(c.choices === undefined ? {} : { choices: c.choices }),
})
