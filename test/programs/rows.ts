/** Folds along rows and what is made of them: softmax, norms, sums, statistics. */
import {
  add, all, any, argmax, cast, contract, div, exp, iota, layerNorm, logSumExp, lt, max, mean, min, minimum, monoid, mul, pool, reduce, rename, size, softmax, split, sub, sum, tensor, times,
} from '../../src/dsl/index.js'
import { data, exponentials, lengths, unit, type Case } from './case.js'

const x = tensor('x', 'f32', ['row', 'n'])
const rows = (row: number, dtype: 'f32' | 'f16' | 'bf16' = 'f32') => (n: number, seed: number) => ({ x: data(dtype, { row, n }, seed, 'exactSpecial') })
const finite = (row: number) => (n: number, seed: number) => ({ x: data('f32', { row, n }, seed, 'float') })

const variance = monoid('variance', {
  takes: 'f32', components: { total: 'f32', squares: 'f32' }, identity: { total: 0, squares: 0 },
  lift: (v, _, $) => ({ total: v, squares: $.mul(v, v) }),
  combine: (a, b, $) => ({ total: $.add(a.total, b.total), squares: $.add(a.squares, b.squares) }),
  result: (c, count, $) => $.sub($.div(c.squares, count), $.mul($.div(c.total, count), $.div(c.total, count))),
})
/** The last element that is not zero: ordered, so no device may swap neighbours. */
const lastNonZero = monoid('lastNonZero', {
  takes: 'f32', components: { value: 'f32' }, identity: { value: 0 },
  lift: v => ({ value: v }), combine: (a, b, $) => ({ value: $.where($.ne(b.value, 0), b.value, a.value) }),
  result: c => c.value, ordered: true, emptyAllowed: true,
})
/** How often the sign changes along the axis: ordered. */
const signChanges = monoid('signChanges', {
  takes: 'i32', components: { first: 'i32', last: 'i32', changes: 'i32' }, identity: { first: 0, last: 0, changes: 0 },
  lift: v => ({ first: v, last: v, changes: 0 }),
  combine: (a, b, $) => ({
    first: $.where($.eq(a.first, 0), b.first, a.first), last: $.where($.eq(b.last, 0), a.last, b.last),
    changes: $.add($.add(a.changes, b.changes), $.cast($.lt($.mul(a.last, b.first), 0), 'i32')),
  }),
  result: c => c.changes, ordered: true, emptyAllowed: true,
})

