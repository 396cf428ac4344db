/**
 * Compiles with the host's C++ compiler: the emulator's library once, and emitted kernels into shared objects that
 * the library's cuModuleLoadData takes.
 *
 * Both results are named by what they are made of (sources, compiler, flags), written to a temporary file and renamed,
 * so that several processes may share a cache directory. No shell is involved: names and texts cannot become commands.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { accessSync, constants, mkdtempSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { copyFile, mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { delimiter, dirname, isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { WeftError } from '../../dsl/errors.js'

export interface HostCompiler {
  readonly path: string
  /** The first line of --version. */
  readonly version: string
}
export interface MissingCompiler {
  readonly missing: string
  readonly fix: string
}
export interface HostOptions {
  /** -O0, -O1 or -O2. Fuzzing many small kernels is quicker with 1; 2 is the default. */
  readonly optimise?: 0 | 1 | 2
  /** Follows every byte of memory: finds races, copies read before their wait and reads of what nobody wrote in any order of threads. An access takes some 20 times as long. */
  readonly races?: boolean
  /** Where the precompiled header and temporary files go: without it a new folder, whose header serves this process only. */
  readonly cacheDir?: string
}

let privateDir: string | undefined   // a fixed name in a shared folder could be somebody else's
const sourceDir = fileURLToPath(new URL('.', import.meta.url))
const libraryParts = ['executor', 'cluster', 'copies', 'matrices', 'watch', 'orders', 'faults', 'pool', 'source', 'failures', 'memory', 'queue', 'driver-device', 'driver-memory', 'driver-work', 'driver-stream']

// ---- the compiler ----

let found: HostCompiler | MissingCompiler | undefined
let foundFor: string | undefined

/** $CXX, g++, clang++ or c++, whichever is there first. */
export function findHostCompiler(): HostCompiler | MissingCompiler {
  const asked = `${process.env['CXX'] ?? ''}|${process.env['PATH'] ?? ''}`
  if (found === undefined || foundFor !== asked) {
    found = lookForCompiler()
    foundFor = asked
  }
  return found
}

function lookForCompiler(): HostCompiler | MissingCompiler {
  if (process.platform !== 'linux') {
    return { missing: `The emulator runs on Linux; this is ${process.platform}.`, fix: 'use Linux, WSL or a container, or the reference device' }
  }
  const chosen = process.env['CXX']
  const names = chosen === undefined || chosen === '' ? ['g++', 'clang++', 'c++'] : [chosen]
  for (const name of names) {
    const path = executable(name)
    if (path === undefined) continue
    const { status, stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' })
    const version = stdout?.split('\n')[0]?.trim()
    if (status === 0 && version !== undefined && version !== '') return { path, version }
  }
  return {
    missing: `No C++ compiler: looked for ${names.join(', ')} in PATH${chosen === undefined || chosen === '' ? '' : ' (CXX names it)'}.`,
    fix: 'install one (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++) or name one in CXX',
  }
}

function executable(name: string): string | undefined {
  const places = isAbsolute(name) || name.includes('/') ? [name] : (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '').map((folder) => join(folder, name))
  return places.find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return statSync(path).isFile()
    } catch {
      return false
    }
  })
}

function neededCompiler(): HostCompiler {
  const compiler = findHostCompiler()
  if ('missing' in compiler) throw new WeftError('host-compiler-missing', compiler.missing, { fix: compiler.fix })
  return compiler
}

// ---- flags ----

let fusedFlags: readonly string[] | undefined

/** fmaf as one instruction instead of a call, where this processor has it: the result is the same. */
function processorFlags(): readonly string[] {
  if (fusedFlags !== undefined) return fusedFlags
  let flags = ''
  try {
    flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
  } catch {
    // no such file: the plain instruction set
  }
  const has = new Set(flags.split(' '))
  fusedFlags = process.arch === 'x64' && ['avx2', 'fma', 'bmi2', 'f16c'].every((name) => has.has(name)) ? ['-mavx2', '-mfma', '-mbmi2', '-mf16c'] : []
  return fusedFlags
}

