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
  base({ format: 'pt', 'naïve "key"\n': '\u{1f600}\u0000' }, ['a', 'F32', [2, 2]], ['b', 'F16', [3]], ['c', 'BF16', [1, 2, 1]], ['d', 'I32', []], ['e', 'U32', [2]], ['f', 'BOOL', [5]], ['g', 'I64', [1]], ['h', 'U8', [3]]),
  base(undefined, ['odd', 'U8', [1]], ['unaligned', 'F32', [3]], ['none', 'F32', [0, 7]], ['also none', 'I64', [0]], ['end', 'I64', [2]]),
  base({ a: 'b' }, ['__proto__', 'F32', [1]], ['', 'BOOL', [1]], ['constructor', 'U8', [2]]),
  base(undefined, ...Array.from({ length: 12 }, (_, i) => [`model.layers.${i}.weight`, 'BF16', [8, 16]] as const)),
]
const json = (e: Entry): string => `{"dtype":${JSON.stringify(e.dtype)},"shape":[${e.shape.map(show).join(',')}],"data_offsets":[${e.offsets.map(show).join(',')}]}`
const show = (x: unknown): string => (typeof x === 'number' && !Number.isNaN(x) && Object.is(x, -0) ? '-0' : typeof x === 'bigint' ? `${x}` : typeof x === 'number' ? String(x) : typeof x === 'string' ? x : JSON.stringify(x))
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
const whole = (b: Base): Buffer => assemble(`{${fields(b).join(',')}}`, b.data)

const numbers: readonly unknown[] = [
  0, 1, 2, 4, 7, 8, 24, -1, -0, 1.5, NaN, Infinity, '1e2', '1.0', '01', '+1', '0x10', 'null', 'true', '"4"', '[]', '[4]', '{}', 2 ** 31, 2 ** 32, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n,
  2n ** 63n, 2n ** 64n, 2n ** 64n - 1n, 10n ** 30n, 10n ** 400n,
]
const dtypes = ['F32', 'F16', 'BF16', 'I32', 'U32', 'BOOL', 'I64', 'U8', 'F64', 'I8', 'U64', 'F8_E4M3', 'F4', 'f32', '', 'F32 ', 'Ｆ32', '\u0000', 'constructor', '__proto__', '\u001b[2J\u202e']
const pieces = ['{', '}', '[', ']', ',', ':', '"', '"a"', '"dtype"', '"shape"', '"data_offsets"', '"F32"', '"__metadata__"', '0', '-1', '1.5', '1e9', ' ', '\n', '\t', '\v', '\ufeff', '\u0000', '\\', '\\u0061', '\\ud800', '//', 'null', 'NaN', '\u00a0', '\u009b31m']
const tokens = (text: string): string[] => text.match(/"(?:[^"\\]|\\.)*"|-?\d+|\s+|[^]/g) ?? []

