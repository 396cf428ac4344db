/**
 * The interpreter's values: every node's elements, row-major over its axes, as numbers that its dtype can hold. 16-bit
 * floats are kept widened (f32 holds them exactly), so that no rule needs to know about their bits.
 */
import { bf16Bits, bf16Value, f16Bits, f16Value, isFloat, newArray, type Dtype } from '../../dsl/dtype.js'
import { WeftError } from '../../dsl/errors.js'
import type { HostTensor } from '../host-tensor.js'

export type Data = Float32Array | Int32Array | Uint32Array | Uint8Array

export interface Value {
  readonly axes: readonly string[]
  readonly shape: readonly number[]
  readonly data: Data
}

export const product = (lengths: readonly number[]): number => lengths.reduce((a, b) => a * b, 1)

export function newData(dtype: Dtype, length: number): Data {
  return isFloat(dtype) ? new Float32Array(length) : (newArray(dtype, length) as Data)
}

/** Elements between neighbours along each named axis; 0 along an axis that the value does not have. */
export function stridesAlong(value: Value, axes: readonly string[]): number[] {
  const strides = new Map<string, number>()
  let stride = 1
  for (let i = value.axes.length - 1; i >= 0; i--) {
    strides.set(value.axes[i]!, stride)
    stride *= value.shape[i]!
  }
  return axes.map(name => strides.get(name) ?? 0)
}

/**
 * Walks the positions of named axes in row-major order, a row (the last axis) at a time.
 * @param row gets each operand's offset at the row's start and its step along the row; the arrays are reused
 */
export function eachRow(
  axes: readonly string[], shape: readonly number[], operands: readonly Value[],
  row: (length: number, offsets: readonly number[], steps: readonly number[]) => void,
): void {
  if (shape.includes(0)) return
  const strides = operands.map(v => stridesAlong(v, axes))
  const last = axes.length - 1
  const length = last < 0 ? 1 : shape[last]!
  const steps = strides.map(s => (last < 0 ? 0 : s[last]!))
  const offsets = operands.map(() => 0)
  const position = new Array<number>(Math.max(last, 0)).fill(0)
  for (;;) {
    row(length, offsets, steps)
    let axis = last - 1
    for (; axis >= 0; axis--) {
      const wraps = position[axis]! + 1 === shape[axis]!
      const by = wraps ? -position[axis]! : 1
      for (let k = 0; k < offsets.length; k++) offsets[k]! += by * strides[k]![axis]!
      position[axis]! += by
      if (!wraps) break
    }
    if (axis < 0) return
  }
}

/** The offsets of all positions of some of a value's axes, the last one named fastest. */
export function offsetsOver(value: Value, names: readonly string[]): Uint32Array {
  const lengths = names.map(n => value.shape[value.axes.indexOf(n)]!)
  const offsets = new Uint32Array(product(lengths))
  let i = 0
  eachRow(names, lengths, [value], (length, [start], [step]) => {
    for (let j = 0; j < length; j++) offsets[i++] = start! + j * step!
  })
  return offsets
}

/** The same elements with the axes in another order. No copy where the order is the same. */
export function reordered(value: Value, axes: readonly string[]): Value {
  if (axes.every((name, i) => value.axes[i] === name)) return value
  const shape = axes.map(name => value.shape[value.axes.indexOf(name)]!)
  const data = value.data.slice(), from = value.data
  let i = 0
  eachRow(axes, shape, [value], (length, [start], [step]) => {
    for (let j = 0; j < length; j++) data[i++] = from[start! + j * step!]!
  })
  return { axes, shape, data }
}

const tables = new Map<Dtype, Float32Array>()
/** All values of a 16-bit dtype, by their bits. */
function table(dtype: 'f16' | 'bf16'): Float32Array {
  let values = tables.get(dtype)
  if (values === undefined) {
    const value = dtype === 'f16' ? f16Value : bf16Value
    values = Float32Array.from({ length: 65536 }, (_, bits) => value(bits))
    tables.set(dtype, values)
  }
  return values
}

/** An input's elements. Axes may lie in another order than `axes`. */
export function fromHost(name: string, tensor: HostTensor, dtype: Dtype, axes: readonly string[]): Value {
  if (tensor.dtype !== dtype) {
    throw new WeftError('dtype', `the input '${name}' holds ${tensor.dtype}, but is declared ${dtype}`, { fix: 'convert the data, or declare the other dtype' })
  }
  if (tensor.data.length !== product(tensor.shape)) {
    throw new WeftError('shape', `the input '${name}' holds ${tensor.data.length} elements for the shape ${tensor.shape.join(' × ') || '(none)'}`, { fix: `pass ${product(tensor.shape)}` })
  }
  let data = tensor.data as Data
  if (dtype === 'f16' || dtype === 'bf16') {
    const values = table(dtype), bits = tensor.data
    data = new Float32Array(bits.length)
    for (let i = 0; i < bits.length; i++) data[i] = values[bits[i]!]!
  } else if (dtype === 'bool') {
    data = Uint8Array.from(tensor.data, x => (x === 0 ? 0 : 1))
  }
  return reordered({ axes: tensor.axes, shape: tensor.shape, data }, axes)
}

/** An output's elements. They are the caller's own: nothing else refers to the array. */
export function toHost(value: Value, dtype: Dtype): HostTensor {
  const { axes, shape } = value
  if (dtype !== 'f16' && dtype !== 'bf16') return { dtype, axes, shape, data: value.data.slice() }
  const bits = dtype === 'f16' ? f16Bits : bf16Bits
  const data = newArray(dtype, value.data.length)
  for (let i = 0; i < data.length; i++) data[i] = bits(value.data[i]!)
  return { dtype, axes, shape, data }
}