function kernelFlags(compiler: HostCompiler, { optimise = 2, races = false }: HostOptions): readonly string[] {
  const isClang = /clang/i.test(compiler.version)
  // The handlers that these checks call are in registration.h: no sanitizer library is linked
  const checks = [isClang ? 'array-bounds' : 'bounds-strict', 'shift-exponent', 'integer-divide-by-zero', 'signed-integer-overflow', 'float-cast-overflow', 'return', 'unreachable']
  return [
    '-std=c++17', `-O${optimise}`, '-fPIC', '-fvisibility=hidden', '-w', ...processorFlags(), ...(races ? ['-DWEFT_CHECK_RACES'] : []),
    '-ffp-contract=off',   // a * b + c rounds twice unless the text says multiplyAdd
    '-fno-math-errno', '-fno-strict-aliasing', '-fno-exceptions', '-fno-rtti', '-fno-asynchronous-unwind-tables', '-fno-stack-protector',
    '-U_FORTIFY_SOURCE', ...(isClang ? ['-ferror-limit=10'] : ['-fno-gnu-unique', '-fmax-errors=10']),
    ...(process.arch === 'x64' ? ['-fcf-protection=none'] : []),
    `-fsanitize=${checks.join(',')}`, '-fno-sanitize-recover=all',
  ]
}

const linkFlags = ['-shared', '-nodefaultlibs', '-Wl,-Bsymbolic', '-Wl,-z,now', '-Wl,--build-id=none', '-s']
const libraries = ['-lm', '-lc', '-lgcc']

/** Names everything but the text that a compiled kernel depends on: part of a kernel cache's key. */
export function hostFingerprint(options: HostOptions = {}): string {
  const compiler = neededCompiler()
  return digest([compiler.path, compiler.version, ...kernelFlags(compiler, options), ...linkFlags, sourceDigest('.h')])
}

const digest = (parts: readonly string[]): string => parts.reduce((hash, part) => hash.update(`${part.length}:${part}`), createHash('sha256')).digest('hex').slice(0, 32)

const sourceDigests = new Map<string, string>()
function sourceDigest(extension: string): string {
  const known = sourceDigests.get(extension)
  if (known !== undefined) return known
  const files = readdirSync(sourceDir).filter((file) => file.endsWith(extension)).sort()
  const made = digest(files.flatMap((file) => [file, readFileSync(join(sourceDir, file), 'utf8')]))
  sourceDigests.set(extension, made)
  return made
}

// ---- building ----

/**
 * Compiles the library that stands in for libcuda, unless the cache has it.
 * @param again builds it even so, and puts it in the place of one that does not load
 * @returns its path, for koffi.load or dlopen
 */
export async function buildEmulatorLibrary(cacheDir: string, again = false): Promise<string> {
  const compiler = neededCompiler()
  const flags = ['-std=c++17', '-O2', '-fPIC', '-fvisibility=hidden', '-U_FORTIFY_SOURCE', '-pthread', ...(process.arch === 'x64' ? ['-fcf-protection=none'] : [])]
  const name = `libweft-emulator-${digest([compiler.path, compiler.version, ...flags, sourceDigest('.h'), sourceDigest('.cpp')])}.so`
  const path = join(cacheDir, name)
  const underWay = librariesUnderWay.get(path) ?? buildLibrary(compiler, flags, path, again).finally(() => librariesUnderWay.delete(path))
  librariesUnderWay.set(path, underWay)
  await underWay
  return path
}

const librariesUnderWay = new Map<string, Promise<void>>()

async function buildLibrary(compiler: HostCompiler, flags: readonly string[], path: string, again: boolean): Promise<void> {
  if (!again && await exists(path)) return
  await mkdir(dirname(path), { recursive: true })
  const text = libraryParts.map((part) => `#include "${part}.cpp"\n`).join('')   // one unit: the standard headers are read once
  await madeUnderAnotherName(path, async (temporary) => {
    await compile(compiler, [...flags, '-shared', '-Wl,-Bsymbolic', '-I', sourceDir, '-x', 'c++', '-', '-o', temporary, '-ldl'], text, 'the emulator')
  })
}

/**
 * Compiles emitted kernels to a shared object for the emulator's cuModuleLoadData.
 * @param text the host prelude (`preludeText(..., 'host')`) and the kernels
 * @param kernels the names of the `extern "C" __global__` functions in it
 */
