/** Programs that random ones found to be computed wrongly, made small. */
import { contract, gather, log2, mul, neg, size, softmax, tensor } from '../../src/dsl/index.js'
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
]
