/**
 * Injected compiler bugs: each is one wrong word in an emitted kernel, and the comparison that all suites use must see it.
 * A test that cannot fail is a defect; here the comparison itself is on trial.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  add, argmax, cast, concat, contract, div, gather, iota, max, mean, mul, pool, reduce, softmax, sub, sum, tensor, topK, monoid, type Expr, type Tensor,
} from '../../src/dsl/index.js'
import { openCache, withCache } from '../../src/runtime/cache.js'
import type { Compiler } from '../../src/runtime/compiler.js'
import type { HostTensor } from '../../src/runtime/host-tensor.js'
import { interpret } from '../../src/runtime/reference.js'
import { snapkv } from '../../src/snapkv/index.js'
import { randomTensor } from '../arbitrary-tensors.js'
import { emulatorDevice, threadOrders } from '../devices.js'
import { fault } from '../fuzz/judge.js'
import { tensorOf } from '../compare.js'
import { Session, type Job } from '../session.js'

interface Mutant {
  readonly name: string
  readonly outputs: Readonly<Record<string, Expr>>
  readonly inputs: Readonly<Record<string, HostTensor>>
  readonly sizes?: Readonly<Record<string, number>>
  readonly bounds?: Readonly<Record<string, number>>
  /** More rows than fill a device leave folds in one kernel. */
  readonly blocks?: number
  readonly from: RegExp
  readonly to: string
}

const x = tensor('x', 'f32', ['row', 'n'])
const rows = (row: number, n: number, flavour: 'exact' | 'float' | 'exactSpecial' = 'exact') => ({ x: randomTensor('f32', { row, n }, flavour, 7) })
const negative = (row: number, n: number) => ({ x: tensorOf('f32', { row, n }, Array.from({ length: row * n }, (_, i) => -1 - (i * 7) % 11)) })
const first = monoid('first', {
  takes: 'f32', components: { value: 'f32' }, identity: { value: 0 }, lift: v => ({ value: v }),
  combine: (a, b, $) => ({ value: $.where($.ne(a.value, 0), a.value, b.value) }), result: c => c.value, ordered: true, emptyAllowed: true,
})
const integers = { i: tensorOf('i32', { n: 40 }, Array.from({ length: 40 }, (_, i) => i * 3 - 61)), j: tensorOf('i32', { n: 40 }, Array.from({ length: 40 }, (_, i) => (i % 7) - 3)) }
const i32 = (name: string): Tensor<'n', 'i32'> => tensor(name, 'i32', ['n'])

const policy = snapkv({ window: 4, capacity: 12, poolSize: 3 }).build({ dtype: 'f32', kvHeads: 2, group: 2, queries: 4, length: 70, dim: 8 })
const prompt = {
  q: randomTensor('f32', { kvHead: 2, group: 2, query: 4, dim: 8 }, 'float', 1), k: randomTensor('f32', { kvHead: 2, key: 70, dim: 8 }, 'float', 2), v: randomTensor('f32', { kvHead: 2, key: 70, dim: 8 }, 'float', 3),
}
const votes = { outputs: { scores: policy.outputs.scores }, inputs: { q: prompt.q, k: prompt.k }, bounds: { scores: 1e-4 } }

