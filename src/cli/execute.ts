/** Runs a policy on a prompt: what `run` and `demo` share. */
import type { HostTensor } from '../runtime/host-tensor.js'
import { compile, type Prepared } from '../runtime/program.js'
import { interpret } from '../runtime/reference.js'
import type { Schedules } from '../codegen/pipeline.js'
import type { Policy, PolicyProgram } from '../snapkv/policy.js'
import { compressed, passUnchanged, type Compressed, type Prompt } from '../snapkv/prompt.js'
import type { Chosen } from './device.js'

/** A policy's outputs; the scores cost a kernel of their own, so they are left out where nobody asks for them. */
export function outputsOf(program: PolicyProgram, withScores: boolean): PolicyProgram['outputs'] {
  if (withScores) return program.outputs
  const { scores: _, ...rest } = program.outputs
  return rest as PolicyProgram['outputs']
}

export interface Executed {
  readonly results: Compressed
  /** Undefined where no kernels ran: on the reference device, or nothing was to be dropped. */
  readonly prepared: Prepared | undefined
  /** Milliseconds: plan, compile and load; then each run, uploads and downloads included. */
  readonly times: { readonly prepare: number; readonly runs: readonly number[] }
}

export interface ExecuteOptions {
  readonly withScores: boolean
  readonly schedules?: Schedules
  readonly runs?: number
  /** Called when kernels are ready, before the first run. */
  readonly onPrepared?: (prepared: Prepared) => void
}

export async function execute(policy: Policy, prompt: Prompt, device: Chosen, options: ExecuteOptions): Promise<Executed> {
  if (policy.budget(prompt.shape).bypass) return { results: passUnchanged(policy, prompt), prepared: undefined, times: { prepare: 0, runs: [] } }
  const program = policy.build(prompt.shape), outputs = outputsOf(program, options.withScores)
  if (device.opened === undefined) {
    const start = performance.now()
    const results = interpret(outputs, prompt.inputs, { sizes: program.sizes })
    return { results: named(prompt, results), prepared: undefined, times: { prepare: 0, runs: [performance.now() - start] } }
  }
  using compiled = await compile(outputs, { device: device.opened, ...(options.schedules === undefined ? {} : { schedules: options.schedules }) })
  let start = performance.now()
  const lap = (): number => { const now = performance.now(), took = now - start; start = now; return took }
  const prepared = await compiled.prepare(program.sizes)
  const prepare = lap()
  options.onPrepared?.(prepared)
  lap()
  const runs: number[] = []
  let results: Record<string, HostTensor> = {}
  for (let i = 0; i < (options.runs ?? 1); i++) {
    results = await compiled.run(prompt.inputs, { sizes: program.sizes })
    runs.push(lap())
  }
  return { results: named(prompt, results), prepared, times: { prepare, runs } }
}

const named = (prompt: Prompt, results: Readonly<Record<string, HostTensor>>): Compressed =>
  compressed(prompt, results as Readonly<Record<'keys' | 'values' | 'positions', HostTensor>>)
