/**
 * Monoids: how `reduce` puts elements together. A record of components with an identity, a lift of one element and an
 * associative combine; `result` reads the answer off the components. Sum, max, argmax and the pair (max, sum of
 * exponentials) behind softmax are all of this kind, so online softmax, split reductions and combines across thread
 * blocks are one mechanism.
 *
 * `combine` must be associative with `identity` neutral on both sides, up to rounding; elements come in the order of the
 * axis. Only `ordered: false` says that it is commutative too, which frees devices to go through the axis in strides.
 */
import { isFloat, type Dtype } from './dtype.js'
import { languageError, nameValue } from './errors.js'
import { applyBinary, applyWhere, checkDtype, isScalar, literal, printScalar, scalars, variable, type Scalar, type Scalars } from './scalar.js'
import { userSource } from './source.js'

export interface Component {
  readonly name: string
  readonly dtype: Dtype
  readonly identity: Scalar
  /** In the variables `x` (the element) and `at` (its position along the axis, i32). */
  readonly lift: Scalar
  /** In the variables `a.NAME` and `b.NAME` of all components; a comes first along the axis. */
  readonly combine: Scalar
}

export interface Monoid {
  readonly name: string
  /** Dtype of the elements it takes. */
  readonly takes: Dtype
  readonly components: readonly Component[]
  /** In the components' names and `count` (elements put together, f32). */
  readonly result: Scalar
  readonly ordered: boolean
  /** Whether an axis without elements has a result. */
  readonly emptyAllowed: boolean
  /**
   * Where the components but one are sums relative to that one, the shift: `combine` puts the shifts together to `to`, and
   * of each side takes factor(from, to) times each sum, `from` being its own shift. So several elements can be added with
   * one change of the shift. In the variables `from` and `to`.
   */
  readonly rescale?: { readonly shift: string; readonly factor: Scalar }
}

type Values<C> = { readonly [N in keyof C]: Scalar }

export interface MonoidDefinition<C extends Readonly<Record<string, Dtype>>> {
  readonly takes: Dtype
  readonly components: C
  readonly identity: { readonly [N in keyof C]: number | boolean }
  readonly lift: (x: Scalar, at: Scalar, $: Scalars) => { readonly [N in keyof C]: Scalar | number | boolean }
  readonly combine: (a: Values<C>, b: Values<C>, $: Scalars) => { readonly [N in keyof C]: Scalar | number | boolean }
  readonly result: (components: Values<C>, count: Scalar, $: Scalars) => Scalar
  /** True if the order of elements matters. Default false. */
  readonly ordered?: boolean
  readonly emptyAllowed?: boolean
  /** See `Monoid`. It must say what `combine` says; devices may use either. */
  readonly rescale?: { readonly shift: keyof C & string; readonly factor: (from: Scalar, to: Scalar, $: Scalars) => Scalar }
}

/**
 * A monoid of one's own.
 * @throws WeftError `monoid` if a function gives another dtype than its component has
 */
export function monoid<C extends Readonly<Record<string, Dtype>>>(name: string, d: MonoidDefinition<C>): Monoid {
  const names = Object.keys(d.components)
  if (names.length === 0) throw languageError('monoid', `${name}: no components`, 'give it at least one', userSource())
  const bad = names.find(n => !/^[a-z][A-Za-z0-9]*$/.test(n) || n === 'count')
  if (bad !== undefined) {
    throw languageError('monoid', `${name}: '${bad}' cannot be a component's name`, 'use a letter, then letters and digits', userSource())
  }
  for (const dtype of [d.takes, ...Object.values(d.components)]) checkDtype(name, dtype)
  const vars = (prefix: string): Values<C> =>
    Object.fromEntries(names.map(n => [n, variable(prefix + n, d.components[n]!)])) as Values<C>
  const lifted = d.lift(variable('x', d.takes), variable('at', 'i32'), scalars)
  const combined = d.combine(vars('a.'), vars('b.'), scalars)
  const as = (n: string, x: Scalar | number | boolean | undefined, what: string): Scalar => {
    const dtype = d.components[n]!
    if (!isScalar(x) && typeof x !== 'number' && typeof x !== 'boolean') {
      throw languageError('monoid', `${name}: ${what} gives ${nameValue(x)} for component '${n}'`, 'give a scalar or a number', userSource())
    }
    const s = isScalar(x) ? x : literal(x, dtype)
    if (s.dtype !== dtype) {
      throw languageError('monoid', `${name}: ${what} gives ${s.dtype} for component '${n}' of dtype ${dtype}`, `cast it: $.cast(x, '${dtype}')`, userSource())
    }
    return s
  }
  const components = names.map(n => Object.freeze({
    name: n,
    dtype: d.components[n]!,
    identity: as(n, d.identity[n], 'identity'),
    lift: as(n, lifted[n], 'lift'),
    combine: as(n, combined[n], 'combine'),
  }))
  const result = d.result(vars(''), variable('count', 'f32'), scalars)
  if (!isScalar(result)) throw languageError('monoid', `${name}: result gives ${nameValue(result)}`, 'give a scalar', userSource())
  const rescale = d.rescale === undefined ? undefined : rescaling(name, d.rescale.shift, components, d.rescale.factor)
  return Object.freeze({
    name, takes: d.takes, components: Object.freeze(components), result,
    ordered: d.ordered ?? false, emptyAllowed: d.emptyAllowed ?? false, ...(rescale === undefined ? {} : { rescale }),
  })
}

