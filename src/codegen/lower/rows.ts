/**
 * Results whose elements only move along whole rows: gathers of rows, slices, concatenations along another axis. A thread
 * has one stretch of 16 bytes (or what divides a row) of several rows. It finds out the rows' positions once, has all
 * loads under way before the first store, and reads the last row again where there are no more, so that no load is
 * guarded. Results that lack the rows' own axis, such as the positions themselves, are stored along the way.
 */
import { byteSize } from '../../dsl/dtype.js'
import { axisOf, type Axis, type Expr } from '../../dsl/expr.js'
import { equalSizes, fixedSize } from '../../dsl/size.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Dim, Memory, RegisterTile, Statement, Value } from '../kernel.js'
import { allOf, binaryValue, constantValue, indexValue, registerValue, valueChildren, valueIndices } from '../values.js'
import { dedupe } from '../emit/dedupe.js'
import { nodeComments } from './common.js'
import { insideFacts, memoryOffset, open, valueAt, type Environment, type Stored } from './value.js'
import { powerAbove } from '../powers.js'

export interface PointRoot { readonly node: Expr; readonly memory: Memory }

/** `axis` runs along the rows of the array that the node's elements come from, unchanged. */
export function movesRows(e: Expr, axis: string, stored: ReadonlyMap<Expr, Stored>): boolean {
  const node = open(e), kept = stored.get(node)
  if (axisOf(node, axis) === undefined) return false   // an axis of that name further down is another one
  if (kept !== undefined) return kept.form === 'array' && kept.memory.axes[kept.memory.axes.length - 1]?.name === axis
  switch (node.kind) {
    case 'slice': return node.as !== axis && node.axis !== axis && movesRows(node.arg, axis, stored)
    // An index that changes along the row takes neighbours from different rows.
    case 'gather': return node.axis !== axis && axisOf(node.index, axis) === undefined && movesRows(node.arg, axis, stored)
    case 'concat': return node.axis !== axis && node.parts.every(p => movesRows(p, axis, stored))
    case 'rename': return movesRows(node.arg, node.to === axis ? node.from : axis, stored)
    default: return false
  }
}

/** Roots that a kernel can copy by rows. */
export interface Rows {
  /** Those that have all axes, and those that lack the last one. */
  readonly moved: readonly PointRoot[]
  readonly beside: readonly PointRoot[]
  readonly outer: readonly Axis[]
  readonly row: Axis
  readonly along: Axis
  /** Elements that move at once, and how often that is a row. */
  readonly vector: number
  readonly chunks: number
}

/** How the roots are copied by rows, if all can be. `threads`: of a block, of which a row may have all. */
export function rowsOf(roots: readonly PointRoot[], stored: ReadonlyMap<Expr, Stored>, threads: number): Rows | undefined {
  const axes = roots.map(r => r.node.axes).reduce((a, b) => (b.length > a.length ? b : a))
  const along = axes[axes.length - 1], row = axes[axes.length - 2], length = along === undefined ? undefined : fixedSize(along.size)
  if (row === undefined || length === undefined || length === 0) return undefined
  const starts = (r: PointRoot, count: number): boolean => r.node.axes.length === count && r.node.axes.every((a, i) => a.name === axes[i]!.name && equalSizes(a.size, axes[i]!.size))
  const moved = roots.filter(r => starts(r, axes.length) && movesRows(r.node, along!.name, stored)), beside = roots.filter(r => starts(r, axes.length - 1))
  if (moved.length === 0 || moved.length + beside.length < roots.length) return undefined
  const widths = moved.map(r => { let n = 16 / byteSize[r.node.dtype]; while (length % n !== 0) n /= 2; return n }), vector = widths[0]!
  const chunks = length / vector
  return vector === 1 || widths.some(w => w !== vector) || chunks > threads ? undefined : { moved, beside, outer: axes.slice(0, -2), row, along: along!, vector, chunks }
}

/** Rows of a tile. */
export const rowsAtOnce = (r: Rows, threads: number, items: number): number => (threads / powerAbove(r.chunks)) * items

/**
 * What a block does for a tile of rows.
 * @param tile the number of the tile
 * @param outer the position along the axes before the rows'
 * @param items rows of one thread
 */
