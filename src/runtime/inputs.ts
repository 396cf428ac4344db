/**
 * What a program is run with, checked before any byte is copied. A device reads whatever lies in memory: an array of
 * another type would be read as raw bytes, and one that is too short would be read past its end, which poisons the
 * device for the rest of the process.
 */
import { inputsOf } from '../dsl/bind.js'
import { byteSize, newArray, type Dtype, type TypedArray } from '../dsl/dtype.js'
import { WeftError } from '../dsl/errors.js'
import type { Expr, Of } from '../dsl/expr.js'
import { evaluateSize, type Sizes } from '../dsl/size.js'
import { DeviceBuffer } from './buffer.js'
import { elementCount, type HostTensor } from './host-tensor.js'

/** Data on a device: row-major over named axes. */
export interface DeviceTensor {
  readonly dtype: Expr['dtype']
  readonly axes: readonly string[]
  readonly shape: readonly number[]
  readonly buffer: DeviceBuffer
}
/** A typed array alone is enough where `sizes` tells every length. */
export type Input = HostTensor | DeviceTensor | TypedArray

type Declared = Of<'tensor'>

export const onDevice = (t: HostTensor | DeviceTensor): t is DeviceTensor => 'buffer' in t

/** The inputs with their axes and shapes. That all are there, and that their lengths agree, is `bindSizes`' part. */
export function checkInputs(outputs: Readonly<Record<string, Expr>>, given: Readonly<Record<string, Input>>, sizes: Sizes): Record<string, HostTensor | DeviceTensor> {
  const inputs = inputsOf(outputs)
  return Object.fromEntries(Object.entries(given).map(([name, x]) => {
    const declared = inputs.get(name)
    if (declared === undefined) throw new WeftError('input', `the program has no input '${name}'`, { fix: `its inputs are ${[...inputs.keys()].join(', ')}` })
    return [name, checkInput(declared, x, sizes)]
  }))
}

function checkInput(declared: Declared, x: Input, sizes: Sizes): HostTensor | DeviceTensor {
  // From JavaScript anything may come.
  const given: unknown = x
  if (typeof given !== 'object' || given === null || !(ArrayBuffer.isView(given) || 'axes' in given)) {
    throw new WeftError('input', `the input '${declared.name}' is ${given === null ? 'null' : Array.isArray(given) ? 'a plain array' : given === undefined ? 'undefined' : `a ${typeof given}`}`, { fix: `pass a ${arrayName(declared.dtype)}, or { dtype, axes, shape, data }` })
  }
  if (!('axes' in x)) return bare(declared, x, sizes)
  checkForm(declared, x)
  if (onDevice(x)) checkOnDevice(declared, x)
  else {
    checkArray(declared, x.data)
    const count = elementCount(x.shape)
    if (x.data.length !== count) throw new WeftError('shape', `the input '${declared.name}' holds ${x.data.length} elements for the shape ${x.shape.join(' × ') || '(none)'}`, { fix: `pass ${count}` })
  }
  return x
}

/** A bare typed array takes the declared axes, if all their sizes are given. */
function bare(declared: Declared, data: TypedArray, sizes: Sizes): HostTensor {
  checkArray(declared, data)
  const shape = declared.axes.map(a => evaluateSize(a.size, sizes))
  if (elementCount(shape) !== data.length) throw new WeftError('shape', `the input '${declared.name}' has ${data.length} elements, ${shape.join(' × ')} are declared`, { fix: 'pass { dtype, axes, shape, data }, or other sizes' })
  return { dtype: declared.dtype, axes: names(declared), shape, data }
}

function checkForm(declared: Declared, { dtype, axes, shape }: HostTensor | DeviceTensor): void {
  const { name } = declared
  if (dtype !== declared.dtype) throw new WeftError('dtype', `the input '${name}' is ${dtype}, declared as ${declared.dtype}`, { fix: `convert it, or declare tensor('${name}', '${dtype}', ...)` })
  const wanted = names(declared), fix = wanted.length === 0 ? 'pass one element without axes' : `its axes are ${wanted.join(', ')}`
  if (!Array.isArray(axes) || !Array.isArray(shape)) throw new WeftError('shape', `the input '${name}' does not list its axes and its shape`, { fix })
  const missing = wanted.find(a => !axes.includes(a)), strange = axes.find(a => !wanted.includes(a))
  if (missing !== undefined) throw new WeftError('shape', `the input '${name}' has no axis '${missing}'`, { fix })
  if (strange !== undefined) throw new WeftError('shape', `the input '${name}' has an axis '${strange}', which is not declared`, { fix })
  if (axes.length !== wanted.length) throw new WeftError('shape', `the input '${name}' has an axis twice: ${axes.join(', ')}`, { fix })
  if (shape.length !== axes.length) throw new WeftError('shape', `the input '${name}' has ${axes.length} axes, but ${shape.length} lengths`, { fix: `give a length for each of ${axes.join(', ')}` })
  const length = shape.find(n => !Number.isSafeInteger(n) || n < 0)
  if (length !== undefined) throw new WeftError('shape', `the input '${name}' has the shape ${shape.join(' × ')}`, { fix: 'give whole numbers that are not negative' })
}

function checkArray({ name, dtype }: Declared, data: unknown): void {
  if (data instanceof newArray(dtype, 0).constructor) return
  const what = typeof data === 'object' && data !== null ? data.constructor?.name ?? 'an object' : String(data)
  const bits = dtype === 'f16' || dtype === 'bf16' ? ' of their bits' : ''
  throw new WeftError('dtype', `the data of the input '${name}' is ${what}, but ${dtype} is held in ${arrayName(dtype)}`, { fix: `pass a ${arrayName(dtype)}${bits}, or declare another dtype` })
}

function checkOnDevice(declared: Declared, { axes, shape, buffer }: DeviceTensor): void {
  const { name, dtype } = declared, wanted = names(declared)
  if (!(buffer instanceof DeviceBuffer)) throw new WeftError('input', `the buffer of the input '${name}' is no device buffer`, { fix: 'allocate it with device.alloc, or wrap an address with device.wrap' })
  // The host's arrays are put in order while they are copied; nothing is copied here.
  if (wanted.some((a, i) => a !== axes[i])) {
    throw new WeftError('shape', `the input '${name}' lies on the device over ${axes.join(', ')}, declared is the order ${wanted.join(', ')}`, { fix: `declare tensor('${name}', ...) with its axes in the order ${axes.join(', ')}, or store it in the declared one` })
  }
  const bytes = elementCount(shape) * byteSize[dtype]
  if (buffer.bytes < bytes) throw new WeftError('shape', `the input '${name}' needs ${bytes} bytes for ${shape.join(' × ') || 'one element'} of ${dtype}, its buffer has ${buffer.bytes}`, { fix: 'allocate a larger one, or pass its true shape' })
}

/** Buffers for outputs that there are not would be left as they were, without a word. */
export function checkOutputs(outputs: Readonly<Record<string, Expr>>, buffers: Readonly<Record<string, DeviceBuffer>> = {}): void {
  const strange = Object.keys(buffers).find(name => !Object.hasOwn(outputs, name))
  if (strange !== undefined) throw new WeftError('output', `the program has no output '${strange}'`, { fix: `its outputs are ${Object.keys(outputs).join(', ')}` })
}

const names = (e: Declared): string[] => e.axes.map(a => a.name)
const arrayName = (dtype: Dtype): string => newArray(dtype, 0).constructor.name
