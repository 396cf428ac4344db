/** A machine with the simulated driver and NVRTC: whatever opens a device by its name finds them where libraries lie. */
import { openCache, type Files, type KernelCache } from '../../src/runtime/cache.js'
import type { OpenOptions } from '../../src/runtime/devices.js'
import { mockFfi, MockLibrary, type MockMemory } from '../../src/runtime/ffi/mock.js'
import { mockDriver, type MockDriver, type MockDriverOptions } from '../../src/runtime/ffi/mock-driver.js'
import type { SystemView } from '../../src/runtime/system.js'

export const nvrtcNames = [
  'SUCCESS', 'ERROR_OUT_OF_MEMORY', 'ERROR_PROGRAM_CREATION_FAILURE', 'ERROR_INVALID_INPUT', 'ERROR_INVALID_PROGRAM', 'ERROR_INVALID_OPTION',
  'ERROR_COMPILATION', 'ERROR_BUILTIN_OPERATION_FAILURE', 'ERROR_NO_NAME_EXPRESSIONS_AFTER_COMPILATION', 'ERROR_NO_LOWERED_NAMES_BEFORE_COMPILATION',
  'ERROR_NAME_EXPRESSION_NOT_VALID', 'ERROR_INTERNAL_ERROR',
].map(name => `NVRTC_${name}`)

const elf = Uint8Array.of(0x7f, 0x45, 0x4c, 0x46), ptx = Buffer.from('.version 8.0\0'), compilerLog = Buffer.from('ptxas info : nothing\0')

export interface MockNvrtc {
  readonly library: MockLibrary
  /** Programs that were created and not destroyed. */
  alive(): number
}

/** NVRTC as far as a device's opening and compilations need it: it knows sm_80 and sm_90, and compiles any text. */
export function mockNvrtc(memory: MockMemory, version: readonly [number, number]): MockNvrtc {
  const programs = new Set<bigint>(), texts = nvrtcNames.map(name => memory.string(name))
  let next = 70n
  const put = (out: unknown, value: number | bigint): number => {
    if (out instanceof BigUint64Array) out[0] = BigInt(value)
    else if (out instanceof Int32Array) out[0] = Number(value)
    return 0
  }
  const write = (out: unknown, bytes: Uint8Array): number => {
    ;(out as Uint8Array).set(bytes)
    return 0
  }
  const ofProgram = (work: (out: unknown) => number) => (program: unknown, out?: unknown): number => (programs.has(program as bigint) ? work(out) : 4)
  const library = new MockLibrary({
    nvrtcGetErrorString: (status) => texts[Number(status)] ?? 0n,
    nvrtcVersion: (major, minor) => put(major, version[0]) + put(minor, version[1]),
    nvrtcGetNumSupportedArchs: (count) => put(count, 2),
    nvrtcGetSupportedArchs: (archs) => ((archs as Int32Array).set([80, 90]), 0),
    nvrtcCreateProgram: (program) => {
      programs.add(++next)
      return put(program, next)
    },
    nvrtcDestroyProgram: (program) => (programs.delete((program as BigUint64Array)[0] ?? 0n) ? 0 : 4),
    nvrtcCompileProgram: ofProgram(() => 0),
    nvrtcGetProgramLogSize: ofProgram((bytes) => put(bytes, compilerLog.length)),
    nvrtcGetProgramLog: ofProgram((log) => write(log, compilerLog)),
    nvrtcGetCUBINSize: ofProgram((bytes) => put(bytes, elf.length)),
    nvrtcGetCUBIN: ofProgram((image) => write(image, elf)),
    nvrtcGetPTXSize: ofProgram((bytes) => put(bytes, ptx.length)),
    nvrtcGetPTX: ofProgram((image) => write(image, ptx)),
  })
  return { library, alive: () => programs.size }
}

