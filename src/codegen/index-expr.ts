/**
 * Index arithmetic with ranges. Every expression knows the least and greatest value it can take, so that guards vanish
 * where they are provably true and 64 bits are used only where 32 cannot be proven to do.
 */
import { fixedSize, printSize, type Size, type Sizes } from '../dsl/size.js'
import { padded, type Dim, type Index, type Value } from './kernel.js'

export type { Index } from './kernel.js'

/** Lengths are i32 arguments; 2^31 − 2^15 leaves room for a tile beyond the end. */
export const longest = 2 ** 31 - 2 ** 15

export const constant = (value: number): Index => ({ op: 'const', value, min: value, max: value })
export const zero = constant(0)
export const scalar = (name: string, max: number, below?: string): Index =>
  ({ op: 'scalar', name, min: 0, max, ...(below === undefined ? {} : { below }) })
export const symbol = (name: string): Index => ({ op: 'symbol', name, min: 0, max: longest })
// A dimension that its threads do not divide has coordinates beyond its extent.
export const dimIndex = (dim: Dim): Index => ({ op: 'dim', dim, min: 0, max: padded(dim) - 1 })
export const valueIndex = (value: Value, max: number, below?: string): Index =>
  ({ op: 'value', value, min: 0, max, ...(below === undefined ? {} : { below }) })

const isConst = (x: Index): x is Extract<Index, { op: 'const' }> => x.op === 'const'
const is = (x: Index, value: number): boolean => x.op === 'const' && x.value === value
const product = (x: number, y: number): number => (x === 0 || y === 0 ? 0 : x * y)

export function add(a: Index, b: Index): Index {
  if (isConst(a) && isConst(b)) return constant(a.value + b.value)
  if (is(a, 0)) return b
  if (is(b, 0)) return a
  if (isConst(a)) return add(b, a)
  if (a.op === 'add' && isConst(a.b) && isConst(b)) return add(a.a, constant(a.b.value + b.value))
  return { op: 'add', a, b, min: a.min + b.min, max: a.max + b.max }
}
export function mul(a: Index, b: Index): Index {
  if (isConst(a) && isConst(b)) return constant(a.value * b.value)
  if (isConst(a)) return mul(b, a)
  if (is(b, 0)) return zero
  if (is(b, 1)) return a
  if (a.op === 'mul' && isConst(a.b) && isConst(b)) return mul(a.a, constant(a.b.value * b.value))
  const corners = [product(a.min, b.min), product(a.min, b.max), product(a.max, b.min), product(a.max, b.max)]
  return { op: 'mul', a, b, min: Math.min(...corners), max: Math.max(...corners) }
}
export const sub = (a: Index, b: Index): Index => add(a, mul(b, constant(-1)))

/** Quotient of non-negative numbers, rounded down. */
export function div(a: Index, b: Index): Index {
  if (is(b, 1)) return a
  if (is(b, 0)) return zero   // an empty axis: nothing is at any position
  if (isConst(a) && isConst(b)) return constant(Math.floor(a.value / b.value))
  if (a.min >= 0 && a.max < b.min) return zero
  if (isConst(b) && a.op === 'mul' && isConst(a.b) && a.b.value % b.value === 0) return mul(a.a, constant(a.b.value / b.value))
  return { op: 'div', a, b, min: Math.floor(a.min / Math.max(1, b.max)), max: Math.floor(a.max / Math.max(1, b.min)) }
}
export function mod(a: Index, b: Index): Index {
  if (is(b, 1) || is(b, 0)) return zero
  if (isConst(a) && isConst(b)) return constant(a.value % b.value)
  if (a.min >= 0 && a.max < b.min) return a
  return { op: 'mod', a, b, min: 0, max: Math.max(0, Math.min(a.max, b.max - 1)) }
}
export function min(a: Index, b: Index): Index {
  if (a.max <= b.min) return a
  if (b.max <= a.min) return b
  return { op: 'min', a, b, min: Math.min(a.min, b.min), max: Math.min(a.max, b.max) }
}
export function max(a: Index, b: Index): Index {
  if (a.min >= b.max) return a
  if (b.min >= a.max) return b
  return { op: 'max', a, b, min: Math.max(a.min, b.min), max: Math.max(a.max, b.max) }
}
export const ceilDiv = (a: Index, b: Index): Index => (isConst(b) ? div(add(a, constant(b.value - 1)), b) : div(sub(add(a, b), constant(1)), b))

/** A size of the program as an index: symbols become kernel arguments. */
export const sizeIndex = (s: Size): Index => {
  // Each part of a size without negative terms is below the whole, so below `longest` as well; a constant may add its own.
  const plain = s.terms.every(([, c]) => c > 0) && Math.abs(s.constant) < 2 ** 14
  const capped = (i: Index): Index => (plain && !isConst(i) ? { ...i, max: Math.min(i.max, longest + 2 ** 14) } as Index : i)
  const index = s.terms.reduce((sum, [name, c]) => capped(add(sum, capped(mul(symbol(name), constant(c))))), constant(s.constant))
  // An axis is never negative, whatever the arithmetic of its parts would allow.
  return isConst(index) ? index : { ...index, min: Math.max(0, index.min), max: Math.min(longest, index.max) } as Index
}

/** The same index where more is known than its parts tell: it lies in 0 .. max. */
export const atMost = (i: Index, max: number): Index => ({ ...i, min: Math.max(0, i.min), max: Math.min(max, i.max) })

/** Canonical text of a size, the form that `below` compares. */
export const boundText = (s: Size): string => printSize(s)

/** Whether 0 <= i < length for certain. */
export function provablyInside(i: Index, length: Size): boolean {
  if (i.min < 0) return false
  const fixed = fixedSize(length)
  if (fixed !== undefined && i.max < fixed) return true
  return (i.op === 'scalar' || i.op === 'value') && i.below === boundText(length)
}

/** The value for given symbols and scalars; tile coordinates and data have none. */
export function evaluate(i: Index, sizes: Sizes): number {
  switch (i.op) {
    case 'const': return i.value
    case 'scalar': case 'symbol': {
      const value = sizes[i.name]
      if (value === undefined) throw new Error(`the index ${i.name} has no value here`)
      return value
    }
    case 'add': return evaluate(i.a, sizes) + evaluate(i.b, sizes)
    case 'mul': return evaluate(i.a, sizes) * evaluate(i.b, sizes)
    case 'div': return Math.floor(evaluate(i.a, sizes) / evaluate(i.b, sizes))
    case 'mod': return evaluate(i.a, sizes) % evaluate(i.b, sizes)
    case 'min': return Math.min(evaluate(i.a, sizes), evaluate(i.b, sizes))
    case 'max': return Math.max(evaluate(i.a, sizes), evaluate(i.b, sizes))
    case 'dim': case 'value': throw new Error(`a ${i.op} has no value outside a kernel`)
  }
}

/** The index with others in place of its leaves; data that it holds stays as it is. */
export function substitute(i: Index, by: (leaf: Index) => Index): Index {
  if (!('a' in i)) return by(i)
  const a = substitute(i.a, by), b = substitute(i.b, by)
  return { add, mul, div, mod, min, max }[i.op](a, b)
}

export const indexChildren = (i: Index): readonly Index[] => ('a' in i ? [i.a, i.b] : [])

/** The row-major offset of a position; extents may hold symbols. */
export function offset(position: readonly Index[], extents: readonly Index[]): Index {
  return position.reduce((sum, p, i) => add(mul(sum, extents[i]!), p), zero)
}

