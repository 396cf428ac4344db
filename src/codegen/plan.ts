/**
 * The plan: which nodes are stored, and which meet in one kernel. It is data, with a reason for every edge.
 *
 * `plan/cuts.ts` makes the kernels of one plan, asking for every decision that has several legal ways
 * (`plan/choices.ts`). Here the ways are tried, each plan is given a price (`plan/cost.ts`), and the cheapest is taken.
 */
import { symbolsOf } from '../dsl/bind.js'
import type { Expr } from '../dsl/expr.js'
import { specialise, symbolsToSpecialise } from '../dsl/specialise.js'
import type { Sizes } from '../dsl/size.js'
import { inside } from './folds.js'
import type { Memory } from './kernel.js'
import { open, type Stored } from './lower/value.js'
import { namer } from './names.js'
import { checkApplied, decider, type Choices, type Decision } from './plan/choices.js'
import { costOf, type Cost } from './plan/cost.js'
import { cutProgram } from './plan/cuts.js'
import { normalFolds } from './plan/normal-folds.js'
import { mergeGroups } from './plan/merge.js'
import type { StreamShape } from './stream-shape.js'

export interface PlanOptions {
  /** Sizes of symbols, as far as known: they decide how much runs in parallel. Unknown ones count as 1024. */
  readonly sizes?: Sizes
  /** Symbols that are replaced by their values in the text. Default: plain axis lengths up to 16 that `sizes` tells. */
  readonly specialise?: Sizes
  /** Fewer blocks than this do not fill the device. Default 264: twice the 132 multiprocessors of an H100. */
  readonly blocks?: number
  /** Decisions that are made: some or all of a plan's `choices`. What they leave open is chosen by cost. */
  readonly choices?: Choices
}

export interface Root {
  readonly node: Expr
  readonly stored: Stored
}

export interface Group {
  readonly name: string
  readonly rule: 'point' | 'stream' | 'select'
  readonly roots: readonly Root[]
  /** For `stream`: which axes are the grid, the rows of a tile and the streamed one. */
  readonly shape?: StreamShape
  /** What is stored when the group runs: it loads these and computes the rest. */
  readonly loads: ReadonlyMap<Expr, Stored>
}

export interface Edge {
  readonly from: Expr
  readonly to: string
  readonly decision: 'cut' | 'recomputed'
  readonly reason: string
}

export interface Plan {
  readonly outputs: Readonly<Record<string, Expr>>
  readonly groups: readonly Group[]
  readonly stored: ReadonlyMap<Expr, Stored>
  readonly edges: readonly Edge[]
  /** Where each output goes. */
  readonly outputMemories: ReadonlyMap<string, Memory>
  readonly sizes: Sizes
  /** How every decision went that had several ways. With these in `PlanOptions` the planner makes this plan again. */
  readonly choices: Choices
  readonly decisions: readonly Decision[]
  readonly cost: Cost
}

/**
 * Plans the kernels of a program: the cheapest of its plans.
 * @throws WeftError `plan` if a given choice is none here
 */
export const plan = (program: Readonly<Record<string, Expr>>, options: PlanOptions = {}): Plan => plans(program, { ...options, count: 1 })[0]!

/** Plans that are made at most, to choose from: every decision is tried, combinations as far as this reaches. */
const tries = 32

/**
 * The best plans of a program, the cheapest first; of equally cheap ones that with fewer unusual decisions. They differ
 * in their kernels.
 * @param options.count how many at most; default 4
 * @throws WeftError `plan` if a given choice is none here
 */
export function plans(program: Readonly<Record<string, Expr>>, options: PlanOptions & { readonly count?: number } = {}): Plan[] {
  const given = options.choices ?? {}
  const first = onePlan(program, options, given)
  checkApplied(given, first.decisions)
  const found = new Map([[kernelsText(first), first]]), queue: { plan: Plan; fixed: Choices }[] = [{ plan: first, fixed: given }]
  for (let made = 1; queue.length > 0;) {
    const { plan: from, fixed } = queue.shift()!
    let before = fixed
    for (const d of from.decisions) {
      if (d.name in fixed) continue
      for (const other of d.ways.filter(w => w !== d.taken)) {
        if (made++ >= tries) break
        const choices = { ...before, [d.name]: other }, next = onePlan(program, options, choices)
        // A decision that another one has settled, by storing a node first, does not come up.
        if (Object.keys(given).some(n => !next.decisions.some(x => x.name === n))) continue
        if (!found.has(kernelsText(next))) found.set(kernelsText(next), next)
        queue.push({ plan: next, fixed: choices })
      }
      before = { ...before, [d.name]: d.taken }
    }
    if (made >= tries) break
  }
  return [...found.values()].sort((a, b) => a.cost.seconds - b.cost.seconds).slice(0, options.count ?? 4)
}

/** The plan that the choices lead to; what they leave open goes the usual way. */
function onePlan(program: Readonly<Record<string, Expr>>, options: PlanOptions, choices: Choices): Plan {
  const special = specialise(program, options.specialise ?? symbolsToSpecialise(program, options.sizes ?? {})), outputs = normalFolds(special)
  const sizes = { ...Object.fromEntries(symbolsOf(outputs).map(n => [n, assumedLength])), ...options.sizes }
  const names = namer(outputs), asked = decider(outputs, names, choices), blocks = options.blocks ?? 264
  const p = { outputs, sizes, blocks, names, decider: asked, stored: new Map<Expr, Stored>(), due: new Map<Expr, Memory>(), groups: [] as Group[], edges: [] as Edge[] }
  for (const e of Object.values(outputs).flatMap(x => inside(x, () => false))) if (e.kind === 'tensor') p.stored.set(e, { form: 'array', memory: names.input(e) })
  const outputMemories = new Map(Object.entries(outputs).map(([name, e]) => [name, names.output(name, open(e))] as const))
  const memories = Object.entries(outputs).map(([name, e]) => [open(e), outputMemories.get(name)!] as const)
  for (const [e, memory] of memories) if (!p.stored.has(e) && !p.due.has(e)) p.due.set(e, memory)
  cutProgram(p, memories)
  const groups = mergeGroups(p.groups), decisions = asked.met.filter(d => d.ways.length > 1)
  return {
    outputs: special, groups, stored: p.stored, edges: p.edges, outputMemories, sizes: options.sizes ?? {}, decisions,
    choices: Object.fromEntries(decisions.map(d => [d.name, d.taken])), cost: costOf(groups, sizes, blocks),
  }
}
/** Lengths that nobody told. */
const assumedLength = 1024

/** What makes two plans the same: their kernels, what each stores and what it reads. */
const kernelsText = (p: Plan): string => p.groups.map(g => `${g.rule} ${g.roots.map(r => `${r.node.id} ${r.stored.form}`).join(' ')} < ${[...g.loads.keys()].map(e => e.id).sort((a, b) => a - b).join(' ')}`).join('; ')