export interface Machine extends MockDriverOptions {
  readonly libcuda?: boolean
  readonly nvrtc?: readonly [number, number] | undefined
  readonly environment?: { readonly [name: string]: string }
  /** None where absent. */
  readonly cache?: KernelCache
}

export interface MockMachine extends OpenOptions {
  readonly driver: MockDriver
  readonly nvrtcLibrary: MockLibrary
  readonly programs: () => number
}

/** @param description what the machine has; without `nvrtc`, version 13.0 */
export function machine(description: Machine = {}): MockMachine {
  const { libcuda = true, nvrtc = [13, 0], environment = {}, cache = openCache({ noCache: true }) } = description
  const driver = mockDriver(description)
  const { library: nvrtcLibrary, alive } = mockNvrtc(driver.memory, nvrtc)
  const has = [...(libcuda ? ['libcuda.so.1'] : []), ...('nvrtc' in description && description.nvrtc === undefined ? [] : [`libnvrtc.so.${nvrtc[0]}`])]
  const system: SystemView = {
    environment, platform: 'linux', arch: 'x64', home: '/home/me', workingFolder: '/here', packageRoot: '/pkg',
    exists: () => false, list: () => [], real: (path) => path, firstBytes: () => undefined, text: () => undefined,
    load: (file) => (has.includes(file) ? undefined : `${file}: cannot open shared object file`),
  }
  return {
    driver, nvrtcLibrary, system, cache, programs: alive,
    ffi: mockFfi(Object.fromEntries(has.map((name) => [name, name.startsWith('libcuda') ? driver.library : nvrtcLibrary])), driver.memory),
  }
}

const failure = (code: string, path: string): Error => Object.assign(new Error(`${code}: ${path}`), { code })

/** A disk in memory, with the errors of a real one. `entries` are the paths of all its files, `spoil` changes one. */
export function memoryFiles(): { readonly files: Files; readonly entries: () => readonly string[]; readonly spoil: (path: string, data: Uint8Array) => void } {
  const nodes = new Map<string, Uint8Array | 'folder'>()
  const parent = (path: string): string => path.slice(0, path.lastIndexOf('/'))
  const inside = (folder: string): string[] => [...nodes.keys()].filter(path => path.startsWith(`${folder}/`))
  const files: Files = {
    makeFolder(path) {
      for (let at = path; at !== '' && !nodes.has(at); at = parent(at)) nodes.set(at, 'folder')
    },
    write(path, data) {
      if (nodes.get(parent(path)) !== 'folder') throw failure('ENOENT', path)
      if (nodes.has(path)) throw failure('EEXIST', path)
      nodes.set(path, typeof data === 'string' ? Buffer.from(data) : data.slice())
    },
    read(path) {
      const data = nodes.get(path)
      if (data === undefined || data === 'folder') throw failure(data === undefined ? 'ENOENT' : 'EISDIR', path)
      return data
    },
    rename(from, to) {
      if (!nodes.has(from) || !nodes.has(parent(to))) throw failure('ENOENT', from)
      if (inside(to).length > 0) throw failure('ENOTEMPTY', to)
      for (const path of [from, ...inside(from)]) {
        nodes.set(to + path.slice(from.length), nodes.get(path)!)
        nodes.delete(path)
      }
    },
    remove(path) {
      for (const one of [path, ...inside(path)]) nodes.delete(one)
    },
    list(path) {
      if (nodes.get(path) !== 'folder') throw failure('ENOENT', path)
      return inside(path).filter(one => parent(one) === path).map(one => one.slice(path.length + 1))
    },
    stat(path) {
      const node = nodes.get(path)
      if (node === undefined) throw failure('ENOENT', path)
      return { isDirectory: node === 'folder', mode: 0o700, uid: process.getuid?.() ?? 0, bytes: node === 'folder' ? 0 : node.length, changed: 0 }
    },
  }
  return { files, spoil: (path, data) => void nodes.set(path, data), entries: () => [...nodes.keys()].filter(path => nodes.get(path) !== 'folder') }
}
