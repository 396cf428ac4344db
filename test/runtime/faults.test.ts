/**
 * Every call of the driver and of NVRTC fails: the first, the second, one in the middle and the last, with each status that it may plausibly give, while
 * a program does everything that there is to do with a device. What was asked of every one of these cases is in `judge`.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { add, mul, tensor, WeftError } from '../../src/dsl/index.js'
import { lower } from '../../src/codegen/pipeline.js'
import { plan } from '../../src/codegen/plan.js'
import { isOfMachine, isSticky } from '../../src/runtime/advice.js'
import { openCache } from '../../src/runtime/cache.js'
import { openDevice, type OpenedDevice } from '../../src/runtime/devices.js'
import { CompileError, CudaError, EnvironmentError, NvrtcError, OutOfMemoryError } from '../../src/runtime/errors.js'
import { driverTable, nvrtcTable } from '../../src/runtime/ffi/table.js'
import { compile } from '../../src/runtime/program.js'
import { nothing } from './mock-device.js'
import { machine, memoryFiles, nvrtcNames, type MockMachine } from './mock-machine.js'

const x = tensor('x', 'f32', ['n']), outputs = { y: add(mul(x, 2), 1) }
const names = lower(plan(outputs, { sizes: { n: 4 } })).map(k => k.kernel.name)
const kernels = Object.fromEntries(['scale', ...names].map(name => [name, () => {}]))
const request = { text: 'extern "C" __global__ void scale() {}', kernels: ['scale'], arch: 'sm_90' }

function open(): { at: MockMachine; files: readonly string[]; whole: () => boolean } {
  const disk = memoryFiles(), cache = openCache({ folder: '/cache', files: disk.files })
  const at = machine({ kernels, cache, record: false })
  return {
    at,
    get files() { return disk.entries() },
    /** Every entry can be used, and nothing else lies there. */
    whole: () => {
      const paths = disk.entries(), keys = [...new Set(paths.map(path => path.split('/').at(-2)!))]
      return paths.length === 3 * keys.length && keys.every(key => openCache({ folder: '/cache', files: disk.files }).get(key) !== undefined)
    },
  }
}

/** Everything that there is to do with a device, through the functions that programs use. Some of it is left to the device's end. */
async function work({ device, compiler }: OpenedDevice): Promise<readonly number[]> {
  {
    using program = await compile(outputs, { device: { device, compiler } as OpenedDevice })
    const input = { dtype: 'f32', axes: ['n'], shape: [4], data: Float32Array.of(1, 2, 3, 4) } as const
    await program.run({ x: input })
    using running = program.launch({ x: input })
    await running.done()
  }
  await compiler.compile({ ...request, arch: 'sm_100' })   // newer than this NVRTC: PTX
  using module = device.load((await compiler.compile(request)).image)
  using input = device.alloc(64, 'input'), output = device.alloc(64, 'output'), stream = device.stream()
  const kernel = module.kernel('scale'), shape = { grid: [2, 1, 1], block: 128, shared: 0, stream } as const
  const launch = (shared = 0): void => device.launch(kernel, { ...shape, shared }, [input, output, { kind: 'i32', value: 3 }])
  device.upload(input, Float32Array.of(1, 2, 3))
  device.upload(input, Float32Array.of(1, 2, 3), stream)
  device.fill(output, 0, stream)
  launch(60_000)
  const time = await device.time(stream, () => launch())
  using graph = device.capture(stream, () => launch())
  graph.launch(stream)
  device.memory()
  const result = await device.download(input, new Float32Array(3), stream)
  device.synchronise()
  const idle = stream.idle()
  device.alloc(16, 'left')
  device.event()
  const left = device.stream()
  device.capture(left, () => {})
  device.load(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46)).kernel('scale')
  return [...result, time, Number(idle)]
}
const right = [1, 2, 3, 0.25, 1]