/** Ways of making a file wrong, and some that leave it right. */
const ways: readonly ((r: Random, b: Base) => Buffer)[] = [
  (r, b) => { const f = whole(b); for (let n = 1 + r.below(4); n > 0; n--) { const i = r.below(r.below(2) === 0 ? f.length : Math.min(f.length, 9)); f[i] = f[i]! ^ (1 << r.below(8)) } return f },
  (r, b) => { const f = whole(b); return f.subarray(0, r.below(f.length + 1)) },
  (r, b) => Buffer.concat([whole(b), Buffer.alloc(1 + r.below(40), r.below(3))]),
  (r, b) => { const f = whole(b), l = f.readBigUInt64LE(); f.writeBigUInt64LE(r.of([0n, 1n, 2n, l - 1n, l + 1n, l + 8n, BigInt(f.length), BigInt(f.length) - 8n, 100_000_000n, 100_000_001n, 2n ** 31n, 2n ** 32n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]) & (2n ** 64n - 1n)); return f },
  // Lengths, offsets and dtypes of one entry.
  (r, b) => {
    if (b.entries.length === 0) return assemble(`{"a":${json({ name: 'a', dtype: r.of(dtypes), shape: [r.of(numbers)], offsets: [r.of(numbers), r.of(numbers)] })}}`, b.data)
    const i = r.below(b.entries.length), e = b.entries[i]!, edited = [...b.entries]
    edited[i] = r.of<() => Entry>([
      () => ({ ...e, dtype: r.of(dtypes) }), () => ({ ...e, offsets: [r.of(numbers), e.offsets[1]] }), () => ({ ...e, offsets: [e.offsets[0], r.of(numbers)] }), () => ({ ...e, offsets: [...e.offsets].reverse() }),
      () => ({ ...e, offsets: r.of(b.entries).offsets }), () => ({ ...e, offsets: e.offsets.map(n => Number(n) + r.of([-4, -1, 1, 4])) }), () => ({ ...e, offsets: [...e.offsets, r.of(numbers)].slice(r.below(3)) }),
      () => ({ ...e, shape: [...e.shape, r.of(numbers)] }), () => ({ ...e, shape: e.shape.map(() => r.of(numbers)) }), () => ({ ...e, shape: [...e.shape, 1, 1] }), () => ({ ...e, shape: [...e.shape].reverse() }), () => ({ ...e, shape: [2 ** 32, r.of([2 ** 32, 2 ** 31, 2 ** 30])] }),
      () => ({ ...e, shape: Array.from({ length: r.of([31, 32, 33, 1000]) }, () => r.of([0, 1, 2 ** 31, 2n ** 52n])) }), () => ({ ...e, name: r.of(b.entries).name }), () => ({ ...e, name: r.of(['__metadata__', '\u009b31m\u202e\u2028', 'x'.repeat(2000)]) }),
    ])()
    return assemble(`{${fields(b, edited).join(',')}}`, b.data)
  },
  // Fields twice, left out, unknown, in another order, with blanks, with escapes.
  (r, b) => {
    const all = fields(b)
    const edited = r.of<() => string[]>([
      () => [...all, r.of([...all, '"x":{}'])], () => all.filter((_, i) => i !== r.below(all.length + 1)), () => [...all, `"more":{"dtype":"F32","shape":[0],"data_offsets":[${b.data.length},${b.data.length}]}`], () => [...all].reverse(),
      () => all.map(f => f.replaceAll(/([{}[\]:,])(?![^"]*"\s*[,:}\]][^]*\\)/g, r.of(['$1 ', ' $1', '$1\n\t', '$1\r']))), () => all.map(f => f.replace(/"([a-z])/, (_, c: string) => `"\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)),
      () => all.map(f => f.replace('"dtype"', r.of(['"DTYPE"', '"dtype "', '"shape"', '"stride"']))), () => all.map(f => f.replace(/"dtype":"[^"]*",/, r.of(['', '"dtype":"F32",'.repeat(2), '"dtype":32,', '"dtype":null,']))),
    ])()
    return assemble(`{${edited.join(r.of([',', ', ', ',,', '']))}}${r.of(['', ' ', '        ', '\n', '\u0000', '}', '\u00a0'])}`, b.data)
  },
  // Other tokens.
  (r, b) => { const t = tokens(`{${fields(b).join(',')}}`); for (let n = 1 + r.below(3); n > 0; n--) { const i = r.below(t.length); t[i] = r.of([r.of(pieces), t[i]! + r.of(pieces), '']) } return assemble(t.join(''), b.data) },
  // Depth.
  (r, b) => { const deep = r.of(['[', '{"a":', '[[', '{"__metadata__":']).repeat(r.of([10, 1000, 20_000])), all = fields(b); return assemble(`{${r.of([`"a":${deep}`, `"__metadata__":${deep}`, deep, `${all.join(',')},"z":${deep}`])}`, b.data) },
  // What is no UTF-8, and what stands before the header.
  (r, b) => { const t = Buffer.from(`{${fields(b).join(',')}}`), i = r.below(t.length + 1); return assemble(Buffer.concat([t.subarray(0, i), r.of([[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0xef, 0xbb, 0xbf], [0], [0x1f]]).reduce((x, y) => Buffer.concat([x, Buffer.of(y)]), Buffer.alloc(0)), t.subarray(i)]), b.data) },
  (r, b) => assemble(r.of(['\ufeff', ' ', '\n', '[', '']) + `{${fields(b).join(',')}}`, b.data),
  // The header of one with the data of another, and nothing but noise.
  (r, b) => assemble(`{${fields(b).join(',')}}`, r.of(bases).data),
  (r, b) => { const f = whole(b), from = r.below(f.length), to = from + r.below(f.length - from); return Buffer.concat([f.subarray(0, from), r.of([f.subarray(from, to), Buffer.alloc(0)]), f.subarray(from)]) },
  r => { const noise = Buffer.alloc(r.below(64)); for (let i = 0; i < noise.length; i++) noise[i] = r.below(256); return noise },
  (_, b) => whole(b),
]
const file = (seed: number): Buffer => {
  const r = new Random(seed), way = r.of(ways)
  return way(r, r.of(bases))
}

