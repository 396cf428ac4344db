/**
 * Scalar expressions: what a `map` does to the elements at one position, and what a monoid's functions do. Every
 * operation rounds its result to its dtype; there is no hidden fused multiply-add.
 *
 * One record per function: its operands' kind and its meaning on numbers. The meaning is computed in float64 and then
 * rounded to the result's dtype, so + - * / and sqrt are correctly rounded f32 operations. Devices may miss the
 * others by the bound in `docs/language.md`.
 */
import { arithmetic, dtypes, isFloat, isInteger, round, type Dtype } from './dtype.js'
import { languageError, nameValue } from './errors.js'
import { isSize, printSize, type Size } from './size.js'
import { userSource } from './source.js'

interface Record1 {
  readonly on: 'float' | 'number' | 'bool'
  readonly gives: 'same' | 'bool'
  readonly meaning: (x: number) => number
}
interface Record2 {
  readonly on: 'float' | 'integer' | 'number' | 'bool' | 'any'
  readonly gives: 'same' | 'bool'
  /** Integers that + - * could overflow float64 on use `integer`. */
  readonly meaning: (x: number, y: number) => number
  readonly integer?: (x: number, y: number) => number
}

const roundHalfEven = (x: number): number => {
  const low = Math.floor(x), rest = x - low
  const up = rest > 0.5 || (rest === 0.5 && low % 2 !== 0)
  return up ? (low + 1 === 0 ? -0 : low + 1) : low
}
const bit = (x: boolean): number => (x ? 1 : 0)
// NaN if either is NaN; -0 < +0
const larger = (x: number, y: number): number => Math.max(x, y)
const smaller = (x: number, y: number): number => Math.min(x, y)

export const unary = {
  neg: { on: 'number', gives: 'same', meaning: x => -x },
  abs: { on: 'number', gives: 'same', meaning: Math.abs },
  exp: { on: 'float', gives: 'same', meaning: Math.exp },
  exp2: { on: 'float', gives: 'same', meaning: x => 2 ** x },
  log: { on: 'float', gives: 'same', meaning: Math.log },
  log2: { on: 'float', gives: 'same', meaning: Math.log2 },
  sqrt: { on: 'float', gives: 'same', meaning: Math.sqrt },
  rsqrt: { on: 'float', gives: 'same', meaning: x => 1 / Math.sqrt(x) },
  sin: { on: 'float', gives: 'same', meaning: Math.sin },
  cos: { on: 'float', gives: 'same', meaning: Math.cos },
  tanh: { on: 'float', gives: 'same', meaning: Math.tanh },
  floor: { on: 'float', gives: 'same', meaning: Math.floor },
  ceil: { on: 'float', gives: 'same', meaning: Math.ceil },
  round: { on: 'float', gives: 'same', meaning: roundHalfEven },
  trunc: { on: 'float', gives: 'same', meaning: Math.trunc },
  isNaN: { on: 'float', gives: 'bool', meaning: x => bit(Number.isNaN(x)) },
  not: { on: 'bool', gives: 'same', meaning: x => 1 - x },
} as const satisfies Record<string, Record1>

export const binary = {
  add: { on: 'number', gives: 'same', meaning: (x, y) => x + y },
  sub: { on: 'number', gives: 'same', meaning: (x, y) => x - y },
  mul: { on: 'number', gives: 'same', meaning: (x, y) => x * y, integer: Math.imul },
  div: { on: 'number', gives: 'same', meaning: (x, y) => x / y, integer: (x, y) => (y === 0 ? 0 : Math.floor(x / y)) },
  mod: { on: 'integer', gives: 'same', meaning: (x, y) => (y === 0 ? x : x - y * Math.floor(x / y)) },
  pow: { on: 'float', gives: 'same', meaning: (x, y) => (x === 1 || y === 0 ? 1 : x === -1 && !Number.isFinite(y) && !Number.isNaN(y) ? 1 : x ** y) },
  min: { on: 'number', gives: 'same', meaning: smaller },
  max: { on: 'number', gives: 'same', meaning: larger },
  lt: { on: 'number', gives: 'bool', meaning: (x, y) => bit(x < y) },
  le: { on: 'number', gives: 'bool', meaning: (x, y) => bit(x <= y) },
  gt: { on: 'number', gives: 'bool', meaning: (x, y) => bit(x > y) },
  ge: { on: 'number', gives: 'bool', meaning: (x, y) => bit(x >= y) },
  eq: { on: 'any', gives: 'bool', meaning: (x, y) => bit(x === y) },
  ne: { on: 'any', gives: 'bool', meaning: (x, y) => bit(x !== y) },
  and: { on: 'bool', gives: 'same', meaning: (x, y) => x & y },
  or: { on: 'bool', gives: 'same', meaning: (x, y) => x | y },
} as const satisfies Record<string, Record2>