type Call = keyof typeof driverTable | keyof typeof nvrtcTable
interface Outcome {
  readonly opened: OpenedDevice | undefined
  readonly error: unknown
  readonly result: readonly number[] | undefined
}
async function attempt(at: MockMachine): Promise<Outcome> {
  let opened: OpenedDevice | undefined
  try {
    opened = await openDevice('cuda', { ...at, checkLaunches: true })
    return { opened, error: undefined, result: await work(opened) }
  } catch (error) {
    return { opened, error, result: undefined }
  }
}

const clean = open()
const { opened: cleanDevice, result: cleanResult, error: cleanError } = await attempt(clean.at)
cleanDevice?.[Symbol.dispose]()
const calls = [...clean.at.driver.library.calls, ...clean.at.nvrtcLibrary.calls].map(call => call.name)
const times = (name: string): number => calls.filter(call => call === name).length

/** By what a function does: the statuses that the driver's manual allows for it, and those that surface anywhere. */
const anywhere = [1, 4, 201], late = [700, 702, 719, 999]
const statuses: readonly (readonly [RegExp, readonly number[]])[] = [
  [/^cuInit$/, [3, 34, 46, 100, 304, 802, 803, 999]],
  [/^cuDriverGetVersion$/, [1, 3]],
  [/^cuDevice(Get|GetCount|GetName|GetAttribute)$/, [1, 3, 4, 101, 999]],
  [/^cuDevicePrimaryCtxRetain$/, [1, 2, 46, 101, 304, 802, 999]],
  [/^cuDevicePrimaryCtxRelease_v2$/, [1, 4, 101, 201, 719]],
  [/^cuCtx/, [...anywhere, ...late]],
  [/^cuMem(GetInfo_v2|Alloc_v2)$/, [...anywhere, 2, 304, ...late]],
  [/^cuMem(cpy|set)/, [...anywhere, 2, 400, ...late]],
  [/^cuMemFree_v2$/, [...anywhere, ...late]],
  [/^cuModuleLoadData$/, [...anywhere, 2, 200, 209, 218, 222, ...late]],
  [/^cuModuleGetFunction$/, [...anywhere, 400, 500, ...late]],
  [/^cuFunc/, [...anywhere, 400, ...late]],
  [/^cuLaunchKernel$/, [...anywhere, 2, 304, 400, 701, ...late]],
  [/^cu(Stream|Event)(Create|Record|Query|IsCapturing|Synchronize|ElapsedTime)$/, [...anywhere, 2, 400, ...late]],
  [/^cuStream(BeginCapture_v2|EndCapture)$/, [...anywhere, 401, 900, 901, ...late]],
  [/^cuGraph(InstantiateWithFlags|Launch)$/, [...anywhere, 2, 400, ...late]],
  [/Unload$|Destroy(_v2)?$/, [...anywhere, 400, ...late]],
  [/^nvrtcCompileProgram$/, [1, 2, 3, 4, 5, 6, 7, 11]],
  [/^nvrtc/, [1, 2, 3, 4, 11]],
]
/** They only describe the error of another call: below they fail together with one. */
const describing: readonly string[] = ['cuGetErrorName', 'cuGetErrorString', 'nvrtcGetErrorString']
const tested = [...new Set(calls)].filter(name => !describing.includes(name)) as Call[]
const cases = tested.flatMap(name => [...new Set([1, 2, Math.ceil(times(name) / 2), times(name)])].filter(at => at <= times(name)).flatMap(at =>
  statuses.find(([pattern]) => pattern.test(name))![1].map(status => ({ name, at, status }))))

/** Ends something, and must not throw: its error would take the place of the one that is told. */
const isCleanUp = (name: string): boolean => /Destroy|Unload|Release|Free/.test(name)

