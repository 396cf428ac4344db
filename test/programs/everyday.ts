/**
 * What people write: norms, losses, attention in its forms, searches, routing. Each program is built twice, small for the
 * devices' suites and at the sizes of `docs/fusion.md`, whose tables show the kernels that it takes.
 */
import {
  add, and, argmax, cast, concat, contract, cos, div, eq, gather, gt, iota, le, logSumExp, layerNorm, max, maximum, mean, merge, min, minus, mul, neg, pool, rename, rsqrt, sin, size,
  slice, softmax, split, sqrt, sub, sum, tanh, tensor, times, topK, where, type Expr, type SizeLike, type Sizes, type Tensor,
} from '../../src/dsl/index.js'
import { inputsOf } from '../../src/dsl/bind.js'
import { evaluateSize } from '../../src/dsl/size.js'
import type { Flavour } from '../arbitrary-tensors.js'
import { data, exponentials, lengths, unit, type Case } from './case.js'

/** The length of an axis: a number in the small program, a symbol in the large one. */
type At = (axis: string) => SizeLike
interface Everyday {
  readonly name: string
  readonly build: (at: At) => Readonly<Record<string, Expr>>
  /** Axes of the small program but for `n`. */
  readonly small: Sizes
  /** All axes of the tabled one. */
  readonly large: Sizes
  readonly lengths: readonly number[]
  readonly flavour?: Flavour
  /** Flavours of single inputs. */
  readonly flavours?: Readonly<Record<string, Flavour>>
  readonly bounds?: (n: number) => Readonly<Record<string, number>>
  /** What torch.compile would launch, as far as its documented rules tell; an estimate. */
  readonly torch: string
}

const some = (from = 1): readonly number[] => lengths(from).filter(n => [1, 3, 31, 33, 64, 65, 129, 257].includes(n))

function everyday(p: Everyday): Case {
  const outputs = p.build(axis => p.small[axis] ?? size(axis))
  return {
    name: p.name, lengths: p.lengths, outputs: () => outputs,
    inputs: (n, seed) => Object.fromEntries([...inputsOf(outputs)].map(([name, e], i) => [name,
      data(e.dtype, Object.fromEntries(e.axes.map(a => [a.name, evaluateSize(a.size, { n })])), seed + i, p.flavours?.[name] ?? p.flavour ?? 'exact')])),
    ...(p.bounds === undefined ? {} : { bounds: p.bounds }),
    tabled: { outputs: p.build(axis => size(axis)), sizes: p.large, torch: p.torch },
  }
}

const rows = (at: At, dtype: 'f32' | 'bf16' = 'f32') => tensor('x', dtype, { row: at('row'), n: at('n') })
const norm = (n: number): number => (2 * n + 16) * unit * 2 * 36

