/**
 * The emulator from cold takes two compilations one after the other: its own library, then the kernels. They do not need
 * each other, so both start at once here; opening the device and compiling the program then find the results in the cache.
 */
import { emit, lower } from '../codegen/pipeline.js'
import { plan } from '../codegen/plan.js'
import { sourceText } from '../codegen/emit/cuda.js'
import { targetOf } from '../codegen/target.js'
import type { Expr } from '../dsl/expr.js'
import type { Sizes } from '../dsl/size.js'
import { openCache, withCache } from '../runtime/cache.js'
import { emulatorFolder, openHostCompiler } from '../runtime/host-compiler.js'
import { bundled } from '../runtime/program.js'

/** What the emulator's device calls itself. Another name would only make the cache miss. */
const emulatedArch = 'sm_90'

export interface Planned {
  readonly outputs: Readonly<Record<string, Expr>>
  readonly sizes: Sizes
}

/**
 * Compiles the kernels of programs, in their order. A promise per program, of the milliseconds it took if anything was
 * compiled; none of them fails: whoever needs the kernels will.
 */
export function warmEmulator(programs: readonly Planned[]): readonly Promise<number | undefined>[] {
  const nothing = programs.map(() => Promise.resolve(undefined))
  const cache = openCache()
  if (cache.state().mode !== 'on') return nothing
  try {
    const compiler = withCache(openHostCompiler({ cacheDir: emulatorFolder(cache) }), cache)
    return programs.map(async ({ outputs, sizes }) => {
      const start = performance.now(), emitted = lower(plan(outputs, { sizes }), {}, targetOf(emulatedArch)).map(k => emit(k.kernel))
      const images = await Promise.allSettled(bundled(emitted, 'host').map(b => compiler.compile({ text: sourceText(b, 'host'), kernels: b.map(k => k.name), arch: emulatedArch })))
      return images.every(i => i.status === 'fulfilled' && i.value.fromCache) ? undefined : performance.now() - start
    })
  } catch {
    return nothing
  }
}
