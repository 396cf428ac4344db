/** Kernels that crash, reach out of their memory or never end, on the emulator: the device is lost, the process and the next device are not. */
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { add, tensor, WeftError } from '../../src/dsl/index.js'
import { openDevice, type OpenedDevice } from '../../src/runtime/devices.js'
import { findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { CudaError } from '../../src/runtime/errors.js'
import { compile } from '../../src/runtime/program.js'

const compiler = findHostCompiler()
if ('missing' in compiler) console.warn(`SKIPPED: faults on the emulator. ${compiler.missing} Fix: ${compiler.fix}`)

const text = `extern "C" __global__ void fine(Global<float> out, int n) { if (int(threadIdx.x) < n) out[threadIdx.x] = 2.0f; }
extern "C" __global__ void outside(Global<float> out, int n) { out[n + int(threadIdx.x)] = 1.0f; }
extern "C" __global__ void trap(Global<float> out, int n) { if (int(threadIdx.x) == n - 1) __builtin_trap(); }
extern "C" __global__ void wild(Global<float> out, int n) { *reinterpret_cast<volatile float*>(static_cast<unsigned long>(n) * 16) = 1.0f; }
extern "C" __global__ void divides(Global<float> out, int n) { out[0] = float(n / (n - 16)); }
extern "C" __global__ void endless(Global<float> out, int n) { for (volatile int i = 0; i < n; i = i ^ 1) {} }
`
const kernels = ['fine', 'outside', 'trap', 'wild', 'divides', 'endless'] as const
const faults: readonly (readonly [(typeof kernels)[number], number, RegExp])[] = [
  ['outside', 700, /writes index 16 of argument 0 'out', an allocation of 16 elements/],
  ['trap', 719, /thread \(15,0,0\).*illegal instruction/],
  ['wild', 700, /touches memory at 0x/],
  ['divides', 719, /integer division without a result: 16 \/ 0/],
  ['endless', 702, /does not end; the watchdog stopped it/],
]
const shape = { grid: [1, 1, 1], block: 32, shared: 0 } as const

describe.skipIf('missing' in compiler && process.env['CI'] !== 'true')('on the emulator', () => {
  let image: Uint8Array
  beforeAll(async () => {
    using opened = await openDevice('emulator')
    image = (await opened.compiler.compile({ text, kernels, arch: opened.device.arch })).image
  })
  afterEach(() => { vi.unstubAllEnvs() })
  const launch = ({ device }: OpenedDevice, name: string): void =>
    device.launch(device.load(image).kernel(name), shape, [device.alloc(64, 'out'), { kind: 'i32', value: 16 }])
  const failure = async (opened: OpenedDevice, name: string): Promise<CudaError> => {
    launch(opened, name)
    const error: unknown = await opened.device.defaultStream.done().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(CudaError)
    return error as CudaError
  }
  const works = async ({ device }: OpenedDevice): Promise<void> => {
    using module = device.load(image), out = device.alloc(64, 'out')
    device.launch(module.kernel('fine'), shape, [out, { kind: 'i32', value: 16 }])
    expect(await device.download(out, new Float32Array(16))).toEqual(new Float32Array(16).fill(2))
  }

  it.each(faults)('%s poisons the device, and a new one works', async (name, number, sentence) => {
    vi.stubEnv('WEFT_EMULATOR_TIMEOUT', '0.2')
    {
      using opened = await openDevice('emulator')
      const { device } = opened, stream = device.stream(), buffer = device.alloc(64), error = await failure(opened, name)
      expect(error).toMatchObject({ number, sticky: true, code: 'cuda' })
      expect(error.message).toMatch(sentence)
      expect(error.message).toContain(`last kernel launched: ${name}`)
      expect(error.fix).toMatch(/dispose of this device, a newly opened one works/)
      const uses = [
        () => device.alloc(4), () => device.upload(buffer, new Float32Array(1)), () => device.downloadSync(buffer, new Float32Array(1)),
        () => device.load(image), () => device.synchronise(), () => stream.idle(), () => launch(opened, 'fine'),
      ]
      for (const use of uses) expect(use).toThrow(error)
      await expect(stream.done()).rejects.toBe(error)
      const x = tensor('x', 'f32', ['n'])
      using program = await compile({ y: add(x, 1) }, { device: opened })
      await expect(program.run({ x: new Float32Array(4) }, { sizes: { n: 4 } })).rejects.toBe(error)
      // Another one opened meanwhile shares the emulator's one context: it tells the same number, and no lie.
      using second = await openDevice('emulator')
      expect(() => second.device.alloc(4)).toThrow(expect.objectContaining({ number }) as Error)
    }
    using next = await openDevice('emulator')
    const { free, total } = next.device.memory()
    expect(free).toBe(total)
    await works(next)
  })

  it('50 faults one after another: each device is lost, each next one works, in less than a second on average', async () => {
    vi.stubEnv('WEFT_EMULATOR_TIMEOUT', '0.1')
    let recovering = 0
    for (let round = 0; round < 50; round++) {
      {
        using opened = await openDevice('emulator')
        const [name, number] = faults[round % faults.length]!
        expect((await failure(opened, name)).number).toBe(number)
      }
      const start = performance.now()
      using next = await openDevice('emulator')
      await works(next)
      recovering += performance.now() - start
    }
    expect(recovering).toBeLessThan(50_000)
  })

  it('a kernel that never ends does not stop the event loop', async () => {
    vi.stubEnv('WEFT_EMULATOR_TIMEOUT', '0.5')
    using opened = await openDevice('emulator')
    launch(opened, 'endless')
    let ticks = 0
    const timer = setInterval(() => ticks++, 5)
    await expect(opened.device.defaultStream.done()).rejects.toThrow(/CUDA_ERROR_LAUNCH_TIMEOUT/)
    clearInterval(timer)
    expect(ticks).toBeGreaterThan(10)
  })

  it('a device that ends while its kernel never does: whoever waits is told, and the next one works', async () => {
    vi.stubEnv('WEFT_EMULATOR_TIMEOUT', '0.3')
    const opened = await openDevice('emulator')
    launch(opened, 'endless')
    const waiting = opened.device.defaultStream.done()
    opened[Symbol.dispose]()
    await expect(waiting).rejects.toThrow(WeftError)
    await expect(waiting).rejects.toThrow(/the device emulator:0 was freed before/)
    using next = await openDevice('emulator')
    await works(next)
  })
})
