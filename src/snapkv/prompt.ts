/**
 * Between files or runtimes, which know query heads and batches, and programs, which know KV heads and groups. All of it
 * is reshaping: nothing is repeated, moved or converted, and a batch is nothing but more KV heads.
 */
import type { Dtype, TypedArray } from '../dsl/index.js'
import { newArray } from '../dsl/dtype.js'
import { WeftError } from '../dsl/errors.js'
import type { HostTensor } from '../runtime/host-tensor.js'
import type { FloatDtype, Policy, PromptShape } from './policy.js'

/** Elements with their shape, as a file holds them. */
export interface PromptTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: ArrayLike<number> | ArrayLike<bigint>
}
/** q [(batch,) queryHead, query, dim]; k, v [(batch,) kvHead, key, dim]; one dtype of f32, f16, bf16. */
export interface PromptTensors {
  readonly q: PromptTensor
  readonly k: PromptTensor
  readonly v: PromptTensor
}

export interface Prompt {
  /** `kvHeads` counts those of all prompts of the batch. */
  readonly shape: PromptShape
  /** Undefined where the tensors have no batch axis. */
  readonly batch: number | undefined
  /** q [kvHead, group, query, dim], k and v [kvHead, key, dim]: the same elements, not copied. */
  readonly inputs: { readonly q: HostTensor<FloatDtype>; readonly k: HostTensor<FloatDtype>; readonly v: HostTensor<FloatDtype> }
}

const shapeError = (reason: string, fix: string): WeftError => new WeftError('shape', reason, { fix })
const text = (t: PromptTensor): string => `${t.dtype}[${t.shape.join(', ')}]`
const floats: readonly string[] = ['f32', 'f16', 'bf16'] satisfies readonly Dtype[]

/** Checks that the three tensors belong together and gives them a program's axes. @throws WeftError `shape` */
export function promptOf(tensors: PromptTensors): Prompt {
  const { q, k, v } = tensors
  for (const [name, t] of Object.entries(tensors) as [string, PromptTensor][]) {
    if (!floats.includes(t.dtype)) throw shapeError(`${name} has dtype ${t.dtype}`, 'use f32, f16 or bf16')
    const axes = name === 'q' ? 'queryHead, query, dim' : 'kvHead, key, dim'
    if (t.shape.length !== 3 && t.shape.length !== 4) throw shapeError(`${name} is ${text(t)}`, `its axes are [${axes}], with a batch axis before them or without`)
    if (t.shape.some(n => n < 1)) throw shapeError(`${name} is ${text(t)}, which has no elements`, 'pass a prompt of at least two tokens')
    const count = t.shape.reduce((a, b) => a * b, 1)
    if (t.data.length !== count) throw shapeError(`${name} is ${text(t)}, but has ${t.data.length} elements`, `pass ${count}`)
  }
  if (k.shape.join() !== v.shape.join()) throw shapeError(`k is ${text(k)}, but v is ${text(v)}`, 'give both the same shape')
  if (q.dtype !== k.dtype || v.dtype !== k.dtype) throw shapeError(`q, k and v are ${q.dtype}, ${k.dtype} and ${v.dtype}`, 'give all three the same dtype')
  if (q.shape.length !== k.shape.length || (q.shape.length === 4 && q.shape[0] !== k.shape[0])) {
    throw shapeError(`q is ${text(q)}, but k is ${text(k)}`, 'give all three the same batch axis, or none')
  }
  const batch = q.shape.length === 4 ? q.shape[0]! : undefined
  const [queryHeads, queries, dim] = q.shape.slice(-3) as [number, number, number]
  const [heads, length, kDim] = k.shape.slice(-3) as [number, number, number]
  if (dim !== kDim) throw shapeError(`q has dim ${dim}, but k has dim ${kDim}`, 'pass queries and keys of the same layer')
  if (queryHeads % heads !== 0) throw shapeError(`${queryHeads} query heads do not divide evenly among ${heads} KV heads`, 'query head h reads KV head ⌊h / group⌋: pass a multiple')
  if (queries > length) throw shapeError(`q has ${queries} rows, but the prompt only ${length} tokens`, 'pass the last queries of the same prompt')
  const kvHeads = (batch ?? 1) * heads, group = queryHeads / heads, dtype = k.dtype as FloatDtype
  const host = (t: PromptTensor, axes: readonly string[], shape: readonly number[]): HostTensor<FloatDtype> =>
    ({ dtype, axes, shape, data: t.data as TypedArray<FloatDtype> })
  const rows = ['kvHead', 'key', 'dim'], rowShape = [kvHeads, length, dim]
  return {
    shape: { dtype, kvHeads, group, queries, length, dim }, batch,
    inputs: { q: host(q, ['kvHead', 'group', 'query', 'dim'], [kvHeads, group, queries, dim]), k: host(k, rows, rowShape), v: host(v, rows, rowShape) },
  }
}