function expectedClass(name: Call, status: number): new (...args: never[]) => WeftError {
  if (name === 'nvrtcCompileProgram' && status === 6) return CompileError
  if (name.startsWith('nvrtc')) return NvrtcError
  if (name === 'cuInit') return EnvironmentError
  if (/^cu(D|CtxSetCurrent)/.test(name) && isOfMachine(status)) return EnvironmentError
  if (name === 'cuMemAlloc_v2' && status === 2) return OutOfMemoryError
  return name === 'cuModuleGetFunction' && status === 500 ? WeftError : CudaError
}

/** What the error's fix must speak of: something that the reader can do. */
const helps: { readonly [status: number]: RegExp } = {
  1: /pointers, sizes and streams|defect/, 2: /free buffers/, 3: /open the device again/, 4: /dispose of devices before/, 34: /stubs/, 46: /exclusive mode/,
  100: /CUDA_VISIBLE_DEVICES/, 101: /weft doctor/, 200: /WEFT_NVRTC/, 201: /open the device again/, 209: /sm_XX/, 218: /WEFT_NVRTC/, 222: /update the driver/,
  304: /dmesg/, 400: /another device/, 401: /recording/, 500: /extern "C"/, 700: /--device emulator/, 701: /smaller tile/, 702: /split the work/,
  719: /--device emulator/, 802: /fabric/, 803: /LD_LIBRARY_PATH/, 900: /record on a stream of its own/, 901: /record on a stream of its own/, 999: /dmesg/,
}

function judgeError(name: Call, status: number, error: unknown): void {
  expect(error).toBeInstanceOf(expectedClass(name, status))
  const { message, fix } = error as WeftError
  expect(fix).toMatch(name.startsWith('nvrtc') ? /WEFT_NVRTC|setup:nvrtc|memory|defect/ : helps[status]!)
  if (name === 'cuModuleGetFunction' && status === 500) {
    expect(message).toMatch(/the module has no kernel/)
    return
  }
  if (!(error instanceof CompileError)) expect(message).toContain(name)
  expect(message).toMatch(name.startsWith('nvrtc') ? nvrtcNames[status]! : name === 'cuMemAlloc_v2' && status === 2 ? /out of device memory: needed \d+ bytes, free/ : new RegExp(`CUDA_ERROR_\\w+ \\(${status}\\)`))
}

const own: { readonly [name: string]: string } = {
  cuModuleUnload: 'modules', cuStreamDestroy_v2: 'streams', cuEventDestroy_v2: 'events', cuGraphDestroy: 'graphs', cuGraphExecDestroy: 'graphs',
  cuDevicePrimaryCtxRelease_v2: 'contexts', cuStreamEndCapture: 'recording',
}

