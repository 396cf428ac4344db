/**
 * Streaming kernels: a block holds the rows of a tile and goes along one long axis, tile by tile.
 *
 * What is needed is computed on demand, each in the outermost scope where its position is known: operands of
 * contractions are staged in shared memory before the loop if they do not depend on it, folds over a whole axis become
 * loops of their own before the loop that needs them (further passes), parts of folds that another kernel has split are
 * put together once. Within a tile, rows × columns of a contraction lie in registers; maps work on them in place; folds
 * over rows end in a few shuffles, folds along the axis keep their state in registers until the axis is done.
 *
 * A fold of the result over the streamed axis can be split: each block takes a share of the tiles and stores the
 * components of its part. A result with the streamed axis itself is stored tile by tile, again in shares.
 */
import { axisOf, children as childrenOf, type Expr, type Of } from '../../dsl/expr.js'
import type { Monoid } from '../../dsl/monoid.js'
import { symbolsIn } from '../facts.js'
import { foldArg, foldKey, isFold, longAxes, type Fold } from '../folds.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Dim, GridAxis, Kernel, RegisterTile, Statement, Value } from '../kernel.js'
import type { Root } from '../plan.js'
import { atomKey as indexKey } from '../prove.js'
import type { StreamSchedule } from '../schedule.js'
import type { StreamShape } from '../stream-shape.js'
import * as v from '../values.js'
import { memoriesIn, memoryNames, mentionsSplits, nodeComments } from './common.js'
import { divideAxes, type Division } from './divide.js'
import { combineDims, resultTile, stageOperand, startFold, type Builder } from './tiles.js'
import { countValue, insideFacts, memoryOffset, open, partialsAt, productOf, splitVariable, valueAt, type Environment, type Stored, type ValueContext } from './value.js'

export interface StreamGroup {
  readonly name: string
  readonly summary: readonly string[]
  readonly roots: readonly Root[]
  readonly shape: StreamShape
  readonly stored: ReadonlyMap<Expr, Stored>
}

interface Scope {
  readonly body: Statement[]
  /** Scalars that exist from this scope on. */
  readonly scalars: ReadonlySet<string>
  /** Tiles computed in this scope, by node and position. */
  readonly tiles: Map<string, Value>
}

interface Lowering extends Builder {
  readonly g: StreamGroup
  readonly d: Division
  scopes: Scope[]
}

export function lowerStream(g: StreamGroup, schedule: StreamSchedule): Kernel {
  const names = new Set<string>(['thread', 'share', 'splits', 'shares'])
  const fresh = (wish: string): string => { let n = wish; for (let i = 2; names.has(n); i++) n = `${wish}${i}`; names.add(n); return n }
  for (const n of memoryNames(new Map([...g.stored, ...g.roots.map(r => [r.node, r.stored] as const)]))) names.add(n)
  const d = divideAxes(g.shape, schedule, fresh)
  const top: Scope = { body: [], scalars: new Set(), tiles: new Map() }
  const l: Lowering = {
    g, d, fresh, threads: schedule.threads, scopes: [top],
    append: s => { l.scopes[l.scopes.length - 1]!.body.push(s) },
  }
  const root = g.roots[0]!
  const partial = root.stored.form === 'partials'
  const shared = partial || (g.shape.column !== undefined && !streamsBelow(root.node, g))
  const counts = partial ? 'splits' as const : 'shares' as const
  top.body.push(...nodeComments([root.node], g.stored))

  if (partial) storeParts(l, root)
  else if (g.shape.column === undefined) storeWhole(l, root)
  else storeColumns(l, root, shared)

  const grid: GridAxis[] = [...d.grid, ...(shared ? [{ name: 'share', blocks: ix.scalar(counts, ix.longest) }] : [])]
  const outputs = root.stored.form === 'array' ? [root.stored.memory] : [...root.stored.memories]
  const used = mentionsSplits(top.body)
  return {
    name: g.name, summary: g.summary, threads: schedule.threads, grid, inputs: memoriesIn(top.body).filter(m => !outputs.includes(m)), outputs,
    symbols: symbolsIn(top.body, grid.slice(0, -1).map(x => x.blocks)),
    counts: [...(partial || used ? ['splits' as const] : []), ...(shared && !partial ? ['shares' as const] : [])], body: top.body,
  }
}

const streamsBelow = (e: Expr, g: StreamGroup): boolean => {
  const node = open(e)
  if (g.stored.has(node)) return false
  if (isFold(node) && longAxes(node).length > 0) return true
  return childrenOf(node).some(c => streamsBelow(c, g))
}

// ---------------------------------------------------------------------------------------------- results

