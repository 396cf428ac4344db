/**
 * The devices that a numeric suite runs on: `describe.each(devices)`. A missing one is a loud skip with its reason and
 * the fix; where CI is 'true' the emulator is required, and its absence fails the suite.
 */
import { describe } from 'vitest'
import { WeftError } from '../src/dsl/errors.js'
import { openDevice } from '../src/runtime/devices.js'
import { findHostCompiler } from '../src/runtime/emulator/compile.js'

export type DeviceName = 'reference' | 'emulator' | 'cuda'
export interface TestDevice {
  readonly name: DeviceName
  /** Why it is skipped. */
  readonly missing?: string
}

/** Adversarial orders of threads; a result may not depend on them by a single bit. */
export const threadOrders = ['ascending', 'descending', 'warp-greedy', 'warp-greedy-descending', 'random:1', 'random:2'] as const

export const required = process.env['CI'] === 'true'

function emulator(): TestDevice {
  const compiler = findHostCompiler()
  if (!('missing' in compiler) || required) return { name: 'emulator' }
  return { name: 'emulator', missing: `${compiler.missing} Fix: ${compiler.fix}` }
}

async function cuda(): Promise<TestDevice> {
  try {
    using _ = await openDevice('cuda')
    return { name: 'cuda' }
  } catch (error) {
    if (!(error instanceof WeftError)) throw error
    return { name: 'cuda', missing: `${error.reason.split('. ')[0]} Fix: ${error.fix ?? 'weft doctor'}` }
  }
}

export const emulatorDevice = emulator()
/** The devices that run kernels. The reference, against which they are compared, is always there. */
export const kernelDevices: readonly TestDevice[] = [emulatorDevice, await cuda()]
export const devices: readonly TestDevice[] = [{ name: 'reference' }, ...kernelDevices]

for (const d of devices) if (d.missing !== undefined) console.warn(`SKIPPED: tests on ${d.name}. ${d.missing}`)

/** A suite for each device; those that are missing are listed as skipped. */
export function describeDevices(title: string, which: readonly TestDevice[], suite: (device: TestDevice) => void): void {
  for (const d of which) {
    const name = `${title} on ${d.name}${d.missing === undefined ? '' : ` (skipped: ${d.missing})`}`
    if (d.missing === undefined) describe(name, () => suite(d))
    else describe.skip(name, () => suite(d))
  }
}
