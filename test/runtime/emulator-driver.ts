/** A small binding of the emulator's library for its own tests: plain calls, nothing of the project's driver binding. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import koffi from 'koffi'
import { preludeText, type IntrinsicName } from '../../src/codegen/intrinsics.js'
import { buildEmulatorLibrary, compileHost, findHostCompiler, type HostOptions } from '../../src/runtime/emulator/compile.js'

const required = process.env['CI'] === 'true' || process.env['WEFT_REQUIRE_EMULATOR'] === '1'
const compiler = findHostCompiler()
/** True where the tests must be skipped; where the emulator is required they run and fail instead. */
export const noCompiler = 'missing' in compiler && !required
if ('missing' in compiler) console.warn(`SKIPPED: the emulator's tests. ${compiler.missing} Fix: ${compiler.fix}`)

export const cacheDir = process.env['WEFT_TEST_CACHE'] ?? join(tmpdir(), `weft-emulator-test-${process.getuid?.() ?? 0}`)
export const freshDir = (): string => mkdtempSync(join(tmpdir(), 'weft-emulator-'))

const signatures = {
  cuInit: ['int', ['uint32_t']],
  cuDriverGetVersion: ['int', ['void *']],
  cuDeviceGetCount: ['int', ['void *']],
  cuDeviceGet: ['int', ['void *', 'int']],
  cuDeviceGetName: ['int', ['void *', 'int', 'int']],
  cuDeviceGetAttribute: ['int', ['void *', 'int', 'int']],
  cuDevicePrimaryCtxRetain: ['int', ['void *', 'int']],
  cuDevicePrimaryCtxRelease_v2: ['int', ['int']],
  cuDevicePrimaryCtxReset_v2: ['int', ['int']],
  cuCtxSetCurrent: ['int', ['uint64_t']],
  cuCtxSynchronize: ['int', []],
  cuGetErrorName: ['int', ['int', 'void *']],
  cuGetProcAddress_v2: ['int', ['str', 'void *', 'int', 'uint64_t', 'void *']],
  cuMemAlloc_v2: ['int', ['void *', 'size_t']],
  cuMemFree_v2: ['int', ['uint64_t']],
  cuMemGetInfo_v2: ['int', ['void *', 'void *']],
  cuMemcpyHtoD_v2: ['int', ['uint64_t', 'void *', 'size_t']],
  cuMemcpyDtoH_v2: ['int', ['void *', 'uint64_t', 'size_t']],
  cuMemcpyDtoDAsync_v2: ['int', ['uint64_t', 'uint64_t', 'size_t', 'uint64_t']],
  cuMemcpyDtoHAsync_v2: ['int', ['void *', 'uint64_t', 'size_t', 'uint64_t']],
  cuMemsetD32_v2: ['int', ['uint64_t', 'uint32_t', 'size_t']],
  cuMemsetD8Async: ['int', ['uint64_t', 'uint8_t', 'size_t', 'uint64_t']],
  cuModuleLoadData: ['int', ['void *', 'void *']],
  cuModuleUnload: ['int', ['uint64_t']],
  cuModuleGetFunction: ['int', ['void *', 'uint64_t', 'str']],
  cuFuncSetAttribute: ['int', ['uint64_t', 'int', 'int']],
  cuLaunchKernel: ['int', ['uint64_t', 'uint32_t', 'uint32_t', 'uint32_t', 'uint32_t', 'uint32_t', 'uint32_t', 'uint32_t', 'uint64_t', 'void *', 'uint64_t']],
  cuStreamCreate: ['int', ['void *', 'uint32_t']],
  cuStreamDestroy_v2: ['int', ['uint64_t']],
  cuStreamSynchronize: ['int', ['uint64_t']],
  cuStreamQuery: ['int', ['uint64_t']],
  cuStreamWaitEvent: ['int', ['uint64_t', 'uint64_t', 'uint32_t']],
  cuStreamBeginCapture_v2: ['int', ['uint64_t', 'int']],
  cuStreamEndCapture: ['int', ['uint64_t', 'void *']],
  cuEventCreate: ['int', ['void *', 'uint32_t']],
  cuEventRecord: ['int', ['uint64_t', 'uint64_t']],
  cuEventSynchronize: ['int', ['uint64_t']],
  cuEventQuery: ['int', ['uint64_t']],
  cuEventElapsedTime: ['int', ['void *', 'uint64_t', 'uint64_t']],
  cuEventDestroy_v2: ['int', ['uint64_t']],
  cuGraphInstantiateWithFlags: ['int', ['void *', 'uint64_t', 'uint64_t']],
  cuGraphLaunch: ['int', ['uint64_t', 'uint64_t']],
  cuGraphExecDestroy: ['int', ['uint64_t']],
  cuGraphDestroy: ['int', ['uint64_t']],
  weftEmulatorSetOrder: ['int', ['str']],
  weftEmulatorLastFailure: ['size_t', ['void *', 'size_t']],
  weftEmulatorWorkers: ['int', []],
  weftEmulatorStatistics: ['void', ['void *']],
} as const

