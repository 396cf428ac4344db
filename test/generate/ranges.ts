/**
 * The forward error analysis that runs along with the construction of a program, on ranges: how large the elements of a
 * node are and how far a device's may be from the exact ones. The rules are the bounds of `docs/language.md` (sections 3
 * and 5) put through the derivative of each function; products of errors are kept, never dropped as small.
 *
 * Error 0 means that all devices have the same number: exact inputs, correctly rounded operations, sums of whole numbers
 * that stay within 2^24.
 */
import type { BinaryName, UnaryName } from '../../src/dsl/scalar.js'

export interface Range {
  /** No finite element is larger in magnitude. */
  readonly most: number
  /** The error of a finite element at most. */
  readonly error: number
  /** Every finite element is a whole number. */
  readonly whole: boolean
  /** There is no NaN and no infinity among them. */
  readonly finite: boolean
}

/** Half the distance of neighbouring f32 at 1: one rounding is off by at most this, relatively. */
export const unit = 2 ** -24
/** 4 units in the last place, relatively. */
const fourUlp = 4 * 2 ** -23

export const exactly = (most: number, whole = true, finite = true): Range => ({ most, error: 0, whole, finite })
/** A device may round where the exact value does not need it; on exact operands every device rounds alike. */
const rounded = (operands: readonly Range[], most: number, error: number, whole: boolean): Range =>
  ({ most, error: operands.every(r => r.error === 0) ? 0 : error + unit * (most + error), whole, finite: operands.every(r => r.finite) })

/** A sum of n terms by the language's bound, n 2^-24 Σ|t|; whole numbers add up exactly. */
export function summed(n: number, term: Range): Range {
  const most = n * term.most
  return { most, error: n <= 1 ? term.error : term.whole && term.error === 0 && most <= 2 ** 24 ? 0 : n * term.error + n * unit * n * (term.most + term.error), whole: term.whole, finite: term.finite }
}
/** A sum divided by a count: the quotient of exact whole numbers is rounded once, by all devices alike. */
export function averaged(n: number, term: Range): Range {
  const total = summed(n, term)
  return { most: term.most, error: total.error === 0 && (term.error === 0 && n > 0) ? 0 : total.error / Math.max(n, 1) + 2 * unit * (term.most + term.error), whole: false, finite: term.finite }
}
/**
 * A product; `narrow`: of two 16-bit floats or of small whole numbers, which f32 holds exactly. Nothing where an error
 * could decide what becomes of an infinity: 0 ∞ is NaN, and the sign of a small number that of the product.
 */
export const product = (x: Range, y: Range, narrow: boolean): Range | undefined => {
  if (x.error > 0 && !y.finite || y.error > 0 && !x.finite) return undefined
  const most = x.most * y.most
  return { most, error: x.error * y.most + y.error * x.most + x.error * y.error + (narrow ? 0 : unit * most), whole: x.whole && y.whole, finite: x.finite && y.finite }
}

type Rule = (...xs: readonly Range[]) => Range | undefined
const settled = (...xs: readonly Range[]): boolean => xs.every(x => x.error === 0)
const truth: Rule = (...xs) => (settled(...xs) ? exactly(1) : undefined)
/** A jump at whole numbers: only where all devices have the same argument. */
const toWhole: Rule = x => (settled(x!) ? exactly(x!.most + 1, true, x!.finite) : undefined)
const sides = (x: Range, y: Range): Range => ({ most: Math.max(x.most, y.most), error: Math.max(x.error, y.error), whole: x.whole && y.whole, finite: x.finite && y.finite })

/**
 * What each scalar function makes of f32 ranges, or nothing where a device may give another answer altogether. The sign
 * of a zero is not specified everywhere, so functions that tell −0 from +0 by an infinity get arguments away from it.
 */
