/** Safetensors: what is written is read back; what is not valid is refused with the reason; nothing is left behind. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync, lstatSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { WeftError } from '../../src/dsl/errors.js'
import { encodeSafetensors, parseSafetensors, readSafetensors, writeSafetensors, type TensorFile, type WritableTensor } from '../../src/runtime/safetensors.js'

const folder = mkdtempSync(join(tmpdir(), 'weft-safetensors-'))
afterAll(() => { rmSync(folder, { recursive: true, force: true }) })

const tensors: Record<string, WritableTensor> = {
  'flag': { dtype: 'bool', shape: [3], data: Uint8Array.of(1, 0, 1) },
  'half': { dtype: 'f16', shape: [1, 2], data: Uint16Array.of(0x3c00, 0x7e00) },
  'brain': { dtype: 'bf16', shape: [2], data: Uint16Array.of(0x3f80, 0xff80) },
  'x': { dtype: 'f32', shape: [2, 2], data: Float32Array.of(1, -0, NaN, Infinity) },
  'at': { dtype: 'i32', shape: [2], data: Int32Array.of(-1, 2 ** 31 - 1) },
  'count': { dtype: 'u32', shape: [], data: Uint32Array.of(2 ** 32 - 1) },
  'none': { dtype: 'f32', shape: [0, 7], data: new Float32Array(0) },
  '__proto__é "quoted"\n': { dtype: 'f32', shape: [1], data: Float32Array.of(7) },
}
const metadata = { text: 'naïve\u0000\u{1f600}"', empty: '' }

const refusal = (action: () => unknown): string => {
  try { action() } catch (e) {
    expect(e).toBeInstanceOf(WeftError)
    expect((e as WeftError).fix).toBeTruthy()
    return (e as WeftError).reason
  }
  throw new Error('nothing was refused')
}
/** A file of this header and this many bytes of data; `claims` overrides the header's length. */
function file(header: string | Uint8Array, dataBytes = 0, claims?: bigint): Uint8Array {
  const json = typeof header === 'string' ? Buffer.from(header) : header
  const bytes = Buffer.alloc(8 + json.length + dataBytes)
  bytes.writeBigUInt64LE(claims ?? BigInt(json.length))
  bytes.set(json, 8)
  return bytes
}
const entry = (shape: readonly number[], from: number, to: number, dtype = 'F32'): string => JSON.stringify({ dtype, shape, data_offsets: [from, to] })
const plain = (f: TensorFile): unknown => [...f.tensors].map(([n, t]) => [n, t.dtype, [...t.shape], [...t.data]]).sort()

