/** Many launches one after another: memory, handles, threads and open files stay as many as they were. */
import { readdirSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { add, mul, softmax, tensor } from '../../src/dsl/index.js'
import { lower } from '../../src/codegen/pipeline.js'
import { plan } from '../../src/codegen/plan.js'
import { openDevice } from '../../src/runtime/devices.js'
import { findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { compile } from '../../src/runtime/program.js'
import { often, soaking } from '../soak.js'
import { image, nothing, shape, start } from './mock-device.js'
import { machine } from './mock-machine.js'

const compiler = findHostCompiler()
if ('missing' in compiler) console.warn(`SKIPPED: many launches on the emulator. ${compiler.missing} Fix: ${compiler.fix}`)

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const entries = (folder: string): number => {
  try {
    return readdirSync(folder).length
  } catch {
    return 0   // no such folder outside Linux
  }
}
interface Use { readonly heap: number; readonly resident: number; readonly threads: number; readonly files: number }
function use(): Use {
  collect()
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage()
  return { heap: heapUsed + arrayBuffers, resident: rss, threads: entries('/proc/self/task'), files: entries('/proc/self/fd') }
}
const mebibyte = 1 << 20
/** Does it `times` times; the first fifth, in which caches fill and code is compiled, does not count. */
async function flat(times: number, work: (i: number) => unknown): Promise<void> {
  let before: Use | undefined
  for (let i = 0; i < times; i++) {
    if (i === Math.floor(times / 5)) before = use()
    await work(i)
  }
  const after = use()
  expect((after.heap - before!.heap) / mebibyte).toBeLessThan(4)
  expect((after.resident - before!.resident) / mebibyte).toBeLessThan(20)
  expect(after.threads).toBeLessThanOrEqual(before!.threads)
  expect(after.files).toBeLessThanOrEqual(before!.files)
  if (soaking) console.log(`${times} times: heap ${((after.heap - before!.heap) / mebibyte).toFixed(2)} MiB, resident ${((after.resident - before!.resident) / mebibyte).toFixed(2)} MiB more; ${after.threads} threads, ${after.files} files`)
}

describe('on the mock', () => {
  it('100,000 launches', async () => {
    const { driver, device } = start({ record: false })
    driver.library.keepsCalls = false
    const kernel = device.load(image).kernel('scale'), stream = device.stream(), before = driver.balance()
    await flat(100_000, i => device.launch(kernel, { ...shape, stream }, [0n, 0n, { kind: 'i32', value: 1 + i }]))
    await flat(often(5000, 100_000), async () => {
      using buffer = device.alloc(64), event = device.event()
      device.fill(buffer, 1, stream)
      event.record(stream)
      await device.download(buffer, new Uint8Array(64), stream)
    })
    expect(driver.balance()).toEqual(before)
    device[Symbol.dispose]()
    expect(driver.balance()).toEqual(nothing)
  }, 300_000)

  it('a program, run again and again, and made again', async () => {
    const x = tensor('x', 'f32', ['n']), outputs = { y: add(mul(x, 2), 1) }
    const kernels = Object.fromEntries(lower(plan(outputs, { sizes: { n: 4 } })).map(k => [k.kernel.name, () => {}]))
    const at = machine({ kernels, record: false })
    at.driver.library.keepsCalls = at.nvrtcLibrary.keepsCalls = false
    const opened = await openDevice('cuda', at), input = { dtype: 'f32', axes: ['n'], shape: [4], data: new Float32Array(4) } as const
    {
      using program = await compile(outputs, { device: opened })
      await flat(often(2000, 100_000), () => program.run({ x: input }))
    }
    await flat(often(200, 2000), async () => {
      using program = await compile(outputs, { device: opened })
      await program.run({ x: input })
    })
    expect(at.driver.balance()).toEqual({ ...nothing, contexts: 1 })
    expect(at.programs()).toBe(0)
    opened[Symbol.dispose]()
    expect(at.driver.balance()).toEqual(nothing)
  }, 600_000)
})

describe.skipIf('missing' in compiler && process.env['CI'] !== 'true')('on the emulator', () => {
  it('a program, run again and again', async () => {
    const x = tensor('x', 'f32', ['row', 'n']), outputs = { y: softmax(x, 'n') }
    using opened = await openDevice('emulator')
    const { free, total } = opened.device.memory()
    expect(free).toBe(total)
    {
      using program = await compile(outputs, { device: opened })
      const input = { dtype: 'f32', axes: ['row', 'n'], shape: [4, 33], data: Float32Array.from({ length: 132 }, (_, i) => i % 7) } as const
      const wanted = [...(await program.run({ x: input })).y.data]
      await flat(often(500, 5000), async i => {
        const { y } = await program.run({ x: input })
        if (i % 100 === 0) expect([...y.data]).toEqual(wanted)
      })
    }
    expect(opened.device.memory()).toEqual({ free: total, total })
  }, 300_000)

  it('devices, opened and ended', async () => {
    await flat(often(100, 1000), async () => {
      using opened = await openDevice('emulator')
      opened.device.alloc(1000)
      opened.device.stream()
    })
  }, 300_000)
})