const rowPrograms: readonly Case[] = [
  { name: 'softmax', small: { row: 5 }, large: { row: 4096, n: 4096 }, build: (at: At) => ({ y: softmax(rows(at), 'n') }), bounds: (n: number) => ({ y: exponentials(n, 4) }), torch: '1' },
  { name: 'softmax of few long rows', small: { row: 2 }, large: { row: 8, n: 262144 }, build: (at: At) => ({ y: softmax(rows(at), 'n') }), bounds: (n: number) => ({ y: exponentials(n, 4) }), torch: '3: maximum and sum are split, each with a kernel for the parts' },
  { name: 'softmax down the columns', small: { row: 37 }, large: { row: 4096, n: 4096 }, build: (at: At) => ({ y: softmax(rows(at), 'row') }), bounds: () => ({ y: exponentials(37, 4) }), torch: '1 to 3' },
  { name: 'log-sum-exp', small: { row: 3 }, large: { row: 4096, n: 50257 }, build: (at: At) => ({ y: logSumExp(rows(at), 'n') }), bounds: (n: number) => ({ y: exponentials(n, 4) + 8 * unit * (5 + Math.log(n)) }), torch: '1' },
  { name: 'layer norm', small: { row: 5 }, large: { row: 4096, n: 4096 }, flavour: 'float' as const, bounds: (n: number) => ({ y: norm(n) * 20 }), torch: '1', build: (at: At) => ({ y: layerNorm(rows(at, 'bf16'), 'n', { epsilon: 1, weight: tensor('weight', 'bf16', { n: at('n') }), bias: tensor('bias', 'bf16', { n: at('n') }) }) }) },
  {
    name: 'RMS norm', small: { row: 5 }, large: { row: 4096, n: 4096 }, flavour: 'float' as const, bounds: (n: number) => ({ y: norm(n) * 16 }), torch: '1',
    build: (at: At) => { const x = rows(at, 'bf16'); return { y: mul(mul(x, rsqrt(add(mean(mul(x, x), 'n'), 1))), tensor('weight', 'bf16', { n: at('n') })) } },
  },
  {
    name: 'cross entropy', small: { row: 5 }, large: { row: 4096, n: 50257 }, bounds: (n: number) => ({ loss: exponentials(n, 4) + 16 * unit * (9 + Math.log(n)) }), torch: '2: the rows, then their mean',
    build: (at: At) => { const x = rows(at); return { loss: mean(sub(logSumExp(x, 'n'), gather(x, 'n', tensor('target', 'i32', { row: at('row') }))), 'row') } },
  },
  { name: 'statistics of rows', small: { row: 5 }, large: { row: 4096, n: 4096 }, bounds: () => ({ centre: 8 * unit }), torch: '1, if the reductions are fused', build: (at: At) => { const x = rows(at); return { total: sum(x, 'n'), centre: mean(x, 'n'), high: max(x, 'n'), low: min(x, 'n'), where: argmax(x, 'n') } } },
  { name: 'column sums', small: { row: 41 }, large: { row: 16384, n: 4096 }, torch: '2: split, then the parts', build: (at: At) => ({ y: sum(rows(at), 'row') }) },
  { name: 'norm of a matrix', small: { row: 9 }, large: { row: 4096, n: 4096 }, torch: '2', build: (at: At) => { const x = rows(at); return { y: sqrt(sum(mul(x, x), 'row', 'n')) } } },
  { name: 'inner product', small: { row: 9 }, large: { row: 4096, n: 4096 }, torch: '2', build: (at: At) => ({ y: contract(rows(at), tensor('z', 'f32', { row: at('row'), n: at('n') }), 'row', 'n') }) },
  { name: 'blocked extremes', small: { row: 3 }, large: { row: 1024, n: 4096 }, torch: '1', build: (at: At) => { const b = split(tensor('x', 'f32', { row: at('row'), wide: times(32, size('n')) }), 'wide', { block: size('n'), inner: 32 }); return { high: max(b, 'inner'), low: min(b, 'inner') } } },
  { name: 'pooled pooling', small: { row: 3 }, large: { row: 64, n: 65536 }, torch: '2: the first max_pool1d is stored', build: (at: At) => ({ y: pool.max(pool.max(rows(at), 'n', { size: 5 }), 'n', { size: 3 }) }) },
  {
    name: 'covariance', small: { row: 9 }, large: { row: 512, n: 16384 }, flavour: 'float' as const, bounds: (n: number) => ({ y: (2 * n + 16) * unit * n * 8 }), torch: '3: mean, centring, a library matmul',
    build: (at: At) => { const x = rows(at), c = sub(x, mean(x, 'n')) as typeof x; return { y: contract(c, rename(c, 'row', 'other'), 'n') } },
  },
  {
    name: 'softmax within segments', small: { segment: 4 }, large: { segment: 64, n: 65536 }, bounds: (n: number) => ({ y: exponentials(n, 4) }), torch: '2 or 3',
    build: (at: At) => {
      const x = tensor('x', 'f32', { n: at('n') }), mine = eq(tensor('segmentOf', 'i32', { n: at('n') }), iota('segment', at('segment')))
      return { y: sum(where(mine, softmax(where(mine, x, -Infinity), 'n'), 0), 'segment') }
    },
  },
].map(p => everyday({ lengths: some(), ...p }))