describe('written and read back', () => {
  test('all dtypes, odd names, metadata', () => {
    const path = join(folder, 'all.safetensors')
    writeSafetensors(path, tensors, metadata)
    const read = readSafetensors(path)
    expect(Object.fromEntries(read.metadata)).toEqual(metadata)
    expect([...read.tensors.keys()].sort()).toEqual(Object.keys(tensors).sort())
    for (const [name, t] of Object.entries(tensors)) expect(read.tensors.get(name)).toEqual(t)
    expect(readFileSync(path)).toEqual(Buffer.from(encodeSafetensors(tensors, metadata)))
    expect(readdirSync(folder)).toEqual(['all.safetensors'])
  })
  test('bytes as other writers lay them out: unaligned, spaces, keys in another order, escapes', () => {
    const header = ' {"b": {"data_offsets":[0, 1], "shape":[1],"dtype":"U8" } , "\\u0061\\ud83d\\ude00":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},"i":{"dtype":"I64","shape":[1],"data_offsets":[5,13]}}  '.slice(1)
    const bytes = file(header, 13)
    bytes.set(Buffer.from(Float32Array.of(2.5).buffer), bytes.length - 12)
    bytes.set(Buffer.from(BigInt64Array.of(-3n).buffer), bytes.length - 8)
    // At every alignment, and as a Buffer, whose slice() does not copy.
    for (let offset = 0; offset < 8; offset++) {
      const moved = Buffer.alloc(bytes.length + offset)
      moved.set(bytes, offset)
      const { tensors: t } = parseSafetensors(moved.subarray(offset))
      expect(t.get('b')!.data).toEqual(Uint8Array.of(0))
      expect(t.get('a\u{1f600}')!.data).toEqual(Float32Array.of(2.5))
      expect(t.get('i')!.data).toEqual(BigInt64Array.of(-3n))
    }
  })
  test('random tensors', () => {
    const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 })
    fc.assert(fc.property(fc.dictionary(fc.string({ unit: 'binary' }), shapes), fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })), (all, meta) => {
      delete all['__metadata__']
      const given = Object.fromEntries(Object.entries(all).map(([n, shape], i) => {
        const count = shape.reduce((a, b) => a * b, 1)
        return [n, i % 2 === 0 ? { dtype: 'i32' as const, shape, data: new Int32Array(count).fill(i) } : { dtype: 'bf16' as const, shape, data: new Uint16Array(count).fill(i) }]
      }))
      const read = parseSafetensors(encodeSafetensors(given, meta))
      expect(plain(read)).toEqual(plain({ tensors: new Map(Object.entries(given)) as TensorFile['tensors'], metadata: new Map() }))
      expect([...read.metadata]).toEqual(Object.entries(meta))
    }), { numRuns: 100 })
  })
  test('no tensors at all', () => { expect(parseSafetensors(encodeSafetensors({})).tensors.size).toBe(0) })
})

