/**
 * A device behind a library with the CUDA driver's ABI: the real driver, or the emulator's library. Nothing here knows
 * which of the two it is.
 *
 * Launches and copies on streams are asynchronous; `await stream.done()` waits without blocking the event loop. Every
 * resource ends with `using`, with `free()`, or at the latest with its device.
 */
import { WeftError } from '../dsl/errors.js'
import { DeviceBuffer } from './buffer.js'
import { DriverCalls, ended, type DriverLibrary } from './driver-calls.js'
import { openContext, releaseContext, type DeviceKind, type DeviceLimits } from './driver-open.js'
import { outOfMemory, OutOfMemoryError, type LiveBuffer } from './errors.js'
import { Graph } from './graph.js'
import { Kernel, Module, ParameterBlock, type KernelArgument } from './module.js'
import { Stream, TimingEvent, type StreamHost } from './stream.js'
import './lifetime.js'

export { DeviceBuffer } from './buffer.js'
export { Graph } from './graph.js'
export { Kernel, Module, type KernelArgument, type ScalarArgument } from './module.js'
export { Stream, TimingEvent } from './stream.js'
export type { DeviceLimits } from './driver-open.js'
export type { CompileRequest, Compiler, KernelImage, KernelResources } from './compiler.js'

export interface LaunchShape {
  /** Blocks in x, y, z. */
  readonly grid: readonly [number, number, number]
  /** Threads of a block. */
  readonly block: number
  /** Dynamic shared memory in bytes. */
  readonly shared: number
  /** The default stream where absent. */
  readonly stream?: Stream | undefined
}

export interface DriverDeviceOptions {
  readonly kind: DeviceKind
  readonly ordinal?: number
  /** Waits after each launch, so that an error names its kernel. Slow; for finding faults. */
  readonly checkLaunches?: boolean
  /** What the library itself says about the last failure, where it can say more than a number. */
  readonly explain?: () => string
}

const maxDynamicShared = 8   // CUfunction_attribute
/** Dynamic and static shared memory together need no opting in up to here. */
const plainShared = 48 * 1024

export class DriverDevice implements Disposable {
  readonly kind: DeviceKind
  readonly name: string
  readonly ordinal: number
  /** 'sm_90': what to compile for. */
  readonly arch: string
  readonly limits: DeviceLimits
  readonly driverVersion: number
  readonly defaultStream: Stream
  readonly #calls: DriverCalls
  readonly #device: number
  readonly #parameters: ParameterBlock
  readonly #checkLaunches: boolean
  readonly #live = new Set<Disposable>()
  readonly #host: StreamHost
  #open = true

