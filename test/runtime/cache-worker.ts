/**
 * The cache in processes of its own: the compiled text of `src/runtime/cache.ts` and a small program that uses it, as plain
 * files, so that a child starts in some 40 ms. What an entry holds follows from its number, so that every process can tell
 * the truth from what it is given.
 */
import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

/** Shared by this process and its children, as text: the contents of entry `i`, and whether an entry is exactly that. */
const truth = `
import { createHash } from 'node:crypto'
export const keyOf = (i) => createHash('sha256').update('entry ' + i).digest('hex')
export const textOf = (i) => 'kernel ' + i + ' ' + 'x'.repeat(200)
const made = new Map()
export const imageOf = (i) => {
  if (!made.has(i)) made.set(i, {
    image: Buffer.alloc(2000 + 4000 * (i % 7), Uint8Array.from({ length: 251 }, (_, n) => (n * (i + 3)) & 255)), log: 'ptxas info ' + i, fromCache: false,
    resources: [{ name: 'k' + i, arch: 'sm_90', registers: 32 + i, spillStores: 0, spillLoads: 0, sharedBytes: 1024 * i }],
  })
  return made.get(i)
}
export const isTrue = (i, got) => {
  const wanted = imageOf(i)
  return Buffer.compare(got.image, wanted.image) === 0 && got.log === wanted.log && JSON.stringify(got.resources) === JSON.stringify(wanted.resources)
}
`

const program = `
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openCache } from './cache.mjs'
import { imageOf, isTrue, keyOf, textOf } from './truth.mjs'

const [, , role, folder, seed, count] = process.argv
let state = Number(seed) * 2654435761 + 1 >>> 0
const random = (n) => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return Math.floor(state / 2 ** 32 * n) }
const cache = openCache({ folder })
const quietly = (work) => { try { work() } catch {} }

/** What others, or a failing disk, may do to an entry. */
function damage(i) {
  const at = join(folder, 'kernels', keyOf(i).slice(0, 2), keyOf(i)), file = join(at, ['image', 'meta.json'][random(2)])
  quietly([
    () => rmSync(at, { recursive: true }),
    () => rmSync(join(at, '..'), { recursive: true }),
    () => truncateSync(file, random(1500)),
    () => { const bytes = readFileSync(file); bytes[random(bytes.length)] ^= 1 << random(8); writeFileSync(file, bytes) },
    () => { rmSync(at, { recursive: true }); symlinkSync('/nowhere', at) },
    () => { rmSync(at, { recursive: true }); writeFileSync(at, 'a file') },
    () => rmSync(file),
    () => { rmSync(file); mkdirSync(file) },
  ][random(8)])
}

if (role === 'hammer') {
  const seen = { operations: 0, hits: 0, misses: 0, wrong: 0, mode: '' }
  for (let n = 0; n < Number(count); n++) {
    const i = random(12), what = random(20)
    seen.operations++
    if (what < 12) {
      const got = cache.get(keyOf(i))
      if (got === undefined) { seen.misses++; cache.put(keyOf(i), textOf(i), imageOf(i)) }
      else if (isTrue(i, got)) seen.hits++
      else seen.wrong++
    } else if (what < 18) cache.put(keyOf(i), textOf(i), imageOf(i))
    else if (what === 18) damage(i)
    else cache.state()
  }
  seen.mode = cache.state().mode
  process.stdout.write(JSON.stringify(seen))
} else if (role === 'write') {
  // Until it is killed; entries are taken away again, so that there is always something to write.
  process.stdout.write('x')
  for (let n = 0; ; n++) {
    const i = random(12)
    if (n % 3 === 0) quietly(() => rmSync(join(folder, 'kernels', keyOf(i).slice(0, 2), keyOf(i)), { recursive: true, force: true }))
    cache.put(keyOf(i), textOf(i), imageOf(i))
  }
} else {
  // 'once': one entry that is there and one that is not, and what the cache says about itself.
  const before = cache.get(keyOf(0)), compiled = imageOf(6)
  cache.put(keyOf(6), textOf(6), compiled)
  const after = cache.get(keyOf(6))
  process.stdout.write(JSON.stringify({
    hit: before !== undefined && isTrue(0, before), kept: after !== undefined && isTrue(6, after), state: cache.state(),
    left: readdirSync(join(folder, 'kernels')).filter((name) => name.startsWith('.new')),
  }))
}
`

export interface CacheTruth {
  keyOf(i: number): string
  textOf(i: number): string
  imageOf(i: number): import('../../src/runtime/compiler.js').KernelImage
  isTrue(i: number, got: import('../../src/runtime/compiler.js').KernelImage): boolean
}

export interface CacheWorkers {
  readonly truth: CacheTruth
  /** The arguments for Node: a role, a folder, a seed and a count. */
  readonly arguments: (role: 'hammer' | 'write' | 'once', folder: string, seed?: number, count?: number) => string[]
  readonly start: (args: readonly string[], options?: SpawnOptions) => ChildProcess
}

export async function cacheWorkers(): Promise<CacheWorkers> {
  const folder = mkdtempSync(join(tmpdir(), 'weft-cache-worker-')), source = readFileSync(fileURLToPath(new URL('../../src/runtime/cache.ts', import.meta.url)), 'utf8')
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 } })
  for (const [name, text] of Object.entries({ 'cache.mjs': outputText, 'truth.mjs': truth, 'program.mjs': program })) writeFileSync(join(folder, name), text)
  chmodSync(folder, 0o755)   // a child may run as another user
  return {
    truth: await import(/* @vite-ignore */ join(folder, 'truth.mjs')) as CacheTruth,
    arguments: (role, at, seed = 0, count = 0) => [join(folder, 'program.mjs'), role, at, String(seed), String(count)],
    start: (args, options = {}) => spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options }),
  }
}

/** What a child wrote, and how it ended. */
export function outcome(child: ChildProcess): Promise<{ readonly text: string; readonly code: number | null; readonly signal: string | null }> {
  let text = ''
  child.stdout?.on('data', (data: Buffer) => { text += data.toString() })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ text, code, signal }))
  })
}