describe('refused on reading', () => {
  test.each<[string, Uint8Array, string]>([
    ['nothing', new Uint8Array(0), 'truncated: 0 bytes, but the length of the header alone takes 8'],
    ['half a length', new Uint8Array(7), 'truncated: 7 bytes, but the length of the header alone takes 8'],
    ['no header', file(''), 'a header of 0 bytes holds no JSON object'],
    ['a header beyond the file', file('{}', 0, 3n), 'truncated: the header claims 3 bytes, but only 2 follow'],
    ['a header over 100 MB', file('{}', 0, 100_000_001n), 'the header claims 100000001 bytes, more than the 100000000 allowed'],
    ['a header of 2^64 - 1', file('{}', 0, 2n ** 64n - 1n), 'the header claims 18446744073709551615 bytes, more than the 100000000 allowed'],
    ['a header that is no object', file('[]'), "the header does not begin with '{' (byte 0 of the header)"],
    ['a header after a space', file(' {}'), "the header does not begin with '{' (byte 0 of the header)"],
    ['a header after a BOM', file('\ufeff{}'), "the header does not begin with '{' (byte 0 of the header)"],
    ['a header that goes on', file('{}x'), "the header goes on with 'x' after its end (byte 2 of the header)"],
    ['a header that stops', file('{"a":'), 'the header ends where tensor "a" should be (byte 5 of the header)'],
    ['a comma too many', file('{"a":' + entry([0], 0, 0) + ',}'), "the header has '}' where a key of the header should be (byte 54 of the header)"],
    ['the same tensor twice', file(`{"a":${entry([1], 0, 4)},"\\u0061":${entry([1], 0, 4)}}`, 4), 'the header has the key "a" twice (byte 62 of the header)'],
    ['a dtype twice', file('{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}'), 'tensor "a" has the key "dtype" twice (byte 27 of the header)'],
    ['metadata twice', file('{"__metadata__":{},"__metadata__":{}}'), 'the header has the key "__metadata__" twice (byte 33 of the header)'],
    ['metadata keys twice', file('{"__metadata__":{"k":"1","k":"2"}}'), '__metadata__ has the key "k" twice (byte 28 of the header)'],
    ['metadata that is a number', file('{"__metadata__":{"k":1}}'), '__metadata__ "k" is not a string (byte 21 of the header)'],
    ['an unknown key', file('{"a":{"dtype":"F32","stride":[0]}}'), 'tensor "a" has the unknown key "stride" (byte 29 of the header)'],
    ['no dtype', file('{"a":{"shape":[0],"data_offsets":[0,0]}}'), 'tensor "a" has no dtype (byte 39 of the header)'],
    ['no shape', file('{"a":{"dtype":"F32","data_offsets":[0,0]}}'), 'tensor "a" has no shape (byte 41 of the header)'],
    ['one offset', file('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0]}}'), 'tensor "a" has no data_offsets of two numbers (byte 51 of the header)'],
    ['three offsets', file('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0,0]}}'), 'data_offsets of tensor "a" has more than 2 numbers (byte 52 of the header)'],
    ['a number as dtype', file('{"a":{"dtype":32,"shape":[0],"data_offsets":[0,0]}}'), `the header has '3' where the dtype of tensor "a" should be (byte 14 of the header)`],
    ['a negative length', file('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}'), `the header has '-' where the shape of tensor "a" should be, a whole number that is not negative (byte 29 of the header)`],
    ['a fraction', file('{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,0]}}'), 'the shape of tensor "a" is not a plain whole number (byte 30 of the header)'],
    ['an exponent', file('{"a":{"dtype":"F32","shape":[1e3],"data_offsets":[0,0]}}'), 'the shape of tensor "a" is not a plain whole number (byte 30 of the header)'],
    ['a leading zero', file('{"a":{"dtype":"F32","shape":[01],"data_offsets":[0,0]}}'), 'the shape of tensor "a" has a leading zero (byte 30 of the header)'],
    ['a length beyond 2^53', file('{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,0]}}'), 'the shape of tensor "a" overflows (byte 44 of the header)'],
    ['a product beyond 2^64', file(`{"a":${entry([2 ** 33, 2 ** 33], 0, 4)}}`, 4), 'tensor "a", F32 of shape [8589934592, 8589934592], needs 295147905179352825856 bytes, but has 4'],
    ['an endless shape', file(`{"a":${entry(Array<number>(40).fill(1), 0, 4)}}`, 4), 'the shape of tensor "a" has more than 32 numbers (byte 93 of the header)'],
    ['not UTF-8', file(Buffer.from([...Buffer.from('{"'), 0xff, ...Buffer.from('":1}')])), 'a key of the header is not UTF-8 (byte 4 of the header)'],
    ['half a surrogate pair', file('{"\\ud800":1}'), 'the header has half of a surrogate pair (byte 7 of the header)'],
    ['a wrong escape', file('{"\\x":1}'), 'the header has an unknown escape (byte 3 of the header)'],
    ['a control character', file('{"\n":1}'), 'a key of the header has a control character (byte 2 of the header)'],
    ['a name that does not end', file('{"abc\\'), 'a key of the header does not end (byte 7 of the header)'],
    ['elements smaller than a byte', file(`{"a":${entry([2], 0, 1, 'F4')}}`, 1), 'tensor "a" has the dtype "F4", which has elements smaller than a byte'],
    ['an unknown dtype', file(`{"a":${entry([1], 0, 8, 'F64')}}`, 8), 'tensor "a" has the dtype "F64", which is not known here'],
    ['a dtype in small letters', file(`{"a":${entry([1], 0, 4, 'f32')}}`, 4), 'tensor "a" has the dtype "f32", which is not known here'],
    ['a shape that is too small', file(`{"a":${entry([1], 0, 8)}}`, 8), 'tensor "a", F32 of shape [1], needs 4 bytes, but has 8'],
    ['offsets in the wrong order', file(`{"a":${entry([1], 4, 0)}}`, 4), 'tensor "a" ends at byte 0, before it begins at 4'],
    ['offsets beyond the file', file(`{"a":${entry([2], 0, 8)}}`, 4), 'tensor "a" ends at byte 8 of the data, but there are only 4: truncated, or a wrong offset'],
    ['an overlap', file(`{"a":${entry([2], 0, 8)},"b":${entry([2], 4, 12)}}`, 12), 'tensor "b" and "a" overlap: the one begins at byte 4, the other ends at 8'],
    ['the same bytes twice', file(`{"a":${entry([1], 0, 4)},"b":${entry([1], 0, 4)}}`, 4), 'tensor "b" and "a" overlap: the one begins at byte 0, the other ends at 4'],
    ['a gap', file(`{"a":${entry([1], 0, 4)},"b":${entry([1], 8, 12)}}`, 12), 'bytes 4 to 8, before tensor "b", belong to no tensor'],
    ['a gap at the start', file(`{"a":${entry([1], 4, 8)}}`, 8), 'bytes 0 to 4, before tensor "a", belong to no tensor'],
    ['bytes after the end', file(`{"a":${entry([1], 0, 4)}}`, 5), 'bytes 4 to 5 of the data, its end, belong to no tensor'],
    ['bytes of nobody', file('{}', 1), 'bytes 0 to 1 of the data, its end, belong to no tensor'],
  ])('%s', (_, bytes, reason) => {
    expect(refusal(() => parseSafetensors(bytes, 'f'))).toBe(`f: ${reason}`)
    const path = join(folder, 'bad.safetensors')
    writeFileSync(path, bytes)
    expect(refusal(() => readSafetensors(path))).toBe(`${path}: ${reason}`)
    rmSync(path)
  })
  test('a bool that is neither', () => {
    const bytes = file(`{"a":${entry([2], 0, 2, 'BOOL')}}`, 2)
    bytes[bytes.length - 1] = 2
    expect(refusal(() => parseSafetensors(bytes, 'f'))).toBe('f: tensor "a", BOOL, has the value 2 at element 1')
  })
  test('what is not a file', () => {
    expect(refusal(() => readSafetensors(join(folder, 'absent')))).toBe(`cannot read ${join(folder, 'absent')}: no such file or folder`)
    expect(refusal(() => readSafetensors(folder))).toBe(`${folder} is not a regular file`)
  })
  test('claims cost nothing: 64 bytes that promise terabytes', () => {
    const bytes = file(`{"a":${entry([2 ** 40], 0, 2 ** 42)}}`, 4)
    const before = process.memoryUsage().arrayBuffers
    refusal(() => parseSafetensors(bytes))
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20)
  })
  test('mutations and cuts of a valid file are read or refused, never worse', () => {
    const valid = encodeSafetensors(tensors, metadata)
    const headerEnd = 8 + Number(Buffer.from(valid).readBigUInt64LE())
    const change = fc.record({ at: fc.nat({ max: headerEnd + 8 }), to: fc.oneof(fc.nat({ max: 255 }), fc.constantFrom(...Buffer.from('{}[],:"\\0129-. '))) })
    let refused = 0
    const runs = 3000
    fc.assert(fc.property(fc.array(change, { maxLength: 4 }), fc.option(fc.nat({ max: valid.length })), fc.array(fc.nat({ max: 255 }), { maxLength: 3 }), (changes, cut, more) => {
      const bytes = Buffer.from([...valid.subarray(0, cut ?? valid.length), ...more])
      for (const { at, to } of changes) if (at < bytes.length) bytes[at] = to
      try {
        const f = parseSafetensors(bytes)
        for (const t of f.tensors.values()) expect(t.data.length).toBe(t.shape.reduce((a, b) => a * b, 1))
        // Whatever was accepted is what JSON says, too.
        const json = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString()) as Record<string, unknown>
        expect(Object.keys(json).filter(n => n !== '__metadata__').sort()).toEqual([...f.tensors.keys()].sort())
      } catch (e) {
        if (!(e instanceof WeftError)) throw e
        expect(e.code).toBe('safetensors')
        refused += 1
      }
    }), { numRuns: runs })
    expect(refused).toBeGreaterThan(runs / 2)
  })
  test('the header reader accepts nothing that JSON.parse refuses', () => {
    const pieces = fc.constantFrom('{', '}', '[', ']', ',', ':', '"a"', '"b"', '"dtype"', '"shape"', '"data_offsets"', '"F32"', '0', '00', '1', '-1', '1.0', ' ', '\n', '"\\n"', '"__metadata__"')
    const valid = `{"a":${entry([0], 0, 0)},"__metadata__":{"b":"c"}}`.match(/"[^"]*"|\d+|./g)!
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat({ max: valid.length - 1 }), pieces, fc.boolean()), { maxLength: 3 }), changes => {
      const parts = [...valid]
      for (const [at, piece, insert] of changes) parts[at] = insert ? parts[at]! + piece : piece
      const text = parts.join('')
      try { parseSafetensors(file(text)) } catch { return }
      expect(() => { JSON.parse(text) }).not.toThrow()
    }), { numRuns: 2000 })
  })
})

