/** The real binary, built if it is older than its sources, and small files to run it on. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, rmdirSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { hostTensor, type HostTensor } from '../../src/runtime/host-tensor.js'
import { newArray, writer } from '../../src/dsl/dtype.js'
import { writeSafetensors } from '../../src/runtime/safetensors.js'

export const root = fileURLToPath(new URL('../..', import.meta.url))
export const binary = join(root, 'dist', 'cli', 'main.js')
export const data = join(root, 'test', 'data', 'jargon-4k-layer23.safetensors')

const newest = (folder: string): number => readdirSync(folder, { withFileTypes: true }).reduce((t, e) =>
  Math.max(t, e.isDirectory() ? newest(join(folder, e.name)) : statSync(join(folder, e.name)).mtimeMs), 0)

/** `npm test` has built already; a test run of its own may not have. Of several processes, one builds. */
export function built(): void {
  const lock = join(root, 'node_modules', '.weft-building')
  const fresh = (): boolean => existsSync(binary) && statSync(binary).mtimeMs >= newest(join(root, 'src'))
  for (let waited = 0; !fresh(); waited++) {
    try {
      mkdirSync(lock)
    } catch (error) {
      if (waited > 600) throw new Error(`another process does not finish building; remove ${lock}`, { cause: error })
      spawnSync('sleep', ['0.2'])
      continue
    }
    try {
      if (fresh()) return
      const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'scripts', 'build.mjs')], { encoding: 'utf8' })
      if (status !== 0) throw new Error(`the build failed:\n${stdout}${stderr}`)
    } finally {
      rmdirSync(lock)
    }
  }
}

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export const folder = mkdtempSync(join(tmpdir(), 'weft-cli-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

export interface RunOptions { readonly environment?: Readonly<Record<string, string>> }

/** Runs the binary in a folder of its own, without a GPU and without colours, unless the environment says otherwise. */
export function weft(args: readonly string[], { environment = {} }: RunOptions = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const { NO_COLOR: _, FORCE_COLOR: __, WEFT_DEVICE: ___, ...inherited } = process.env
    const child = spawn(process.execPath, [binary, ...args], { cwd: folder, env: { ...inherited, WEFT_LIBCUDA: '0', ...environment }, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = '', stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
    child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
    child.on('error', reject)
    child.on('close', code => resolve({ code, stdout, stderr }))
  })
}

/** The one JSON document on standard output. */
export const json = <T = Record<string, unknown>>(o: Outcome): T => JSON.parse(o.stdout) as T

export interface PromptShape {
  readonly batch?: number
  readonly queryHeads: number
  readonly kvHeads: number
  readonly queries: number
  readonly length: number
  readonly dim: number
  readonly dtype?: 'f32' | 'f16' | 'bf16'
}

/** A file with a random prompt; its path. */
export function promptFile(name: string, s: PromptShape, without: readonly string[] = []): string {
  const dtype = s.dtype ?? 'bf16', front = s.batch === undefined ? {} : { batch: s.batch }
  let state = 7
  const random = (shape: Record<string, number>): HostTensor => {
    const t = hostTensor(dtype, shape, newArray(dtype, Object.values(shape).reduce((a, b) => a * b, 1)))
    for (let i = 0; i < t.data.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      writer[dtype](t.data, i, (state / 2 ** 32) * 4 - 2)
    }
    return t
  }
  const tensors: Record<string, HostTensor> = {
    q: random({ ...front, head: s.queryHeads, query: s.queries, dim: s.dim }),
    k: random({ ...front, head: s.kvHeads, key: s.length, dim: s.dim }),
    v: random({ ...front, head: s.kvHeads, key: s.length, dim: s.dim }),
  }
  for (const gone of without) delete tensors[gone]
  const path = join(folder, name)
  writeSafetensors(path, tensors)
  return path
}
export const small: PromptShape = { queryHeads: 4, kvHeads: 2, queries: 64, length: 200, dim: 32 }