function rescaling(name: string, shift: string, components: readonly Component[], factor: (from: Scalar, to: Scalar, $: Scalars) => Scalar): Monoid['rescale'] {
  const own = components.find(c => c.name === shift)
  const other = components.find(c => c.dtype !== 'f32')
  if (own === undefined || other !== undefined || components.length < 2) {
    throw languageError('monoid', `${name}: ${own === undefined ? `rescale names '${shift}', which is no component` : other === undefined ? 'rescale needs sums beside the shift' : `rescale needs f32 components, '${other.name}' is ${other.dtype}`}`, 'leave rescale out, or name the component that the others are relative to', userSource())
  }
  const f = factor(variable('from', own.dtype), variable('to', own.dtype), scalars)
  if (!isScalar(f) || f.dtype !== 'f32') throw languageError('monoid', `${name}: rescale's factor gives ${isScalar(f) ? f.dtype : nameValue(f)}`, 'give an f32 scalar', userSource())
  return Object.freeze({ shift, factor: f })
}

const one = (name: string, dtype: Dtype, identity: number | boolean, combine: 'add' | 'max' | 'min' | 'and' | 'or', emptyAllowed: boolean): Monoid =>
  monoid(name, {
    takes: dtype, components: { total: dtype }, identity: { total: identity },
    lift: x => ({ total: x }),
    combine: (a, b) => ({ total: applyBinary(combine, a.total, b.total) }),
    result: c => c.total, emptyAllowed,
  })

const lowest: { readonly [D in Dtype]: number } = { f32: -Infinity, f16: -Infinity, bf16: -Infinity, i32: -(2 ** 31), u32: 0, bool: 0 }
const highest: { readonly [D in Dtype]: number } = { f32: Infinity, f16: Infinity, bf16: Infinity, i32: 2 ** 31 - 1, u32: 2 ** 32 - 1, bool: 1 }

export const sumMonoid = (dtype: Dtype): Monoid => one('sum', dtype, 0, 'add', true)
export const maxMonoid = (dtype: Dtype): Monoid => one('max', dtype, lowest[dtype], 'max', false)
export const minMonoid = (dtype: Dtype): Monoid => one('min', dtype, highest[dtype], 'min', false)
export const allMonoid: Monoid = one('all', 'bool', true, 'and', true)
export const anyMonoid: Monoid = one('any', 'bool', false, 'or', true)

export const meanMonoid: Monoid = monoid('mean', {
  takes: 'f32', components: { total: 'f32' }, identity: { total: 0 },
  lift: x => ({ total: x }),
  combine: (a, b) => ({ total: applyBinary('add', a.total, b.total) }),
  result: (c, count) => applyBinary('div', c.total, count),
})

/** e^(from − to). An infinite maximum: x − m is NaN for x = m, but e^0 is meant. */
const change = (from: Scalar, to: Scalar, $: Scalars): Scalar => $.exp($.where($.eq(from, to), 0, $.sub(from, to)))

/** The pair (m, l): the maximum and the sum of e^(x - m). `part` chooses the result. Source: Milakov and Gimelshein 2018. */
export function expSumMonoid(part: 'max' | 'sum' | 'logSumExp'): Monoid {
  return monoid(part === 'logSumExp' ? 'logSumExp' : `expSum.${part}`, {
    takes: 'f32', components: { m: 'f32', l: 'f32' }, identity: { m: -Infinity, l: 0 },
    lift: x => ({ m: x, l: 1 }),
    combine: (a, b, $) => {
      const m = $.max(a.m, b.m)
      return { m, l: $.add($.mul(a.l, change(a.m, m, $)), $.mul(b.l, change(b.m, m, $))) }
    },
    rescale: { shift: 'm', factor: change },
    result: (c, _, $) => (part === 'max' ? c.m : part === 'sum' ? c.l : $.add(c.m, $.log(c.l))),
  })
}

/** The position of the largest element; of equals the lowest; NaN is the largest. */
export function argmaxMonoid(dtype: Dtype): Monoid {
  return monoid('argmax', {
    takes: dtype, components: { value: dtype, at: 'i32' }, identity: { value: lowest[dtype], at: 2 ** 31 - 1 },
    lift: (x, at) => ({ value: x, at }),
    combine: (a, b, $) => {
      const nan = (x: Scalar): Scalar => (isFloat(x.dtype) ? $.isNaN(x) : literal(false, 'bool'))
      const lower = $.lt(b.at, a.at)
      const bWins = applyWhere(nan(a.value), $.and(nan(b.value), lower),
        $.or($.or($.gt(b.value, a.value), nan(b.value)), $.and($.eq(b.value, a.value), lower)))
      return { value: $.where(bWins, b.value, a.value), at: $.where(bWins, b.at, a.at) }
    },
    result: c => c.at,
  })
}

/** Everything that decides what a monoid does. */
export const printMonoid = (m: Monoid): string =>
  `${m.name}{${m.components.map(c => `${c.name}:${c.dtype} ${printScalar(c.identity)}; ${printScalar(c.lift)}; ${printScalar(c.combine)}`).join(' | ')} -> ${printScalar(m.result)}${m.ordered ? ' ordered' : ''}${m.emptyAllowed ? ' or none' : ''}}`