describe('refused on writing, with nothing left', () => {
  const one: WritableTensor = { dtype: 'f32', shape: [1], data: Float32Array.of(1) }
  test.each<[string, () => void, string]>([
    ['a shape of other length', () => { writeSafetensors(join(folder, 'w'), { a: { ...one, shape: [2] } }) }, 'tensor "a", f32 of shape [2], needs 2 elements of 4 bytes, but has 1 of 4'],
    ['another storage', () => { writeSafetensors(join(folder, 'w'), { a: { ...one, dtype: 'bf16' } }) }, 'tensor "a", bf16 of shape [1], needs 1 elements of 2 bytes, but has 1 of 4'],
    ['a negative length', () => { writeSafetensors(join(folder, 'w'), { a: { ...one, shape: [-1] } }) }, 'tensor "a" has an axis of length -1'],
    ['the reserved name', () => { writeSafetensors(join(folder, 'w'), { __metadata__: one }) }, 'a tensor cannot be named "__metadata__"'],
    ['metadata that is no text', () => { writeSafetensors(join(folder, 'w'), {}, { k: 1 as unknown as string }) }, 'metadata "k" is not a string'],
    ['a name that UTF-8 cannot hold', () => { writeSafetensors(join(folder, 'w'), { '\ud800': one }) }, '"\\ud800" has half of a surrogate pair, which UTF-8 cannot hold'],
    ['a folder that is not there', () => { writeSafetensors(join(folder, 'no', 'w'), { a: one }) }, 'cannot write FOLDER/no/w: no such file or folder'],
  ])('%s', (_, action, reason) => {
    const before = readdirSync(folder)
    expect(refusal(action).replace(`${join(folder, 'w')}: `, '').replace(folder, 'FOLDER')).toBe(reason)
    expect(readdirSync(folder)).toEqual(before)
  })
  test('a pipe, which renaming would replace', () => {
    const path = join(folder, 'pipe')
    execFileSync('mkfifo', [path])
    expect(refusal(() => { writeSafetensors(path, { a: one }) })).toBe(`cannot write ${path}: it is not a regular file`)
    expect(refusal(() => readSafetensors(path))).toBe(`${path} is not a regular file`)
    expect(lstatSync(path).isFIFO()).toBe(true)
  })
  test('a folder of that name', () => {
    mkdirSync(join(folder, 'taken'))
    expect(refusal(() => { writeSafetensors(join(folder, 'taken'), { a: one }) })).toContain('it is a folder')
    expect(readdirSync(join(folder, 'taken'))).toEqual([])
  })
  test('an old file is replaced whole, through a link too, and kept when writing fails', () => {
    const path = join(folder, 'old.safetensors'), link = join(folder, 'link.safetensors')
    writeSafetensors(path, { a: one })
    const old = readFileSync(path)
    refusal(() => { writeSafetensors(path, { a: { ...one, shape: [3] } }) })
    expect(readFileSync(path)).toEqual(old)
    symlinkSync(path, link)
    writeSafetensors(link, { b: one })
    expect(lstatSync(link).isSymbolicLink()).toBe(true)
    expect([...readSafetensors(path).tensors.keys()]).toEqual(['b'])
    expect(readdirSync(folder).filter(n => n.endsWith('.tmp'))).toEqual([])
  })
})
