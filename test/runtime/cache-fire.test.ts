/**
 * The cache under fire: many processes, writers that are killed, flipped bits, full and read-only disks, links and pipes in
 * the place of files, others that delete what is being read, clocks that are wrong. Whatever happens, an entry that is
 * given out is the one that was put in, nothing throws, and what was spoiled is written anew.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { openCache, realFiles, withCache, type Files } from '../../src/runtime/cache.js'
import { often } from '../soak.js'
import { cacheWorkers, outcome } from './cache-worker.js'
import { memoryFiles } from './mock-machine.js'

const workers = await cacheWorkers(), { keyOf, textOf, imageOf, isTrue } = workers.truth
const made: string[] = []
const fresh = (): string => { const folder = mkdtempSync(join(tmpdir(), 'weft-fire-')); made.push(folder); return folder }
afterAll(() => made.forEach(folder => rmSync(folder, { recursive: true, force: true })))
const entry = (folder: string, i: number): string => join(folder, 'kernels', keyOf(i).slice(0, 2), keyOf(i))
const leftovers = (folder: string): string[] => readdirSync(join(folder, 'kernels')).filter(name => name.startsWith('.new'))
const all = [...Array(12).keys()]

/** Every entry that there is, is whole. Gives how many there are. */
function wholeEntries(folder: string): number {
  const cache = openCache({ folder })
  return all.filter(i => existsSync(entry(folder, i))).map(i => {
    const got = cache.get(keyOf(i))
    expect(got !== undefined && isTrue(i, got)).toBe(true)
  }).length
}

describe('processes', () => {
  it('16 at once, with more than 10,000 operations, some of them on each other’s entries', async () => {
    const folder = fresh(), each = 640
    const ends = await Promise.all(Array.from({ length: 16 }, (_, seed) => outcome(workers.start(workers.arguments('hammer', folder, seed, each)))))
    const seen = ends.map(({ text, code }) => {
      expect(code).toBe(0)
      return JSON.parse(text) as { operations: number; hits: number; misses: number; wrong: number; mode: string }
    })
    const sum = (of: 'operations' | 'hits' | 'misses' | 'wrong'): number => seen.reduce((n, one) => n + one[of], 0)
    expect(sum('operations')).toBeGreaterThanOrEqual(10_000)
    expect(sum('wrong')).toBe(0)
    expect(sum('hits')).toBeGreaterThan(2000)
    expect(sum('misses')).toBeGreaterThan(100)
    // What other processes do to an entry is no reason to do without a cache.
    expect([...new Set(seen.map(one => one.mode))]).toEqual(['on'])
    expect(leftovers(folder)).toEqual([])
    const cache = openCache({ folder })
    for (const i of all) {
      cache.put(keyOf(i), textOf(i), imageOf(i))
      expect(isTrue(i, cache.get(keyOf(i))!)).toBe(true)
    }
  }, 120_000)

  it('writers that are killed leave whole entries and rubbish, which goes within an hour', async () => {
    const folder = fresh(), kills = often(60, 500)
    let left = kills, seed = 1
    const wait = (milliseconds: number): Promise<void> => new Promise(resolve => setTimeout(resolve, milliseconds))
    const killing = async (): Promise<void> => {
      while (left-- > 0) {
        const child = workers.start(workers.arguments('write', folder, seed++)), end = outcome(child)
        await new Promise(resolve => child.stdout!.once('data', resolve))
        await wait(Math.random() * 12)
        child.kill('SIGKILL')
        expect((await end).signal).toBe('SIGKILL')
        // The others go on writing meanwhile: an entry may come or go between the look and the reading.
        const cache = openCache({ folder })
        for (const i of all) {
          const got = cache.get(keyOf(i))
          if (got !== undefined) expect(isTrue(i, got)).toBe(true)
        }
      }
    }
    await Promise.all(cpus().slice(0, 4).map(killing))
    expect(wholeEntries(folder)).toBeGreaterThan(0)
    const rubbish = leftovers(folder), cache = openCache({ folder })
    expect(rubbish.length).toBeGreaterThan(kills / 20)
    rmSync(entry(folder, 0), { recursive: true, force: true })
    cache.put(keyOf(0), textOf(0), imageOf(0))
    expect(leftovers(folder).sort()).toEqual(rubbish.sort())   // others may be at it still
    for (const name of rubbish) utimesSync(join(folder, 'kernels', name), new Date(), new Date(Date.now() - 2 * 3_600_000))
    const later = openCache({ folder })
    expect(isTrue(0, later.get(keyOf(0))!)).toBe(true)
    later.put(keyOf(1), textOf(1), imageOf(1))
    expect(leftovers(folder)).toEqual([])
    expect(later.state().mode).toBe('on')
  }, 240_000)
})

