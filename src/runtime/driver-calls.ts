/**
 * Calls of the driver with their errors: a status other than 0 becomes a `CudaError`, and the first sticky one poisons
 * everything that shares the context, so that later calls report the cause and not its echo.
 */
import { WeftError } from '../dsl/errors.js'
import { isSticky } from './advice.js'
import { CudaError } from './errors.js'
import type { Driver, driverTable, Library } from './ffi/index.js'

export type DriverLibrary = Pick<Library<typeof driverTable>, 'ffi' | 'file' | 'functions' | 'has'>
type Arguments<N extends keyof Driver> = Parameters<Driver[N]>

/** The status of a stream or an event that is still under way: an answer and no error. */
export const notReady = 600

export class DriverCalls {
  readonly library: DriverLibrary
  /** The first sticky error. */
  poison: CudaError | undefined
  /** Named in messages: an error of a launch often surfaces in a later call. */
  lastKernel = ''
  /** What a message calls the device. */
  device = ''
  /** CUcontext, while there is one. */
  context = 0n

  readonly #explain: (() => string) | undefined
  readonly #emulated: boolean

  constructor(library: DriverLibrary, explain?: () => string, emulated = false) {
    this.library = library
    this.#emulated = emulated
    this.#explain = explain
  }

  /** Calls and throws on any status but 0. */
  run<N extends keyof Driver & string>(name: N, ...args: Arguments<N>): void {
    const status = this.status(name, ...args)
    if (status !== 0) throw this.error(name, status)
  }

  /** Calls and gives the status, after the check that the device is still usable. */
  status<N extends keyof Driver & string>(name: N, ...args: Arguments<N>): number {
    if (this.poison !== undefined) throw this.poison
    return (this.library.functions[name] as (...args: readonly unknown[]) => number)(...args)
  }

  /** The context is current per thread, and other libraries in the process may change it between two calls of ours. */
  enter(): void {
    this.run('cuCtxSetCurrent', this.context)
  }

  /**
   * For clean-up, where an error must not take the place of the one that made it necessary: a sticky one poisons, others
   * are dropped. A context that is poisoned or released is not called at all.
   * @returns whether the call was made; false where even the context could not be made current
   */
  quietly<N extends keyof Driver & string>(name: N, ...args: Arguments<N>): boolean {
    if (this.poison !== undefined || this.context === 0n) return true
    const entered = this.library.functions.cuCtxSetCurrent(this.context)
    if (entered !== 0) {
      this.error('cuCtxSetCurrent', entered)
      return false
    }
    const status = (this.library.functions[name] as (...args: readonly unknown[]) => number)(...args)
    if (status !== 0) this.error(name, status)
    return true
  }

  /** The device and the last kernel, for messages. */
  get where(): string {
    return [this.device, this.lastKernel === '' ? '' : `last kernel launched: ${this.lastKernel}`].filter((part) => part !== '').join('; ')
  }

  /** The error for a status; a sticky one is remembered. */
  error(name: string, status: number): CudaError {
    // It may end with a quoted line of the kernel, whose semicolon would meet the one of the next sentence.
    const own = isSticky(status) ? (this.#explain?.() ?? '').replace(/\s*;?\s*$/, '') : ''
    const text = this.describe('cuGetErrorString', status)
    const error = new CudaError(name, status, this.describe('cuGetErrorName', status), own === '' ? text : `${text}: ${own}`, this.where, this.#emulated)
    if (error.sticky) this.poison ??= error
    return error
  }

  describe(which: 'cuGetErrorName' | 'cuGetErrorString', status: number): string {
    const text = new BigUint64Array(1)
    const { functions, ffi } = this.library
    if (!this.library.has(which) || functions[which](status, text) !== 0 || text[0] === 0n) return which === 'cuGetErrorName' ? 'unknown error' : 'no description'
    return ffi.readString(text[0] ?? 0n)
  }
}

/** Using something after its end. */
export const ended = (what: string, use: string): WeftError =>
  new WeftError('use-after-free', `${use}: ${what} was freed before`, { fix: 'free it after its last use; work on a stream is finished when `await stream.done()` returns' })
