/** The programs whose kernels are kept as golden text. */
import { contract, gather, layerNorm, mul, neg, size, softmax, sub, sum, tensor, topK, type Expr, type Sizes, type Tensor } from '../../src/dsl/index.js'
import { policyByName } from '../../src/snapkv/index.js'
import { emit, lower, type EmittedKernel } from '../../src/codegen/pipeline.js'
import { plan } from '../../src/codegen/plan.js'
import { targetOf } from '../../src/codegen/target.js'

export interface Golden {
  readonly name: string
  readonly outputs: Readonly<Record<string, Expr>>
  readonly sizes: Sizes
  /** Kernels at most. */
  readonly kernels: number
}

/** A preset without its scores: 8 heads in groups of 4, dim 128, bf16. */
export function preset(name: string, length = 16384): Golden {
  const { outputs: { keys, values, positions }, sizes } = policyByName(name).build({ dtype: 'bf16', kvHeads: 8, group: 4, queries: 64, length, dim: 128 })
  return { name, outputs: { keys, values, positions }, sizes, kernels: 4 }
}

const x = tensor('x', 'f32', ['row', 'column'])
const q = tensor('q', 'bf16', { head: size('head'), query: size('query'), dim: 64 }), k = tensor('k', 'bf16', { head: size('head'), key: size('key'), dim: 64 }), v = tensor('v', 'bf16', { head: size('head'), key: size('key'), dim: 64 })
const points = tensor('points', 'f32', { point: size('point'), dim: 32 }), queries = tensor('queries', 'f32', { query: size('query'), dim: 32 })

const nearest = (): Tensor => {
  const distance = sub(sum(mul(points, points) as typeof points, 'dim'), mul(contract(queries, points, 'dim'), 2)) as Tensor<'point' | 'query', 'f32'>
  return topK(neg(distance), 'point', { k: 10, as: 'near', order: 'score' })
}

export const goldens: readonly Golden[] = [
  preset('snapkv'), preset('snapkv-official'), preset('snapkv-kvpress'),
  { name: 'softmax', outputs: { y: softmax(x, 'column') }, sizes: { row: 4096, column: 1000 }, kernels: 1 },
  { name: 'layer-norm', outputs: { y: layerNorm(x, 'column', { weight: tensor('weight', 'f32', ['column']), bias: tensor('bias', 'f32', ['column']) }) }, sizes: { row: 4096, column: 1000 }, kernels: 1 },
  { name: 'attention', outputs: { o: contract(softmax(mul(contract(q, k, 'dim'), 0.125), 'key'), v, 'key') }, sizes: { head: 32, query: 1024, key: 1024 }, kernels: 1 },
  { name: 'nearest', outputs: { near: nearest(), found: gather(points, 'point', nearest() as Tensor<'near' | 'query', 'i32'>) }, sizes: { point: 10000, query: 200 }, kernels: 4 },
]

/** As an H100 gets them, unless said otherwise. */
export const kernelsOf = (g: Golden, arch = 'sm_90a'): EmittedKernel[] => lower(plan(g.outputs, { sizes: g.sizes }), {}, targetOf(arch)).map(l => emit(l.kernel))
