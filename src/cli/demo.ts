/** `weft demo`: SnapKV on attention data of a real model, from expression to checked result. */
import { join } from 'node:path'
import { traffic, type Traffic } from '../codegen/traffic.js'
import { plan, type Plan } from '../codegen/plan.js'
import { lower } from '../codegen/pipeline.js'
import { targetOf } from '../codegen/target.js'
import { launchNumbers } from '../runtime/launch-plan.js'
import { readSafetensors } from '../runtime/safetensors.js'
import { packageRoot } from '../runtime/system.js'
import { compareNumbers, compareSelection, ulps, type NumbersReport, type SelectionReport } from '../snapkv/compare.js'
import { policyByName } from '../snapkv/presets.js'
import type { Policy } from '../snapkv/policy.js'
import type { Compressed, Prompt } from '../snapkv/prompt.js'
import type { Arguments } from './arguments.js'
import { referenceScores } from './background.js'
import { checkAgainst, numbersOf, type CheckReport } from './check.js'
import { chooseDevice, wantedDevice, type Chosen } from './device.js'
import { demoDocument, tellDemo } from './demo-view.js'
import { execute, outputsOf, type Executed } from './execute.js'
import { readPrompt, type PromptFile } from './files.js'
import { compiledByNvrtc, type Compiled, type NotCompiled } from './nvrtc.js'
import { clearProgress, progress, say } from './output.js'
import { warmEmulator } from './warm.js'

const data = (name: string): string => join(packageRoot, 'test', 'data', name)
const file = 'jargon-4k-layer23.safetensors'

/** The needle's tokens and, per head, which of them were kept. */
export interface Needle {
  readonly from: number
  readonly to: number
  readonly tokens: readonly string[]
  readonly kept: readonly (readonly boolean[])[]
}

/** The same data through the official code's own choice of options, against the numbers which that code gave. */
export interface Official {
  readonly key: string
  readonly policy: Policy
  readonly scores: NumbersReport
  readonly selection: SelectionReport
  readonly times: Executed['times']
}

export interface Demo {
  readonly metadata: PromptFile['file']['metadata']
  readonly prompt: Prompt
  readonly policy: Policy
  readonly device: Chosen
  readonly plan: Plan
  readonly traffic: Traffic
  readonly executed: Executed
  readonly needle: Needle
  readonly check: CheckReport | undefined
  readonly official: Official
  readonly nvrtc: Compiled | NotCompiled
  /** Milliseconds. */
  readonly times: { readonly device: number; /** Of the kernels, where that went on beside the opening of the device. */ readonly compile: number | undefined; readonly reference: number | undefined; readonly total: number }
}

export async function run(given: Arguments): Promise<number> {
  const start = performance.now(), noCache = given.flag('no-cache')
  const wanted = wantedDevice(given.text('device'))
  const { prompt, file: { metadata } } = readPrompt(data(file))
  const policy = policyByName('snapkv', ['capacity=512']), program = policy.build(prompt.shape)
  const official = policyByName('snapkv-official', ['capacity=512', 'rounding=reference']), officialProgram = official.build(prompt.shape)

  // Everything that takes time runs side by side: the reference on a thread, compilers as processes of their own.
  progress('looking for a device')
  const reference = wanted === 'reference' ? undefined : referenceScores(policy.name, policy.settings, prompt)
  reference?.catch(() => {})
  let warm: readonly Promise<number | undefined>[] = []
  const device = await chooseDevice(wanted, { noCache }, () => {
    progress("building the emulator and compiling the kernels with this machine's C++ compiler, the first time only")
    if (!noCache) warm = warmEmulator([
      { outputs: outputsOf(program, false), sizes: program.sizes }, { outputs: officialProgram.outputs, sizes: officialProgram.sizes },
    ])
  })
  using _ = { [Symbol.dispose]: () => device.opened?.[Symbol.dispose]() }
  const deviceTime = performance.now() - start
  progress('compiling the kernels')
  const compiling = await warm[0]
  // Once a C++ compiler no longer needs the processors; NVRTC works on threads of its own while the kernels run.
  const own = plan(outputsOf(program, false), { sizes: program.sizes }), nvrtc = compiledByNvrtc(own, noCache)
  nvrtc.catch(() => {})
  const executed = await execute(policy, prompt, device, { withScores: false, runs: device.kind === 'reference' ? 1 : 2, onPrepared: () => progress('running the kernels') })
  progress("compiling the published algorithm's options")
  await warm[1]
  const second = await execute(official, prompt, device, { withScores: true })
  progress('waiting for the reference')
  const judge = device.kind === 'reference' ? undefined : await reference

  const planned = executed.prepared?.plan ?? own
  const numbers = executed.prepared?.numbers ?? launchNumbers(lower(planned), program.sizes, targetOf('sm_90').multiprocessors)
  const demo: Demo = {
    metadata, prompt, policy, device, executed, plan: planned, traffic: traffic(planned, numbers), nvrtc: await nvrtc,
    needle: needleOf(metadata, executed.results),
    check: judge === undefined ? undefined : checkAgainst(numbersOf(judge.scores), policy, prompt, executed.results),
    official: againstOfficial(official, prompt, second),
    times: { device: deviceTime, compile: compiling, reference: judge?.took, total: performance.now() - start },
  }
  clearProgress()
  if (given.flag('json')) say(JSON.stringify(demoDocument(demo), undefined, 2))
  else tellDemo(demo)
  return (demo.check?.ok ?? true) && demo.official.scores.ok && demo.official.selection.ok ? 0 : 1
}

function needleOf(metadata: Demo['metadata'], { positions }: Compressed): Needle {
  const [from, to] = JSON.parse(metadata.get('needle')!) as [number, number]
  const tokens = (JSON.parse(metadata.get('tokens')!) as string[]).slice(from, to)
  const [heads, kept] = positions.shape as [number, number]
  return {
    from, to, tokens,
    kept: Array.from({ length: heads }, (_, h) => {
      const own = new Set(positions.data.subarray(h * kept, (h + 1) * kept))
      return tokens.map((_, i) => own.has(from + i))
    }),
  }
}

/** By the rule of test/data/README.md: scores to one unit in the last place, 0.1 % of them beyond it; the choice by score. */
function againstOfficial(policy: Policy, prompt: Prompt, executed: Executed): Official {
  const { kept, window } = policy.budget(prompt.shape), heads = prompt.shape.kvHeads * prompt.shape.group, past = prompt.shape.length - window
  const key = `official.w${window}.c${kept}.maxpool7.bfloat16`
  const theirs = readSafetensors(data(join('expected', file))).tensors.get(`${key}.scores`)
  if (theirs?.dtype !== 'bf16') throw new Error(`the expected results lack ${key}`)
  const expected = numbersOf({ dtype: 'bf16', axes: ['head', 'past'], shape: theirs.shape, data: theirs.data })
  return {
    key, policy, times: executed.times,
    scores: compareNumbers(numbersOf(executed.results.scores!), expected, ulps('bf16', 1), 0.001),
    selection: compareSelection(expected, executed.results.positions.data as Int32Array, { heads, past, rows: kept, k: kept - window }, ulps('bf16', 2)),
  }
}

