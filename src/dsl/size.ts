/**
 * Sizes: affine expressions over symbols with integer coefficients, `key - 32`, `4 group + 1`. A symbol stands for a
 * length that is known when a program runs. Affine forms are canonical, so that equal means provably equal.
 */
import { languageError, nameValue } from './errors.js'
import { userSource } from './source.js'

export interface Size {
  readonly constant: number
  /** Symbol and coefficient, by name, coefficients not 0. */
  readonly terms: readonly (readonly [string, number])[]
}
export type SizeLike = Size | number

/** Names reach emitted text, so they are plain identifiers. */
export const isName = (x: unknown): x is string => typeof x === 'string' && /^[A-Za-z][A-Za-z0-9_]{0,62}$/.test(x)

/** Symbol values, each a non-negative integer. */
export type Sizes = Readonly<Record<string, number>>

/** A record's own entry: axes and tensors may be named `constructor`. */
export const own = <T>(record: Readonly<Record<string, T>>, name: string): T | undefined => (Object.hasOwn(record, name) ? record[name] : undefined)

const make = (constant: number, terms: Map<string, number>): Size => Object.freeze({
  constant: constant + 0,   // never −0
  terms: Object.freeze([...terms].filter(([, c]) => c !== 0).sort(([a], [b]) => (a < b ? -1 : 1)).map(t => Object.freeze(t))),
})

/** A symbol's size, `size('key')`, or a fixed one, `size(128)`. */
export function size(of: string | number): Size {
  if (typeof of === 'string') {
    // Canonical text must tell a symbol from a form: not `size('key - 32')`.
    if (!isName(of)) throw languageError('name', `${nameValue(of)} cannot name a size`, "use a letter, then up to 62 letters, digits and underscores; forms are made with plus, minus and times", userSource())
    return make(0, new Map([[of, 1]]))
  }
  if (!Number.isSafeInteger(of)) {
    throw languageError('size', `a size must be an integer, not ${nameValue(of)}`, typeof of === 'number' ? 'round it yourself, so that the rounding is visible' : "use a number, or size('key') for a length that is known later", userSource())
  }
  return make(of, new Map())
}

export const isSize = (x: unknown): x is Size => typeof x === 'object' && x !== null && 'terms' in x

export function toSize(s: SizeLike): Size {
  if (isSize(s)) return s
  // A bare string would be taken for a symbol by `size`: an option of the wrong kind must not become one.
  if (typeof s === 'string') throw languageError('size', `a size must be an integer, not ${nameValue(s)}`, `use size('${s}') for a length that is known later`, userSource())
  return size(s)
}

export function plus(a: SizeLike, b: SizeLike, sign = 1): Size {
  const x = toSize(a), y = toSize(b)
  const terms = new Map(x.terms)
  for (const [name, c] of y.terms) terms.set(name, (terms.get(name) ?? 0) + sign * c)
  return make(x.constant + sign * y.constant, terms)
}
export const minus = (a: SizeLike, b: SizeLike): Size => plus(a, b, -1)

/** The product. At most one factor may hold symbols: sizes stay affine. */
export function times(a: SizeLike, b: SizeLike): Size {
  const x = toSize(a), y = toSize(b)
  if (x.terms.length > 0 && y.terms.length > 0) {
    throw languageError('size', `(${printSize(x)}) × (${printSize(y)}) is not affine in its symbols`,
      'give one of the two axes a fixed size', userSource())
  }
  const [factor, rest] = x.terms.length === 0 ? [x.constant, y] : [y.constant, x]
  return make(rest.constant * factor, new Map(rest.terms.map(([n, c]) => [n, c * factor])))
}

export const equalSizes = (a: Size, b: Size): boolean => printSize(a) === printSize(b)
export const fixedSize = (s: Size): number | undefined => (s.terms.length === 0 ? s.constant : undefined)

/** Canonical text: `4*group + key - 32`. */
export function printSize(s: Size): string {
  const parts = s.terms.map(([name, c]) => [c < 0, Math.abs(c) === 1 ? name : `${Math.abs(c)}*${name}`] as const)
  if (s.constant !== 0 || parts.length === 0) parts.push([s.constant < 0, String(Math.abs(s.constant))])
  return parts.map(([negative, text], i) => (i === 0 ? (negative ? '-' : '') : negative ? ' - ' : ' + ') + text).join('')
}

/** The number that a size is, once its symbols are known. Throws for a symbol without a value. */
export function evaluateSize(s: Size, sizes: Sizes): number {
  let n = s.constant
  for (const [name, c] of s.terms) {
    const value = own(sizes, name)
    if (value === undefined) {
      throw languageError('unbound-size', `the size '${name}' is not known`, `give it: { ${name}: ... }`, undefined)
    }
    n += c * value
  }
  return n
}

/** The size with the known symbols put in. */
export function substituteSize(s: Size, sizes: Sizes): Size {
  const terms = new Map<string, number>()
  let constant = s.constant
  for (const [name, c] of s.terms) {
    const value = own(sizes, name)
    if (value === undefined) terms.set(name, c)
    else constant += c * value
  }
  return make(constant, terms)
}

/** Symbols are never negative, so a size without negative parts cannot be; used to prove `from <= to` and the like. */
export const provablyAtLeast = (a: Size, b: Size): boolean => {
  const d = minus(a, b)
  return d.constant >= 0 && d.terms.every(([, c]) => c > 0)
}
/** a < b whatever the symbols are. */
export const provablyLess = (a: Size, b: Size): boolean => {
  const d = minus(b, a)
  return d.constant > 0 && d.terms.every(([, c]) => c > 0)
}
