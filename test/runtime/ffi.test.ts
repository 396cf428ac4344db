import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import { openLibrary } from '../../src/runtime/ffi/bind.js'
import { defaultFfi } from '../../src/runtime/ffi/index.js'
import { loadKoffi } from '../../src/runtime/ffi/koffi.js'
import { driverTable, nvrtcTable, signature, type Bound, type Driver } from '../../src/runtime/ffi/table.js'
import { forkOrReason } from './fork-here.js'
import { nativeLibrary, nativeTable } from './native.js'

const fork = forkOrReason()
const adapters = [loadKoffi(), ...(typeof fork === 'string' ? [] : [fork])].map((ffi) => [ffi.id, ffi] as const)

describe.each(adapters)('binding with %s', (_, ffi) => {
  const library = openLibrary(ffi, 'the test library', nativeLibrary(), nativeTable)
  const c = library.functions

  it('passes 11 arguments like cuLaunchKernel, with a parameter block of addresses', () => {
    const values = [1_000_000_000n, 2_000_000_000n, 3_000_000_000n].map((value) => BigUint64Array.of(value))
    const block = BigUint64Array.from(values, (value) => ffi.addressOf(value))
    const call = (): number => c.launch(0xffff_8000_0000_0001n, 4294967295, 2, 3, 4, 5, 6, 7, 8n, block, null)
    expect(call()).toBe(1)
    for (let i = 0; i < 100; i++) call()
    expect(values).toHaveLength(3)
  })

  it('keeps all 64 bits and gives 64-bit results as BigInt, small ones too', () => {
    for (const value of [0n, 1n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
      expect(c.same_u64(value)).toBe(value)
      expect(c.same_size(value)).toBe(value)
    }
    for (const value of [-(2n ** 63n), -1n, 0n, 2n ** 63n - 1n]) expect(c.same_i64(value)).toBe(value)
    expect(c.same_u64(5)).toBe(5n)
  })

  it('passes 32-bit integers and floats', () => {
    for (const value of [-(2 ** 31), -1, 0, 2 ** 31 - 1]) expect(c.same_i32(value)).toBe(value)
    for (const value of [0, 2 ** 31, 2 ** 32 - 1]) expect(c.same_u32(value)).toBe(value)
    expect(c.half_f32(3)).toBe(1.5)
    expect(c.half_f64(Math.PI)).toBe(Math.PI / 2)
    expect(c.half_f32(Infinity)).toBe(Infinity)
    expect(c.nothing()).toBeUndefined()
  })

  it('fills out-parameters', () => {
    const a = new Int32Array(1), b = new Uint32Array(1), u = new BigUint64Array(1), d = new BigUint64Array(1), e = new Float32Array(1), f = new BigUint64Array(1)
    expect(c.outs(a, b, u, d, e, f)).toBe(0)
    expect([a[0], b[0], u[0], d[0], e[0], f[0]]).toEqual([-7, 4_000_000_000, 9007199254740993n, 5n, 1.5, 0x123456789abcn])
  })

  it('passes and returns strings as UTF-8', () => {
    expect(c.length('grüße')).toBe(7n)
    expect(c.length('')).toBe(0n)
    expect(c.length('x'.repeat(3_000_000))).toBe(3_000_000n)
    expect(c.greeting()).toBe('grüße')
    expect(c.no_string()).toBe('')
  })

  it('reads and writes memory, views at an offset included', () => {
    const bytes = Uint8Array.from({ length: 300 }, (_, i) => i & 255)
    expect(c.sum_bytes(bytes, 256)).toBe(32640n)
    expect(c.sum_bytes(bytes.subarray(10, 12), 2)).toBe(21n)
    const tail = bytes.subarray(298)
    c.fill(tail, 9, 2)
    expect([...bytes.subarray(296)]).toEqual([40, 41, 9, 9])
    expect(c.is_null(null)).toBe(1)
    expect(c.is_null(bytes)).toBe(0)
  })

  it('runs concurrent calls on other threads', async () => {
    const start = performance.now()
    expect(await Promise.all([c.slow.concurrently(150), c.slow.concurrently(150)])).toEqual([150, 150])
    expect(performance.now() - start).toBeLessThan(290)
  })

  it.each([
    ['a large int', () => c.same_i32(5_000_000_000), /same_i32 argument 1 \(x: i32\) must be an integer from -2147483648 to 2147483647, got 5000000000/],
    ['a fraction', () => c.same_i32(1.5), /got 1\.5/],
    ['NaN', () => c.same_u32(NaN), /got NaN/],
    ['a negative unsigned', () => c.same_u32(-1), /from 0 to 4294967295, got -1/],
    ['2^64', () => c.same_u64(2n ** 64n), /got 18446744073709551616n/],
    ['an unsafe number', () => c.same_u64(2 ** 53), /safe integer/],
    ['NUL in a string', () => c.length('a\0b'), /must not contain NUL/],
    // @ts-expect-error the types refuse it too
    ['a surplus argument', () => c.same_i32(1, 2), /takes 1 argument, got 2/],
    // @ts-expect-error
    ['a missing argument', () => c.launch(1n), /takes 11 arguments, got 1/],
    // @ts-expect-error
    ['a number for a pointer', () => c.launch(1, 1, 1, 1, 1, 1, 1, 0, 0n, null, null), /function: pointer\) must be an address as BigInt/],
    // @ts-expect-error
    ['a string for bytes', () => c.is_null('x'), /must be a typed array or null/],
    // @ts-expect-error
    ['a wrong out array', () => c.outs(new Float32Array(1)), /takes 6/],
    ['an empty out array', () => c.outs(new Int32Array(0), new Uint32Array(1), new BigUint64Array(1), new BigUint64Array(1), new Float32Array(1), new BigUint64Array(1)), /Int32Array with room for one/],
  ])('refuses %s', (_, call, message) => {
    expect(call).toThrow(message)
    expect(call).toThrow(WeftError)
  })

  it('names the library, the file and the function that is missing', () => {
    expect(library.has('absent')).toBe(false)
    expect(library.has('launch')).toBe(true)
    expect(() => c.absent()).toThrow(/the test library \(.*libnative\.so\) has no function absent/)
  })

  it('names the file and the library when loading fails', () => {
    const broken = join(mkdtempSync(join(tmpdir(), 'weft-broken-')), 'libbroken.so')
    writeFileSync(broken, '\x7fELF but no more')
    expect(() => openLibrary(ffi, 'the CUDA driver', broken, nativeTable)).toThrow(/the CUDA driver cannot be loaded from .*libbroken\.so: ./)
    expect(() => openLibrary(ffi, 'the CUDA driver', '/nowhere/libcuda.so.1', nativeTable)).toThrow(/nowhere\/libcuda\.so\.1/)
  })

  it('calls libc', () => {
    const soname = ['libc.so.6', 'libc.so'].find((name) => { try { ffi.open(name); return true } catch { return false } })
    const libc = openLibrary(ffi, 'libc', soname ?? 'libc.so.6', {
      strlen: signature('size', 'text: string'),
      strtoull: signature('u64', 'text: string', 'end: bytes', 'base: i32'),
    })
    expect(libc.functions.strlen('weft')).toBe(4n)
    expect(libc.functions.strtoull('18446744073709551615', null, 10)).toBe(2n ** 64n - 1n)
  })
})

