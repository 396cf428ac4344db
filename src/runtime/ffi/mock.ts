/**
 * An FFI package without libraries, for tests: it records every call, lets any call fail, and simulates a driver with
 * memory, so that the runtime's handling of errors and lifetimes is tested where there is no GPU.
 */
import type { Ffi, RawArgument, RawResult } from './bind.js'

export type MockFunction = (...args: readonly RawArgument[]) => RawResult

export interface MockCall {
  readonly name: string
  readonly args: readonly RawArgument[]
}

/** One library of the mock: functions by name, and the faults that are to strike. */
export class MockLibrary {
  readonly calls: MockCall[] = []
  /** Whether calls are kept for looking at; a million of them need not be. */
  keepsCalls = true
  readonly functions: { [name: string]: MockFunction }
  readonly #faults: { name: string; at: number; status: RawResult; seen: number }[] = []
  #gone: { at: number; status: RawResult; unless: RegExp } | undefined
  #seen = 0

  constructor(functions: { [name: string]: MockFunction }) {
    this.functions = functions
  }

  /** Lets the `at`-th call (from now on, counted from 1) of a function give a status instead of doing its work. */
  fail(name: string, status: RawResult, at = 1): this {
    this.#faults.push({ name, at, status, seen: 0 })
    return this
  }

  /** Lets every call from the `at`-th on give a status, whichever function it is, as a library that goes away would. */
  failAll(status: RawResult, at = 1, unless = /^$/): this {
    this.#gone = { at, status, unless }
    this.#seen = 0
    return this
  }

  count(name: string): number {
    return this.calls.filter((call) => call.name === name).length
  }

  call(name: string, args: readonly RawArgument[]): RawResult {
    if (this.keepsCalls) this.calls.push({ name, args })
    let result: RawResult
    for (const fault of this.#faults) if (fault.name === name && ++fault.seen === fault.at) result = fault.status
    const gone = this.#gone
    if (gone !== undefined && !gone.unless.test(name) && ++this.#seen >= gone.at) result = gone.status
    return result ?? this.functions[name]?.(...args)
  }
}

/** Memory of the host under made-up addresses, so that blocks of pointers can be followed. */
export class MockMemory {
  readonly #blocks: { readonly base: bigint; readonly buffer: ArrayBufferLike }[] = []
  readonly #bases = new Map<ArrayBufferLike, bigint>()
  #next = 0x7000_0000_0000n

  addressOf(view: ArrayBufferView): bigint {
    let base = this.#bases.get(view.buffer)
    if (base === undefined) {
      base = this.#next
      this.#next += BigInt(view.buffer.byteLength + 4096) & ~15n
      this.#bases.set(view.buffer, base)
      this.#blocks.push({ base, buffer: view.buffer })
    }
    return base + BigInt(view.byteOffset)
  }

  /** The bytes at an address. */
  at(address: bigint, bytes: number): DataView {
    const block = this.#blocks.find(({ base, buffer }) => address >= base && address + BigInt(bytes) <= base + BigInt(buffer.byteLength))
    if (block === undefined) throw new Error(`mock: no memory at 0x${address.toString(16)}`)
    return new DataView(block.buffer, Number(address - block.base), bytes)
  }

  string(text: string): bigint {
    return this.addressOf(new Uint8Array(new TextEncoder().encode(`${text}\0`)))
  }

  readString(address: bigint): string {
    let text = ''
    for (let at = address; ; at++) {
      const byte = this.at(at, 1).getUint8(0)
      if (byte === 0) return text
      text += String.fromCharCode(byte)
    }
  }
}

/** An FFI package that knows the given libraries by their file names. */
export function mockFfi(libraries: { readonly [file: string]: MockLibrary }, memory: MockMemory): Ffi {
  return {
    id: 'mock',
    open(file) {
      const library = libraries[file]
      if (library === undefined) throw new Error(`${file}: cannot open shared object file: No such file or directory`)
      return {
        find(name) {
          if (library.functions[name] === undefined) return undefined
          return {
            call: (args) => library.call(name, args),
            callConcurrently: async (args) => library.call(name, args),
          }
        },
        close: () => {},
      }
    },
    addressOf: (view) => memory.addressOf(view),
    readString: (address) => memory.readString(address),
  }
}
