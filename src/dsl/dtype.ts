/**
 * Element types: their bytes, their storage in JavaScript and their rounding.
 *
 * f16 and bf16 are storage types: arithmetic on them is done in f32 and gives f32 (`Arithmetic`), `cast` rounds back.
 */

export const dtypes = ['f32', 'f16', 'bf16', 'i32', 'u32', 'bool'] as const
export type Dtype = (typeof dtypes)[number]
/** What arithmetic on a dtype gives. */
export type Arithmetic<D extends Dtype> = D extends 'f16' | 'bf16' ? 'f32' : D

export const arithmetic = (dtype: Dtype): Dtype => (dtype === 'f16' || dtype === 'bf16' ? 'f32' : dtype)
export const isFloat = (dtype: Dtype): boolean => dtype === 'f32' || dtype === 'f16' || dtype === 'bf16'
export const isInteger = (dtype: Dtype): boolean => dtype === 'i32' || dtype === 'u32'

export const byteSize: { readonly [D in Dtype]: number } = { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4, bool: 1 }

/** Storage of one dtype: 16-bit floats as their bits, bool as 0 or 1. */
export type TypedArray<D extends Dtype = Dtype> = {
  f32: Float32Array
  f16: Uint16Array
  bf16: Uint16Array
  i32: Int32Array
  u32: Uint32Array
  bool: Uint8Array
}[D]

const constructors = { f32: Float32Array, f16: Uint16Array, bf16: Uint16Array, i32: Int32Array, u32: Uint32Array, bool: Uint8Array }

export const newArray = <D extends Dtype>(dtype: D, length: number): TypedArray<D> =>
  new constructors[dtype](length) as TypedArray<D>

/** The elements of little-endian bytes; copies where the bytes are not aligned. */
export function arrayOf<D extends Dtype>(dtype: D, bytes: Uint8Array): TypedArray<D> {
  const size = byteSize[dtype]
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  return new constructors[dtype](aligned.buffer as ArrayBuffer, aligned.byteOffset, bytes.byteLength / size) as TypedArray<D>
}

const f32 = new Float32Array(1)
const u32 = new Uint32Array(f32.buffer)

/** The bits of the f16 nearest to x, ties to even; NaN becomes the quiet NaN 0x7e00 with x's sign. */
export function f16Bits(x: number): number {
  f32[0] = x
  const rounded = f32[0]
  const bits = u32[0]!
  const sign = (bits >>> 16) & 0x8000
  const magnitude = Math.abs(rounded)
  if (Number.isNaN(x)) return sign | 0x7e00
  // One rounding only: from the number itself, not from its f32, so that a double is never rounded twice.
  const exact = Math.abs(x)
  if (exact >= 65520) return sign | 0x7c00
  if (exact < 2 ** -14) return sign | roundEven(exact * 2 ** 24)   // subnormal; 1024 is the smallest normal
  const exponent = Math.min(exponentOf(magnitude), 15)
  const e = exact < 2 ** exponent ? exponent - 1 : exponent         // the f32 may have been rounded up to a power of two
  return sign | (((e + 15) << 10) + roundEven((exact / 2 ** e - 1) * 1024))
}

export function f16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
}

/** The bits of the bf16 nearest to x, ties to even; NaN becomes the quiet NaN 0x7fc0 with x's sign. */
export function bf16Bits(x: number): number {
  f32[0] = x
  const bits = u32[0]!
  if (Number.isNaN(x)) return ((bits >>> 16) & 0x8000) | 0x7fc0
  // A double is first rounded to f32; where that lands exactly on a bf16 tie, look where the double really lay.
  let down = bits >>> 16
  const rest = bits & 0xffff
  if (rest > 0x8000) return (down + 1) & 0xffff
  if (rest < 0x8000) return down
  const nearest = Math.abs(f32[0]!)
  const exact = Math.abs(x)
  if (exact > nearest || (exact === nearest && (down & 1) === 1)) down += 1
  return down & 0xffff
}

export function bf16Value(bits: number): number {
  u32[0] = bits << 16
  return f32[0]!
}

function exponentOf(x: number): number {
  f32[0] = x
  return ((u32[0]! >>> 23) & 255) - 127
}

function roundEven(x: number): number {
  const low = Math.floor(x)
  const rest = x - low
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low
}

/** A number as the dtype holds it. Floats: to nearest even. Integers: modulo 2^32. */
export const round: { readonly [D in Dtype]: (x: number) => number } = {
  f32: Math.fround,
  f16: x => f16Value(f16Bits(x)),
  bf16: x => bf16Value(bf16Bits(x)),
  i32: x => x | 0,
  u32: x => x >>> 0,
  bool: x => (x === 0 ? 0 : 1),
}

/** The number in element i of an array of that dtype; bool gives 0 or 1. */
export const reader: { readonly [D in Dtype]: (array: TypedArray, i: number) => number } = {
  f32: (a, i) => a[i]!,
  f16: (a, i) => f16Value(a[i]!),
  bf16: (a, i) => bf16Value(a[i]!),
  i32: (a, i) => a[i]!,
  u32: (a, i) => a[i]!,
  bool: (a, i) => a[i]!,
}

/** Stores a number that the dtype can hold. */
export const writer: { readonly [D in Dtype]: (array: TypedArray, i: number, x: number) => void } = {
  f32: (a, i, x) => { a[i] = x },
  f16: (a, i, x) => { a[i] = f16Bits(x) },
  bf16: (a, i, x) => { a[i] = bf16Bits(x) },
  i32: (a, i, x) => { a[i] = x },
  u32: (a, i, x) => { a[i] = x },
  bool: (a, i, x) => { a[i] = x },
}
