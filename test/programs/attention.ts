/** Contractions: matrix products, attention in its forms, nearest neighbours. */
import { add, argmax, cast, contract, gather, iota, le, minus, mul, neg, rename, size, softmax, sub, sum, tensor, topK, where, type Tensor } from '../../src/dsl/index.js'
import { data, exponentials, lengths, unit, type Case } from './case.js'

const dim = 8
const q = tensor('q', 'f32', { head: 2, m: 5, dim }), k = tensor('k', 'f32', { head: 2, n: size('n'), dim }), v = tensor('v', 'f32', { head: 2, n: size('n'), dim })
const values = v as Tensor<'head' | 'n' | 'dim', 'f32'>
const inputs = (n: number, seed: number) => ({ q: data('f32', { head: 2, m: 5, dim }, seed), k: data('f32', { head: 2, n, dim }, seed + 1), v: data('f32', { head: 2, n, dim }, seed + 2) })
const logits = mul(contract(q, k, 'dim'), 0.125)
// |logit| ≤ 8 · 16 / 8; |v| ≤ 4.
const bound = (n: number): number => 4 * (exponentials(n, 16) + 64 * unit) + 8 * n * unit

export const attentionCases: readonly Case[] = [
  { name: 'matrix product', lengths: lengths(), outputs: () => ({ c: contract(tensor('a', 'f32', ['m', 'n']), tensor('b', 'f32', ['n', 'p']), 'n') }), inputs: (n, seed) => ({ a: data('f32', { m: 9, n }, seed), b: data('f32', { n, p: 33 }, seed + 1) }) },
  { name: 'matrix product, long result', lengths: lengths(), outputs: () => ({ c: contract(tensor('a', 'bf16', { m: size('m'), d: 16 }), tensor('b', 'bf16', { n: size('n'), d: 16 }), 'd') }), inputs: (n, seed) => ({ a: data('bf16', { m: 65, d: 16 }, seed), b: data('bf16', { n, d: 16 }, seed + 1) }) },
  { name: 'matrix times vector', lengths: lengths(), outputs: () => ({ c: contract(tensor('a', 'f16', ['m', 'n']), tensor('b', 'f32', ['n']), 'n') }), inputs: (n, seed) => ({ a: data('f16', { m: 33, n }, seed), b: data('f32', { n }, seed + 1) }) },
  { name: 'attention', lengths: lengths(1), outputs: () => ({ o: contract(softmax(logits, 'n'), values, 'n') }), inputs, bounds: n => ({ o: bound(n) }) },
  {
    name: 'causal attention', lengths: lengths(5),
    outputs: () => ({ o: contract(softmax(where(le(iota('n'), add(iota('m', 5), minus(size('n'), 5))), logits, -Infinity) as typeof logits, 'n'), values, 'n') }), inputs, bounds: n => ({ o: bound(n) }),
  },
  {
    name: 'grouped attention of bf16', lengths: [1, 31, 64, 65, 129],
    outputs: () => {
      const gq = tensor('q', 'bf16', { head: 2, group: 4, m: 3, dim: 16 }), gk = tensor('k', 'bf16', { head: 2, n: size('n'), dim: 16 }), gv = tensor('v', 'bf16', { head: 2, n: size('n'), dim: 16 })
      return { o: contract(softmax(mul(contract(gq, gk, 'dim'), 0.25), 'n'), gv, 'n') }
    },
    inputs: (n, seed) => ({ q: data('bf16', { head: 2, group: 4, m: 3, dim: 16 }, seed), k: data('bf16', { head: 2, n, dim: 16 }, seed + 1), v: data('bf16', { head: 2, n, dim: 16 }, seed + 2) }),
    bounds: n => ({ o: 4 * (exponentials(n, 64) + 256 * unit) + 8 * n * unit }),
  },
  {
    name: 'attention votes', lengths: lengths(1), outputs: () => ({ votes: sum(softmax(logits, 'n'), 'm') }), inputs, bounds: n => ({ votes: 5 * (exponentials(n, 16) + 64 * unit) }),
  },
  {
    // Whole numbers: distances are exact, so that the choice is, too.
    name: 'nearest neighbours', lengths: lengths(4),
    outputs: () => {
      const points = tensor('points', 'f32', { n: size('n'), dim }), queries = tensor('queries', 'f32', { m: 6, dim })
      const squares = sum(mul(points, points) as typeof points, 'dim'), distance = sub(squares, mul(contract(queries, points, 'dim'), 2))
      const nearest = topK(neg(distance) as Tensor<'n' | 'm', 'f32'>, 'n', { k: 4, as: 'near', order: 'score' })
      return { nearest, found: gather(points, 'n', nearest) }
    },
    inputs: (n, seed) => ({ points: data('f32', { n, dim }, seed), queries: data('f32', { m: 6, dim }, seed + 1) }),
  },
  {
    name: 'argmax routing', lengths: lengths(1),
    outputs: () => {
      const tokens = tensor('tokens', 'f32', { n: size('n'), dim }), experts = tensor('experts', 'f32', { expert: 5, dim }), weights = tensor('weights', 'f32', { expert: 5, dim })
      const route = argmax(contract(tokens, experts, 'dim'), 'expert')
      return { route, routed: mul(tokens, gather(weights, 'expert', route)) }
    },
    inputs: (n, seed) => ({ tokens: data('f32', { n, dim }, seed), experts: data('f32', { expert: 5, dim }, seed + 1), weights: data('f32', { expert: 5, dim }, seed + 2) }),
  },
  {
    name: 'linear attention with rounded parts', lengths: lengths(),
    outputs: () => ({ o: contract(q, cast(contract(k, rename(values, 'dim', 'out'), 'n'), 'f32'), 'dim') }), inputs,
  },
]
