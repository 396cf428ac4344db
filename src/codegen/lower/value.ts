/**
 * What a node is worth at one position: the pointwise part of lowering, which all rules share. Slices, renames, splits,
 * merges and gathers only change the position; maps change the value; folds that no tile holds become loops.
 */
import { axisOf, type Expr, type Kind, type Of, type Rules } from '../../dsl/expr.js'
import { maxMonoid, meanMonoid, sumMonoid, type Monoid } from '../../dsl/monoid.js'
import { minus, plus, size, type Size } from '../../dsl/size.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Memory, Value } from '../kernel.js'
import { atomKey, provablyNonNegative, type Fact } from '../prove.js'
import * as v from '../values.js'

/** Where a node's elements lie once a kernel has stored them. */
export type Stored =
  | { readonly form: 'array'; readonly memory: Memory }
  /** One array per component of a fold, with the splits as the first axis. */
  | { readonly form: 'partials'; readonly monoid: Monoid; readonly memories: readonly Memory[]; readonly count: Index }

/** The position along each axis. */
export type Environment = ReadonlyMap<string, Index>

export interface ValueContext {
  /** What other kernels have stored. */
  readonly stored: ReadonlyMap<Expr, Stored>
  /** What this kernel holds in tiles: asked first. */
  readonly tile: (e: Expr, env: Environment) => Value | undefined
  /** A name that nothing else in the kernel has. */
  readonly fresh: (wish: string) => string
  /** True of every element that is read: loads rely on them. */
  readonly safe: readonly Fact[]
  /** True of every element that counts: values may be simplified by them, loads not. */
  readonly assumed: readonly Fact[]
}

/** Composites stand for their definitions. */
export const open = (e: Expr): Expr => (e.kind === 'composite' ? open(e.definition) : e)

/** 0 <= i < length, by `inset` more on both sides. */
export const insideFacts = (i: Index, length: Size, inset = 0): Fact[] =>
  [{ nonNegative: ix.sub(i, ix.constant(inset)) }, { nonNegative: ix.sub(ix.sub(ix.sizeIndex(length), ix.constant(1 + inset)), i) }]

const insideCondition = (i: Index, length: Size, facts: readonly Fact[]): Value => {
  const n = ix.sizeIndex(length)
  const low = provablyNonNegative(i, facts) ? v.yes : v.binaryValue('ge', v.indexValue(i), v.constantValue(0, 'i32'))
  const high = provablyNonNegative(ix.sub(ix.sub(n, ix.constant(1)), i), facts) ? v.yes : v.binaryValue('lt', v.indexValue(i), v.indexValue(n))
  return v.allOf([low, high])
}

/** Facts that follow from the position being inside its axes: loads rely on them only where that is certain. */
function following(c: ValueContext, certain: boolean, facts: readonly Fact[]): ValueContext {
  return { ...c, safe: certain ? [...c.safe, ...facts] : c.safe, assumed: [...c.assumed, ...facts] }
}
const certainlyInside = (i: Index, length: Size, c: ValueContext): boolean => {
  const guard = insideCondition(i, length, c.safe)
  return guard.op === 'const' && guard.value === 1
}

const at = (env: Environment, axis: string): Index => {
  const i = env.get(axis)
  if (i === undefined) throw new Error(`no position along '${axis}'`)
  return i
}
const changed = (env: Environment, remove: readonly string[], put: readonly (readonly [string, Index])[]): Environment =>
  new Map([...[...env].filter(([name]) => !remove.includes(name)), ...put])

/**
 * The value of a node at a position. Equal nodes at equal positions are one object within one call of `valuesAt`.
 */
export function valueAt(e: Expr, env: Environment, c: ValueContext, memo: Map<string, Value> = new Map()): Value {
  const node = open(e)
  const key = `${node.id} ${node.axes.map(a => { const i = env.get(a.name); return i === undefined ? '' : atomKey(i) }).join(',')}`
  const known = memo.get(key)
  if (known !== undefined) return known
  const value = c.tile(node, env) ?? fromMemory(node, env, c) ?? rule(node, env, c, memo)
  memo.set(key, value)
  return value
}

