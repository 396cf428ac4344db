/** The calls of a session fail on the emulator too, where handles and memory are real: none is lost, and the next device works. */
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { isSticky } from '../../src/runtime/advice.js'
import { openDevice, type OpenedDevice } from '../../src/runtime/devices.js'
import { findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { CudaError, EnvironmentError } from '../../src/runtime/errors.js'
import { defaultFfi, type Ffi } from '../../src/runtime/ffi/index.js'

const compiler = findHostCompiler()
if ('missing' in compiler) console.warn(`SKIPPED: failing calls on the emulator. ${compiler.missing} Fix: ${compiler.fix}`)

/** The functions of a library with one call that does not happen but gives a status; and what was called. */
function failing(ffi: Ffi): { readonly ffi: Ffi; readonly calls: string[]; fail(name: string, at: number, status: number): void; struck(): boolean } {
  const calls: string[] = []
  let fault: { name: string; left: number; status: number } | undefined
  return {
    calls,
    fail: (name, at, status) => { fault = { name, left: at, status } },
    struck: () => fault !== undefined && fault.left <= 0,
    ffi: {
      ...ffi,
      open(file) {
        const library = ffi.open(file)
        return {
          ...library,
          find(name, returns, kinds) {
            const found = library.find(name, returns, kinds)
            return found && {
              ...found,
              call(args) {
                calls.push(name)
                return fault?.name === name && --fault.left === 0 ? fault.status : found.call(args)
              },
            }
          },
        }
      },
    },
  }
}

const text = `extern "C" __global__ void twice(Global<float> out, int n) {
  if (int(threadIdx.x) < n) out[threadIdx.x] = out[threadIdx.x] * 2.0f;
}
`
describe.skipIf('missing' in compiler && process.env['CI'] !== 'true')('on the emulator', () => {
  let image: Uint8Array
  beforeAll(async () => {
    using opened = await openDevice('emulator')
    image = (await opened.compiler.compile({ text: text, kernels: ['twice'], arch: opened.device.arch })).image
  })
  async function work({ device }: OpenedDevice): Promise<Float32Array> {
    using module = device.load(image), out = device.alloc(64, 'out'), stream = device.stream()
    const kernel = module.kernel('twice'), launch = (shared = 0): void => device.launch(kernel, { grid: [1, 1, 1], block: 32, shared, stream }, [out, { kind: 'i32', value: 16 }])
    device.fill(out, 0, stream)
    device.upload(out, new Float32Array(8).fill(1))
    device.upload(out, new Float32Array(8).fill(1), stream)
    launch(60_000)
    await device.time(stream, () => launch())
    using graph = device.capture(stream, () => launch())
    graph.launch(stream)
    device.memory()
    const result = await device.download(out, new Float32Array(16), stream)
    device.synchronise()
    stream.idle()
    device.alloc(16, 'left')
    device.event()
    device.stream()
    return result
  }
  const right = Float32Array.from({ length: 16 }, (_, i) => (i < 8 ? 8 : 0))
  const shim = failing(defaultFfi()), open = (): Promise<OpenedDevice> => openDevice('emulator', { ffi: shim.ffi, checkLaunches: true })
  afterEach(async () => {
    shim.fail('', 0, 0)
    using next = await open()
    expect(await work(next)).toEqual(right)
  })

  it('every call, in turn', async () => {
    {
      using opened = await open()
      expect(await work(opened)).toEqual(right)
    }
    // All but the release of the context: where that is refused, the context stays, and with it what this asks to be gone.
    const names = [...new Set(shim.calls)].filter(name => name.startsWith('cu') && !name.startsWith('cuGetError') && name !== 'cuDevicePrimaryCtxRelease_v2')
    expect(names.length).toBeGreaterThanOrEqual(33)
    let cases = 0
    for (const name of names) for (const at of [1, 2]) for (const status of [1, 2, 400, 700]) {
      cases++
      const label = `${name}, call ${at}, ${status}`
      shim.fail(name, at, status)
      let opened: OpenedDevice | undefined, error: unknown
      try {
        opened = await open()
        await work(opened)
      } catch (thrown) {
        error = thrown
      }
      const cleanUp = /Destroy|Unload|Release|Free/.test(name)
      if (error !== undefined) {
        expect(error instanceof CudaError || error instanceof EnvironmentError, `${label}: ${String(error)}`).toBe(true)
        expect((error as Error).message, label).toMatch(name === 'cuMemAlloc_v2' && status === 2 ? /out of device memory/ : name)
      } else expect(at === 2 || cleanUp, label).toBe(true)
      if (opened !== undefined) {
        const poison = opened.device.poisonedBy
        if (poison === undefined) {
          if (shim.struck()) expect(await work(opened), label).toEqual(right)
        } else {
          expect(isSticky(status), label).toBe(true)
          await expect(work(opened), label).rejects.toBe(poison)
        }
        opened[Symbol.dispose]()
      }
      shim.fail('', 0, 0)
      using next = await open()
      const { free, total } = next.device.memory()
      expect(free, label).toBe(total)
      expect(await work(next), label).toEqual(right)
    }
    expect(cases).toBeGreaterThanOrEqual(250)
  }, 120_000)
})
