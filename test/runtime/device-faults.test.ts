import { describe, expect, it } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import type { DriverDevice } from '../../src/runtime/driver-device.js'
import { mockDriver } from '../../src/runtime/ffi/mock-driver.js'
import { deviceOn, kernels, nothing, session, start } from './mock-device.js'

describe('any call may fail', async () => {
  // One clean run says which functions are called how often; then each fails at its first, second and last call.
  const clean = start()
  await session(clean.device)
  clean.device[Symbol.dispose]()
  const names = [...new Set(clean.driver.library.calls.map((call) => call.name))]
  const cases = names.flatMap((name) => {
    const times = clean.driver.library.count(name)
    return [...new Set([1, Math.min(2, times), times])].flatMap((at) => [1, 2, 201, 400, 700, 702, 719, 999].map((status) => ({ name, at, status })))
  })

  it('covers the functions of a session', () => {
    expect(names.length).toBeGreaterThanOrEqual(27)
    expect(cases.length).toBeGreaterThan(350)
  })

  it.each(cases)('$name, call $at gives $status', async ({ name, at, status }) => {
    const driver = mockDriver({ kernels })
    driver.library.fail(name, status, at)
    let error: unknown
    let device: DriverDevice | undefined
    try {
      device = deviceOn(driver)
      await session(device)
    } catch (thrown) {
      error = thrown
    }
    device?.[Symbol.dispose]()
    const cleanUp = /Destroy|Unload|Release|Free/.test(name)
    if (!cleanUp) expect(error).toBeInstanceOf(WeftError)
    if (error instanceof WeftError) expect(error.message).toMatch(name === 'cuMemAlloc_v2' && status === 2 ? /out of device memory/ : new RegExp(name))
    // What a call that failed could not give back is all that may be left; a poisoned context is left as it is.
    const left = driver.balance()
    if (status >= 700) return
    const lost = Object.values(left).filter((count) => count !== 0).length
    const own = { cuMemFree_v2: 'allocations', cuModuleUnload: 'modules', cuStreamDestroy_v2: 'streams', cuEventDestroy_v2: 'events', cuGraphDestroy: 'graphs', cuGraphExecDestroy: 'graphs', cuDevicePrimaryCtxRelease_v2: 'contexts' }[name]
    if (own === undefined) expect(left).toEqual(nothing)
    else expect(lost).toBeLessThanOrEqual(2)
  })
})
