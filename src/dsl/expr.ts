/**
 * The expression graph: what is computed. Nodes are frozen and hash-consed: building the same thing twice gives the same
 * object, so sharing is visible and graphs compare by identity. Only `ops.ts` and `composite.ts` build nodes; they
 * check first.
 *
 * Order of axes has no meaning in the language. The order a node lists them in is the order of its parts', which is
 * also the physical (row-major) order of inputs and outputs.
 */
import type { Dtype } from './dtype.js'
import { printMonoid, type Monoid } from './monoid.js'
import { printNumber, printScalar, type Scalar } from './scalar.js'
import { printSize, type Size } from './size.js'
import { userSource, type Source } from './source.js'

export interface Axis {
  readonly name: string
  readonly size: Size
}

interface Node {
  readonly id: number
  readonly dtype: Dtype
  readonly axes: readonly Axis[]
  readonly source: Source | undefined
}

/** An argument of a map by the name its body uses. */
export interface MapArgument {
  readonly name: string
  readonly value: Expr
}

export type Pool = 'max' | 'mean' | 'sum'

/**
 * Of a composite: each element x of `arg` becomes weight(x, s) · scale, where the fold of `arg` along `over` by a monoid with
 * a `rescale` has the shift s and `scale` is in its components. The weight is the rescale's factor(x, s) · weight(s, s), so
 * that a sum of such elements can go along with the fold.
 */
export interface Normalised {
  readonly arg: Expr
  readonly over: readonly string[]
  readonly monoid: Monoid
  /** In the variables `x` and `shift`. */
  readonly weight: Scalar
  /** In the monoid's components. */
  readonly scale: Scalar
}

export type Expr = Node & (
  | { readonly kind: 'tensor'; readonly name: string }
  | { readonly kind: 'const'; readonly value: number }
  /** The position along its only axis, i32. */
  | { readonly kind: 'iota' }
  | { readonly kind: 'map'; readonly args: readonly MapArgument[]; readonly body: Scalar }
  /** Sum over `over` of left × right, in f32. */
  | { readonly kind: 'contract'; readonly left: Expr; readonly right: Expr; readonly over: readonly string[] }
  | { readonly kind: 'reduce'; readonly arg: Expr; readonly over: readonly string[]; readonly monoid: Monoid }
  /** Pooling with stride 1 around each position; `counted`: a mean divides by `size` even where padding lies in it. */
  | { readonly kind: 'window'; readonly arg: Expr; readonly axis: string; readonly size: number; readonly pool: Pool; readonly counted: boolean }
  /** Positions along `axis` of the k largest, as the new axis `as`. */
  | { readonly kind: 'topK'; readonly arg: Expr; readonly axis: string; readonly k: Size; readonly as: string; readonly order: 'position' | 'score' }
  | { readonly kind: 'gather'; readonly arg: Expr; readonly axis: string; readonly index: Expr }
  | { readonly kind: 'slice'; readonly arg: Expr; readonly axis: string; readonly from: Size; readonly to: Size; readonly as: string }
  | { readonly kind: 'concat'; readonly parts: readonly Expr[]; readonly axis: string }
  | { readonly kind: 'cast'; readonly arg: Expr }
  | { readonly kind: 'rename'; readonly arg: Expr; readonly from: string; readonly to: string }
  /** One axis as several, the last one fastest. */
  | { readonly kind: 'split'; readonly arg: Expr; readonly axis: string; readonly into: readonly Axis[] }
  /** Several axes as one, the last one fastest. */
  | { readonly kind: 'merge'; readonly arg: Expr; readonly from: readonly string[]; readonly as: string }
  /** A named composition; `definition` says it in the kinds above. */
  | { readonly kind: 'composite'; readonly name: string; readonly args: readonly Expr[]; readonly definition: Expr; readonly normalised?: Normalised }
)

export type Kind = Expr['kind']
export type Of<K extends Kind> = Extract<Expr, { kind: K }>
/** An exhaustive table: one rule per kind of node. */
export type Rules<R, C = void> = { readonly [K in Kind]: (e: Of<K>, context: C) => R }

export const applyRule = <R, C>(rules: Rules<R, C>, e: Expr, context: C): R =>
  (rules[e.kind] as (e: Expr, context: C) => R)(e, context)