interface Heads { readonly q: Tensor<'head' | 'm' | 'dim'>; readonly k: Tensor<'head' | 'n' | 'dim'>; readonly v: Tensor<'head' | 'n' | 'dim'> }
const heads = (at: At, dtype: 'f32' | 'bf16'): Heads => ({
  q: tensor('q', dtype, { head: at('head'), m: at('m'), dim: at('dim') }) as never, k: tensor('k', dtype, { head: at('head'), n: at('n'), dim: at('dim') }) as never, v: tensor('v', dtype, { head: at('head'), n: at('n'), dim: at('dim') }) as never,
})
type Logits = Tensor<'head' | 'm' | 'n', 'f32'>
const scaled = ({ q, k }: Heads): Logits => mul(contract(q as never, k as never, 'dim' as never), 0.125) as never
const attend = (logits: Expr, { v }: Heads): { o: Expr } => ({ o: contract(softmax(logits as Logits, 'n'), v as Tensor<'head' | 'n' | 'dim', 'f32'>, 'n') })
/** Where in the sequence of `n` the last `m` questions stand. */
const place = (at: At) => add(iota('m', at('m')), minus(size('n'), at('m')))
// |logit| ≤ 8 · 16 / 8; |v| ≤ 4.
const attention = (n: number): Record<string, number> => ({ o: 4 * (exponentials(n, 17) + 64 * unit) + 8 * n * unit })
const flash = '1 by scaled_dot_product_attention (flash); written out, 3 and the logits in memory'
const flex = '1 by flex_attention; written out, 3 and the logits in memory'

const attentionPrograms: readonly Case[] = [
  { name: 'attention', build: (at: At) => { const h = heads(at, 'f32'); return attend(scaled(h), h) }, torch: flash },
  { name: 'attention of bf16', build: (at: At) => { const h = heads(at, 'bf16'); return attend(scaled(h), h) }, torch: flash },
  { name: 'attention with probabilities of bf16', build: (at: At) => { const h = heads(at, 'bf16'); return { o: contract(cast(softmax(scaled(h), 'n'), 'bf16'), h.v as Tensor<'head' | 'n' | 'dim', 'bf16'>, 'n') } }, torch: flash, bounds: (n: number) => ({ o: attention(n)['o']! + 4 * 2 ** -7 }) },
  { name: 'causal attention', build: (at: At) => { const h = heads(at, 'bf16'); return attend(where(le(iota('n'), place(at)), scaled(h), -Infinity), h) }, torch: flash },
  { name: 'attention in a sliding window', build: (at: At) => { const h = heads(at, 'bf16'), p = place(at); return attend(where(and(le(iota('n'), p), gt(iota('n'), sub(p, 16))), scaled(h), -Infinity), h) }, torch: flex },
  {
    name: 'attention with a linear bias', torch: flex,
    build: (at: At) => { const h = heads(at, 'bf16'), slope = mul(tensor('slope', 'f32', { head: at('head') }), 0.0009765625); return attend(add(scaled(h), mul(slope, cast(sub(iota('n'), place(at)), 'f32'))), h) },
  },
  { name: 'attention of one question', build: (at: At) => { const h = heads(at, 'bf16'); return attend(scaled(h), h) }, torch: '2: split flash decoding', small: { head: 2, m: 1, dim: 8 }, large: { head: 8, m: 1, n: 32768, dim: 128 } },
  {
    name: 'grouped attention', torch: '1 by scaled_dot_product_attention with enable_gqa', small: { head: 2, group: 4, m: 3, dim: 8 }, large: { head: 8, group: 4, m: 1024, n: 4096, dim: 128 },
    build: (at: At) => {
      const q = tensor('q', 'bf16', { head: at('head'), group: at('group'), m: at('m'), dim: at('dim') }), k = tensor('k', 'bf16', { head: at('head'), n: at('n'), dim: at('dim') }), v = tensor('v', 'bf16', { head: at('head'), n: at('n'), dim: at('dim') })
      return { o: contract(softmax(mul(contract(q, k, 'dim'), 0.125), 'n'), v, 'n') }
    },
  },
  { name: 'attention votes', build: (at: At) => ({ votes: sum(softmax(scaled(heads(at, 'bf16')), 'n'), 'm') }), torch: '3 and the logits in memory', large: { head: 8, m: 32, n: 32768, dim: 128 }, bounds: (n: number) => ({ votes: 5 * (exponentials(n, 16) + 64 * unit) }) },
].map(p => everyday({ small: { head: 2, m: 5, dim: 8 }, large: { head: 32, m: 1024, n: 4096, dim: 128 }, lengths: some(5), bounds: attention, ...p }))

