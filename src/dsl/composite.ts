/**
 * Named compositions. Each keeps its name in the graph and carries its definition in primitives: the interpreter opens
 * it, lowering may know the name. Nothing is taken apart and then recognised again.
 */
import { checkAxis, checkDistinct, checkList, checkOptions, checkTensor, fail } from './checks.js'
import type { Dtype } from './dtype.js'
import { node, type Expr, type Normalised } from './expr.js'
import { expSumMonoid } from './monoid.js'
import { add, cast, div, exp, mean, mul, reduce, rsqrt, sub } from './ops.js'
import { applyBinary, literal, scalars, variable } from './scalar.js'
import type { Tensor } from './tensor.js'

type Float = 'f32' | 'f16' | 'bf16'

/** Gives a composition a name. `definition` is in primitives or other composites; `normalised` says the same of it, if it can. */
export const composite = <A extends string, D extends Dtype>(name: string, args: readonly Expr[], definition: Tensor<A, D>, normalised?: Normalised): Tensor<A, D> =>
  node<'composite'>({ kind: 'composite', name, args, definition, dtype: definition.dtype, axes: definition.axes, ...(normalised === undefined ? {} : { normalised }) }) as never

/** Checks first, so that complaints name what the user wrote and not a part of its definition. */
function checkOver(op: string, x: Expr, over: readonly string[]): void {
  checkTensor(op, x)
  checkList(op, over, `${op}(x, ${op === 'layerNorm' ? "['row', 'column']" : "'row', 'column'"})`)
  if (over.length === 0) fail('axis', `${op}: no axis`, `name at least one of ${x.axes.map(a => `'${a.name}'`).join(', ')}`)
  checkDistinct(op, over)
  for (const n of over) checkAxis(op, x, n)
}

/** ln Σ e^x along the axes, f32, without overflow. */
export function logSumExp<A extends string, const O extends A>(x: Tensor<A, Float>, ...over: readonly O[]): Tensor<Exclude<A, O>, 'f32'> {
  checkOver('logSumExp', x, over)
  return composite(`logSumExp over ${over.join(' ')}`, [x], reduce(x, expSumMonoid('logSumExp'), ...over)) as never
}

/**
 * e^(x − m) · (1 / Σ e^(x − m)) along the axes, m the maximum there, f32. One quotient a row, not one an element: a correctly
 * rounded division is some 10 instructions where a product is one, and the result differs by one unit in the last place.
 */
export function softmax<A extends string, const O extends A>(x: Tensor<A, Float>, ...over: readonly O[]): Tensor<A, 'f32'> {
  checkOver('softmax', x, over)
  const y: Tensor<A, 'f32'> = cast(x, 'f32')
  const m = reduce(y, expSumMonoid('max'), ...over) as Tensor<Exclude<A, O>, 'f32'>
  const l = reduce(y, expSumMonoid('sum'), ...over) as Tensor<Exclude<A, O>, 'f32'>
  return composite(`softmax over ${over.join(' ')}`, [x], mul(exp(sub(y, m)), div(1, l)),
    { arg: y, over, monoid: expSumMonoid('sum'), weight: scalars.exp(scalars.sub(variable('x', 'f32'), variable('shift', 'f32'))), scale: applyBinary('div', literal(1, 'f32'), variable('l', 'f32')) }) as never
}

export interface NormOptions {
  /** Added to the variance. Default 1e-5. */
  readonly epsilon?: number
}

/** (x − mean) / √(variance + ε) along the axes, times `weight`, plus `bias` where given, f32. */
export function layerNorm<A extends string, const O extends A>(
  x: Tensor<A, Float>, over: O | readonly O[],
  options: NormOptions & { readonly weight?: Tensor<A, Float>; readonly bias?: Tensor<A, Float> } = {},
): Tensor<A, 'f32'> {
  const axes = (typeof over === 'string' ? [over] : over) as readonly O[]
  checkOver('layerNorm', x, axes)
  checkOptions('layerNorm', options, [], "layerNorm(x, 'a', { epsilon: 1e-5, weight })")
  const { epsilon = 1e-5, weight, bias } = options
  for (const t of [weight, bias]) if (t !== undefined) checkTensor('layerNorm', t)
  const centred = sub(x, mean(x, ...axes)) as Tensor<A, 'f32'>
  const variance = mean(mul(centred, centred) as Tensor<A, 'f32'>, ...axes)
  let y = mul(centred, rsqrt(add(variance, epsilon) as Tensor<Exclude<A, O>, 'f32'>)) as Tensor<A, 'f32'>
  if (weight !== undefined) y = mul(y, weight) as Tensor<A, 'f32'>
  if (bias !== undefined) y = add(y, bias) as Tensor<A, 'f32'>
  return composite(`layerNorm over ${axes.join(' ')}`, [x, ...(weight === undefined ? [] : [weight]), ...(bias === undefined ? [] : [bias])], y)
}

/** Gives an expression a name for people: kernels, arrays and `explain` use it. */
export const label = <A extends string, D extends Dtype>(name: string, x: Tensor<A, D>): Tensor<A, D> => composite(name, [x], checkTensor('label', x) as typeof x)
