/**
 * The foreign functions Weft calls, as data: one line per function, `name: kind` per argument. Everything else is
 * derived from these tables: the TypeScript types, the range checks, and what each adapter tells its FFI package.
 *
 * Names are the ones exported by the library: the plain names of several driver functions are old 32-bit ones, so
 * `_v2` is spelled out where it is the one to call.
 */

/** What an argument is. `out X` is an array with room for one X; `bytes` is memory that is read or written. */
export type Kind =
  | 'i32' | 'u32' | 'i64' | 'u64' | 'size' | 'f32' | 'f64'
  | 'pointer'                // a handle or an address that C gave us, as BigInt; 0n is NULL
  | 'device'                 // CUdeviceptr, as BigInt
  | 'string'                 // UTF-8 with a closing NUL; a NUL inside is refused, C would cut there
  | 'bytes'                  // a typed array, DataView or Buffer, or null
  | 'out i32' | 'out u32' | 'out u64' | 'out size' | 'out f32' | 'out pointer' | 'out device'

export type ResultKind = 'void' | 'i32' | 'u32' | 'i64' | 'u64' | 'size' | 'f32' | 'f64' | 'pointer' | 'string'

export type Parameter = `${string}: ${Kind}`

export interface Signature {
  readonly returns: ResultKind
  readonly parameters: readonly Parameter[]
  /** Needs no current context, so it may run on another thread. */
  readonly concurrent: boolean
}

export type SignatureTable = { readonly [name: string]: Signature }

interface ArgumentOf {
  i32: number
  u32: number
  i64: number | bigint
  u64: number | bigint
  size: number | bigint
  f32: number
  f64: number
  pointer: bigint
  device: bigint
  string: string
  bytes: ArrayBufferView | null
  'out i32': Int32Array
  'out u32': Uint32Array
  'out u64': BigUint64Array
  'out size': BigUint64Array
  'out f32': Float32Array
  'out pointer': BigUint64Array
  'out device': BigUint64Array
}

interface ResultOf {
  void: undefined
  i32: number
  u32: number
  i64: bigint
  u64: bigint
  size: bigint
  f32: number
  f64: number
  pointer: bigint
  string: string
}

type KindOf<P> = P extends `${string}: ${infer K extends Kind}` ? K : never

/** The TypeScript arguments of a list of parameters. */
export type Arguments<P extends readonly Parameter[]> = { [I in keyof P]: ArgumentOf[KindOf<P[I]>] }
export type Result<S extends Signature> = ResultOf[S['returns']]

/** A checked function, and its form on another thread where the table says that this is allowed. */
export type Bound<S extends Signature> = ((...args: Arguments<S['parameters']>) => Result<S>) &
  (S['concurrent'] extends true ? { concurrently(...args: Arguments<S['parameters']>): Promise<Result<S>> } : unknown)

export type BoundTable<T extends SignatureTable> = { readonly [N in keyof T]: Bound<T[N]> }

export const signature = <const R extends ResultKind, const P extends readonly Parameter[]>(returns: R, ...parameters: P) =>
  ({ returns, parameters, concurrent: false }) as const

export const concurrent = <const R extends ResultKind, const P extends readonly Parameter[]>(returns: R, ...parameters: P) =>
  ({ returns, parameters, concurrent: true }) as const

/** Most functions return a status. */
const status = <const P extends readonly Parameter[]>(...parameters: P) => signature('i32', ...parameters)

