/**
 * Safetensors files, strictly. A file is 8 bytes (header length, little-endian), a JSON header, then the tensors' bytes,
 * which must follow one another without gap or overlap up to the end of the file.
 *
 * Reading allocates the header's and the data's bytes, and once more only those tensors that lie unaligned; every size is
 * checked against the file's before anything is allocated for it. Writing goes to a temporary file beside the target,
 * which is renamed when it is complete.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, fstatSync, fsyncSync, openSync, readSync, realpathSync, renameSync, statSync, unlinkSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { arrayOf, byteSize, dtypes, type Dtype, type TypedArray } from '../dsl/dtype.js'
import { WeftError } from '../dsl/errors.js'
import { parseHeader, quote, type Header, type HeaderEntry } from './safetensors-header.js'

/** A tensor of a file. I64 and U8 are read but the language has no such dtypes. */
export type TensorRecord =
  | { readonly [D in Dtype]: { readonly dtype: D; readonly shape: readonly number[]; readonly data: TypedArray<D> } }[Dtype]
  | { readonly dtype: 'i64'; readonly shape: readonly number[]; readonly data: BigInt64Array }
  | { readonly dtype: 'u8'; readonly shape: readonly number[]; readonly data: Uint8Array }

/** What can be written: any tensor of the language, whatever its axes are called. */
export interface WritableTensor {
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly data: TypedArray
}

export interface TensorFile {
  readonly tensors: ReadonlyMap<string, TensorRecord>
  readonly metadata: ReadonlyMap<string, string>
}

const maxHeaderBytes = 100_000_000
const readable: ReadonlyMap<string, TensorRecord['dtype']> = new Map([...dtypes.map(d => [d.toUpperCase(), d] as const), ['I64', 'i64'], ['U8', 'u8']])
const sizes: { readonly [D in TensorRecord['dtype']]: number } = { ...byteSize, i64: 8, u8: 1 }
const subByte = /^(F4|F6_E2M3|F6_E3M2|I4|U4|I2|U2|I1|U1)$/i

const refuse = (file: string, reason: string, fix = 'write the file again with a safetensors library'): WeftError =>
  new WeftError('safetensors', `${file}: ${reason}`, { fix })

/** @throws WeftError `file` if it cannot be read, `safetensors` if it is not a valid file, with the reason */
export function readSafetensors(path: string): TensorFile {
  // Before opening: opening a pipe would wait for its other end.
  if (!attempt(() => statSync(path), `cannot read ${path}`).isFile()) {
    throw new WeftError('file', `${path} is not a regular file`, { fix: 'give a safetensors file' })
  }
  const fd = attempt(() => openSync(path, 'r'), `cannot read ${path}`)
  try {
    const { size } = attempt(() => fstatSync(fd), `cannot read ${path}`)
    if (size < 8) throw refuse(path, `truncated: ${size} bytes, but the length of the header alone takes 8`, 'fetch or write the file again')
    const length = headerLength(read(fd, 8, 0, path), size, path)
    const header = checkedHeader(read(fd, length, 8, path), size - 8 - length, path)
    return fileOf(header, read(fd, size - 8 - length, 8 + length, path), path)
  } finally {
    closeSync(fd)
  }
}

/** The same for bytes in memory; tensors that lie aligned are views of them. @param name for messages @throws WeftError `safetensors` */
export function parseSafetensors(data: Uint8Array, name = 'safetensors data'): TensorFile {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)   // a Buffer's slice would not copy
  if (bytes.length < 8) throw refuse(name, `truncated: ${bytes.length} bytes, but the length of the header alone takes 8`, 'fetch or write the file again')
  const length = headerLength(bytes, bytes.length, name)
  return fileOf(checkedHeader(bytes.subarray(8, 8 + length), bytes.length - 8 - length, name), bytes.subarray(8 + length), name)
}

function headerLength(first: Uint8Array, fileSize: number, name: string): number {
  const length = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true)
  if (length > BigInt(maxHeaderBytes)) throw refuse(name, `the header claims ${length} bytes, more than the ${maxHeaderBytes} allowed`, 'check that it is a safetensors file')
  if (Number(length) > fileSize - 8) throw refuse(name, `truncated: the header claims ${length} bytes, but only ${fileSize - 8} follow`, 'fetch or write the file again')
  if (length < 2n) throw refuse(name, `a header of ${length} bytes holds no JSON object`)
  return Number(length)
}