type Name = keyof typeof signatures
type Call = (...args: unknown[]) => number

export type Argument = { readonly i32: number } | { readonly f32: number } | { readonly i64: bigint } | bigint
export interface Grid {
  readonly grid?: number | readonly [number, number, number]
  readonly block: number | readonly [number, number, number]
  readonly shared?: number
  readonly stream?: bigint
}

export const allOrders = ['ascending', 'descending', 'warp-greedy', 'warp-greedy-descending', 'random:1', 'random:2', 'random:3']

/** The library, opened, with a current context; every wrapper that is not `call` throws on an error. */
export async function openEmulator() {
  const library = koffi.load(await buildEmulatorLibrary(cacheDir))
  const functions = new Map<string, Call>()
  for (const [name, [result, parameters]] of Object.entries(signatures)) functions.set(name, library.func(name, result, [...parameters]) as Call)
  const call = (name: Name, ...args: unknown[]): number => functions.get(name)!(...args)
  const failure = (): string => {
    const buffer = Buffer.alloc(4096)
    const length = Number(call('weftEmulatorLastFailure', buffer, buffer.length))
    return buffer.toString('utf8', 0, Math.min(length, 4095))
  }
  const must = (name: Name, ...args: unknown[]): void => {
    const error = call(name, ...args)
    if (error !== 0) throw new Error(`${name}: ${error}${error >= 700 && error < 720 ? ` ${failure()}` : ''}`)
  }
  /** A handle that the call writes into its first argument. */
  const out = (name: Name, ...args: unknown[]): bigint => {
    const cell = new BigUint64Array(1)
    must(name, cell, ...args)
    return cell[0]!
  }

  let keepAlive: readonly Buffer[] = []
  const images = new Map<string, Uint8Array>()

  must('cuInit', 0)
  const begin = (): void => must('cuCtxSetCurrent', out('cuDevicePrimaryCtxRetain', 0))
  begin()

  const upload = (data: NodeJS.ArrayBufferView): bigint => {
    const address = out('cuMemAlloc_v2', data.byteLength)
    must('cuMemcpyHtoD_v2', address, data, data.byteLength)
    return address
  }
  const download = <T extends NodeJS.ArrayBufferView>(address: bigint, into: T): T => {
    must('cuMemcpyDtoH_v2', into, address, into.byteLength)
    return into
  }
  const compile = async (kernels: string, uses: readonly IntrinsicName[] = [], options: Omit<HostOptions, 'cacheDir'> = {}): Promise<(name: string) => bigint> => {
    const names = [...kernels.matchAll(/__global__ void(?: __\w+__\([^)]*\))*\s+(\w+)\(/g)].map((match) => match[1]!)
    const text = preludeText(uses, 'host') + kernels, key = JSON.stringify(options) + text
    const image = images.get(key) ?? await compileHost(text, names, { cacheDir, ...options })
    images.set(key, image)
    const module = out('cuModuleLoadData', image)
    return (name) => out('cuModuleGetFunction', module, name)
  }
  const launchStatus = (kernel: bigint, shape: Grid, ...args: readonly Argument[]): number => {
    const values = args.map((arg) => {
      const bytes = Buffer.alloc(8)
      if (typeof arg === 'bigint') bytes.writeBigUInt64LE(arg)
      else if ('i32' in arg) bytes.writeInt32LE(arg.i32)
      else if ('f32' in arg) bytes.writeFloatLE(arg.f32)
      else bytes.writeBigInt64LE(arg.i64)
      return bytes
    })
    const parameters = new BigUint64Array(values.map((bytes) => BigInt(koffi.address(bytes))))
    const three = (n: number | readonly [number, number, number] | undefined): readonly [number, number, number] => (typeof n === 'object' ? n : [n ?? 1, 1, 1])
    const status = call('cuLaunchKernel', kernel, ...three(shape.grid), ...three(shape.block), shape.shared ?? 0, shape.stream ?? 0n, parameters, 0n)
    keepAlive = values   // the call knows their addresses only: until here the collector must not
    return status
  }
  const launch = (kernel: bigint, shape: Grid, ...args: readonly Argument[]): void => {
    const error = launchStatus(kernel, shape, ...args)
    if (error !== 0) throw new Error(`cuLaunchKernel: ${error} ${failure()}`)
  }
  /** Runs to the end; the error code and the sentence. */
  const outcome = (kernel: bigint, shape: Grid, ...args: readonly Argument[]): { error: number; text: string } => {
    const error = launchStatus(kernel, shape, ...args) || call('cuCtxSynchronize')
    return { error, text: error === 0 ? '' : failure() }
  }
  /** Ends every handle, allocation and sticky error. */
  const reset = (): void => {
    must('cuDevicePrimaryCtxReset_v2', 0)
    call('weftEmulatorSetOrder', '')
  }
  return { call, must, out, upload, download, compile, launch, launchStatus, outcome, failure, reset, setOrder: (order: string) => must('weftEmulatorSetOrder', order), alive: (): number => keepAlive.length }
}
export type Emulator = Awaited<ReturnType<typeof openEmulator>>
