/**
 * Where libcuda and NVRTC are. The order is fixed, every hit says how it was found and every miss why it was passed
 * over, so that `weft doctor` and the error messages can tell the whole story:
 *
 * option → WEFT_NVRTC / WEFT_LIBCUDA → already in the process → .weft/ (npm run setup:nvrtc) → Python wheels of
 * VIRTUAL_ENV, CONDA_PREFIX, user and system (PyTorch's too) → CUDA_PATH, CUDA_HOME → the loader → /usr/local/cuda*,
 * /opt/cuda → the distribution's folders → WSL.
 *
 * Only the NVRTC that is chosen is loaded: the versions of the others are read off the files beside them.
 */
import { join } from 'node:path'
import { EnvironmentError } from './errors.js'
import { nvrtcPlaces, driverPlaces, type Place } from './find-places.js'
import { loadedFiles, realSystem, type SystemView } from './system.js'

export interface CudaVersion {
  readonly major: number
  readonly minor: number
}

export interface Hit {
  /** A path, or a soname that the loader knows. */
  readonly file: string
  readonly foundVia: string
  /** NVRTC only; read off file names, the library itself is asked after loading. */
  readonly version: CudaVersion | undefined
}

export type MissReason = 'absent' | 'disabled' | 'not ELF' | 'wrong architecture' | 'failed to load' | 'stub library' | 'unsuitable for the driver'
export interface Miss {
  readonly place: string
  readonly foundVia: string
  readonly reason: MissReason
  readonly detail?: string
}

export interface Search {
  readonly library: 'libcuda' | 'NVRTC'
  readonly chosen: Hit | undefined
  /** Other copies that would load, and were not chosen. */
  readonly others: readonly Hit[]
  readonly misses: readonly Miss[]
  /** Known traps seen on this machine. */
  readonly warnings: readonly string[]
}

const machines: { readonly [arch: string]: number } = { x64: 62, arm64: 183 }

/** Why a file is no library for this process, from its ELF header. */
function elfProblem(system: SystemView, file: string): Omit<Miss, 'place' | 'foundVia'> | undefined {
  const start = system.firstBytes(file, 20)
  if (start === undefined) return { reason: 'absent' }
  if (!(start[0] === 0x7f && start[1] === 0x45 && start[2] === 0x4c && start[3] === 0x46)) {
    return { reason: 'not ELF', detail: 'a linker script or a text file, not a library' }
  }
  const machine = (start[18] ?? 0) | ((start[19] ?? 0) << 8)
  if (start[4] !== 2 || machine !== machines[system.arch]) return { reason: 'wrong architecture', detail: `ELF machine ${machine}, ${start[4] === 2 ? 64 : 32} bits` }
  return undefined
}

/** Walks the places; gives what is usable in order, without loading files. */
function survey(system: SystemView, places: Iterable<Place>): { hits: Hit[]; misses: Miss[]; order: string[] } {
  const hits: Hit[] = [], misses: Miss[] = [], order: string[] = []
  const seen = new Set<string>()
  for (const place of places) {
    order.push(place.via)
    if (place.kind === 'disabled') {
      misses.push({ place: place.name, foundVia: place.via, reason: 'disabled' })
      break
    }
    if (place.kind === 'soname') {
      hits.push({ file: place.name, foundVia: place.via, version: undefined })
      continue
    }
    const files = place.kind === 'folder' ? system.list(place.name).filter((name) => place.pattern.test(name)).map((name) => join(place.name, name)) : [place.name]
    if (files.length === 0) misses.push({ place: place.name, foundVia: place.via, reason: 'absent' })
    for (const file of files) {
      const real = system.real(file)
      if (seen.has(real)) continue
      seen.add(real)
      const problem = elfProblem(system, file)
      if (problem === undefined && /\/stubs\//.test(real)) {
        misses.push({ place: file, foundVia: place.via, reason: 'stub library', detail: "a toolkit's stub for linking, which cannot run anything" })
      } else if (problem === undefined) hits.push({ file, foundVia: place.via, version: versionBeside(system, file) })
      else misses.push({ place: file, foundVia: place.via, ...problem })
    }
    if (place.only) break
  }
  return { hits, misses, order }
}

