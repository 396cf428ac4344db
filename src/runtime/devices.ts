/** Which devices there are, and the opening of one with the compiler that belongs to it. */
import { WeftError } from '../dsl/errors.js'
import { openCache, withCache, type KernelCache } from './cache.js'
import type { Compiler } from './compiler.js'
import type { DriverLibrary } from './driver-calls.js'
import { DriverDevice } from './driver-device.js'
import { buildEmulatorLibrary } from './emulator/compile.js'
import { EnvironmentError } from './errors.js'
import { defaultFfi, driverTable, emulatorTable, openLibrary, type Ffi, type Library } from './ffi/index.js'
import { findDriver, notFound, type CudaVersion, type Search } from './find.js'
import { emulatorFolder, openHostCompiler } from './host-compiler.js'
import { openNvrtc } from './nvrtc.js'
import { realSystem, type SystemView } from './system.js'
import './lifetime.js'

export type DeviceSpec = 'cuda' | `cuda:${number}` | 'emulator'

export interface OpenOptions {
  readonly system?: SystemView
  readonly ffi?: Ffi
  /** Paths of the libraries, before any search. */
  readonly libcuda?: string
  readonly nvrtc?: string
  readonly noCache?: boolean
  readonly cache?: KernelCache
  /** Waits after each launch, so that an error names its kernel. */
  readonly checkLaunches?: boolean
}

/** A device, and the compiler whose images it loads. */
export interface OpenedDevice extends Disposable {
  readonly device: DriverDevice
  readonly compiler: Compiler
  /** How its library was found. */
  readonly foundVia: string
  readonly warnings: readonly string[]
  /** The emulator's own settings; undefined on a GPU. */
  readonly emulator: EmulatorControls | undefined
}

export interface EmulatorControls {
  /** In which order blocks and threads run: ascending, descending, warp-greedy, warp-greedy-descending, random:SEED. */
  setOrder(order: string): void
  /** Since the library was loaded. */
  statistics(): { readonly kernels: number; readonly blocks: number; readonly switches: number }
}

export interface ParsedSpec {
  readonly kind: 'cuda' | 'emulator'
  readonly ordinal: number
}

export function parseDeviceSpec(spec: string): ParsedSpec {
  const match = /^(?:cuda(?::(\d{1,3}))?|(emulator))$/.exec(spec)
  if (spec === 'reference') {
    throw new WeftError('device-spec', "'reference' is the interpreter: it is no device that can be opened", { fix: "compile(outputs, { device: 'reference' }) runs a program on it" })
  }
  if (match === null) throw new WeftError('device-spec', `'${spec}' names no device`, { fix: "use 'cuda', 'cuda:1' or 'emulator'" })
  return match[2] === undefined ? { kind: 'cuda', ordinal: Number(match[1] ?? 0) } : { kind: 'emulator', ordinal: 0 }
}

/** The text of an option or of the environment as a `DeviceSpec`. @throws WeftError `device-spec` */
export function deviceSpec(text: string): DeviceSpec {
  const { kind, ordinal } = parseDeviceSpec(text)
  return kind === 'cuda' ? `cuda:${ordinal}` : 'emulator'
}

/**
 * Opens a device: the one asked for, else the one `WEFT_DEVICE` names, else the best there is (cuda, then emulator).
 * What was asked for is never silently replaced by another.
 */
export async function openDevice(spec?: DeviceSpec, options: OpenOptions = {}): Promise<OpenedDevice> {
  const system = options.system ?? realSystem()
  const fromEnvironment = system.environment['WEFT_DEVICE'] ?? ''
  const wanted: string | undefined = spec ?? (fromEnvironment === '' ? undefined : fromEnvironment)
  if (wanted !== undefined) {
    const { kind, ordinal } = parseDeviceSpec(wanted)
    return kind === 'cuda' ? openCuda(ordinal, { ...options, system }) : openEmulator({ ...options, system })
  }
  let noCuda: unknown
  try {
    return openCuda(0, { ...options, system })
  } catch (error) {
    if (!(error instanceof EnvironmentError)) throw error
    noCuda = error
  }
  try {
    return await openEmulator({ ...options, system })
  } catch (error) {
    if (!(error instanceof WeftError)) throw error
    throw new EnvironmentError('no-device', `no device can run kernels.\n  cuda: ${reasonOf(noCuda)}\n  emulator: ${reasonOf(error)}`, {
      cause: error, fix: 'install g++ for the emulator; the reference device needs nothing (--device reference)',
    })
  }
}

const reasonOf = (error: unknown): string => (error instanceof WeftError ? error.reason : error instanceof Error ? error.message : String(error))

const versionOf = (number: number): CudaVersion => ({ major: Math.floor(number / 1000), minor: Math.floor((number % 1000) / 10) })

/** The driver's library, bound. */
export function openDriver(options: OpenOptions = {}): { library: DriverLibrary; search: Search } {
  const system = options.system ?? realSystem()
  const search = findDriver({ path: options.libcuda, system })
  if (search.chosen === undefined) throw notFound(search)
  return { library: openLibrary(options.ffi ?? defaultFfi(system.environment), 'the CUDA driver', search.chosen.file, driverTable), search }
}

