/** The same graph with some symbols replaced by numbers: what fixes tiles must be known when a kernel is written. */
import { allChildren } from './bind.js'
import { axisOf, node, topological, type Axis, type Expr, type Kind, type Of } from './expr.js'
import type { Scalar } from './scalar.js'
import { fixedSize, substituteSize, type Size, type Sizes } from './size.js'

type Rebuild = { readonly [K in Kind]: (e: Of<K>, child: (e: Expr) => Expr, size: (s: Size) => Size) => object }

const axes = (list: readonly Axis[], size: (s: Size) => Size): Axis[] => list.map(a => ({ name: a.name, size: size(a.size) }))
const scalar = (s: Scalar, size: (s: Size) => Size): Scalar => {
  switch (s.op) {
    case 'size': return { ...s, size: size(s.size) }
    case 'unary': case 'cast': return { ...s, a: scalar(s.a, size) }
    case 'binary': return { ...s, a: scalar(s.a, size), b: scalar(s.b, size) }
    case 'where': return { ...s, condition: scalar(s.condition, size), a: scalar(s.a, size), b: scalar(s.b, size) }
    default: return s
  }
}

const fields: Rebuild = {
  tensor: () => ({}), const: () => ({}), iota: () => ({}),
  map: (e, child, size) => ({ args: e.args.map(a => ({ name: a.name, value: child(a.value) })), body: scalar(e.body, size) }),
  contract: (e, child) => ({ left: child(e.left), right: child(e.right) }),
  reduce: (e, child) => ({ arg: child(e.arg) }),
  window: (e, child) => ({ arg: child(e.arg) }),
  topK: (e, child, size) => ({ arg: child(e.arg), k: size(e.k) }),
  gather: (e, child) => ({ arg: child(e.arg), index: child(e.index) }),
  slice: (e, child, size) => ({ arg: child(e.arg), from: size(e.from), to: size(e.to) }),
  concat: (e, child) => ({ parts: e.parts.map(child) }),
  cast: (e, child) => ({ arg: child(e.arg) }),
  rename: (e, child) => ({ arg: child(e.arg) }),
  split: (e, child, size) => ({ arg: child(e.arg), into: axes(e.into, size) }),
  merge: (e, child) => ({ arg: child(e.arg) }),
  composite: (e, child) => ({ args: e.args.map(child), definition: child(e.definition) }),
}

/** Puts values in the place of symbols, everywhere. Source lines stay. */
export function specialise<T extends Readonly<Record<string, Expr>>>(outputs: T, values: Sizes): T {
  if (Object.keys(values).length === 0) return outputs
  const done = new Map<Expr, Expr>()
  const size = (s: Size): Size => substituteSize(s, values)
  const below = (e: Expr): readonly Expr[] => (e.kind === 'composite' ? [...e.args, e.definition] : allChildren(e))
  for (const e of topological(Object.values(outputs), below)) {
    const rebuilt = (fields[e.kind] as (e: Expr, child: (e: Expr) => Expr, size: (s: Size) => Size) => object)(e, c => done.get(c)!, size)
    done.set(e, node({ ...e, ...rebuilt, axes: axes(e.axes, size) } as never, e.source))
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, e]) => [name, done.get(e)!])) as T
}

/** Longest axis that is specialised without being asked: group sizes and the like, not lengths. */
const smallest = 16

/**
 * Symbols that are short, folded somewhere, and plain lengths of axes: a block must hold such axes whole. Lengths from
 * which others are cut (`key - 32`) stay symbols, so that one text serves all of them.
 */
export function symbolsToSpecialise(outputs: Readonly<Record<string, Expr>>, sizes: Sizes): Sizes {
  const folded = new Set<string>(), mixed = new Set<string>()
  for (const e of topological(Object.values(outputs), allChildren)) {
    for (const a of e.axes) if (a.size.terms.length > 0 && !(a.size.constant === 0 && a.size.terms.length === 1 && a.size.terms[0]![1] === 1)) a.size.terms.forEach(([n]) => mixed.add(n))
    const over = e.kind === 'reduce' ? e.over.map(n => axisOf(e.arg, n)!) : e.kind === 'contract' ? e.over.map(n => axisOf(e.left, n)!) : []
    for (const a of over) if (fixedSize(a.size) === undefined) a.size.terms.forEach(([n]) => folded.add(n))
  }
  return Object.fromEntries([...folded].filter(n => !mixed.has(n) && (sizes[n] ?? Infinity) <= smallest && sizes[n]! > 0).map(n => [n, sizes[n]!]))
}

