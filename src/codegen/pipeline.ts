/**
 * From a plan to text, in stages that are values: `plan`, `lower`, `emit`. The passes are the list below.
 */
import { check } from './check.js'
import { placeBarriers } from './barriers.js'
import { emit, type EmittedKernel } from './emit/cuda.js'
import { flatten, layoutShared } from './facts.js'
import type { Kernel, Memory } from './kernel.js'
import { groupSummary, memoryText, nodesText } from './explain.js'
import { inside, isFold, longAxes } from './folds.js'
import { unknownTile } from './lower/tile-dims.js'
import { lowerPoint } from './lower/point.js'
import { lowerSelect } from './lower/select.js'
import { lowerStream } from './lower/stream.js'
import { insideFacts, valueAt, type Environment } from './lower/value.js'
import { rowsOf, type PointRoot } from './lower/rows.js'
import type { Group, Plan, Root } from './plan.js'
import type { Fact } from './prove.js'
import { freshNames } from './reserved.js'
import { defaultPoint, defaultRows, invalid, streamCandidates, type Schedule } from './schedule.js'
import { chooseSelect, type SelectSizes } from './schedule-select.js'
import { portable, type Target } from './target.js'
import { mmaCandidates, type MmaFacts } from './schedule-mma.js'
import { WeftError } from '../dsl/errors.js'
import { axisOf, type Axis, type Of } from '../dsl/expr.js'
import { evaluateSize, fixedSize, type Size, type Sizes } from '../dsl/size.js'

/** Schedules by kernel name; what is not named gets its default. */
export type Schedules = Readonly<Record<string, Schedule>>

type Pass = (k: Kernel, target: Target) => Kernel
/** What happens to a kernel between lowering and emission. */
export const passes: readonly { readonly name: string; readonly run: Pass }[] = [
  { name: 'barriers', run: k => ({ ...k, body: placeBarriers(k.body) }) },
  { name: 'check', run: (k, target) => {
    const faults = check(k, { sharedLimit: target.sharedPerBlock })
    if (faults.length > 0) throw new WeftError('internal', `the compiler made a faulty kernel: ${faults.join('; ')}`, { fix: 'please report the program' })
    return k
  } },
]

/** A kernel with the schedule it was made with. */
export interface LoweredKernel {
  readonly group: Group
  readonly schedule: Schedule
  readonly kernel: Kernel
}

/** Every group of a plan as a kernel for the target, in the order they run. */
export function lower(plan: Plan, schedules: Schedules = {}, target: Target = portable): LoweredKernel[] {
  // A schedule for a kernel that the plan does not have would silently do nothing.
  const strange = Object.keys(schedules).find(name => !plan.groups.some(g => g.name === name))
  if (strange !== undefined) throw new WeftError('schedule', `the program has no kernel '${strange}'`, { fix: `its kernels are ${plan.groups.map(g => g.name).join(', ')}` })
  return plan.groups.flatMap(group => {
    const wanted = schedules[group.name]
    if (wanted !== undefined) {
      const reason = refusal(group, wanted, target)
      if (reason !== undefined) throw new WeftError('schedule', `kernel ${group.name}: ${reason}`, { fix: 'choose other values, or start from what `explain --stage schedule` prints' })
      return finished(group, wanted, target)
    }
    return lowerDefault(group, target, plan.sizes)
  })
}

/** Why a schedule cannot be used for a kernel of a plan on the target, or nothing. What is not refused compiles and runs. */
export function refusal(group: Group, schedule: Schedule, target: Target = portable): string | undefined {
  if (schedule.rule !== group.rule) return `it is of the rule ${group.rule}, the schedule of ${schedule.rule}`
  const wrong = invalid(schedule, target)
  if (wrong !== undefined) return wrong
  const kernels = lowerRule(group, schedule), bytes = Math.max(...kernels.map(k => layoutShared(k).bytes))
  if (bytes > target.sharedPerBlock) return `its tiles take ${bytes} bytes of shared memory: a block has ${target.sharedPerBlock}`
  if (schedule.rule === 'stream' && schedule.path === 'mma' && !kernels.some(usesTensorCores)) return 'path is mma, and it has no contraction of two 16-bit operands that tensor cores could multiply'
  return undefined
}
const usesTensorCores = (k: Kernel): boolean => flatten(k.body).some(s => s.kind === 'mma')

function lowerDefault(group: Group, target: Target, sizes: Sizes): LoweredKernel[] {
  if (group.rule === 'point') return finished(group, copiesRows(group) ? defaultRows : defaultPoint, target)
  if (group.rule === 'select') return finished(group, chooseSelect(selectSizes(group, sizes), target), target)
  // More would leave one block to a multiprocessor, even where there is more.
  const most = Math.min(target.sharedPerBlock, portable.sharedPerBlock)
  // Tensor cores where they can be used; the largest tile whose operands fit.
  const facts = mmaFacts(group)
  for (const schedule of [...(facts === undefined ? [] : mmaCandidates(facts)), ...streamCandidates]) {
    const kernel = lowerRule(group, schedule)[0]!
    if (schedule.path === 'mma' && !usesTensorCores(kernel)) continue
    if (layoutShared(kernel).bytes <= most) return [{ group, schedule, kernel: runPasses(kernel, target) }]
  }
  // No tile fits: every thread computes its elements by itself.
  if (group.roots.every(r => r.stored.form === 'array')) return [{ group, schedule: defaultPoint, kernel: runPasses(rules.point(group, defaultPoint)[0]!, target) }]
  throw new WeftError('shared-memory', `kernel ${group.name}: no tile fits ${most} bytes of shared memory`, { fix: 'shorten the axes that are contracted or folded within a tile' })
}