const cacheOf = (options: OpenOptions, system: SystemView): KernelCache =>
  options.cache ?? openCache({ environment: system.environment, noCache: options.noCache === true })

function openCuda(ordinal: number, options: OpenOptions & { readonly system: SystemView }): OpenedDevice {
  const { library, search } = openDriver(options)
  const device = withWarnings(search, () => new DriverDevice(library, { kind: 'cuda', ordinal, checkLaunches: options.checkLaunches === true }))
  try {
    const nvrtc = openNvrtc({ path: options.nvrtc, driver: versionOf(device.driverVersion), system: options.system, ...(options.ffi === undefined ? {} : { ffi: options.ffi }) })
    return {
      device,
      compiler: withCache(nvrtc, cacheOf(options, options.system)),
      foundVia: search.chosen?.foundVia ?? '',
      warnings: [...search.warnings, ...(nvrtc.search?.warnings ?? [])],
      emulator: undefined,
      [Symbol.dispose]: () => device[Symbol.dispose](),
    }
  } catch (error) {
    device[Symbol.dispose]()
    throw error
  }
}

/** A driver that does not start is most often one of the traps that the search noticed. */
function withWarnings<T>(search: Search, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof EnvironmentError) || search.warnings.length === 0) throw error
    throw new EnvironmentError(error.code, `${error.reason}\n  ${search.warnings.join('\n  ')}`, { cause: error, fix: error.fix })
  }
}

async function openEmulator(options: OpenOptions & { readonly system: SystemView }): Promise<OpenedDevice> {
  const cache = cacheOf(options, options.system)
  const folder = emulatorFolder(cache)
  const compiler = openHostCompiler({ cacheDir: folder })
  const library = await emulatorLibrary(folder, options.ffi ?? defaultFfi(options.system.environment))
  const device = new DriverDevice(library, {
    kind: 'emulator', checkLaunches: options.checkLaunches === true, explain: () => lastFailure(library),
  })
  return {
    device,
    compiler: withCache(compiler, cache),
    foundVia: 'built by the host compiler',
    warnings: [],
    emulator: controlsOf(library),
    [Symbol.dispose]: () => device[Symbol.dispose](),
  }
}

/** A file in the cache that does not load is a miss: it is built again, once. */
async function emulatorLibrary(folder: string, ffi: Ffi): Promise<Library<typeof emulatorTable>> {
  const load = (file: string): Library<typeof emulatorTable> => openLibrary(ffi, "the emulator's library", file, emulatorTable)
  try {
    return load(await buildEmulatorLibrary(folder))
  } catch (error) {
    if (!(error instanceof EnvironmentError) || error.code !== 'library-load') throw error
    return load(await buildEmulatorLibrary(folder, true))
  }
}

const controlsOf = (library: Library<typeof emulatorTable>): EmulatorControls => ({
  setOrder(order) {
    if (library.functions.weftEmulatorSetOrder(order) !== 0) {
      throw new WeftError('emulator-order', `the emulator knows no order '${order}'`, { fix: 'ascending, descending, warp-greedy, warp-greedy-descending or random:SEED' })
    }
  },
  statistics() {
    const values = new BigUint64Array(3)
    library.functions.weftEmulatorStatistics(values)
    return { kernels: Number(values[0]), blocks: Number(values[1]), switches: Number(values[2]) }
  },
})

/** The emulator's own sentence about the kernel that failed last: which thread, which line, which index. */
function lastFailure(library: Library<typeof emulatorTable>): string {
  if (!library.has('weftEmulatorLastFailure')) return ''
  const text = Buffer.alloc(4096)
  const length = Number(library.functions.weftEmulatorLastFailure(text, text.length))
  return text.toString('utf8', 0, Math.min(length, text.length - 1)).replace(/\0.*$/s, '')
}

/** One line of `deviceReport`. */
export interface DeviceEntry {
  readonly spec: DeviceSpec
  readonly available: boolean
  /** What it is, or why it cannot be used. */
  readonly detail: string
  readonly arch: string | undefined
  readonly foundVia: string | undefined
  readonly fix: string | undefined
}

/** Every device of this machine that can run kernels, and why the others cannot. */
export async function deviceReport(options: OpenOptions = {}): Promise<readonly DeviceEntry[]> {
  const entries: DeviceEntry[] = []
  for (let ordinal = 0; ; ordinal++) {
    const entry = await tryDevice(`cuda:${ordinal}`, options)
    // The first number without a device ends the list; number 0 is always told about.
    if (!entry.available && ordinal > 0) break
    entries.push(entry)
    if (!entry.available) break
  }
  entries.push(await tryDevice('emulator', options))
  return entries
}

async function tryDevice(spec: DeviceSpec, options: OpenOptions): Promise<DeviceEntry> {
  try {
    using opened = await openDevice(spec, options)
    const { device } = opened
    const { total } = device.memory()
    return {
      spec, available: true, arch: device.arch, foundVia: opened.foundVia, fix: undefined,
      detail: `${device.name}, ${device.multiprocessors} multiprocessors, ${(total / 2 ** 30).toFixed(1)} GiB, ${opened.compiler.id}`,
    }
  } catch (error) {
    return { spec, available: false, arch: undefined, foundVia: undefined, detail: reasonOf(error), fix: error instanceof WeftError ? error.fix : undefined }
  }
}
