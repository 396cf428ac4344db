/** Streams, events, capture and graphs; and what compile.ts promises about its files and messages. */
import { spawnSync } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import { buildEmulatorLibrary, compileHost, findHostCompiler, hostFingerprint } from '../../src/runtime/emulator/compile.js'
import { cacheDir, freshDir, noCompiler, openEmulator, type Emulator } from './emulator-driver.js'

const kernels = `
extern "C" __global__ void increment(Global<f32> x, f32 by) { x[threadIdx.x] += by; }
extern "C" __global__ void busy(Global<f32> x, i32 rounds) {
  f32 y = x[0];
  for (i32 i = 0; i < rounds; ++i) y = y * 0.5f + 1.f;
  x[0] = y;
}
extern "C" __global__ void outside(Global<f32> x) { x[1000] = 1.f; }
`

describe.skipIf(noCompiler)('streams and graphs of the emulator', () => {
  let emu: Emulator
  let kernel: (name: string) => bigint
  beforeAll(async () => {
    emu = await openEmulator()
    kernel = await emu.compile(kernels)
  })
  const endCapture = (stream: bigint): bigint => {
    const graph = new BigUint64Array(1)
    emu.must('cuStreamEndCapture', stream, graph)
    return graph[0]!
  }

  test('a launch returns before its kernel ends; the stream is busy until then', () => {
    const stream = emu.out('cuStreamCreate', 1), x = emu.upload(new Float32Array(1))
    emu.launch(kernel('busy'), { block: 1, stream }, x, { i32: 60_000_000 })
    expect(emu.call('cuStreamQuery', stream)).toBe(600)
    emu.must('cuStreamSynchronize', stream)
    expect(emu.call('cuStreamQuery', stream)).toBe(0)
    emu.must('cuStreamDestroy_v2', stream)
    expect(emu.call('cuStreamQuery', stream)).toBe(400)
  })

  test('events: order, query, elapsed time', () => {
    const stream = emu.out('cuStreamCreate', 0), other = emu.out('cuStreamCreate', 0), x = emu.upload(new Float32Array(1))
    const [before, after, untimed] = [emu.out('cuEventCreate', 0), emu.out('cuEventCreate', 0), emu.out('cuEventCreate', 2)]
    const ms = new Float32Array(1)
    expect(emu.call('cuEventElapsedTime', ms, before, after)).toBe(400)   // never recorded
    emu.must('cuEventRecord', before, stream)
    emu.launch(kernel('busy'), { block: 1, stream }, x, { i32: 60_000_000 })
    emu.must('cuEventRecord', after, stream)
    emu.must('cuEventRecord', untimed, stream)
    expect(emu.call('cuEventQuery', after)).toBe(600)
    expect(emu.call('cuEventElapsedTime', ms, before, after)).toBe(600)
    emu.must('cuStreamWaitEvent', other, after, 0)
    emu.launch(kernel('increment'), { block: 1, stream: other }, x, { f32: 1 })
    emu.must('cuEventSynchronize', after)
    emu.must('cuEventElapsedTime', ms, before, after)
    expect(ms[0]).toBeGreaterThan(1)
    expect(ms[0]).toBeLessThan(10_000)
    expect(emu.call('cuEventElapsedTime', ms, before, untimed)).toBe(400)
    expect([...emu.download(x, new Float32Array(1))]).toEqual([3])
    for (const event of [before, after, untimed]) emu.must('cuEventDestroy_v2', event)
  })

  test('a captured graph runs nothing until it is launched, then as often as it is', () => {
    const stream = emu.out('cuStreamCreate', 1), x = emu.upload(new Float32Array(32)), y = emu.upload(new Float32Array(32))
    emu.must('cuStreamBeginCapture_v2', stream, 0)
    emu.must('cuMemsetD8Async', y, 0, 128, stream)
    emu.launch(kernel('increment'), { block: 32, stream }, x, { f32: 1 })
    emu.launch(kernel('increment'), { block: 32, stream }, x, { f32: 0.5 })
    emu.must('cuMemcpyDtoDAsync_v2', y, x, 128, stream)
    const graph = endCapture(stream)
    expect([...emu.download(x, new Float32Array(32))]).toEqual(Array(32).fill(0))
    const exec = emu.out('cuGraphInstantiateWithFlags', graph, 0n)
    emu.must('cuGraphDestroy', graph)
    for (let i = 0; i < 3; i++) emu.must('cuGraphLaunch', exec, stream)
    emu.must('cuStreamSynchronize', stream)
    expect([...emu.download(y, new Float32Array(32))]).toEqual(Array(32).fill(4.5))
    emu.must('cuGraphExecDestroy', exec)
    expect(emu.call('cuGraphLaunch', exec, stream)).toBe(400)
  })

  test('a stream joins a capture through an event and leaves it at the end', () => {
    const stream = emu.out('cuStreamCreate', 1), side = emu.out('cuStreamCreate', 1), event = emu.out('cuEventCreate', 2)
    const x = emu.upload(new Float32Array(1))
    emu.must('cuStreamBeginCapture_v2', stream, 2)
    emu.must('cuEventRecord', event, stream)
    emu.must('cuStreamWaitEvent', side, event, 0)
    emu.launch(kernel('increment'), { block: 1, stream: side }, x, { f32: 2 })
    emu.must('cuEventRecord', event, side)
    emu.must('cuStreamWaitEvent', stream, event, 0)
    const exec = emu.out('cuGraphInstantiateWithFlags', endCapture(stream), 0n)
    emu.launch(kernel('increment'), { block: 1, stream: side }, x, { f32: 1 })   // no longer captured
    emu.must('cuGraphLaunch', exec, stream)
    emu.must('cuStreamSynchronize', stream)
    expect([...emu.download(x, new Float32Array(1))]).toEqual([3])
  })

  test('what a capture does not allow', () => {
    const stream = emu.out('cuStreamCreate', 1), graph = new BigUint64Array(1)
    expect(emu.call('cuStreamBeginCapture_v2', 0n, 0)).toBe(900)
    expect(emu.call('cuStreamEndCapture', stream, graph)).toBe(401)
    for (const forbidden of [() => emu.call('cuMemAlloc_v2', graph, 16), () => emu.call('cuStreamSynchronize', stream), () => emu.call('cuCtxSynchronize')]) {
      emu.must('cuStreamBeginCapture_v2', stream, 0)
      expect(forbidden()).toBe(900)
      expect(emu.call('cuStreamEndCapture', stream, graph)).toBe(901)
    }
    emu.must('cuStreamBeginCapture_v2', stream, 0)
    expect(emu.launchStatus(kernel('increment'), { block: 1 }, 0n, { f32: 1 })).toBe(906)
    expect(emu.call('cuStreamEndCapture', stream, graph)).toBe(901)
    emu.must('cuStreamSynchronize', stream)
  })

  test('an error of a stream surfaces at the next call, and the rest of the stream does nothing', async () => {
    const stream = emu.out('cuStreamCreate', 1), x = emu.upload(new Float32Array(32))
    emu.launch(kernel('busy'), { block: 1, stream }, x, { i32: 1000 })
    emu.launch(kernel('outside'), { block: 1, stream }, x)
    expect(emu.call('cuStreamSynchronize', stream)).toBe(700)
    expect(emu.failure()).toMatch(/kernel 'outside'.*writes index 1000 of argument 0 '\w+'/)
    emu.reset()
    kernel = await emu.compile(kernels)
  })

  test('releasing the last reference ends the context', async () => {
    const x = emu.upload(new Float32Array(32))
    emu.must('cuDevicePrimaryCtxRelease_v2', 0)
    expect(emu.call('cuMemFree_v2', x)).toBe(1)
    expect(emu.call('cuDevicePrimaryCtxRelease_v2', 0)).toBe(201)
    emu.must('cuCtxSetCurrent', emu.out('cuDevicePrimaryCtxRetain', 0))
    kernel = await emu.compile(kernels)
  })

  test('a thousand modules come and go', async () => {
    const image = await compileHost(kernels, ['increment', 'busy', 'outside'], { cacheDir })
    const x = emu.upload(new Float32Array(1))
    for (let i = 0; i < 1000; i++) {
      const module = emu.out('cuModuleLoadData', image)
      emu.launch(emu.out('cuModuleGetFunction', module, 'increment'), { block: 1 }, x, { f32: 1 })
      emu.must('cuModuleUnload', module)
    }
    expect([...emu.download(x, new Float32Array(1))]).toEqual([1000])
  })
})

