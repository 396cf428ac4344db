import { describe, expect, it } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import { CudaError, EnvironmentError, OutOfMemoryError } from '../../src/runtime/errors.js'
import { mockDriver } from '../../src/runtime/ffi/mock-driver.js'
import { deviceOn, image, kernels, nothing, session, shape, start } from './mock-device.js'

describe('a device', () => {
  it('describes itself', () => {
    const { device } = start()
    expect(device).toMatchObject({ kind: 'cuda', name: 'Mock GPU 0', ordinal: 0, arch: 'sm_90', multiprocessors: 132, sharedPerBlockOptin: 232_448, driverVersion: 13050 })
    expect(device.memory()).toEqual({ free: 1 << 20, total: 1 << 20 })
  })

  it('opens the one with the given number, several at a time, each with its own context', () => {
    const driver = mockDriver({ devices: 2, kernels })
    const first = deviceOn(driver), second = deviceOn(driver, { ordinal: 1 })
    expect([first.name, second.name]).toEqual(['Mock GPU 0', 'Mock GPU 1'])
    first.memory()
    second.memory()
    const contexts = driver.library.calls.filter((call) => call.name === 'cuCtxSetCurrent').slice(-2).map((call) => call.args[0])
    expect(contexts).toEqual([0xc0n, 0xc1n])
  })

  it.each([
    [{ devices: 1 }, { ordinal: 1 }, EnvironmentError, /there is no device cuda:1: the driver shows 1 device\n {2}fix: use cuda:0/],
    [{ devices: 0 }, {}, EnvironmentError, /does not start: .*CUDA_ERROR_NO_DEVICE \(100\)[^]*fix: no CUDA device is visible/],
  ])('says that there is none: %j %j', (options, deviceOptions, type, message) => {
    expect(() => start(options, deviceOptions)).toThrow(message)
    expect(() => start(options, deviceOptions)).toThrow(type)
    try {
      start(options, deviceOptions)
    } catch (error) {
      expect(error).toMatchObject({ exitCode: 3 })
    }
  })

  it('runs a program and gives everything back', async () => {
    const { driver, device } = start({ pending: 3 })
    expect(await session(device)).toEqual([1, 2, 3, 0.25])
    expect(driver.balance()).toEqual({ ...nothing, contexts: 1 })
    device[Symbol.dispose]()
    device[Symbol.dispose]()
    expect(driver.balance()).toEqual(nothing)
    expect(() => device.alloc(4)).toThrow(/the device cuda:0 was freed before/)
  })

  it('frees what is still alive when it ends', () => {
    const { driver, device } = start()
    device.alloc(100, 'forgotten')
    device.stream()
    device.event()
    device.load(image)
    expect(driver.balance()).toEqual({ allocations: 1, bytes: 100, modules: 1, streams: 1, events: 1, graphs: 0, contexts: 1, recording: 0 })
    device[Symbol.dispose]()
    expect(driver.balance()).toEqual(nothing)
  })

  it('waits by polling, with pauses, and never by a blocking call', async () => {
    const { driver, device } = start({ pending: 80 })
    using stream = device.stream()
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    await stream.done()
    clearInterval(timer)
    expect(driver.library.count('cuEventQuery')).toBe(81)
    expect(ticks).toBeGreaterThan(3)
    expect(driver.library.calls.map((call) => call.name)).not.toContain('cuStreamSynchronize')
    expect(driver.balance().events).toBe(0)
  })
})

describe('graphs', () => {
  it('are given back when the recording fails, and the failure is what is thrown', () => {
    const { driver, device } = start()
    using stream = device.stream()
    expect(() => device.capture(stream, () => { throw new Error('mine') })).toThrow('mine')
    expect(driver.balance()).toMatchObject({ graphs: 0, recording: 0 })
    driver.library.fail('cuCtxSetCurrent', 400, 2)   // the one after what is recorded
    expect(() => device.capture(stream, () => {})).toThrow(/cuCtxSetCurrent/)
    expect(driver.balance()).toMatchObject({ graphs: 0, recording: 0 })
    driver.library.fail('cuGraphInstantiateWithFlags', 1)
    expect(() => device.capture(stream, () => {})).toThrow(/cuGraphInstantiateWithFlags/)
    expect(driver.balance().graphs).toBe(0)
    expect(() => device.capture(device.defaultStream, () => {})).toThrow(/cuStreamBeginCapture_v2 failed/)
  })

  it('end with their device', () => {
    const { device } = start()
    const stream = device.stream()
    const graph = device.capture(stream, () => {})
    graph[Symbol.dispose]()
    expect(() => graph.launch(stream)).toThrow(/the graph was freed before/)
  })
})

