/** Programs that random ones found to be computed wrongly, made small. */
import { cast, concat, contract, gather, log2, lt, max, mul, neg, rename, size, slice, softmax, sub, sum, tensor, type Tensor } from '../../src/dsl/index.js'
import { data, exponentials, lengths, unit, type Case } from './case.js'

const x = tensor('x', 'f32', ['row', 'n'])

export const foundCases: readonly Case[] = [
  {
    // Four neighbours were moved at once, all by the first one's index.
    name: 'gather by an index along the row', lengths: [1, 3, 33],
    outputs: () => ({ y: gather(tensor('x', 'f32', { n: size('n'), column: 16 }), 'n', tensor('i', 'i32', { column: 16 })) }),
    inputs: (n, seed) => ({ x: data('f32', { n, column: 16 }, seed), i: data('i32', { column: 16 }, seed + 1) }),
  },
  {
    // `c` reads `b`, which is stored after the copy of `x`: in one kernel with that copy, `c` came before `b`.
    name: 'elementwise work after a kernel that is stored late', lengths: lengths(1),
    outputs: () => { const b = softmax(x, 'n'), log = log2(b); return { a: x, c: neg(log), b, log } },
    inputs: (n, seed) => ({ x: data('f32', { row: 5, n }, seed, 'exact') }),
    bounds: n => ({ b: exponentials(n, 4), log: 2 * exponentials(n, 4) + 256 * unit, c: 2 * exponentials(n, 4) + 256 * unit }),
  },
  {
    // An element that is loaded twice was loaded before the guard of its fold, beyond the end of the array.
    name: 'softmax over several axes of squares', lengths: lengths(1),
    outputs: () => { const y = tensor('x', 'f32', { row: 3, c: 4, n: size('n') }); return { y: softmax(mul(y, y), 'c', 'n') } },
    inputs: (n, seed) => ({ x: data('f32', { row: 3, c: 4, n }, seed, 'float') }), bounds: n => ({ y: exponentials(4 * n, 4) }),
  },
  {
    // The swizzle of a tile went by another axis's rows than the matrix loads did.
    name: 'products with two axes of rows beside the summed one', lengths: lengths(1),
    outputs: () => ({ y: contract(tensor('x', 'bf16', { row: 8, n: size('n'), c: 5 }), tensor('w', 'bf16', { n: size('n'), d: 3 }), 'n') }),
    inputs: (n, seed) => ({ x: data('bf16', { row: 8, n, c: 5 }, seed), w: data('bf16', { n, d: 3 }, seed + 1) }),
  },
  {
    // Where a part of a concatenation lacks an axis, one of that name in its array is another one.
    name: 'an axis beside itself under another name', lengths: lengths(),
    outputs: () => { const y = tensor('x', 'u32', { n: size('n'), c: 3, d: 4 }); return { y: concat([rename(y, 'd', 'was'), y] as readonly Tensor<string, 'u32'>[], 'n') } },
    inputs: (n, seed) => ({ x: data('u32', { n, c: 3, d: 4 }, seed) }),
  },
  {
    // A stored fold was taken for one that lies in registers.
    name: 'a contraction over two axes with a fold that is stored', lengths: lengths(1),
    outputs: () => {
      const of = { c: 3, d: size('d'), a: size('n'), e: 5 } as const
      return { y: contract(max(tensor('x', 'f32', of), 'a', 'e'), tensor('w', 'bf16', of), 'd', 'c') }
    },
    inputs: (n, seed) => ({ x: data('f32', { c: 3, d: 2, a: n, e: 5 }, seed), w: data('bf16', { c: 3, d: 2, a: n, e: 5 }, seed + 1) }),
  },
  {
    // The fold's axis `c`, here called `d`, was taken for the `c` of the other operand.
    name: 'a fold along an axis that another operand has as well', lengths: lengths(3),
    outputs: () => { const s = max(tensor('x', 'f32', { b: 17, c: size('n') }), 'b'); return { y: sub(slice(s, 'c', { from: 2, as: 'd' }), tensor('w', 'f32', { c: size('m') })) } },
    inputs: (n, seed) => ({ x: data('f32', { b: 17, c: n }, seed), w: data('f32', { c: 3 }, seed + 1) }),
  },
  {
    // An index with a loop in it, within a concatenation that evaluates one side only.
    name: 'a computed index into a concatenation', lengths: lengths(1),
    outputs: () => {
      const part = tensor('x', 'f32', { row: 2, n: size('n') }), both = concat([part, mul(part, 2)], 'row')
      return { y: gather(both, 'n', sum(cast(lt(tensor('v', 'f32', { m: size('m') }), 0), 'i32'), 'm')) }
    },
    inputs: (n, seed) => ({ x: data('f32', { row: 2, n }, seed), v: data('f32', { m: 9 }, seed + 1) }),
  },
]
