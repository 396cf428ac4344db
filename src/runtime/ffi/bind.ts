/**
 * Between the tables and an FFI package: checks every argument, normalises every result, names the file and the
 * library when something cannot be loaded. FFI packages wrap silently (koffi makes 5 000 000 000 in an `int`
 * 705 032 704, cuts 1.5 to 1 and ignores surplus arguments), and a wrong launch argument is a crash, not an error.
 */
import { WeftError } from '../../dsl/errors.js'
import { EnvironmentError } from '../errors.js'
import type { BoundTable, Kind, Parameter, ResultKind, Signature, SignatureTable } from './table.js'

/** A checked argument as an adapter sees it: integers above 32 bits and addresses are BigInt, memory is a view. */
export type RawArgument = number | bigint | ArrayBufferView | null
export type RawResult = number | bigint | string | undefined

export interface RawFunction {
  call(args: readonly RawArgument[]): RawResult
  /** The same on another thread. The caller keeps the arguments' memory alive until the promise settles. */
  callConcurrently(args: readonly RawArgument[]): Promise<RawResult>
}

/** What an FFI package must be able to do: about 60 lines each. */
export interface RawLibrary {
  /** Undefined where the library exports no such function. */
  find(name: string, returns: ResultKind, kinds: readonly Kind[]): RawFunction | undefined
  close(): void
}

export interface Ffi {
  readonly id: string
  /** Loads a library by path or by soname; throws the loader's own message. */
  open(file: string): RawLibrary
  /** The address of a view's memory. It must not be a view that has been transferred. */
  addressOf(view: ArrayBufferView): bigint
  /** The C string at an address. */
  readString(address: bigint): string
}

/** A loaded library with the functions of a table, each bound at its first use. */
export interface Library<T extends SignatureTable> extends Disposable {
  readonly ffi: Ffi
  readonly file: string
  readonly functions: BoundTable<T>
  /** Whether the library exports the function at all. */
  has(name: keyof T & string): boolean
  /** Unloads it. The driver and NVRTC are never unloaded: both keep threads. */
  close(): void
}

