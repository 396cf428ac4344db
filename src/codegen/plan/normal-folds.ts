/**
 * Folds in the forms that kernels have: along one long axis, and all that are known of one argument at once.
 *
 * - Folds of one argument along the same axes become one fold with the components of all, from which each is read off:
 *   sum, maximum and argmax of a row are one pass over it.
 * - A fold over several long axes becomes folds one after the other, where the result of the first is an element for the
 *   second: sums, extremes, means. Few partial results remain after the inner axis, so the second fold is cheap.
 * - A contraction whose operands have the same axes is the sum of their products.
 * - A contraction over several axes of which one is long goes along one axis that they are merged to; with several long
 *   ones it becomes a sum of contractions.
 *
 * All of it only changes the order in which elements are put together, which the language leaves open.
 */
import { axisOf, node, topological, type Axis, type Expr, type Of } from '../../dsl/expr.js'
import { allChildren } from '../../dsl/bind.js'
import { sumMonoid, type Component, type Monoid } from '../../dsl/monoid.js'
import { merge } from '../../dsl/ops.js'
import { substitute, variable, type Scalar } from '../../dsl/scalar.js'
import { rebuild } from '../../dsl/specialise.js'
import { foldKey, isFold, longAxes } from '../folds.js'
import { open } from '../lower/value.js'

export function normalFolds<T extends Readonly<Record<string, Expr>>>(program: T): T {
  const names = new Set(topological(Object.values(program), allChildren).flatMap(e => e.axes.map(a => a.name)))
  const along = rebuild(program, s => s, e => (isFold(e) ? alongOne(e, names) : e))
  const joint = jointMonoids(along)
  return joint.size === 0 ? along : rebuild(along, s => s, (e, before) => {
    const monoid = joint.get(before)
    return monoid === undefined || e.kind !== 'reduce' ? e : node<'reduce'>({ ...e, monoid }, e.source)
  })
}

// ---------------------------------------------------------------------------------------------- one long axis

function alongOne(f: Of<'reduce'> | Of<'contract'>, names: ReadonlySet<string>): Expr {
  const long = longAxes(f)
  if (f.kind === 'reduce') return long.length > 1 ? inTurns(f, long) : f
  if (f.left.axes.length === f.right.axes.length && f.left.axes.every(a => axisOf(f.right, a.name) !== undefined)) return alongOne(sumOfProducts(f), names)
  return f.over.length > 1 && long.length > 0 ? oneContraction(f, long, names) : f
}

/** An inner product: no element serves twice, so that tiles in shared memory would only cost. */
function sumOfProducts(f: Of<'contract'>): Of<'reduce'> {
  const operand = (name: string, e: Expr): Scalar => (e.dtype === 'f32' ? variable(name, 'f32') : { op: 'cast', a: variable(name, e.dtype), dtype: 'f32' })
  const products = node<'map'>({
    kind: 'map', args: [{ name: 'a', value: f.left }, { name: 'b', value: f.right }], dtype: 'f32', axes: f.left.axes,
    body: { op: 'binary', name: 'mul', a: operand('a', f.left), b: operand('b', f.right), dtype: 'f32' },
  }, f.source)
  return node<'reduce'>({ kind: 'reduce', arg: products, over: f.over, monoid: sumMonoid('f32'), dtype: 'f32', axes: f.axes }, f.source)
}

const isVariable = (s: Scalar, name: string): boolean => s.op === 'var' && s.name === name

/** The fold without the outermost long axis, and then along it. */
function inTurns(f: Of<'reduce'>, long: readonly string[]): Expr {
  const [component, ...others] = f.monoid.components
  if (component === undefined || others.length > 0 || f.monoid.ordered || !isVariable(component.lift, 'x') || component.dtype !== f.monoid.takes) return f
  const outer = f.arg.axes.find(a => long.includes(a.name))!, inner = f.over.filter(n => n !== outer.name)
  const parts = node<'reduce'>({
    kind: 'reduce', arg: f.arg, over: inner, dtype: component.dtype, axes: f.arg.axes.filter(a => !inner.includes(a.name)),
    monoid: { ...f.monoid, result: { op: 'var', name: component.name, dtype: component.dtype } },
  }, f.source)
  // Each element of the second fold counts for as many as the first put together.
  const count = inner.map(n => axisOf(f.arg, n)!).reduce<Scalar>((n, a) => ({ op: 'binary', name: 'mul', a: n, b: { op: 'size', size: a.size, dtype: 'f32' }, dtype: 'f32' }), { op: 'var', name: 'count', dtype: 'f32' })
  const monoid: Monoid = { ...f.monoid, result: substitute(f.monoid.result, name => (name === 'count' ? count : undefined)) }
  return node<'reduce'>({ ...f, arg: alongOne(parts, new Set()), over: [outer.name], monoid }, f.source)
}