export const unaryRange: Readonly<Record<UnaryName, Rule>> = {
  neg: x => x, abs: x => x,
  exp: x => (x!.most > 20 ? undefined : { most: Math.exp(x!.most), error: Math.exp(x!.most) * (Math.expm1(x!.error) + Math.exp(x!.error) * (2 + x!.most + x!.error) * 2 ** -23), whole: false, finite: x!.finite }),
  exp2: x => (x!.most > 20 ? undefined : { most: 2 ** x!.most, error: 2 ** x!.most * (2 ** x!.error - 1 + 2 ** x!.error * fourUlp), whole: false, finite: x!.finite }),
  // Of an argument of at least 1/2, or of one that all devices have: then |log x| is 104 at most, at the smallest subnormal.
  log: x => (settled(x!) ? { most: Math.max(104, Math.log(x!.most + 1)), error: 104 * fourUlp, whole: false, finite: false } : undefined),
  log2: x => (settled(x!) ? { most: Math.max(150, Math.log2(x!.most + 1)), error: 150 * fourUlp, whole: false, finite: false } : undefined),
  sqrt: x => (settled(x!) ? exactly(Math.max(1, Math.sqrt(x!.most)), false, false) : undefined),
  rsqrt: () => undefined,
  sin: x => (x!.most > 1000 ? undefined : { most: 1, error: x!.error + fourUlp, whole: false, finite: x!.finite }),
  cos: x => (x!.most > 1000 ? undefined : { most: 1, error: x!.error + fourUlp, whole: false, finite: x!.finite }),
  tanh: x => ({ most: 1, error: x!.error + fourUlp, whole: false, finite: x!.finite }),
  floor: toWhole, ceil: toWhole, round: toWhole, trunc: toWhole,
  isNaN: truth, not: truth,
}

/** The same for an argument that is `shift` at least: |x| + shift. */
export const shiftedRange: Readonly<Partial<Record<UnaryName, (x: Range, shift: number) => Range>>> = {
  log: (x, shift) => ({ most: Math.max(Math.abs(Math.log(shift)), Math.abs(Math.log(x.most))), error: x.error / shift + Math.max(Math.abs(Math.log(shift)), Math.log(x.most + x.error + 1)) * fourUlp, whole: false, finite: x.finite }),
  log2: (x, shift) => ({ most: Math.max(Math.abs(Math.log2(shift)), Math.abs(Math.log2(x.most))), error: 1.5 * x.error / shift + Math.max(Math.abs(Math.log2(shift)), Math.log2(x.most + x.error + 1)) * fourUlp, whole: false, finite: x.finite }),
  sqrt: (x, shift) => ({ most: Math.sqrt(x.most), error: x.error === 0 ? 0 : x.error / (2 * Math.sqrt(shift)) + unit * Math.sqrt(x.most + x.error), whole: false, finite: x.finite }),
  rsqrt: (x, shift) => ({ most: 1 / Math.sqrt(shift), error: x.error / (2 * shift ** 1.5) + fourUlp / Math.sqrt(shift), whole: false, finite: x.finite }),
}

/** x^c for x at least `shift`. */
export function powerRange(x: Range, shift: number, c: number): Range {
  const high = x.most + x.error, most = Math.max(shift ** c, high ** c)
  return { most, error: Math.abs(c) * Math.max(shift ** (c - 1), high ** (c - 1)) * x.error + most * fourUlp, whole: false, finite: x.finite }
}

export const binaryRange: Readonly<Record<BinaryName, Rule>> = {
  add: (x, y) => rounded([x!, y!], x!.most + y!.most, x!.error + y!.error, x!.whole && y!.whole),
  sub: (x, y) => rounded([x!, y!], x!.most + y!.most, x!.error + y!.error, x!.whole && y!.whole),
  mul: (x, y) => { const p = product(x!, y!, true); return p && rounded([x!, y!], p.most, p.error, p.whole) },
  div: () => undefined,   // see `quotientRange`
  mod: () => undefined,
  pow: () => undefined,   // see `powerRange`
  min: (x, y) => sides(x!, y!), max: (x, y) => sides(x!, y!),
  lt: truth, le: truth, gt: truth, ge: truth, eq: truth, ne: truth, and: truth, or: truth,
}
/** x / (|y| + 1): the denominator's error and rounding, relatively, and the quotient's. */
export const quotientRange = (x: Range, y: Range): Range => rounded([x, y], x.most, x.error + (x.most + x.error) * (y.error + unit * (1 + y.error)) * (1 + 2 * y.error + 2 * unit), false)
export const whereRange = (condition: Range, x: Range, y: Range): Range | undefined => (settled(condition) ? sides(x, y) : undefined)

/** The relative error of Σ e^(x − m), each element and each rescaling off by the bound of exp. */
export const exponentials = (n: number, x: Range): number => (16 + 8 * x.most + 4 * n) * 2 ** -23

/** Rounding to a 16-bit float, of numbers that all devices have. */
export const narrowed = (x: Range): Range => exactly(x.most * 1.01 + 2 ** -14, x.whole, x.finite && x.most < 65000)
