/** What NVRTC makes of a plan's kernels: registers and spills, which are known without a GPU. */
import { emit, lower } from '../codegen/pipeline.js'
import type { Plan } from '../codegen/plan.js'
import { sourceText } from '../codegen/emit/cuda.js'
import { targetOf } from '../codegen/target.js'
import { WeftError } from '../dsl/errors.js'
import { openCache, withCache } from '../runtime/cache.js'
import type { KernelResources } from '../runtime/compiler.js'
import { openNvrtc } from '../runtime/nvrtc.js'
import { bundled } from '../runtime/program.js'

/** An H100's, with the instructions that only it has. */
const arch = 'sm_90a'

export interface Compiled {
  /** `NVRTC 13.5` */
  readonly compiler: string
  readonly arch: string
  readonly kernels: readonly KernelResources[]
}
/** Why there is nothing to report. */
export interface NotCompiled { readonly missing: string }

/** Through the cache, so that only the first time takes long. Never fails: a machine without NVRTC still has a demo. */
export async function compiledByNvrtc(plan: Plan, noCache: boolean): Promise<Compiled | NotCompiled> {
  try {
    const nvrtc = openNvrtc(), compiler = withCache(nvrtc, openCache({ noCache }))
    const images = await Promise.all(bundled(lower(plan, {}, targetOf(arch)).map(k => emit(k.kernel)), 'cuda').map(b =>
      compiler.compile({ text: sourceText(b, 'cuda'), kernels: b.map(k => k.name), arch, name: `${b[0]!.name}.cu` })))
    return { compiler: `NVRTC ${nvrtc.version.major}.${nvrtc.version.minor}`, arch, kernels: images.flatMap(i => i.resources) }
  } catch (error) {
    if (!(error instanceof WeftError)) throw error
    return { missing: error.reason.split(/\. Places tried|\n/)[0]! }
  }
}
