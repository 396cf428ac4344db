/** The whole runtime over the ffi-napi fork: the emulator as a driver, and NVRTC on other threads. */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openCache } from '../../src/runtime/cache.js'
import { openDevice } from '../../src/runtime/devices.js'
import { findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { openNvrtc } from '../../src/runtime/nvrtc.js'
import { forkOrReason } from './fork-here.js'
import { nvrtcOrReason } from './nvrtc-here.js'

const fork = forkOrReason()
const nvrtc = typeof fork === 'string' ? 'no fork' : nvrtcOrReason()

describe.skipIf(typeof fork === 'string')('the runtime over ffi-napi', () => {
  const ffi = typeof fork === 'string' ? (undefined as never) : fork

  it.skipIf('missing' in findHostCompiler())('runs a kernel on the emulator', async () => {
    using opened = await openDevice('emulator', { ffi, cache: openCache({ folder: mkdtempSync(join(tmpdir(), 'weft-fork-')) }) })
    const { device, compiler } = opened
    const text = 'extern "C" __global__ void add(Global<float> a, int count, float b) { const int i = threadIdx.x; if (i < count) a[i] = a[i] + b; }\n'
    using module = device.load((await compiler.compile({ text, kernels: ['add'], arch: device.arch })).image)
    using buffer = device.alloc(400, 'a'), stream = device.stream()
    device.upload(buffer, Float32Array.from({ length: 100 }, (_, i) => i), stream)
    device.launch(module.kernel('add'), { grid: [1, 1, 1], block: 128, shared: 0, stream }, [buffer, { kind: 'i32', value: 100 }, { kind: 'f32', value: 0.5 }])
    expect(await device.download(buffer, new Float32Array(100), stream)).toEqual(Float32Array.from({ length: 100 }, (_, i) => i + 0.5))
  })

  it.skipIf(typeof nvrtc === 'string')('compiles with NVRTC to the same bytes as koffi', async () => {
    const text = 'extern "C" __global__ void add(float *a, float b) { a[threadIdx.x] += b; }\n'
    const [over, ours] = await Promise.all([openNvrtc({ ffi }).compile({ text, arch: 'sm_90' }), openNvrtc().compile({ text, arch: 'sm_90' })])
    expect(Buffer.compare(over.image, ours.image)).toBe(0)
    expect(over.resources).toEqual(ours.resources)
  })
})
