/** The target of an open device. */
import { targetOf, type Target } from '../codegen/target.js'
import type { DriverDevice } from './driver-device.js'

/**
 * A GPU's own limits. The emulator has an H100's, multiprocessors included (its own are this machine's processors), so
 * that it runs the very text that an H100 would get.
 */
export function targetOn({ kind, arch, limits }: Pick<DriverDevice, 'kind' | 'arch' | 'limits'>): Target {
  const usual = targetOf(arch)
  if (kind === 'emulator') return usual
  return {
    ...usual, multiprocessors: limits.multiprocessors, sharedPerBlock: limits.sharedPerBlockOptin,
    sharedPerMultiprocessor: limits.sharedPerMultiprocessor, registersPerMultiprocessor: limits.registersPerMultiprocessor,
  }
}
