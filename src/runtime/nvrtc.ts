/**
 * NVRTC: CUDA text to a cubin, without a GPU. Several programs compile at the same time on other threads; a program is
 * context-free, so this is the one place where that is allowed.
 */
import { statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { WeftError } from '../dsl/errors.js'
import type { CompileRequest, Compiler, KernelImage, KernelResources } from './compiler.js'
import { CompileError, EnvironmentError, NvrtcError } from './errors.js'
import { defaultFfi, nvrtcTable, openLibrary, type Ffi, type Library, type NvrtcFunctions } from './ffi/index.js'
import { findNvrtc, notFound, type CudaVersion, type Search } from './find.js'
import { realSystem, type SystemView } from './system.js'

export interface NvrtcOptions {
  /** The library's file; without it, it is searched for. */
  readonly path?: string | undefined
  /** The driver's CUDA version, so that the NVRTC suits it. */
  readonly driver?: CudaVersion | undefined
  /** Adds `-lineinfo`, for profilers. */
  readonly lineInfo?: boolean
  readonly ffi?: Ffi
  readonly system?: SystemView
  /** Compilations at the same time; the number of processors where absent, 8 at most (each takes some 100 MB). */
  readonly parallel?: number
}

export interface NvrtcRequest extends Omit<CompileRequest, 'kernels'> {
  readonly kernels?: readonly string[]
  /** Added after the default options, so they win. */
  readonly options?: readonly string[]
}

export interface Nvrtc extends Compiler {
  readonly target: 'cuda'
  readonly version: CudaVersion
  /** Numbers of the architectures it knows, ascending: 75, 80, ... 121. */
  readonly supportedArchs: readonly number[]
  readonly file: string
  readonly foundVia: string
  readonly search: Search | undefined
  compile(request: NvrtcRequest): Promise<KernelImage>
}

// The language rounds after every operation, and the kernels say `fma` where they want one: contracting a*b+c would
// make results depend on the compiler's taste. Everything else follows: no headers, registers and spills in the log.
const defaultOptions = ['--std=c++17', '-default-device', '--fmad=false', '--ptxas-options=-v'] as const

export function openNvrtc(options: NvrtcOptions = {}): Nvrtc {
  const system = options.system ?? realSystem()
  const search = findNvrtc({ path: options.path, driver: options.driver, system })
  if (search.chosen === undefined) throw notFound(search)
  const { file, foundVia } = search.chosen
  const ffi = options.ffi ?? defaultFfi(system.environment)
  const library = openLibrary(ffi, 'NVRTC', file, nvrtcTable)
  const nvrtc = library.functions
  const major = new Int32Array(1), minor = new Int32Array(1), count = new Int32Array(1)
  check(nvrtc, 'nvrtcVersion', nvrtc.nvrtcVersion(major, minor), file)
  check(nvrtc, 'nvrtcGetNumSupportedArchs', nvrtc.nvrtcGetNumSupportedArchs(count), file)
  const archs = new Int32Array(Math.max(1, count[0] ?? 0))
  check(nvrtc, 'nvrtcGetSupportedArchs', nvrtc.nvrtcGetSupportedArchs(archs), file)
  const version = { major: major[0] ?? 0, minor: minor[0] ?? 0 }
  const supportedArchs = [...archs].sort((a, b) => a - b)
  const fixed = [...defaultOptions, ...(options.lineInfo === true ? ['-lineinfo'] : [])]
  const slots = limiter(options.parallel ?? Math.min(8, availableParallelism()))
  return {
    id: `nvrtc ${version.major}.${version.minor} ${buildId(system.real(file))}`,
    target: 'cuda', version, supportedArchs, file, foundVia, search,
    options: fixed,
    compile: (request) => slots(() => compile(library, version, supportedArchs, fixed, request)),
  }
}

/** Size and time of the file: two builds of one version are told apart without reading 140 MB. */
function buildId(file: string): string {
  try {
    const { size, mtimeMs } = statSync(file)
    return `${size}-${Math.floor(mtimeMs / 1000).toString(36)}`
  } catch {
    return 'unknown-build'
  }
}

/** What to ask NVRTC for: a cubin of the very architecture, or PTX where the GPU is newer than NVRTC. */
export function targetFor(arch: string, supported: readonly number[]): { readonly target: string; readonly ptx: boolean } {
  const match = /^sm_(\d+)([af]?)$/.exec(arch)
  if (match === null) throw new WeftError('arch', `'${arch}' names no GPU architecture`, { fix: "write it like 'sm_90' or 'sm_90a'" })
  const wanted = Number(match[1])
  if (supported.includes(wanted)) return { target: arch, ptx: false }
  // A cubin runs on the same major with the same or a higher minor.
  const sibling = supported.filter((known) => Math.floor(known / 10) === Math.floor(wanted / 10) && known <= wanted).at(-1)
  if (sibling !== undefined && match[2] === '') return { target: `sm_${sibling}`, ptx: false }
  const older = supported.filter((known) => known < wanted).at(-1)
  if (older === undefined) {
    throw new EnvironmentError('arch-too-old', `this NVRTC compiles for sm_${supported[0]} and newer, not for ${arch}`, { fix: 'npm run setup:nvrtc -- --cuda 12, or set WEFT_NVRTC to an NVRTC of CUDA 12' })
  }
  if (match[2] !== '') throw new EnvironmentError('arch-too-new', `this NVRTC does not know ${arch}`, { fix: 'use a newer NVRTC, or a schedule without architecture-specific instructions' })
  return { target: `compute_${older}`, ptx: true }
}

async function compile(
  library: Library<typeof nvrtcTable>, version: CudaVersion, supported: readonly number[], fixed: readonly string[], request: NvrtcRequest,
): Promise<KernelImage> {
  const nvrtc = library.functions
  const { target, ptx } = targetFor(request.arch, supported)
  const options = [`--gpu-architecture=${target}`, ...fixed, ...(request.options ?? [])]
  const program = new BigUint64Array(1), context = `for ${target}`
  check(nvrtc, 'nvrtcCreateProgram', nvrtc.nvrtcCreateProgram(program, request.text, request.name ?? 'kernel.cu', 0, null, null), context)
  const handle = program[0] ?? 0n
  try {
    // The strings live in one block that stays reachable until the promise settles.
    const strings = options.map((option) => Buffer.from(`${option}\0`))
    const pointers = BigUint64Array.from(strings, (string) => library.ffi.addressOf(string))
    const status = await nvrtc.nvrtcCompileProgram.concurrently(handle, pointers.length, pointers)
    const log = readLog(nvrtc, handle, status, context)
    if (status !== 0) {
      const name = nvrtc.nvrtcGetErrorString(status), told = log.split('\n').filter(line => /error/i.test(line)).slice(0, 3)
      if (status !== compilationError) throw new NvrtcError('nvrtcCompileProgram', status, name, [context, ...told].join('; '))
      throw new CompileError(`NVRTC ${version.major}.${version.minor} ${context} (${strings.length} options)`, name, log, request.text)
    }
    const bytes = new BigUint64Array(1)
    const [size, get] = ptx ? (['nvrtcGetPTXSize', 'nvrtcGetPTX'] as const) : (['nvrtcGetCUBINSize', 'nvrtcGetCUBIN'] as const)
    check(nvrtc, size, nvrtc[size](handle, bytes), context)
    const image = new Uint8Array(Number(bytes[0]))
    check(nvrtc, get, nvrtc[get](handle, image), context)
    return { image, log, resources: parseResources(log), fromCache: false }
  } finally {
    nvrtc.nvrtcDestroyProgram(program)
  }
}

/** What the compiler said. After a failure whatever can be had of it, for that failure is the one to tell. */
function readLog(nvrtc: NvrtcFunctions, program: bigint, status: number, context: string): string {
  const bytes = new BigUint64Array(1)
  const sized = nvrtc.nvrtcGetProgramLogSize(program, bytes)
  if (status === 0) check(nvrtc, 'nvrtcGetProgramLogSize', sized, context)
  if (sized !== 0 || (bytes[0] ?? 0n) <= 1n) return ''
  const log = Buffer.alloc(Number(bytes[0]) + 1)
  const read = nvrtc.nvrtcGetProgramLog(program, log)
  if (status === 0) check(nvrtc, 'nvrtcGetProgramLog', read, context)
  return log.toString('utf8', 0, log.indexOf(0))
}

/** The one status that is about the text. */
const compilationError = 6

/** @param context the library's file, or what was compiled for */
function check(nvrtc: NvrtcFunctions, call: string, status: number, context: string): void {
  if (status !== 0) throw new NvrtcError(call, status, nvrtc.nvrtcGetErrorString(status), context)
}

/** Reads ptxas' report: one record per kernel, in the order of the log. PTX has none. */
export function parseResources(log: string): KernelResources[] {
  const found: KernelResources[] = []
  let current: { name: string; arch: string; spillStores: number; spillLoads: number } | undefined
  for (const line of log.split('\n')) {
    const entry = /Compiling entry function '([^']+)' for '([^']+)'/.exec(line)
    if (entry !== null) current = { name: entry[1] ?? '', arch: entry[2] ?? '', spillStores: 0, spillLoads: 0 }
    if (current === undefined) continue
    const spills = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line)
    if (spills !== null) {
      current.spillStores = Number(spills[1])
      current.spillLoads = Number(spills[2])
    }
    const used = /Used (\d+) registers/.exec(line)
    if (used !== null) {
      found.push({ ...current, registers: Number(used[1]), sharedBytes: Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0) })
      current = undefined
    }
  }
  return found
}

/** At most so many at a time; the others wait in order. */
function limiter(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0
  const waiting: (() => void)[] = []
  return async (work) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve))
    else running++
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next === undefined) running--
      else next()
    }
  }
}
