/**
 * The kernel cache on disk. An entry is a folder named by the SHA-256 of everything that determines the image:
 *
 *   WEFT_CACHE_DIR | XDG_CACHE_HOME/weft | ~/.cache/weft
 *     kernels/3f/3f9a.../   kernel.cu (for people)   image   meta.json (length and SHA-256 of the image, resources, log,
 *                                                                      and a seal: the SHA-256 of all of these)
 *
 * It is written beside its place and renamed, so a reader sees all of it or nothing; plain writes by 8 processes gave
 * 23 % corrupt reads, renamed ones none in 3 998. Whatever is wrong with an entry makes it a miss, whatever is wrong
 * with the folder makes Weft work without it: a cache never stops a program.
 */
import { createHash, randomBytes } from 'node:crypto'
import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { CompileRequest, Compiler, KernelImage, KernelResources } from './compiler.js'

/** Raised when the meaning of an entry changes; old entries are then never looked at. */
const formatVersion = 2

/** The largest meta.json, in bytes: a log of a few kernels takes some KiB. */
const mostMeta = 16 << 20

/** What a writer that was killed has left is removed after so many milliseconds. */
const leftoverAge = 3_600_000

/** The few file operations used, so that tests can fill the disk. */
export interface Files {
  makeFolder(path: string): void
  write(path: string, data: Uint8Array | string): void
  /** A regular file of at most so many bytes, links not followed: a pipe or a device in its place would never end. */
  read(path: string, most: number): Uint8Array
  rename(from: string, to: string): void
  remove(path: string): void
  list(path: string): readonly string[]
  /** Without following links. */
  stat(path: string): FileFacts
}

export interface FileFacts {
  readonly isDirectory: boolean
  readonly mode: number
  readonly uid: number
  readonly bytes: number
  /** When it was changed last, in milliseconds of the file system's clock. */
  readonly changed: number
}

export const realFiles: Files = {
  makeFolder: (path) => void mkdirSync(path, { recursive: true, mode: 0o700 }),
  write: (path, data) => writeFileSync(path, data, { mode: 0o600, flag: 'wx' }),
  read(path, most) {
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const stat = fstatSync(file)
      if (!stat.isFile() || stat.size > most) throw new Error(`${path} is no file of at most ${most} bytes`)
      return readFileSync(file)
    } finally {
      closeSync(file)
    }
  },
  rename: renameSync,
  remove: (path) => rmSync(path, { recursive: true, force: true }),
  list: (path) => readdirSync(path),
  stat(path) {
    const stat = lstatSync(path)
    return { isDirectory: stat.isDirectory(), mode: stat.mode, uid: stat.uid, bytes: stat.size, changed: stat.mtimeMs }
  },
}

export interface CacheOptions {
  readonly folder?: string | undefined
  readonly environment?: { readonly [name: string]: string | undefined }
  /** Neither read nor write. */
  readonly noCache?: boolean
  readonly files?: Files
}

export interface CacheState {
  readonly folder: string
  /** 'on', 'read-only' (entries are used, new ones cannot be kept) or 'off'. */
  readonly mode: 'on' | 'read-only' | 'off'
  /** Why it is not on. */
  readonly reason: string | undefined
  readonly entries: number
  readonly bytes: number
}

export interface KernelCache {
  readonly folder: string
  get(key: string): KernelImage | undefined
  put(key: string, text: string, image: KernelImage): void
  state(): CacheState
}

export function cacheFolder(environment: { readonly [name: string]: string | undefined } = process.env): string {
  const own = environment['WEFT_CACHE_DIR'] ?? ''
  if (own !== '') return own
  const xdg = environment['XDG_CACHE_HOME'] ?? ''
  return join(xdg !== '' ? xdg : join(homedir(), '.cache'), 'weft')
}

/** The SHA-256 of all that determines an image. Fields are told apart by JSON's quoting. */
export function cacheKey(compiler: Pick<Compiler, 'id' | 'target' | 'options'>, request: CompileRequest): string {
  const { text, kernels, arch } = request
  return createHash('sha256').update(JSON.stringify([formatVersion, compiler.id, compiler.target, compiler.options, arch, kernels, text])).digest('hex')
}