export function rowStatements(r: Rows, tile: Index, outer: Environment, threads: number, items: number, stored: ReadonlyMap<Expr, Stored>, fresh: (wish: string) => string): Statement[] {
  const lanes = powerAbove(r.chunks)
  const chunk: Dim = { name: fresh('chunk'), extent: lanes, threads: lanes, stride: 1 }
  const row: Dim = { name: fresh(r.row.name), extent: (threads / lanes) * items, threads: threads / lanes, stride: lanes }
  const count = ix.sizeIndex(r.row.size), place = ix.add(ix.mul(tile, ix.constant(row.extent)), ix.dimIndex(row))
  const perRow = (wish: string): RegisterTile => ({ space: 'register', name: fresh(wish), dtype: 'i32', dims: [row] })
  const from = perRow('row'), clamped = ix.valueIndex(registerValue(from), ix.longest)
  const own = lanes === r.chunks ? ix.dimIndex(chunk) : ix.min(ix.dimIndex(chunk), ix.constant(r.chunks - 1))
  const environment = (at: Index): Environment => new Map([...outer, [r.row.name, at], [r.along.name, ix.mul(own, ix.constant(r.vector))]])
  const inside = environment(clamped)
  const facts = [...r.outer, r.row, r.along].flatMap(a => insideFacts(inside.get(a.name)!, a.size))
  // One memo for all roots, so that rows of several arrays at one position have one position.
  const memo = new Map<string, Value>()
  const value = (e: Expr): Value => valueAt(e, new Map(e.axes.map(a => [a.name, inside.get(a.name)!])), { stored, tile: () => undefined, fresh, safe: facts, assumed: facts }, memo)
  const beside = r.beside.map(x => ({ memory: x.memory, value: value(x.node), tile: { ...perRow(`${x.memory.name}Here`), dtype: x.memory.dtype } }))
  const moved = r.moved.map(x => ({ memory: x.memory, value: value(x.node), tile: { ...perRow(`${x.memory.name}Here`), dtype: x.memory.dtype, dims: [row, chunk], vector: r.vector } }))

  // What is held once for each row: what is stored beside, and the positions that come from data.
  const held = new Map<Value, RegisterTile>(beside.map(x => [x.value, x.tile]))
  const positions = positionsIn(moved.map(x => x.value), chunk)
  const equal = dedupe(positions), tiles = new Map<Value, RegisterTile>()
  positions.forEach((v, i) => {
    if (held.has(v)) return
    if (!tiles.has(equal[i]!)) tiles.set(equal[i]!, perRow('position'))
    held.set(v, tiles.get(equal[i]!)!)
  })

  const inRows = binaryValue('lt', indexValue(place), indexValue(count))
  const inChunks = lanes === r.chunks ? constantValue(1, 'bool') : binaryValue('lt', indexValue(ix.dimIndex(chunk)), constantValue(r.chunks, 'i32'))
  const map = (target: RegisterTile, v: Value): Statement => ({ kind: 'map', target, value: v, fresh: true })
  return [
    { kind: 'comment', text: 'past the end the last row once more: no load is guarded' },
    map(from, indexValue(ix.min(place, ix.sub(count, ix.constant(1))))),
    ...nodeComments([...r.moved, ...r.beside].map(x => x.node), stored),
    ...beside.map(x => map(x.tile, x.value)),
    ...[...new Map(positions.map(v => [held.get(v)!, v]))].filter(([target]) => beside.every(x => x.tile !== target)).map(([target, v]) => map(target, replaced(v, new Map(beside.map(x => [x.value, x.tile]))))),
    ...moved.map(x => map(x.tile, replaced(x.value, held))),
    ...moved.map((x): Statement => ({ kind: 'store', memory: x.memory, dims: [row, chunk], at: memoryOffset(x.memory, environment(place)), value: registerValue(x.tile), condition: allOf([inRows, inChunks]), vector: r.vector })),
    ...beside.map((x): Statement => ({ kind: 'store', memory: x.memory, dims: [row], at: memoryOffset(x.memory, environment(place)), value: registerValue(x.tile), condition: inRows, vector: 1 })),
  ]
}

/** Indices that are computed from data and are the same all along a row. */
function positionsIn(values: readonly Value[], chunk: Dim): Value[] {
  const found = new Set<Value>()
  const index = (i: Index): void => {
    if (i.op === 'value' && i.value.op !== 'register' && !mentionsDim(i.value, chunk)) found.add(i.value)
    else ix.indexChildren(i).forEach(index)
  }
  const visit = (v: Value): void => { valueIndices(v).forEach(index); valueChildren(v).forEach(visit) }
  values.forEach(visit)
  return [...found]
}

/** The value with registers in the place of what they hold. */
function replaced(v: Value, held: ReadonlyMap<Value, RegisterTile>): Value {
  const put = (x: Value): Value => replaced(x, held), known = held.get(v)
  if (known !== undefined) return registerValue(known)
  const index = (i: Index): Index => {
    switch (i.op) {
      case 'value': return { ...i, value: put(i.value) }
      case 'add': case 'mul': case 'div': case 'mod': case 'min': case 'max': return { ...i, a: index(i.a), b: index(i.b) }
      default: return i
    }
  }
  switch (v.op) {
    case 'load': return { ...v, at: index(v.at) }
    case 'guarded': case 'where': return { ...v, condition: put(v.condition), a: put(v.a), b: put(v.b) }
    case 'binary': return { ...v, a: put(v.a), b: put(v.b) }
    case 'unary': case 'cast': return { ...v, a: put(v.a) }
    default: return v
  }
}

const mentionsDim = (v: Value, dim: Dim): boolean => valueIndices(v).some(i => indexMentions(i, dim)) || valueChildren(v).some(c => mentionsDim(c, dim))
const indexMentions = (i: Index, dim: Dim): boolean =>
  (i.op === 'dim' && i.dim === dim) || (i.op === 'value' && mentionsDim(i.value, dim)) || ix.indexChildren(i).some(x => indexMentions(x, dim))