describe('spoiled entries', () => {
  it('10,000 flips, cuts and additions: a miss, or exactly what was put in; and a miss is repaired', () => {
    // On a disk in memory: on a real one it takes a hundred times as long.
    const disk = memoryFiles(), cache = openCache({ folder: '/cache', files: disk.files })
    cache.put(keyOf(3), textOf(3), imageOf(3))
    const files = ['meta.json', 'image', 'kernel.cu'].map(name => {
      const path = join(entry('/cache', 3), name)
      return { name, path, data: Buffer.from(disk.files.read(path, Infinity)) }
    })
    const change = fc.record({
      which: fc.constantFrom(0, 0, 0, 1, 1, 2), where: fc.nat({ max: 1 << 30 }),   // a double would nearly always be close to 0
      how: fc.oneof({ weight: 6, arbitrary: fc.record({ bit: fc.nat({ max: 7 }) }) }, { weight: 2, arbitrary: fc.constant('cut' as const) }, { weight: 1, arbitrary: fc.constant('longer' as const) },
        { weight: 3, arbitrary: fc.record({ byte: fc.constantFrom(...Buffer.from('0123456789"{}[],:e.- \\')) }) }),
    })
    let misses = 0, hits = 0
    fc.assert(fc.property(change, ({ which, where, how }) => {
      const { name, path, data } = files[which]!, at = where % data.length
      const spoiled = how === 'cut' ? data.subarray(0, at) : how === 'longer' ? Buffer.concat([data, data.subarray(0, 1 + at)]) : Buffer.from(data)
      if (typeof how === 'object') spoiled[at] = 'bit' in how ? spoiled[at]! ^ (1 << how.bit) : how.byte
      disk.spoil(path, spoiled)
      const got = cache.get(keyOf(3))
      if (got === undefined) {
        misses++
        expect(name).not.toBe('kernel.cu')
        cache.put(keyOf(3), textOf(3), imageOf(3))
        expect(isTrue(3, cache.get(keyOf(3))!)).toBe(true)
      } else {
        hits++
        expect(isTrue(3, got)).toBe(true)
        if (name === 'image') expect(spoiled.equals(data)).toBe(true)
        disk.spoil(path, data)
      }
    }), { numRuns: 10_000 })
    expect(isTrue(3, cache.get(keyOf(3))!)).toBe(true)
    expect(misses).toBeGreaterThan(5000)
    expect(hits).toBeGreaterThan(500)
    expect(cache.state()).toMatchObject({ mode: 'on', entries: 1 })
    expect(disk.entries()).toHaveLength(3)
  }, 120_000)

  /** In place of an entry, of its folder, or of one of its files. */
  const places: readonly (readonly [string, (at: string) => string])[] = [
    ['the entry', at => at], ['its folder', at => join(at, '..')], ['its image', at => join(at, 'image')], ['its record', at => join(at, 'meta.json')],
  ]
  const things: readonly (readonly [string, (path: string, elsewhere: string) => void])[] = [
    ['a link to the very thing, elsewhere', (path, elsewhere) => { renameSync(path, elsewhere); symlinkSync(elsewhere, path) }],
    ['a link to nothing', path => { rmSync(path, { recursive: true }); symlinkSync('/nowhere', path) }],
    ['a link to itself', path => { rmSync(path, { recursive: true }); symlinkSync(path, path) }],
    ['a link to a device without end', path => { rmSync(path, { recursive: true }); symlinkSync('/dev/zero', path) }],
    ['a pipe that nobody writes to', path => { rmSync(path, { recursive: true }); execFileSync('mkfifo', [path]) }],
    ['a file', path => { rmSync(path, { recursive: true }); writeFileSync(path, 'x') }],
    ['an empty folder', path => { rmSync(path, { recursive: true }); mkdirSync(path) }],
    ['a folder with something in it', path => { rmSync(path, { recursive: true }); mkdirSync(join(path, 'deeper', 'still'), { recursive: true }) }],
  ]
  it.each(places.flatMap(([where, at]) => things.map(([what, put]) => ({ where, what, at, put }))))('$what in the place of $where', ({ at, put }) => {
    const folder = fresh(), cache = openCache({ folder })
    for (const i of [2, 3]) cache.put(keyOf(i), textOf(i), imageOf(i))
    const outside = join(folder, 'outside'), path = at(entry(folder, 2))
    put(path, outside)
    const started = performance.now()
    expect(cache.get(keyOf(2))).toBeUndefined()
    expect(performance.now() - started).toBeLessThan(1000)
    cache.put(keyOf(2), textOf(2), imageOf(2))
    for (const i of [2, 3]) expect(isTrue(i, cache.get(keyOf(i))!)).toBe(true)
    expect(cache.state()).toMatchObject({ mode: 'on', entries: 2 })
    expect(leftovers(folder)).toEqual([])
    // What a link led to was neither used nor changed.
    if (existsSync(outside)) expect(readdirSync(folder).sort()).toEqual(['kernels', 'outside'])
  })
  it('a record that is too large is not read', () => {
    const folder = fresh(), cache = openCache({ folder })
    cache.put(keyOf(2), textOf(2), imageOf(2))
    writeFileSync(join(entry(folder, 2), 'meta.json'), Buffer.alloc(17 << 20, ' '))
    const before = process.memoryUsage().arrayBuffers
    expect(cache.get(keyOf(2))).toBeUndefined()
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20)
  })
})

