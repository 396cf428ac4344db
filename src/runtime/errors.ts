/**
 * What can go wrong between this program and a device. Every class is a `WeftError`: a stable `code`, what and why,
 * and the fix. Errors that a machine's set-up causes are `EnvironmentError` (a command exits with 3 for them).
 */
import { WeftError, type ErrorDetail } from '../dsl/errors.js'

/** No library, no compiler, no device: nothing is wrong with the program. Commands exit with `exitCode`. */
export class EnvironmentError extends WeftError {
  readonly exitCode = 3

  constructor(code: string, reason: string, detail: ErrorDetail = {}) {
    super(code, reason, detail)
    this.name = 'EnvironmentError'
  }
}

/** One call of the driver that failed. A sticky one has poisoned the context: only ending the process is safe. */
export class CudaError extends WeftError {
  /** The driver's own name of the error, `CUDA_ERROR_ILLEGAL_ADDRESS`. */
  readonly errorName: string
  readonly number: number
  /** The driver function that reported it; errors of earlier launches surface in later calls. */
  readonly call: string
  readonly sticky: boolean

  constructor(call: string, number: number, errorName: string, text: string, context = '', code = 'cuda', emulated = false) {
    const sticky = isSticky(number)
    const why = !sticky ? '' : emulated ? '; this device cannot be used any more' : '; the device cannot be used any more in this process'
    super(code, `${call} failed${context === '' ? '' : ` (${context})`}: ${errorName} (${number}), ${text}${why}`, { fix: sticky && emulated ? emulatedAdvice : advice[number] })
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
  /** Bytes asked for, free on the device, and in all. */
  readonly needed: number
  readonly free: number
  readonly total: number
  /** The largest buffers alive that Weft itself allocated, largest first. */
  readonly largest: readonly LiveBuffer[]

  constructor(call: string, name: string, needed: number, free: number, total: number, largest: readonly LiveBuffer[]) {
    const holders = largest.map((buffer) => `${buffer.label} ${formatBytes(buffer.bytes)}`).join(', ')
    super(call, 2, name,
      `out of device memory: needed ${formatBytes(needed)}, free ${formatBytes(free)} of ${formatBytes(total)}; ` +
        (holders === '' ? 'Weft holds no other buffer here, so other programs do' : `largest buffers alive: ${holders}`),
      '', 'out-of-memory')
    this.name = 'OutOfMemoryError'
    this.needed = needed
    this.free = free
    this.total = total
    this.largest = largest
  }
}

/** The emitted text was refused by a compiler: a defect of Weft, so the message carries what a report needs. */
export class CompileError extends WeftError {
  /** The compiler's whole log. */
  readonly log: string
  /** The first offending line of the text, 1-based, where the log names one. */
  readonly line: number | undefined

  constructor(compiler: string, reason: string, log: string, text: string, fix?: string) {
    const line = firstLine(log)
    const source = line === undefined ? undefined : text.split('\n')[line - 1]
    const excerpt = source === undefined ? '' : `\n  line ${line}: ${source.trim()}`
    const told = log.trim().split('\n').filter((entry) => /error/i.test(entry)).slice(0, 5).join('\n  ')
    super('compile', `${compiler} refused a kernel: ${reason}${excerpt}${told === '' ? '' : `\n  ${told}`}`, { fix })
    this.name = 'CompileError'
    this.log = log
    this.line = line
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

/** After these, every later call in the context fails too: ECC, NVLink, faults, asserts, traps, time-outs, unknown. */
const stickyNumbers: ReadonlySet<number> = new Set([214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999])

export const isSticky = (number: number): boolean => stickyNumbers.has(number)

/** What to do, where the number alone tells. */
const advice: { readonly [number: number]: string } = {
  2: 'free buffers (dispose), lower the batch or the number of heads per call, then try again: the device is still usable',
  34: "a toolkit's stub library was loaded instead of the driver: remove its `stubs` folder from LD_LIBRARY_PATH",
  46: 'the device is in exclusive mode and another process holds it: end that process, or `nvidia-smi -c 0`',
  100: 'no CUDA device is visible: look at CUDA_VISIBLE_DEVICES and `nvidia-smi`, or use --device emulator',
  101: 'there is no device with this number: `weft doctor` lists them',
  209: "no image for this GPU's architecture: compile for the device's own sm_XX, or use an NVRTC that knows it",
  218: 'the PTX was refused: set WEFT_NVRTC to an NVRTC not newer than the driver',
  222: 'the PTX is newer than the driver: set WEFT_NVRTC to an NVRTC not newer than the driver, or update the driver',
  223: 'the driver has no PTX compiler here: compile to a cubin',
  700: 'a kernel touched memory it does not own: run it with --device emulator, whose guard pages name the access; restart the process',
  701: 'too many registers or too much shared memory for one block: take a smaller tile or fewer warps',
  702: 'the kernel ran longer than the display watchdog allows: split the work, or use a device without a display; restart the process',
  719: 'a kernel crashed: run it with --device emulator to find out where; restart the process',
  803: 'a `cuda/compat` folder comes before the driver of the host: remove it from LD_LIBRARY_PATH',
  804: 'forward compatibility is for data-centre GPUs only: update the driver',
}

/** The emulator has named the place already, and its faults end with the device. */
const emulatedAdvice = 'look at the access that the message names, and at the shapes of what was passed; a newly opened device works'

/** The advice for a driver error number, if there is any. */
export const adviceFor = (number: number): string | undefined => advice[number]
