/** Data in JavaScript's memory: a typed array in row-major order over named axes. */
import { newArray, type Dtype, type TypedArray } from '../dsl/dtype.js'
import { WeftError } from '../dsl/errors.js'

export interface HostTensor<D extends Dtype = Dtype> {
  readonly dtype: D
  /** Axis names, outermost first. */
  readonly axes: readonly string[]
  /** Length of each axis. */
  readonly shape: readonly number[]
  /** 16-bit floats as their bits, bool as 0 or 1. */
  readonly data: TypedArray<D>
}

export const elementCount = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** Wraps an array, or makes one of zeros. The shape is by axis name, in physical order. */
export function hostTensor<D extends Dtype>(dtype: D, shape: Readonly<Record<string, number>>, data?: TypedArray<D>): HostTensor<D> {
  const lengths = Object.values(shape), count = elementCount(lengths)
  if (data !== undefined && data.length !== count) {
    throw new WeftError('shape', `${data.length} elements for the shape ${lengths.join(' × ') || '(none)'}`, { fix: `pass ${count}` })
  }
  return { dtype, axes: Object.keys(shape), shape: lengths, data: data ?? newArray(dtype, count) }
}
