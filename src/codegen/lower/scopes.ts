/** Scopes of a streaming kernel: what is computed where, and once. */
import { children, type Expr } from '../../dsl/expr.js'
import { isFold, longAxes, type Fold } from '../folds.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Dim, Kernel, RegisterTile, Statement, Value } from '../kernel.js'
import type { Root } from '../plan.js'
import { atomKey } from '../prove.js'
import type { StreamShape } from '../stream-shape.js'
import * as v from '../values.js'
import type { Division } from './divide.js'
import type { Builder } from './tiles.js'
import { open, type Environment, type Stored } from './value.js'

export interface StreamGroup {
  readonly name: string
  readonly summary: readonly string[]
  readonly roots: readonly Root[]
  readonly shape: StreamShape
  readonly stored: ReadonlyMap<Expr, Stored>
}

export interface Scope {
  readonly body: Statement[]
  /** Scalars that exist from this scope on. */
  readonly scalars: ReadonlySet<string>
  /** Tiles computed in this scope, by node and position. */
  readonly tiles: Map<string, Value>
  /** The loop takes a tile in parts: no other scalar of its positions depends on it. */
  readonly part?: true
  /** Where the scope is a loop over tiles that can be copied ahead: what it copies. */
  readonly ring?: { readonly slot: string; readonly stages: number; readonly loads: Extract<Statement, { kind: 'stage' }>[] }
}

export interface Lowering extends Builder {
  readonly g: StreamGroup
  readonly d: Division
  /** Contractions within a tile take so many elements of the summed axis at once. */
  readonly depth: number
  /** Tiles of the streamed axis in shared memory at once; 1: none is copied ahead. */
  readonly stages: number
  /** Set by the loop whose tiles the blocks share. */
  divided: Kernel['divided'] | undefined
  scopes: Scope[]
}

/** A loop over the tiles of an axis: all of them, or this block's share. */
export function alongTiles(l: Lowering, axis: string, length: Index, shared: boolean, body: (position: Index) => void): void {
  const { column, tile: step } = l.d
  const start = l.fresh(`${axis}Start`)
  let from: Index = ix.zero, to: Index = length
  if (shared) {
    l.divided = { length, tile: step }
    // Shares of whole tiles that differ by one at most.
    const count = ix.scalar(l.g.roots[0]!.stored.form === 'partials' ? 'splits' : 'shares', ix.longest), share = ix.scalar('share', ix.longest)
    const tiles = l.fresh('tiles'), first = l.fresh('first'), last = l.fresh('last')
    const named = (n: string): Index => ix.scalar(n, ix.longest)
    l.append({ kind: 'let', name: tiles, value: ix.ceilDiv(length, ix.constant(step)) })
    // No cut lies beyond the tiles, whatever the ranges of its parts allow.
    const cut = (n: Index): Index => ix.atMost(ix.add(ix.atMost(ix.mul(n, ix.div(named(tiles), count)), ix.longest), ix.min(n, ix.mod(named(tiles), count))), ix.longest)
    l.append({ kind: 'let', name: first, value: cut(share) })
    l.append({ kind: 'let', name: last, value: cut(ix.add(share, ix.constant(1))) })
    from = ix.atMost(ix.mul(named(first), ix.constant(step)), ix.longest)
    to = ix.min(ix.atMost(ix.mul(named(last), ix.constant(step)), ix.longest + step), length)
  }
  const variable = ix.scalar(start, ix.longest)
  const ring = l.stages > 1 ? { slot: l.fresh('slot'), stages: l.stages, loads: [] } : undefined
  inLoop(l, start, from, to, step, () => {
    if (step === column.extent) { body(ix.add(variable, ix.dimIndex(column))); return }
    // A tile in shared memory is more than registers hold at once.
    const part = l.fresh(`${axis}Part`)
    inLoop(l, part, ix.zero, ix.constant(step), column.extent, () => body(ix.add(ix.add(variable, ix.scalar(part, step - column.extent)), ix.dimIndex(column))), { part: true })
  }, ring === undefined ? {} : { ring })
}