/** A result without the streamed axis: what is left when the folds are done. */
function storeWhole(l: Lowering, root: Root): void {
  const env = l.d.environment(root.node.axes)
  const value = value_(l, root.node, env)
  if (root.stored.form !== 'array') return
  const dims = dimsIn(l, [...env.values()])
  l.append({ kind: 'store', memory: root.stored.memory, dims, at: memoryOffset(root.stored.memory, env), value, condition: valid(root.node, env), vector: 1 })
}

/** The components of a fold of this block's share of the axis. */
function storeParts(l: Lowering, root: Root): void {
  const node = root.node as Fold
  if (root.stored.form !== 'partials') return
  const env = l.d.environment(node.axes)
  const components = streamFold(l, node, env, true)
  const dims = components[0]!.dims
  root.stored.memories.forEach((m, i) => {
    const at = memoryOffset(m, new Map([...env, ['splits', ix.scalar('share', ix.longest)]]))
    l.append({ kind: 'store', memory: m, dims, at, value: v.registerValue(components[i]!), condition: valid(node, env), vector: 1 })
  })
}

/** A result along the streamed axis, tile by tile. */
function storeColumns(l: Lowering, root: Root, shared: boolean): void {
  const column = l.g.shape.column!
  const env0 = l.d.environment(root.node.axes.filter(a => a !== column))
  // Passes that must be over before: demanded here, so that their loops come first.
  if (!shared) for (const f of passesBelow(l, root.node)) value_(l, f, l.d.environment(f.axes))
  alongTiles(l, column.name, ix.sizeIndex(column.size), shared, position => {
    const env: Environment = new Map([...env0, [column.name, position]])
    const condition = valid(root.node, env), value = v.assuming(value_(l, root.node, env), condition)
    if (root.stored.form !== 'array') return
    l.append({ kind: 'store', memory: root.stored.memory, dims: dimsIn(l, [...env.values()]), at: memoryOffset(root.stored.memory, env), value, condition, vector: 1 })
  })
}
function passesBelow(l: Lowering, e: Expr): Fold[] {
  const found = new Set<Fold>()
  const visit = (x: Expr): void => {
    const node = open(x)
    if (l.g.stored.has(node)) return
    if (isFold(node) && longAxes(node).length > 0) { found.add(node); return }
    childrenOf(node).forEach(visit)
  }
  visit(e)
  return [...found]
}