  /** Retains the device's primary context, which other users of the driver in this process share. */
  constructor(library: DriverLibrary, { kind, ordinal = 0, checkLaunches = false, explain }: DriverDeviceOptions) {
    const calls = new DriverCalls(library, explain, kind === 'emulator')
    const { handle, name, limits, arch, driverVersion } = openContext(calls, kind, ordinal)
    this.kind = kind
    this.ordinal = ordinal
    this.name = name
    this.arch = arch
    this.limits = limits
    this.driverVersion = driverVersion
    this.#calls = calls
    this.#device = handle
    this.#checkLaunches = checkLaunches
    this.#parameters = new ParameterBlock(library.ffi)
    this.#host = { calls, enter: () => this.#enter(), keep: (resource) => this.#live.add(resource), forget: (resource) => this.#live.delete(resource) }
    this.defaultStream = new Stream(this.#host, 0n, false)
  }

  get multiprocessors(): number {
    return this.limits.multiprocessors
  }

  /** The largest shared memory of one block, in bytes. */
  get sharedPerBlockOptin(): number {
    return this.limits.sharedPerBlockOptin
  }

  /** The first sticky error, after which this device throws nothing else. */
  get poisonedBy(): Error | undefined {
    return this.#calls.poison
  }

  #enter(): void {
    if (!this.#open) throw ended(`the device ${this.kind}:${this.ordinal}`, 'a device was used')
    this.#calls.enter()
  }

  memory(): { readonly free: number; readonly total: number } {
    this.#enter()
    const free = new BigUint64Array(1), total = new BigUint64Array(1)
    this.#calls.run('cuMemGetInfo_v2', free, total)
    return { free: Number(free[0]), total: Number(total[0]) }
  }

  /** Allocates device memory; its contents are undefined. `label` is what messages call it. */
  alloc(bytes: number, label = 'unnamed'): DeviceBuffer {
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw new WeftError('buffer-size', `buffer ${JSON.stringify(label)}: ${bytes} is not a number of bytes`, { fix: 'give a whole number from 0 on' })
    this.#enter()
    const address = new BigUint64Array(1)
    if (bytes > 0) {
      const status = this.#calls.status('cuMemAlloc_v2', address, bytes)
      if (status === outOfMemory) throw this.#outOfMemory(bytes)
      if (status !== 0) throw this.#calls.error('cuMemAlloc_v2', status)
    }
    const buffer = new DeviceBuffer(address[0] ?? 0n, bytes, label, true, (freed, at) => {
      // Only what was really freed is forgotten: the end of the device tries the rest again.
      if (at !== 0n && this.#calls.poison === undefined) {
        this.#enter()
        this.#calls.run('cuMemFree_v2', at)
      }
      this.#live.delete(freed)
    })
    this.#live.add(buffer)
    return buffer
  }

  #outOfMemory(needed: number): OutOfMemoryError {
    const largest: LiveBuffer[] = []
    for (const one of this.#live) if (one instanceof DeviceBuffer && one.owned) largest.push({ label: one.label, bytes: one.bytes })
    largest.sort((a, b) => b.bytes - a.bytes)
    const free = new BigUint64Array(1), total = new BigUint64Array(1)
    const status = this.#calls.status('cuMemGetInfo_v2', free, total)
    if (status !== 0) this.#calls.error('cuMemGetInfo_v2', status)
    return new OutOfMemoryError('cuMemAlloc_v2', this.#calls.describe('cuGetErrorName', outOfMemory), needed,
      status === 0 ? { free: Number(free[0]), total: Number(total[0]) } : undefined, largest.slice(0, 5), this.#calls.where)
  }

  /** A buffer over memory that someone else owns. */
  wrap(pointer: bigint, bytes: number, label = 'wrapped'): DeviceBuffer {
    return new DeviceBuffer(pointer, bytes, label, false, () => {})
  }

  /** Copies to the device. The source may be reused at once. */
  upload(buffer: DeviceBuffer, source: ArrayBufferView, stream?: Stream): void {
    this.#checkCopy('upload to', buffer, source)
    if (source.byteLength === 0) return
    this.#enter()
    if (stream === undefined) this.#calls.run('cuMemcpyHtoD_v2', buffer.pointer, source, source.byteLength)
    else this.#calls.run('cuMemcpyHtoDAsync_v2', buffer.pointer, source, source.byteLength, stream.handle)
  }

  /** Waits for the stream without blocking, then copies from the device. */
  async download<T extends ArrayBufferView>(buffer: DeviceBuffer, target: T, stream: Stream = this.defaultStream): Promise<T> {
    this.#checkCopy('download from', buffer, target)
    await stream.done()
    return this.downloadSync(buffer, target)
  }

  /** Waits for all streams that synchronise with the default stream, blocking, and copies from the device. */
  downloadSync<T extends ArrayBufferView>(buffer: DeviceBuffer, target: T): T {
    this.#checkCopy('download from', buffer, target)
    if (target.byteLength === 0) return target
    this.#enter()
    this.#calls.run('cuMemcpyDtoH_v2', target, buffer.pointer, target.byteLength)
    return target
  }

  #checkCopy(what: string, buffer: DeviceBuffer, host: ArrayBufferView): void {
    if (!buffer.alive) throw ended(buffer.describe(), what)
    if (host.byteLength > buffer.bytes) throw new WeftError('buffer-size', `${what} ${buffer.describe()}: ${host.byteLength} bytes do not fit`, { fix: 'allocate a larger one, or pass a part of the array (subarray)' })
  }

  /** Sets every byte, in stream order. */
  fill(buffer: DeviceBuffer, byte: number, stream: Stream = this.defaultStream): void {
    if (!buffer.alive) throw ended(buffer.describe(), 'fill')
    if (!Number.isInteger(byte) || byte < 0 || byte > 255) throw new WeftError('buffer-fill', `fill ${buffer.describe()}: ${byte} is not a byte`, { fix: 'give a whole number from 0 to 255' })
    if (buffer.bytes === 0) return
    this.#enter()
    this.#calls.run('cuMemsetD8Async', buffer.pointer, byte, buffer.bytes, stream.handle)
  }

  /** A new stream. It keeps order with the default stream, so that plain uploads and downloads need no care. */
  stream(): Stream {
    this.#enter()
    const handle = new BigUint64Array(1)
    this.#calls.run('cuStreamCreate', handle, 0)
    return new Stream(this.#host, handle[0] ?? 0n, true)
  }

  /** The stream of a caller, by its CUstream. It is never destroyed here. */
  wrapStream(handle: bigint): Stream {
    return new Stream(this.#host, handle, false)
  }

  event(): TimingEvent {
    this.#enter()
    return new TimingEvent(this.#host)
  }

  /** Records what `work` enqueues on the stream, for replaying with one call. */
  capture(stream: Stream, work: () => void): Graph {
    this.#enter()
    return new Graph(this.#host, stream, work)
  }

  /** Device milliseconds of what `work` enqueues on the stream. */
  async time(stream: Stream, work: () => void): Promise<number> {
    using start = this.event()
    using end = this.event()
    start.record(stream)
    work()
    end.record(stream)
    await end.done()
    return end.millisecondsSince(start)
  }

  /** Loads an image: a cubin, PTX, or what the emulator's compiler made. */
  load(image: Uint8Array): Module {
    this.#enter()
    const handle = new BigUint64Array(1)
    // PTX is text and ends with NUL; an ELF image knows its own length.
    const elf = image[0] === 0x7f && image[1] === 0x45
    const ended = elf || image[image.length - 1] === 0 ? image : Buffer.concat([image, Buffer.alloc(1)])
    this.#calls.run('cuModuleLoadData', handle, ended)
    return new Module(this.#host, handle[0] ?? 0n)
  }

  /** Enqueues a kernel and returns. What the host can check is checked before. */
  launch(kernel: Kernel, shape: LaunchShape, args: readonly KernelArgument[]): void {
    const { grid: [x, y, z], block, shared, stream = this.defaultStream } = shape
    const handle = kernel.handle
    this.#checkShape(kernel, x, y, z, block, shared)
    this.#enter()
    if (kernel.sharedBytes + shared > plainShared && shared > kernel.allowedShared) {
      this.#calls.run('cuFuncSetAttribute', handle, maxDynamicShared, shared)
      kernel.allowedShared = shared
    }
    const parameters = this.#parameters.fill(kernel.name, args)
    this.#calls.lastKernel = kernel.name
    this.#calls.run('cuLaunchKernel', handle, x, y, z, block, 1, 1, shared, stream.handle, parameters, null)
    if (this.#checkLaunches && !this.#isRecorded(stream)) this.#calls.run('cuStreamSynchronize', stream.handle)
  }

  /** What is recorded does not run, so it cannot be waited for. */
  #isRecorded(stream: Stream): boolean {
    const state = new Int32Array(1)
    this.#calls.run('cuStreamIsCapturing', stream.handle, state)
    return state[0] !== 0
  }

  #checkShape(kernel: Kernel, x: number, y: number, z: number, block: number, shared: number): void {
    const { limits } = this
    const refuse = (reason: string): WeftError => new WeftError('launch-shape', `kernel ${kernel.name}: ${reason}`, { fix: 'take another schedule; `weft doctor` shows the limits of this device' })
    if (!(x >= 1 && y >= 1 && z >= 1)) throw refuse(`a grid of ${x} × ${y} × ${z} blocks has none: do not launch it`)
    if (x > limits.maxGridX || y > limits.maxGridY || z > limits.maxGridZ) {
      throw refuse(`a grid of ${x} × ${y} × ${z} blocks is over ${limits.maxGridX} × ${limits.maxGridY} × ${limits.maxGridZ}`)
    }
    const threads = Math.min(kernel.maxThreads, limits.maxThreadsPerBlock)
    if (!(block >= 1 && block <= threads)) throw refuse(`${block} threads per block are not 1 to ${threads} (it uses ${kernel.registers} registers)`)
    if (!(shared >= 0 && kernel.sharedBytes + shared <= limits.sharedPerBlockOptin)) {
      throw refuse(`${shared} bytes of dynamic and ${kernel.sharedBytes} of static shared memory are over ${limits.sharedPerBlockOptin} per block`)
    }
  }

  /** Blocks until the device is idle. For tests and shutdown; elsewhere `await stream.done()`. */
  synchronise(): void {
    this.#enter()
    this.#calls.run('cuCtxSynchronize')
  }

  /** Frees everything this device handed out and releases the context. */
  [Symbol.dispose](): void {
    if (!this.#open) return
    // Twice, because what the driver refused to take back once it may take back now. Nothing here throws: an error was
    // reported where it happened.
    for (let round = 0; round < 2; round++) for (const resource of [...this.#live].reverse()) resource[Symbol.dispose]()
    this.#live.clear()
    this.#open = false
    releaseContext(this.#calls, this.kind, this.#device)
  }
}