export type UnaryName = keyof typeof unary
export type BinaryName = keyof typeof binary

/** A scalar expression. `var` is an argument by its name; `size` is an axis length as a number. */
export type Scalar =
  | { readonly op: 'var'; readonly name: string; readonly dtype: Dtype }
  | { readonly op: 'const'; readonly value: number; readonly dtype: Dtype }
  | { readonly op: 'size'; readonly size: Size; readonly dtype: Dtype }
  | { readonly op: 'unary'; readonly name: UnaryName; readonly a: Scalar; readonly dtype: Dtype }
  | { readonly op: 'binary'; readonly name: BinaryName; readonly a: Scalar; readonly b: Scalar; readonly dtype: Dtype }
  | { readonly op: 'where'; readonly condition: Scalar; readonly a: Scalar; readonly b: Scalar; readonly dtype: Dtype }
  | { readonly op: 'cast'; readonly a: Scalar; readonly dtype: Dtype }

/** An operand: an expression, or a number or size that takes the dtype of what it meets. */
export type ScalarLike = Scalar | number | boolean | Size

export const isScalar = (x: unknown): x is Scalar => typeof x === 'object' && x !== null && 'op' in x
const isFree = (x: ScalarLike): x is number | boolean | Size => typeof x !== 'object' || isSize(x)

const complain = (name: string, reason: string, fix: string): never => {
  throw languageError('dtype', `${name}: ${reason}`, fix, userSource())
}

/** Everything else trusts the type, and tables of dtypes have no entry for others. */
export function checkDtype(op: string, dtype: unknown): void {
  if (!dtypes.includes(dtype as Dtype)) complain(op, `there is no dtype ${nameValue(dtype)}`, `use one of ${dtypes.map(d => `'${d}'`).join(', ')}`)
}

export const variable = (name: string, dtype: Dtype): Scalar => Object.freeze({ op: 'var', name, dtype })

/** A number, boolean or size as a scalar of that dtype. */
export function literal(x: number | boolean | Size, dtype: Dtype): Scalar {
  checkDtype('constant', dtype)
  if (typeof x === 'object') {
    if (dtype === 'bool') complain('size', 'a size is not a bool', 'compare it with something')
    return Object.freeze({ op: 'size', size: x, dtype })
  }
  const value = Number(x)
  if ((typeof x === 'boolean') !== (dtype === 'bool')) {
    complain('constant', `${x} meets an operand of dtype ${dtype}`, typeof x === 'boolean' ? 'use a number' : 'use true or false, or cast the operand')
  }
  if (isInteger(dtype) && (!Number.isInteger(value) || round[dtype](value) !== value)) {
    complain('constant', `${value} is not a value of dtype ${dtype}`, `cast the other operand to f32, or use a whole number in range`)
  }
  return Object.freeze({ op: 'const', value: round[dtype](value), dtype })
}

