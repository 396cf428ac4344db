/** What the finder sees of a machine, as a record of functions, so that tests can describe any machine as data. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, realpathSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defaultFfi } from './ffi/index.js'

export interface SystemView {
  readonly environment: { readonly [name: string]: string | undefined }
  readonly platform: string
  /** Node's name: x64, arm64. */
  readonly arch: string
  readonly home: string
  readonly workingFolder: string
  /** The folder of Weft's package.json, where `npm run setup:nvrtc` makes `.weft/`. */
  readonly packageRoot: string
  exists(path: string): boolean
  /** Names in a folder; empty where there is no such folder. */
  list(folder: string): readonly string[]
  /** The file's real path, links followed; the path itself where that fails. */
  real(path: string): string
  /** The first bytes of a file; undefined where it cannot be read. */
  firstBytes(path: string, count: number): Uint8Array | undefined
  /** A small text file such as those of /proc; undefined where there is none. */
  text(path: string): string | undefined
  /** Loads a library by path or soname; undefined when that works, else the loader's message. */
  load(file: string): string | undefined
}

/** src/runtime/ or dist/runtime/ is two folders below the package. */
export const packageRoot = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

export const realSystem = (environment: NodeJS.ProcessEnv = process.env): SystemView => ({
  environment,
  platform: process.platform,
  arch: process.arch,
  home: homedir(),
  workingFolder: process.cwd(),
  packageRoot,
  exists: existsSync,
  list(folder) {
    try {
      return readdirSync(folder).sort()
    } catch {
      return []
    }
  },
  real(path) {
    try {
      return realpathSync(path)
    } catch {
      return path
    }
  },
  firstBytes(path, count) {
    let file: number | undefined
    try {
      file = openSync(path, 'r')
      const buffer = new Uint8Array(count)
      return buffer.subarray(0, readSync(file, buffer, 0, count, 0))
    } catch {
      return undefined
    } finally {
      if (file !== undefined) closeSync(file)
    }
  },
  text(path) {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      return undefined
    }
  },
  load(file) {
    try {
      // Left loaded: the driver and NVRTC keep threads, unloading them is not safe.
      defaultFfi(environment).open(file)
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  },
})

/** Files of this process that match, from its memory map. */
export function loadedFiles(system: SystemView, pattern: RegExp): string[] {
  const map = system.text('/proc/self/maps') ?? ''
  const files = map.split('\n').map((line) => /\s(\/\S.*)$/.exec(line)?.[1] ?? '').filter((file) => pattern.test(file))
  return [...new Set(files)]
}
