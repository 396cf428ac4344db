/** Selection and layout: top-k chains, gathers, slices, concatenations. */
import { add, cast, concat, gather, iota, max, merge, minus, mod, mul, neg, pool, rename, size, slice, split, sum, tensor, times, topK } from '../../src/dsl/index.js'
import { data, lengths, type Case } from './case.js'

const x = tensor('x', 'f32', ['row', 'n'])
const inputs = (n: number, seed: number) => ({ x: data('f32', { row: 3, n }, seed, 'exactSpecial') })

export const selectionCases: readonly Case[] = [
  { name: 'top-k', lengths: lengths(3), outputs: () => ({ kept: topK(x, 'n', { k: 3, as: 'kept' }), best: topK(x, 'n', { k: 3, as: 'best', order: 'score' }) }), inputs },
  { name: 'top-k of everything', lengths: lengths(), outputs: () => ({ kept: topK(x, 'n', { k: size('n'), as: 'kept' }), sorted: topK(x, 'n', { k: size('n'), as: 'kept', order: 'score' }) }), inputs },
  { name: 'top-k of nothing', lengths: [0, 1, 33], outputs: () => ({ kept: topK(x, 'n', { k: 0, as: 'kept' }) }), inputs },
  { name: 'k as an argument', lengths: lengths(1), outputs: () => ({ kept: topK(x, 'n', { k: size('k'), as: 'kept' }), values: gather(x, 'n', topK(x, 'n', { k: size('k'), as: 'kept' })) }), inputs, sizes: n => ({ k: Math.ceil(n / 2) }) },
  {
    name: 'top-k of top-k', lengths: lengths(7),
    outputs: () => {
      const first = topK(x, 'n', { k: 7, as: 'first' }), second = topK(gather(x, 'n', first), 'first', { k: 3, as: 'second', order: 'score' })
      return { second, positions: gather(first, 'first', second) }
    },
    inputs,
  },
  {
    name: 'pooled votes, kept rows', lengths: lengths(5),
    outputs: () => {
      const kept = topK(pool.max(sum(tensor('v', 'f32', { head: 4, n: size('n') }), 'head'), 'n', { size: 5 }), 'n', { k: 5, as: 'kept' })
      return { kept, rows: gather(tensor('data', 'bf16', { n: size('n'), dim: 8 }), 'n', kept) }
    },
    inputs: (n, seed) => ({ v: data('f32', { head: 4, n }, seed), data: data('bf16', { n, dim: 8 }, seed + 1, 'float') }),
  },
  { name: 'top-k of f16 rows', lengths: lengths(2), outputs: () => ({ kept: topK(tensor('x', 'f16', ['row', 'n']), 'n', { k: 2, as: 'kept' }) }), inputs: (n, seed) => ({ x: data('f16', { row: 4, n }, seed, 'special') }) },
  {
    name: 'gather with an index outside', lengths: lengths(1),
    outputs: () => ({ y: gather(x, 'n', add(mul(tensor('i', 'i32', ['m']), 100), 50)), z: gather(x, 'n', tensor('u', 'u32', ['m'])), w: gather(x, 'n', tensor('i', 'i32', ['m'])) }),
    inputs: (n, seed) => ({ ...inputs(n, seed), i: data('i32', { m: 17 }, seed + 1), u: data('u32', { m: 17 }, seed + 2) }),
  },
  { name: 'gather with a row of its own', lengths: lengths(1), outputs: () => ({ y: gather(x, 'n', mod(add(tensor('i', 'i32', ['row', 'm']), iota('row')), 7)) }), inputs: (n, seed) => ({ ...inputs(n, seed), i: data('i32', { row: 3, m: 9 }, seed + 1) }) },
  { name: 'slices', lengths: lengths(4), outputs: () => ({ head: slice(x, 'n', { to: 3, as: 'n' }), tail: slice(x, 'n', { from: minus(size('n'), 2), as: 'tail' }), inner: pool.max(slice(x, 'n', { from: 1, to: minus(size('n'), 1), as: 'inner' }), 'inner', { size: 3 }) }), inputs },
  { name: 'slices of nothing', lengths: [0, 1, 5], outputs: () => ({ none: neg(slice(x, 'n', { to: 0, as: 'none' })), sum: sum(slice(x, 'n', { from: size('n'), as: 'none' }), 'none') }), inputs },
  { name: 'concatenation', lengths: lengths(), outputs: () => ({ y: concat([neg(x), x, mul(x, 2)], 'n'), z: concat([slice(x, 'n', { to: 0, as: 'n' }), x], 'n') }), inputs },
  { name: 'concatenation of positions', lengths: lengths(), outputs: () => ({ y: concat([iota('n'), add(iota('n', 7), 100)], 'n'), z: concat([x, cast(iota('n', 5), 'f32')], 'n') }), inputs },
  { name: 'split and merge', lengths: [1, 2, 3, 16, 31, 33], outputs: () => { const wide = tensor('x', 'f32', { row: 3, wide: times(4, size('n')) }); const s = split(wide, 'wide', { a: size('n'), b: 4 }); return { turned: merge(s, ['b', 'row', 'a'], 'flat'), maxima: max(s, 'a') } }, inputs: (n, seed) => ({ x: data('f32', { row: 3, wide: 4 * n }, seed, 'exactSpecial') }) },
  { name: 'rename and meet', lengths: lengths(), outputs: () => { const s = tensor('x', 'f32', { a: size('n') }); return { y: add(mul(s, 10), rename(s, 'a', 'b')) } }, inputs: (n, seed) => ({ x: data('f32', { a: n }, seed) }) },
  {
    name: 'chains of layout', lengths: [2, 3, 32, 33],
    outputs: () => {
      const t = tensor('x', 'f32', { row: 3, n: size('n') }), part = (of: readonly ('row' | 'n')[]) => slice(merge(t, of, 'flat'), 'flat', { from: 1, as: 'p' })
      return { y: sum(rename(concat([part(['n', 'row']), part(['row', 'n'])], 'p'), 'p', 'r'), 'r') }
    },
    inputs: (n, seed) => ({ x: data('f32', { row: 3, n }, seed) }),
  },
  { name: 'more than one output of one node', lengths: lengths(1), outputs: () => { const s = sum(x, 'n'); return { a: s, b: s, c: x, d: neg(s) } }, inputs },
]
