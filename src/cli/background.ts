/** The reference interpreter on a thread of its own, so that kernels compile and run in the meantime. */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { WeftError } from '../dsl/errors.js'
import type { HostTensor } from '../runtime/host-tensor.js'
import { interpret } from '../runtime/reference.js'
import { policyByName } from '../snapkv/presets.js'
import type { Settings } from '../snapkv/policy.js'
import type { Prompt } from '../snapkv/prompt.js'

/** Policies are functions and do not travel; their name and settings do. */
interface Task {
  readonly policy: string
  readonly settings: Settings
  readonly prompt: Prompt
}
export interface ReferenceScores {
  /** [head, past], row-major. */
  readonly scores: HostTensor
  readonly positions: HostTensor
  /** Milliseconds of the interpretation alone. */
  readonly took: number
}
type Answer = ReferenceScores | { readonly failed: string }

/** Scores and positions by the reference interpreter. */
export function referenceScores(policy: string, settings: Settings, prompt: Prompt): Promise<ReferenceScores> {
  const task: Task = { policy, settings, prompt }
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./background.js', import.meta.url), { workerData: task })
    worker.once('message', (answer: Answer) => { if ('failed' in answer) reject(new WeftError('internal', `the reference failed: ${answer.failed}`)); else resolve(answer) })
    worker.once('error', reject)
    worker.once('exit', code => reject(new WeftError('internal', `the reference ended with ${code}`)))
  })
}

function answer({ policy, settings, prompt }: Task): Answer {
  try {
    const program = policyByName(policy, settings).build(prompt.shape), start = performance.now()
    const { scores, positions } = interpret({ scores: program.outputs.scores, positions: program.outputs.positions }, prompt.inputs, { sizes: program.sizes })
    return { scores: scores!, positions: positions!, took: performance.now() - start }
  } catch (error) {
    return { failed: error instanceof Error ? error.message : String(error) }
  }
}

if (!isMainThread) parentPort?.postMessage(answer(workerData as Task))
