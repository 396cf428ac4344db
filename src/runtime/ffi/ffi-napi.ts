/**
 * The adapter for the maintained fork of node-ffi-napi and ref-napi. Not the default: a call with 11 arguments costs
 * 50 to 70 µs and installing it needs a C++ toolchain. Chosen by `WEFT_FFI=ffi-napi`.
 */
import { createRequire } from 'node:module'
import { EnvironmentError } from '../errors.js'
import type { Ffi, RawArgument, RawLibrary, RawResult } from './bind.js'
import type { Kind, ResultKind } from './table.js'

/** The little that is used of the two packages; they are optional, so their own types may be absent. */
interface ForeignFunction {
  (...args: unknown[]): RawResult
  async(...args: unknown[]): void
}
export interface FfiNapi {
  DynamicLibrary: new (file: string, mode?: number) => { get(name: string): Buffer; close(): void }
  ForeignFunction: (address: Buffer, returns: string, kinds: string[]) => ForeignFunction
}
export interface RefNapi {
  hexAddress(buffer: Buffer): string
  readPointer(buffer: Buffer, offset: number, length: number): Buffer
  readCString(buffer: Buffer, offset: number): string
}

// Memory goes as its address in a 64-bit integer, so that no type of ref-napi keeps a second copy of it.
const types: { readonly [K in Kind | ResultKind]: string } = {
  void: 'void',
  i32: 'int32', u32: 'uint32', i64: 'int64', u64: 'uint64', size: 'uint64', f32: 'float', f64: 'double',
  pointer: 'uint64', device: 'uint64',
  string: 'uint64', bytes: 'uint64',
  'out i32': 'uint64', 'out u32': 'uint64', 'out u64': 'uint64', 'out size': 'uint64',
  'out f32': 'uint64', 'out pointer': 'uint64', 'out device': 'uint64',
}

/** Builds the adapter over the two packages, wherever they were loaded from. */
export function ffiNapi(ffi: FfiNapi, ref: RefNapi, version = ''): Ffi {
  const addressOf = (view: ArrayBufferView): bigint => {
    // `.buffer` moves a small typed array out of the JavaScript heap, where its memory could be moved.
    const buffer = Buffer.from(view.buffer, view.byteOffset, view.byteLength)
    return BigInt(`0x${ref.hexAddress(buffer)}`)
  }
  const plain = (value: RawArgument): number | string => {
    if (typeof value === 'number') return value
    if (typeof value === 'bigint') return value.toString()
    return value === null || value.byteLength === 0 ? 0 : addressOf(value).toString()
  }
  const open = (file: string): RawLibrary => {
    const library = new ffi.DynamicLibrary(file)
    return {
      find(name, returns, kinds) {
        let symbol: Buffer
        try {
          symbol = library.get(name)
        } catch {
          return undefined
        }
        const target = ffi.ForeignFunction(symbol, types[returns], kinds.map((kind) => types[kind]))
        return {
          call: (args) => target(...args.map(plain)),
          callConcurrently: (args) =>
            new Promise((resolve, reject) => {
              const done = (error: Error | null, result: RawResult): void => (error ? reject(error) : resolve(result))
              target.async(...args.map(plain), done)
            }),
        }
      },
      close: () => library.close(),
    }
  }
  return {
    id: `ffi-napi ${version}`.trim(),
    open,
    addressOf,
    readString(address) {
      const pointer = Buffer.alloc(8)
      pointer.writeBigUInt64LE(address)
      // The length is a bound for the reader only: readCString stops at the NUL.
      return ref.readCString(ref.readPointer(pointer, 0, 1 << 16), 0)
    },
  }
}

/** Loads the optional packages, from `from` (a file of the package that has them) or from here. */
export function loadFfiNapi(from: string = import.meta.url): Ffi {
  const require = createRequire(from)
  try {
    const { version } = require('@2060.io/ffi-napi/package.json') as { version: string }
    return ffiNapi(require('@2060.io/ffi-napi') as FfiNapi, require('@2060.io/ref-napi') as RefNapi, version)
  } catch (cause) {
    throw new EnvironmentError('ffi-package', `WEFT_FFI=ffi-napi: ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}`, {
      cause, fix: 'npm install @2060.io/ffi-napi @2060.io/ref-napi (needs a C++ toolchain and Python), or unset WEFT_FFI to use koffi',
    })
  }
}
