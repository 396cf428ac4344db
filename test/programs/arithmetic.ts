/** Elementwise work: integers that wrap, casts between all dtypes, NaN, infinities. Judged to the last bit. */
import {
  abs, add, and, cast, ceil, constant, div, eq, floor, ge, isNaN, lt, maximum, minimum, mod, mul, ne, neg, not, or, round, sqrt, sub, sum, tensor, trunc, where, type Expr,
} from '../../src/dsl/index.js'
import { dtypes, newArray, writer, type Dtype } from '../../src/dsl/dtype.js'
import { hostTensor, type HostTensor } from '../../src/runtime/host-tensor.js'
import { random } from '../arbitrary-tensors.js'
import { data, lengths, type Case } from './case.js'

const sizes = [0, 1, 2, 31, 33, 127, 257]
const xi = tensor('x', 'i32', ['n']), yi = tensor('y', 'i32', ['n']), xu = tensor('u', 'u32', ['n']), yu = tensor('v', 'u32', ['n'])
const xf = tensor('f', 'f32', ['n']), yf = tensor('g', 'f32', ['n']), b = tensor('b', 'bool', ['n']), c = tensor('c', 'bool', ['n'])

/** Extremes of a dtype and random bits. */
function wild(dtype: Dtype, n: number, seed: number): HostTensor {
  const next = random(seed), t = hostTensor(dtype, { n }, newArray(dtype, n))
  const ends: { readonly [D in Dtype]: readonly number[] } = {
    i32: [0, 1, -1, 2 ** 31 - 1, -(2 ** 31), 65537], u32: [0, 1, 2 ** 31, 2 ** 32 - 1, 65537], bool: [0, 1],
    f32: [0, -0, NaN, Infinity, -Infinity, 1e-45, 3.4e38, -3.4e38, 2 ** 31, -(2 ** 31), 2147483520, 4294967040, 2 ** 32, 0.5, 1.5, 2.5, -0.5, -1.5, 65504, 65520, 2049, 1e-8],
    f16: [0, -0, NaN, Infinity, -Infinity, 65504, 6e-8, -1.5], bf16: [0, -0, NaN, Infinity, -Infinity, 3e38, 1e-40, -1.5],
  }
  for (let i = 0; i < n; i++) {
    const e = ends[dtype]
    const drawn = dtype === 'i32' ? next() * 2 ** 32 - 2 ** 31 : dtype === 'u32' ? next() * 2 ** 32 : dtype === 'bool' ? Math.floor(next() * 2) : (next() - 0.5) * 2 ** (next() * 40 - 4)
    writer[dtype](t.data, i, next() < 0.5 ? e[Math.floor(next() * e.length)]! : dtype === 'i32' || dtype === 'u32' ? Math.floor(drawn) : drawn)
  }
  return t
}

export const arithmeticCases: readonly Case[] = [
  { name: 'i32', lengths: sizes, outputs: () => ({ add: add(xi, yi), sub: sub(xi, yi), mul: mul(xi, yi), div: div(xi, yi), mod: mod(xi, yi), neg: neg(xi), abs: abs(xi), min: minimum(xi, yi), max: maximum(xi, yi), lt: lt(xi, yi), eq: eq(xi, yi) }), inputs: (n, s) => ({ x: wild('i32', n, s), y: wild('i32', n, s + 1) }) },
  { name: 'u32', lengths: sizes, outputs: () => ({ add: add(xu, yu), sub: sub(xu, yu), mul: mul(xu, yu), div: div(xu, yu), mod: mod(xu, yu), neg: neg(xu), abs: abs(xu), min: minimum(xu, yu), max: maximum(xu, yu), ge: ge(xu, yu), ne: ne(xu, yu) }), inputs: (n, s) => ({ u: wild('u32', n, s), v: wild('u32', n, s + 1) }) },
  { name: 'f32', lengths: sizes, outputs: () => ({ add: add(xf, yf), sub: sub(xf, yf), mul: mul(xf, yf), div: div(xf, yf), min: minimum(xf, yf), max: maximum(xf, yf), sqrt: sqrt(xf), floor: floor(xf), ceil: ceil(xf), round: round(xf), trunc: trunc(xf), twice: add(mul(xf, yf), xf) }), inputs: (n, s) => ({ f: wild('f32', n, s), g: wild('f32', n, s + 1) }) },
  { name: 'bool', lengths: sizes, outputs: () => ({ and: and(b, c), or: or(b, c), not: not(b), eq: eq(b, c), count: sum(cast(and(b, not(c)), 'i32'), 'n') }), inputs: (n, s) => ({ b: wild('bool', n, s), c: wild('bool', n, s + 1) }) },
  { name: 'where and NaN', lengths: sizes, outputs: () => ({ y: where(lt(xf, 0), 0, xf), z: where(isNaN(xf), -1, div(1, xf)), w: where(b, xf, constant(NaN)), v: where(and(b, isNaN(xf)), true, false) }), inputs: (n, s) => ({ f: wild('f32', n, s), b: wild('bool', n, s + 1) }) },
  ...dtypes.map((from): Case => ({
    name: `casts from ${from}`, lengths: sizes,
    outputs: () => { const x = tensor('x', from, ['n']); return Object.fromEntries(dtypes.filter(d => d !== from).map(d => [`to${d}`, cast(x, d) as Expr])) },
    inputs: (n, s) => ({ x: wild(from, n, s) }),
  })),
  { name: 'rounding on the way', lengths: lengths(), outputs: () => ({ y: add(cast(mul(xf, 1.1), 'bf16'), cast(mul(yf, 1.1), 'f16')), z: cast(cast(cast(xf, 'f16'), 'bf16'), 'f32'), i: cast(cast(mul(xf, 3.7), 'i32'), 'f32') }), inputs: (n, s) => ({ f: data('f32', { n }, s, 'special'), g: data('f32', { n }, s + 1, 'special') }) },
  { name: 'many axes', lengths: [0, 1, 3, 33], outputs: () => ({ y: add(tensor('x', 'f32', ['a', 'n', 'c']), mul(tensor('y', 'f32', ['n', 'd']), tensor('z', 'f32', ['c', 'e']))) }), inputs: (n, s) => ({ x: data('f32', { a: 2, n, c: 5 }, s), y: data('f32', { n, d: 3 }, s + 1), z: data('f32', { c: 5, e: 7 }, s + 2) }) },
  { name: 'without axes', lengths: [1], outputs: () => ({ y: add(tensor('x', 'f32', []), 1), z: constant(7) }), inputs: (_, s) => ({ x: data('f32', {}, s) }) },
]
