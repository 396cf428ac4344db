import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { add, tensor, WeftError } from '../../src/dsl/index.js'
import { lower } from '../../src/codegen/pipeline.js'
import { plan } from '../../src/codegen/plan.js'
import { defaultPoint, defaultStream, invalid, type Schedule } from '../../src/codegen/schedule.js'
import { defaultSelect } from '../../src/codegen/schedule-select.js'
import { openCache } from '../../src/runtime/cache.js'
import { openDevice, type DeviceSpec, type OpenedDevice, type OpenOptions } from '../../src/runtime/devices.js'
import { findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { CudaError } from '../../src/runtime/errors.js'
import { mockFfi } from '../../src/runtime/ffi/mock.js'
import { mockDriver } from '../../src/runtime/ffi/mock-driver.js'
import { emulatorFolder } from '../../src/runtime/host-compiler.js'
import { compile, type Input, type Program } from '../../src/runtime/program.js'
import type { SystemView } from '../../src/runtime/system.js'

const compiler = findHostCompiler()
const missing = 'missing' in compiler && process.env['CI'] !== 'true'
if ('missing' in compiler) console.warn(`SKIPPED: programs on the emulator. ${compiler.missing} Fix: ${compiler.fix}`)

const x = tensor('x', 'f32', ['r', 'n']), y = tensor('y', 'f16', ['n'])
const outputs = { sum: add(x, y) }
const halves = (): Uint16Array => new Uint16Array(3).fill(0x3c00)
const good = { x: { dtype: 'f32', axes: ['r', 'n'], shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) }, y: { dtype: 'f16', axes: ['n'], shape: [3], data: halves() } } as const
const sum = [2, 3, 4, 5, 6, 7]
/** What comes from JavaScript need not have the types. */
const asInput = (value: unknown): Input => value as Input

const temporary: string[] = []
const folder = (): string => { const made = mkdtempSync(join(tmpdir(), 'weft-program-')); temporary.push(made); return made }
afterAll(() => temporary.forEach(f => rmSync(f, { recursive: true, force: true })))
afterEach(() => { vi.unstubAllEnvs() })

const wrong: readonly (readonly [string, unknown, RegExp])[] = [
  ['a Float64Array for f32', { ...good.x, data: new Float64Array(6) }, /data of the input 'x' is Float64Array, but f32 is held in Float32Array[^]*fix:/],
  ['a plain array as data', { ...good.x, data: [1, 2, 3, 4, 5, 6] }, /is Array, but f32 is held in Float32Array/],
  ['no data', { ...good.x, data: undefined }, /is undefined, but f32/],
  ['too few elements', { ...good.x, data: new Float32Array(5) }, /'x' holds 5 elements for the shape 2 × 3[^]*fix: pass 6/],
  ['too many elements', { ...good.x, data: new Float32Array(7) }, /'x' holds 7 elements for the shape 2 × 3/],
  ['a missing axis', { ...good.x, axes: ['r'], shape: [6] }, /'x' has no axis 'n'[^]*its axes are r, n/],
  ['a strange axis', { ...good.x, axes: ['r', 'n', 'q'], shape: [2, 3, 1] }, /'x' has an axis 'q', which is not declared/],
  ['an axis twice', { ...good.x, axes: ['r', 'n', 'n'], shape: [2, 3, 1] }, /'x' has an axis twice/],
  ['a shape of another rank', { ...good.x, shape: [6] }, /'x' has 2 axes, but 1 lengths/],
  ['a fraction in the shape', { ...good.x, shape: [1.5, 4] }, /'x' has the shape 1.5 × 4/],
  ['another dtype', { ...good.x, dtype: 'i32', data: new Int32Array(6) }, /'x' is i32, declared as f32/],
  ['no axes', { ...good.x, axes: undefined }, /'x' does not list its axes/],
  ['a number', 5, /'x' is a number[^]*pass a Float32Array/],
  ['a plain array', [1, 2], /'x' is a plain array/],
  ['null', null, /'x' is null/],
  ['a bare array of another type', new Float64Array(6), /is Float64Array, but f32/],
  ['a bare array of another length', new Float32Array(5), /'x' has 5 elements, 2 × 3 are declared/],
]

