/**
 * Says what works on this machine and what to do about the rest. Everything is really tried: the FFI package with odd
 * arguments, a compilation, and a kernel with a checked result on each device.
 */
import { release } from 'node:os'
import { WeftError } from '../dsl/errors.js'
import { openCache } from './cache.js'
import type { KernelImage } from './compiler.js'
import { deviceReport, openDevice, openDriver, type DeviceSpec, type OpenOptions } from './devices.js'
import { findHostCompiler } from './emulator/compile.js'
import { EnvironmentError, formatBytes } from './errors.js'
import { openLibrary } from './ffi/bind.js'
import { defaultFfi } from './ffi/index.js'
import { signature } from './ffi/table.js'
import { describeMiss, findDriver, findNvrtc, type CudaVersion, type Search } from './find.js'
import { openNvrtc } from './nvrtc.js'
import { realSystem, type SystemView } from './system.js'
import './lifetime.js'

export type DoctorStatus = 'PASS' | 'WARN' | 'FAIL'

export interface DoctorRow {
  /** Stable, for programs: 'ffi', 'libcuda', 'nvrtc', 'compile', 'device cuda:0' ... */
  readonly id: string
  readonly status: DoctorStatus
  readonly detail: string
  readonly fix?: string
  /** Every place tried, in order, with what was there. */
  readonly places?: readonly string[]
}

export interface DoctorReport {
  readonly version: 1
  readonly rows: readonly DoctorRow[]
  /** Devices that ran a kernel with the right result, the best first. */
  readonly devices: readonly string[]
  /** 0: kernels can run here. 1: they cannot. */
  readonly exitCode: 0 | 1
}

type Check = (context: Context) => DoctorRow | Promise<DoctorRow>
interface Context {
  readonly options: OpenOptions
  readonly system: SystemView
}

export async function doctor(options: OpenOptions = {}): Promise<DoctorReport> {
  const system = options.system ?? realSystem()
  const context = { options: { ...options, system }, system }
  const rows: DoctorRow[] = []
  const add = async (id: string, check: Check): Promise<DoctorRow> => {
    let row: DoctorRow
    try {
      row = await check(context)
    } catch (error) {
      row = failed(id, error)
    }
    rows.push(row)
    return row
  }
  await add('system', checkSystem)
  await add('ffi', checkFfi)
  await add('libcuda', checkDriver)
  await add('nvrtc', checkNvrtc)
  await add('compile', checkCompile)
  await add('host compiler', checkHostCompiler)
  const devices: string[] = []
  for (const entry of await deviceReport(context.options)) {
    const id = `device ${entry.spec}`
    const row = await add(id, () => entry.available
      ? runKernel(id, entry.spec, entry.detail, context)
      : { id, status: 'WARN', detail: `not usable: ${entry.detail.split(/\. Places tried|\n/)[0] ?? ''}`, ...fixOf(entry.fix) })
    if (row.status === 'PASS') devices.push(entry.spec)
  }
  await add('cache', checkCache)
  return { version: 1, rows, devices, exitCode: devices.length > 0 ? 0 : 1 }
}

const fixOf = (fix: string | undefined): { fix?: string } => (fix === undefined ? {} : { fix })

const failed = (id: string, error: unknown): DoctorRow => ({
  id, status: 'FAIL',
  detail: error instanceof WeftError ? error.reason : error instanceof Error ? error.message : String(error),
  ...fixOf(error instanceof WeftError ? error.fix : undefined),
})

function checkSystem({ system }: Context): DoctorRow {
  const wsl = /microsoft/i.test(system.text('/proc/version') ?? '') ? ', WSL' : ''
  const container = system.exists('/.dockerenv') || system.exists('/run/.containerenv') ? ', in a container' : ''
  const detail = `${system.platform} ${release()} ${system.arch}${wsl}${container}, Node ${process.versions.node}`
  return system.platform === 'linux'
    ? { id: 'system', status: 'PASS', detail }
    : { id: 'system', status: 'WARN', detail, fix: 'GPU and emulator are tested on Linux only; the reference device works everywhere' }
}