export function openCache(options: CacheOptions = {}): KernelCache {
  const files = options.files ?? realFiles
  const folder = options.folder ?? cacheFolder(options.environment)
  const kernels = join(folder, 'kernels')
  let mode: CacheState['mode'] = 'on'
  let reason: string | undefined
  const turn = (to: CacheState['mode'], why: string): void => {
    if (mode === 'on') [mode, reason] = [to, why]
  }
  if (options.noCache === true) turn('off', 'switched off by the caller')
  else {
    try {
      files.makeFolder(kernels)
    } catch (error) {
      turn('read-only', `${kernels} cannot be made: ${message(error)}`)
    }
    try {
      const { isDirectory, mode: bits, uid } = files.stat(kernels)
      // An image runs with all rights of this process on the GPU: it must be ours alone.
      if (!isDirectory) turn('off', `${kernels} is not a folder`)
      else if (process.getuid !== undefined && uid !== process.getuid()) turn('off', `${kernels} belongs to another user`)
      else if ((bits & 0o022) !== 0) turn('off', `${kernels} can be written by others (mode ${(bits & 0o777).toString(8)}): chmod 700 it`)
    } catch (error) {
      mode = 'off'
      reason ??= `${kernels} cannot be read: ${message(error)}`
    }
  }
  let swept = false
  return {
    folder,
    get: (key) => (mode === 'off' || !isKey(key) ? undefined : readEntry(files, kernels, key)),
    put(key, text, image) {
      if (mode !== 'on' || !isKey(key)) return
      if (!swept) sweep(files, kernels)
      swept = true
      // Another process may remove a folder between two steps of this one: once more, and then never mind.
      for (let attempt = 1; ; attempt++) {
        try {
          return write(files, kernels, key, text, image)
        } catch (error) {
          if (!isOfOthers(error)) turn('read-only', `an entry could not be written: ${message(error)}`)
          if (mode !== 'on' || attempt === 3) return
        }
      }
    },
    state: () => ({ folder, mode, reason, ...measure(files, kernels) }),
  }
}

const isKey = (key: string): boolean => /^[0-9a-f]{64}$/.test(key)
const message = (error: unknown): string => (error instanceof Error ? error.message : String(error))

function quietly(work: () => void): void {
  try {
    work()
  } catch {
    // Cleaning up is a courtesy.
  }
}

const prefixOf = (kernels: string, key: string): string => join(kernels, key.slice(0, 2))
const place = (kernels: string, key: string): string => join(prefixOf(kernels, key), key)

/** What happens where several processes make and remove the same folders; the disk and its rights are not at fault. */
const isOfOthers = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && ['ENOENT', 'EEXIST', 'ENOTEMPTY', 'ENOTDIR', 'EISDIR', 'ELOOP'].includes(String(error.code))

function write(files: Files, kernels: string, key: string, text: string, image: KernelImage): void {
  const temporary = join(kernels, `.new-${process.pid}-${randomBytes(6).toString('hex')}`)
  try {
    files.makeFolder(temporary)
    files.write(join(temporary, 'kernel.cu'), text)
    files.write(join(temporary, 'image'), image.image)
    files.write(join(temporary, 'meta.json'), JSON.stringify(metaOf(key, image), undefined, 2))
    makePrefix(files, prefixOf(kernels, key), `${temporary}-prefix`)
    install(files, kernels, temporary, key)
  } finally {
    quietly(() => files.remove(temporary))
  }
}

/** The folder of a key's first two digits; what else lies in its place makes room. */
function makePrefix(files: Files, prefix: string, aside: string): void {
  try {
    files.makeFolder(prefix)
    if (files.stat(prefix).isDirectory) return
  } catch (error) {
    if (!isOfOthers(error)) throw error
  }
  clear(files, prefix, aside)
  files.makeFolder(prefix)
}

/** Renames an entry into its place. One that is there already stays if it is sound, else it makes room. */
function install(files: Files, kernels: string, from: string, key: string): void {
  const to = place(kernels, key)
  try {
    files.rename(from, to)
  } catch (error) {
    if (readEntry(files, kernels, key) !== undefined) return
    if (!isOfOthers(error)) throw error
    clear(files, to, `${from}-old`)
    files.rename(from, to)
  }
}

/** Renamed before it is removed, so that no reader sees a half of it. */
function clear(files: Files, path: string, aside: string): void {
  try {
    files.rename(path, aside)
  } finally {
    quietly(() => files.remove(aside))
  }
}