function refusesWrongInputs(device: () => Promise<Program>): void {
  it.each(wrong)('refuses %s', async (_, value, message) => {
    using program = await device()
    const refused = program.run({ x: asInput(value), y: good.y }, { sizes: { r: 2, n: 3 } })
    await expect(refused).rejects.toThrow(message)
    await expect(refused).rejects.toThrow(WeftError)
  })
  it('refuses inputs and outputs that the program does not have, and 16-bit floats as numbers', async () => {
    using program = await device()
    await expect(program.run({ ...good, z: good.x })).rejects.toThrow(/no input 'z'[^]*its inputs are x, y/)
    await expect(program.run({ x: good.x })).rejects.toThrow(/the input 'y' is missing/)
    await expect(program.run({ x: good.x, y: asInput({ ...good.y, data: new Float32Array(3) }) })).rejects.toThrow(/'y' is Float32Array, but f16 is held in Uint16Array[^]*of their bits/)
    await expect(program.run(good, { outputs: { total: undefined as never } })).rejects.toThrow(/no output 'total'[^]*its outputs are sum/)
  })
  it('takes axes in any order, and bare arrays with sizes', async () => {
    using program = await device()
    const turned = { dtype: 'f32', axes: ['n', 'r'], shape: [3, 2], data: Float32Array.of(1, 4, 2, 5, 3, 6) } as const
    expect([...(await program.run({ x: turned, y: good.y }))['sum']!.data]).toEqual(sum)
    expect([...(await program.run({ x: good.x.data, y: halves() }, { sizes: { r: 2, n: 3 } }))['sum']!.data]).toEqual(sum)
  })
}

describe('inputs of the reference device', () => {
  refusesWrongInputs(() => compile(outputs, { device: 'reference' }))
  it('rejects and does not throw', async () => {
    const program = await compile(outputs, { device: 'reference' })
    let run: Promise<unknown> | undefined
    expect(() => { run = program.run({ x: asInput(undefined) }) }).not.toThrow()
    await expect(run).rejects.toThrow(/'x' is undefined/)
  })
})

describe.skipIf(missing)('inputs of a device', () => {
  let opened: OpenedDevice
  beforeAll(async () => { opened = await openDevice('emulator') })
  afterAll(() => opened[Symbol.dispose]())
  refusesWrongInputs(() => compile(outputs, { device: opened }))

  it('checks what lies on the device', async () => {
    using program = await compile(outputs, { device: opened })
    using buffer = opened.device.alloc(24, 'x')
    using small = opened.device.alloc(20, 'small')
    const on = { dtype: 'f32', axes: ['r', 'n'], shape: [2, 3], buffer } as const
    opened.device.upload(buffer, good.x.data)
    expect([...(await program.run({ ...good, x: on })).sum.data]).toEqual(sum)
    const refused = (value: unknown, message: RegExp): Promise<void> => expect(program.run({ ...good, x: asInput(value) })).rejects.toThrow(message)
    await refused({ ...on, axes: ['n', 'r'], shape: [3, 2] }, /lies on the device over n, r, declared is the order r, n[^]*fix: declare/)
    await refused({ ...on, buffer: small }, /needs 24 bytes for 2 × 3 of f32, its buffer has 20/)
    await refused({ ...on, dtype: 'i32' }, /'x' is i32, declared as f32/)
    await refused({ ...on, buffer: new ArrayBuffer(24) }, /no device buffer/)
    await refused({ ...on, shape: [2] }, /2 axes, but 1 lengths/)
    using reference = await compile(outputs, { device: 'reference' })
    await expect(reference.run({ ...good, x: on })).rejects.toThrow(/lies on a device/)
    expect(opened.device.poisonedBy).toBeUndefined()
  })
})

describe('where no device can be opened', () => {
  const nothing = (environment: { readonly [name: string]: string } = {}): OpenOptions => {
    vi.stubEnv('CXX', '/nowhere/g++')
    vi.stubEnv('WEFT_DEVICE', '')
    const system: SystemView = {
      environment, platform: 'linux', arch: 'x64', home: '/home/me', workingFolder: '/here', packageRoot: '/pkg',
      exists: () => false, list: () => [], real: path => path, firstBytes: () => undefined, text: () => undefined, load: file => `${file}: not there`,
    }
    return { system, cache: openCache({ noCache: true }), ffi: mockFfi({}, mockDriver().memory) }
  }
  it('a program runs on the reference device', async () => {
    using program = await compile(outputs, nothing())
    expect(program.device).toBeUndefined()
    expect([...(await program.run(good)).sum.data]).toEqual(sum)
  })
  it('what was asked for is not replaced', async () => {
    await expect(compile(outputs, { ...nothing(), device: 'emulator' })).rejects.toThrow(/No C\+\+ compiler/)
    await expect(compile(outputs, { ...nothing(), device: 'cuda' })).rejects.toThrow(/libcuda was not found/)
    await expect(compile(outputs, nothing({ WEFT_DEVICE: 'emulator' }))).rejects.toThrow(/No C\+\+ compiler/)
    expect((await compile(outputs, nothing({ WEFT_DEVICE: 'reference' }))).device).toBeUndefined()
  })
  it('the reference device is not one to open', async () => {
    await expect(openDevice('reference' as DeviceSpec, nothing())).rejects.toThrow(/fix: compile\(outputs, \{ device: 'reference' \}\)/)
    await expect(openDevice(undefined, nothing({ WEFT_DEVICE: 'reference' }))).rejects.toThrow(/is the interpreter/)
  })
})