const mutants: readonly Mutant[] = [
  { name: 'a tail guard that is always true', outputs: { s: sum(x, 'n') }, inputs: rows(5, 33), blocks: 1, from: /if \([^\n]* < nSize\)/, to: 'if (true)' },
  { name: 'a tail guard that ends too early', outputs: { y: softmax(x, 'n') }, inputs: rows(5, 65), blocks: 1, bounds: { y: 1e-4 }, from: /< nSize\)/g, to: '< nSize - 1)' },
  { name: 'the identity of max is 0', outputs: { m: max(x, 'n') }, inputs: negative(4, 50), from: /-infinity/g, to: '0.f' },
  { name: 'a window that ends one too early', outputs: { y: pool.sum(x, 'n', { size: 5 }) }, inputs: rows(3, 40), from: /(near\w* < [^;]*);/, to: '$1 - 1;' },
  { name: 'a selection that takes one tie too many', outputs: { k: topK(x, 'n', { k: 6, as: 'kept' }) }, inputs: rows(3, 100), from: /tied < need\)\)/, to: 'tied <= need))' },
  { name: 'a selection that counts equals as above', outputs: { k: topK(x, 'n', { k: 6, as: 'kept' }) }, inputs: rows(3, 100), from: /isAbove = own\.at\[e\] > threshold/, to: 'isAbove = own.at[e] >= threshold' },
  { name: 'ties by the wrong end', outputs: { k: topK(x, 'n', { k: 6, as: 'kept', order: 'score' }) }, inputs: rows(3, 100), from: /atA < atB/, to: 'atA > atB' },
  { name: 'a shuffle that leaves half a warp out', outputs: { s: sum(x, 'n') }, inputs: rows(5, 129), blocks: 1, from: /mask < 32/, to: 'mask < 16' },
  { name: 'the last part of a split fold is dropped', outputs: { y: softmax(x, 'n') }, inputs: rows(3, 5000), bounds: { y: 1e-6 }, from: /(part\w*) < splits/g, to: '$1 < splits - 1' },
  { name: 'the operands of a difference change places', outputs: { y: sub(x, mean(x, 'n')) }, inputs: rows(5, 64), bounds: { y: 1e-4 }, blocks: 1, from: /= ([^=;\n]*\]) - (\w+);/, to: '= $2 - $1;' },
  { name: 'a rounding to 16 bits is left out', outputs: { y: cast(cast(mul(x, 1.1), 'bf16'), 'f32') }, inputs: rows(3, 20, 'float'), from: /fromBf16\(toBf16\(/, to: '((' },
  { name: 'a window mask without its end', ...votes, from: /<= (?=windowLane|window\w* |thread|\w*windowLane)/g, to: '< ' },
  { name: 'a cast that rounds', outputs: { y: cast(mul(x, 0.3), 'i32') }, inputs: rows(3, 40, 'float'), from: /toI32\(/, to: 'toI32(0.5f + ' },
  { name: 'an index that is not clamped', outputs: { y: gather(x, 'n', tensor('i', 'i32', ['m'])) }, inputs: { ...rows(2, 5), i: tensorOf('i32', { m: 4 }, [-3, 0, 4, 90]) }, from: /max\(0, min\(/, to: 'max(-99, min(' },
  { name: 'a quotient toward zero', outputs: { y: div(i32('i'), i32('j')) }, inputs: integers, from: /floorDivide\(([^,]*), ([^;]*)\);/, to: '($2 == 0 ? 0 : $1 / $2);' },
  { name: 'a product and a sum in one rounding', outputs: { y: add(mul(x, tensor('z', 'f32', ['row', 'n'])), 1) }, inputs: { ...rows(3, 60, 'float'), z: randomTensor('f32', { row: 3, n: 60 }, 'float', 8) }, from: /= ([^;=\n]*\]) \* ([^;=\n]*\]) \+ 1\.f;/, to: '= __builtin_fmaf($1, $2, 1.f);' },
  { name: 'NaN is ignored by max', outputs: { m: max(x, 'n') }, inputs: rows(6, 64, 'exactSpecial'), from: /maximum\(/g, to: 'fmaxf(' },
  { name: 'a divisor that does not count the padding', outputs: { y: pool.mean(x, 'n', { size: 5 }) }, inputs: rows(3, 40), bounds: { y: 1e-4 }, from: /\/ 5\.f/, to: '/ 4.f' },
  { name: 'a concatenation that is cut one too late', outputs: { y: concat([x, mul(x, 2)], 'n') }, inputs: rows(3, 20), from: / < nSize \?/, to: ' <= nSize ?' },
  { name: 'rows one element too short', outputs: { y: mul(x, 2) }, inputs: rows(3, 20), from: /(x\[[^\]]*)nSize/, to: '$1(nSize - 1)' },
  { name: 'an ordered fold that forgets its order', outputs: { y: reduce(x, first, 'n') }, inputs: rows(3, 50), from: /(\w+) = \1 != 0\.f \? \1 : (\w+);/, to: '$1 = $2 != 0.f ? $2 : $1;' },
  { name: 'argmax prefers the last of equals', outputs: { y: argmax(x, 'n') }, inputs: rows(5, 90), from: / > (value|m)\b/g, to: ' >= $1' },
  { name: 'a contraction that forgets its last step', outputs: { y: contract(tensor('a', 'f32', { p: 40, d: 16 }), tensor('b', 'f32', { n: 50, d: 16 }), 'd') }, inputs: { a: randomTensor('f32', { p: 40, d: 16 }, 'exact', 1), b: randomTensor('f32', { n: 50, d: 16 }, 'exact', 2) }, from: /d < 16/, to: 'd < 12' },
  { name: 'positions that start at 1', outputs: { y: add(cast(x, 'i32'), iota('n')) }, inputs: rows(2, 20), from: /u32\((n|item % nSize|[^()]*)\)\);/, to: 'u32($1 + 1));' },
]

describe.skipIf(emulatorDevice.missing !== undefined)('injected bugs', () => {
  let session: Session
  let outcomes: Awaited<ReturnType<Session['run']>>
  const job = (m: Mutant): Job => ({ outputs: m.outputs, inputs: m.inputs, ...(m.sizes === undefined ? {} : { sizes: m.sizes }), ...(m.blocks === undefined ? {} : { blocks: m.blocks }) })
  beforeAll(async () => {
    session = await Session.open('emulator', { races: true })
    outcomes = await session.run([...mutants.map(job), ...mutants.map(m => ({ ...job(m), editText: (text: string) => text.replace(m.from, m.to) }))], threadOrders)
  })
  afterAll(() => session.dispose())

  test.each(mutants.map((m, i) => ({ name: m.name, m, i })))('$name: noticed', ({ m, i }) => {
    const expected = interpret(m.outputs, m.inputs, m.sizes === undefined ? {} : { sizes: m.sizes })
    const right = outcomes[i]!, wrong = outcomes[mutants.length + i]!
    expect(fault(right, expected, m.bounds ?? {}), 'the kernel as it is').toBeUndefined()
    const before = right.emitted.map(k => k.text).join('\n')
    expect(wrong.emitted.map(k => k.text).join('\n'), `the bug is not in the text:\n${before}`).not.toBe(before)
    expect(wrong.error?.stage, wrong.error?.message).not.toBe('compile')
    expect(fault(wrong, expected, m.bounds ?? {}), before).toBeDefined()
  })
})

test('a cache key that forgets the options: noticed', async () => {
  // The check: two compilers that differ in one option must not get each other's images.
  const sound = async (hide: boolean): Promise<boolean> => {
    const cache = openCache({ environment: { WEFT_CACHE_DIR: mkdtempSync(join(tmpdir(), 'weft-mutant-')) } })
    const compiler = (option: string): Compiler => withCache({
      id: 'test', target: 'cuda', options: hide ? [] : [option],
      compile: () => Promise.resolve({ image: Buffer.from(option), resources: [], log: '', fromCache: false }),
    }, cache)
    const request = { text: 'kernel', kernels: ['kernel'], arch: 'sm_90' }
    await compiler('--fmad=true').compile(request)
    return Buffer.from((await compiler('--fmad=false').compile(request)).image).toString() === '--fmad=false'
  }
  expect(await sound(false)).toBe(true)
  expect(await sound(true)).toBe(false)
})