/** Numbers and sizes take the dtype of the expression beside them; 16-bit floats are widened to f32. */
function operands(name: string, xs: readonly ScalarLike[]): Scalar[] {
  for (const x of xs) checkScalar(name, x)
  const typed = xs.filter((x): x is Scalar => !isFree(x))
  const dtype = typed.length > 0 ? arithmetic(typed[0]!.dtype) : typeof xs[0] === 'boolean' ? 'bool' : 'f32'
  for (const x of typed) {
    if (arithmetic(x.dtype) !== dtype) {
      complain(name, `operands of dtype ${typed.map(t => t.dtype).join(' and ')}`, `cast one of them: cast(x, '${dtype}')`)
    }
  }
  return xs.map(x => (isFree(x) ? literal(x, dtype) : widen(x)))
}
function checkScalar(name: string, x: unknown): void {
  if (isScalar(x) || isSize(x) || typeof x === 'number' || typeof x === 'boolean') return
  throw languageError('argument', `${name}: ${nameValue(x)} is neither a scalar, a number, a boolean nor a size`,
    typeof x === 'object' && x !== null && 'kind' in x ? 'name it in the first argument of map, whose function gets it as a scalar' : 'pass a value, what a function of $ gives, or a number', userSource())
}
const widen = (x: Scalar): Scalar => (x.dtype === 'f16' || x.dtype === 'bf16' ? castScalar(x, 'f32') : x)

const fits = (on: Record1['on'] | Record2['on'], dtype: Dtype): boolean =>
  on === 'any' || (on === 'float' ? isFloat(dtype) : on === 'integer' ? isInteger(dtype) : on === 'bool' ? dtype === 'bool' : dtype !== 'bool')

export function applyUnary(name: UnaryName, x: ScalarLike): Scalar {
  const [a] = operands(name, [x]) as [Scalar]
  const rule: Record1 = unary[name]
  if (!fits(rule.on, a.dtype)) complain(name, `takes ${rule.on === 'number' ? 'numbers' : rule.on}, not ${a.dtype}`, rule.on === 'bool' ? 'compare first: ne(x, 0)' : `cast it: cast(x, 'f32')`)
  return Object.freeze({ op: 'unary', name, a, dtype: rule.gives === 'bool' ? 'bool' : a.dtype })
}

export function applyBinary(name: BinaryName, x: ScalarLike, y: ScalarLike): Scalar {
  const [a, b] = operands(name, [x, y]) as [Scalar, Scalar]
  const rule: Record2 = binary[name]
  if (!fits(rule.on, a.dtype)) complain(name, `takes ${rule.on === 'number' ? 'numbers' : rule.on}, not ${a.dtype}`, rule.on === 'bool' ? 'compare first: ne(x, 0)' : `cast it: cast(x, '${rule.on === 'integer' ? 'i32' : 'f32'}')`)
  return Object.freeze({ op: 'binary', name, a, b, dtype: rule.gives === 'bool' ? 'bool' : a.dtype })
}

export function applyWhere(condition: ScalarLike, x: ScalarLike, y: ScalarLike): Scalar {
  const [c] = operands('where', [condition]) as [Scalar]
  if (c.dtype !== 'bool') complain('where', `the condition has dtype ${c.dtype}, not bool`, 'compare it: ne(x, 0)')
  const [a, b] = operands('where', [x, y]) as [Scalar, Scalar]
  return Object.freeze({ op: 'where', condition: c, a, b, dtype: a.dtype })
}

/** Float to integer: toward zero, saturating, NaN gives 0. To bool: not equal to 0. Else to nearest even. */
export function castScalar(x: Scalar, dtype: Dtype): Scalar {
  checkDtype('cast', dtype)
  if (!isScalar(x)) throw languageError('argument', `cast: ${nameValue(x)} is not a scalar`, 'numbers take the dtype of what they meet', userSource())
  return x.dtype === dtype ? x : Object.freeze({ op: 'cast', a: x, dtype })
}

export const scalarChildren = (s: Scalar): readonly Scalar[] => {
  switch (s.op) {
    case 'var': case 'const': case 'size': return []
    case 'unary': case 'cast': return [s.a]
    case 'binary': return [s.a, s.b]
    case 'where': return [s.condition, s.a, s.b]
  }
}

