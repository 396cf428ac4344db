/** Folds below folds along other axes, and contractions over several axes: what one streamed axis cannot serve. */
import { contract, layerNorm, mean, mul, rsqrt, softmax, sub, sum, tensor, add, size } from '../../src/dsl/index.js'
import { data, exponentials, lengths, unit, type Case } from './case.js'

const x = tensor('x', 'f32', ['row', 'n'])
const square = tensor('x', 'f32', { row: size('row'), n: size('n') })
const z = tensor('z', 'f32', ['a', 'row', 'n'])
const some = lengths(1).filter(n => [1, 3, 33, 65, 129, 257].includes(n))
const floats = (row: number) => (n: number, seed: number) => ({ x: data('f32', { row, n }, seed, 'float') })
const exact = (row: number) => (n: number, seed: number) => ({ x: data('f32', { row, n }, seed, 'exact') })
const loose = (n: number): number => (exponentials(n, 4) + exponentials(300, 4)) * 4

export const nestedCases: readonly Case[] = [20, 300].flatMap((row): readonly Case[] => [
  { name: `softmax both ways, ${row} rows`, lengths: some, outputs: () => ({ y: softmax(softmax(x, 'n'), 'row') }), inputs: floats(row), bounds: n => ({ y: loose(n) }) },
  {
    name: `centred both ways, ${row} rows`, lengths: some, inputs: floats(row), bounds: n => ({ y: (n + row) * 8 * unit * 4 }),
    outputs: () => { const c = sub(square, mean(square, 'n')); return { y: sub(c, mean(c, 'row')) } },
  },
  { name: `layer norm both ways, ${row} rows`, lengths: [33, 65, 257], outputs: () => ({ y: layerNorm(layerNorm(x, 'n', { epsilon: 1 }), 'row', { epsilon: 1 }) }), inputs: floats(row), bounds: n => ({ y: (n + row) * 64 * unit * 4 }) },
  {
    name: `softmax of normed columns, ${row} rows`, lengths: some, inputs: floats(row), bounds: n => ({ y: loose(n) }),
    outputs: () => ({ y: softmax(mul(x, rsqrt(add(sum(mul(x, x), 'row'), 1))), 'n') }),
  },
  { name: `softmax times softmax, ${row} rows`, lengths: some, outputs: () => ({ y: mul(softmax(x, 'row'), softmax(x, 'n')) }), inputs: floats(row), bounds: n => ({ y: loose(n) }) },
  { name: `inner product of matrices, ${row} rows`, lengths: some, outputs: () => ({ y: contract(x, mul(x, 2), 'row', 'n') }), inputs: exact(row) },
]).concat([
  { name: 'inner product over three axes', lengths: some, outputs: () => ({ y: contract(z, mul(z, 2), 'a', 'row', 'n') }), inputs: (n, seed) => ({ z: data('f32', { a: 4, row: 30, n }, seed, 'exact') }) },
  {
    name: 'outputs that are each other', lengths: [1, 3, 16, 17, 33], inputs: exact(5),
    outputs: () => { const s = sum(x, 'n'); return { a: s, b: s, c: x, d: sub(0, s) } },
  },
])