/** What FFI packages have got wrong before: many arguments, integers above 2^53, NUL in strings. */
function checkFfi({ options, system }: Context): DoctorRow {
  const ffi = options.ffi ?? defaultFfi(system.environment)
  const problems: string[] = []
  const names = ['libc.so.6', 'libc.musl-x86_64.so.1', 'libc.musl-aarch64.so.1']
  const soname = names.find((name) => system.load(name) === undefined)
  if (soname === undefined) return { id: 'ffi', status: 'WARN', detail: `${ffi.id} loads, but there is no C library to try it on (${names.join(', ')})` }
  const c = openLibrary(ffi, 'the C library', soname, {
    strtoull: signature('u64', 'text: string', 'end: bytes', 'base: i32'),
    snprintf: signature('i32', 'to: bytes', 'size: size', 'format: string', 'a: u64', 'b: u32', 'c: u32', 'd: u32', 'e: u32', 'f: u32', 'g: u32', 'h: pointer'),
  }).functions
  const expect = (what: string, got: unknown, wanted: unknown): void => {
    if (got !== wanted) problems.push(`${what} gave ${String(got)} instead of ${String(wanted)}`)
  }
  const text = Buffer.alloc(256)
  c.snprintf(text, text.length, '%llu %u %u %u %u %u %u %llx', 2n ** 64n - 1n, 1, 2, 3, 4, 5, 4294967295, 0xffff_8000_0000_0001n)
  expect('a call with 11 arguments', text.toString('utf8', 0, text.indexOf(0)), '18446744073709551615 1 2 3 4 5 4294967295 ffff800000000001')
  expect('a result above 2^53', c.strtoull('9007199254740993', null, 10), 9007199254740993n)
  try {
    c.strtoull('1\u00002', null, 10)
    problems.push('a string with NUL was accepted')
  } catch {
    // As it should be: C would have cut it.
  }
  return problems.length === 0
    ? { id: 'ffi', status: 'PASS', detail: `${ffi.id}: 11 arguments, 64-bit integers and strings arrive unchanged` }
    : { id: 'ffi', status: 'FAIL', detail: `${ffi.id}: ${problems.join('; ')}`, fix: 'install the exact version in package.json (npm ci)' }
}

const cuda = (version: CudaVersion | undefined): string => (version === undefined ? 'CUDA of unknown version' : `CUDA ${version.major}.${version.minor}`)

const placesOf = (search: Search): readonly string[] => [
  ...(search.chosen === undefined ? [] : [`${search.chosen.file}: chosen [${search.chosen.foundVia}]`]),
  ...search.others.map((hit) => `${hit.file}: ${cuda(hit.version)}, not chosen [${hit.foundVia}]`),
  ...search.misses.map(describeMiss),
]

const driverVersion = ({ options }: Context): CudaVersion | undefined => {
  const version = new Int32Array(1)
  try {
    openDriver(options).library.functions.cuDriverGetVersion(version)
  } catch {
    return undefined
  }
  const number = version[0] ?? 0
  return { major: Math.floor(number / 1000), minor: Math.floor((number % 1000) / 10) }
}

function checkDriver(context: Context): DoctorRow {
  const { options, system } = context
  const search = findDriver({ path: options.libcuda, system })
  const places = placesOf(search)
  if (search.chosen === undefined) {
    return { id: 'libcuda', status: 'WARN', detail: ['not found: no GPU can be used', ...search.warnings].join('; '), places, fix: "install NVIDIA's driver, or set WEFT_LIBCUDA to libcuda.so.1; without a GPU the emulator runs kernels" }
  }
  const detail = `${search.chosen.file} (${search.chosen.foundVia}), for ${cuda(driverVersion(context))}`
  return search.warnings.length === 0
    ? { id: 'libcuda', status: 'PASS', detail, places }
    : { id: 'libcuda', status: 'WARN', detail: `${detail}; ${search.warnings.join('; ')}`, places }
}

function checkNvrtc(context: Context): DoctorRow {
  const { options, system } = context
  const search = findNvrtc({ path: options.nvrtc, driver: driverVersion(context), system })
  const places = placesOf(search)
  if (search.chosen === undefined) return { id: 'nvrtc', status: 'WARN', detail: 'not found: kernels cannot be compiled for a GPU', places, fix: 'npm run setup:nvrtc, or set WEFT_NVRTC to libnvrtc.so.12 or .13' }
  const nvrtc = openNvrtc({ path: search.chosen.file, system, ...(options.ffi === undefined ? {} : { ffi: options.ffi }) })
  const archs = `sm_${nvrtc.supportedArchs[0]} to sm_${nvrtc.supportedArchs.at(-1)}`
  const detail = `${search.chosen.file} (${search.chosen.foundVia}), ${cuda(nvrtc.version)}, ${archs}`
  return { id: 'nvrtc', status: search.warnings.length === 0 ? 'PASS' : 'WARN', detail: [detail, ...search.warnings].join('; '), places }
}

// Without a fused multiply-add the result of this is known to the bit.
const kernel = `extern "C" __global__ void weftDoctor(Global<const float> in, Global<float> out, int count, float factor, float offset) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = in[i] * factor + offset;
}
`
const testText = { cuda: `template <class T> using Global = T*;\n${kernel}`, host: kernel } as const

