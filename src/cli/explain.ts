/** `weft explain`: every stage of a policy's program. Nothing is run; all but `resources` need neither GPU nor compiler. */
import { inputsOf } from '../dsl/bind.js'
import { WeftError } from '../dsl/errors.js'
import { printGraph } from '../dsl/print.js'
import { sourceText } from '../codegen/emit/cuda.js'
import { emit, lower, type LoweredKernel, type Schedules } from '../codegen/pipeline.js'
import { plans, type Plan } from '../codegen/plan.js'
import { printKernel } from '../codegen/print-kernel.js'
import { targetOf, type Target } from '../codegen/target.js'
import { launchNumbers } from '../runtime/launch-plan.js'
import { openNvrtc } from '../runtime/nvrtc.js'
import type { FloatDtype, PolicyProgram, PromptShape, Settings } from '../snapkv/policy.js'
import { policyByName } from '../snapkv/presets.js'
import { nearest, usageError, type Arguments } from './arguments.js'
import { outputsOf } from './execute.js'
import { planDocument, planText, type PlanView } from './explain-plan.js'
import { checkScheduleNames, readPrompt, readSchedules } from './files.js'
import { clearProgress, progress, say, table } from './output.js'

/** What kernels are for unless --arch says otherwise: an H100, since none need be here. */
const defaultArch = 'sm_90'

interface Subject {
  readonly program: PolicyProgram
  readonly plan: Plan
  /** The plan and what else there was to choose from. */
  readonly plans: readonly Plan[]
  readonly kernels: readonly LoweredKernel[]
  readonly schedules: Schedules
  readonly target: Target
  readonly shape: PromptShape
}
interface Stage {
  readonly text: (s: Subject, given: Arguments) => string | Promise<string>
  readonly json: (s: Subject, given: Arguments) => object | Promise<object>
}

const stages: Readonly<Record<string, Stage>> = {
  graph: {
    text: s => printGraph(s.plan.outputs, { sources: true }),
    json: s => ({ graph: printGraph(s.plan.outputs).trimEnd().split('\n'), inputs: Object.fromEntries([...inputsOf(s.plan.outputs)].map(([n, e]) => [n, { dtype: e.dtype, axes: e.axes.map(a => a.name) }])), sizes: s.program.sizes }),
  },
  plan: { text: s => planText(viewOf(s)), json: s => planDocument(viewOf(s)) },
  schedule: {
    text: s => JSON.stringify(schedulesOf(s), undefined, 2),
    json: s => schedulesOf(s),
  },
  kernel: {
    text: s => s.kernels.map(k => printKernel(k.kernel)).join('\n'),
    json: s => ({ kernels: s.kernels.map(k => ({ name: k.kernel.name, threads: k.kernel.threads, text: printKernel(k.kernel).trimEnd().split('\n') })) }),
  },
  cuda: {
    text: s => sourceText(s.kernels.map(k => emit(k.kernel)), 'cuda'),
    json: s => ({ kernels: s.kernels.map(k => { const e = emit(k.kernel); return { name: e.name, threads: e.threads, sharedBytes: e.sharedBytes, text: sourceText([e], 'cuda') } }) }),
  },
  resources: {
    text: async (s, given) => table([
      ['kernel', 'arch', 'registers', 'spill stores', 'spill loads', 'shared bytes'],
      ...(await resourcesOf(s, given)).map(r => [r.name, r.arch, String(r.registers), String(r.spillStores), String(r.spillLoads), String(r.sharedBytes)]),
    ], [2, 3, 4, 5]).join('\n'),
    json: async (s, given) => ({ kernels: await resourcesOf(s, given) }),
  },
}

export async function run(given: Arguments): Promise<number> {
  const name = given.text('stage') ?? 'plan', stage = Object.hasOwn(stages, name) ? stages[name]! : undefined
  if (stage === undefined) {
    const near = nearest(name, Object.keys(stages))
    throw usageError(`there is no stage '${name}'`, `${near === undefined ? '' : `did you mean '${near}'? `}the stages are ${Object.keys(stages).join(', ')}`)
  }
  const archs = given.texts('arch'), bad = archs.find(a => !archForm.test(a))
  if (bad !== undefined) throw usageError(`'${bad}' names no GPU architecture`, 'write it like sm_90 or sm_90a')
  if (archs.length > 1 && name !== 'resources') throw usageError(`--stage ${name} is for one architecture, --arch is given ${archs.length} times`, 'give it once, or use --stage resources')
  const policy = policyByName(given.positionals[0]!, given.texts('set'))
  const shape = shapeOf(given), file = given.text('schedule'), schedules = readSchedules(file)
  const { bypass, window } = policy.budget(shape)
  if (bypass) throw nothingDropped(policy.name, policy.settings, shape.length, window)
  const program = policy.build(shape)
  const found = plans(outputsOf(program, given.flag('with-scores')), { sizes: program.sizes }), planned = found[0]!
  checkScheduleNames(schedules, planned.groups.map(g => g.name), file)
  const target = targetOf(archs[0] ?? defaultArch)
  const subject = { program, plan: planned, plans: found, kernels: lower(planned, schedules, target), schedules, target, shape }
  const text = given.flag('json') ? JSON.stringify(await stage.json(subject, given), undefined, 2) : await stage.text(subject, given)
  say(text.trimEnd())
  return 0
}