describe('the tables', () => {
  it('hold the driver and NVRTC', () => {
    expect(Object.keys(driverTable).length).toBeGreaterThanOrEqual(60)
    expect(Object.keys(nvrtcTable).length).toBeGreaterThanOrEqual(20)
    expect(driverTable.cuLaunchKernel.parameters).toHaveLength(11)
    for (const name of Object.keys(driverTable)) expect(name).toMatch(/^cu[A-Z]\w+$/)
  })

  it('bind the 64-bit names of functions whose plain names are old', () => {
    for (const plain of ['cuMemAlloc', 'cuMemFree', 'cuMemGetInfo', 'cuMemcpyHtoD', 'cuMemcpyDtoH', 'cuDeviceTotalMem', 'cuStreamDestroy', 'cuEventDestroy', 'cuModuleGetGlobal', 'cuDevicePrimaryCtxRelease', 'cuStreamBeginCapture']) {
      expect(driverTable).not.toHaveProperty(plain)
      expect(driverTable).toHaveProperty(`${plain}_v2`)
    }
  })

  it('give the types of the functions', () => {
    expectTypeOf<Driver['cuMemAlloc_v2']>().parameters.toEqualTypeOf<[BigUint64Array, number | bigint]>()
    expectTypeOf<Driver['cuInit']>().returns.toEqualTypeOf<number>()
    expectTypeOf<Bound<typeof nvrtcTable.nvrtcGetErrorString>>().returns.toEqualTypeOf<string>()
    expectTypeOf<Bound<typeof nvrtcTable.nvrtcCompileProgram>>().toHaveProperty('concurrently')
    expectTypeOf<Driver['cuStreamSynchronize']>().not.toHaveProperty('concurrently')
  })
})

describe('the choice of the package', () => {
  it('is koffi, the fork when asked for, and an error otherwise', () => {
    expect(defaultFfi({}).id).toMatch(/^koffi 3/)
    expect(() => defaultFfi({ WEFT_FFI: 'node-ffi' })).toThrow(/WEFT_FFI=node-ffi names no FFI package/)
    if (!existsSync(join(import.meta.dirname, '../../node_modules/@2060.io'))) {
      expect(() => defaultFfi({ WEFT_FFI: 'ffi-napi' })).toThrow(/fix: npm install @2060\.io/)
    }
  })
})