/** The header, its entries in order of their bytes, each checked against its shape, its neighbours and the data's length. */
function checkedHeader(bytes: Uint8Array, dataBytes: number, name: string): Header {
  let header: Header
  try {
    header = parseHeader(bytes)
  } catch (e) {
    throw refuse(name, (e as Error).message)
  }
  const entries = [...header.entries].sort((a, b) => a.begin - b.begin || a.end - b.end)
  let last: HeaderEntry | undefined
  for (const e of entries) {
    const what = `tensor ${quote(e.name)}`, from = last?.end ?? 0
    const dtype = readable.get(e.dtype)
    if (dtype === undefined) {
      const why = subByte.test(e.dtype) ? 'has elements smaller than a byte' : 'is not known here'
      throw refuse(name, `${what} has the dtype ${quote(e.dtype)}, which ${why}`, `convert it to one of ${[...readable.keys()].join(', ')}`)
    }
    if (e.end < e.begin) throw refuse(name, `${what} ends at byte ${e.end}, before it begins at ${e.begin}`)
    if (e.end > dataBytes) throw refuse(name, `${what} ends at byte ${e.end} of the data, but there are only ${dataBytes}: truncated, or a wrong offset`, 'fetch or write the file again')
    const needed = product(e.shape) * BigInt(sizes[dtype])
    if (needed !== BigInt(e.end - e.begin)) {
      throw refuse(name, `${what}, ${e.dtype} of shape [${e.shape.join(', ')}], needs ${needed} bytes, but has ${e.end - e.begin}`)
    }
    if (e.begin < from) throw refuse(name, `${what} and ${quote(last!.name)} overlap: the one begins at byte ${e.begin}, the other ends at ${from}`)
    if (e.begin > from) throw refuse(name, `bytes ${from} to ${e.begin}, before ${what}, belong to no tensor`)
    last = e
  }
  if ((last?.end ?? 0) !== dataBytes) throw refuse(name, `bytes ${last?.end ?? 0} to ${dataBytes} of the data, its end, belong to no tensor`)
  return { entries, metadata: header.metadata }
}

/** Exact however large; stops early where a hostile shape would grow it without end. */
function product(shape: readonly number[]): bigint {
  if (shape.includes(0)) return 0n
  return shape.reduce((n, d) => n * BigInt(d), 1n)
}

function fileOf(header: Header, data: Uint8Array, name: string): TensorFile {
  const tensors = new Map<string, TensorRecord>()
  for (const e of header.entries) {
    const bytes = data.subarray(e.begin, e.end), dtype = readable.get(e.dtype)!
    if (dtype === 'bool') {
      const bad = bytes.findIndex(b => b > 1)
      if (bad >= 0) throw refuse(name, `tensor ${quote(e.name)}, BOOL, has the value ${bytes[bad]} at element ${bad}`, 'a BOOL is 0 or 1')
    }
    const array = dtype === 'u8' ? bytes : dtype === 'i64' ? int64s(bytes) : arrayOf(dtype, bytes)
    tensors.set(e.name, Object.freeze({ dtype, shape: Object.freeze([...e.shape]), data: array }) as TensorRecord)
  }
  return { tensors, metadata: header.metadata }
}
function int64s(bytes: Uint8Array): BigInt64Array {
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice()
  return new BigInt64Array(aligned.buffer as ArrayBuffer, aligned.byteOffset, bytes.length / 8)
}

/**
 * Writes tensors of the language's dtypes, widest elements first, so that all lie aligned. The file appears whole or not at all.
 * @throws WeftError `safetensors` for what cannot be written, `file` if the disk refuses; then the old file, if any, is untouched
 */
export function writeSafetensors(path: string, tensors: Readonly<Record<string, WritableTensor>>, metadata: Readonly<Record<string, string>> = {}): void {
  const { header, parts } = encode(tensors, metadata, path)
  const target = writable(path)
  const temporary = join(dirname(target), `.weft-${process.pid}-${randomBytes(6).toString('hex')}.tmp`)
  const fd = attempt(() => openSync(temporary, 'wx'), `cannot write ${path}`)
  let open = true
  try {
    attempt(() => {
      for (const part of [header, ...parts]) writeAll(fd, part)
      fsyncSync(fd)
      open = false
      closeSync(fd)
      renameSync(temporary, target)
    }, `cannot write ${path}`)
  } catch (e) {
    if (open) quietly(() => closeSync(fd))
    quietly(() => unlinkSync(temporary))
    throw e
  }
}