describe('the folder of the emulator', () => {
  const off = openCache({ noCache: true })
  it('without a cache is a temporary one of this user alone', () => {
    const place = folder(), own = join(place, `weft-emulator-${process.getuid?.() ?? 0}`)
    vi.stubEnv('TMPDIR', place)
    expect(emulatorFolder(off)).toBe(own)
    expect(statSync(own).mode & 0o777).toBe(0o700)
    expect(emulatorFolder(off)).toBe(own)
    chmodSync(own, 0o770)
    const other = emulatorFolder(off)
    expect(other).not.toBe(own)
    expect(statSync(other).mode & 0o777).toBe(0o700)
    expect(emulatorFolder(off)).toBe(other)
    rmSync(own, { recursive: true })
    mkdirSync(join(place, 'elsewhere'), { mode: 0o700 })
    symlinkSync(join(place, 'elsewhere'), own)
    expect(emulatorFolder(off)).toBe(other)
  })
  it.skipIf(missing)('a library in it that does not load is built again', async () => {
    const cache = openCache({ folder: folder() }), at = emulatorFolder(cache)
    {
      using _ = await openDevice('emulator', { cache })
    }
    const [name] = readdirSync(at).filter(f => /^libweft-emulator-.*\.so$/.test(f))
    // The one that is loaded must not be written over: another file takes its place.
    rmSync(join(at, name!))
    writeFileSync(join(at, name!), 'no library at all')
    const [first, second] = await Promise.all([openDevice('emulator', { cache }), openDevice('emulator', { cache })])
    using program = await compile(outputs, { device: first })
    expect([...(await program.run(good)).sum.data]).toEqual(sum)
    expect(readdirSync(at).filter(f => f.startsWith('libweft'))).toEqual([name])
    first[Symbol.dispose]()
    second[Symbol.dispose]()
  })
})

describe('schedules', () => {
  it.each<[string, object, RegExp | undefined]>([
    ['the defaults', defaultStream, undefined],
    ['the defaults', defaultPoint, undefined],
    ['the defaults', defaultSelect, undefined],
    ['an unknown path', { ...defaultStream, path: 'tensor' }, /^path is tensor: scalar and mma are possible/],
    ['no path', { ...defaultStream, path: undefined }, /^path is undefined/],
    ['a field of another rule', { ...defaultPoint, rows: 4 }, /no field 'rows': the fields of the rule point are rule, threads, items/],
    ['an unknown field', { ...defaultSelect, cache: 4 }, /no field 'cache'/],
    ['an unknown rule', { ...defaultPoint, rule: 'spiral' }, /no rule spiral/],
  ])('%s: %j', (_, schedule, reason) => {
    if (reason === undefined) expect(invalid(schedule as Schedule)).toBeUndefined()
    else expect(invalid(schedule as Schedule)).toMatch(reason)
  })
  it('are for kernels that the plan has', () => {
    const planned = plan(outputs), name = planned.groups[0]!.name
    expect(lower(planned, { [name]: { ...defaultPoint, threads: 64 } })[0]!.kernel.threads).toBe(64)
    expect(() => lower(planned, { nobody: defaultPoint })).toThrow(`the program has no kernel 'nobody'\n  fix: its kernels are ${name}`)
    expect(() => lower(planned, { nobody: defaultPoint })).toThrow(expect.objectContaining({ code: 'schedule' }))
  })
})

describe('a fault', () => {
  it.skipIf(missing)('on the emulator gives no advice to use the emulator, and quotes without a stray semicolon', async () => {
    using opened = await openDevice('emulator')
    const text = 'extern "C" __global__ void outside(Global<float> out, int count) {\n  if (threadIdx.x == 3)\n    out[count] = 1.0f;\n}\n'
    const module = opened.device.load((await opened.compiler.compile({ text, kernels: ['outside'], arch: opened.device.arch })).image)
    opened.device.launch(module.kernel('outside'), { grid: [1, 1, 1], block: 32, shared: 0 }, [opened.device.alloc(40), { kind: 'i32', value: 10 }])
    const error: unknown = await opened.device.defaultStream.done().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(CudaError)
    const { message, fix } = error as CudaError
    expect(message).toMatch(/out\[count\] = 1\.0f; this device/)
    expect(fix).toMatch(/the message names/)
    expect(message).not.toMatch(/--device emulator/)
  })
  it('on a GPU does', () => {
    expect(new CudaError('cuLaunchKernel', 700, 'CUDA_ERROR_ILLEGAL_ADDRESS', 'an illegal access').fix).toMatch(/--device emulator/)
  })
})
