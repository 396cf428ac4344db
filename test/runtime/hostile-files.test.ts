/**
 * Safetensors files of every kind of wrongness: each is refused with an error that says what and where, or is read as a
 * second parser, written for this from the format's description, reads it. None may crash, hang, or take more than its size.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import { encodeSafetensors, parseSafetensors, readSafetensors, type TensorFile } from '../../src/runtime/safetensors.js'
import { strictly, type Read } from './strict-safetensors.js'

const folder = mkdtempSync(join(tmpdir(), 'weft-hostile-'))
afterAll(() => { rmSync(folder, { recursive: true, force: true }) })

/** Numbers from a seed (mulberry32), so that one number names a whole file. */
class Random {
  #state: number
  constructor(seed: number) { this.#state = seed | 0 }
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n)
  }
  of<T>(list: readonly T[]): T { return list[this.below(list.length)]! }
}

interface Entry { name: string; dtype: string; shape: readonly unknown[]; offsets: readonly unknown[] }
interface Base { readonly entries: readonly Entry[]; readonly metadata: Readonly<Record<string, string>> | undefined; readonly data: Uint8Array }
const size: { readonly [dtype: string]: number } = { F32: 4, F16: 2, BF16: 2, I32: 4, U32: 4, BOOL: 1, I64: 8, U8: 1 }
function base(metadata: Base['metadata'], ...tensors: readonly (readonly [string, string, readonly number[]])[]): Base {
  let end = 0
  const entries = tensors.map(([name, dtype, shape]) => {
    const begin = end
    end += shape.reduce((a, b) => a * b, 1) * size[dtype]!
    return { name, dtype, shape, offsets: [begin, end] }
  })
  return { entries, metadata, data: Uint8Array.from({ length: end }, (_, i) => i & 1) }
}
const bases: readonly Base[] = [
  base(undefined),
  base({}, ['x', 'F32', [2, 3]]),
  base({ format: 'pt', 'naïve "key"\n': '\u{1f600}\u0000' },
    ['a', 'F32', [2, 2]], ['b', 'F16', [3]], ['c', 'BF16', [1, 2, 1]], ['d', 'I32', []], ['e', 'U32', [2]], ['f', 'BOOL', [5]], ['g', 'I64', [1]], ['h', 'U8', [3]]),
  base(undefined, ['odd', 'U8', [1]], ['unaligned', 'F32', [3]], ['none', 'F32', [0, 7]], ['also none', 'I64', [0]], ['end', 'I64', [2]]),
  base({ a: 'b' }, ['__proto__', 'F32', [1]], ['', 'BOOL', [1]], ['constructor', 'U8', [2]]),
  base(undefined, ...Array.from({ length: 12 }, (_, i) => [`model.layers.${i}.weight`, 'BF16', [8, 16]] as const)),
]
const json = (e: Entry): string => `{"dtype":${JSON.stringify(e.dtype)},"shape":[${e.shape.map(show).join(',')}],"data_offsets":[${e.offsets.map(show).join(',')}]}`
/** As it is written in a header: strings are written as they are. */
const show = (x: unknown): string => (Object.is(x, -0) ? '-0' : String(x))
function fields(b: Base, entries: readonly Entry[] = b.entries): string[] {
  return [...(b.metadata === undefined ? [] : [`"__metadata__":${JSON.stringify(b.metadata)}`]), ...entries.map(e => `${JSON.stringify(e.name)}:${json(e)}`)]
}
/** @param claims the length that the file gives its header; the true one where absent */
function assemble(header: string | Uint8Array, data: Uint8Array, claims?: bigint): Buffer {
  const text = typeof header === 'string' ? Buffer.from(header) : header, bytes = Buffer.alloc(8 + text.length + data.length)
  bytes.writeBigUInt64LE(claims ?? BigInt(text.length))
  bytes.set(text, 8)
  bytes.set(data, 8 + text.length)
  return bytes
}
const whole = (b: Base): Buffer => assemble(text(b), b.data)

const numbers: readonly unknown[] = [
  0, 1, 2, 4, 7, 8, 24, -1, -0, 1.5, NaN, Infinity, '1e2', '1.0', '01', '+1', '0x10', 'null', 'true', '"4"', '[]', '[4]', '{}', 2 ** 31, 2 ** 32,
  2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n, 2n ** 64n - 1n, 10n ** 30n, 10n ** 400n,
]
const dtypes = [
  'F32', 'F16', 'BF16', 'I32', 'U32', 'BOOL', 'I64', 'U8', 'F64', 'I8', 'U64', 'F8_E4M3', 'F4', 'f32', '', 'F32 ', 'Ｆ32', '\u0000', 'constructor', '__proto__', '\u001b[2J\u202e',
]
const pieces = [
  '{', '}', '[', ']', ',', ':', '"', '"a"', '"dtype"', '"shape"', '"data_offsets"', '"F32"', '"__metadata__"', '0', '-1',
  '1.5', '1e9', ' ', '\n', '\t', '\v', '\ufeff', '\u0000', '\\', '\\u0061', '\\ud800', '//', 'null', 'NaN', '\u00a0', '\u009b31m',
]
const tokens = (text: string): string[] => text.match(/"(?:[^"\\]|\\.)*"|-?\d+|\s+|[^]/g) ?? []