/** Results per head: `head` is the query head if the policy chooses per query head, else the KV head. */
export interface Compressed {
  /** [(batch,) head, kept, dim], dtype of k. */
  readonly keys: HostTensor<FloatDtype>
  /** [(batch,) head, kept, dim], dtype of v. */
  readonly values: HostTensor<FloatDtype>
  /** [(batch,) head, kept]. */
  readonly positions: HostTensor<'i32'>
  /** [(batch,) head, past]; absent after a bypass, or if the program was run without them. */
  readonly scores?: HostTensor<'f32'>
  /** Tokens of the prompt. The next token's position is this, not the number of rows kept. */
  readonly length: number
}

/** A program's outputs with kvHead × group as one axis `head`, and the batch axis restored. No copy. */
export function compressed(prompt: Prompt, outputs: Readonly<Record<'keys' | 'values' | 'positions', HostTensor>> & { readonly scores?: HostTensor }): Compressed {
  return {
    keys: byHead(prompt, outputs.keys as HostTensor<FloatDtype>), values: byHead(prompt, outputs.values as HostTensor<FloatDtype>),
    positions: byHead(prompt, outputs.positions as HostTensor<'i32'>),
    ...(outputs.scores === undefined ? {} : { scores: byHead(prompt, outputs.scores as HostTensor<'f32'>) }),
    length: prompt.shape.length,
  }
}

/** What comes out when the policy's budget says bypass: every row as it is, and no scores. */
export function passUnchanged(policy: Policy, prompt: Prompt): Compressed {
  const { kvHeads, group, length, dim } = prompt.shape
  const repeat = policy.perQueryHead ? group : 1
  const rows = (t: HostTensor<FloatDtype>): HostTensor<FloatDtype> =>
    byHead(prompt, repeat === 1 ? t : { ...t, axes: ['kvHead', 'group', 'key', 'dim'], shape: [kvHeads, group, length, dim], data: repeated(t, kvHeads, group) })
  const positions = new Int32Array(kvHeads * repeat * length).map((_, i) => i % length)
  return {
    keys: kept(rows(prompt.inputs.k)), values: kept(rows(prompt.inputs.v)),
    positions: byHead(prompt, { dtype: 'i32', axes: ['kvHead', 'group', 'kept'], shape: [kvHeads, repeat, length], data: positions }),
    length,
  }
}
const kept = <D extends Dtype>(t: HostTensor<D>): HostTensor<D> => ({ ...t, axes: t.axes.map(a => (a === 'key' ? 'kept' : a)) })

function repeated(t: HostTensor<FloatDtype>, heads: number, times: number): TypedArray<FloatDtype> {
  const each = t.data.length / heads, data = newArray(t.dtype, t.data.length * times)
  for (let h = 0; h < heads; h++) for (let g = 0; g < times; g++) data.set(t.data.subarray(h * each, (h + 1) * each), (h * times + g) * each)
  return data
}

function byHead<D extends Dtype>(prompt: Prompt, t: HostTensor<D>): HostTensor<D> {
  const skip = t.axes[1] === 'group' ? 2 : 1
  const heads = t.shape.slice(0, skip).reduce((a, b) => a * b, 1)
  const front = prompt.batch === undefined ? [heads] : [prompt.batch, heads / prompt.batch]
  return { ...t, axes: [...(prompt.batch === undefined ? [] : ['batch']), 'head', ...t.axes.slice(skip)], shape: [...front, ...t.shape.slice(skip)] }
}
