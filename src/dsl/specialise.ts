/** The same graph with some symbols replaced by numbers: what fixes tiles must be known when a kernel is written. */
import { allChildren } from './bind.js'
import { axisOf, node, topological, type Axis, type Expr, type Kind, type Of } from './expr.js'
import type { Scalar } from './scalar.js'
import { substituteSize, type Size, type Sizes } from './size.js'

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
  composite: (e, child) => ({ args: e.args.map(child), definition: child(e.definition), ...(e.normalised === undefined ? {} : { normalised: { ...e.normalised, arg: child(e.normalised.arg) } }) }),
}

/**
 * The same graph with other sizes, and with other nodes: `change` gets each node with its operands already changed, and
 * the node that it was. Source lines stay.
 */
export function rebuild<T extends Readonly<Record<string, Expr>>>(outputs: T, size: (s: Size) => Size, change: (e: Expr, before: Expr) => Expr = e => e): T {
  const done = new Map<Expr, Expr>()
  const below = (e: Expr): readonly Expr[] => (e.kind === 'composite' ? [...e.args, e.definition] : allChildren(e))
  for (const e of topological(Object.values(outputs), below)) {
    const rebuilt = (fields[e.kind] as (e: Expr, child: (e: Expr) => Expr, size: (s: Size) => Size) => object)(e, c => done.get(c)!, size)
    done.set(e, change(node({ ...e, ...rebuilt, axes: axes(e.axes, size) } as never, e.source), e))
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, e]) => [name, done.get(e)!])) as T
}

/** Puts values in the place of symbols, everywhere. */
export const specialise = <T extends Readonly<Record<string, Expr>>>(outputs: T, values: Sizes): T =>
  (Object.keys(values).length === 0 ? outputs : rebuild(outputs, s => substituteSize(s, values)))

/** Longest axis that is specialised without being asked: numbers of heads and the like, not lengths. */
const short = 16
/** The same for axes that only inputs are contracted over: a tile holds a row of each operand whole. */
const shortContracted = 256

/**
 * Symbols that are short and plain lengths of axes: known numbers make better text, and a block must hold axes that are
 * folded or contracted within a tile whole. Lengths from which others are cut (`key - 32`) stay symbols, so that one text serves all of them.
 */
export function symbolsToSpecialise(outputs: Readonly<Record<string, Expr>>, sizes: Sizes): Sizes {
  const plain = new Set<string>(), mixed = new Set<string>(), contracted = new Set<string>(), streamed = new Set<string>()
  for (const e of topological(Object.values(outputs), allChildren)) {
    if (e.kind === 'contract' || e.kind === 'reduce') {
      // What is folded of something that was folded, or contracted with it, is a length to go along.
      const inputs = topological(e.kind === 'contract' ? [e.left, e.right] : [e.arg], allChildren).every(x => x.kind !== 'contract' && x.kind !== 'reduce')
      if (inputs && e.kind === 'reduce') continue
      for (const n of e.over) axisOf(e.kind === 'contract' ? e.left : e.arg, n)!.size.terms.forEach(([symbol]) => (inputs ? contracted : streamed).add(symbol))
    }
    for (const { size: s } of e.axes) {
      const alone = s.constant === 0 && s.terms.length === 1 && s.terms[0]![1] === 1
      s.terms.forEach(([n]) => (alone ? plain : mixed).add(n))
    }
  }
  return Object.fromEntries([...plain].filter(n => !mixed.has(n) && (sizes[n] ?? 0) > 0 && sizes[n]! <= (contracted.has(n) && !streamed.has(n) ? shortContracted : short)).map(n => [n, sizes[n]!]))
}