/** The CUDA driver API; the emulator's library exports the same functions. */
export const driverTable = {
  cuInit: status('flags: u32'),
  cuDriverGetVersion: status('version: out i32'),
  cuGetErrorName: status('error: i32', 'name: out pointer'),
  cuGetErrorString: status('error: i32', 'text: out pointer'),
  cuGetProcAddress_v2: status('symbol: string', 'address: out pointer', 'version: i32', 'flags: u64', 'found: out i32'),

  cuDeviceGetCount: status('count: out i32'),
  cuDeviceGet: status('device: out i32', 'ordinal: i32'),
  cuDeviceGetName: status('name: bytes', 'length: i32', 'device: i32'),
  cuDeviceGetUuid_v2: status('uuid: bytes', 'device: i32'),
  cuDeviceGetAttribute: status('value: out i32', 'attribute: i32', 'device: i32'),
  cuDeviceTotalMem_v2: status('bytes: out size', 'device: i32'),
  cuDeviceGetPCIBusId: status('id: bytes', 'length: i32', 'device: i32'),
  cuDevicePrimaryCtxRetain: status('context: out pointer', 'device: i32'),
  cuDevicePrimaryCtxRelease_v2: status('device: i32'),
  cuDevicePrimaryCtxGetState: status('device: i32', 'flags: out u32', 'active: out i32'),
  cuCtxSetCurrent: status('context: pointer'),
  cuCtxGetCurrent: status('context: out pointer'),
  cuCtxSynchronize: status(),

  cuMemGetInfo_v2: status('free: out size', 'total: out size'),
  cuMemAlloc_v2: status('address: out device', 'bytes: size'),
  cuMemFree_v2: status('address: device'),
  cuMemAllocAsync: status('address: out device', 'bytes: size', 'stream: pointer'),
  cuMemFreeAsync: status('address: device', 'stream: pointer'),
  cuMemGetAddressRange_v2: status('base: out device', 'bytes: out size', 'address: device'),
  cuMemHostAlloc: status('address: out pointer', 'bytes: size', 'flags: u32'),
  cuMemFreeHost: status('address: pointer'),
  cuMemcpyHtoD_v2: status('to: device', 'from: bytes', 'bytes: size'),
  cuMemcpyDtoH_v2: status('to: bytes', 'from: device', 'bytes: size'),
  cuMemcpyDtoD_v2: status('to: device', 'from: device', 'bytes: size'),
  cuMemcpyHtoDAsync_v2: status('to: device', 'from: bytes', 'bytes: size', 'stream: pointer'),
  cuMemcpyDtoHAsync_v2: status('to: bytes', 'from: device', 'bytes: size', 'stream: pointer'),
  cuMemcpyDtoDAsync_v2: status('to: device', 'from: device', 'bytes: size', 'stream: pointer'),
  cuMemsetD8_v2: status('address: device', 'value: u32', 'count: size'),
  cuMemsetD32_v2: status('address: device', 'value: u32', 'count: size'),
  cuMemsetD8Async: status('address: device', 'value: u32', 'count: size', 'stream: pointer'),
  cuMemsetD32Async: status('address: device', 'value: u32', 'count: size', 'stream: pointer'),
  cuPointerGetAttribute: status('value: bytes', 'attribute: i32', 'address: device'),

  cuModuleLoadData: status('module: out pointer', 'image: bytes'),
  cuModuleLoadDataEx: status('module: out pointer', 'image: bytes', 'count: u32', 'options: bytes', 'values: bytes'),
  cuModuleUnload: status('module: pointer'),
  cuModuleGetFunction: status('function: out pointer', 'module: pointer', 'name: string'),
  cuModuleGetGlobal_v2: status('address: out device', 'bytes: out size', 'module: pointer', 'name: string'),
  cuFuncGetAttribute: status('value: out i32', 'attribute: i32', 'function: pointer'),
  cuFuncSetAttribute: status('function: pointer', 'attribute: i32', 'value: i32'),
  cuFuncSetCacheConfig: status('function: pointer', 'config: i32'),
  cuOccupancyMaxActiveBlocksPerMultiprocessor: status('blocks: out i32', 'function: pointer', 'block: i32', 'shared: size'),
  cuLaunchKernel: status(
    'function: pointer', 'gridX: u32', 'gridY: u32', 'gridZ: u32', 'blockX: u32', 'blockY: u32', 'blockZ: u32',
    'shared: u32', 'stream: pointer', 'parameters: bytes', 'extra: bytes'),
  cuLaunchKernelEx: status('config: bytes', 'function: pointer', 'parameters: bytes', 'extra: bytes'),

  cuStreamCreate: status('stream: out pointer', 'flags: u32'),
  cuStreamCreateWithPriority: status('stream: out pointer', 'flags: u32', 'priority: i32'),
  cuStreamDestroy_v2: status('stream: pointer'),
  cuStreamSynchronize: status('stream: pointer'),
  cuStreamQuery: status('stream: pointer'),
  cuStreamWaitEvent: status('stream: pointer', 'event: pointer', 'flags: u32'),
  cuStreamBeginCapture_v2: status('stream: pointer', 'mode: i32'),
  cuStreamEndCapture: status('stream: pointer', 'graph: out pointer'),
  cuStreamIsCapturing: status('stream: pointer', 'state: out i32'),
  cuEventCreate: status('event: out pointer', 'flags: u32'),
  cuEventRecord: status('event: pointer', 'stream: pointer'),
  cuEventQuery: status('event: pointer'),
  cuEventSynchronize: status('event: pointer'),
  cuEventElapsedTime: status('milliseconds: out f32', 'start: pointer', 'end: pointer'),
  cuEventDestroy_v2: status('event: pointer'),
  cuGraphInstantiateWithFlags: status('executable: out pointer', 'graph: pointer', 'flags: u64'),
  cuGraphLaunch: status('executable: pointer', 'stream: pointer'),
  cuGraphExecDestroy: status('executable: pointer'),
  cuGraphDestroy: status('graph: pointer'),
}