const vectors = (at: At, name: string, axis: string) => tensor(name, 'f32', { [axis]: at(axis), dim: at('dim') }) as Tensor<string, 'f32'>
const nearestTo = (points: Tensor<string, 'f32'>, queries: Tensor<string, 'f32'>) => sub(sum(mul(points, points), 'dim'), mul(contract(queries, points, 'dim'), 2)) as Tensor<string, 'f32'>

const searchPrograms: readonly Case[] = [
  {
    name: 'nearest neighbours', small: { m: 6, dim: 8 }, large: { m: 256, n: 100000, dim: 64 }, lengths: some(4).filter(n => n >= 4), torch: '4: a library matmul, the distance, topk, gather',
    build: (at: At) => { const points = vectors(at, 'points', 'n'), near = topK(neg(nearestTo(points, vectors(at, 'queries', 'm'))), 'n', { k: 4, as: 'near', order: 'score' }); return { near, found: gather(points, 'n', near as never) } },
  },
  {
    // Whole numbers: the sums are exact, the root and the quotient are rounded alike everywhere.
    name: 'search by cosine', small: { m: 6, dim: 8 }, large: { m: 16, n: 1000000, dim: 128 }, lengths: some(4).filter(n => n >= 4), torch: '4: norms, a library matmul, the quotient, topk',
    build: (at: At) => { const keys = vectors(at, 'keys', 'n'); return { near: topK(div(contract(vectors(at, 'queries', 'm'), keys, 'dim'), add(sqrt(sum(mul(keys, keys), 'dim')), 1)) as Tensor<string, 'f32'>, 'n', { k: 4, as: 'near', order: 'score' }) } },
  },
  {
    name: 'argmax routing', small: { expert: 5, dim: 8 }, large: { n: 16384, expert: 64, dim: 512 }, lengths: some(), torch: '3: a library matmul, argmax, the gather and the product',
    build: (at: At) => { const tokens = vectors(at, 'tokens', 'n'), route = argmax(contract(tokens, vectors(at, 'experts', 'expert'), 'dim'), 'expert'); return { route, routed: mul(tokens, gather(vectors(at, 'weights', 'expert'), 'expert', route as never)) } },
  },
  {
    name: 'a step of k-means', small: { centre: 5, dim: 8 }, large: { n: 100000, centre: 256, dim: 64 }, lengths: some(), torch: '5 or more: a library matmul, argmin, one-hot, a second matmul, counts and the quotient',
    build: (at: At) => {
      const points = vectors(at, 'points', 'n'), centres = vectors(at, 'centres', 'centre')
      const mine = cast(eq(argmax(neg(nearestTo(centres, points)), 'centre'), iota('centre', at('centre'))), 'f32') as Tensor<string, 'f32'>
      return { centres: div(contract(mine, points, 'n'), maximum(sum(mine, 'n'), 1)) }
    },
  },
  { name: 'top-k of top-k', small: { row: 3 }, large: { row: 64, n: 100000 }, lengths: some(31), torch: '3: topk, gather, topk', build: (at: At) => { const x = rows(at), first = topK(x, 'n', { k: 20, as: 'first' }), second = topK(gather(x, 'n', first), 'first', { k: 3, as: 'second', order: 'score' }); return { second: gather(first, 'first', second) } } },
  { name: 'quantile by top-k', small: { row: 3 }, large: { row: 64, n: 100000 }, lengths: some(31), torch: '3: topk (or a sort), slice, gather', build: (at: At) => { const x = rows(at), best = topK(x, 'n', { k: 20, as: 'best', order: 'score' }); return { y: gather(x, 'n', slice(best, 'best', { from: 19, as: 'last' })) } } },
  {
    name: 'pooled votes, kept rows', small: { head: 4, dim: 8 }, large: { head: 32, n: 16384, dim: 128 }, lengths: some(31), torch: '4: sum, max_pool1d, topk, gather',
    build: (at: At) => { const kept = topK(pool.max(sum(tensor('votes', 'f32', { head: at('head'), n: at('n') }), 'head'), 'n', { size: 7 }), 'n', { k: 16, as: 'kept' }); return { kept, rows: gather(tensor('table', 'bf16', { n: at('n'), dim: at('dim') }), 'n', kept) } },
  },
].map(p => everyday(p))