describe.skipIf(noCompiler)('compiling for the emulator', () => {
  test('the library is built once', async () => {
    const path = await buildEmulatorLibrary(cacheDir)
    const again = performance.now()
    expect(await buildEmulatorLibrary(cacheDir)).toBe(path)
    expect(performance.now() - again).toBeLessThan(2000)   // building takes longer
  })

  test('an error is told in the compiler\'s words, at the text\'s line, and leaves no file', async () => {
    const dir = freshDir()
    const text = 'extern "C" __global__ void broken(Global<f32> x) {\n  x[0] = missing;\n}'
    const error = await compileHost(text, ['broken'], { cacheDir: dir }).then(() => undefined, (reason: unknown) => reason)
    expect(error).toBeInstanceOf(WeftError)
    expect((error as WeftError).code).toBe('host-compile')
    expect((error as WeftError).message).toMatch(/refuses kernel broken \(exit 1\):[^]*kernel\.cu:2:10: error: .missing. was not declared/)
    expect(readdirSync(dir).filter((file) => !file.startsWith('headers-'))).toEqual([])
    rmSync(dir, { recursive: true })
  })

  test('a kernel\'s name cannot carry anything else', async () => {
    await expect(compileHost('', ['a b'], { cacheDir })).rejects.toThrow('is no name for a kernel')
  })

  test('the fingerprint names the flags', () => {
    expect(hostFingerprint({ optimise: 0 })).not.toBe(hostFingerprint({ optimise: 2 }))
    expect(hostFingerprint({ optimise: 2 })).toBe(hostFingerprint())
  })

  test('many at once share one header', async () => {
    const dir = freshDir()
    const text = (n: number): string => `extern "C" __global__ void k${n}(Global<f32> x) { x[0] = ${n}.f; }`
    const images = await Promise.all(Array.from({ length: 8 }, (_, n) => compileHost(text(n), [`k${n}`], { cacheDir: dir, optimise: 0 })))
    expect(images.every((image) => image[0] === 0x7f && image[1] === 0x45)).toBe(true)
    expect(readdirSync(dir).length).toBe(1)
    rmSync(dir, { recursive: true })
  })
})

describe('finding a compiler', () => {
  test('what is missing and what to do', () => {
    const before = process.env['CXX']
    process.env['CXX'] = '/no/such/compiler'
    try {
      const found = findHostCompiler()
      expect(found).toHaveProperty('missing', 'No C++ compiler: looked for /no/such/compiler in PATH (CXX names it).')
      expect(found).toHaveProperty('fix')
      expect(() => hostFingerprint()).toThrow('No C++ compiler')
    } finally {
      if (before === undefined) delete process.env['CXX']
      else process.env['CXX'] = before
    }
  })
  test.skipIf(noCompiler)('its version is asked of it', () => {
    const found = findHostCompiler()
    if ('missing' in found) throw new Error(found.missing)
    expect(spawnSync(found.path, ['--version'], { encoding: 'utf8' }).stdout).toContain(found.version)
  })
})