describe('events', () => {
  it('are not waited for before they are recorded', async () => {
    const { device } = start()
    using event = device.event()
    await expect(event.done()).rejects.toThrow(/never recorded/)
  })
})

describe('buffers', () => {
  it('of no bytes have no memory and the address 0', async () => {
    const { driver, device } = start()
    using empty = device.alloc(0, 'empty')
    expect(empty.pointer).toBe(0n)
    device.upload(empty, new Float32Array(0))
    device.fill(empty, 1)
    expect(await device.download(empty, new Float32Array(0))).toEqual(new Float32Array(0))
    empty.free()
    expect(driver.library.count('cuMemAlloc_v2') + driver.library.count('cuMemFree_v2')).toBe(0)
  })

  it('refuse to be freed twice or used after', async () => {
    const { device } = start()
    const buffer = device.alloc(16, 'scores')
    buffer.free()
    buffer[Symbol.dispose]()
    expect(() => buffer.free()).toThrow('buffer "scores" of 16 bytes was freed twice')
    expect(() => buffer.pointer).toThrow('buffer "scores" of 16 bytes was freed before')
    expect(() => device.upload(buffer, new Uint8Array(4))).toThrow(/upload to: buffer "scores"/)
    await expect(device.download(buffer, new Uint8Array(4))).rejects.toThrow(/download from: buffer "scores"/)
    expect(() => device.fill(buffer, 0)).toThrow(/fill: buffer/)
    expect(() => device.launch(device.load(image).kernel('scale'), shape, [buffer])).toThrow(/scale, argument 1: buffer "scores" of 16 bytes was freed before/)
  })

  it('refuse copies that do not fit and sizes that are none', () => {
    const { device } = start()
    using buffer = device.alloc(16, 'scores')
    expect(() => device.upload(buffer, new Float32Array(5))).toThrow('upload to buffer "scores" of 16 bytes: 20 bytes do not fit')
    expect(() => device.downloadSync(buffer, new Float32Array(5))).toThrow('20 bytes do not fit')
    for (const bytes of [-1, 1.5, NaN, 2 ** 60]) expect(() => device.alloc(bytes, 'bad')).toThrow(/is not a number of bytes/)
  })

  it('are read only after the stream has reached that point', async () => {
    const { driver, device } = start({ pending: 3 })
    using buffer = device.alloc(16), stream = device.stream()
    await device.download(buffer, new Uint8Array(4), stream)
    const order = driver.library.calls.map((call) => call.name).filter((name) => /EventRecord|EventQuery|DtoH/.test(name))
    expect(order).toEqual(['cuEventRecord', 'cuEventQuery', 'cuEventQuery', 'cuEventQuery', 'cuEventQuery', 'cuMemcpyDtoH_v2'])
  })

  it('over memory of others are never freed', () => {
    const { driver, device } = start()
    using own = device.alloc(32, 'own')
    const wrapped = device.wrap(own.pointer + 16n, 16)
    device.upload(wrapped, Uint8Array.of(7))
    wrapped.free()
    expect(driver.library.count('cuMemFree_v2')).toBe(0)
    expect(() => wrapped.pointer).toThrow(/was freed before/)
    expect(device.downloadSync(own, new Uint8Array(32))[16]).toBe(7)
  })
})

describe('out of memory', () => {
  it('tells the sizes and who holds them, and leaves the device usable', async () => {
    const { device } = start({ memory: 3 << 20 })
    const keys = device.alloc(1 << 20, 'keys')
    const votes = device.alloc(1 << 19, 'votes')
    const error = (() => {
      try {
        device.alloc(2 << 20, 'copy')
      } catch (thrown) {
        return thrown
      }
    })()
    expect(error).toBeInstanceOf(OutOfMemoryError)
    expect(error).toMatchObject({
      code: 'out-of-memory', sticky: false, needed: 2 << 20, free: 3 << 19, total: 3 << 20,
      largest: [{ label: 'keys', bytes: 1 << 20 }, { label: 'votes', bytes: 1 << 19 }],
    })
    expect((error as Error).message).toMatch(/needed 2\.0 MiB, free 1\.5 MiB of 3\.0 MiB; largest buffers alive: keys 1\.0 MiB, votes 512\.0 KiB/)
    keys.free()
    device.alloc(2 << 20, 'copy').free()
    expect(() => device.alloc(8 << 20)).toThrow(/largest buffers alive: votes 512\.0 KiB$|largest buffers alive: votes 512\.0 KiB\n/)
    votes.free()
    expect(await session(device)).toEqual([1, 2, 3, 0.25])
  })
})