/** Where a link leads. Renaming onto a device or a pipe would replace it, so they are refused. */
function writable(path: string): string {
  const stat = attempt(() => statSync(path, { throwIfNoEntry: false }), `cannot write ${path}`)
  if (stat === undefined) return path
  if (!stat.isFile()) throw new WeftError('file', `cannot write ${path}: it is ${stat.isDirectory() ? 'a folder' : 'not a regular file'}`, { fix: 'give the path of a file' })
  return realpathSync(path)
}

/** The file's bytes. @throws WeftError `safetensors` */
export function encodeSafetensors(tensors: Readonly<Record<string, WritableTensor>>, metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  const { header, parts } = encode(tensors, metadata, 'safetensors data')
  return Buffer.concat([header, ...parts])
}

function encode(tensors: Readonly<Record<string, WritableTensor>>, metadata: Readonly<Record<string, string>>, file: string): { header: Uint8Array; parts: Uint8Array[] } {
  const bad = (reason: string, fix: string): never => { throw refuse(file, reason, fix) }
  const entries = Object.entries(tensors).sort(([m, a], [n, b]) => byteSize[b.dtype] - byteSize[a.dtype] || (m < n ? -1 : 1))
  for (const name of [...Object.keys(tensors), ...Object.keys(metadata), ...Object.values(metadata)]) {
    if (/\p{Surrogate}/u.test(String(name))) bad(`${quote(String(name))} has half of a surrogate pair, which UTF-8 cannot hold`, 'use well-formed text')
  }
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== 'string') bad(`metadata ${quote(key)} is not a string`, 'metadata are strings: JSON.stringify what is not')
  }
  let at = 0
  const parts: Uint8Array[] = [], fields: string[] = []
  if (Object.keys(metadata).length > 0) fields.push(`"__metadata__":{${Object.entries(metadata).map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join(',')}}`)
  for (const [name, t] of entries) {
    if (name === '__metadata__') bad(`a tensor cannot be named "__metadata__"`, 'choose another name')
    const count = product(t.shape.map(n => (Number.isSafeInteger(n) && n >= 0 ? n : bad(`tensor ${quote(name)} has an axis of length ${n}`, 'lengths are whole numbers, not negative'))))
    if (BigInt(t.data.length) !== count || t.data.BYTES_PER_ELEMENT !== byteSize[t.dtype]) {
      bad(`tensor ${quote(name)}, ${t.dtype} of shape [${t.shape.join(', ')}], needs ${count} elements of ${byteSize[t.dtype]} bytes, but has ${t.data.length} of ${t.data.BYTES_PER_ELEMENT}`, 'give the shape of the data')
    }
    fields.push(`${JSON.stringify(name)}:{"dtype":"${t.dtype.toUpperCase()}","shape":[${t.shape.join(',')}],"data_offsets":[${at},${at + t.data.byteLength}]}`)
    parts.push(new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength))
    at += t.data.byteLength
  }
  const json = Buffer.from(`{${fields.join(',')}}`, 'utf8'), length = Math.ceil(json.length / 8) * 8
  if (length > maxHeaderBytes) bad(`the header would take ${length} bytes, more than the ${maxHeaderBytes} allowed`, 'write fewer tensors or less metadata')
  const header = Buffer.alloc(8 + length, ' ')
  header.writeBigUInt64LE(BigInt(length), 0)
  json.copy(header, 8)
  return { header, parts }
}

/** Reads exactly so many bytes; a single call gives at most 2 GiB. */
function read(fd: number, length: number, position: number, path: string): Uint8Array {
  const bytes = attempt(() => new Uint8Array(length), `cannot read ${path}`)
  for (let done = 0; done < length;) {
    const n = attempt(() => readSync(fd, bytes, done, Math.min(length - done, 2 ** 30), position + done), `cannot read ${path}`)
    if (n === 0) throw refuse(path, `truncated while it was read: ${position + done} bytes came`, 'read it when it is complete')
    done += n
  }
  return bytes
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, Math.min(bytes.length - done, 2 ** 30))
}

const quietly = (action: () => void): void => { try { action() } catch { /* the first error is the one to tell */ } }

function attempt<T>(action: () => T, what: string): T {
  try {
    return action()
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException
    throw new WeftError('file', `${what}: ${reasons[code ?? ''] ?? message}`, { fix: 'check the path, the permissions and the space on the disk', cause: e })
  }
}
const reasons: { readonly [code: string]: string } = {
  ENOENT: 'no such file or folder', EACCES: 'permission denied', EPERM: 'permission denied', EISDIR: 'it is a folder', ENOTDIR: 'a part of the path is not a folder',
  ENOSPC: 'no space left on the disk', EROFS: 'the file system is read-only',
}