function fromMemory(e: Expr, env: Environment, c: ValueContext): Value | undefined {
  const stored = c.stored.get(e)
  if (stored === undefined) return undefined
  if (stored.form === 'array') {
    const guard = v.allOf(e.axes.map(a => insideCondition(at(env, a.name), a.size, c.safe)))
    return v.guardedValue(guard, v.loadValue(stored.memory, memoryOffset(stored.memory, env)), v.constantValue(0, e.dtype))
  }
  const variable = splitVariable(c), parts = partialsAt(stored, env, variable)
  return {
    op: 'loop', monoid: stored.monoid, variable, from: ix.zero, to: ix.scalar('splits', ix.longest), element: parts[0]!, parts,
    position: ix.zero, count: countValue(stored.count), dtype: stored.monoid.result.dtype,
  }
}
export const splitVariable = (c: { fresh: (wish: string) => string }): Extract<Index, { op: 'scalar' }> =>
  ix.scalar(c.fresh('part'), ix.longest, 'splits') as Extract<Index, { op: 'scalar' }>
export const partialsAt = (stored: Extract<Stored, { form: 'partials' }>, env: Environment, split: Index): Value[] =>
  stored.memories.map(m => v.loadValue(m, memoryOffset(m, new Map([...env, ['splits', split]]))))
export const countValue = (count: Index): Value => v.castValue(v.indexValue(count), 'f32')

/** Row-major. */
export function memoryOffset(m: Memory, env: Environment): Index {
  const extents = m.axes.map(a => (a.size === 'splits' ? ix.scalar('splits', ix.longest) : ix.sizeIndex(a.size)))
  return ix.offset(m.axes.map(a => at(env, a.name)), extents)
}

/** The number of elements along several axes. */
export const productOf = (e: Expr, axes: readonly string[]): Index =>
  ix.atMost(axes.map(n => ix.sizeIndex(axisOf(e, n)!.size)).reduce(ix.mul, ix.constant(1)), ix.longest)

/** Positions along several axes from one running number, the last axis fastest. */
export function unflatten(i: Index, axes: readonly { readonly name: string; readonly size: Size }[]): [string, Index][] {
  const out: [string, Index][] = []
  let rest = i
  for (let n = axes.length - 1; n > 0; n--) {
    const extent = ix.sizeIndex(axes[n]!.size)
    out.unshift([axes[n]!.name, ix.mod(rest, extent)])
    rest = ix.div(rest, extent)
  }
  return [[axes[0]!.name, rest], ...out]
}

/** A fold over axes in nested loops, the last axis innermost, as one loop per thread. */
function loopOver(over: readonly string[], operand: Expr, env: Environment, c: ValueContext, monoid: Monoid, element: (env: Environment, c: ValueContext) => Value, dtype: Value['dtype']): Value {
  const length = productOf(operand, over), axes = over.map(n => axisOf(operand, n)!)
  const variable = ix.scalar(c.fresh(over.length === 1 ? over[0]! : 'flat'), ix.longest) as Extract<Index, { op: 'scalar' }>
  const inner = changed(env, [], unflatten(variable, axes))
  const facts = axes.flatMap(a => insideFacts(inner.get(a.name)!, a.size))
  return {
    op: 'loop', monoid, variable, from: ix.zero, to: length, position: variable, count: countValue(length), dtype,
    element: element(inner, { ...c, tile: outsideOf(variable, c), safe: [...c.safe, ...facts], assumed: [...c.assumed, ...facts] }),
  }
}
/** Tiles are filled before the loop: what depends on its variable is no tile. */
const outsideOf = (variable: Index, c: ValueContext): ValueContext['tile'] => (e, env) =>
  e.axes.some(a => mentionsIndex(env.get(a.name)!, variable)) ? undefined : c.tile(e, env)
const mentionsIndex = (i: Index, variable: Index): boolean => i === variable || ix.indexChildren(i).some(x => mentionsIndex(x, variable))
// A loop's element lives in a scope of its own: nothing of it may be shared with the outside.
const inLoop = (e: Expr, env: Environment, c: ValueContext): Value => valueAt(e, env, c)

