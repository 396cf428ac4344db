/** Loaded kernels, and the parameter block of a launch. */
import { WeftError } from '../dsl/errors.js'
import { DeviceBuffer } from './buffer.js'
import { ended } from './driver-calls.js'
import type { Ffi } from './ffi/index.js'
import type { StreamHost } from './stream.js'
import './lifetime.js'

/** A scalar with the type the kernel declares; a bare BigInt is a raw device pointer. */
export interface ScalarArgument {
  readonly kind: 'i32' | 'u32' | 'f32' | 'i64' | 'u64' | 'pointer'
  readonly value: number | bigint
}
export type KernelArgument = DeviceBuffer | bigint | ScalarArgument

const attribute = { maxThreads: 0, sharedBytes: 1, localBytes: 3, registers: 4 } as const

export class Kernel {
  readonly name: string
  readonly module: Module
  readonly maxThreads: number
  /** Static shared memory per block, in bytes. */
  readonly sharedBytes: number
  /** Spill and stack memory per thread, in bytes. */
  readonly localBytes: number
  readonly registers: number
  /** The dynamic shared memory that was opted in for, in bytes; 48 KiB per block need no opting in. */
  allowedShared = 0
  readonly #handle: bigint

  constructor(module: Module, host: StreamHost, name: string, handle: bigint) {
    const value = new Int32Array(1)
    const read = (number: number): number => {
      host.calls.run('cuFuncGetAttribute', value, number, handle)
      return value[0] ?? 0
    }
    this.name = name
    this.module = module
    this.maxThreads = read(attribute.maxThreads)
    this.sharedBytes = read(attribute.sharedBytes)
    this.localBytes = read(attribute.localBytes)
    this.registers = read(attribute.registers)
    this.#handle = handle
  }

  get handle(): bigint {
    if (!this.module.alive) throw ended(`the module of kernel ${this.name}`, 'a kernel was used')
    return this.#handle
  }
}

export class Module implements Disposable {
  readonly #host: StreamHost
  readonly #handle: bigint
  readonly #kernels = new Map<string, Kernel>()
  #alive = true

  constructor(host: StreamHost, handle: bigint) {
    this.#host = host
    this.#handle = handle
    host.keep(this)
  }

  get alive(): boolean {
    return this.#alive
  }

  /** The kernel of this `extern "C"` name. */
  kernel(name: string): Kernel {
    if (!this.#alive) throw ended('the module', `kernel ${name} was asked for`)
    const known = this.#kernels.get(name)
    if (known !== undefined) return known
    this.#host.enter()
    const handle = new BigUint64Array(1)
    const status = this.#host.calls.status('cuModuleGetFunction', handle, this.#handle, name)
    if (status === notFound) {
      throw new WeftError('no-kernel', `the module has no kernel ${name}`, { fix: 'kernels are `extern "C" __global__`; compare the name with the text' })
    }
    if (status !== 0) throw this.#host.calls.error('cuModuleGetFunction', status)
    const kernel = new Kernel(this, this.#host, name, handle[0] ?? 0n)
    this.#kernels.set(name, kernel)
    return kernel
  }

  [Symbol.dispose](): void {
    if (!this.#alive || !this.#host.calls.quietly('cuModuleUnload', this.#handle)) return
    this.#alive = false
    this.#host.forget(this)
  }
}

const notFound = 500

/**
 * The `void **` of a launch: an array of addresses, one 8-byte slot each. The driver copies the values during the
 * call, so one block serves every launch and a launch allocates nothing.
 */
export class ParameterBlock {
  readonly #ffi: Ffi
  #slots = 0
  #values = new DataView(new ArrayBuffer(0))
  #addresses = new BigUint64Array(0)

  constructor(ffi: Ffi) {
    this.#ffi = ffi
    this.#grow(32)
  }

  #grow(slots: number): void {
    // Memory of its own: a small typed array would live in the JavaScript heap, where it could move.
    const memory = new ArrayBuffer(slots * 16)
    this.#values = new DataView(memory, 0, slots * 8)
    this.#addresses = new BigUint64Array(memory, slots * 8, slots)
    const base = this.#ffi.addressOf(this.#values)
    for (let i = 0; i < slots; i++) this.#addresses[i] = base + BigInt(i * 8)
    this.#slots = slots
  }

  /** Writes the arguments and gives the array to pass. */
  fill(kernel: string, args: readonly KernelArgument[]): BigUint64Array {
    if (args.length > this.#slots) this.#grow(args.length * 2)
    for (let i = 0; i < args.length; i++) {
      const arg = args[i]
      if (arg === undefined) throw bad(kernel, i, 'is undefined')
      if (arg instanceof DeviceBuffer) {
        if (!arg.alive) throw ended(arg.describe(), `${kernel}, argument ${i + 1}`)
        this.#values.setBigUint64(i * 8, arg.pointer, true)
      } else if (typeof arg === 'bigint') this.#pointer(kernel, i, arg)
      else this.#scalar(kernel, i, arg)
    }
    return this.#addresses
  }

  #pointer(kernel: string, i: number, value: number | bigint): void {
    if (typeof value !== 'bigint' || value < 0n || value >= 1n << 64n) throw bad(kernel, i, `must be an address as BigInt, got ${value}`)
    this.#values.setBigUint64(i * 8, value, true)
  }

  #scalar(kernel: string, i: number, { kind, value }: ScalarArgument): void {
    const at = i * 8
    switch (kind) {
      case 'i32':
        if (!inRange(value, -(2 ** 31), 2 ** 31 - 1)) throw bad(kernel, i, `does not fit i32: ${value}`)
        return this.#values.setInt32(at, Number(value), true)
      case 'u32':
        if (!inRange(value, 0, 2 ** 32 - 1)) throw bad(kernel, i, `does not fit u32: ${value}`)
        return this.#values.setUint32(at, Number(value), true)
      case 'f32':
        return this.#values.setFloat32(at, Number(value), true)
      case 'i64':
      case 'u64': {
        const wide = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value) : undefined
        const fits = wide !== undefined && (kind === 'i64' ? BigInt.asIntN(64, wide) : BigInt.asUintN(64, wide)) === wide
        if (!fits) throw bad(kernel, i, `does not fit ${kind}: ${value}`)
        return this.#values.setBigInt64(at, wide, true)
      }
      case 'pointer':
        return this.#pointer(kernel, i, value)
    }
  }
}

const inRange = (value: number | bigint, low: number, high: number): boolean =>
  (typeof value === 'bigint' || Number.isInteger(value)) && value >= low && value <= high

const bad = (kernel: string, i: number, reason: string): WeftError =>
  new WeftError('kernel-argument', `kernel ${kernel}: argument ${i + 1} ${reason}`, { fix: 'pass a buffer, a device pointer as BigInt, or { kind, value }' })
