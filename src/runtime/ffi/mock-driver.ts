/** A simulated driver over the mock: devices, contexts, memory, modules, streams and events, all of them counted. */
import type { RawArgument } from './bind.js'
import { MockLibrary, MockMemory, type MockFunction } from './mock.js'

export interface MockLaunch {
  readonly kernel: string
  readonly grid: readonly number[]
  readonly block: readonly number[]
  readonly shared: number
  readonly stream: bigint
  /** The 8-byte slots of the arguments. */
  readonly slots: readonly DataView[]
}

export interface MockDriverOptions {
  readonly devices?: number
  /** Device memory in bytes; 1 MiB where absent. */
  readonly memory?: number
  readonly version?: number
  /** Names of the kernels in every module; their code gets the launch and the device's memory. */
  readonly kernels?: { readonly [name: string]: (launch: MockLaunch, memory: MockMemory) => void }
  /** Keeps the launches, for looking at; true where absent. */
  readonly record?: boolean
  /** How often an event answers "not ready" first. */
  readonly pending?: number
  readonly attributes?: { readonly [attribute: number]: number }
  readonly kernelAttributes?: { readonly [attribute: number]: number }
}

/** What is alive in the simulated driver; all of it 0 when everything was given back. */
export interface MockBalance {
  readonly allocations: number
  readonly bytes: number
  readonly modules: number
  readonly streams: number
  readonly events: number
  readonly graphs: number
  readonly contexts: number
  /** Streams that are being recorded. */
  readonly recording: number
}

export interface MockDriver {
  readonly library: MockLibrary
  readonly memory: MockMemory
  readonly launches: MockLaunch[]
  balance(): MockBalance
}

const names: { readonly [status: number]: readonly [string, string] } = {
  0: ['CUDA_SUCCESS', 'no error'],
  1: ['CUDA_ERROR_INVALID_VALUE', 'invalid argument'],
  2: ['CUDA_ERROR_OUT_OF_MEMORY', 'out of memory'],
  3: ['CUDA_ERROR_NOT_INITIALIZED', 'initialization error'],
  4: ['CUDA_ERROR_DEINITIALIZED', 'driver shutting down'],
  34: ['CUDA_ERROR_STUB_LIBRARY', 'CUDA driver is a stub library'],
  46: ['CUDA_ERROR_DEVICE_UNAVAILABLE', 'CUDA-capable device(s) is/are busy or unavailable'],
  100: ['CUDA_ERROR_NO_DEVICE', 'no CUDA-capable device is detected'],
  101: ['CUDA_ERROR_INVALID_DEVICE', 'invalid device ordinal'],
  200: ['CUDA_ERROR_INVALID_IMAGE', 'device kernel image is invalid'],
  201: ['CUDA_ERROR_INVALID_CONTEXT', 'invalid device context'],
  209: ['CUDA_ERROR_NO_BINARY_FOR_GPU', 'no kernel image is available for execution on the device'],
  218: ['CUDA_ERROR_INVALID_PTX', 'a PTX JIT compilation failed'],
  222: ['CUDA_ERROR_UNSUPPORTED_PTX_VERSION', 'the provided PTX was compiled with an unsupported toolchain.'],
  304: ['CUDA_ERROR_OPERATING_SYSTEM', 'OS call failed or operation not supported on this OS'],
  400: ['CUDA_ERROR_INVALID_HANDLE', 'invalid resource handle'],
  401: ['CUDA_ERROR_ILLEGAL_STATE', 'the operation cannot be performed in the present state'],
  500: ['CUDA_ERROR_NOT_FOUND', 'named symbol not found'],
  600: ['CUDA_ERROR_NOT_READY', 'device not ready'],
  700: ['CUDA_ERROR_ILLEGAL_ADDRESS', 'an illegal memory access was encountered'],
  701: ['CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES', 'too many resources requested for launch'],
  702: ['CUDA_ERROR_LAUNCH_TIMEOUT', 'the launch timed out and was terminated'],
  719: ['CUDA_ERROR_LAUNCH_FAILED', 'unspecified launch failure'],
  802: ['CUDA_ERROR_SYSTEM_NOT_READY', 'system not yet initialized'],
  803: ['CUDA_ERROR_SYSTEM_DRIVER_MISMATCH', 'system has unsupported display driver / cuda driver combination'],
  900: ['CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED', 'operation not permitted when stream is capturing'],
  901: ['CUDA_ERROR_STREAM_CAPTURE_INVALIDATED', 'operation failed due to a previous error during capture'],
  999: ['CUDA_ERROR_UNKNOWN', 'unknown error'],
}