type Context = { readonly env: Environment; readonly c: ValueContext; readonly memo: Map<string, Value> }
const rules: Rules<Value, Context> = {
  tensor: e => { throw new Error(`the input ${e.name} is not bound to memory`) },
  topK: e => { throw new Error(`topK as ${e.as} was not given a kernel of its own`) },
  composite: (e, x) => valueAt(e.definition, x.env, x.c, x.memo),
  const: e => v.constantValue(e.value, e.dtype),
  iota: (e, { env }) => v.indexValue(at(env, e.axes[0]!.name)),
  map: (e, { env, c, memo }) => {
    const args = new Map(e.args.map(a => [a.name, () => valueAt(a.value, env, c, memo)]))
    return v.scalarValue(e.body, n => args.get(n)!(), c.assumed)
  },
  cast: (e, { env, c, memo }) => v.castValue(valueAt(e.arg, env, c, memo), e.dtype),
  contract: (e, { env, c }) => loopOver(e.over, e.left, env, c, sumMonoid('f32'), (inner, cc) =>
    v.binaryValue('mul', v.castValue(inLoop(e.left, inner, cc), 'f32'), v.castValue(inLoop(e.right, inner, cc), 'f32')), 'f32'),
  reduce: (e, { env, c }) => loopOver(e.over, e.arg, env, c, e.monoid, (inner, cc) => inLoop(e.arg, inner, cc), e.dtype),
  window: (e, { env, c }) => windowValue(e, env, c),
  gather: (e, { env, c, memo }) => {
    const axis = axisOf(e.arg, e.axis)!, raw = valueAt(e.index, env, c, memo)
    const { index, facts } = clampIndex(e.index, raw, axis.size)
    return valueAt(e.arg, changed(env, [], [[e.axis, index]]), { ...c, safe: [...c.safe, ...facts], assumed: [...c.assumed, ...facts] }, memo)
  },
  slice: (e, { env, c, memo }) => {
    const i = at(env, e.as), length = axisOf(e.arg, e.axis)!.size
    // What binding has checked: 0 <= from, to <= length.
    const checked: Fact[] = [{ nonNegative: ix.sizeIndex(e.from) }, { nonNegative: rawIndex(minus(length, e.to)) }, { nonNegative: rawIndex(e.from) }]
    const inner = changed(env, [e.as], [[e.axis, ix.add(i, rawIndex(e.from))]])
    return valueAt(e.arg, inner, { ...c, safe: [...c.safe, ...checked], assumed: [...c.assumed, ...checked] }, memo)
  },
  concat: (e, { env, c }) => {
    const i = at(env, e.axis), certain = certainlyInside(i, axisOf(e, e.axis)!.size, c)
    let start = size(0)
    const parts = e.parts.map((p, n) => {
      const length = axisOf(p, e.axis)!.size, from = start
      start = plus(start, length)
      const own = ix.sub(i, rawIndex(from))
      // A side of its own, chosen by the guards before it; only the last one's end is not tested.
      const inner = following(c, certain || n < e.parts.length - 1, insideFacts(own, length))
      return { end: start, value: valueAt(p, changed(env, [], [[e.axis, own]]), inner) }
    })
    return parts.slice(0, -1).reduceRight((otherwise, p) => v.guardedValue(v.binaryValue('lt', v.indexValue(i), v.indexValue(ix.sizeIndex(p.end))), p.value, otherwise), parts[parts.length - 1]!.value)
  },
  rename: (e, { env, c, memo }) => valueAt(e.arg, changed(env, [e.to], [[e.from, at(env, e.to)]]), c, memo),
  split: (e, { env, c, memo }) => {
    const whole = ix.offset(e.into.map(a => at(env, a.name)), e.into.map(a => ix.sizeIndex(a.size)))
    const certain = e.into.every(a => certainlyInside(at(env, a.name), a.size, c))
    const inner = following(c, certain, insideFacts(whole, axisOf(e.arg, e.axis)!.size))
    return valueAt(e.arg, changed(env, e.into.map(a => a.name), [[e.axis, whole]]), inner, memo)
  },
  merge: (e, { env, c, memo }) => {
    const axes = e.from.map(n => axisOf(e.arg, n)!), parts = unflatten(at(env, e.as), axes)
    const certain = certainlyInside(at(env, e.as), axisOf(e, e.as)!.size, c)
    const inner = following(c, certain, parts.flatMap(([n, i]) => insideFacts(i, axisOf(e.arg, n)!.size)))
    return valueAt(e.arg, changed(env, [e.as], parts), inner, memo)
  },
}
const rule = (e: Expr, env: Environment, c: ValueContext, memo: Map<string, Value>): Value =>
  (rules[e.kind] as (e: Expr, x: Context) => Value)(e, { env, c, memo })

