/**
 * What can go wrong between this program and a device. Every class is a `WeftError`: a stable `code`, what and why,
 * and the fix. Errors that a machine's set-up causes are `EnvironmentError` (a command exits with 3 for them).
 */
import { WeftError, type ErrorDetail } from '../dsl/errors.js'
import { driverAdvice, isSticky, nvrtcAdvice } from './advice.js'

/** No library, no compiler, no device: nothing is wrong with the program. Commands exit with `exitCode`. */
export class EnvironmentError extends WeftError {
  readonly exitCode = 3

  constructor(code: string, reason: string, detail: ErrorDetail = {}) {
    super(code, reason, detail)
    this.name = 'EnvironmentError'
  }
}

export const outOfMemory = 2

/** One call of the driver that failed, with the code `cuda`, or `out-of-memory`. A sticky one has poisoned the context: only ending the process is safe. */
export class CudaError extends WeftError {
  /** The driver's own name of the error, `CUDA_ERROR_ILLEGAL_ADDRESS`. */
  readonly errorName: string
  readonly number: number
  /** The driver function that reported it; errors of earlier launches surface in later calls. */
  readonly call: string
  readonly sticky: boolean

  constructor(call: string, number: number, errorName: string, text: string, context = '', emulated = false) {
    const sticky = isSticky(number)
    const why = !sticky ? '' : emulated ? '; this device cannot be used any more' : '; the device cannot be used any more in this process'
    super(number === outOfMemory ? 'out-of-memory' : 'cuda', `${call} failed${context === '' ? '' : ` (${context})`}: ${errorName} (${number}), ${text}${why}`, { fix: driverAdvice(number, emulated) })
    this.name = 'CudaError'
    this.call = call
    this.number = number
    this.errorName = errorName
    this.sticky = sticky
  }
}

export interface LiveBuffer {
  readonly label: string
  readonly bytes: number
}

/** Device memory is full. Recoverable: the device stays usable, freeing buffers and trying again may succeed. */
export class OutOfMemoryError extends CudaError {
  /** Bytes asked for. */
  readonly needed: number
  /** Bytes free on the device and in all; undefined where the driver does not tell even that. */
  readonly free: number | undefined
  readonly total: number | undefined
  /** The largest buffers alive that Weft itself allocated, largest first. */
  readonly largest: readonly LiveBuffer[]

  constructor(call: string, name: string, needed: number, memory: { readonly free: number; readonly total: number } | undefined, largest: readonly LiveBuffer[], context = '') {
    const holders = largest.map((buffer) => `${buffer.label} ${formatBytes(buffer.bytes)}`).join(', ')
    const left = memory === undefined ? '' : `, free ${formatBytes(memory.free)} of ${formatBytes(memory.total)}`
    super(call, outOfMemory, name,
      `out of device memory: needed ${formatBytes(needed)}${left}; ` +
        (holders === '' ? 'Weft holds no other buffer here' : `largest buffers alive: ${holders}`),
      context)
    this.name = 'OutOfMemoryError'
    this.needed = needed
    this.free = memory?.free
    this.total = memory?.total
    this.largest = largest
  }
}

/** The emitted text was refused by a compiler: a defect of Weft, so the message carries what a report needs. */
export class CompileError extends WeftError {
  /** The compiler's whole log. */
  readonly log: string
  /** The first offending line of the text, 1-based, where the log names one. */
  readonly line: number | undefined

  constructor(compiler: string, reason: string, log: string, text: string) {
    const line = firstLine(log)
    const source = line === undefined ? undefined : text.split('\n')[line - 1]
    const excerpt = source === undefined ? '' : `\n  line ${line}: ${source.trim()}`
    const told = log.trim().split('\n').filter((entry) => /error/i.test(entry)).slice(0, 5).join('\n  ')
    super('compile', `${compiler} refused a kernel: ${reason}${excerpt}${told === '' ? '' : `\n  ${told}`}`, {
      fix: 'this is a defect of Weft, unless the text is yours: report it with the line above and `weft doctor --verbose`',
    })
    this.name = 'CompileError'
    this.log = log
    this.line = line
  }
}

/** A call of NVRTC that failed for another reason than the text. */
export class NvrtcError extends WeftError {
  /** NVRTC's own name of the error, `NVRTC_ERROR_OUT_OF_MEMORY`. */
  readonly errorName: string
  readonly number: number
  readonly call: string

  constructor(call: string, number: number, errorName: string, context = '') {
    super('nvrtc', `${call} failed${context === '' ? '' : ` (${context})`}: ${errorName === '' ? 'unknown error' : errorName} (${number})`, { fix: nvrtcAdvice(number) })
    this.name = 'NvrtcError'
    this.call = call
    this.number = number
    this.errorName = errorName
  }
}

/** `name(12): error ...` is how NVRTC says it, `name:12:5: error ...` how host compilers do. */
function firstLine(log: string): number | undefined {
  const match = /\((\d+)\): (?:catastrophic )?error/.exec(log) ?? /:(\d+):\d+: (?:fatal )?error/.exec(log)
  return match?.[1] === undefined ? undefined : Number(match[1])
}

/** 12345678 → '11.8 MiB'. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = bytes < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(bytes) / 10))
  return power === 0 ? `${bytes} bytes` : `${(bytes / 1024 ** power).toFixed(1)} ${units[power]}`
}
