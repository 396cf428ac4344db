/** What the constructors check: names, shared axes, provable sizes. Each complaint says what, why and the fix. */
import { arithmetic, type Dtype } from './dtype.js'
import { languageError, nameValue } from './errors.js'
import { axisOf, type Axis, type Expr } from './expr.js'
import { printType } from './print.js'
import { equalSizes, fixedSize, isName, isSize, minus, printSize, type Size } from './size.js'
import { userSource } from './source.js'

export const fail = (code: string, reason: string, fix: string): never => {
  throw languageError(code, reason, fix, userSource())
}

export function checkName(name: string, what: string): void {
  if (!isName(name)) {
    fail('name', `${nameValue(name)} cannot name ${what}`, 'use a letter, then up to 62 letters, digits and underscores')
  }
}

// What the types refuse, JavaScript callers pass all the same: without these it would be accepted, or a bare TypeError.

export const isTensor = (x: unknown): x is Expr => typeof x === 'object' && x !== null && 'kind' in x

export function checkTensor(op: string, x: unknown): Expr {
  return isTensor(x) ? x : fail('argument', `${op}: ${nameValue(x)} is not a tensor`, 'pass what tensor, constant, iota or another operation gives')
}

/** The dtype in which folds take its elements. */
export const taken = (op: string, x: unknown): Dtype => arithmetic(checkTensor(op, x).dtype)

/** What elementwise functions take. */
export function checkOperand(op: string, x: unknown): void {
  if (isTensor(x) || isSize(x) || typeof x === 'number' || typeof x === 'boolean') return
  fail('argument', `${op}: ${nameValue(x)} is neither a tensor, a number, a boolean nor a size`,
    typeof x === 'object' && x !== null && 'op' in x ? `within map use $.${op}` : 'pass what tensor, constant, iota or another operation gives, or a number')
}

/** A record with these entries, such as the one in `example`. */
export function checkOptions(op: string, options: unknown, names: readonly string[], example: string): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options) || isTensor(options)) fail('argument', `${op}: ${nameValue(options)} in the place of a record`, `write it as in ${example}`)
  const missing = names.find(n => (options as Readonly<Record<string, unknown>>)[n] === undefined)
  if (missing !== undefined) fail('argument', `${op}: '${missing}' is missing`, `write it as in ${example}`)
}

export function checkList(op: string, list: unknown, example: string): void {
  if (!Array.isArray(list)) fail('argument', `${op}: ${nameValue(list)} in the place of an array`, `write it as in ${example}`)
}

export function checkAxis(op: string, e: Expr, name: string): Axis {
  checkTensor(op, e)
  if (typeof name !== 'string') fail('argument', `${op}: ${nameValue(name)} in the place of an axis's name`, `its axes are ${e.axes.map(a => `'${a.name}'`).join(', ')}`)
  return axisOf(e, name) ?? fail('axis', `${op}: no axis '${name}' in ${printType(e)}`,
    e.axes.length === 0 ? 'it has no axes at all' : `its axes are ${e.axes.map(a => `'${a.name}'`).join(', ')}`)
}

export function checkDistinct(op: string, names: readonly string[]): void {
  const twice = names.find((n, i) => names.indexOf(n) !== i)
  if (twice !== undefined) fail('duplicate-axis', `${op}: axis '${twice}' occurs twice`, 'name each axis once; rename(x, from, to) gives one another name')
}

/** The axes of all operands, in order of appearance. Equal names must have provably equal sizes. */
export function unite(op: string, operands: readonly Expr[], except: readonly string[] = []): Axis[] {
  const axes = new Map<string, Axis>()
  for (const e of operands) {
    for (const a of e.axes) {
      if (except.includes(a.name)) continue
      const known = axes.get(a.name)
      if (known === undefined) axes.set(a.name, a)
      else checkEqual(op, a.name, known.size, a.size)
    }
  }
  return [...axes.values()]
}

export function checkEqual(op: string, name: string, a: Size, b: Size): void {
  if (!equalSizes(a, b)) {
    fail('size', `${op}: axis '${name}' has size ${printSize(a)} in one operand and ${printSize(b)} in another, which is not provably the same`,
      'give both the same size, cut the longer one with slice, or rename one of them')
  }
}

/** Complains where `a < b` is certain; what depends on symbols is checked when they are bound. */
export function checkAtLeast(code: string, a: Size, b: Size, reason: string, fix: string): void {
  const d = fixedSize(minus(a, b))
  if (d !== undefined && d < 0) fail(code, reason, fix)
}

/** The axis must not be there yet. */
export function checkFresh(op: string, e: { readonly axes: readonly Axis[] }, name: string): void {
  checkName(name, 'an axis')
  if (e.axes.some(a => a.name === name)) fail('duplicate-axis', `${op}: there is an axis '${name}' already`, 'choose another name')
}
