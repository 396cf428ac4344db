/**
 * From an edit to kernels: SnapKV with another pool size, stage by stage, for an H100 (NVRTC) and for the emulator (the
 * host's compiler). `cold` compiles, `cached` finds the same text again, `next` is another edit in the warm process.
 *
 *     npm run bench:edit
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { emit, lower, openNvrtc, plan, sourceText, type EmittedKernel } from '../dist/index.js'
import { openCache, withCache } from '../dist/runtime/cache.js'
import type { Compiler } from '../dist/runtime/compiler.js'
import { openHostCompiler } from '../dist/runtime/host-compiler.js'
import { snapkv } from '../dist/snapkv/index.js'

const ms = (from: number): number => performance.now() - from

/** Time of each stage in milliseconds. */
async function edit(poolSize: number, compiler: Compiler, arch: string): Promise<Record<'program' | 'plan' | 'lower' | 'emit' | 'compile' | 'total', number>> {
  const start = performance.now()
  const program = snapkv({ poolSize }).build({ dtype: 'bf16', kvHeads: 8, group: 4, queries: 64, length: 16384, dim: 128 })
  const built = ms(start), at1 = performance.now()
  const planned = plan(program.outputs, { sizes: program.sizes })
  const plannedIn = ms(at1), at2 = performance.now()
  const kernels = lower(planned)
  const loweredIn = ms(at2), at3 = performance.now()
  const emitted: EmittedKernel[] = kernels.map(k => emit(k.kernel))
  const emittedIn = ms(at3), at4 = performance.now()
  // As the runtime does it: NVRTC side by side, a C++ compiler in two bundles.
  const bundles = compiler.target === 'cuda' ? emitted.map(k => [k]) : [0, 1].map(n => emitted.filter((_, i) => i % 2 === n))
  await Promise.all(bundles.map(b => compiler.compile({ text: sourceText(b, compiler.target), kernels: b.map(k => k.name), arch, name: `${b[0]!.name}.cu` })))
  return { program: built, plan: plannedIn, lower: loweredIn, emit: emittedIn, compile: ms(at4), total: ms(start) }
}

const folder = mkdtempSync(join(tmpdir(), 'weft-bench-'))
const cache = openCache({ environment: { ...process.env, WEFT_CACHE_DIR: folder } })
const open: readonly (readonly [name: string, arch: string, () => Compiler])[] = [
  ['nvrtc sm_90a', 'sm_90a', () => openNvrtc()],
  ['host (emulator)', 'host', () => openHostCompiler({ cacheDir: join(folder, 'emulator') })],
]
console.log('milliseconds from an edit of the pool size to kernels'.padEnd(28))
console.log(['', 'program', 'plan', 'lower', 'emit', 'compile', 'total'].map((s, i) => (i === 0 ? s.padEnd(28) : s.padStart(9))).join(''))
try {
  for (const [name, arch, make] of open) {
    let compiler: Compiler
    try {
      compiler = withCache(make(), cache)
    } catch (error) {
      console.log(`${name}: not here: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`)
      continue
    }
    for (const [what, poolSize] of [['cold', 7], ['cached', 7], ['next', 9], ['next', 5], ['cached', 5]] as const) {
      const t = await edit(poolSize, compiler, arch)
      console.log(`${name}, ${what}`.padEnd(28) + [t.program, t.plan, t.lower, t.emit, t.compile, t.total].map(x => x.toFixed(1).padStart(9)).join(''))
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
