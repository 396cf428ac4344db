import { fork } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { cacheFolder, cacheKey, openCache, realFiles, withCache, type Files } from '../../src/runtime/cache.js'
import type { CompileRequest, Compiler, KernelImage } from '../../src/runtime/compiler.js'

const request: CompileRequest = { text: 'extern "C" __global__ void vote() {}', kernels: ['vote'], arch: 'sm_90' }
const compilerId = { id: 'nvrtc 13.5 1-a', target: 'cuda', options: ['--std=c++17'] } as const
const key = cacheKey(compilerId, request)
const image: KernelImage = {
  image: Uint8Array.from({ length: 1000 }, (_, i) => i & 255),
  resources: [{ name: 'vote', arch: 'sm_90', registers: 40, spillStores: 0, spillLoads: 0, sharedBytes: 4096 }],
  log: 'ptxas info : "quoted"\n', fromCache: false,
}
const cached = { ...image, fromCache: true }

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-cache-'))
})
const entry = (): string => join(folder, 'kernels', key.slice(0, 2), key)
const plain = (value: KernelImage | undefined): unknown => value && { ...value, image: [...value.image] }

describe('the folder', () => {
  it.each([
    [{ WEFT_CACHE_DIR: '/own', XDG_CACHE_HOME: '/xdg' }, '/own'],
    [{ XDG_CACHE_HOME: '/xdg' }, '/xdg/weft'],
    [{ WEFT_CACHE_DIR: '', XDG_CACHE_HOME: '' }, join(homedir(), '.cache/weft')],
  ])('for %o is %s', (environment, expected) => {
    expect(cacheFolder(environment)).toBe(expected)
  })
})

describe('the key', () => {
  it('changes with everything that determines an image, and with nothing else', () => {
    const others = [
      cacheKey({ ...compilerId, id: 'nvrtc 13.5 1-b' }, request),
      cacheKey({ ...compilerId, target: 'host' }, request),
      cacheKey({ ...compilerId, options: ['--std=c++17', '--fmad=true'] }, request),
      cacheKey({ ...compilerId, options: ['--std=c++17 '] }, request),
      cacheKey(compilerId, { ...request, arch: 'sm_90a' }),
      cacheKey(compilerId, { ...request, text: request.text + ' ' }),
      cacheKey(compilerId, { ...request, kernels: ['vote', 'select'] }),
      cacheKey(compilerId, { ...request, kernels: ['vote,select'] }),
    ]
    expect(new Set([key, ...others]).size).toBe(others.length + 1)
    expect(cacheKey(compilerId, { ...request, name: 'other.cu' })).toBe(key)
    expect(key).toMatch(/^[0-9a-f]{64}$/)
  })

  it('is only used in its own form: no path comes in from outside', () => {
    const cache = openCache({ folder })
    for (const bad of ['../../etc', 'x', `${key}/..`, key.toUpperCase(), '']) {
      cache.put(bad, '', image)
      expect(cache.get(bad)).toBeUndefined()
    }
    expect(readdirSync(join(folder, 'kernels'))).toEqual([])
  })
})