/** The expression with variables replaced; a name that `by` does not know stays. What is shared stays shared. */
export function substitute(s: Scalar, by: (name: string) => Scalar | undefined): Scalar {
  const done = new Map<Scalar, Scalar>()
  const go = (s: Scalar): Scalar => {
    let to = done.get(s)
    if (to === undefined) done.set(s, to = replaced(s))
    return to
  }
  const replaced = (s: Scalar): Scalar => {
    switch (s.op) {
      case 'var': return by(s.name) ?? s
      case 'const': case 'size': return s
      case 'unary': return { ...s, a: go(s.a) }
      case 'cast': return { ...s, a: go(s.a) }
      case 'binary': return { ...s, a: go(s.a), b: go(s.b) }
      case 'where': return { ...s, condition: go(s.condition), a: go(s.a), b: go(s.b) }
    }
  }
  return go(s)
}

const infix: { readonly [name: string]: string } = {
  add: '+', sub: '-', mul: '*', div: '/', lt: '<', le: '<=', gt: '>', ge: '>=', eq: '==', ne: '!=', and: '&&', or: '||',
}

/** Written out in full, how many nodes: shared ones count as often as they are used. */
const writtenSize = new WeakMap<Scalar, number>()
function written(s: Scalar): number {
  let n = writtenSize.get(s)
  if (n === undefined) writtenSize.set(s, n = scalarChildren(s).reduce((total, c) => total + written(c), 1))
  return n
}

/**
 * Canonical text. Numbers are exact: -0, NaN and infinities have names of their own. What would be long, because a part
 * of it is used often, is written with a name for each distinct operation: `#0 = a + a; #1 = #0 * #0; #1`.
 */
export function printScalar(s: Scalar): string {
  if (written(s) <= 1000) return text(s, printScalar)
  const lines: string[] = [], names = new Map<Scalar, string>(), known = new Map<string, string>()
  const name = (s: Scalar): string => {
    const found = names.get(s)
    if (found !== undefined) return found
    const leaf = scalarChildren(s).length === 0, line = `${text(s, name)}`
    let to = leaf ? line : known.get(`${s.dtype} ${line}`)   // equal parts are one, however they were built
    if (to === undefined) {
      to = `#${lines.length}`
      known.set(`${s.dtype} ${line}`, to)
      lines.push(`${to} = ${line}; `)
    }
    names.set(s, to)
    return to
  }
  const result = name(s)
  return lines.join('') + result
}
function text(s: Scalar, print: (s: Scalar) => string): string {
  const inner = (s: Scalar): string => { const t = print(s); return s.op === 'binary' && infix[s.name] !== undefined && !t.startsWith('#') ? `(${t})` : t }
  switch (s.op) {
    case 'var': return s.name
    case 'const': return s.dtype === 'bool' ? (s.value === 0 ? 'false' : 'true') : printNumber(s.value)
    case 'size': return `size(${printSize(s.size)})`   // not the bare form: a variable may be called like a symbol
    case 'unary': return s.name === 'neg' ? `-${inner(s.a)}` : `${s.name}(${print(s.a)})`
    case 'binary': return infix[s.name] === undefined ? `${s.name}(${print(s.a)}, ${print(s.b)})` : `${inner(s.a)} ${infix[s.name]} ${inner(s.b)}`
    case 'where': return `where(${print(s.condition)}, ${print(s.a)}, ${print(s.b)})`
    case 'cast': return `${s.dtype}(${print(s.a)})`
  }
}
export const printNumber = (x: number): string => (Object.is(x, -0) ? '-0' : String(x))

/** The scalar vocabulary, handed to the functions that `map` and `monoid` trace. */
export const scalars = {
  ...(Object.fromEntries(Object.keys(unary).map(name => [name, (x: ScalarLike) => applyUnary(name as UnaryName, x)])) as
    { readonly [N in UnaryName]: (x: ScalarLike) => Scalar }),
  ...(Object.fromEntries(Object.keys(binary).map(name => [name, (x: ScalarLike, y: ScalarLike) => applyBinary(name as BinaryName, x, y)])) as
    { readonly [N in BinaryName]: (x: ScalarLike, y: ScalarLike) => Scalar }),
  where: applyWhere,
  cast: castScalar,
}
export type Scalars = typeof scalars