/** A size as plain arithmetic: unlike an axis it may be negative on the way. */
const rawIndex = (s: Size): Index => s.terms.reduce((sum, [name, k]) => ix.add(sum, ix.mul(ix.symbol(name), ix.constant(k))), ix.constant(s.constant))

function windowValue(e: Of<'window'>, env: Environment, c: ValueContext): Value {
  const i = at(env, e.axis), half = (e.size - 1) / 2, axis = axisOf(e.arg, e.axis)!, n = ix.sizeIndex(axis.size)
  if (half === 0) return valueAt(e.arg, env, c)
  const variable = ix.scalar(c.fresh('near'), ix.longest) as Extract<Index, { op: 'scalar' }>
  const element = (position: Index): Value => {
    const facts = insideFacts(position, axis.size)
    return inLoop(e.arg, changed(env, [], [[e.axis, position]]), { ...c, tile: outsideOf(variable, c), safe: [...c.safe, ...facts], assumed: [...c.assumed, ...facts] })
  }
  if (provablyNonNegative(ix.sub(i, ix.constant(half)), c.safe) && provablyNonNegative(ix.sub(ix.sub(n, ix.constant(half + 1)), i), c.safe)) {
    // All neighbours are there: no bounds, and the same number everywhere.
    const near = ix.add(i, ix.sub(ix.atMost(variable, e.size - 1), ix.constant(half)))
    return {
      op: 'loop', monoid: e.pool === 'max' ? maxMonoid('f32') : e.pool === 'sum' ? sumMonoid('f32') : meanMonoid, variable, from: ix.zero, to: ix.constant(e.size),
      element: element(near), position: variable, count: v.constantValue(e.size, 'f32'), dtype: 'f32',
    }
  }
  if (e.pool === 'max') {
    // A neighbour beyond the end is replaced by the last one, which is no more than it was: no guards, and a fixed
    // number of steps, so that a compiler can issue all loads before the first is used.
    const near = ix.add(i, ix.sub(ix.atMost(variable, e.size - 1), ix.constant(half)))
    const clamped = ix.max(ix.min(near, ix.sub(n, ix.constant(1))), ix.zero)
    return { op: 'loop', monoid: maxMonoid('f32'), variable, from: ix.zero, to: ix.constant(e.size), element: element(clamped), position: variable, count: v.constantValue(e.size, 'f32'), dtype: 'f32' }
  }
  const from = ix.max(ix.sub(i, ix.constant(half)), ix.zero), to = ix.min(ix.add(i, ix.constant(half + 1)), n)
  const count = e.counted ? v.constantValue(e.size, 'f32') : v.castValue(v.indexValue(ix.sub(to, from)), 'f32')
  return { op: 'loop', monoid: e.pool === 'sum' ? sumMonoid('f32') : meanMonoid, variable, from, to, element: element(variable), position: variable, count, dtype: 'f32' }
}

/** Indices outside are clamped; positions that topK found need no clamp. */
function clampIndex(e: Expr, raw: Value, length: Size): { index: Index; facts: Fact[] } {
  const found = positionsOf(e)
  const last = ix.sub(ix.sizeIndex(length), ix.constant(1))
  const source = found !== undefined && provablyNonNegative(rawIndex(minus(length, found)), []) ? raw
    : raw.dtype === 'u32' ? v.castValue(v.binaryValue('min', raw, v.castValue(v.indexValue(last), 'u32')), 'i32')
      : v.binaryValue('max', v.constantValue(0, 'i32'), v.binaryValue('min', raw, v.indexValue(last)))
  if (source.op === 'const') return { index: ix.constant(source.value), facts: [] }
  const index = source.op === 'index' ? source.index : ix.valueIndex(source, ix.longest)
  return { index, facts: insideFacts(index, length) }
}
/** The length of the axis that topK's positions count along, if that is what the node holds. */
function positionsOf(e: Expr): Size | undefined {
  const node = open(e)
  switch (node.kind) {
    case 'topK': return axisOf(node.arg, node.axis)!.size
    case 'rename': case 'slice': case 'split': case 'merge': return positionsOf(node.arg)
    default: return undefined
  }
}

/** Kinds whose value at a position is that of one position of their argument. */
export const moves: ReadonlySet<Kind> = new Set<Kind>(['slice', 'rename', 'split', 'merge'])