const failure = (code: string): Error => Object.assign(new Error(`${code}: the disk says no`), { code })
/** The n-th operation fails; a write leaves a half of its bytes behind. */
function failing(code: string, at: number, once = false): { readonly files: Files; readonly seen: () => number } {
  let n = 0
  const strike = (): boolean => (once ? ++n === at : ++n >= at)
  const refuse = <A extends readonly unknown[], R>(work: (...args: A) => R) => (...args: A): R => {
    if (strike()) throw failure(code)
    return work(...args)
  }
  return {
    seen: () => n,
    files: {
      ...realFiles, makeFolder: refuse(realFiles.makeFolder), rename: refuse(realFiles.rename),
      write(path, data) {
        if (!strike()) return realFiles.write(path, data)
        realFiles.write(path, data.slice(0, data.length >> 1))
        throw failure(code)
      },
    },
  }
}

describe('a disk that refuses', () => {
  const steps = 7   // the folder of the cache, of the new entry, three files, the folder of the prefix, the renaming
  it('a put takes as many steps as are made to fail here', () => {
    const folder = fresh(), { files, seen } = failing('', Infinity)
    openCache({ folder, files }).put(keyOf(1), textOf(1), imageOf(1))
    expect(seen()).toBe(steps)
  })
  it.each(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EACCES', 'EMFILE'])('%s at any step: the program goes on, and what was there is still served', async code => {
    for (let at = 2; at <= steps; at++) {
      const folder = fresh()
      openCache({ folder }).put(keyOf(0), textOf(0), imageOf(0))
      const cache = openCache({ folder, files: failing(code, at).files })
      let compiled = 0
      const compiler = withCache({ id: 'c', target: 'cuda', options: [], compile: async () => { compiled++; return imageOf(1) } }, cache)
      for (let round = 0; round < 2; round++) expect(isTrue(1, await compiler.compile({ text: 'one', kernels: [], arch: 'sm_90' }))).toBe(true)
      expect(compiled).toBe(2)
      expect(cache.state()).toMatchObject({ mode: 'read-only', reason: expect.stringContaining(code) as string, entries: 1 })
      expect(isTrue(0, cache.get(keyOf(0))!)).toBe(true)
      expect(leftovers(folder)).toEqual([])
    }
  })
  it.each(['ENOENT', 'EEXIST', 'ENOTEMPTY'])('%s once, as another process causes it: tried again', code => {
    for (let at = 2; at <= steps; at++) {
      const folder = fresh(), cache = openCache({ folder, files: failing(code, at, true).files })
      cache.put(keyOf(1), textOf(1), imageOf(1))
      expect(isTrue(1, cache.get(keyOf(1))!)).toBe(true)
      expect(cache.state().mode).toBe('on')
      expect(leftovers(folder)).toEqual([])
    }
  })

  interface Once { readonly hit: boolean; readonly kept: boolean; readonly state: { readonly mode: string; readonly reason?: string; readonly entries: number }; readonly left: readonly string[] }
  const once = async (child: ReturnType<typeof workers.start>): Promise<Once> => {
    const { text, code } = await outcome(child)
    expect(code).toBe(0)
    return JSON.parse(text) as Once
  }
  it('a file that may not grow, in a process that the system limits', async () => {
    const folder = fresh()
    openCache({ folder }).put(keyOf(0), textOf(0), imageOf(0))
    const command = ['trap "" XFSZ; ulimit -f 8; exec "$@"', 'sh', process.execPath, ...workers.arguments('once', folder)]
    const { spawn } = await import('node:child_process')
    const seen = await once(spawn('sh', ['-c', ...command], { stdio: ['ignore', 'pipe', 'inherit'] }))
    expect(seen).toEqual({ hit: true, kept: false, left: [], state: expect.objectContaining({ mode: 'read-only', reason: expect.stringMatching(/could not be written: EFBIG/) as string, entries: 1 }) as unknown })
  })
  it('a folder that may not be written to, by a user who is not root', async () => {
    const folder = fresh(), nobody = 65534, root = process.getuid?.() === 0
    openCache({ folder }).put(keyOf(0), textOf(0), imageOf(0))
    if (root) {
      chmodSync(folder, 0o755)
      for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) chownSync(join(folder, name), nobody, nobody)
    }
    chmodSync(join(folder, 'kernels'), 0o500)
    try {
      const seen = await once(workers.start(workers.arguments('once', folder), root ? { uid: nobody, gid: nobody } : {}))
      expect(seen).toEqual({ hit: true, kept: false, left: [], state: expect.objectContaining({ mode: 'read-only', reason: expect.stringMatching(/EACCES/) as string, entries: 1 }) as unknown })
    } finally {
      chmodSync(join(folder, 'kernels'), 0o700)
    }
  })
})