/** One case: the error, the device afterwards, and what is left when it ends. */
async function judge(name: Call, at: number, status: number): Promise<void> {
  const one = open(), { driver, nvrtcLibrary, programs } = one.at
  ;(name.startsWith('nvrtc') ? nvrtcLibrary : driver.library).fail(name, status, at)
  const { opened, error, result } = await attempt(one.at)
  const sticky = !name.startsWith('nvrtc') && isSticky(status), poison = opened?.device.poisonedBy
  // The last calls of all are those of the device's end.
  const struck = (name.startsWith('nvrtc') ? nvrtcLibrary : driver.library).count(name) >= at
  // The error is of the call that failed, or nothing went wrong that a caller could see.
  if (error !== undefined) judgeError(name, status, error)
  else {
    expect(result).toEqual(right)
    expect(!struck || isCleanUp(name) || name === 'cuCtxSetCurrent').toBe(true)
  }
  expect(one.whole()).toBe(true)
  if (opened !== undefined && sticky && poison !== undefined) {
    // Poisoned: the first cause is what every later use throws, and the driver is not called again.
    expect(poison).toMatchObject({ call: name, number: status, sticky: true })
    if (error !== undefined) expect(error).toBe(poison)
    const before = driver.library.calls.length
    await expect(work(opened)).rejects.toBe(poison)
    for (const use of [() => opened.device.alloc(1), () => opened.device.stream(), () => opened.device.synchronise()]) expect(use).toThrow(poison as Error)
    opened[Symbol.dispose]()
    expect(driver.library.calls.length).toBe(before)
    expect(programs()).toBe(0)
    return
  }
  if (opened !== undefined) {
    expect(poison).toBeUndefined()
    if (struck) expect(await work(opened)).toEqual(right)
    opened[Symbol.dispose]()
    expect(driver.library.count(name) + nvrtcLibrary.count(name)).toBeGreaterThanOrEqual(at)
    // A context that is found poisoned at its end is left as it is.
    if (!struck && sticky && name !== 'cuDevicePrimaryCtxRelease_v2') return
  }
  // What the driver itself refused to take back is all that may be left: one, of the kind that it was asked for.
  const left = driver.balance(), kind = own[name]
  // Nothing was opened, but its context is poisoned, and not touched again.
  if (opened === undefined && sticky && name === 'cuCtxSetCurrent') expect({ ...left, contexts: 0 }).toEqual(nothing)
  else if (kind === undefined) expect(left).toEqual(nothing)
  else {
    expect({ ...left, [kind]: 0 }).toEqual(nothing)
    expect(left[kind as keyof typeof left]).toBeLessThanOrEqual(1)
  }
  expect(programs()).toBe(name === 'nvrtcDestroyProgram' ? 1 : 0)
  if (sticky) return
  // And the machine serves the next one.
  const next = await attempt(one.at)
  expect(next.result).toEqual(right)
  next.opened?.[Symbol.dispose]()
}

describe('without a fault', () => {
  it('the work is done, and all is given back', () => {
    expect(cleanError).toBeUndefined()
    expect(cleanResult).toEqual(right)
    expect(clean.at.driver.balance()).toEqual(nothing)
    expect(clean.at.programs()).toBe(0)
    expect(clean.whole()).toBe(true)
    expect(clean.files.length).toBeGreaterThanOrEqual(9)
  })
  it('it calls every function that the runtime calls', () => {
    const folder = fileURLToPath(new URL('../../src/runtime', import.meta.url))
    const text = readdirSync(folder).filter(file => file.endsWith('.ts')).map(file => readFileSync(`${folder}/${file}`, 'utf8')).join('\n')
    const used = [...Object.keys(driverTable), ...Object.keys(nvrtcTable)].filter(name => new RegExp(`\\b${name}\\b`).test(text))
    expect(used.filter(name => !calls.includes(name) && !describing.includes(name))).toEqual([])
    expect(tested.length).toBeGreaterThanOrEqual(50)
  })
  it('there are more than 400 cases', () => {
    expect(cases.length).toBeGreaterThanOrEqual(800)
  })
})

describe.each(tested)('%s fails', name => {
  it.each(cases.filter(one => one.name === name))('call $at, $status', async ({ at, status }) => { await judge(name, at, status) })
})