export function openLibrary<T extends SignatureTable>(ffi: Ffi, what: string, file: string, table: T): Library<T> {
  let raw: RawLibrary
  try {
    raw = ffi.open(file)
  } catch (cause) {
    throw new EnvironmentError('library-load', `${what} cannot be loaded from ${file}: ${messageOf(cause)}`, {
      cause, fix: '`weft doctor` lists every place tried and why it was passed over',
    })
  }
  const found = new Map<string, RawFunction | undefined>()
  const lookUp = (name: string): RawFunction | undefined => {
    if (!found.has(name)) {
      const signature = table[name]
      found.set(name, signature && raw.find(name, signature.returns, signature.parameters.map(kindOf)))
    }
    return found.get(name)
  }
  const functions: { [name: string]: unknown } = {}
  for (const [name, signature] of Object.entries(table)) {
    Object.defineProperty(functions, name, {
      configurable: true,
      enumerable: true,
      get() {
        const target = lookUp(name)
        if (target === undefined) {
          throw new EnvironmentError('library-symbol', `${what} (${file}) has no function ${name}`, {
            fix: 'it is too old, or not the library it is taken for: `weft doctor` shows which file was chosen',
          })
        }
        const bound = bindFunction(name, signature, target, ffi)
        Object.defineProperty(functions, name, { value: bound, enumerable: true })
        return bound
      },
    })
  }
  return {
    ffi, file,
    functions: functions as BoundTable<T>,
    has: (name) => lookUp(name) !== undefined,
    close: () => raw.close(),
    [Symbol.dispose]: () => raw.close(),
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

export const kindOf = (parameter: Parameter): Kind => parameter.slice(parameter.lastIndexOf(': ') + 2) as Kind

function bindFunction(name: string, signature: Signature, target: RawFunction, ffi: Ffi): unknown {
  const { parameters, returns } = signature
  const count = parameters.length
  const checks = parameters.map((parameter) => checkers[kindOf(parameter)])
  const convert = (args: readonly unknown[]): RawArgument[] => {
    if (args.length !== count) throw refuse(name, `takes ${count} argument${count === 1 ? '' : 's'}, got ${args.length}`)
    const raw = new Array<RawArgument>(count)
    for (let i = 0; i < count; i++) {
      const value = checks[i]!(args[i])
      if (typeof value === 'string') throw refuse(name, `argument ${i + 1} (${parameters[i]}) ${value}, got ${show(args[i])}`)
      raw[i] = value
    }
    return raw
  }
  const normalise = normalisers(ffi)[returns]
  const bound = (...args: unknown[]): unknown => normalise(target.call(convert(args)))
  return signature.concurrent
    ? Object.assign(bound, {
        concurrently: async (...args: unknown[]): Promise<unknown> => {
          const raw = convert(args)
          const result = await target.callConcurrently(raw)
          keepAlive(raw)
          return normalise(result)
        },
      })
    : bound
}

/** A use after the call, so that the memory behind the arguments outlives it. */
const keepAlive = (args: readonly RawArgument[]): void => {
  if (args.length < 0) throw new Error('unreachable')
}

const refuse = (name: string, reason: string): WeftError => new WeftError('ffi-argument', `${name} ${reason}`, { fix: 'an argument that was passed on to the driver is wrong; if none of them is yours, it is a defect of Weft: report it' })

function show(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value)
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`
  return String(value)
}

/** Gives the value to pass, or a sentence that says what was expected (raw arguments are never strings). */
type Checker = (value: unknown) => RawArgument | string

const integer = (low: number, high: number): Checker => (value) =>
  typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high
    ? value + 0
    : `must be an integer from ${low} to ${high}`

const wide = (low: bigint, high: bigint): Checker => (value) => {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= low) return BigInt(value)
  if (typeof value === 'bigint' && value >= low && value <= high) return value
  return `must be a BigInt or a safe integer from ${low} to ${high}`
}

const addresses = 1n << 64n
const address: Checker = (value) =>
  typeof value === 'bigint' && value >= 0n && value < addresses ? value : 'must be an address as BigInt (0n is NULL)'

const real: Checker = (value) => (typeof value === 'number' ? value : 'must be a number')

const array = (type: Int32ArrayConstructor | Uint32ArrayConstructor | BigUint64ArrayConstructor | Float32ArrayConstructor): Checker => (value) =>
  value instanceof type && value.length >= 1 ? value : `must be a ${type.name} with room for one result`

const checkers: { readonly [K in Kind]: Checker } = {
  i32: integer(-(2 ** 31), 2 ** 31 - 1),
  u32: integer(0, 2 ** 32 - 1),
  i64: wide(-(1n << 63n), (1n << 63n) - 1n),
  u64: wide(0n, (1n << 64n) - 1n),
  size: wide(0n, (1n << 64n) - 1n),
  f32: real,
  f64: real,
  pointer: address,
  device: address,
  string: (value) => {
    if (typeof value !== 'string') return 'must be a string'
    return value.includes('\0') ? 'must not contain NUL, where C would cut it' : Buffer.from(`${value}\0`, 'utf8')
  },
  bytes: (value) => (value === null || ArrayBuffer.isView(value) ? value : 'must be a typed array or null'),
  'out i32': array(Int32Array),
  'out u32': array(Uint32Array),
  'out u64': array(BigUint64Array),
  'out size': array(BigUint64Array),
  'out f32': array(Float32Array),
  'out pointer': array(BigUint64Array),
  'out device': array(BigUint64Array),
}

/** 64-bit results come as number, string or BigInt, depending on the package and on the value: always BigInt here. */
const normalisers = (ffi: Ffi): { readonly [K in ResultKind]: (value: RawResult) => unknown } => {
  const unsigned = (value: RawResult): bigint => BigInt.asUintN(64, BigInt(value ?? 0))
  return {
    void: () => undefined,
    i32: (value) => Number(value),
    u32: (value) => Number(value),
    f32: (value) => Number(value),
    f64: (value) => Number(value),
    i64: (value) => BigInt(value ?? 0),
    u64: unsigned,
    size: unsigned,
    pointer: unsigned,
    string: (value) => {
      const at = unsigned(value)
      return at === 0n ? '' : ffi.readString(at)
    },
  }
}