describe('an entry', () => {
  it('comes back as it was, also in another process', () => {
    openCache({ folder }).put(key, request.text, image)
    expect(plain(openCache({ folder }).get(key))).toEqual(plain(cached))
    expect(readFileSync(join(entry(), 'kernel.cu'), 'utf8')).toBe(request.text)
    expect(statSync(join(folder, 'kernels')).mode & 0o777).toBe(0o700)
    expect(statSync(entry()).mode & 0o777).toBe(0o700)
    expect(statSync(join(entry(), 'image')).mode & 0o777).toBe(0o600)
    expect(readdirSync(join(folder, 'kernels'))).toEqual([key.slice(0, 2)])
    expect(openCache({ folder }).state()).toEqual({ folder, mode: 'on', reason: undefined, entries: 1, bytes: 1000 })
  })

  it.each<[string, () => void]>([
    ['whose image is cut', () => truncateSync(join(entry(), 'image'), 999)],
    ['whose image is empty', () => truncateSync(join(entry(), 'image'), 0)],
    ['whose image has one bit changed', () => writeFileSync(join(entry(), 'image'), Uint8Array.from(image.image, (byte, i) => (i === 500 ? byte ^ 1 : byte)))],
    ['without its image', () => rmSync(join(entry(), 'image'))],
    ['without its record', () => rmSync(join(entry(), 'meta.json'))],
    ['whose record is cut', () => truncateSync(join(entry(), 'meta.json'), 50)],
    ['whose record is other JSON', () => writeFileSync(join(entry(), 'meta.json'), 'null')],
    ['of another format', () => writeFileSync(join(entry(), 'meta.json'), readFileSync(join(entry(), 'meta.json'), 'utf8').replace('"format": 2', '"format": 1'))],
    ['under the wrong key', () => writeFileSync(join(entry(), 'meta.json'), readFileSync(join(entry(), 'meta.json'), 'utf8').replace(key, key.replace(/^./, 'g')))],
    ['with resources that are none', () => writeFileSync(join(entry(), 'meta.json'), readFileSync(join(entry(), 'meta.json'), 'utf8').replace('"registers": 40', '"registers": "40"'))],
    ['that is a file', () => { rmSync(entry(), { recursive: true }); writeFileSync(entry(), '') }],
    ['that is a link elsewhere', () => { const elsewhere = join(folder, 'elsewhere'); mkdirSync(elsewhere); rmSync(entry(), { recursive: true }); symlinkSync(elsewhere, entry()) }],
    ['whose image is a folder', () => { rmSync(join(entry(), 'image')); mkdirSync(join(entry(), 'image')) }],
    ['that somebody deleted', () => rmSync(entry(), { recursive: true })],
    ['in a folder that somebody deleted', () => rmSync(folder, { recursive: true })],
  ])('%s is a miss, and the next writing repairs it', (_, damage) => {
    const cache = openCache({ folder })
    cache.put(key, request.text, image)
    damage()
    expect(cache.get(key)).toBeUndefined()
    cache.put(key, request.text, image)
    expect(plain(cache.get(key))).toEqual(plain(cached))
    expect(cache.state().mode).toBe('on')
  })
})

describe('a folder that cannot be used', () => {
  const blocked = (): string => {
    const path = join(folder, 'file')
    writeFileSync(path, '')
    return path
  }
  it.each<[string, () => { folder: string; files?: Files; noCache?: boolean }, string, RegExp]>([
    ['is a file', () => ({ folder: blocked() }), 'off', /cannot be made: ENOTDIR/],
    ['cannot be made', () => ({ folder, files: { ...realFiles, makeFolder: () => { throw new Error('EROFS: read-only file system') } } }), 'off', /cannot be made: EROFS/],
    ['is full', () => ({ folder, files: { ...realFiles, write: () => { throw new Error('ENOSPC: no space left on device') } } }), 'read-only', /could not be written: ENOSPC/],
    ['is full after half an entry', () => ({ folder, files: { ...realFiles, write: (path, data) => { if (path.endsWith('image')) throw new Error('ENOSPC'); realFiles.write(path, data) } } }), 'read-only', /ENOSPC/],
    ['belongs to another user', () => ({ folder, files: { ...realFiles, stat: (path) => ({ ...realFiles.stat(path), uid: 12345 }) } }), 'off', /belongs to another user/],
    ['can be written by others', () => { mkdirSync(join(folder, 'kernels')); chmodSync(join(folder, 'kernels'), 0o777); return { folder } }, 'off', /can be written by others \(mode 777\)/],
    ['is a link', () => { symlinkSync(tmpdir(), join(folder, 'kernels')); return { folder } }, 'off', /is not a folder/],
    ['is not wanted', () => ({ folder, noCache: true }), 'off', /switched off by the caller/],
  ])('because it %s: Weft works without it and knows why', async (_, options, mode, reason) => {
    const cache = openCache(options())
    let compiled = 0
    const compiler = withCache(counting(() => compiled++), cache)
    for (let i = 0; i < 3; i++) expect([...(await compiler.compile(request)).image]).toEqual([...image.image])
    expect(compiled).toBe(3)
    expect(cache.state()).toMatchObject({ mode, entries: 0 })
    expect(cache.state().reason).toMatch(reason)
    if (existsSync(join(folder, 'kernels')) && mode === 'read-only') expect(readdirSync(join(folder, 'kernels')).filter((name) => name.startsWith('.new'))).toEqual([])
  })

  it('and is read-only still gives what it has', () => {
    openCache({ folder }).put(key, request.text, image)
    const cache = openCache({ folder, files: { ...realFiles, write: () => { throw new Error('EROFS') } } })
    expect(cache.get(key)).toBeDefined()
    cache.put(cacheKey(compilerId, { ...request, text: '2' }), '2', image)
    expect(cache.state()).toMatchObject({ mode: 'read-only', entries: 1 })
    expect(cache.get(key)).toBeDefined()
  })
})