export function inLoop(l: Lowering, variable: string, from: Index, to: Index, step: number, body: () => void, more: Pick<Scope, 'ring' | 'part'> = {}): void {
  const scope: Scope = { body: [], scalars: new Set([variable]), tiles: new Map(), ...more }
  l.scopes.push(scope)
  body()
  l.scopes.pop()
  l.append({ kind: 'for', variable, from, to, step, body: scope.body, ...(more.ring === undefined || more.ring.loads.length === 0 ? {} : { ring: more.ring }), ...(more.part === undefined ? {} : { rolled: true }) })
}

/** The scope in which a position is known: the innermost whose scalars it mentions. */
export function scopeOf(l: Lowering, position: readonly Index[]): Scope {
  const scalars = scalarsIn(position)
  return [...l.scopes].reverse().find(s => [...s.scalars].some(n => scalars.has(n))) ?? l.scopes[0]!
}

/** All positions inside their axes: what counts of a tile that hangs over. */
export function valid(e: Expr, env: Environment): Value {
  return v.allOf(e.axes.map(a => {
    const i = env.get(a.name)!
    const n = ix.sizeIndex(a.size)
    return ix.provablyInside(i, a.size) ? v.yes : v.binaryValue('lt', v.indexValue(i), v.indexValue(n))
  }))
}

/** Everything that indices mention, positions that are loaded included. */
const eachIndex = (indices: readonly Index[], see: (i: Index) => void): void =>
  indices.forEach(i => v.visitValue(v.indexValue(i), () => {}, see))

export const dimsIn = (l: Lowering, indices: readonly Index[]): Dim[] => {
  const found = new Set<Dim>()
  eachIndex(indices, i => { if (i.op === 'dim') found.add(i.dim) })
  return l.d.order.filter(d => found.has(d))
}
export const scalarsIn = (indices: readonly Index[]): Set<string> => {
  const found = new Set<string>()
  eachIndex(indices, i => { if (i.op === 'scalar') found.add(i.name) })
  return found
}

/** Runs with the outermost scope that knows all scalars of the position; remembers the result there. */
export const placed = (l: Lowering, key: string, env: Environment, e: Expr, compute: () => Value): Value =>
  placedAt(l, `${key} @ ${e.axes.map(a => `${a.name}=${atomKey(env.get(a.name)!)}`).join(' ')}`, e.axes.map(a => env.get(a.name)!), compute)

export function placedAt(l: Lowering, key: string, position: readonly Index[], compute: () => Value): Value {
  const depth = l.scopes.indexOf(scopeOf(l, position))
  const known = l.scopes.slice(0, depth + 1).map(s => s.tiles.get(key)).find(x => x !== undefined)
  if (known !== undefined) return known
  const before = l.scopes, scope = before[depth]!
  l.scopes = before.slice(0, depth + 1)
  const value = compute()
  l.scopes = before
  scope.tiles.set(key, value)
  return value
}

const memory = new WeakMap<Scope, Map<string, readonly RegisterTile[]>>()
export function remember(scope: Scope, key: string, compute: () => readonly RegisterTile[]): readonly RegisterTile[] {
  const known = memory.get(scope) ?? new Map<string, readonly RegisterTile[]>()
  memory.set(scope, known)
  const before = known.get(key)
  if (before !== undefined) return before
  const tiles = compute()
  known.set(key, tiles)
  return tiles
}

export const streamsBelow = (e: Expr, g: StreamGroup): boolean => {
  const node = open(e)
  if (g.stored.has(node)) return false
  if (isFold(node) && longAxes(node).length > 0) return true
  return children(node).some(c => streamsBelow(c, g))
}

export function passesBelow(l: Lowering, e: Expr): Fold[] {
  const found = new Set<Fold>()
  const visit = (x: Expr): void => {
    const node = open(x)
    if (l.g.stored.has(node)) return
    if (isFold(node) && longAxes(node).length > 0) { found.add(node); return }
    children(node).forEach(visit)
  }
  visit(e)
  return [...found]
}