export const rowCases: readonly Case[] = [
  { name: 'softmax', lengths: lengths(1), outputs: () => ({ y: softmax(x, 'n') }), inputs: rows(5), bounds: n => ({ y: exponentials(n, 4) }) },
  { name: 'softmax of many rows', lengths: [1, 2, 33, 127, 257], outputs: () => ({ y: softmax(x, 'n') }), inputs: rows(300), bounds: n => ({ y: exponentials(n, 4) }) },
  { name: 'softmax down the columns', lengths: [1, 3, 32, 65, 129], outputs: () => ({ y: softmax(x, 'row') }), inputs: rows(37), bounds: () => ({ y: exponentials(37, 4) }) },
  { name: 'log-sum-exp', lengths: lengths(1), outputs: () => ({ y: logSumExp(x, 'n') }), inputs: rows(3), bounds: n => ({ y: exponentials(n, 4) + 8 * unit * (5 + Math.log(n)) }) },
  { name: 'layer norm', lengths: lengths(1), outputs: () => ({ y: layerNorm(x, 'n', { epsilon: 1 }) }), inputs: finite(5), bounds: n => ({ y: (2 * n + 16) * unit * 2 * 36 }) },
  {
    name: 'layer norm of f16 with weight and bias', lengths: [1, 31, 64, 129],
    outputs: () => ({ y: cast(layerNorm(tensor('x', 'f16', ['row', 'n']), 'n', { epsilon: 1, weight: tensor('w', 'f16', ['n']), bias: tensor('b', 'f32', ['n']) }), 'f32') }),
    inputs: (n, seed) => ({ x: data('f16', { row: 7, n }, seed, 'float'), w: data('f16', { n }, seed + 1), b: data('f32', { n }, seed + 2) }), bounds: n => ({ y: (2 * n + 16) * unit * 2 * 36 * 5 }),
  },
  { name: 'sums, means, extremes', lengths: lengths(1), outputs: () => ({ s: sum(x, 'n'), m: max(x, 'n'), l: min(x, 'n'), a: argmax(x, 'n') }), inputs: rows(5) },
  { name: 'empty sums', lengths: [0], outputs: () => ({ s: sum(x, 'n'), every: all(lt(x, 1), 'n'), some: any(lt(x, 1), 'n') }), inputs: rows(5) },
  { name: 'all and any', lengths: lengths(), outputs: () => ({ every: all(lt(x, 4), 'n'), some: any(lt(x, -3), 'n') }), inputs: rows(4) },
  { name: 'column sums', lengths: lengths(), outputs: () => ({ s: sum(x, 'row'), m: max(x, 'row') }), inputs: rows(41) },
  { name: 'sum of everything', lengths: lengths(), outputs: () => ({ s: sum(x, 'row', 'n'), t: sum(x, 'n', 'row') }), inputs: rows(7) },
  { name: 'sum of bf16', lengths: lengths(), outputs: () => ({ s: sum(tensor('x', 'bf16', ['row', 'n']), 'n') }), inputs: rows(3, 'bf16') },
  { name: 'mean', lengths: lengths(1), outputs: () => ({ m: mean(x, 'n') }), inputs: rows(3), bounds: () => ({ m: 4 * unit }) },
  { name: 'variance by a monoid', lengths: lengths(1), outputs: () => ({ v: reduce(x, variance, 'n') }), inputs: finite(3), bounds: n => ({ v: (3 * n + 16) * unit * 8 }) },
  { name: 'ordered monoids', lengths: lengths(), outputs: () => ({ last: reduce(x, lastNonZero, 'n'), changes: reduce(cast(x, 'i32'), signChanges, 'n') }), inputs: (n, seed) => ({ x: data('f32', { row: 3, n }, seed) }) },
  {
    name: 'covariance', lengths: lengths(1),
    outputs: () => { const c = sub(x, mean(x, 'n')) as typeof x; return { c: div(contract(c, rename(c, 'row', 'other'), 'n'), 8) } },
    inputs: finite(9), bounds: n => ({ c: (2 * n + 16) * unit * n * 4 }),
  },
  {
    name: 'blocked extremes by split', lengths: [1, 2, 31, 32, 33, 64],
    outputs: () => { const b = split(tensor('x', 'f32', { row: 3, wide: times(4, size('n')) }), 'wide', { block: size('n'), inner: 4 }); return { high: max(b, 'inner'), low: min(b, 'block') } },
    inputs: (n, seed) => ({ x: data('f32', { row: 3, wide: 4 * n }, seed, 'exactSpecial') }),
  },
  { name: 'pooled pooling', lengths: lengths(1), outputs: () => ({ y: pool.max(pool.sum(x, 'n', { size: 3 }), 'n', { size: 5 }), z: pool.sum(pool.max(x, 'n', { size: 7 }), 'n', { size: 3 }) }), inputs: rows(3) },
  { name: 'pooling by mean', lengths: lengths(1), outputs: () => ({ y: pool.mean(x, 'n', { size: 5 }), z: pool.mean(x, 'n', { size: 5, countPadding: false }) }), inputs: rows(3), bounds: () => ({ y: 8 * unit * 4, z: 8 * unit * 4 }) },
  { name: 'a wide window', lengths: lengths(1), outputs: () => ({ y: pool.max(x, 'n', { size: 63 }) }), inputs: rows(2) },
  { name: 'pooling of a fold', lengths: lengths(1), outputs: () => ({ y: pool.max(sum(x, 'row'), 'n', { size: 3 }) }), inputs: rows(33) },
  { name: 'exp and a running product', lengths: lengths(), outputs: () => ({ y: exp(minimum(mul(x, 2), 3)), z: add(x, cast(iota('n'), 'f32')) }), inputs: rows(3), bounds: () => ({ y: Math.exp(3) * 16 * 2 * unit }) },
]