/** NVRTC's version: from its real name (libnvrtc.so.12.4.127), else from the builtins that must lie beside it. */
function versionBeside(system: SystemView, file: string): CudaVersion | undefined {
  const real = system.real(file)
  const own = /\.so\.(\d+)\.(\d+)/.exec(real)
  if (own !== null) return { major: Number(own[1]), minor: Number(own[2]) }
  const major = Number(/\.so\.(\d+)$/.exec(real)?.[1] ?? NaN)
  const minors = system.list(join(real, '..'))
    .map((name) => /^libnvrtc-builtins(?:-[0-9a-f]+)?\.so\.(\d+)\.(\d+)/.exec(name))
    .filter((match) => match !== null && Number(match[1]) === major)
    .map((match) => Number(match?.[2]))
  if (Number.isNaN(major)) return undefined
  return { major, minor: minors.length === 0 ? 0 : Math.max(...minors) }
}

/** Misses in the order of the search, though some are only found out when loading. */
const sorted = (misses: readonly Miss[], order: readonly string[]): Miss[] =>
  [...misses].sort((a, b) => order.indexOf(a.foundVia) - order.indexOf(b.foundVia))

const atMost = (a: CudaVersion, b: CudaVersion): boolean => a.major < b.major || (a.major === b.major && a.minor <= b.minor)