function nothingDropped(name: string, settings: Settings, length: number, window: number): WeftError {
  // A capacity must be more than the window and less than the prompt; a very short prompt has no such number.
  const smaller = Math.max(window + 1, Math.floor(length / 2))
  const setting = settings['capacity'] === undefined ? 'set a larger ratio: --set ratio=0.5' : smaller < length ? `set a smaller capacity: --set capacity=${smaller}` : undefined
  const longer = settings['capacity'] === undefined ? undefined : `raise key above ${settings['capacity'] as number}`
  return new WeftError('bypass', `${name} keeps all ${length} rows of this prompt, so there is no kernel to explain`, { fix: [longer, setting].filter(x => x !== undefined).join(', or ') })
}

const dtypes: readonly string[] = ['f32', 'f16', 'bf16'] satisfies readonly FloatDtype[]
const sizeNames = ['key', 'kvHead', 'group', 'dim', 'query']

function shapeOf(given: Arguments): PromptShape {
  const input = given.text('input'), text = given.text('sizes'), dtype = given.text('dtype')
  if ((input === undefined) === (text === undefined)) {
    throw usageError(input === undefined ? 'the sizes are missing' : 'both --input and --sizes are given', 'give one of them: --input FILE, or --sizes key=16384,kvHead=8,group=4,dim=128')
  }
  if (input !== undefined) {
    if (dtype !== undefined) throw usageError('--dtype is given, but the file says the dtype', 'leave --dtype out, or use --sizes')
    return readPrompt(input).prompt.shape
  }
  if (dtype !== undefined && !dtypes.includes(dtype)) throw usageError(`--dtype is '${dtype}'`, `use one of ${dtypes.join(', ')}`)
  const sizes = new Map<string, number>()
  for (const part of text!.split(',')) {
    const [, name = '', number = ''] = /^\s*([^=\s]*)\s*=\s*(\S*)\s*$/.exec(part) ?? []
    if (name === '') throw usageError(`'${part}' in --sizes is not of the form NAME=N`, 'for example key=16384,kvHead=8,group=4,dim=128')
    if (!sizeNames.includes(name)) {
      const near = nearest(name, sizeNames)
      throw usageError(`--sizes has '${name}', which is no axis of the inputs`, `${near === undefined ? '' : `did you mean '${near}'? `}the axes are ${sizeNames.join(', ')}`)
    }
    if (sizes.has(name)) throw usageError(`--sizes has ${name} twice`, 'give it once')
    if (!/^\d{1,10}$/.test(number) || Number(number) < 1) throw usageError(`${name} in --sizes is '${number}'`, 'use a whole number, at least 1')
    sizes.set(name, Number(number))
  }
  const missing = ['key', 'kvHead', 'group', 'dim'].find(n => !sizes.has(n))
  if (missing !== undefined) throw usageError(`--sizes lacks ${missing}`, 'for example key=16384,kvHead=8,group=4,dim=128')
  const length = sizes.get('key')!
  return { dtype: (dtype ?? 'bf16') as FloatDtype, kvHeads: sizes.get('kvHead')!, group: sizes.get('group')!, dim: sizes.get('dim')!, length, queries: sizes.get('query') ?? Math.min(length, 64) }
}

const schedulesOf = (s: Subject): Record<string, LoweredKernel['schedule']> => Object.fromEntries(s.kernels.map(k => [k.group.name, k.schedule]))

const viewOf = (s: Subject): PlanView => ({ dtype: s.shape.dtype, sizes: s.program.sizes, plans: s.plans, numbers: launchNumbers(s.kernels, s.program.sizes, s.target.multiprocessors) })

interface Resources {
  readonly name: string
  readonly arch: string
  readonly registers: number
  readonly spillStores: number
  readonly spillLoads: number
  /** Of a block: what the text declares and what the launch adds. */
  readonly sharedBytes: number
}

const archForm = /^sm_(\d{2,3})([af]?)$/

/** `sm_90a` is `sm_90` with instructions of its own; NVRTC lists the numbers only. */
function compilesFor(arch: string, supported: readonly number[]): boolean {
  const [, digits, letter] = archForm.exec(arch)!, number = Number(digits)
  return supported.includes(number) && number >= (letter === 'f' ? 100 : letter === 'a' ? 90 : 0)
}

/** What NVRTC's log says, per kernel and architecture, each kernel compiled by itself. */
async function resourcesOf(s: Subject, given: Arguments): Promise<Resources[]> {
  const archs = given.texts('arch').length === 0 ? [defaultArch] : [...new Set(given.texts('arch'))]
  const nvrtc = openNvrtc()
  // For an architecture it does not know, NVRTC would be asked for a relative's cubin, and the report would bear a wrong name.
  const unknown = archs.find(a => !compilesFor(a, nvrtc.supportedArchs))
  if (unknown !== undefined) {
    throw usageError(`NVRTC ${nvrtc.version.major}.${nvrtc.version.minor} does not compile for ${unknown}`,
      `use one of ${nvrtc.supportedArchs.map(a => `sm_${a}`).join(', ')}; from sm_90 on with the letter a, from sm_100 on also with f`)
  }
  progress(`compiling for ${archs.join(', ')}`)
  const found = await Promise.all(archs.flatMap(arch => lower(s.plan, s.schedules, targetOf(arch)).map(k => emit(k.kernel)).map(async e => {
    const { resources } = await nvrtc.compile({ text: sourceText([e], 'cuda'), kernels: [e.name], arch, name: `${e.name}.cu` })
    const r = resources.find(x => x.name === e.name)
    if (r === undefined) throw new Error(`NVRTC's log says nothing about ${e.name} for ${arch}`)
    return { name: e.name, arch, registers: r.registers, spillStores: r.spillStores, spillLoads: r.spillLoads, sharedBytes: r.sharedBytes + e.sharedBytes }
  })))
  clearProgress()
  return found
}
