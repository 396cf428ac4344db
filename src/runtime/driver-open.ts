/** The opening of a device: the driver's start, what the device is, and its primary context. */
import { isOfMachine } from './advice.js'
import type { DriverCalls } from './driver-calls.js'
import { CudaError, EnvironmentError } from './errors.js'

/** CUdevice_attribute. */
const attribute = {
  maxThreadsPerBlock: 1, maxGridX: 5, maxGridY: 6, maxGridZ: 7, sharedPerBlock: 8, warpSize: 10, clockKhz: 13,
  multiprocessors: 16, memoryClockKhz: 36, memoryBusBits: 37, l2Bytes: 38, capabilityMajor: 75, capabilityMinor: 76,
  sharedPerMultiprocessor: 81, registersPerMultiprocessor: 82, sharedPerBlockOptin: 97,
} as const
export type DeviceLimits = { readonly [K in keyof typeof attribute]: number }
export type DeviceKind = 'cuda' | 'emulator'

export interface DeviceFacts {
  readonly handle: number
  readonly name: string
  readonly limits: DeviceLimits
  /** 'sm_90'. */
  readonly arch: string
  /** The driver's CUDA version, 13050. */
  readonly driverVersion: number
}

/**
 * Retains the primary context of a device and makes it current.
 * @throws EnvironmentError where the machine is the cause, else CudaError; then nothing is retained
 */
export function openContext(calls: DriverCalls, kind: DeviceKind, ordinal: number): DeviceFacts {
  calls.device = `${kind}:${ordinal}`
  try {
    return retained(calls, kind, ordinal)
  } catch (error) {
    if (!(error instanceof CudaError) || !isOfMachine(error.number)) throw error
    throw new EnvironmentError('device-open', `${kind}:${ordinal} cannot be opened: ${error.reason}`, { cause: error, fix: error.fix })
  }
}

function retained(calls: DriverCalls, kind: DeviceKind, ordinal: number): DeviceFacts {
  const number = new Int32Array(1)
  const driverVersion = initialise(calls)
  calls.run('cuDeviceGetCount', number)
  const count = number[0] ?? 0
  if (ordinal >= count) {
    throw new EnvironmentError('no-device', `there is no device ${kind}:${ordinal}: the driver shows ${count} device${count === 1 ? '' : 's'}`, {
      fix: count === 0 ? 'look at CUDA_VISIBLE_DEVICES, or use --device emulator' : `use ${kind}:0${count > 1 ? ` to ${kind}:${count - 1}` : ''}`,
    })
  }
  calls.run('cuDeviceGet', number, ordinal)
  const handle = number[0] ?? 0
  const bytes = Buffer.alloc(256)
  calls.run('cuDeviceGetName', bytes, bytes.length, handle)
  const name = bytes.toString('utf8', 0, Math.max(0, bytes.indexOf(0)))
  calls.device = `${kind}:${ordinal} ${name}`
  const limits = Object.fromEntries(Object.entries(attribute).map(([key, id]) => {
    calls.run('cuDeviceGetAttribute', number, id, handle)
    return [key, number[0] ?? 0]
  })) as DeviceLimits
  const context = new BigUint64Array(1)
  calls.run('cuDevicePrimaryCtxRetain', context, handle)
  calls.context = context[0] ?? 0n
  try {
    calls.enter()
  } catch (error) {
    releaseContext(calls, kind, handle)
    throw error
  }
  return { handle, name, limits, arch: `sm_${limits.capabilityMajor}${limits.capabilityMinor}`, driverVersion }
}

/** A poisoned context is left as it is. The emulator's is reset by its last release, so that a fault need not end the process. */
export function releaseContext(calls: DriverCalls, kind: DeviceKind, handle: number): void {
  if (kind === 'emulator' || calls.poison === undefined) calls.library.functions.cuDevicePrimaryCtxRelease_v2(handle)
  calls.context = 0n
}

/** cuInit, with what its failure means for the machine. Gives the driver's CUDA version. */
function initialise(calls: DriverCalls): number {
  const status = calls.status('cuInit', 0)
  if (status !== 0) {
    const cause = calls.error('cuInit', status)
    throw new EnvironmentError('driver-init', `the driver in ${calls.library.file} does not start: ${cause.reason}`, { cause, fix: cause.fix })
  }
  const version = new Int32Array(1)
  calls.run('cuDriverGetVersion', version)
  return version[0] ?? 0
}