/** The first that loads, in the given order; the rest of the hits stay untouched. */
function loadFirst(system: SystemView, order: readonly Hit[], misses: Miss[]): Hit | undefined {
  for (const hit of order) {
    const problem = system.load(hit.file)
    if (problem === undefined) {
      const stub = hit.file.includes('/') ? undefined : loadedFiles(system, /\/libcuda\.so/).find((file) => /\/stubs\//.test(file))
      if (stub === undefined) return hit
      misses.push({ place: stub, foundVia: hit.foundVia, reason: 'stub library', detail: 'a `stubs` folder is on LD_LIBRARY_PATH' })
      continue
    }
    const absent = !hit.file.includes('/') && /cannot open shared object file/.test(problem)
    misses.push({ place: hit.file, foundVia: hit.foundVia, reason: absent ? 'absent' : 'failed to load', ...(absent ? {} : { detail: problem }) })
  }
  return undefined
}

/** The driver: the first in the order that loads. */
export function findDriver(options: { path?: string | undefined; system?: SystemView } = {}): Search {
  const system = options.system ?? realSystem()
  const { hits, misses, order } = survey(system, driverPlaces(system, options.path))
  const chosen = loadFirst(system, hits, misses)
  return { library: 'libcuda', chosen, others: [], misses: sorted(misses, order), warnings: driverWarnings(system, chosen) }
}

/**
 * NVRTC: the newest that is not newer than the driver; else the newest of the driver's major, whose cubins the driver
 * still loads; without a driver the newest of all. An option or WEFT_NVRTC is taken as it is.
 */
export function findNvrtc(options: { path?: string | undefined; driver?: CudaVersion | undefined; system?: SystemView } = {}): Search {
  const system = options.system ?? realSystem()
  const { driver } = options
  const { hits, misses, order: places } = survey(system, nvrtcPlaces(system, options.path))
  const forced = options.path !== undefined || (system.environment['WEFT_NVRTC'] ?? '') !== ''
  const version = (hit: Hit): CudaVersion => hit.version ?? { major: Number(/\.so\.(\d+)/.exec(hit.file)?.[1] ?? 0), minor: 0 }
  const suits = (hit: Hit): boolean => driver === undefined || forced || version(hit).major <= driver.major
  const order = hits.filter(suits).sort((a, b) => {
    const [x, y] = [version(a), version(b)]
    if (driver !== undefined && atMost(x, driver) !== atMost(y, driver)) return atMost(x, driver) ? -1 : 1
    return y.major - x.major || y.minor - x.minor
  })
  for (const hit of hits) {
    if (suits(hit) || !hit.file.includes('/')) continue
    misses.push({ place: hit.file, foundVia: hit.foundVia, reason: 'unsuitable for the driver', detail: `it is CUDA ${version(hit).major}, the driver is ${driver?.major}.${driver?.minor}` })
  }
  const chosen = loadFirst(system, order, misses)
  const others = order.filter((hit) => hit !== chosen && hit.file.includes('/') && !misses.some((miss) => miss.place === hit.file))
  return { library: 'NVRTC', chosen, others, misses: sorted(misses, places), warnings: nvrtcWarnings(system, chosen) }
}

const isWsl = (system: SystemView): boolean => /microsoft/i.test(system.text('/proc/version') ?? '')

/** The traps that make a driver look broken, each by name. */
function driverWarnings(system: SystemView, chosen: Hit | undefined): string[] {
  const warnings: string[] = []
  const loaded = [...new Set(loadedFiles(system, /\/libcuda\.so/).map((file) => system.real(file)))]
  const file = chosen === undefined ? '' : chosen.file.includes('/') ? system.real(chosen.file) : (loaded[0] ?? '')
  const visible = system.environment['CUDA_VISIBLE_DEVICES']
  if (visible !== undefined && (visible.trim() === '' || visible.trim() === '-1')) warnings.push('CUDA_VISIBLE_DEVICES is empty: it hides every GPU from this process')
  if (loaded.length > 1) warnings.push(`two different drivers are loaded in this process: ${loaded.join(', ')}`)
  if (/\/compat\//.test(file)) warnings.push(`the driver comes from a cuda/compat folder (${file}): on a host with a newer driver this gives error 803`)
  if (isWsl(system) && file !== '' && !file.includes('/wsl/')) warnings.push(`this is WSL, but the driver is ${file} and not the one in /usr/lib/wsl/lib: remove the distribution's libcuda package`)
  const kernel = /Kernel Module[^\d]*(\d+\.\d+(?:\.\d+)?)/.exec(system.text('/proc/driver/nvidia/version') ?? '')?.[1]
  const user = /libcuda\.so\.(\d+\.\d+(?:\.\d+)?)$/.exec(file)?.[1]
  if (kernel !== undefined && user !== undefined && kernel !== user && !/\/compat\//.test(file)) {
    warnings.push(`the kernel module is ${kernel} and libcuda is ${user}: reboot, or reload the module, after a driver update`)
  }
  if (chosen === undefined) {
    const container = system.exists('/.dockerenv') || system.exists('/run/.containerenv')
    if (system.exists('/dev/nvidiactl')) warnings.push('there is an NVIDIA device file (/dev/nvidiactl) but no libcuda: the driver is not installed for this system or not mounted')
    else if (container) warnings.push("this is a container without the host's driver: start it with GPUs (`--gpus all`), if the host has any")
  }
  return warnings
}

function nvrtcWarnings(system: SystemView, chosen: Hit | undefined): string[] {
  if (chosen === undefined || !chosen.file.includes('/')) return []
  const beside = system.list(join(system.real(chosen.file), '..'))
  return beside.some((name) => name.startsWith('libnvrtc-builtins')) ? [] : [`${chosen.file} has no libnvrtc-builtins beside it: compiling may fail with NVRTC error 7`]
}

/** The error for a search that found nothing: every place, and the one fix that is most likely right here. */
export function notFound(search: Search): EnvironmentError {
  const disabled = search.misses.find((miss) => miss.reason === 'disabled')
  const nvrtc = search.library === 'NVRTC'
  const why = nvrtc ? 'no kernel can be compiled for a GPU' : 'no GPU can be used'
  const places = search.misses.map((miss) => `    ${describeMiss(miss)}`)
  const fix = disabled !== undefined ? `unset ${disabled.place}`
    : nvrtc ? 'npm run setup:nvrtc (58 MB, needs no GPU), or set WEFT_NVRTC to the path of libnvrtc.so.12 or .13'
      : (search.warnings[0] ?? "install NVIDIA's driver, or set WEFT_LIBCUDA to the path of libcuda.so.1")
  return new EnvironmentError(nvrtc ? 'no-nvrtc' : 'no-driver',
    `${search.library} was not found, so ${why}. Places tried, in order:\n${places.join('\n')}`,
    { fix: `${fix}. The emulator and the reference device still work (--device emulator)` })
}

export const describeMiss = (miss: Miss): string => `${miss.place}: ${miss.reason}${miss.detail === undefined ? '' : `, ${miss.detail}`} [${miss.foundVia}]`