/** What a default schedule on tensor cores is made from; nothing where no contraction has 16-bit operands. */
function mmaFacts(group: Group): MmaFacts | undefined {
  const contractions = group.roots.flatMap(r => inside(r.node, e => e !== r.node && group.loads.has(e))).filter((e): e is Of<'contract'> => e.kind === 'contract' && e.left.dtype === e.right.dtype && (e.left.dtype === 'bf16' || e.left.dtype === 'f16'))
  if (contractions.length === 0) return undefined
  const rows = group.shape!.rows.reduce((n, r) => n * (fixedSize(r.axis.size) ?? unknownTile), 1)
  return { rows, depth: Math.max(16, ...contractions.filter(e => longAxes(e).length === 0).map(e => fixedSize(axisOf(e.left, e.over[0]!)!.size) ?? 16)) }
}

const lowerRule = (group: Group, schedule: Schedule): readonly Kernel[] => rules[group.rule](group, schedule as never)
const runPasses = (kernel: Kernel, target: Target): Kernel => passes.reduce((k, pass) => pass.run(k, target), kernel)
const finished = (group: Group, schedule: Schedule, target: Target): LoweredKernel[] =>
  lowerRule(group, schedule).map(kernel => ({ group, schedule, kernel: runPasses(kernel, target) }))

const pointRoots = (group: Group, roots: readonly Root[] = group.roots): PointRoot[] => roots.map(r => ({ node: r.node, memory: r.stored.form === 'array' ? r.stored.memory : partsInPoint() }))
const copiesRows = (group: Group): boolean => rowsOf(pointRoots(group), group.loads, defaultRows.threads) !== undefined

/** What the sizes tell of a selection; a symbol that they do not tell counts as long. */
function selectSizes(group: Group, sizes: Sizes): SelectSizes {
  const { node, selected } = selectRoot(group), unknown = 16384
  const about = (s: Size): number => evaluateSize(s, Object.fromEntries([...s.terms.map(([n]) => [n, unknown] as const), ...Object.entries(sizes)]))
  return {
    length: about(selected.size), fixed: fixedSize(selected.size) !== undefined, k: about(node.k),
    rows: node.axes.slice(0, -1).reduce((n, a) => n * about(a.size), 1),
    heavy: inside(node.arg, e => group.loads.get(e)?.form === 'array').some(e => isFold(e) || (e.kind === 'window' && e.pool !== 'max')),
  }
}
function selectRoot(group: Group): { node: Of<'topK'>; selected: Axis; target: Memory } {
  const root = group.roots[0]!, { node } = root
  if (node.kind !== 'topK' || root.stored.form !== 'array') throw new Error('a select group stores a topK')
  return { node, selected: axisOf(node.arg, node.axis)!, target: root.stored.memory }
}

/** Usually one kernel of each group; a selection may take two. */
const rules: { readonly [R in Group['rule']]: (group: Group, schedule: Extract<Schedule, { rule: R }>) => readonly Kernel[] } = {
  point: (group, schedule) => [lowerPoint({
    name: group.name, summary: groupSummary(group, rowsOf(pointRoots(group), group.loads, schedule.threads) !== undefined), stored: group.loads,
    roots: pointRoots(group),
  }, schedule)],
  stream: (group, schedule) => [lowerStream({ name: group.name, summary: groupSummary(group), roots: group.roots, shape: group.shape!, stored: group.loads }, schedule)],
  select: (group, schedule) => {
    const { node, target } = selectRoot(group)
    const fresh = freshNames([])
    return lowerSelect({
      name: group.name, node, target, stored: group.loads,
      summary: (name, stores, how) => [`${name}: ${stores.map(memoryText).join(', ')}`, `${how}. ${nodesText(group)} fused`],
      ...(group.roots.length === 1 ? {} : { epilogue: { roots: pointRoots(group, group.roots.slice(1)), stored: new Map([...[...group.loads].filter(([e]) => group.roots.every(r => r.node !== e)), [node, group.roots[0]!.stored]]) } }),
      score: (env: Environment, inset) => {
        const inside = (a: Axis): Fact[] => [
          ...insideFacts(env.get(a.name)!, a.size), ...(a.name === node.axis && inset > 0 ? insideFacts(env.get(a.name)!, a.size, inset) : []),
        ]
        const facts = node.arg.axes.flatMap(inside)
        return valueAt(node.arg, env, { stored: group.loads, tile: () => undefined, fresh, safe: facts, assumed: facts })
      },
      fresh,
    }, schedule)
  },
}
const partsInPoint = (): never => { throw new Error('a point kernel stores no parts') }

export { emit, type EmittedKernel }
