/**
 * Four neighbours along an axis at once. Where the windows around all four lie within the axis, no index needs a clamp and
 * what is read of one row lies side by side: it comes in vectors of four elements, and what several windows share is
 * computed once. This file finds out whether a value can be had that way and which stretches of which rows it reads;
 * `emit/select-keys.ts` writes it.
 *
 * A vector's address must be a multiple of its size. Rows of any length begin anywhere, so the groups of four are moved:
 * they begin at positions p where `origin + p` is a multiple of 4, the first one before the row.
 */
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Memory, Neighbours, RowStretch, Value } from '../kernel.js'
import { atomKey } from '../prove.js'
import { valueChildren, valueIndices } from '../values.js'

type Scalar = Extract<Index, { op: 'scalar' }>
type Loop = Extract<Value, { op: 'loop' }>

/** Elements that windows may reach to each side: more would not fit the registers of 1024 threads. */
export const furthest = 8

/** How often a scalar occurs in an index, if the index is linear in it. */
export function coefficient(i: Index, name: string): number | undefined {
  switch (i.op) {
    case 'const': case 'symbol': case 'dim': return 0
    case 'scalar': return i.name === name ? 1 : 0
    case 'value': return mentionsValue(i.value, name) ? undefined : 0
    case 'add': {
      const a = coefficient(i.a, name), b = coefficient(i.b, name)
      return a === undefined || b === undefined ? undefined : a + b
    }
    case 'mul': {
      const a = coefficient(i.a, name), b = coefficient(i.b, name)
      if (a === undefined || b !== 0) return undefined
      return i.b.op === 'const' ? a * i.b.value : a === 0 ? 0 : undefined
    }
    default: return coefficient(i.a, name) === 0 && coefficient(i.b, name) === 0 ? 0 : undefined
  }
}
const mentionsValue = (v: Value, name: string): boolean =>
  valueIndices(v).some(i => coefficient(i, name) !== 0) || valueChildren(v).some(c => mentionsValue(c, name))

/** The index with other indices in the place of scalars. */
export function substitute(i: Index, put: ReadonlyMap<string, Index>): Index {
  switch (i.op) {
    case 'scalar': return put.get(i.name) ?? i
    case 'add': return ix.add(substitute(i.a, put), substitute(i.b, put))
    case 'mul': return ix.mul(substitute(i.a, put), substitute(i.b, put))
    case 'div': return ix.div(substitute(i.a, put), substitute(i.b, put))
    case 'mod': return ix.mod(substitute(i.a, put), substitute(i.b, put))
    case 'min': return ix.min(substitute(i.a, put), substitute(i.b, put))
    case 'max': return ix.max(substitute(i.a, put), substitute(i.b, put))
    default: return i
  }
}

/** An index as a constant and the rest. */
export function constantPart(i: Index): { readonly rest: Index; readonly constant: number } {
  if (i.op === 'const') return { rest: ix.zero, constant: i.value }
  if (i.op !== 'add') return { rest: i, constant: 0 }
  const a = constantPart(i.a), b = constantPart(i.b)
  return { rest: ix.add(a.rest, b.rest), constant: a.constant + b.constant }
}

/** Where a load's element lies relative to the position `at`; the variables of windows count as 0. */
export function rowOffset(index: Index, at: string, variables: readonly string[]): { readonly rest: Index; readonly constant: number } {
  return constantPart(substitute(index, new Map([at, ...variables].map(n => [n, ix.zero]))))
}

/** How far the windows within a value reach to each side, one within the other added up. */
export function reachOf(v: Value): number {
  const below = Math.max(0, ...valueChildren(v).map(reachOf))
  return v.op === 'loop' && v.parts === undefined && v.to.op === 'const' ? below + Math.floor(v.to.value / 2) : below
}

/** What is left of an index divided by 4. */
function remainder4(i: Index): Index {
  const terms = (x: Index): Index[] => (x.op === 'add' ? [...terms(x.a), ...terms(x.b)] : [x])
  const left = terms(i).filter(x => !(x.op === 'mul' && x.b.op === 'const' && x.b.value % 4 === 0))
  return ix.mod(left.reduce(ix.add, ix.zero), ix.constant(4))
}

/**
 * The value at four neighbouring positions, or nothing if it cannot be had that way: it reads along other axes, has sides
 * that may not be evaluated, or windows that reach too far. `score` relies on all positions within `reach` lying in the row.
 */
export function neighboursOf(score: Value, at: Scalar, reach: number): Neighbours | undefined {
  const stretches = new Map<string, RowStretch>()
  let fits = true
  // The value at positions at + from .. at + to, `variables` being 0.
  const visit = (v: Value, from: number, to: number, variables: readonly string[]): void => {
    if (!fits) return
    const indices = valueIndices(v)
    if (v.op === 'guarded' || v.op === 'register' || v.op === 'shared') { fits = false; return }
    if (v.op === 'load') {
      const own = coefficient(v.at, at.name)
      if (own === undefined || own > 1 || own < 0 || variables.some(n => coefficient(v.at, n) !== own)) { fits = false; return }
      if (own === 1) put(v.memory, v.at, from, to, variables)
      return
    }
    if (v.op === 'loop') { window(v, from, to, variables); return }
    for (const i of indices) {
      const own = coefficient(i, at.name)
      if (own === undefined || variables.some(n => coefficient(i, n) !== own)) { fits = false; return }
    }
    valueChildren(v).forEach(c => visit(c, from, to, variables))
  }
  const window = (v: Loop, from: number, to: number, variables: readonly string[]): void => {
    const steps = v.from.op === 'const' && v.from.value === 0 && v.to.op === 'const' ? v.to.value : 0
    if (v.parts !== undefined || steps < 1 || steps > 2 * furthest + 1 || v.monoid.ordered || v.monoid.components.length > 1) { fits = false; return }
    visit(v.element, from, to + steps - 1, [...variables, v.variable.name])
  }
  const put = (memory: Memory, index: Index, from: number, to: number, variables: readonly string[]): void => {
    const { rest, constant } = rowOffset(index, at.name, variables), key = `${memory.name} ${atomKey(rest)}`
    const known = stretches.get(key), low = constant + from, high = constant + to
    stretches.set(key, { memory, rest, from: Math.min(low, known?.from ?? low), to: Math.max(high, known?.to ?? high) })
  }
  visit(score, 0, 3, [])
  if (!fits || stretches.size === 0) return undefined
  const rows = [...stretches.values()], origin = rows[0]!.rest
  // Only rows that begin as the first one does are read in whole vectors.
  const vector = (r: RowStretch): RowStretch => (atomKey(r.rest) !== atomKey(origin) ? r : { ...r, from: Math.floor(r.from / 4) * 4, to: Math.ceil((r.to + 1) / 4) * 4 - 1, vectors: true })
  const wide = rows.map(vector)
  const over = (f: (r: RowStretch, i: number) => number): number => Math.max(0, ...wide.map(f))
  return {
    score, rows: wide, shift: remainder4(origin),
    before: reach + over((r, i) => rows[i]!.from - r.from), after: reach + 4 + over((r, i) => r.to - rows[i]!.to),
  }
}
