/** Which device a command runs on, and how it was found. */
import { WeftError } from '../dsl/errors.js'
import { deviceSpec, openDevice, type OpenedDevice, type OpenOptions } from '../runtime/devices.js'
import { EnvironmentError } from '../runtime/errors.js'

export interface Chosen {
  readonly kind: 'cuda' | 'emulator' | 'reference'
  /** Undefined for the reference interpreter, which needs none. */
  readonly opened: OpenedDevice | undefined
  readonly name: string
  /** What it is and why it was taken, one line each. */
  readonly found: readonly string[]
  /** Of `found`: better devices that could not be had, and why. Empty where the device was asked for. */
  readonly missed: readonly string[]
}

/** Checked before anything else is done. @throws WeftError `device-spec` */
export function wantedDevice(option: string | undefined): string | undefined {
  const wanted = option ?? process.env['WEFT_DEVICE'] ?? ''
  if (wanted === '' && option === undefined) return undefined
  if (/^(cuda(:\d{1,3})?|emulator|reference)$/.test(wanted)) return wanted
  throw new WeftError('device-spec', `'${wanted}' names no device`, { fix: 'use cuda, cuda:1, emulator or reference' })
}

/**
 * The device asked for, else the best there is: cuda, then the emulator, then the reference interpreter.
 * `beforeEmulator` is called when it is known that the emulator will be opened, which may have to be built first.
 */
export async function chooseDevice(wanted: string | undefined, options: OpenOptions = {}, beforeEmulator: () => void = () => {}): Promise<Chosen> {
  if (wanted === 'reference') return reference([], ['asked for'])
  if (wanted === 'emulator') beforeEmulator()
  if (wanted !== undefined) return opened(wanted, await openDevice(deviceSpec(wanted), options), [], ['asked for'])
  const misses: string[] = []
  for (const spec of ['cuda', 'emulator'] as const) {
    if (spec === 'emulator') beforeEmulator()
    try {
      return opened(spec, await openDevice(spec, options), misses)
    } catch (error) {
      if (!(error instanceof EnvironmentError)) throw error
      misses.push(`no ${spec}: ${error.reason.split(/\. Places tried|\n/)[0]}`)
    }
  }
  return reference(misses)
}

const opened = (spec: string, o: OpenedDevice, missed: readonly string[], why: readonly string[] = missed): Chosen => ({
  kind: spec === 'emulator' ? 'emulator' : 'cuda', opened: o, name: o.device.name, missed,
  found: [...(o.emulator === undefined ? [`${o.device.multiprocessors} multiprocessors, ${o.device.arch}; driver: ${o.foundVia}`] : ["the kernels' own text, over checking versions of the helper functions; threads as fibers"]), `compiler: ${o.compiler.id.replace(/ [0-9a-f]{32}$/, '')}`, ...why, ...o.warnings],
})
const reference = (missed: readonly string[], why: readonly string[] = missed): Chosen => ({
  kind: 'reference', opened: undefined, name: 'reference interpreter', missed,
  found: ['plain loops, no kernels', ...why, ...(missed.length > 0 ? ['`weft doctor` says more'] : [])],
})