const counting = (count: () => void): Compiler => ({
  ...compilerId,
  async compile() {
    count()
    return image
  },
})

describe('a compiler with a cache', () => {
  it('compiles once for equal requests, at the same time, later, and in a later process', async () => {
    let compiled = 0
    const compiler = withCache(counting(() => compiled++), openCache({ folder }))
    const first = await Promise.all([compiler.compile(request), compiler.compile(request), compiler.compile({ ...request, name: 'x.cu' })])
    expect(compiled).toBe(1)
    expect(first.map((result) => result.fromCache)).toEqual([false, false, false])
    expect((await compiler.compile(request)).fromCache).toBe(true)
    expect((await withCache(counting(() => compiled++), openCache({ folder })).compile(request)).resources).toEqual(image.resources)
    await compiler.compile({ ...request, text: 'other' })
    expect(compiled).toBe(2)
  })

  it('does not remember a failure', async () => {
    let tries = 0
    const compiler = withCache({ ...compilerId, compile: async () => { if (tries++ === 0) throw new Error('broken'); return image } }, openCache({ folder }))
    await expect(compiler.compile(request)).rejects.toThrow('broken')
    expect((await compiler.compile(request)).fromCache).toBe(false)
  })
})

it('never shows a half-written entry to readers in other processes', async () => {
  const worker = join(folder, 'worker.mjs')
  // Four readers in processes of their own, in plain JavaScript, against the cache that writes and deletes here.
  writeFileSync(worker, `
    import { readFileSync, readdirSync } from 'node:fs'
    import { createHash } from 'node:crypto'
    import { join } from 'node:path'
    let good = 0, absent = 0, wrong = 0
    const root = ${JSON.stringify(join(folder, 'kernels'))}
    const end = Date.now() + 1200
    while (Date.now() < end) {
      let prefixes = []
      try { prefixes = readdirSync(root).filter((n) => /^[0-9a-f]{2}$/.test(n)) } catch {}
      for (const prefix of prefixes) for (const name of (() => { try { return readdirSync(join(root, prefix)) } catch { return [] } })()) {
        try {
          const at = join(root, prefix, name)
          const meta = JSON.parse(readFileSync(join(at, 'meta.json'), 'utf8'))
          const data = readFileSync(join(at, 'image'))
          if (createHash('sha256').update(data).digest('hex') === meta.sha256) good++; else wrong++
        } catch (error) { if (error.code === 'ENOENT') absent++; else wrong++ }
      }
    }
    process.send({ good, absent, wrong })
  `)
  const readers = Array.from({ length: 4 }, () => new Promise<{ good: number; wrong: number }>((resolve) => fork(worker).once('message', (message) => resolve(message as { good: number; wrong: number }))))
  const cache = openCache({ folder })
  let settled = false
  const all = Promise.all(readers).finally(() => (settled = true))
  for (let i = 0; !settled; i++) {
    const text = `kernel ${i % 7}`
    const at = cacheKey(compilerId, { ...request, text })
    if (i % 5 === 0) rmSync(join(folder, 'kernels', at.slice(0, 2), at), { recursive: true, force: true })
    cache.put(at, text, { ...image, image: new Uint8Array(50_000).fill(i % 7) })
    if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  const results = await all
  expect(results.map((result) => result.wrong)).toEqual([0, 0, 0, 0])
  expect(results.reduce((sum, result) => sum + result.good, 0)).toBeGreaterThan(100)
}, 30_000)