describe('others, and their clocks', () => {
  it('what is deleted between the reading of its record and of its image is a miss', () => {
    const folder = fresh()
    for (const victim of ['meta.json', 'image']) {
      let armed = false
      const cache = openCache({ folder, files: { ...realFiles, read(path, most) {
        if (armed && path.endsWith(victim)) rmSync(entry(folder, 1), { recursive: true })
        return realFiles.read(path, most)
      } } })
      cache.put(keyOf(1), textOf(1), imageOf(1))
      armed = true
      expect(cache.get(keyOf(1))).toBeUndefined()
      armed = false
      cache.put(keyOf(1), textOf(1), imageOf(1))
      expect(isTrue(1, cache.get(keyOf(1))!)).toBe(true)
    }
  })
  it('one whose clock is wrong removes what is being written: it is written again', () => {
    const folder = fresh()
    let removed = false
    const cache = openCache({ folder, files: { ...realFiles, rename(from, to) {
      if (!removed) rmSync(from, { recursive: true })
      removed = true
      realFiles.rename(from, to)
    } } })
    cache.put(keyOf(1), textOf(1), imageOf(1))
    expect([removed, isTrue(1, cache.get(keyOf(1))!), cache.state().mode]).toEqual([true, true, 'on'])
  })
  it.each([['1970', new Date(0)], ['2100', new Date(Date.UTC(2100, 0))]])('entries of the year %s are as good as others, and what is being written is only removed if it is old', (year, date) => {
    const folder = fresh(), cache = openCache({ folder })
    cache.put(keyOf(1), textOf(1), imageOf(1))
    mkdirSync(join(folder, 'kernels', '.new-1-abc'))
    for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) utimesSync(join(folder, name), date, date)
    const later = openCache({ folder })
    expect(isTrue(1, later.get(keyOf(1))!)).toBe(true)
    later.put(keyOf(2), textOf(2), imageOf(2))
    expect(leftovers(folder)).toEqual(year === '1970' ? [] : ['.new-1-abc'])
    expect(later.state()).toMatchObject({ mode: 'on', entries: 2 })
  })
  it('what it says about itself reads no image', () => {
    const folder = fresh()
    openCache({ folder }).put(keyOf(1), textOf(1), imageOf(1))
    const state = openCache({ folder, files: { ...realFiles, read: () => { throw new Error('an image was read') } } }).state()
    expect(state).toMatchObject({ entries: 1, bytes: imageOf(1).image.length })
  })
})