async function checkCompile({ options, system }: Context): Promise<DoctorRow> {
  let nvrtc
  try {
    nvrtc = openNvrtc({ path: options.nvrtc, system, ...(options.ffi === undefined ? {} : { ffi: options.ffi }) })
  } catch (error) {
    if (!(error instanceof EnvironmentError && error.code === 'no-nvrtc')) throw error
    return { id: 'compile', status: 'WARN', detail: 'not tried: there is no NVRTC', fix: 'npm run setup:nvrtc' }
  }
  const start = performance.now()
  const { image, resources } = await nvrtc.compile({ text: testText.cuda, kernels: ['weftDoctor'], arch: `sm_${nvrtc.supportedArchs.includes(90) ? 90 : nvrtc.supportedArchs.at(-1)}` })
  const elf = image[0] === 0x7f && resources[0]?.name === 'weftDoctor'
  const took = `${(performance.now() - start).toFixed(0)} ms`
  return elf
    ? { id: 'compile', status: 'PASS', detail: `a kernel to a cubin of ${image.length} bytes in ${took}, ${resources[0]?.registers} registers` }
    : { id: 'compile', status: 'FAIL', detail: `NVRTC gave something that is no cubin (${image.length} bytes)`, fix: 'npm run setup:nvrtc -- --force' }
}

function checkHostCompiler(): DoctorRow {
  const found = findHostCompiler()
  return 'missing' in found
    ? { id: 'host compiler', status: 'WARN', detail: `${found.missing} The emulator needs one`, fix: found.fix }
    : { id: 'host compiler', status: 'PASS', detail: `${found.path}, ${found.version}` }
}

/** Compiles, loads and runs a kernel, and compares every element. */
async function runKernel(id: string, spec: DeviceSpec, detail: string, { options }: Context): Promise<DoctorRow> {
  using opened = await openDevice(spec, options)
  const { device, compiler } = opened
  const count = 1000, factor = Math.fround(1.1), offset = Math.fround(-0.3)
  const input = Float32Array.from({ length: count }, (_, i) => Math.fround(i * 0.37))
  const start = performance.now()
  const compiled: KernelImage = await compiler.compile({ text: testText[compiler.target], kernels: ['weftDoctor'], arch: device.arch })
  const compileTime = performance.now() - start
  using from = device.alloc(input.byteLength, 'doctor input')
  using to = device.alloc(input.byteLength, 'doctor output')
  using module = device.load(compiled.image)
  using stream = device.stream()
  device.upload(from, input)
  const time = await device.time(stream, () => device.launch(module.kernel('weftDoctor'), { grid: [Math.ceil(count / 128), 1, 1], block: 128, shared: 0, stream }, [
    from, to, { kind: 'i32', value: count }, { kind: 'f32', value: factor }, { kind: 'f32', value: offset },
  ]))
  const output = await device.download(to, new Float32Array(count), stream)
  const wrong = input.findIndex((x, i) => output[i] !== Math.fround(Math.fround(x * factor) + offset))
  if (wrong >= 0) {
    return { id, status: 'FAIL', detail: `${detail}: a kernel gave a wrong result at ${wrong}: ${output[wrong]}`, fix: 'report this with the whole output of `weft doctor --json`' }
  }
  const origin = compiled.fromCache ? 'from the cache' : 'compiled'
  return { id, status: opened.warnings.length === 0 ? 'PASS' : 'WARN', detail: [`${detail}; test kernel ${origin} in ${compileTime.toFixed(0)} ms, ran in ${(time * 1000).toFixed(0)} µs, result right`, ...opened.warnings].join('; ') }
}

function checkCache({ options, system }: Context): DoctorRow {
  const { folder, mode, reason, entries, bytes } = (options.cache ?? openCache({ environment: system.environment, noCache: options.noCache === true })).state()
  const detail = `${folder}: ${mode}, ${entries} kernels, ${formatBytes(bytes)}`
  return mode === 'on'
    ? { id: 'cache', status: 'PASS', detail }
    : { id: 'cache', status: 'WARN', detail: `${detail}; ${reason}`, fix: 'set WEFT_CACHE_DIR to a folder of your own; without it every run compiles anew' }
}

/** The report as text, for a terminal. `verbose` shows every place that was tried. */
export function renderDoctor(report: DoctorReport, options: { readonly verbose?: boolean } = {}): string {
  const width = Math.max(...report.rows.map((row) => row.id.length))
  const lines = report.rows.flatMap((row) => [
    `${row.status}  ${row.id.padEnd(width)}  ${row.detail}`,
    ...(options.verbose === true || row.status !== 'PASS' ? (row.places ?? []).map((place) => `${' '.repeat(width + 8)}${place}`) : []),
    ...(row.fix === undefined ? [] : [`${' '.repeat(width + 8)}fix: ${row.fix}`]),
  ])
  const verdict = report.devices.length > 0
    ? `Kernels run on: ${report.devices.join(', ')}.`
    : 'No device can run kernels; the reference device still evaluates programs (--device reference).'
  return [...lines, '', verdict].join('\n')
}
