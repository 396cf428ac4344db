/**
 * What TypeScript knows about programs: wrong axes and dtypes are errors in the editor. Checked by `npx tsc --noEmit`;
 * run, it shows that the constructors refuse the same things.
 */
import { expect, expectTypeOf, test } from 'vitest'
import {
  add, all, argmax, cast, concat, constant, contract, eq, gather, iota, layerNorm, logSumExp, max, mean, merge, mul, pool, rename, size, slice, softmax, split,
  sum, tensor, topK, where, WeftError, type Tensor,
} from '../../src/dsl/index.js'

const q = tensor('q', 'bf16', ['head', 'window', 'dim'])
const k = tensor('k', 'bf16', ['head', 'key', 'dim'])
const mask = tensor('mask', 'bool', ['key'])
const index = tensor('index', 'i32', ['head', 'n'])
const n = tensor('count', 'i32', ['key'])
const refused = (f: () => unknown): void => { expect(f).toThrow(WeftError) }

test('inputs', () => {
  expectTypeOf(q).toEqualTypeOf<Tensor<'head' | 'window' | 'dim', 'bf16'>>()
  expectTypeOf(tensor('t', 'f16', { a: 4, b: size('n') })).toEqualTypeOf<Tensor<'a' | 'b', 'f16'>>()
  expectTypeOf(iota('key')).toEqualTypeOf<Tensor<'key', 'i32'>>()
  expectTypeOf(constant(1)).toEqualTypeOf<Tensor<never, 'f32'>>()
  expectTypeOf(constant(1, 'u32')).toEqualTypeOf<Tensor<never, 'u32'>>()
})

test('elementwise functions align by name and compute 16-bit floats in f32', () => {
  expectTypeOf(add(q, k)).toEqualTypeOf<Tensor<'head' | 'window' | 'dim' | 'key', 'f32'>>()
  expectTypeOf(mul(n, 2)).toEqualTypeOf<Tensor<'key', 'i32'>>()
  expectTypeOf(mul(q, size('key'))).toEqualTypeOf<Tensor<'head' | 'window' | 'dim', 'f32'>>()
  expectTypeOf(eq(n, 1)).toEqualTypeOf<Tensor<'key', 'bool'>>()
  expectTypeOf(cast(q, 'f16')).toEqualTypeOf<Tensor<'head' | 'window' | 'dim', 'f16'>>()
})

test('where', () => {
  expectTypeOf(where(mask, k, 0)).toEqualTypeOf<Tensor<'head' | 'key' | 'dim', 'f32'>>()
  expectTypeOf(where(mask, n, -1)).toEqualTypeOf<Tensor<'key', 'i32'>>()
  expectTypeOf(where(mask, true, false)).toEqualTypeOf<Tensor<'key', 'bool'>>()
  expectTypeOf(where(mask, 1, 0)).toEqualTypeOf<Tensor<'key', 'f32'>>()
  // @ts-expect-error the condition is not bool
  refused(() => where(n, 1, 0))
})

test('contract', () => {
  expectTypeOf(contract(q, k, 'dim')).toEqualTypeOf<Tensor<'head' | 'window' | 'key', 'f32'>>()
  expectTypeOf(contract(q, k, 'dim', 'head')).toEqualTypeOf<Tensor<'window' | 'key', 'f32'>>()
  // @ts-expect-error q has no axis 'key'
  refused(() => contract(q, k, 'key'))
  // @ts-expect-error no such axis
  refused(() => contract(q, k, 'dimm'))
  // @ts-expect-error whole numbers
  refused(() => contract(n, n, 'key'))
})