const dtypeOf: { readonly [name: string]: string } = { f32: 'F32', f16: 'F16', bf16: 'BF16', i32: 'I32', u32: 'U32', bool: 'BOOL', i64: 'I64', u8: 'U8' }
function expectSame(got: TensorFile, wanted: Read): void {
  if (got.tensors.size !== wanted.tensors.size || got.metadata.size !== wanted.metadata.size) throw new Error('another number of tensors or of metadata')
  for (const [name, { dtype, shape, bytes }] of wanted.tensors) {
    const t = got.tensors.get(name)
    if (t === undefined || dtypeOf[t.dtype] !== dtype || t.shape.join() !== shape.join()) throw new Error(`${JSON.stringify(name)} is ${t?.dtype} [${t?.shape.join()}], not ${dtype} [${shape.join()}]`)
    if (!Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength).equals(bytes)) throw new Error(`${JSON.stringify(name)} has other bytes`)
  }
  for (const [key, value] of wanted.metadata) if (got.metadata.get(key) !== value) throw new Error(`metadata ${JSON.stringify(key)} is another`)
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
    if (code !== 'safetensors' || (fix ?? '') === '' || !/header|tensor|bytes|metadata/.test(message) || message.length > 2000 || strange.test(message)) throw new Error(`no good message: ${JSON.stringify(message)}`, { cause: error })
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
      const before = process.memoryUsage().arrayBuffers, start = performance.now()
      try {
        return parseSafetensors(bytes, 'a file')
      } finally {
        took = performance.now() - start
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

/** 20 MB that promise much more. */
test.each<[string, () => Buffer, RegExp]>([
  ['tensors without bytes', () => assemble(`{${Array.from({ length: 400_000 }, (_, i) => `"${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`).join(',')}}`, new Uint8Array(0)), /the header has more than 131072 keys/],
  ['metadata', () => assemble(`{"__metadata__":{${Array.from({ length: 1_500_000 }, (_, i) => `"${i}":""`).join(',')}}}`, new Uint8Array(0)), /__metadata__ has more than 131072 keys/],
  ['a shape', () => assemble(`{"a":{"shape":[${'1,'.repeat(10_000_000)}1]}}`, new Uint8Array(0)), /more than 32 numbers/],
  ['a number', () => assemble(`{"a":{"shape":[${'1'.repeat(20_000_000)}]}}`, new Uint8Array(0)), /overflows/],
  ['depth', () => assemble(`{"a":${'['.repeat(20_000_000)}`, new Uint8Array(0)), /has '\[' where tensor "a" should be/],
  ['a name', () => assemble(`{"${'\\u0061'.repeat(3_300_000)}":1}`, new Uint8Array(0)), /where tensor "a{57}\.\.\." should be/],
  ['blanks', () => assemble(`{${' '.repeat(20_000_000)}`, new Uint8Array(0)), /the header ends where/],
])('%s, 20 MB of it: refused in time, within its size', (_, make, reason) => {
  const bytes = make(), before = process.memoryUsage(), start = performance.now()
  expect(bytes.length).toBeGreaterThan(10_000_000)
  expect(() => parseSafetensors(bytes, 'a file')).toThrow(reason)
  expect(performance.now() - start).toBeLessThan(5000)   // a second when nothing else runs
  const after = process.memoryUsage()
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(2 * bytes.length)
  expect(after.heapUsed - before.heapUsed).toBeLessThan(150 << 20)
})

test('what this package writes is valid for the second parser', () => {
  const tensors = { a: { dtype: 'f32', shape: [2], data: Float32Array.of(1, NaN) }, b: { dtype: 'bool', shape: [1, 3], data: Uint8Array.of(1, 0, 1) } } as const
  const bytes = encodeSafetensors(tensors, { made: 'here' })
  expect(judge(bytes, () => parseSafetensors(bytes))).toBe('read')
})