/** The emulator's library: the same, and a few entries of its own. */
export const emulatorTable = {
  ...driverTable,
  weftEmulatorLastFailure: signature('size', 'text: bytes', 'capacity: size'),
  weftEmulatorSetOrder: status('order: string'),
  weftEmulatorWorkers: status(),
  weftEmulatorStatistics: signature('void', 'values: bytes'),
}

/** NVRTC, the run-time compiler. It knows no context, and distinct programs may be compiled at the same time. */
export const nvrtcTable = {
  nvrtcVersion: status('major: out i32', 'minor: out i32'),
  nvrtcGetErrorString: signature('string', 'result: i32'),
  nvrtcGetNumSupportedArchs: status('count: out i32'),
  nvrtcGetSupportedArchs: status('archs: bytes'),
  nvrtcCreateProgram: status('program: out pointer', 'text: string', 'name: string', 'headers: i32', 'texts: bytes', 'names: bytes'),
  nvrtcDestroyProgram: status('program: bytes'),
  nvrtcCompileProgram: concurrent('i32', 'program: pointer', 'count: i32', 'options: bytes'),
  nvrtcGetProgramLogSize: status('program: pointer', 'bytes: out size'),
  nvrtcGetProgramLog: status('program: pointer', 'log: bytes'),
  nvrtcGetCUBINSize: status('program: pointer', 'bytes: out size'),
  nvrtcGetCUBIN: status('program: pointer', 'image: bytes'),
  nvrtcGetPTXSize: status('program: pointer', 'bytes: out size'),
  nvrtcGetPTX: status('program: pointer', 'text: bytes'),
  nvrtcGetLTOIRSize: status('program: pointer', 'bytes: out size'),
  nvrtcGetLTOIR: status('program: pointer', 'image: bytes'),
  nvrtcAddNameExpression: status('program: pointer', 'name: string'),
  nvrtcGetLoweredName: status('program: pointer', 'name: string', 'lowered: out pointer'),
  nvrtcGetPCHHeapSize: status('bytes: out size'),
  nvrtcSetPCHHeapSize: status('bytes: size'),
  nvrtcGetPCHCreateStatus: status('program: pointer'),
}

export type Driver = BoundTable<typeof driverTable>
export type NvrtcFunctions = BoundTable<typeof nvrtcTable>
