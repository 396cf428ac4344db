/**
 * SnapKV: the last queries of a prompt vote for the rows of the cache that are worth keeping.
 *
 * Li et al. 2024, "SnapKV: LLM Knows What You are Looking for Before Generation" (arXiv 2404.14469); the order of steps
 * and the 16-bit roundings are those of FasterDecoding/SnapKV at e216ddc. Deliberately different from that code: nothing
 * is repeated per query head; of equal scores the lowest position stays; kept rows are in order of position unless
 * `order` says otherwise; a prompt exactly as long as the capacity passes unchanged.
 */
import {
  add, cast, concat, contract, div, gather, iota, label, map, max, mean, minus, mul, pool, size, slice, softmax, sum, tensor, topK,
  type Tensor,
} from '../dsl/index.js'
import { WeftError } from '../dsl/errors.js'
import { snapkvBudget, type SnapKVOptions } from './options.js'
import type { FloatDtype, Policy, PolicyOutputs, PolicyProgram, PromptShape } from './policy.js'

type Float<A extends string> = Tensor<A, FloatDtype>

/**
 * The program. Inputs q [kvHead, group, query, dim], k and v [kvHead, key, dim], all of `dtype`. `selected`, the number
 * of rows kept besides the window, is a symbol, so that one compiled text serves every length and budget.
 */
export function snapkvProgram(o: SnapKVOptions, dtype: FloatDtype, dim: number): PolicyOutputs {
  const q = tensor('q', dtype, { kvHead: size('kvHead'), group: size('group'), query: size('query'), dim })
  const k = tensor('k', dtype, { kvHead: size('kvHead'), key: size('key'), dim })
  const v = tensor('v', dtype, { kvHead: size('kvHead'), key: size('key'), dim })
  const past = minus(size('key'), o.window)   // the rows before the window: those that are scored
  const round = <A extends string>(x: Float<A>): Float<A> => cast(x, o.rounding === 'reference' ? dtype : 'f32')

  // What the last queries look at. Row i of the window sees the keys up to its own: j ≤ past + i.
  const asking = slice(q, 'query', { from: minus(size('query'), o.window), as: 'window' })
  const logits = round(contract(asking, k, 'dim'))
  const scaled = o.rounding === 'reference' ? round(div(logits, Math.sqrt(dim))) : mul(logits, 1 / Math.sqrt(dim))
  const masked = map({ logit: scaled, key: iota('key'), row: iota('window', o.window) }, ({ logit, key, row }, $) =>
    $.where($.le($.sub(key, past), row), logit, -Infinity)) as Tensor<'kvHead' | 'group' | 'window' | 'key', 'f32'>
  const weights = round(softmax(masked, 'key'))

  // The vote. The window is cut off before pooling: it has no votes, and none may leak out of it.
  const seen = slice(weights, 'key', { to: past, as: 'past' })
  const byQueryHead = round(o.vote === 'sum' ? sum(seen, 'window') : mean(seen, 'window'))
  const votes: Float<'kvHead' | 'group' | 'past'> = label('votes', {
    none: () => byQueryHead,
    mean: () => round(mean(byQueryHead, 'group')),
    max: () => round(max(byQueryHead, 'group')),
    sum: () => round(sum(byQueryHead, 'group')),
  }[o.group]())
  const pooled = {
    max: () => round(pool.max(votes, 'past', { size: o.poolSize })),
    avg: () => round(pool.mean(votes, 'past', { size: o.poolSize, countPadding: true })),
    none: () => votes,
  }[o.pool]()

  // The choice, then the window.
  const scores = cast(pooled, 'f32')
  const selected = topK(scores, 'past', { k: size('selected'), as: 'kept', order: o.order })
  const positions = concat([selected, add(iota('kept', o.window), past)], 'kept')
  return { keys: gather(k, 'key', positions), values: gather(v, 'key', positions), positions, scores }
}

/** SnapKV with these options as a policy. */
export function snapkvPolicy(name: string, options: SnapKVOptions): Policy {
  return {
    name,
    settings: { ...options },
    perQueryHead: options.group === 'none',
    budget: shape => snapkvBudget(options, shape),
    build: shape => build(name, options, shape),
  }
}

function build(name: string, options: SnapKVOptions, shape: PromptShape): PolicyProgram {
  const budget = snapkvBudget(options, shape)
  const { kvHeads: kvHead, group, queries: query, length: key, dim } = shape
  if (budget.bypass) {
    throw new WeftError('bypass', `${name} keeps all ${key} rows of this prompt: there is nothing to compute`, { fix: 'pass k and v on as they are' })
  }
  return {
    outputs: { ...snapkvProgram(options, shape.dtype, dim) },
    sizes: { kvHead, group, query, key, selected: budget.kept - options.window },
    inputs: { q: { kvHead, group, query, dim }, k: { kvHead, key, dim }, v: { kvHead, key, dim } },
    budget,
  }
}