/** A loop over the tiles of an axis: all of them, or this block's share. */
function alongTiles(l: Lowering, axis: string, length: Index, shared: boolean, body: (position: Index) => void): void {
  const { column } = l.d, step = column.extent
  const start = l.fresh(`${axis}Start`)
  let from: Index = ix.zero, to: Index = length
  if (shared) {
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
  inLoop(l, start, from, to, step, () => body(ix.add(variable, ix.dimIndex(column))))
}

function inLoop(l: Lowering, variable: string, from: Index, to: Index, step: number, body: () => void): void {
  const scope: Scope = { body: [], scalars: new Set([variable]), tiles: new Map() }
  l.scopes.push(scope)
  body()
  l.scopes.pop()
  l.append({ kind: 'for', variable, from, to, step, body: scope.body })
}

// ---------------------------------------------------------------------------------------------- values

/** All positions inside their axes: what counts of a tile that hangs over. */
function valid(e: Expr, env: Environment): Value {
  return v.allOf(e.axes.map(a => {
    const i = env.get(a.name)!
    const n = ix.sizeIndex(a.size)
    return ix.provablyInside(i, a.size) ? v.yes : v.binaryValue('lt', v.indexValue(i), v.indexValue(n))
  }))
}

const dimsIn = (l: Lowering, indices: readonly Index[]): Dim[] => {
  const found = new Set<Dim>()
  const see = (i: Index): void => { if (i.op === 'dim') found.add(i.dim); ix.indexChildren(i).forEach(see) }
  indices.forEach(see)
  return l.d.order.filter(d => found.has(d))
}
const scalarsIn = (indices: readonly Index[]): Set<string> => {
  const found = new Set<string>()
  const see = (i: Index): void => { if (i.op === 'scalar') found.add(i.name); ix.indexChildren(i).forEach(see) }
  indices.forEach(see)
  return found
}

/** Runs with the outermost scope that knows all scalars of the position; remembers the result there. */
function placed(l: Lowering, key: string, env: Environment, e: Expr, compute: () => Value): Value {
  const scalars = scalarsIn(e.axes.map(a => env.get(a.name)!))
  let depth = 0
  l.scopes.forEach((s, i) => { if ([...s.scalars].some(n => scalars.has(n))) depth = i })
  const scope = l.scopes[depth]!
  const full = `${key} @ ${e.axes.map(a => `${a.name}=${JSON.stringify(indexKey(env.get(a.name)!))}`).join(' ')}`
  const known = l.scopes.slice(0, depth + 1).map(s => s.tiles.get(full)).find(x => x !== undefined)
  if (known !== undefined) return known
  const before = l.scopes
  l.scopes = before.slice(0, depth + 1)
  const value = compute()
  l.scopes = before
  scope.tiles.set(full, value)
  return value
}

function context(l: Lowering, env: Environment, e: Expr): ValueContext {
  const assumed = e.axes.flatMap(a => { const i = env.get(a.name); return i === undefined ? [] : insideFacts(i, a.size) })
  return { stored: l.g.stored, tile: (node, at) => tileOf(l, node, at), fresh: l.fresh, safe: l.d.facts, assumed: [...l.d.facts, ...assumed] }
}
const value_ = (l: Lowering, e: Expr, env: Environment): Value => valueAt(e, env, context(l, env, open(e)))

/** Folds and parts of folds live in tiles; everything else is computed where it is used. */
function tileOf(l: Lowering, e: Expr, env: Environment): Value | undefined {
  const stored = l.g.stored.get(e)
  if (stored !== undefined) return stored.form === 'array' ? undefined : placed(l, `parts ${e.id}`, env, e, () => joinParts(l, e, stored, env))
  if (!isFold(e)) return undefined
  return placed(l, `fold ${e.id}`, env, e, () => {
    if (longAxes(e).length > 0 && !(e.kind === 'contract' && longAxes(e).length === 0)) {
      if (e.kind === 'contract') return v.registerValue(streamContract(l, e, env))
      const components = streamFold(l, e, env, false)
      return result(l, e, components)
    }
    return e.kind === 'contract' ? v.registerValue(contract(l, e, env)) : result(l, e, residentFold(l, e, env))
  })
}

function result(l: Lowering, e: Of<'reduce'>, components: readonly RegisterTile[]): Value {
  const simple = components.findIndex((_, i) => e.monoid.result.op === 'var' && e.monoid.result.name === e.monoid.components[i]!.name)
  if (simple >= 0) return v.registerValue(components[simple]!)
  return v.registerValue(resultTile(l, e.monoid, components, countValue(productOf(e.arg, e.over))))
}

/** The parts that another kernel's blocks have stored, put together in the order of the axis. */
function joinParts(l: Lowering, e: Expr, stored: Extract<Stored, { form: 'partials' }>, env: Environment): Value {
  const key = isFold(e) ? `joined ${foldKey(e)}` : `joined ${e.id}`
  const at = new Map(e.axes.map(a => [a.name, env.get(a.name)!]))
  const dims = dimsIn(l, [...at.values()])
  const scope = l.scopes[l.scopes.length - 1]!
  const components = remember(scope, `${key} ${[...at.values()].map(indexKey).join()}`, () => {
    const tiles = startFold(l, stored.monoid, dims, stored.memories.map(m => m.name.replace(/Parts$/, '')))
    const split = splitVariable(l)
    const ok = v.allOf(e.axes.map(a => (ix.provablyInside(at.get(a.name)!, a.size) ? v.yes : v.binaryValue('lt', v.indexValue(at.get(a.name)!), v.indexValue(ix.sizeIndex(a.size))))))
    const values = partialsAt(stored, at, split).map((x, i) => v.guardedValue(ok, x, v.scalarValue(stored.monoid.components[i]!.identity, () => x)))
    l.append({ kind: 'for', variable: split.name, from: ix.zero, to: ix.scalar('splits', ix.longest), step: 1, body: [{ kind: 'merge', components: tiles, monoid: stored.monoid, values }] })
    return tiles
  })
  return e.kind === 'reduce' ? result(l, e, components) : v.registerValue(components[0]!)
}
const memory = new WeakMap<Scope, Map<string, readonly RegisterTile[]>>()
function remember(scope: Scope, key: string, compute: () => readonly RegisterTile[]): readonly RegisterTile[] {
  const known = memory.get(scope) ?? new Map<string, readonly RegisterTile[]>()
  memory.set(scope, known)
  const before = known.get(key)
  if (before !== undefined) return before
  const tiles = compute()
  known.set(key, tiles)
  return tiles
}

// ---------------------------------------------------------------------------------------------- folds

/** A component that is the result is called like the fold. */
const componentNames = (m: Monoid): string[] => m.components.map(c => (m.components.length === 1 && m.result.op === 'var' ? m.name : c.name))

/** A fold over rows of the tile; rows that do not fit at once are taken in turns. */
function residentFold(l: Lowering, e: Of<'reduce'>, env: Environment): readonly RegisterTile[] {
  const dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
  const components = startFold(l, e.monoid, dims, componentNames(e.monoid))
  overRows(l, e.over, new Map(env), inner => foldElement(l, e, inner, components, e.over.map(n => l.d.rowDim(n))))
  combineDims(l, components, e.monoid, e.over.map(n => l.d.rowDim(n)))
  return components
}

/** Positions along folded rows: one tile, or a loop over tiles. */
function overRows(l: Lowering, axes: readonly string[], env: Map<string, Index>, body: (env: Environment) => void): void {
  const [axis, ...rest] = axes
  if (axis === undefined) { body(env); return }
  const dim = l.d.rowDim(axis), length = l.d.rowLength(axis)
  if (dim.extent >= length) { overRows(l, rest, new Map([...env, [axis, ix.dimIndex(dim)]]), body); return }
  const start = l.fresh(`${axis}Start`)
  inLoop(l, start, ix.zero, ix.constant(length), dim.extent, () =>
    overRows(l, rest, new Map([...env, [axis, ix.add(ix.scalar(start, length - 1), ix.dimIndex(dim))]]), body))
}

function foldElement(l: Lowering, e: Of<'reduce'>, env: Environment, components: readonly RegisterTile[], over: readonly Dim[]): void {
  const arg = open(e.arg)
  const position = e.over.length === 1 ? env.get(e.over[0]!)! : ix.offset(e.over.map(n => env.get(n)!), e.over.map(n => ix.sizeIndex(axisOf(arg, n)!.size)))
  const element = value_(l, arg, env)
  const counted = v.allOf(e.over.map(n => {
    const axis = axisOf(arg, n)!, i = env.get(n)!
    return ix.provablyInside(i, axis.size) ? v.yes : v.binaryValue('lt', v.indexValue(i), v.indexValue(ix.sizeIndex(axis.size)))
  }))
  l.append({ kind: 'fold', components, monoid: e.monoid, over, element: v.assuming(element, counted), position, counted })
}

/** A fold along the streamed axis; the state stays in registers to the end. */
function streamFold(l: Lowering, e: Fold, env: Environment, shared: boolean): readonly RegisterTile[] {
  if (e.kind === 'contract') return [streamContract(l, e, env, shared)]
  const scope = l.scopes[l.scopes.length - 1]!
  return remember(scope, `${foldKey(e)} ${e.axes.map(a => indexKey(env.get(a.name)!)).join()}`, () => {
    const dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
    const components = startFold(l, e.monoid, dims, componentNames(e.monoid))
    const long = longAxes(e)[0]!, short = e.over.filter(n => n !== long)
    const over = [...short.map(n => l.d.rowDim(n)), l.d.column]
    alongTiles(l, long, ix.sizeIndex(axisOf(e.arg, long)!.size), shared, position =>
      overRows(l, short, new Map([...env, [long, position]]), inner => foldElement(l, e, inner, components, over)))
    combineDims(l, components, e.monoid, over)
    return components
  })
}

// ---------------------------------------------------------------------------------------------- contractions

/** Over an axis that the block holds whole. */
function contract(l: Lowering, e: Of<'contract'>, env: Environment): RegisterTile {
  const dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
  const operands = [e.left, e.right].map(x => stageOperand(l, x, env, e.over, operandContext(l)))
  const target: RegisterTile = { space: 'register', name: l.fresh('product'), dtype: 'f32', dims }
  l.append({ kind: 'map', target, value: v.constantValue(0, 'f32'), fresh: true })
  l.append({ kind: 'contract', target, left: operands[0]!.tile, right: operands[1]!.tile, over: operands[0]!.over, extent: operands[0]!.extent, path: 'scalar' })
  return target
}

/** Over the streamed axis: each tile adds its share. */
function streamContract(l: Lowering, e: Of<'contract'>, env: Environment, shared = false): RegisterTile {
  const long = longAxes(e)[0]!, dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
  const target: RegisterTile = { space: 'register', name: l.fresh('sum'), dtype: 'f32', dims }
  // What the operands need finished is demanded before the loop opens.
  if (!shared) for (const f of passesBelow(l, e.left)) value_(l, f, l.d.environment(f.axes))
  l.append({ kind: 'map', target, value: v.constantValue(0, 'f32'), fresh: true })
  alongTiles(l, long, ix.sizeIndex(axisOf(foldArg(e), long)!.size), shared, position => {
    const inner: Environment = new Map([...env, [long, position]])
    const operands = [e.left, e.right].map(x => stageOperand(l, x, inner, e.over, operandContext(l)))
    l.append({ kind: 'contract', target, left: operands[0]!.tile, right: operands[1]!.tile, over: operands[0]!.over, extent: operands[0]!.extent, path: 'scalar' })
  })
  return target
}

const operandContext = (l: Lowering) => ({
  stored: l.g.stored, facts: l.d.facts, column: l.d.column, dimsOf: (i: readonly Index[]) => dimsIn(l, i),
  value: (e: Expr, env: Environment) => value_(l, e, env),
  placed: (key: string, env: Environment, e: Expr, compute: () => void) => { placed(l, key, env, e, () => { compute(); return v.yes }) },
  rows: l.d,
})