describe('launches', () => {
  it('pass grid, block, shared memory, stream and arguments', () => {
    const { driver, device } = start()
    using buffer = device.alloc(16)
    using stream = device.stream()
    const kernel = device.load(image).kernel('scale')
    device.launch(kernel, { grid: [3, 4, 5], block: 64, shared: 1024, stream }, [
      buffer, 0xdead_beefn, { kind: 'i32', value: -5 }, { kind: 'u32', value: 4_000_000_000 }, { kind: 'f32', value: 1.5 },
      { kind: 'i64', value: -(2n ** 60n) }, { kind: 'u64', value: 2n ** 64n - 1n }, { kind: 'pointer', value: 5n },
    ].map((arg, i) => (i === 2 ? { kind: 'i32', value: 7 } as const : arg)) as never)
    const [launch] = driver.launches
    expect(launch).toMatchObject({ kernel: 'scale', grid: [3, 4, 5], block: [64, 1, 1], shared: 1024, stream: stream.handle })
    const slots = launch!.slots
    expect([slots[0]!.getBigUint64(0, true), slots[1]!.getBigUint64(0, true)]).toEqual([buffer.pointer, 0xdead_beefn])
    expect([slots[2]!.getInt32(0, true), slots[3]!.getUint32(0, true), slots[4]!.getFloat32(0, true)]).toEqual([7, 4_000_000_000, 1.5])
    expect([slots[5]!.getBigInt64(0, true), slots[6]!.getBigUint64(0, true), slots[7]!.getBigUint64(0, true)]).toEqual([-(2n ** 60n), 2n ** 64n - 1n, 5n])
  })

  it('use one parameter block for all, which grows when it must', () => {
    const { driver, device } = start()
    const kernel = device.load(image).kernel('scale')
    const args = Array.from({ length: 70 }, (_, i) => ({ kind: 'i32', value: i + 1 }) as const)
    for (let i = 0; i < 3; i++) device.launch(kernel, shape, [0n, 0n, { kind: 'i32', value: i + 1 }])
    device.launch(kernel, shape, args)
    expect(driver.launches.map((launch) => launch.slots[2]!.getInt32(0, true))).toEqual([1, 2, 3, 3])
    expect(driver.launches[3]!.slots[69]!.getInt32(0, true)).toBe(70)
    const blocks = driver.library.calls.filter((call) => call.name === 'cuLaunchKernel').map((call) => call.args[9])
    expect(new Set(blocks).size).toBe(2)
  })

  it('opt in for large shared memory once', () => {
    const { driver, device } = start({ kernelAttributes: { 1: 1024 } })
    const kernel = device.load(image).kernel('scale')
    const one = [0n, 0n, { kind: 'i32', value: 1 }] as const
    for (const shared of [48 * 1024 - 1024, 48 * 1024, 60_000, 60_000, 50_000, 70_000]) device.launch(kernel, { ...shape, shared }, one)
    const sets = driver.library.calls.filter((call) => call.name === 'cuFuncSetAttribute').map((call) => call.args.slice(1))
    expect(sets).toEqual([[8, 48 * 1024], [8, 60_000], [8, 70_000]])
  })

  it.each([
    ['an empty grid', { grid: [0, 1, 1] }, /grid of 0 × 1 × 1 blocks has none/],
    ['a grid too large', { grid: [1, 65_536, 1] }, /is over 2147483647 × 65535 × 65535/],
    ['too many threads', { block: 1025 }, /1025 threads per block are not 1 to 1024 \(it uses 32 registers\)/],
    ['no threads', { block: 0 }, /0 threads/],
    ['too much shared memory', { shared: 240_000 }, /240000 bytes of dynamic and 0 of static shared memory are over 232448/],
    ['NaN', { grid: [NaN, 1, 1] }, /grid of NaN/],
  ] as const)('refuse %s on the host', (_, change, message) => {
    const { driver, device } = start()
    const kernel = device.load(image).kernel('scale')
    expect(() => device.launch(kernel, { ...shape, ...change }, [])).toThrow(message)
    expect(() => device.launch(kernel, { ...shape, ...change }, [])).toThrow(WeftError)
    expect(driver.launches).toHaveLength(0)
  })

  it.each([
    [{ kind: 'i32', value: 2 ** 31 }, /kernel scale: argument 1 does not fit i32: 2147483648/],
    [{ kind: 'i32', value: 0.5 }, /does not fit i32: 0\.5/],
    [{ kind: 'u32', value: -1 }, /does not fit u32/],
    [{ kind: 'i64', value: 2n ** 63n }, /does not fit i64/],
    [{ kind: 'u64', value: -1n }, /does not fit u64/],
    [{ kind: 'i64', value: 2 ** 60 }, /does not fit i64/],
    [{ kind: 'pointer', value: 5 }, /must be an address as BigInt, got 5/],
    [-1n, /must be an address as BigInt, got -1/],
  ] as const)('refuse the argument %o', (arg, message) => {
    const { device } = start()
    const kernel = device.load(image).kernel('scale')
    expect(() => device.launch(kernel, shape, [arg])).toThrow(message)
  })

  it('come from images: PTX is ended with NUL, a cubin is passed as it is', () => {
    const { driver, device } = start()
    for (const bytes of [image, new TextEncoder().encode('.version 8'), new TextEncoder().encode('.version 8\0')]) device.load(bytes)
    const passed = driver.library.calls.filter((call) => call.name === 'cuModuleLoadData').map((call) => (call.args[1] as Uint8Array).length)
    expect(passed).toEqual([5, 11, 11])
  })

  it('name a kernel that is not there, and one whose module has ended', () => {
    const { device } = start()
    const module = device.load(image)
    expect(() => module.kernel('votes')).toThrow(/the module has no kernel votes/)
    const kernel = module.kernel('scale')
    expect(module.kernel('scale')).toBe(kernel)
    module[Symbol.dispose]()
    expect(() => device.launch(kernel, shape, [])).toThrow(/the module of kernel scale was freed before/)
    expect(() => module.kernel('scale')).toThrow(/was freed before/)
  })

  it('wait after each launch where asked to', () => {
    const { driver, device } = start({}, { checkLaunches: true })
    device.launch(device.load(image).kernel('scale'), shape, [0n, 0n, { kind: 'i32', value: 1 }])
    expect(driver.library.calls.at(-1)!.name).toBe('cuStreamSynchronize')
    using stream = device.stream()
    device.capture(stream, () => device.launch(device.load(image).kernel('scale'), { ...shape, stream }, [0n, 0n, { kind: 'i32', value: 1 }])).launch(stream)
    expect(driver.library.count('cuStreamSynchronize')).toBe(1)
  })
})

