/** `run`, `explain`, `policies` and `demo` through the real binary. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { sealOf } from '../../src/runtime/cache.js'
import { cacheFolder } from '../../src/runtime/cache.js'
import { findHostCompiler } from '../../src/runtime/emulator/compile.js'
import { openNvrtc } from '../../src/runtime/nvrtc.js'
import { readSafetensors, type TensorRecord } from '../../src/runtime/safetensors.js'
import { built, data, folder, json, promptFile, small, weft } from './weft.js'

const missing = findHostCompiler()
const emulator = !('missing' in missing) || process.env['CI'] === 'true'
if (!emulator) console.warn(`SKIPPED: the command line on the emulator. ${'missing' in missing ? `${missing.missing} Fix: ${missing.fix}` : ''}`)
const nvrtc = ((): boolean => { try { openNvrtc(); return true } catch { console.warn('SKIPPED: explain --stage resources. No NVRTC. Fix: npm run setup:nvrtc'); return process.env['CI'] === 'true' } })()

let input: string
beforeAll(() => {
  built()
  input = promptFile('small.safetensors', small)
})

interface RunDocument {
  readonly kept: number
  readonly heads: number
  readonly bypass: boolean
  readonly kernels: readonly string[]
  readonly check?: { readonly ok: boolean; readonly skipped?: string; readonly mismatchCount: number; readonly scores?: { readonly count: number } }
  readonly output: { readonly file: string; readonly tensors: Readonly<Record<string, { readonly shape: readonly number[] }>> } | null
}

const tensor = (file: string, name: string): TensorRecord => readSafetensors(file).tensors.get(name)!

describe('run', () => {
  const policies = [
    ['snapkv', ['capacity=64'], 2, 64], ['snapkv-official', ['capacity=64'], 4, 64], ['snapkv-official', ['capacity=64', 'rounding=reference', 'order=score'], 4, 64], ['snapkv-kvpress', [], 2, 100],
  ] as const
  describe.each(policies)('%s %s', (policy, settings, heads, kept) => {
    const args = (): string[] => ['run', policy, '--input', input, ...settings.flatMap(s => ['--set', s]), '--json']
    test('reference', async () => {
      const o = await weft([...args(), '--device', 'reference', '--check'])
      expect(o).toMatchObject({ code: 0, stderr: '' })
      expect(json<RunDocument>(o)).toMatchObject({ kept, heads, bypass: false, kernels: [], output: null, check: { ok: true, skipped: 'the device is the reference itself, so there is nothing to compare' } })
    })
    test.skipIf(!emulator)('emulator, checked', async () => {
      const o = await weft([...args(), '--device', 'emulator', '--check'])
      expect(o).toMatchObject({ code: 0, stderr: '' })
      const plain = json<RunDocument>(o)
      expect(plain).toMatchObject({ kept, heads, bypass: false, check: { ok: true, mismatchCount: 0 } })
      expect(plain.check!.scores).toBeUndefined()
      // What is checked is what runs without --check.
      const unchecked = await weft([...args(), '--device', 'emulator'])
      expect(json<RunDocument>(unchecked).kernels).toEqual(plain.kernels)
    })
    test.skipIf(!emulator)('emulator, scores checked too', async () => {
      const o = await weft([...args(), '--device', 'emulator', '--check', '--with-scores'])
      expect(o).toMatchObject({ code: 0, stderr: '' })
      const window = policy === 'snapkv-kvpress' ? 64 : 32
      expect(json<RunDocument>(o)).toMatchObject({ kept, heads, check: { ok: true, mismatchCount: 0, scores: { count: heads * (200 - window) } } })
    })
  })

  test('what is written is what was kept', async () => {
    const output = join(folder, 'out.safetensors')
    const o = await weft(['run', 'snapkv', '--input', input, '--output', output, '--set', 'capacity=64', '--device', 'reference', '--with-scores', '--json'])
    expect(o.code).toBe(0)
    const file = readSafetensors(output), cache = readSafetensors(input)
    expect([...file.tensors.keys()].sort()).toEqual(['keys', 'positions', 'scores', 'values'])
    expect(Object.fromEntries(file.metadata)).toMatchObject({ policy: 'snapkv', length: '200' })
    expect(JSON.parse(file.metadata.get('settings')!)).toMatchObject({ window: 32, capacity: 64 })
    expect(tensor(output, 'keys')).toMatchObject({ dtype: 'bf16', shape: [2, 64, 32] })
    expect(tensor(output, 'positions')).toMatchObject({ dtype: 'i32', shape: [2, 64] })
    expect(tensor(output, 'scores')).toMatchObject({ dtype: 'f32', shape: [2, 168] })
    const positions = tensor(output, 'positions').data
    for (const [name, of] of [['keys', 'k'], ['values', 'v']] as const) {
      const rows = tensor(output, name).data, all = cache.tensors.get(of)!.data
      for (let h = 0; h < 2; h++) for (let i = 0; i < 64; i++) {
        const from = (h * 200 + Number(positions[h * 64 + i])) * 32, to = (h * 64 + i) * 32
        expect(rows.slice(to, to + 32)).toEqual(all.slice(from, from + 32))
      }
    }
    expect([...positions.slice(32, 64)]).toEqual(Array.from({ length: 32 }, (_, i) => 168 + i))
    expect(json<RunDocument>(o).output).toEqual({ file: output, tensors: {
      keys: { dtype: 'bf16', shape: [2, 64, 32] }, values: { dtype: 'bf16', shape: [2, 64, 32] }, positions: { dtype: 'i32', shape: [2, 64] }, scores: { dtype: 'f32', shape: [2, 168] },
    } })
  })

  test('scores are only written when they are asked for', async () => {
    const output = join(folder, 'plain.safetensors')
    await weft(['run', 'snapkv', '--input', input, '--output', output, '--set', 'capacity=64', '--device', 'reference'])
    expect([...readSafetensors(output).tensors.keys()].sort()).toEqual(['keys', 'positions', 'values'])
  })

  test.each(['f32', 'f16'] as const)('%s, with a batch axis', async dtype => {
    const path = promptFile(`batch-${dtype}.safetensors`, { ...small, dtype, batch: 3 }), output = join(folder, `batch-${dtype}-out.safetensors`)
    const o = await weft(['run', 'snapkv-official', '--input', path, '--output', output, '--set', 'capacity=64', '--device', 'reference'])
    expect(o).toMatchObject({ code: 0, stderr: '' })
    expect(o.stdout).toContain('3 prompts of 200 tokens, 2 KV heads × 2 query heads, dim 32')
    expect(tensor(output, 'keys')).toMatchObject({ dtype, shape: [3, 4, 64, 32] })
    expect(tensor(output, 'positions').shape).toEqual([3, 4, 64])
  })

  test('a prompt no longer than the capacity passes unchanged', async () => {
    const output = join(folder, 'all.safetensors')
    const o = await weft(['run', 'snapkv', '--input', input, '--output', output, '--check', '--with-scores', '--device', 'reference', '--json'])
    expect(o.code).toBe(0)
    expect(json<RunDocument>(o)).toMatchObject({ bypass: true, kept: 200, check: { ok: true, skipped: 'nothing was computed, so there is nothing to compare' } })
    expect(tensor(output, 'keys').data).toEqual(tensor(input, 'k').data)
    expect([...readSafetensors(output).tensors.keys()].sort()).toEqual(['keys', 'positions', 'values'])
  })

  test.skipIf(!emulator)('what explain prints as a schedule, run takes', async () => {
    const path = join(folder, 'mine.json'), args = ['snapkv', '--input', input, '--set', 'capacity=64']
    const printed = await weft(['explain', ...args, '--stage', 'schedule'])
    const schedules = JSON.parse(printed.stdout) as Record<string, { rule: string; threads: number }>
    const name = Object.keys(schedules).find(n => schedules[n]!.rule === 'point')!
    schedules[name]!.threads = 64
    writeFileSync(path, JSON.stringify(schedules))
    const o = await weft(['run', ...args, '--device', 'emulator', '--schedule', path, '--json'])
    expect(o).toMatchObject({ code: 0, stderr: '' })
    writeFileSync(path, JSON.stringify({ nobody: schedules[name] }))
    const strange = await weft(['run', ...args, '--device', 'emulator', '--schedule', path])
    expect(strange.code).toBe(2)
    expect(strange.stderr).toContain("the program has no kernel 'nobody'")
  })

  // A cache whose entries are exchanged, hashes and all, is the one way to make this binary compute something wrong.
  test.skipIf(!emulator)('exit code 1, and nothing is written, if the result is wrong', async () => {
    const cache = join(folder, 'cache'), output = join(folder, 'wrong.safetensors')
    mkdirSync(join(cacheFolder(), 'emulator'), { recursive: true })
    mkdirSync(cache, { mode: 0o700 })
    symlinkSync(join(cacheFolder(), 'emulator'), join(cache, 'emulator'))
    const args = (pool: string): string[] => ['run', 'snapkv', '--input', input, '--set', 'capacity=64', '--set', `pool=${pool}`, '--device', 'emulator', '--check', '--output', output, '--json']
    const environment = { WEFT_CACHE_DIR: cache }
    const entries = (): string[] => readdirSync(join(cache, 'kernels')).filter(n => n.length === 2).flatMap(n => readdirSync(join(cache, 'kernels', n)).map(e => join(cache, 'kernels', n, e)))
    expect((await weft(args('max'), { environment })).code).toBe(0)
    const first = entries()
    expect((await weft(args('avg'), { environment })).code).toBe(0)
    const names = (entry: string): string => (JSON.parse(readFileSync(join(entry, 'meta.json'), 'utf8')) as { resources: { name: string }[] }).resources.map(r => r.name).sort().join()
    let exchanged = 0
    for (const entry of entries().filter(e => !first.includes(e))) {
      const twin = first.find(e => names(e) === names(entry))
      if (twin === undefined) continue
      const image = readFileSync(join(twin, 'image')), meta = JSON.parse(readFileSync(join(entry, 'meta.json'), 'utf8')) as Parameters<typeof sealOf>[0]
      writeFileSync(join(entry, 'image'), image)
      const forged = { ...meta, length: image.length, sha256: createHash('sha256').update(image).digest('hex') }
      writeFileSync(join(entry, 'meta.json'), JSON.stringify({ ...forged, seal: sealOf(forged) }))
      exchanged += 1
    }
    expect(exchanged).toBeGreaterThan(0)
    const before = readFileSync(output)
    const o = await weft(args('avg'), { environment })
    expect(o.code).toBe(1)
    expect(o.stderr).toBe(`weft: the result disagrees with the reference; ${output} was not written\n`)
    const { check, output: written } = json<RunDocument & { check: { mismatches: string[] } }>(o)
    expect(written).toBe(null)
    expect(check.ok).toBe(false)
    expect(readFileSync(output).equals(before)).toBe(true)
  })
})

describe('explain', () => {
  const sizes = ['--sizes', 'key=16384,kvHead=8,group=4,dim=128']
  test.each(['graph', 'plan', 'schedule', 'kernel', 'cuda'])('--stage %s, as text and as JSON', async stage => {
    const [text, document] = await Promise.all([weft(['explain', 'snapkv', ...sizes, '--stage', stage]), weft(['explain', 'snapkv', ...sizes, '--stage', stage, '--json'])])
    expect(text).toMatchObject({ code: 0, stderr: '' })
    expect(text.stdout.trim()).not.toBe('')
    expect(document).toMatchObject({ code: 0, stderr: '' })
    expect(typeof json(document)).toBe('object')
  })
  test('the plan says what each kernel moves', async () => {
    const { kernels, compulsoryBytes } = json<{ kernels: { readBytes: number; writtenBytes: number }[]; compulsoryBytes: { read: number; written: number } }>(await weft(['explain', 'snapkv', ...sizes, '--json']))
    // q's window, all keys, the kept values; keys, values, positions.
    expect(compulsoryBytes).toEqual({ read: 2 * (8 * 4 * 32 * 128 + 8 * 16384 * 128 + 8 * 1024 * 128), written: 8 * 1024 * (128 * 2 * 2 + 4) })
    expect(kernels.reduce((n, k) => n + k.readBytes + k.writtenBytes, 0)).toBeGreaterThan(compulsoryBytes.read + compulsoryBytes.written)
  })
  test('a file gives the sizes', async () => {
    expect(json<{ sizes: object; dtype: string }>(await weft(['explain', 'snapkv', '--input', data, '--json']))).toMatchObject({ dtype: 'bf16', sizes: { kvHead: 3, group: 3, query: 64, key: 3816, selected: 992 } })
  })
  test.skipIf(!nvrtc)('--stage resources', async () => {
    const o = await weft(['explain', 'snapkv', ...sizes, '--stage', 'resources', '--arch', 'sm_80', '--arch', 'sm_90a', '--json'])
    expect(o).toMatchObject({ code: 0, stderr: '' })
    const { kernels } = json<{ kernels: Record<string, unknown>[] }>(o)
    expect(new Set(kernels.map(k => k['arch']))).toEqual(new Set(['sm_80', 'sm_90a']))
    for (const k of kernels) {
      expect(Object.keys(k)).toEqual(['name', 'arch', 'registers', 'spillStores', 'spillLoads', 'sharedBytes'])
      expect(typeof k['name']).toBe('string')
      for (const field of ['registers', 'spillStores', 'spillLoads', 'sharedBytes']) expect(Number.isInteger(k[field])).toBe(true)
    }
    expect(Math.max(...kernels.map(k => k['sharedBytes'] as number))).toBeGreaterThan(1000)
  })
  test.skipIf(!nvrtc)('--stage resources refuses what NVRTC would silently replace', async () => {
    for (const arch of ['sm_99', 'sm_80a', 'sm_90f']) {
      const o = await weft(['explain', 'snapkv', ...sizes, '--stage', 'resources', '--arch', arch])
      expect(o).toMatchObject({ code: 2, stdout: '' })
      expect(o.stderr).toMatch(new RegExp(`^weft: NVRTC \\d+\\.\\d+ does not compile for ${arch}\n  fix: use one of sm_\\d+, .*sm_90, `))
    }
  })
})

test('policies', async () => {
  const { policies } = json<{ policies: { name: string; defaults: object }[] }>(await weft(['policies', '--json']))
  expect(policies.map(p => p.name)).toEqual(['snapkv', 'snapkv-official', 'snapkv-kvpress'])
  expect((await weft(['policies', 'snapkv'])).stdout).toContain('poolSize')
})

test.skipIf(!emulator)('doctor finds the emulator', async () => {
  const o = await weft(['doctor', '--json'])
  expect(o.code).toBe(0)
  expect(json<{ devices: string[] }>(o).devices).toContain('emulator')
})

describe.skipIf(!emulator)('demo', () => {
  interface DemoDocument {
    readonly kept: number
    readonly device: { readonly kind: string }
    readonly kernels: readonly { readonly name: string; readonly fused: readonly string[] }[]
    readonly heads: readonly { readonly positions: readonly number[]; readonly needleKept: readonly boolean[] }[]
    readonly reference: { readonly ok: boolean }
    readonly nvrtc: { readonly compiled: boolean; readonly arch?: string; readonly kernels?: readonly { readonly name: string; readonly registers: number; readonly spillStores: number }[] }
    readonly official: { readonly ok: boolean; readonly scores: { readonly count: number } }
  }
  test('in a pipe: plain lines', async () => {
    const o = await weft(['demo', '--device', 'emulator'], { environment: { FORCE_COLOR: '1' } })
    expect(o).toMatchObject({ code: 0, stderr: '' })
    expect(o.stdout).not.toMatch(/[\u001b\r]/)
    expect(Math.max(...o.stdout.split('\n').map(l => l.length))).toBeLessThanOrEqual(100)
    for (const text of ['computeVotes', 'selectKept', 'compulsory', 'KV head 2', '▲ the hidden sentence', 'as the interpreter computes it? yes', 'as the published code computes it? yes', 'first run']) expect(o.stdout).toContain(text)
    expect(o.stdout).toContain('KV head 0 kept all 11 tokens')
  })
  test('as JSON', async () => {
    const o = await weft(['demo', '--device', 'emulator', '--json'])
    expect(o).toMatchObject({ code: 0, stderr: '' })
    const d = json<DemoDocument>(o)
    expect(d).toMatchObject({ kept: 512, device: { kind: 'emulator' }, reference: { ok: true }, official: { ok: true, scores: { count: 9 * 3784 } } })
    expect(d.kernels.length).toBeGreaterThanOrEqual(2)
    expect(d.kernels.length).toBeLessThanOrEqual(4)
    expect(d.heads.map(h => h.positions.length)).toEqual([512, 512, 512])
    expect(d.heads[0]!.needleKept.every(Boolean)).toBe(true)
    expect(d.nvrtc.compiled).toBe(nvrtc)
    if (nvrtc) {
      expect(d.nvrtc.arch).toBe('sm_90a')
      expect(d.nvrtc.kernels!.map(k => k.name)).toEqual(d.kernels.map(k => k.name))
      for (const k of d.nvrtc.kernels!) expect(k.registers).toBeGreaterThan(0)
    }
  })
  test('on the reference interpreter, without NVRTC', async () => {
    const o = await weft(['demo', '--device', 'reference'], { environment: { WEFT_NVRTC: '0' } })
    expect(o).toMatchObject({ code: 0, stderr: '' })
    expect(o.stdout).toContain('not compiled by NVRTC here: npm run setup:nvrtc')
    expect(o.stdout).toContain('as the published code computes it? yes')
    expect(existsSync(join(folder, 'never.safetensors'))).toBe(false)
  })
})
