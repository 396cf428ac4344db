/** Facts about kernels that several passes need: which dimensions, shared tiles and symbols occur, and where tiles lie. */
import { byteSize } from '../dsl/dtype.js'
import { scalarChildren, type Scalar } from '../dsl/scalar.js'
import type { Size } from '../dsl/size.js'
import { indexChildren, sizeIndex, type Index } from './index-expr.js'
import { sharedElements, type Dim, type Kernel, type RegisterTile, type SharedTile, type Statement, type Value } from './kernel.js'
import { visitValue } from './values.js'

const sizesIn = (s: Scalar): Size[] => (s.op === 'size' ? [s.size] : scalarChildren(s).flatMap(sizesIn))

/** Everything that a statement mentions itself; bodies of loops excluded. */
export interface Mentions {
  readonly values: readonly Value[]
  readonly indices: readonly Index[]
  readonly registers: readonly RegisterTile[]
  readonly dims: readonly Dim[]
  readonly sharedRead: readonly SharedTile[]
  readonly sharedWritten: readonly SharedTile[]
}

export function mentions(s: Statement): Mentions {
  const m = { values: [] as Value[], indices: [] as Index[], registers: [] as RegisterTile[], dims: [] as Dim[], sharedRead: [] as SharedTile[], sharedWritten: [] as SharedTile[] }
  switch (s.kind) {
    case 'comment': case 'barrier': break
    case 'let': m.indices.push(s.value); break
    case 'for': m.indices.push(s.from, s.to); break   // a ring's copies are statements of their own: `flatten` lists them
    case 'if': m.values.push(s.condition); break
    case 'map': m.values.push(s.value); m.registers.push(s.target); break
    case 'fold':
      m.values.push(s.element, ...(s.counted === undefined ? [] : [s.counted])); m.indices.push(s.position)
      m.registers.push(...s.components); m.dims.push(...s.over); break
    case 'merge': m.values.push(...s.values); m.registers.push(...s.components); break
    case 'combine': m.registers.push(...s.components); break
    case 'stage': m.values.push(s.value); m.sharedWritten.push(s.target); break
    case 'spill': m.values.push(s.value); m.indices.push(...s.at); m.dims.push(...s.dims); m.sharedWritten.push(s.target); break
    case 'contract': m.registers.push(s.target); m.sharedRead.push(s.left, s.right); break
    case 'mma':
      m.registers.push(s.target)
      for (const x of [s.a, s.b]) {
        if (x.space === 'register') m.registers.push(x)
        else { m.sharedRead.push(x.tile); m.indices.push(x.from) }
      }
      break
    case 'pairs': m.values.push(s.value); m.registers.push(s.target); break
    case 'store': m.values.push(s.value, s.condition); m.indices.push(s.at); m.dims.push(...s.dims); break
    case 'select':
      m.values.push(s.selection.score, s.selection.found); m.indices.push(s.selection.length, s.selection.k, s.selection.base, s.selection.rank)
      for (const t of selectTiles(s)) { m.sharedWritten.push(t); m.sharedRead.push(t) }
      break
  }
  const see = (v: Value): void => {
    if (v.op === 'register') m.registers.push(v.tile)
    if (v.op === 'shared') m.sharedRead.push(v.tile)
    // What a fold within a thread makes of its components may mention sizes.
    if (v.op === 'loop') sizesIn(v.monoid.result).forEach(s => m.indices.push(sizeIndex(s)))
  }
  const seeIndex = (i: Index): void => {
    if (i.op === 'dim') m.dims.push(i.dim)
    m.indices.push(i)
  }
  const visitIndex = (i: Index): void => { seeIndex(i); if (i.op === 'value') visitValue(i.value, see, seeIndex); indexChildren(i).forEach(visitIndex) }
  const own = m.indices.splice(0)
  m.values.forEach(v => visitValue(v, see, seeIndex))
  own.forEach(visitIndex)
  m.dims.push(...m.registers.flatMap(t => t.dims))
  return m
}

const selectTiles = (s: Extract<Statement, { kind: 'select' }>): SharedTile[] =>
  [s.histogram, s.candidates, s.gathered, s.totals, s.state, s.cache, s.sorted?.keys, s.sorted?.positions].filter((t): t is SharedTile => t !== undefined)

/** All statements, those within loops and the copies that loops make ahead included, in order. */
export const flatten = (body: readonly Statement[]): Statement[] =>
  body.flatMap(s => (s.kind === 'for' ? [s, ...(s.ring?.loads ?? []), ...flatten(s.body)] : s.kind === 'if' ? [s, ...flatten(s.body)] : [s]))

export const dimsOf = (k: Kernel): Dim[] => [...new Set(flatten(k.body).flatMap(s => mentions(s).dims))]
export const sharedOf = (k: Kernel): SharedTile[] =>
  [...new Set(flatten(k.body).flatMap(s => { const m = mentions(s); return [...m.sharedWritten, ...m.sharedRead] }))]

/** Program symbols that a kernel's text mentions, sorted. */
export function symbolsIn(body: readonly Statement[], grid: readonly Index[]): string[] {
  const symbols = new Set<string>()
  const see = (i: Index): void => { if (i.op === 'symbol') symbols.add(i.name); indexChildren(i).forEach(see) }
  for (const s of flatten(body)) mentions(s).indices.forEach(see)
  grid.forEach(see)
  return [...symbols].sort()
}

/** One after the other at multiples of 16 bytes, so that vectors are aligned. */
export function layoutShared(k: Kernel): { readonly offsets: ReadonlyMap<SharedTile, number>; readonly bytes: number } {
  const offsets = new Map<SharedTile, number>()
  let bytes = 0
  for (const t of sharedOf(k)) {
    offsets.set(t, bytes)
    bytes += Math.ceil((sharedElements(t) * byteSize[t.dtype]) / 16) * 16
  }
  return { offsets, bytes }
}