const invalidValue = 1, invalidContext = 201, invalidHandle = 400
const defaults: { readonly [attribute: number]: number } = {
  1: 1024, 5: 2 ** 31 - 1, 6: 65535, 7: 65535, 8: 49152, 10: 32, 13: 1_980_000, 16: 132, 36: 2_619_000, 37: 5120,
  38: 50 << 20, 75: 9, 76: 0, 81: 233_472, 82: 65536, 97: 232_448,
}
const kernelDefaults: { readonly [attribute: number]: number } = { 0: 1024, 1: 0, 3: 0, 4: 32 }

export function mockDriver(options: MockDriverOptions = {}): MockDriver {
  const { devices = 1, memory: total = 1 << 20, version = 13050, kernels = {}, pending = 0, record = true } = options
  const memory = new MockMemory()
  const texts = new Map<string, bigint>()
  const allocations = new Map<bigint, Uint8Array>()
  const handles = { modules: new Set<bigint>(), streams: new Set<bigint>(), events: new Map<bigint, number>(), graphs: new Set<bigint>(), recording: new Set<bigint>() }
  const functions = new Map<bigint, string>()
  const launches: MockLaunch[] = []
  let contexts = 0, current = 0n, used = 0, next = 0x1000n, initialised = false

  const handle = (): bigint => (next += 0x10n)
  const put = (out: RawArgument | undefined, value: number | bigint): number => {
    if (out instanceof BigUint64Array) out[0] = BigInt(value)
    else if (out instanceof Int32Array || out instanceof Float32Array) out[0] = Number(value)
    return 0
  }
  const bytesOf = (view: RawArgument | undefined): Uint8Array => {
    if (!ArrayBuffer.isView(view)) throw new Error('mock: memory expected')
    return new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  }
  /** The device memory behind an address, inside one allocation. */
  const device = (address: RawArgument | undefined, bytes: RawArgument | undefined): Uint8Array | undefined => {
    for (const [base, data] of allocations) {
      const offset = BigInt(address as bigint) - base
      if (offset >= 0n && offset + BigInt(bytes as bigint) <= BigInt(data.length)) return data.subarray(Number(offset), Number(offset) + Number(bytes))
    }
    return undefined
  }
  const copy = (to: Uint8Array | undefined, from: Uint8Array | undefined, bytes: RawArgument | undefined): number => {
    if (to === undefined || from === undefined || to.length < Number(bytes) || from.length < Number(bytes)) return invalidValue
    to.set(from.subarray(0, Number(bytes)))
    return 0
  }
  const text = (which: 0 | 1): MockFunction => (status, out) => {
    const value = names[Number(status)]?.[which]
    if (value === undefined) return invalidValue
    if (!texts.has(value)) texts.set(value, memory.string(value))
    return put(out, texts.get(value) ?? 0n)
  }
  const inContext = (work: MockFunction): MockFunction => (...args) => (current === 0n || contexts === 0 ? invalidContext : work(...args))

  const library = new MockLibrary({
    cuGetErrorName: text(0),
    cuGetErrorString: text(1),
    cuInit: () => {
      initialised = true
      return devices === 0 ? 100 : 0
    },
    cuDriverGetVersion: (out) => put(out, version),
    cuDeviceGetCount: (out) => (initialised ? put(out, devices) : 3),
    cuDeviceGet: (out, ordinal) => (Number(ordinal) < devices ? put(out, Number(ordinal)) : 101),
    cuDeviceGetName: (out, _, ordinal) => {
      bytesOf(out).set(new TextEncoder().encode(`Mock GPU ${Number(ordinal)}\0`))
      return 0
    },
    cuDeviceGetAttribute: (out, attribute) => put(out, options.attributes?.[Number(attribute)] ?? defaults[Number(attribute)] ?? 0),
    cuDevicePrimaryCtxRetain: (out, ordinal) => {
      contexts++
      return put(out, 0xc0n + BigInt(Number(ordinal)))
    },
    cuDevicePrimaryCtxRelease_v2: () => {
      contexts--
      return 0
    },
    cuCtxSetCurrent: (context) => {
      current = context as bigint
      return 0
    },
    cuCtxSynchronize: inContext(() => 0),
    cuMemGetInfo_v2: inContext((free, all) => put(free, total - used) + put(all, total)),
    cuMemAlloc_v2: inContext((out, bytes) => {
      if (Number(bytes) === 0) return invalidValue
      if (used + Number(bytes) > total) return 2
      const address = (next += 0x100000n)
      allocations.set(address, new Uint8Array(Number(bytes)).fill(0xcd))
      used += Number(bytes)
      return put(out, address)
    }),
    cuMemFree_v2: inContext((address) => {
      const data = allocations.get(address as bigint)
      if (data === undefined) return invalidValue
      used -= data.length
      allocations.delete(address as bigint)
      return 0
    }),
    cuMemcpyHtoD_v2: inContext((to, from, bytes) => copy(device(to, bytes), bytesOf(from), bytes)),
    cuMemcpyDtoH_v2: inContext((to, from, bytes) => copy(bytesOf(to), device(from, bytes), bytes)),
    cuMemcpyHtoDAsync_v2: inContext((to, from, bytes) => copy(device(to, bytes), bytesOf(from), bytes)),
    cuMemsetD8Async: inContext((to, value, count) => (device(to, count)?.fill(Number(value)) === undefined ? invalidValue : 0)),
    cuModuleLoadData: inContext((out) => {
      const module = handle()
      handles.modules.add(module)
      return put(out, module)
    }),
    cuModuleUnload: inContext((module) => (handles.modules.delete(module as bigint) ? 0 : invalidHandle)),
    cuModuleGetFunction: inContext((out, _, name) => {
      const wanted = Buffer.from(bytesOf(name)).toString('utf8').replace(/\0$/, '')
      if (kernels[wanted] === undefined) return 500
      const fn = handle()
      functions.set(fn, wanted)
      return put(out, fn)
    }),
    cuFuncGetAttribute: (out, attribute) => put(out, options.kernelAttributes?.[Number(attribute)] ?? kernelDefaults[Number(attribute)] ?? 0),
    cuFuncSetAttribute: () => 0,
    cuStreamCreate: inContext((out) => {
      const stream = handle()
      handles.streams.add(stream)
      return put(out, stream)
    }),
    cuStreamDestroy_v2: inContext((stream) => {
      handles.recording.delete(stream as bigint)
      return handles.streams.delete(stream as bigint) ? 0 : invalidHandle
    }),
    cuStreamQuery: inContext((stream) => (handles.recording.has(stream as bigint) ? 900 : 0)),
    cuStreamSynchronize: inContext((stream) => (handles.recording.has(stream as bigint) ? 900 : 0)),
    cuStreamIsCapturing: inContext((stream, out) => put(out, Number(handles.recording.has(stream as bigint)))),
    cuEventCreate: inContext((out) => {
      const event = handle()
      handles.events.set(event, 0)
      return put(out, event)
    }),
    cuEventRecord: inContext((event) => {
      handles.events.set(event as bigint, pending)
      return 0
    }),
    cuEventQuery: inContext((event) => {
      const left = handles.events.get(event as bigint)
      if (left === undefined) return invalidHandle
      handles.events.set(event as bigint, left - 1)
      return left > 0 ? 600 : 0
    }),
    cuEventElapsedTime: inContext((out) => put(out, 0.25)),
    cuEventDestroy_v2: inContext((event) => (handles.events.delete(event as bigint) ? 0 : invalidHandle)),
    cuStreamBeginCapture_v2: inContext((stream) => {
      if (stream === 0n) return 900
      if (handles.recording.has(stream as bigint)) return 401
      handles.recording.add(stream as bigint)
      return 0
    }),
    cuStreamEndCapture: inContext((stream, out) => {
      if (!handles.recording.delete(stream as bigint)) return 401
      const graph = handle()
      handles.graphs.add(graph)
      return put(out, graph)
    }),
    cuGraphInstantiateWithFlags: inContext((out) => {
      const executable = handle()
      handles.graphs.add(executable)
      return put(out, executable)
    }),
    cuGraphLaunch: inContext((executable) => (handles.graphs.has(executable as bigint) ? 0 : invalidHandle)),
    cuGraphDestroy: inContext((graph) => (handles.graphs.delete(graph as bigint) ? 0 : invalidHandle)),
    cuGraphExecDestroy: inContext((executable) => (handles.graphs.delete(executable as bigint) ? 0 : invalidHandle)),
    cuLaunchKernel: inContext((fn, gx, gy, gz, bx, by, bz, shared, stream, parameters) => {
      const kernel = functions.get(fn as bigint)
      if (kernel === undefined) return invalidHandle
      const addresses = parameters as BigUint64Array
      const slots = Array.from(addresses, (address) => memory.at(address, 8))
      const launch: MockLaunch = { kernel, grid: [gx, gy, gz].map(Number), block: [bx, by, bz].map(Number), shared: Number(shared), stream: stream as bigint, slots }
      // A driver copies the values during the call: what is kept must not change afterwards.
      if (record) launches.push({ ...launch, slots: slots.map((slot) => new DataView(slot.buffer.slice(slot.byteOffset, slot.byteOffset + 8))) })
      kernels[kernel]?.(launch, memory)
      return 0
    }),
  })
  return {
    library, memory, launches,
    balance: () => ({ allocations: allocations.size, bytes: used, modules: handles.modules.size, streams: handles.streams.size, events: handles.events.size, graphs: handles.graphs.size, contexts, recording: handles.recording.size }),
  }
}