test('folds drop their axes', () => {
  expectTypeOf(sum(q, 'window')).toEqualTypeOf<Tensor<'head' | 'dim', 'f32'>>()
  expectTypeOf(sum(n, 'key')).toEqualTypeOf<Tensor<never, 'i32'>>()
  expectTypeOf(max(q, 'window', 'head')).toEqualTypeOf<Tensor<'dim', 'f32'>>()
  expectTypeOf(argmax(k, 'key')).toEqualTypeOf<Tensor<'head' | 'dim', 'i32'>>()
  expectTypeOf(all(mask, 'key')).toEqualTypeOf<Tensor<never, 'bool'>>()
  expectTypeOf(logSumExp(q, 'window')).toEqualTypeOf<Tensor<'head' | 'dim', 'f32'>>()
  // @ts-expect-error no such axis
  refused(() => sum(q, 'key'))
  // @ts-expect-error a mean of whole numbers would not be whole
  refused(() => mean(n, 'key'))
  // @ts-expect-error not a bool
  refused(() => all(n, 'key'))
})

test('composites and pools keep their axes', () => {
  expectTypeOf(softmax(k, 'key')).toEqualTypeOf<Tensor<'head' | 'key' | 'dim', 'f32'>>()
  expectTypeOf(layerNorm(k, 'dim')).toEqualTypeOf<Tensor<'head' | 'key' | 'dim', 'f32'>>()
  expectTypeOf(pool.max(k, 'key', { size: 7 })).toEqualTypeOf<Tensor<'head' | 'key' | 'dim', 'f32'>>()
  // @ts-expect-error no such axis
  refused(() => softmax(q, 'key'))
  // @ts-expect-error no such axis
  refused(() => pool.max(q, 'key', { size: 7 }))
  // @ts-expect-error whole numbers
  refused(() => pool.sum(n, 'key', { size: 3 }))
})

test('topK and gather', () => {
  const kept = topK(sum(k, 'dim'), 'key', { k: 4, as: 'kept' })
  expectTypeOf(kept).toEqualTypeOf<Tensor<'head' | 'kept', 'i32'>>()
  expectTypeOf(gather(k, 'key', kept)).toEqualTypeOf<Tensor<'head' | 'kept' | 'dim', 'bf16'>>()
  expectTypeOf(gather(mask, 'key', index)).toEqualTypeOf<Tensor<'head' | 'n', 'bool'>>()
  // @ts-expect-error no such axis
  refused(() => topK(q, 'key', { k: 4, as: 'kept' }))
  // @ts-expect-error whole numbers have no NaN: cast first
  refused(() => topK(n, 'key', { k: 1, as: 'kept' }))
  // @ts-expect-error no such axis
  refused(() => gather(q, 'key', kept))
  // @ts-expect-error an index is whole
  refused(() => gather(k, 'key', sum(q, 'dim')))
})

test('layout', () => {
  expectTypeOf(slice(k, 'key', { to: 3, as: 'past' })).toEqualTypeOf<Tensor<'head' | 'past' | 'dim', 'bf16'>>()
  expectTypeOf(rename(k, 'key', 'past')).toEqualTypeOf<Tensor<'head' | 'past' | 'dim', 'bf16'>>()
  expectTypeOf(split(tensor('t', 'i32', { a: 6 }), 'a', { b: 2, c: 3 })).toEqualTypeOf<Tensor<'b' | 'c', 'i32'>>()
  expectTypeOf(merge(tensor('t', 'i32', { a: 6, b: 2, c: 3 }), ['a', 'c'], 'd')).toEqualTypeOf<Tensor<'b' | 'd', 'i32'>>()
  expectTypeOf(concat([k, k], 'key')).toEqualTypeOf<Tensor<'head' | 'key' | 'dim', 'bf16'>>()
  // @ts-expect-error no such axis
  refused(() => slice(k, 'past', { to: 3, as: 'p' }))
  // @ts-expect-error no such axis
  refused(() => rename(k, 'past', 'p'))
  // @ts-expect-error no such axis
  refused(() => concat([k, k], 'past'))
})

test('a tensor over fewer axes stands where more are allowed, not the other way round', () => {
  expectTypeOf<Tensor<'a', 'f32'>>().toExtend<Tensor<'a' | 'b', 'f32'>>()
  expectTypeOf<Tensor<'a' | 'b', 'f32'>>().not.toExtend<Tensor<'a', 'f32'>>()
  expectTypeOf<Tensor<'a', 'f32'>>().not.toExtend<Tensor<'a', 'f16'>>()
})
