/** The emulator's compiler behind the same interface as NVRTC: emitted text to a library for the host. */
import { lstatSync, mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { KernelCache } from './cache.js'
import type { Compiler } from './compiler.js'
import { compileHost, findHostCompiler, hostFingerprint, type HostOptions } from './emulator/compile.js'
import { EnvironmentError } from './errors.js'

export function openHostCompiler(options: HostOptions = {}): Compiler {
  const found = findHostCompiler()
  if ('missing' in found) throw new EnvironmentError('host-compiler-missing', found.missing, { fix: found.fix })
  return {
    // The fingerprint covers the compiler, its flags and the emulator's headers.
    id: `host ${found.version} ${hostFingerprint(options)}`,
    target: 'host',
    options: [],
    async compile({ text, kernels, arch }) {
      const image = await compileHost(text, kernels, options)
      // A host has no registers to count; the names are what callers look kernels up by.
      const resources = kernels.map((name) => ({ name, arch, registers: 0, spillStores: 0, spillLoads: 0, sharedBytes: 0 }))
      return { image, resources, log: '', fromCache: false }
    },
  }
}

/** Where the emulator's own files go: beside the kernels, or a temporary folder where there is no such place. */
export function emulatorFolder(cache: KernelCache): string {
  if (cache.state().mode === 'on') return join(cache.folder, 'emulator')
  const folder = join(tmpdir(), `weft-emulator-${process.getuid?.() ?? 0}`)
  mkdirSync(dirname(folder), { recursive: true })
  try {
    mkdirSync(folder, { mode: 0o700 })
  } catch {
    // It is there already, and perhaps somebody else's: that is looked at next.
  }
  if (isPrivate(folder)) return folder
  // A library runs with all rights of this process, and anyone may have made a folder of that name.
  return (privateFolder ??= mkdtempSync(join(tmpdir(), 'weft-emulator-')))
}

let privateFolder: string | undefined

/** A folder and no link, of this user, which nobody else may enter. */
function isPrivate(folder: string): boolean {
  try {
    const stat = lstatSync(folder)
    return stat.isDirectory() && (process.getuid === undefined || stat.uid === process.getuid()) && (stat.mode & 0o777) === 0o700
  } catch {
    return false
  }
}
