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

/** The same elements with the axes in another physical order. */
export function inOrder<D extends Dtype>(t: HostTensor<D>, axes: readonly string[]): HostTensor<D> {
  if (axes.every((a, i) => a === t.axes[i])) return t
  const from = axes.map(a => t.axes.indexOf(a))
  const missing = axes.find((_, i) => from[i] === -1)
  if (missing !== undefined) throw new WeftError('shape', `the tensor has no axis '${missing}'`, { fix: `its axes are ${t.axes.join(', ')}` })
  const strides = t.shape.map((_, i) => elementCount(t.shape.slice(i + 1)))
  const shape = from.map(i => t.shape[i]!), data = newArray(t.dtype, t.data.length)
  const position = shape.map(() => 0)
  for (let n = 0, at = 0; n < data.length; n++) {
    data[n] = t.data[at]!
    for (let d = shape.length - 1; d >= 0; d--) {
      at += strides[from[d]!]!
      if (++position[d]! < shape[d]!) break
      at -= strides[from[d]!]! * shape[d]!
      position[d] = 0
    }
  }
  return { dtype: t.dtype, axes, shape, data }
}