type Way = (r: Random, b: Base) => Buffer
const text = (b: Base, entries: readonly Entry[] = b.entries): string => `{${fields(b, entries).join(',')}}`
const flip = (bytes: Buffer, at: number, bit: number): void => { bytes[at] = bytes[at]! ^ (1 << bit) }
const hex4 = (c: string): string => c.charCodeAt(0).toString(16).padStart(4, '0')

/** One entry with another dtype, shape, name or place. */
const otherEntry: readonly ((r: Random, e: Entry, b: Base) => Entry)[] = [
  (r, e) => ({ ...e, dtype: r.of(dtypes) }),
  (r, e) => ({ ...e, offsets: [r.of(numbers), e.offsets[1]] }),
  (r, e) => ({ ...e, offsets: [e.offsets[0], r.of(numbers)] }),
  (_, e) => ({ ...e, offsets: [...e.offsets].reverse() }),
  (r, e, b) => ({ ...e, offsets: r.of(b.entries).offsets }),
  (r, e) => ({ ...e, offsets: e.offsets.map(n => Number(n) + r.of([-4, -1, 1, 4])) }),
  (r, e) => ({ ...e, offsets: [...e.offsets, r.of(numbers)].slice(r.below(3)) }),
  (r, e) => ({ ...e, shape: [...e.shape, r.of(numbers)] }),
  (r, e) => ({ ...e, shape: e.shape.map(() => r.of(numbers)) }),
  (_, e) => ({ ...e, shape: [...e.shape, 1, 1] }),
  (_, e) => ({ ...e, shape: [...e.shape].reverse() }),
  (r, e) => ({ ...e, shape: [2 ** 32, r.of([2 ** 32, 2 ** 31, 2 ** 30])] }),   // a multiple of 2^64 bytes, which wraps to none
  (r, e) => ({ ...e, shape: Array.from({ length: r.of([31, 32, 33, 1000]) }, () => r.of([0, 1, 2 ** 31, 2n ** 52n])) }),
  (r, e, b) => ({ ...e, name: r.of(b.entries).name }),
  (r, e) => ({ ...e, name: r.of(['__metadata__', '\u009b31m\u202e\u2028', 'x'.repeat(2000)]) }),
]
/** Fields twice, left out, unknown, in another order, with blanks, with escapes, misnamed. */
const otherFields: readonly ((r: Random, all: readonly string[], b: Base) => readonly string[])[] = [
  (r, all) => [...all, r.of([...all, '"x":{}'])],
  (r, all) => { const gone = r.below(all.length + 1); return all.filter((_, i) => i !== gone) },
  (_, all, b) => [...all, `"more":{"dtype":"F32","shape":[0],"data_offsets":[${b.data.length},${b.data.length}]}`],
  (_, all) => [...all].reverse(),
  (r, all) => { const blank = r.of([' ', '\n\t', '\r']); return all.map(f => tokens(f).map(t => (/^[{}[\]:,]$/.test(t) ? blank + t + blank : t)).join('')) },
  (_, all) => all.map(f => f.replace(/"([a-z])/, (_, c: string) => `"\\u${hex4(c)}`)),
  (r, all) => all.map(f => f.replace('"dtype"', r.of(['"DTYPE"', '"dtype "', '"shape"', '"stride"']))),
  (r, all) => all.map(f => f.replace(/"dtype":"[^"]*",/, r.of(['', '"dtype":"F32",'.repeat(2), '"dtype":32,', '"dtype":null,']))),
]
const noUtf8: readonly (readonly number[])[] = [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0xef, 0xbb, 0xbf], [0], [0x1f]]

/** Ways of making a file wrong, and some that leave it right. */
const ways: { readonly [name: string]: Way } = {
  bits(r, b) {
    const f = whole(b)
    for (let n = 1 + r.below(4); n > 0; n--) flip(f, r.below(r.below(2) === 0 ? f.length : Math.min(f.length, 9)), r.below(8))
    return f
  },
  cut(r, b) { const f = whole(b); return f.subarray(0, r.below(f.length + 1)) },
  longer: (r, b) => Buffer.concat([whole(b), Buffer.alloc(1 + r.below(40), r.below(3))]),
  'another length of the header'(r, b) {
    const f = whole(b), length = f.readBigUInt64LE(), all = BigInt(f.length)
    const claims = [0n, 1n, 2n, length - 1n, length + 1n, length + 8n, all, all - 8n, 100_000_000n, 100_000_001n, 2n ** 31n, 2n ** 32n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]
    f.writeBigUInt64LE(BigInt.asUintN(64, r.of(claims)))
    return f
  },
  'another entry'(r, b) {
    if (b.entries.length === 0) return assemble(text(b, [{ name: 'a', dtype: r.of(dtypes), shape: [r.of(numbers)], offsets: [r.of(numbers), r.of(numbers)] }]), b.data)
    const chosen = r.below(b.entries.length), change = r.of(otherEntry)
    return assemble(text(b, b.entries.map((e, i) => (i === chosen ? change(r, e, b) : e))), b.data)
  },
  'other fields': (r, b) =>
    assemble(`{${r.of(otherFields)(r, fields(b), b).join(r.of([',', ', ', ',,', '']))}}${r.of(['', ' ', '        ', '\n', '\u0000', '}', '\u00a0'])}`, b.data),
  'other tokens'(r, b) {
    const all = tokens(text(b))
    for (let n = 1 + r.below(3); n > 0; n--) { const i = r.below(all.length); all[i] = r.of([r.of(pieces), all[i]! + r.of(pieces), '']) }
    return assemble(all.join(''), b.data)
  },
  depth(r, b) {
    const deep = r.of(['[', '{"a":', '[[', '{"__metadata__":']).repeat(r.of([10, 1000, 20_000]))
    return assemble(`{${r.of([`"a":${deep}`, `"__metadata__":${deep}`, deep, `${fields(b).join(',')},"z":${deep}`])}`, b.data)
  },
  'no UTF-8'(r, b) {
    const header = Buffer.from(text(b)), at = r.below(header.length + 1)
    return assemble(Buffer.concat([header.subarray(0, at), Buffer.from(r.of(noUtf8)), header.subarray(at)]), b.data)
  },
  'something before the header': (r, b) => assemble(r.of(['\ufeff', ' ', '\n', '[', '']) + text(b), b.data),
  'the data of another': (r, b) => assemble(text(b), r.of(bases).data),
  'a part twice or gone'(r, b) {
    const f = whole(b), from = r.below(f.length), to = from + r.below(f.length - from)
    return Buffer.concat([f.subarray(0, from), ...(r.below(2) === 0 ? [f.subarray(from, to), f.subarray(from)] : [f.subarray(to)])])
  },
  noise: r => Buffer.from(Array.from({ length: r.below(64) }, () => r.below(256))),
  'nothing wrong': (_, b) => whole(b),
}
const file = (seed: number): Buffer => {
  const r = new Random(seed), way = ways[r.of(Object.keys(ways))]!
  return way(r, r.of(bases))
}

const dtypeOf: { readonly [name: string]: string } = { f32: 'F32', f16: 'F16', bf16: 'BF16', i32: 'I32', u32: 'U32', bool: 'BOOL', i64: 'I64', u8: 'U8' }
function expectSame(got: TensorFile, wanted: Read): void {
  if (got.tensors.size !== wanted.tensors.size || got.metadata.size !== wanted.metadata.size) throw new Error('another number of tensors or of metadata')
  for (const [name, { dtype, shape, bytes }] of wanted.tensors) {
    const t = got.tensors.get(name)
    if (t === undefined || dtypeOf[t.dtype] !== dtype || t.shape.join() !== shape.join()) {
      throw new Error(`${JSON.stringify(name)} is ${t?.dtype} [${t?.shape.join()}], not ${dtype} [${shape.join()}]`)
    }
    if (!Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength).equals(bytes)) throw new Error(`${JSON.stringify(name)} has other bytes`)
  }
  for (const [key, value] of wanted.metadata) if (got.metadata.get(key) !== value) throw new Error(`metadata ${JSON.stringify(key)} is another`)
}
/** Of this process's own work, so that a busy machine does not count. */
const milliseconds = (start: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(start)
  return (user + system) / 1000
}
const strange = /(?!\n)[\p{C}\p{Zl}\p{Zp}]/u
/** The reading of one file: what it gave, or the refusal, which must be one that helps. */
function judge(bytes: Uint8Array, reading: () => TensorFile): 'read' | 'refused' {
  const wanted = strictly(bytes)
  let got: TensorFile
  try {
    got = reading()
  } catch (error) {
    if (!(error instanceof WeftError)) throw error
    if (wanted !== undefined) throw new Error(`a valid file is refused: ${error.message}`, { cause: error })
    const { code, message, fix } = error
    const good = code === 'safetensors' && fix !== undefined && /header|tensor|bytes|metadata/.test(message) && message.length < 2000 && !strange.test(message)
    if (!good) throw new Error(`no good message: ${JSON.stringify(message)}`, { cause: error })
    return 'refused'
  }
  if (wanted === undefined) throw new Error('an invalid file is read')
  expectSame(got, wanted)
  return 'read'
}

test('100,000 files, wrong in every way', () => {
  const seen = { read: 0, refused: 0 }
  let slowest = 0, most = 0
  fc.assert(fc.property(fc.integer(), seed => {
    const bytes = file(seed)
    let took = 0, memory = 0
    seen[judge(bytes, () => {
      const before = process.memoryUsage().arrayBuffers, start = process.cpuUsage()
      try {
        return parseSafetensors(bytes, 'a file')
      } finally {
        took = milliseconds(start)
        memory = process.memoryUsage().arrayBuffers - before
      }
    })]++
    slowest = Math.max(slowest, took)
    most = Math.max(most, memory - 2 * bytes.length)
  }), { numRuns: 100_000, endOnFailure: true })
  expect(seen.refused).toBeGreaterThan(50_000)
  expect(seen.read).toBeGreaterThan(5000)
  expect(slowest).toBeLessThan(1000)
  expect(most).toBeLessThan(4096)
}, 300_000)

test('the same from a disk', () => {
  const path = join(folder, 'file.safetensors')
  fc.assert(fc.property(fc.integer(), seed => {
    const bytes = file(seed)
    writeFileSync(path, bytes)
    judge(bytes, () => readSafetensors(path))
  }), { numRuns: 500, endOnFailure: true })
}, 60_000)

test('every cut and every single bit of a small file', () => {
  const bytes = whole(bases[1]!), seen = { read: 0, refused: 0 }
  for (let length = 0; length < bytes.length; length++) expect(judge(bytes.subarray(0, length), () => parseSafetensors(bytes.subarray(0, length)))).toBe('refused')
  for (let bit = 0; bit < 8 * bytes.length; bit++) {
    const changed = Buffer.from(bytes)
    changed[bit >> 3] = changed[bit >> 3]! ^ (1 << (bit & 7))
    seen[judge(changed, () => parseSafetensors(changed))]++
  }
  expect(seen.read + seen.refused).toBe(8 * bytes.length)
  expect(seen.read).toBeGreaterThanOrEqual(8 * 24)   // the data, and letters of the name
})

const of20MB = (header: string): Buffer => assemble(header, new Uint8Array(0))
const many = (count: number, one: (i: number) => string): string => Array.from({ length: count }, (_, i) => one(i)).join(',')
test.each<[string, () => Buffer, RegExp]>([
  ['tensors without bytes', () => of20MB(`{${many(400_000, i => `"${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`)}}`), /the header has more than 131072 keys/],
  ['metadata', () => of20MB(`{"__metadata__":{${many(1_500_000, i => `"${i}":""`)}}}`), /__metadata__ has more than 131072 keys/],
  ['a shape', () => of20MB(`{"a":{"shape":[${'1,'.repeat(10_000_000)}1]}}`), /more than 32 numbers/],
  ['a number', () => of20MB(`{"a":{"shape":[${'1'.repeat(20_000_000)}]}}`), /overflows/],
  ['depth', () => of20MB(`{"a":${'['.repeat(20_000_000)}`), /has '\[' where tensor "a" should be/],
  ['a name', () => of20MB(`{"${'\\u0061'.repeat(3_300_000)}":1}`), /where tensor "a{57}\.\.\." should be/],
  ['blanks', () => of20MB(`{${' '.repeat(20_000_000)}`), /the header ends where/],
])('%s, 20 MB of it: refused in time, within its size', (_, make, reason) => {
  const bytes = make(), before = process.memoryUsage(), start = process.cpuUsage()
  expect(bytes.length).toBeGreaterThan(10_000_000)
  expect(() => parseSafetensors(bytes, 'a file')).toThrow(reason)
  expect(milliseconds(start)).toBeLessThan(3000)
  const after = process.memoryUsage()
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(2 * bytes.length)
  expect(after.heapUsed - before.heapUsed).toBeLessThan(150 << 20)
})

test('what this package writes is valid for the second parser', () => {
  const tensors = { a: { dtype: 'f32', shape: [2], data: Float32Array.of(1, NaN) }, b: { dtype: 'bool', shape: [1, 3], data: Uint8Array.of(1, 0, 1) } } as const
  const bytes = encodeSafetensors(tensors, { made: 'here' })
  expect(judge(bytes, () => parseSafetensors(bytes))).toBe('read')
})