const childrenOf: Rules<readonly Expr[]> = {
  tensor: () => [],
  const: () => [],
  iota: () => [],
  map: e => e.args.map(a => a.value),
  contract: e => [e.left, e.right],
  reduce: e => [e.arg],
  window: e => [e.arg],
  topK: e => [e.arg],
  gather: e => [e.arg, e.index],
  slice: e => [e.arg],
  concat: e => e.parts,
  cast: e => [e.arg],
  rename: e => [e.arg],
  split: e => [e.arg],
  merge: e => [e.arg],
  composite: e => e.args,
}
/** The nodes that a node is computed from; a composite's are its arguments, not its definition. */
export const children = (e: Expr): readonly Expr[] => applyRule(childrenOf, e, undefined)

const axesText = (axes: readonly Axis[]): string => axes.map(a => `${a.name}=${printSize(a.size)}`).join(' ')

/** A node's own payload as text; what it is computed from is not in it. */
const payloadOf: Rules<string> = {
  tensor: e => JSON.stringify(e.name),
  const: e => printNumber(e.value),
  iota: e => e.axes[0]!.name,
  map: e => `${e.args.map(a => a.name).join(' ')} => ${printScalar(e.body)}`,
  contract: e => `over ${e.over.join(' ')}`,
  reduce: e => `${printMonoid(e.monoid)} over ${e.over.join(' ')}`,
  window: e => `${e.pool} ${e.size} over ${e.axis}${e.pool === 'mean' ? (e.counted ? ', padding counted' : ', padding not counted') : ''}`,
  topK: e => `${printSize(e.k)} over ${e.axis} as ${e.as}, by ${e.order}`,
  gather: e => `along ${e.axis}`,
  slice: e => `${e.axis}[${printSize(e.from)} .. ${printSize(e.to)}) as ${e.as}`,
  concat: e => `along ${e.axis}`,
  cast: e => `to ${e.dtype}`,
  rename: e => `${e.from} to ${e.to}`,
  split: e => `${e.axis} into ${axesText(e.into)}`,
  merge: e => `${e.from.join(' ')} as ${e.as}`,
  composite: e => e.name,
}
export const payload = (e: Expr): string => applyRule(payloadOf, e, undefined)

let nextId = 0
const interned = new Map<string, WeakRef<Expr>>()
const forget = new FinalizationRegistry<string>(key => {
  if (interned.get(key)?.deref() === undefined) interned.delete(key)
})

type Payload<E> = E extends Expr ? Omit<E, 'id' | 'source'> : never

/** Interns a node. The first one built keeps its source line. */
export function node<K extends Kind>(fields: Extract<Payload<Expr>, { kind: K }>, source: Source | undefined = userSource()): Of<K> {
  const draft = { ...fields, id: -1, source: undefined } as unknown as Expr
  const below = draft.kind === 'composite' ? [...draft.args, draft.definition] : children(draft)
  const key = `${draft.kind} ${payload(draft)} (${below.map(c => c.id).join(' ')}) ${draft.dtype}[${axesText(draft.axes)}]`
  const known = interned.get(key)?.deref()
  if (known !== undefined) return known as Of<K>
  const fresh = Object.freeze({ ...draft, axes: Object.freeze(draft.axes.map(a => Object.freeze(a))), id: nextId++, source }) as Expr
  interned.set(key, new WeakRef(fresh))
  forget.register(fresh, key)
  return fresh as Of<K>
}

export const axisOf = (e: Expr, name: string): Axis | undefined => e.axes.find(a => a.name === name)

/** All nodes below the roots, each once, children first. Composites are opened only on request. */
export function topological(roots: readonly Expr[], below: (e: Expr) => readonly Expr[] = children): Expr[] {
  const seen = new Set<Expr>(), order: Expr[] = []
  const stack: [Expr, boolean][] = [...roots].reverse().map(r => [r, false])
  while (stack.length > 0) {
    const [e, done] = stack.pop()!
    if (done) { order.push(e); continue }
    if (seen.has(e)) continue
    seen.add(e)
    stack.push([e, true])
    for (const c of [...below(e)].reverse()) if (!seen.has(c)) stack.push([c, false])
  }
  return order
}
