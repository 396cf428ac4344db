import { describe, expect, it } from 'vitest'
import { CompileError, EnvironmentError } from '../../src/runtime/errors.js'
import { openNvrtc, parseResources, targetFor } from '../../src/runtime/nvrtc.js'
import { nvrtcOrReason } from './nvrtc-here.js'

const supported = [75, 80, 86, 89, 90, 100, 120]

describe('the target', () => {
  it.each([
    ['sm_90', { target: 'sm_90', ptx: false }],
    ['sm_90a', { target: 'sm_90a', ptx: false }],
    ['sm_87', { target: 'sm_86', ptx: false }],
    ['sm_121', { target: 'sm_120', ptx: false }],
    ['sm_130', { target: 'compute_120', ptx: true }],
  ])('for %s', (arch, target) => {
    expect(targetFor(arch, supported)).toEqual(target)
  })

  it.each([
    ['sm_70', /compiles for sm_75 and newer, not for sm_70\n {2}fix: npm run setup:nvrtc -- --cuda 12/],
    ['sm_130a', /does not know sm_130a/],
    ['compute_90', /'compute_90' names no GPU architecture/],
    ['sm_90;rm', /names no GPU architecture/],
  ])('is refused for %s', (arch, message) => {
    expect(() => targetFor(arch, supported)).toThrow(message)
  })
})

describe('the resources', () => {
  it('are read from the log of several kernels, old and new forms', () => {
    const log = `ptxas info    : 0 bytes gmem, 24 bytes cmem[4]
ptxas info    : Compiling entry function 'vote' for 'sm_90a'
ptxas info    : Function properties for vote
ptxas         .     40 bytes stack frame, 36 bytes spill stores, 44 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 49152 bytes smem
ptxas info    : Compile time = 37.074 ms
ptxas info    : Compiling entry function 'gather' for 'sm_90a'
ptxas info    : Function properties for gather
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 364 bytes cmem[0]
`
    expect(parseResources(log)).toEqual([
      { name: 'vote', arch: 'sm_90a', registers: 168, spillStores: 36, spillLoads: 44, sharedBytes: 49152 },
      { name: 'gather', arch: 'sm_90a', registers: 8, spillStores: 0, spillLoads: 0, sharedBytes: 0 },
    ])
    expect(parseResources('')).toEqual([])
  })
})

const here = nvrtcOrReason()

describe.skipIf(typeof here === 'string')('NVRTC here', () => {
  const nvrtc = typeof here === 'string' ? (undefined as never) : here
  const text = `extern "C" __global__ void twice(float *a, int n) {
  __shared__ float s[256];
  int i = blockIdx.x * 256 + threadIdx.x;
  s[threadIdx.x] = a[i];
  __syncthreads();
  if (i < n) a[i] = s[255 - threadIdx.x] * 2.0f + 1.0f;
}
extern "C" __global__ void none() {}
`

  it('names itself', () => {
    expect(nvrtc.id).toMatch(/^nvrtc 1[23]\.\d+ \d+-\w+$/)
    expect(nvrtc.supportedArchs).toContain(90)
    expect(nvrtc.options).toContain('--fmad=false')
    expect(nvrtc.options).not.toContain('-lineinfo')
  })

  it.each(['sm_75', 'sm_80', 'sm_90', 'sm_90a', 'sm_120'])('makes a cubin for %s and reports its resources', async (arch) => {
    const { image, resources, fromCache, log } = await nvrtc.compile({ text, arch })
    expect([...image.subarray(0, 4)]).toEqual([0x7f, 0x45, 0x4c, 0x46])
    expect(resources.map(({ name }) => name).sort()).toEqual(['none', 'twice'])
    const twice = resources.find(({ name }) => name === 'twice')!
    expect(twice).toMatchObject({ arch, spillStores: 0, spillLoads: 0, sharedBytes: 1024 })
    expect(twice.registers).toBeGreaterThan(4)
    expect(log).toContain('ptxas')
    expect(fromCache).toBe(false)
  })

  it('makes PTX for a GPU it does not know', async () => {
    const { image } = await nvrtc.compile({ text, arch: 'sm_230' })
    expect(Buffer.from(image).toString('latin1')).toMatch(/\.target sm_\d+[^]*\.visible \.entry twice/)
    expect(image.at(-1)).toBe(0)
  })

  it('rounds every operation, unless told otherwise', async () => {
    const ptx = async (options: readonly string[]): Promise<string> => Buffer.from((await nvrtc.compile({ text, arch: 'sm_230', options })).image).toString('latin1')
    expect(await ptx([])).not.toMatch(/\bfma\./)
    expect(await ptx(['--fmad=true'])).toMatch(/\bfma\.rn/)
  })

  it('compiles several at the same time and the same bytes each time', async () => {
    const images = await Promise.all(Array.from({ length: 6 }, () => nvrtc.compile({ text, arch: 'sm_90' })))
    for (const { image } of images) expect(Buffer.compare(image, images[0]!.image)).toBe(0)
  })

  it('does not block the event loop', async () => {
    let ticks = 0
    const timer = setInterval(() => ticks++, 2)
    await nvrtc.compile({ text: text.replace('2.0f', '3.0f'), arch: 'sm_90' })
    clearInterval(timer)
    expect(ticks).toBeGreaterThan(3)
  })

  it('says where a text is wrong', async () => {
    const error: unknown = await nvrtc.compile({ text: text.replace('2.0f', 'two'), arch: 'sm_90', name: 'vote.cu' }).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(CompileError)
    expect(error).toMatchObject({ code: 'compile', line: 6 })
    expect((error as CompileError).log).toContain('vote.cu(6)')
    expect((error as Error).message).toMatch(/refused a kernel: NVRTC_ERROR_COMPILATION\n {2}line 6: if \(i < n\) a\[i\] = s\[255 - threadIdx\.x\] \* two \+ 1\.0f;\n {2}vote\.cu\(6\): error: identifier "two" is undefined/)
    expect((await nvrtc.compile({ text, arch: 'sm_90' })).image.length).toBeGreaterThan(0)
  })

  it('refuses an unknown option and a NUL in the text with a message', async () => {
    await expect(nvrtc.compile({ text, arch: 'sm_90', options: ['--no-such-option'] })).rejects.toThrow(/NVRTC_ERROR_INVALID_OPTION/)
    await expect(nvrtc.compile({ text: 'a\0b', arch: 'sm_90' })).rejects.toThrow(/must not contain NUL/)
  })

  it('survives deep nesting', async () => {
    const deep = `extern "C" __global__ void k(float *a) { a[0] = ${'('.repeat(1000)}a[1]${' + 1.0f)'.repeat(1000)}; }`
    expect((await nvrtc.compile({ text: deep, arch: 'sm_90' })).image.length).toBeGreaterThan(1000)
  })
})

describe('an NVRTC that is not there', () => {
  it('is an error that names the file', () => {
    expect(() => openNvrtc({ path: '/nowhere/libnvrtc.so.13' })).toThrow(/NVRTC was not found[^]*\/nowhere\/libnvrtc\.so\.13: absent \[option\]/)
    expect(() => openNvrtc({ path: '/nowhere/libnvrtc.so.13' })).toThrow(EnvironmentError)
  })
})
