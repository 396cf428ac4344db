/** Steps that compute at each position by itself. */
import {
  abs, add, and, cast, ceil, constant, cos, div, eq, exp, exp2, floor, ge, gt, iota, isNaN, le, log, log2, lt, map, maximum, minimum, mod, mul, ne, neg, not, or, pow,
  round, rsqrt, sin, size, sqrt, sub, tanh, trunc, where, type Expr, type Scalar, type Scalars, type Size, type Tensor,
} from '../../src/dsl/index.js'
import type { Dtype } from '../../src/dsl/dtype.js'
import type { BinaryName, UnaryName } from '../../src/dsl/scalar.js'
import { akin, axisOf, entry, hasAxes, isBool, isFloat, isInteger, isNumber, one, pick, pickSettled, wrapped, type Choose, type Step } from './builder.js'
import { binaryRange, exactly, narrowed, powerRange, quotientRange, shiftedRange, unaryRange, whereRange, type Range } from './ranges.js'

const binary = { add, sub, mul, min: minimum, max: maximum, lt, le, gt, ge, eq, ne, and, or } satisfies Partial<Record<BinaryName, (x: Tensor, y: Tensor) => Expr>>
const unary = { neg, abs, exp, exp2, log, log2, sqrt, rsqrt, sin, cos, tanh, floor, ceil, round, trunc } satisfies Partial<Record<UnaryName, (x: Tensor) => Expr>>

const arithmeticStep = (name: 'add' | 'sub' | 'mul' | 'min' | 'max'): Step => (b, choose) => {
  const x = pick(b, choose, isNumber), y = x && pick(b, choose, t => akin(x, t) && b.meet(t.e, x.e))
  const range = x && y && binaryRange[name](x, y)
  return range && entry(binary[name](x.e, y.e), wrapped(x, range))
}
const comparisons = ['lt', 'le', 'gt', 'ge', 'eq', 'ne'] as const

/** A scalar expression over the arguments, with the range of what it gives: the body of a `map`. */
interface Value { readonly s: Scalar; readonly r: Range }
function scalarBody(values: readonly Value[], $: Scalars, choose: Choose, length: number, along: Size, exact: boolean): Value {
  const pool = [...values]
  const last = (): Value => pool[pool.length - 1 - choose(Math.min(pool.length, 3))]!
  for (let i = 0; i < 2 + choose(4); i++) {
    const x = last(), y = last(), c = choose(5) - 2
    const made = ((): Value | undefined => {
      const two = (name: 'add' | 'sub' | 'mul' | 'min' | 'max'): Value | undefined => { const r = binaryRange[name](x.r, y.r); return r && { s: $[name](x.s, y.s), r } }
      switch (choose(12)) {
        case 0: return two('add')
        case 1: return two('sub')
        case 2: return two('mul')
        case 3: return two('min')
        case 4: return two('max')
        case 5: return { s: $.add(x.s, c), r: binaryRange.add(x.r, exactly(Math.abs(c)))! }
        case 6: return { s: $.mul(c, x.s), r: binaryRange.mul(x.r, exactly(Math.abs(c)))! }
        case 7: return { s: $.sub(along, x.s), r: binaryRange.sub(exactly(length), x.r)! }
        case 8: { const r = whereRange(exactly(1), x.r, y.r)!; return x.r.error === 0 ? { s: $.where($.gt(x.s, c), y.s, x.s), r } : undefined }
        case 9: return exact || x.r.most > 20 ? undefined : { s: $.exp(x.s), r: unaryRange.exp(x.r)! }
        case 10: return exact ? undefined : { s: $.div(x.s, $.add($.abs(y.s), 1)), r: quotientRange(x.r, y.r) }
        default: return x.r.error === 0 ? { s: $.cast($.cast(x.s, c > 0 ? 'i32' : 'bf16'), 'f32'), r: c > 0 ? exactly(Math.min(x.r.most, 2 ** 31)) : narrowed(x.r) } : undefined
      }
    })()
    if (made !== undefined && made.r.most < 1e6 && made.r.error < 1e-2) pool.push(made)
  }
  return pool[pool.length - 1]!
}