/** Removes what writers that were killed have left, an hour later: by then nobody is writing it any more. */
function sweep(files: Files, kernels: string): void {
  quietly(() => {
    const now = Date.now()
    for (const name of files.list(kernels).filter((one) => one.startsWith('.new-'))) {
      quietly(() => {
        const path = join(kernels, name)
        if (now - files.stat(path).changed > leftoverAge) files.remove(path)
      })
    }
  })
}

interface Meta {
  readonly format: number
  readonly key: string
  readonly length: number
  readonly sha256: string
  readonly resources: readonly KernelResources[]
  readonly log: string
  readonly seal: string
}

const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex')

/** Over the values and not over the file's bytes: what it means may not have changed, its blanks may. */
export const sealOf = ({ format, key, length, sha256: hash, resources, log }: Omit<Meta, 'seal'>): string =>
  sha256(JSON.stringify([format, key, length, hash, log, ...resources.map((r) => [r.name, r.arch, r.registers, r.spillStores, r.spillLoads, r.sharedBytes])]))

function metaOf(key: string, { image, resources, log }: KernelImage): Meta {
  const meta = { format: formatVersion, key, length: image.length, sha256: sha256(image), resources, log }
  return { ...meta, seal: sealOf(meta) }
}

/** The entry, or undefined for anything that is missing, cut, changed or not understood. */
function readEntry(files: Files, kernels: string, key: string): KernelImage | undefined {
  try {
    const folder = place(kernels, key)
    if (!files.stat(prefixOf(kernels, key)).isDirectory || !files.stat(folder).isDirectory) return undefined
    const meta: unknown = JSON.parse(Buffer.from(files.read(join(folder, 'meta.json'), mostMeta)).toString('utf8'))
    if (!isMeta(meta) || meta.format !== formatVersion || meta.key !== key || sealOf(meta) !== meta.seal) return undefined
    const image = files.read(join(folder, 'image'), meta.length)
    if (image.length !== meta.length || sha256(image) !== meta.sha256) return undefined
    return { image, resources: meta.resources.map(resourcesOf), log: meta.log, fromCache: true }
  } catch {
    return undefined
  }
}

/** What the seal covers, and nothing that was added. */
const resourcesOf = ({ name, arch, registers, spillStores, spillLoads, sharedBytes }: KernelResources): KernelResources =>
  ({ name, arch, registers, spillStores, spillLoads, sharedBytes })

const isRecord = (value: unknown): value is { readonly [key: string]: unknown } => typeof value === 'object' && value !== null

const isMeta = (value: unknown): value is Meta =>
  isRecord(value) && typeof value['format'] === 'number' && typeof value['key'] === 'string' && typeof value['length'] === 'number' &&
  typeof value['sha256'] === 'string' && typeof value['seal'] === 'string' && typeof value['log'] === 'string' && Array.isArray(value['resources']) && value['resources'].every(isResources)

const isResources = (value: unknown): value is KernelResources =>
  isRecord(value) && typeof value['name'] === 'string' && typeof value['arch'] === 'string' &&
  ['registers', 'spillStores', 'spillLoads', 'sharedBytes'].every((field) => typeof value[field] === 'number')

function measure(files: Files, kernels: string): { entries: number; bytes: number } {
  let entries = 0, bytes = 0
  quietly(() => {
    for (const prefix of files.list(kernels).filter((name) => /^[0-9a-f]{2}$/.test(name))) {
      for (const entry of files.list(join(kernels, prefix)).filter(isKey)) {
        entries++
        quietly(() => (bytes += files.stat(join(kernels, prefix, entry, 'image')).bytes))
      }
    }
  })
  return { entries, bytes }
}

/** The compiler behind the cache. Equal requests at the same time compile once. */
export function withCache(compiler: Compiler, cache: KernelCache): Compiler {
  const running = new Map<string, Promise<KernelImage>>()
  return {
    ...compiler,
    async compile(request) {
      const key = cacheKey(compiler, request)
      const hit = cache.get(key)
      if (hit !== undefined) return hit
      const known = running.get(key)
      if (known !== undefined) return known
      const work = compiler.compile(request).then((image) => {
        cache.put(key, request.text, image)
        return image
      }).finally(() => running.delete(key))
      running.set(key, work)
      return work
    },
  }
}