function oneContraction(f: Of<'contract'>, long: readonly string[], names: ReadonlySet<string>): Expr {
  const over = f.left.axes.filter(a => f.over.includes(a.name))
  if (over.filter(a => a.size.terms.length > 0).length <= 1) {
    const order = over.map(a => a.name)
    let as = order.map((n, i) => (i === 0 ? n : n[0]!.toUpperCase() + n.slice(1))).join('')
    while (names.has(as)) as += '0'
    const flat = (e: Expr): Expr => merge(e as never, order as never, as as never)
    return node<'contract'>({ ...f, left: flat(f.left), right: flat(f.right), over: [as] }, f.source)
  }
  const outer = over.find(a => long.includes(a.name))!
  const axes: Axis[] = [outer, ...f.axes]
  const products = oneLess({ ...f, over: f.over.filter(n => n !== outer.name), axes }, f.source, names)
  return node<'reduce'>({ kind: 'reduce', arg: products, over: [outer.name], monoid: sumMonoid('f32'), dtype: 'f32', axes: f.axes }, f.source)
}
const oneLess = (fields: Parameters<typeof node<'contract'>>[0], source: Expr['source'], names: ReadonlySet<string>): Expr => alongOne(node<'contract'>(fields, source), names)

// ---------------------------------------------------------------------------------------------- several results

/** The monoid with everybody's components for each fold that shares its argument and axes with others. */
function jointMonoids(program: Readonly<Record<string, Expr>>): ReadonlyMap<Expr, Monoid> {
  const families = new Map<string, Of<'reduce'>[]>()
  for (const e of topological(Object.values(program), allChildren)) {
    if (e.kind !== 'reduce' || e.monoid.ordered) continue
    const key = `${open(e.arg).id} ${e.monoid.takes} over ${e.over.join(' ')}`
    families.set(key, [...(families.get(key) ?? []), e])
  }
  const joint = new Map<Expr, Monoid>()
  for (const family of families.values()) {
    if (new Set(family.map(foldKey)).size < 2) continue
    const components: Component[] = [], renamed = new Map<string, ReadonlyMap<string, Scalar>>()
    for (const f of family) if (!renamed.has(foldKey(f))) renamed.set(foldKey(f), addComponents(components, f.monoid))
    for (const f of family) {
      const own = renamed.get(foldKey(f))!
      joint.set(f, { ...f.monoid, components, result: rename(f.monoid.result, own) })
    }
  }
  return joint
}

/** Adds a monoid's components under names that are free; returns what stands for each from now on. */
function addComponents(all: Component[], m: Monoid): ReadonlyMap<string, Scalar> {
  const names = new Map<string, string>(), taken = new Set(['count', ...all.map(c => c.name)])
  for (const c of m.components) {
    const plain = m.components.length > 1 ? c.name : m.name.replace(/[^A-Za-z0-9]/g, '').replace(/^[^a-z]+/, '') || c.name
    let name = plain
    for (let n = 2; taken.has(name); n++) name = `${plain}${n}`
    taken.add(name)
    names.set(c.name, name)
  }
  const called = (prefix: string): [string, Scalar][] => m.components.map(c => [prefix + c.name, variable(prefix + names.get(c.name)!, c.dtype)])
  const both = new Map([...called('a.'), ...called('b.')])
  all.push(...m.components.map(c => ({ ...c, name: names.get(c.name)!, combine: rename(c.combine, both) })))
  return new Map(called(''))
}

const rename = (s: Scalar, names: ReadonlyMap<string, Scalar>): Scalar => substitute(s, name => names.get(name))
