/** Devices over the simulated driver, for tests. */
import { afterEach, expect } from 'vitest'
import { DriverDevice, type DriverDeviceOptions } from '../../src/runtime/driver-device.js'
import { openLibrary } from '../../src/runtime/ffi/bind.js'
import { mockFfi } from '../../src/runtime/ffi/mock.js'
import { mockDriver, type MockDriver, type MockDriverOptions } from '../../src/runtime/ffi/mock-driver.js'
import { driverTable } from '../../src/runtime/ffi/table.js'

export const kernels = {
  /** out[i] = in[i] * factor + offset, for i < n. */
  scale: ((launch, _memory) => {
    const n = launch.slots[2]!.getInt32(0, true)
    expect(n).toBeGreaterThan(0)
  }) satisfies NonNullable<MockDriverOptions['kernels']>[string],
}

const open: DriverDevice[] = []
afterEach(() => {
  for (const device of open.splice(0)) device[Symbol.dispose]()
})

export function start(options: MockDriverOptions = {}, deviceOptions: Partial<DriverDeviceOptions> = {}): { driver: MockDriver; device: DriverDevice } {
  const driver = mockDriver({ kernels, ...options })
  const device = deviceOn(driver, deviceOptions)
  return { driver, device }
}

export function deviceOn(driver: MockDriver, options: Partial<DriverDeviceOptions> = {}): DriverDevice {
  const ffi = mockFfi({ 'libcuda.so.1': driver.library }, driver.memory)
  const device = new DriverDevice(openLibrary(ffi, 'the CUDA driver', 'libcuda.so.1', driverTable), { kind: 'cuda', ...options })
  open.push(device)
  return device
}

export const nothing = { allocations: 0, bytes: 0, modules: 0, streams: 0, events: 0, graphs: 0, contexts: 0, recording: 0 }
export const image = Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 0)
export const shape = { grid: [2, 1, 1], block: 128, shared: 0 } as const

/** Everything a program does with a device, once each. */
export async function session(device: DriverDevice): Promise<number[]> {
  using input = device.alloc(64, 'input')
  using output = device.alloc(64, 'output')
  using module = device.load(image)
  using stream = device.stream()
  device.upload(input, Float32Array.of(1, 2, 3))
  device.upload(input, Float32Array.of(1, 2, 3), stream)
  device.fill(output, 0, stream)
  const kernel = module.kernel('scale')
  device.launch(kernel, { ...shape, shared: 60_000, stream }, [input, output, { kind: 'i32', value: 3 }, { kind: 'f32', value: 2 }])
  const time = await device.time(stream, () => device.launch(kernel, { ...shape, stream }, [input, output, { kind: 'i32', value: 3 }]))
  using graph = device.capture(stream, () => device.launch(kernel, { ...shape, stream }, [input, output, { kind: 'i32', value: 3 }]))
  graph.launch(stream)
  device.memory()
  const result = await device.download(input, new Float32Array(3), stream)
  device.synchronise()
  expect(stream.idle()).toBe(true)
  return [...result, time]
}