describe('sticky errors', () => {
  it.each([700, 702, 710, 715, 716, 717, 718, 719])('%i poisons the device: later calls throw the first cause', async (status) => {
    const { driver, device } = start({ pending: 2 })
    const buffer = device.alloc(16)
    const stream = device.stream()
    device.launch(device.load(image).kernel('scale'), { ...shape, stream }, [0n, 0n, { kind: 'i32', value: 1 }])
    driver.library.fail('cuEventQuery', status, 2)
    const first = await stream.done().catch((error: unknown) => error)
    expect(first).toBeInstanceOf(CudaError)
    expect(first).toMatchObject({ number: status, sticky: true, call: 'cuEventQuery' })
    expect((first as Error).message).toMatch(/cuEventQuery failed \(cuda:0 Mock GPU 0; last kernel launched: scale\)/)
    expect(device.poisonedBy).toBe(first)
    const calls = driver.library.calls.length
    const later = [() => device.alloc(4), () => device.synchronise(), () => device.memory(), () => device.upload(buffer, new Uint8Array(4)), () => device.load(image), () => device.stream(), () => stream.idle()]
    for (const use of later) expect(use).toThrow(first as Error)
    await expect(stream.done()).rejects.toBe(first)
    buffer.free()
    device[Symbol.dispose]()
    expect(driver.library.calls).toHaveLength(calls)
  })

  it('leave another device alone', () => {
    const driver = mockDriver({ devices: 2, kernels })
    const first = deviceOn(driver), second = deviceOn(driver, { ordinal: 1 })
    driver.library.fail('cuCtxSynchronize', 700)
    expect(() => first.synchronise()).toThrow(/ILLEGAL_ADDRESS/)
    expect(() => second.synchronise()).not.toThrow()
  })

  it('are not made of ordinary ones', async () => {
    const { driver, device } = start()
    driver.library.fail('cuMemcpyHtoD_v2', 1)
    using buffer = device.alloc(16)
    expect(() => device.upload(buffer, new Uint8Array(4))).toThrow(/CUDA_ERROR_INVALID_VALUE \(1\), invalid argument/)
    expect(device.poisonedBy).toBeUndefined()
    expect(await session(device)).toEqual([1, 2, 3, 0.25])
  })
})
