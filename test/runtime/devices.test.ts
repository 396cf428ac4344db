import { describe, expect, it } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import { deviceReport, openDevice, parseDeviceSpec, type DeviceSpec } from '../../src/runtime/devices.js'
import { findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { EnvironmentError } from '../../src/runtime/errors.js'
import type { Ffi } from '../../src/runtime/ffi/bind.js'
import { machine, type Machine } from './mock-machine.js'

describe('the spec', () => {
  it.each([['cuda', { kind: 'cuda', ordinal: 0 }], ['cuda:3', { kind: 'cuda', ordinal: 3 }], ['emulator', { kind: 'emulator', ordinal: 0 }]])('%s', (spec, parsed) => {
    expect(parseDeviceSpec(spec)).toEqual(parsed)
  })
  it.each(['', 'gpu', 'cuda:', 'cuda:-1', 'cuda:x', 'emulator:1', 'CUDA', 'cuda:9999'])('%j is refused', (spec) => {
    expect(() => parseDeviceSpec(spec)).toThrow(`'${spec}' names no device`)
  })
})

describe('opening', () => {
  it('gives the device and the compiler that suits its driver', async () => {
    const options = machine()
    using opened = await openDevice('cuda', options)
    expect(opened.device).toMatchObject({ kind: 'cuda', ordinal: 0, arch: 'sm_90' })
    expect(opened.foundVia).toBe("the system's loader")
    expect(opened.compiler).toMatchObject({ target: 'cuda', id: expect.stringMatching(/^nvrtc 13\.0 /) })
    const { image } = await opened.compiler.compile({ text: 'x', kernels: [], arch: opened.device.arch })
    expect([...image]).toEqual([0x7f, 0x45, 0x4c, 0x46])
    const [call] = options.nvrtcLibrary.calls.filter(({ name }) => name === 'nvrtcCompileProgram')
    const given = Array.from(call!.args[2] as BigUint64Array, (address) => options.driver.memory.readString(address))
    expect(given).toEqual(['--gpu-architecture=sm_90', '--std=c++17', '-default-device', '--fmad=false', '--ptxas-options=-v'])
    expect(options.nvrtcLibrary.count('nvrtcDestroyProgram')).toBe(1)
  })

  it('takes cuda:1, and gives its context back', async () => {
    const options = machine({ devices: 2 })
    {
      using opened = await openDevice('cuda:1', options)
      expect(opened.device.name).toBe('Mock GPU 1')
      expect(options.driver.balance().contexts).toBe(1)
    }
    expect(options.driver.balance().contexts).toBe(0)
  })

  it('obeys WEFT_DEVICE, and an argument before it', async () => {
    const options = machine({ devices: 2, environment: { WEFT_DEVICE: 'cuda:1' } })
    using first = await openDevice(undefined, options)
    using second = await openDevice('cuda:0', options)
    expect([first.device.ordinal, second.device.ordinal]).toEqual([1, 0])
    await expect(openDevice(undefined, machine({ environment: { WEFT_DEVICE: 'gpu' } }))).rejects.toThrow("'gpu' names no device")
  })

  it('takes the GPU when nothing is asked for', async () => {
    using opened = await openDevice(undefined, machine())
    expect(opened.device.kind).toBe('cuda')
  })

  it.each<[string, Machine, DeviceSpec, RegExp]>([
    ['no driver', { libcuda: false }, 'cuda', /libcuda was not found, so no GPU can be used/],
    ['no device of that number', {}, 'cuda:1', /there is no device cuda:1: the driver shows 1 device/],
    ['no device at all', { devices: 0 }, 'cuda', /does not start: .*CUDA_ERROR_NO_DEVICE/],
    ['no NVRTC', { nvrtc: undefined }, 'cuda', /NVRTC was not found[^]*npm run setup:nvrtc/],
    ['an NVRTC of a newer major than the driver', { version: 12040, nvrtc: [13, 0] }, 'cuda', /NVRTC was not found/],
    ['hidden devices', { devices: 0, environment: { CUDA_VISIBLE_DEVICES: '' } }, 'cuda', /CUDA_VISIBLE_DEVICES is empty: it hides every GPU/],
  ])('never replaces what was asked for: %s', async (_, description, spec, message) => {
    const options = machine(description)
    await expect(openDevice(spec, options)).rejects.toThrow(message)
    await expect(openDevice(spec, options)).rejects.toThrow(EnvironmentError)
    expect(options.driver.balance().contexts).toBe(0)
  })

  it('lets a defect through instead of taking the next device', async () => {
    const options = machine()
    options.driver.library.fail('cuDeviceGetName', 999)
    await expect(openDevice(undefined, options)).rejects.toThrow(/^cuDeviceGetName failed/)
  })
})

describe('compiling at the same time', () => {
  it('is limited', async () => {
    const { openNvrtc } = await import('../../src/runtime/nvrtc.js')
    const { ffi, system, driver } = machine()
    let running = 0, most = 0
    const slow: Ffi = {
      ...ffi!,
      open: (file) => {
        const library = ffi!.open(file)
        return {
          ...library,
          find(name, returns, kinds) {
            const found = library.find(name, returns, kinds)
            return found && {
              ...found,
              async callConcurrently(args) {
                most = Math.max(most, ++running)
                await new Promise((resolve) => setTimeout(resolve, 5))
                running--
                return found.callConcurrently(args)
              },
            }
          },
        }
      },
    }
    const nvrtc = openNvrtc({ ffi: slow, system: system!, parallel: 3 })
    const compile = (i: number) => nvrtc.compile({ text: `${i}`, arch: 'sm_90' })
    const first = Array.from({ length: 7 }, (_, i) => compile(i))
    await first[0]
    // These arrive while others are handed their turn.
    await Promise.all([...first, ...Array.from({ length: 7 }, (_, i) => compile(i))])
    expect([most, running]).toEqual([3, 0])
    expect(driver.launches).toHaveLength(0)
  })
})

describe('the report', () => {
  it('lists every device, how it was found, and why others cannot be used', async () => {
    const report = await deviceReport(machine({ devices: 2 }))
    expect(report.slice(0, 2)).toMatchObject([
      { spec: 'cuda:0', available: true, arch: 'sm_90', foundVia: "the system's loader", detail: expect.stringMatching(/^Mock GPU 0, 132 multiprocessors, 0\.0 GiB, nvrtc 13\.0/) },
      { spec: 'cuda:1', available: true },
    ])
    expect(report).toHaveLength(3)
    const [cuda] = await deviceReport(machine({ libcuda: false }))
    expect(cuda).toMatchObject({ spec: 'cuda:0', available: false, detail: expect.stringMatching(/libcuda was not found/), fix: expect.stringMatching(/./) })
  })
})

const compiler = findHostCompiler()
if ('missing' in compiler) console.warn(`SKIPPED: the emulator as a device. ${compiler.missing} Fix: ${compiler.fix}`)

describe.skipIf('missing' in compiler && process.env['CI'] !== 'true')('the emulator behind the same code', () => {
  const text = `extern "C" __global__ void scale(Global<const float> in, Global<float> out, int count, float factor) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = in[i] * factor;
}
extern "C" __global__ void outside(Global<float> out, int count) {
  if (threadIdx.x == 3) out[count] = 1.0f;
}
`
  const request = { text, kernels: ['scale', 'outside'], arch: 'sm_90' }
  const open = () => openDevice('emulator')

  it('runs kernels', async () => {
    using opened = await open()
    const { device, compiler } = opened
    const { image } = await compiler.compile(request)
    using module = device.load(image)
    using input = device.alloc(4000, 'input')
    using output = device.alloc(4000, 'output')
    using stream = device.stream()
    const data = Float32Array.from({ length: 1000 }, (_, i) => i)
    device.upload(input, data, stream)
    device.launch(module.kernel('scale'), { grid: [8, 1, 1], block: 128, shared: 60_000, stream }, [input, output, { kind: 'i32', value: 1000 }, { kind: 'f32', value: 0.5 }])
    const result = await device.download(output, new Float32Array(1000), stream)
    expect(result).toEqual(data.map((x) => x * 0.5))
    device.fill(output, 0)
    expect(device.downloadSync(output, new Float32Array(1000))).toEqual(new Float32Array(1000))
    expect((await compiler.compile(request)).fromCache).toBe(true)
    expect(device.memory().free).toBeGreaterThan(0)
  })

  it('poisons the device on a wrong access with a sentence that names it, and a new one works', async () => {
    {
      using opened = await open()
      const { device, compiler } = opened
      const module = device.load((await compiler.compile(request)).image)
      const output = device.alloc(40, 'output')
      device.launch(module.kernel('outside'), { grid: [1, 1, 1], block: 32, shared: 0 }, [output, { kind: 'i32', value: 10 }])
      const first: unknown = await device.defaultStream.done().catch((error: unknown) => error)
      expect(first).toBeInstanceOf(WeftError)
      expect(first).toMatchObject({ sticky: true })
      expect((first as Error).message).toMatch(/last kernel launched: outside/)
      expect((first as Error).message).toMatch(/kernel outside|thread|out\[count\]|line/)
      expect(() => device.alloc(4)).toThrow(first as Error)
      expect(() => output.free()).not.toThrow()
    }
    using opened = await open()
    opened.device.alloc(64).free()
    opened.device.synchronise()
  })

  it('replays a recorded graph, in any order of threads', async () => {
    using opened = await open()
    const { device, compiler, emulator } = opened
    const module = device.load((await compiler.compile(request)).image)
    using input = device.alloc(400), output = device.alloc(400), stream = device.stream()
    using graph = device.capture(stream, () => device.launch(module.kernel('scale'), { grid: [4, 1, 1], block: 32, shared: 0, stream }, [input, output, { kind: 'i32', value: 100 }, { kind: 'f32', value: 3 }]))
    for (const order of ['descending', 'warp-greedy', 'random:7', 'ascending']) {
      emulator!.setOrder(order)
      device.upload(input, new Float32Array(100).fill(order.length), stream)
      graph.launch(stream)
      expect(await device.download(output, new Float32Array(100), stream)).toEqual(new Float32Array(100).fill(order.length * 3))
    }
    expect(() => emulator!.setOrder('sideways')).toThrow(/knows no order 'sideways'/)
    expect(emulator!.statistics().kernels).toBeGreaterThanOrEqual(4)
  })

  it('tells what is missing where memory ends', async () => {
    using opened = await open()
    const { total } = opened.device.memory()
    expect(() => opened.device.alloc(total * 2, 'huge')).toThrow(/out of device memory: needed .* GiB/)
    opened.device.alloc(64).free()
  })
})