export const elementwiseSteps: Readonly<Record<string, Step>> = {
  add: arithmeticStep('add'), sub: arithmeticStep('sub'), mul: arithmeticStep('mul'), minimum: arithmeticStep('min'), maximum: arithmeticStep('max'),
  unary: (b, choose) => {
    const x = pick(b, choose, isNumber)
    return x && entry((choose(2) === 0 ? neg : abs)(x.e), wrapped(x, x))
  },
  toWhole: (b, choose) => {
    const name = one(choose, ['floor', 'ceil', 'round', 'trunc', 'sqrt'] as const), x = pickSettled(b, choose, isFloat)
    return x && entry(unary[name](x.e), unaryRange[name](x)!)
  },
  constant: (b, choose) => {
    const x = pick(b, choose, isNumber), c = choose(7) - 3
    if (x === undefined || x.e.dtype === 'u32' && c < 0) return undefined
    const name = one(choose, ['add', 'sub', 'mul', 'max'] as const), other = exactly(Math.abs(c))
    const [f, range] = [{ add, sub, mul, max: maximum }[name], binaryRange[name]]
    return choose(2) === 0 ? entry(f(x.e, c), wrapped(x, range(x, other)!)) : entry(f(c, x.e), wrapped(x, range(other, x)!))
  },
  size: (b, choose) => {
    const x = pick(b, choose, t => isNumber(t) && hasAxes(t)), axis = x && axisOf(x, choose)
    if (x === undefined || axis === undefined) return undefined
    const length = exactly(b.length(x.e, axis))
    return choose(2) === 0 ? entry(sub(x.e, b.sizeOf(x.e, axis)), wrapped(x, binaryRange.sub(x, length)!)) : entry(maximum(b.sizeOf(x.e, axis), x.e), wrapped(x, binaryRange.max(length, x)!))
  },
  integerDivision: (b, choose) => {
    const x = pick(b, choose, isInteger), y = x && pick(b, choose, t => t.e.dtype === x.e.dtype && b.meet(t.e, x.e))
    return x && y && (choose(2) === 0 ? entry(div(x.e, y.e), exactly(2 * x.most)) : entry(mod(x.e, y.e), exactly(Math.max(x.most, y.most))))
  },
  divide: (b, choose) => {
    const x = pick(b, choose, isFloat), y = x && pick(b, choose, t => isFloat(t) && b.meet(t.e, x.e))
    return x && y && entry(div(x.e, add(abs(y.e), 1)), quotientRange(x, y))
  },
  compare: (b, choose) => {
    const x = pickSettled(b, choose, isNumber), y = x && pickSettled(b, choose, t => akin(x, t) && b.meet(t.e, x.e))
    const f = binary[one(choose, comparisons)]
    return x && y && entry(choose(3) > 0 ? f(x.e, y.e) : f(x.e, x.e.dtype === 'u32' ? choose(3) : choose(5) - 2), exactly(1))
  },
  logic: (b, choose) => {
    const x = pick(b, choose, isBool), y = x && pick(b, choose, t => isBool(t) && b.meet(t.e, x.e))
    if (x === undefined || y === undefined) return undefined
    return entry([(): Expr => not(x.e), (): Expr => and(x.e, y.e), (): Expr => or(x.e, y.e), (): Expr => ne(x.e, y.e)][choose(4)]!(), exactly(1))
  },
  isNaN: (b, choose) => { const x = pickSettled(b, choose, isFloat); return x && entry(isNaN(x.e), exactly(1)) },
  where: (b, choose) => {
    const c = pick(b, choose, isBool)
    const x = c && pick(b, choose, t => isNumber(t) && b.meet(t.e, c.e))
    const y = c && x && pick(b, choose, t => akin(x, t) && b.meet(t.e, c.e, x.e))
    if (c === undefined || x === undefined || y === undefined) return undefined
    const condition = c.e as Tensor<string, 'bool'>, other = choose(4)
    // A mask of −∞ is what attention is made of; it is no finite element.
    if (other === 0 && isFloat(x)) return entry(where(condition, x.e, -Infinity), { ...x, finite: false })
    if (other === 1) return entry(where(condition, choose(3), x.e), wrapped(x, whereRange(c, exactly(2), x)!))
    return entry(where(condition, x.e, y.e), wrapped(x, whereRange(c, x, y)!))
  },
  body: (b, choose) => {
    const x = pick(b, choose, t => t.e.dtype === 'f32'), y = x && pick(b, choose, t => t.e.dtype === 'f32' && b.meet(t.e, x.e))
    if (x === undefined || y === undefined) return undefined
    const axis = axisOf(x, choose), along = axis === undefined ? size(3) : b.sizeOf(x.e, axis)
    let range: Range = x
    const e = map({ x: x.e, y: y.e }, ({ x: s, y: t }, $) => {
      const { s: body, r } = scalarBody([{ s, r: x }, { s: t, r: y }], $, choose, b.at(along), along, b.exact)
      range = r
      return body
    })
    return entry(e, range)
  },
  cast: (b, choose) => {
    const to = one(choose, ['f32', 'f16', 'bf16', 'i32', 'u32', 'bool', 'f32', 'f32', 'bf16', 'f16'] as const satisfies readonly Dtype[])
    const x = (to === 'f32' ? pick : pickSettled)(b, choose, t => t.e.dtype !== to)
    if (x === undefined) return undefined
    const range = to === 'bool' ? exactly(1) : to === 'i32' || to === 'u32' ? exactly(isFloat(x) ? Math.min(x.most, 2 ** 32) : 2 ** 32) : to === 'f32' ? x : narrowed(x)
    return entry(cast(x.e, to), range.most > 2 ** 31 && to !== 'f32' ? { ...range, most: 2 ** 32 } : range)
  },
  iota: (b, choose) => {
    const x = pick(b, choose, hasAxes), axis = x && axisOf(x, choose)
    return x && axis !== undefined ? entry(iota(axis, b.sizeOf(x.e, axis)), exactly(b.length(x.e, axis))) : undefined
  },
  scalar: (_, choose) => entry(constant(choose(5) - 2, one(choose, ['f32', 'f32', 'i32'] as const)), exactly(2)),
}

/** Steps whose results are not the same on all devices. */
export const inexactElementwise: Readonly<Record<string, Step>> = {
  transcendental: (b, choose) => {
    const name = one(choose, ['exp', 'exp2', 'sin', 'cos', 'tanh'] as const), x = pick(b, choose, t => isFloat(t) && unaryRange[name](t) !== undefined)
    return x && entry(unary[name](x.e), unaryRange[name](x)!)
  },
  logarithm: (b, choose) => {
    const name = one(choose, ['log', 'log2'] as const), x = pick(b, choose, t => isFloat(t) && t.error === 0)
    return x && entry(unary[name](x.e), unaryRange[name](x)!)
  },
  shifted: (b, choose) => {
    const name = one(choose, ['log', 'log2', 'sqrt', 'rsqrt', 'pow'] as const), x = pick(b, choose, isFloat), shift = one(choose, [0.5, 1, 2])
    if (x === undefined) return undefined
    const away = add(abs(x.e), shift), range = binaryRange.add(x, exactly(shift))!
    if (name !== 'pow') return entry(unary[name](away), shiftedRange[name]!(range, shift))
    const c = one(choose, [2, 0.5, -1, 1.5, -0.5])
    return entry(pow(away, c), powerRange(range, shift, c))
  },
}
