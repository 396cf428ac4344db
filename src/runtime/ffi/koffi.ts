/**
 * The default FFI package. A call like cuLaunchKernel (11 arguments) costs about 0.25 µs, ready-made binaries install
 * without a compiler. Addresses are passed as integers and memory as `void *`. Loaded at first use (15 ms): the reference
 * device and the compiler's text need no FFI.
 */
import { statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { EnvironmentError } from '../errors.js'
import type { Ffi, RawFunction, RawLibrary, RawResult } from './bind.js'
import type { Kind, ResultKind } from './table.js'

const types: { readonly [K in Kind | ResultKind]: string } = {
  void: 'void',
  i32: 'int32_t', u32: 'uint32_t', i64: 'int64_t', u64: 'uint64_t', size: 'size_t', f32: 'float', f64: 'double',
  pointer: 'uintptr_t', device: 'uint64_t',
  string: 'void *', bytes: 'void *',
  'out i32': 'void *', 'out u32': 'void *', 'out u64': 'void *', 'out size': 'void *',
  'out f32': 'void *', 'out pointer': 'void *', 'out device': 'void *',
}

/** A C string is returned as its address, so that both adapters read it the same way. */
const resultType = (kind: ResultKind): string => (kind === 'string' ? types.pointer : types[kind])

/** koffi types its functions loosely; this is the one place that says what they really are. */
interface KoffiFunction {
  (...args: unknown[]): RawResult
  async(...args: unknown[]): void
}

type Koffi = typeof import('koffi')

const stackBytes = 16 * 1024 * 1024   // the most koffi allows

let loaded: Ffi | undefined

export function loadKoffi(): Ffi {
  if (loaded !== undefined) return loaded
  let koffi: Koffi
  try {
    koffi = createRequire(import.meta.url)('koffi') as Koffi
  } catch (cause) {
    throw new EnvironmentError('ffi-package', `the FFI package koffi cannot be loaded: ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}`, {
      cause, fix: 'npm install koffi; on a platform that koffi has no binary for, try WEFT_FFI=ffi-napi or --device reference',
    })
  }
  // koffi runs a call on a stack of its own, 128 KiB for one on another thread: a compiler wants megabytes. The pages
  // are only taken when they are touched.
  koffi.config({ sync_stack_size: stackBytes, async_stack_size: stackBytes })
  loaded = koffiFfi(koffi)
  return loaded
}

const koffiFfi = (koffi: Koffi): Ffi => {
  /** Functions by file and signature. koffi never frees what it makes for one (some 100 bytes), and devices are opened often. */
  const known = new Map<string, RawFunction>()
  return {
    id: `koffi ${koffi.version}`,
    open(file): RawLibrary {
      const library = koffi.load(file), identity = identityOf(file)
      let open = true
      return {
        find(name, returns, kinds) {
          const key = `${identity} ${name} ${returns} ${kinds.join()}`
          const found = known.get(key) ?? functionOf(library, name, returns, kinds)
          if (found !== undefined) known.set(key, found)
          return found
        },
        close() {
          if (open) library.unload()
          open = false
          for (const key of known.keys()) if (key.startsWith(`${identity} `)) known.delete(key)
        },
      }
    },
    addressOf: (view) => BigInt(koffi.address(view)),
    readString: (address) => koffi.decode.string(address),
  }
}

/** The file behind a path, which may be replaced by another; a bare soname is always the same library. */
function identityOf(file: string): string {
  try {
    const { ino, mtimeMs } = statSync(file)
    return `${file} ${ino} ${mtimeMs}`
  } catch {
    return file
  }
}

function functionOf(library: ReturnType<Koffi['load']>, name: string, returns: ResultKind, kinds: readonly Kind[]): RawFunction | undefined {
  let target: KoffiFunction
  try {
    target = library.func(name, resultType(returns), kinds.map((kind) => types[kind])) as KoffiFunction
  } catch (error) {
    if (/cannot find function/i.test(String(error))) return undefined
    throw error
  }
  return {
    call: (args) => target(...args),
    callConcurrently: (args) =>
      new Promise((resolve, reject) => {
        target.async(...args, (error: Error | null, result: RawResult) => (error ? reject(error) : resolve(result)))
      }),
  }
}