export async function compileHost(text: string, kernels: readonly string[], options: HostOptions = {}): Promise<Uint8Array> {
  const bad = kernels.find((name) => !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
  if (bad !== undefined) throw new WeftError('kernel-name', `'${bad}' is no name for a kernel.`, { fix: 'use letters, digits and underscores' })
  const compiler = neededCompiler()
  const cacheDir = options.cacheDir ?? (privateDir ??= mkdtempSync(join(tmpdir(), 'weft-emulator-')))
  const flags = kernelFlags(compiler, options)
  const headers = await precompiledHeader(compiler, flags, cacheDir)
  const output = join(cacheDir, `kernels-${randomBytes(8).toString('hex')}.so`)
  try {
    await compile(compiler, [...flags, ...linkFlags, '-I', headers, '-x', 'c++', '-', '-o', output, ...libraries], hostUnit(text, kernels), `kernel ${kernels.join(', ')}`)
    return await readFile(output)
  } finally {
    await rm(output, { force: true })
  }
}

/** What the compiler gets: kernels under names that no C function has, and their text, from which failures quote lines. */
function hostUnit(text: string, kernels: readonly string[]): string {
  let fence = 'weft'
  while (text.includes(`)${fence}"`)) fence += '_'
  return [
    '#include "emulator.h"',
    ...kernels.map((name) => `#define ${name} weftText_${name}`),
    '#line 1 "kernel.cu"',
    text,
    '#line 1 "registration"',
    `static const char* const weftSource = R"${fence}(${text})${fence}";`,
    ...kernels.map((name) => `WEFT_KERNEL(${name}, ${clusterOf(text, name)}, &weftSource)`),
    '',
  ].join('\n')
}

/** What stands in `__cluster_dims__` of a kernel: a constant, by number or by name. */
const clusterOf = (text: string, name: string): string => new RegExp(`__cluster_dims__\\(([^(),]+)\\)[^;{}]*?\\b${name}\\s*\\(`).exec(text)?.[1] ?? '1'

const headersUnderWay = new Map<string, Promise<string>>()

/** A directory with the headers and, for GCC, emulator.h.gch. */
function precompiledHeader(compiler: HostCompiler, flags: readonly string[], cacheDir: string): Promise<string> {
  const directory = join(cacheDir, `headers-${digest([compiler.path, compiler.version, ...flags, sourceDigest('.h')])}`)
  const known = headersUnderWay.get(directory)
  if (known !== undefined) return known
  const made = makeHeaders(compiler, flags, directory)
  headersUnderWay.set(directory, made)
  made.catch(() => headersUnderWay.delete(directory))
  return made
}

async function makeHeaders(compiler: HostCompiler, flags: readonly string[], directory: string): Promise<string> {
  if (/clang/i.test(compiler.version)) {   // Clang wants another option for it, and reads these headers in 20 ms
    await mkdir(join(directory, '..'), { recursive: true })
    return sourceDir
  }
  if (await exists(join(directory, 'emulator.h.gch'))) return directory
  const temporary = `${directory}.${randomBytes(6).toString('hex')}`
  await mkdir(temporary, { recursive: true })
  try {
    for (const file of readdirSync(sourceDir).filter((name) => name.endsWith('.h'))) await copyFile(join(sourceDir, file), join(temporary, file))
    await compile(compiler, [...flags, '-x', 'c++-header', 'emulator.h', '-o', 'emulator.h.gch'], '', 'the emulator\'s header', temporary)
    await rename(temporary, directory)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    if (!(await exists(join(directory, 'emulator.h.gch')))) throw error   // another process was first: its header serves
  }
  return directory
}

async function madeUnderAnotherName(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  try {
    await make(temporary)
    await rename(temporary, path)
  } finally {
    await rm(temporary, { force: true })
  }
}

const exists = (path: string): Promise<boolean> => stat(path).then(() => true, () => false)

let running = 0
const waiting: (() => void)[] = []

/** One compiler per processor: a hundred at once would exhaust memory before they were any quicker. */
async function compile(compiler: HostCompiler, args: readonly string[], input: string, what: string, cwd?: string): Promise<void> {
  if (running >= Math.max(1, cpus().length)) await new Promise<void>((resolve) => waiting.push(resolve))
  running++
  try {
    await run(compiler, args, input, what, cwd)
  } finally {
    running--
    waiting.shift()?.()
  }
}

function run(compiler: HostCompiler, args: readonly string[], input: string, what: string, cwd?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(compiler.path, args, { stdio: ['pipe', 'ignore', 'pipe'], env: { ...process.env, LC_ALL: 'C' }, cwd })
    const messages: Buffer[] = []
    child.stderr.on('data', (data: Buffer) => messages.push(data))
    child.stdin.on('error', () => undefined)   // a compiler that dies early says so by its exit status
    child.on('error', (cause) => reject(new WeftError('host-compile', `${compiler.path} cannot be started: ${cause.message}`, { cause, fix: 'look at its rights and at the memory that is free, or name another compiler in CXX' })))
    child.on('close', (code, signal) => {
      if (code === 0) return resolve()
      const text = Buffer.concat(messages).toString('utf8').trim()
      reject(new WeftError('host-compile', `The host's C++ compiler refuses ${what} (${signal ?? `exit ${code}`}):\n${text}`, {
        fix: signal === null ? 'this is a defect of Weft, unless the text is yours: report it with the lines above' : 'it was ended from outside, most often for want of memory: try again with fewer programs running',
      }))
    })
    child.stdin.end(input)
  })
}