const productPrograms: readonly Case[] = [
  {
    // tanh may be off by 4 ulp; what it is taken of is the same everywhere.
    name: 'product, bias and GELU', small: { m: 9, p: 33 }, large: { m: 4096, n: 4096, p: 4096 }, torch: '1 with max-autotune (a template with an epilogue), else a library matmul and 1', bounds: (n: number) => ({ y: (16 * n + 8) * 16 * unit }),
    build: (at: At) => {
      const c = add(contract(tensor('a', 'bf16', { m: at('m'), n: at('n') }), tensor('b', 'bf16', { n: at('n'), p: at('p') }), 'n'), tensor('bias', 'f32', { p: at('p') }))
      return { y: mul(mul(c, 0.5), add(tanh(mul(add(c, mul(mul(mul(c, c), c), 0.044715)), 0.7978846)), 1)) }
    },
  },
  {
    name: 'two layers', small: { m: 9, hidden: 16, p: 8 }, large: { m: 4096, n: 1024, hidden: 4096, p: 1024 }, torch: '2 or 3: library matmuls, one with relu as epilogue',
    build: (at: At) => {
      const h = maximum(contract(tensor('x', 'bf16', { m: at('m'), n: at('n') }), tensor('first', 'bf16', { n: at('n'), hidden: at('hidden') }), 'n'), 0) as Tensor<'m' | 'hidden', 'f32'>
      return { y: contract(cast(h, 'bf16'), tensor('second', 'bf16', { hidden: at('hidden'), p: at('p') }), 'hidden') }
    },
  },
  { name: 'batched outer products', small: { batch: 3, i: 5 }, large: { batch: 64, i: 512, n: 512 }, torch: '1', build: (at: At) => ({ y: mul(tensor('a', 'f32', { batch: at('batch'), i: at('i') }), tensor('b', 'f32', { batch: at('batch'), n: at('n') })) }) },
  {
    name: 'contraction over two axes', small: { m: 5, group: 3, p: 6 }, large: { m: 512, n: 4096, group: 8, p: 512 }, torch: '1 library matmul',
    build: (at: At) => ({ y: contract(tensor('a', 'f32', { m: at('m'), group: at('group'), n: at('n') }), tensor('b', 'f32', { p: at('p'), group: at('group'), n: at('n') }), 'group', 'n') }),
  },
  {
    name: 'rotary positions', small: { head: 2 }, large: { head: 32, n: 4096 }, flavour: 'float' as const, bounds: () => ({ y: 200 * unit }), torch: '1',
    build: (at: At) => {
      const x = tensor('x', 'bf16', { n: at('n'), head: at('head'), pair: 64, part: 2 }), angle = mul(cast(iota('n'), 'f32'), tensor('frequency', 'f32', { pair: 64 }))
      const even = slice(x, 'part', { to: 1, as: 'part' }), odd = slice(x, 'part', { from: 1, as: 'part' }), c = cos(angle), s = sin(angle)
      return { y: merge(concat([sub(mul(even, c), mul(odd, s)), add(mul(even, s), mul(odd, c))], 'part'), ['pair', 'part'], 'dim') }
    },
  },
].map(p => everyday({ lengths: some(), ...p }))

export const everydayCases: Readonly<Record<string, readonly Case[]>> = {
  'everyday rows': rowPrograms, 'everyday attention': attentionPrograms, 'everyday searches': searchPrograms, 'everyday products': productPrograms,
}
