/** Comparing tensors, and short ways to make them. */
import { expect } from 'vitest'
import { bf16Bits, f16Bits, newArray, reader, type Dtype } from '../src/dsl/dtype.js'
import type { Expr } from '../src/dsl/index.js'
import { hostTensor, type HostTensor } from '../src/runtime/host-tensor.js'
import { interpret, type InterpretOptions } from '../src/runtime/reference.js'

/** The numbers of a tensor; bool as 0 and 1. */
export const numbers = (t: HostTensor): number[] => Array.from({ length: t.data.length }, (_, i) => reader[t.dtype](t.data, i))

/** A tensor of these numbers. */
export function tensorOf(dtype: Dtype, shape: Readonly<Record<string, number>>, values: readonly number[]): HostTensor {
  const data = newArray(dtype, values.length)
  values.forEach((x, i) => { data[i] = dtype === 'f16' ? f16Bits(x) : dtype === 'bf16' ? bf16Bits(x) : x })
  return hostTensor(dtype, shape, data)
}
export const f32 = (shape: Readonly<Record<string, number>>, values: readonly number[]): HostTensor => tensorOf('f32', shape, values)

/** The numbers of one expression. */
export const evaluate = (e: Expr, inputs: Readonly<Record<string, HostTensor>> = {}, options?: InterpretOptions): number[] =>
  numbers(interpret({ out: e }, inputs, options)['out']!)

/** The elements with the axes in another physical order. */
export function permuted(t: HostTensor, axes: readonly string[]): HostTensor {
  const shape = axes.map(a => t.shape[t.axes.indexOf(a)]!)
  const data = newArray(t.dtype, t.data.length)
  for (let i = 0; i < data.length; i++) {
    const at: Record<string, number> = {}
    for (let k = axes.length - 1, rest = i; k >= 0; k--) { at[axes[k]!] = rest % shape[k]!; rest = Math.floor(rest / shape[k]!) }
    data[i] = t.data[t.axes.reduce((offset, a, k) => offset * t.shape[k]! + at[a]!, 0)]!
  }
  return { dtype: t.dtype, axes, shape, data }
}

/**
 * Equal up to `bound`: −0 equals +0, NaN equals NaN, an infinity only itself. With bound 0 the numbers are the same.
 */
export function expectClose(actual: HostTensor, expected: HostTensor, bound = 0): void {
  expect({ dtype: actual.dtype, axes: actual.axes, shape: actual.shape }).toEqual({ dtype: expected.dtype, axes: expected.axes, shape: expected.shape })
  const a = numbers(actual), b = numbers(expected)
  expect(a.length).toBe(b.length)
  for (let i = 0; i < a.length; i++) {
    const x = a[i]!, y = b[i]!
    if (x === y || (Number.isNaN(x) && Number.isNaN(y)) || Math.abs(x - y) <= bound) continue
    expect.fail(`element ${i} of ${a.length} is ${x}, not ${y}: off by ${Math.abs(x - y)}, allowed are ${bound}`)
  }
}