describe('two at once', () => {
  it.each(['cuGetErrorName', 'cuGetErrorString'])('%s fails too: the number remains', async name => {
    const one = open()
    one.at.driver.library.fail('cuMemcpyHtoD_v2', 400).fail(name, 1)
    const { error, opened } = await attempt(one.at)
    expect(error).toMatchObject({ number: 400, call: 'cuMemcpyHtoD_v2', message: expect.stringMatching(/\(400\)/) as string, fix: expect.any(String) as string })
    opened?.[Symbol.dispose]()
    expect(one.at.driver.balance()).toEqual(nothing)
  })
  it('NVRTC has no name for its error', async () => {
    const one = open()
    one.at.nvrtcLibrary.fail('nvrtcCreateProgram', 77)
    const { error, opened } = await attempt(one.at)
    expect(error).toMatchObject({ number: 77, message: expect.stringMatching(/nvrtcCreateProgram failed \(for sm_90\): unknown error \(77\)/) as string })
    opened?.[Symbol.dispose]()
  })
  it('memory is full, and the driver does not say how full', async () => {
    for (const status of [1, 700]) {
      const one = open()
      one.at.driver.library.fail('cuMemAlloc_v2', 2).fail('cuMemGetInfo_v2', status)
      const { error, opened } = await attempt(one.at)
      expect(error).toBeInstanceOf(OutOfMemoryError)
      expect(error).toMatchObject({ code: 'out-of-memory', needed: 16, free: undefined, total: undefined })
      expect((error as Error).message).toMatch(/out of device memory: needed 16 bytes; Weft holds no other buffer here\n {2}fix: free buffers/)
      expect(opened?.device.poisonedBy === undefined).toBe(status === 1)
      opened?.[Symbol.dispose]()
    }
  })
  it('the log of a text that was refused cannot be had: the refusal is told', async () => {
    for (const name of ['nvrtcGetProgramLogSize', 'nvrtcGetProgramLog']) {
      const one = open()
      one.at.nvrtcLibrary.fail('nvrtcCompileProgram', 6).fail(name, 1)
      const { error, opened } = await attempt(one.at)
      expect(error).toBeInstanceOf(CompileError)
      opened?.[Symbol.dispose]()
      expect(one.at.programs()).toBe(0)
    }
  })
  const all = clean.at.driver.library.calls.filter(call => !describing.includes(call.name)).length
  it.each([4, 999])('the driver goes away at any call, and gives %i from then on', async status => {
    for (let at = 1; at <= all; at++) {
      const one = open()
      one.at.driver.library.failAll(status, at, /^cuGetError/)
      const { opened, error } = await attempt(one.at)
      // Nothing that ends a resource throws, or two errors would meet in one that nobody knows.
      expect(() => opened?.[Symbol.dispose]()).not.toThrow()
      if (error !== undefined) {
        expect(error).toBeInstanceOf(WeftError)
        expect((error as WeftError).message).toContain(`(${status})`)
        expect((error as WeftError).fix).toMatch(helps[status]!)
      }
      expect(one.at.programs()).toBe(0)
      expect(one.whole()).toBe(true)
    }
  })
})

describe('what ends while it is waited for', () => {
  it('a device: the wait is refused, and nothing of it is called afterwards', async () => {
    const { at } = open(), { driver } = at
    driver.library.functions['cuEventQuery'] = () => 600
    const opened = await openDevice('cuda', at), waiting = opened.device.stream().done()
    await new Promise(resolve => setTimeout(resolve, 5))
    opened[Symbol.dispose]()
    const before = driver.library.calls.length
    await expect(waiting).rejects.toThrow(/the device cuda:0 was freed before/)
    expect(driver.library.calls.length).toBe(before)
    expect(driver.balance()).toEqual(nothing)
  })
  it('a program: what was compiled for it is not loaded', async () => {
    const { at } = open()
    using opened = await openDevice('cuda', at)
    const program = await compile(outputs, { device: opened }), preparing = program.prepare({ n: 4 })
    program[Symbol.dispose]()
    await expect(preparing).rejects.toThrow(/the program was freed before/)
    await expect(program.prepare({ n: 4 })).rejects.toThrow(/the program was freed before/)
    expect(() => program.launch({ x: new Float32Array(4) }, { sizes: { n: 4 } })).toThrow(/the program was freed before/)
    expect(at.driver.balance().modules).toBe(0)
  })
  it('a module that did not load leaves none of its program behind', async () => {
    const { at } = open()
    using opened = await openDevice('cuda', at)
    using program = await compile(outputs, { device: opened })
    for (const call of ['cuModuleGetFunction', 'cuFuncGetAttribute']) {
      at.driver.library.fail(call, 400)
      await expect(program.prepare({ n: 4 })).rejects.toThrow(call)
      expect(at.driver.balance().modules).toBe(0)
    }
    await program.prepare({ n: 4 })
    expect(at.driver.balance().modules).toBe(1)
  })
})
