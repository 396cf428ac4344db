/**
 * What a streaming kernel holds in tiles: folds within a tile and along the axis, parts that other kernels have folded,
 * and contractions over axes that the block holds whole or streams.
 */
import type { Monoid } from '../../dsl/monoid.js'
import { axisOf, type Expr, type Of } from '../../dsl/expr.js'
import { fixedSize } from '../../dsl/size.js'
import { foldArg, foldKey, isFold, longAxes, type Fold } from '../folds.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import { padded, type Dim, type RegisterTile, type Value } from '../kernel.js'
import { atomKey } from '../prove.js'
import * as v from '../values.js'
import { nodeComments } from './common.js'
import { alongTiles, dimsIn, inLoop, passesBelow, placed, placedAt, remember, scopeOf, type Lowering } from './scopes.js'
import { mmaPlan, residentMma, streamedMma } from './mma.js'
import { normalisedLeft, singlePass } from './single-pass.js'
import { combineDims, isComputed, resultTile, spillOperand, stageOperand, startFold, type Operand } from './tiles.js'
import { countValue, insideFacts, open, partialsAt, productOf, splitVariable, valueAt, type Environment, type Stored, type ValueContext } from './value.js'

function context(l: Lowering, env: Environment, e: Expr): ValueContext {
  const assumed = e.axes.flatMap(a => { const i = env.get(a.name); return i === undefined ? [] : insideFacts(i, a.size) })
  return { stored: l.g.stored, tile: (node, at) => tileOf(l, node, at), fresh: l.fresh, safe: l.d.facts, assumed: [...l.d.facts, ...assumed] }
}
export const tileValue = (l: Lowering, e: Expr, env: Environment): Value => valueAt(e, env, context(l, env, open(e)))

/** Folds and parts of folds live in tiles; everything else is computed where it is used. */
function tileOf(l: Lowering, e: Expr, env: Environment): Value | undefined {
  const stored = l.g.stored.get(e)
  if (stored !== undefined) return stored.form === 'array' ? undefined : placed(l, `parts ${e.id}`, env, e, () => joinParts(l, e, stored, env))
  if (e.kind === 'map') return rowValue(l, e, env)
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

/** What folds have given and no loop changes is computed before the loop: a quotient a row, not one an element. */
function rowValue(l: Lowering, e: Of<'map'>, env: Environment): Value | undefined {
  const at: Environment = new Map(e.axes.map(a => [a.name, env.get(a.name)!]))
  const position = [...at.values()]
  if (scopeOf(l, position) === l.scopes[l.scopes.length - 1] || dimsIn(l, position).includes(l.d.column) || !isComputed(e, l.g.stored)) return undefined
  return placed(l, `value ${e.id}`, env, e, () => {
    const args = new Map(e.args.map(a => [a.name, a.value]))
    const value = v.scalarValue(e.body, n => tileValue(l, args.get(n)!, at), l.d.facts)
    if (value.op === 'register' || value.op === 'const') return value
    const target: RegisterTile = { space: 'register', name: l.fresh(value.op === 'binary' && value.name === 'div' ? 'quotient' : 'rowValue'), dtype: e.dtype, dims: dimsIn(l, position) }
    comment(l, e)
    l.append({ kind: 'map', target, value, fresh: true })
    return v.registerValue(target)
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
  const components = remember(scope, `${key} ${[...at.values()].map(atomKey).join()}`, () => {
    const tiles = startFold(l, stored.monoid, dims, stored.memories.map(m => m.name.replace(/Parts$/, '')))
    const split = splitVariable(l)
    const ok = v.allOf(e.axes.map(a => (ix.provablyInside(at.get(a.name)!, a.size) ? v.yes : v.binaryValue('lt', v.indexValue(at.get(a.name)!), v.indexValue(ix.sizeIndex(a.size))))))
    const values = partialsAt(stored, at, split).map((x, i) => v.guardedValue(ok, x, v.scalarValue(stored.monoid.components[i]!.identity, () => x)))
    l.append({ kind: 'for', variable: split.name, from: ix.zero, to: ix.scalar('splits', ix.longest), step: 1, body: [{ kind: 'merge', components: tiles, monoid: stored.monoid, values }] })
    return tiles
  })
  return e.kind === 'reduce' ? result(l, e, components) : v.registerValue(components[0]!)
}
// ---------------------------------------------------------------------------------------------- folds

/** A component that is the result is called like the fold. */
const componentNames = (m: Monoid): string[] => m.components.map(c => (m.components.length === 1 && m.result.op === 'var' ? m.name : c.name))

/** A fold over rows of the tile; rows that do not fit at once are taken in turns. */
function residentFold(l: Lowering, e: Of<'reduce'>, env: Environment): readonly RegisterTile[] {
  const dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
  const components = startFold(l, e.monoid, dims, componentNames(e.monoid))
  overRows(l, e.over, new Map(e.axes.map(a => [a.name, env.get(a.name)!])), inner => foldElement(l, e, inner, components, e.over.map(n => l.d.rowDim(n))))
  combineDims(l, components, e.monoid, e.over.map(n => l.d.rowDim(n)))
  return components
}

/** The user's nodes that the next statements compute; folds on the way have comments of their own. */
export const comment = (l: Lowering, e: Expr): void => nodeComments([e], l.g.stored, isFold).forEach(l.append)

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
  const element = tileValue(l, arg, env)
  const counted = v.allOf(e.over.map(n => {
    const axis = axisOf(arg, n)!, i = env.get(n)!
    return ix.provablyInside(i, axis.size) ? v.yes : v.binaryValue('lt', v.indexValue(i), v.indexValue(ix.sizeIndex(axis.size)))
  }))
  comment(l, e)
  l.append({ kind: 'fold', components, monoid: e.monoid, over, element: v.assuming(element, counted), position, counted })
}

/** A fold along the streamed axis; the state stays in registers to the end. */
export function streamFold(l: Lowering, e: Fold, env: Environment, shared: boolean): readonly RegisterTile[] {
  if (e.kind === 'contract') return [streamContract(l, e, env, shared)]
  const scope = l.scopes[l.scopes.length - 1]!
  return remember(scope, `${foldKey(e)} ${e.axes.map(a => atomKey(env.get(a.name)!)).join()}`, () => {
    const dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
    const components = startFold(l, e.monoid, dims, componentNames(e.monoid))
    const long = longAxes(e)[0]!, short = e.over.filter(n => n !== long)
    const over = [...short.map(n => l.d.rowDim(n)), l.d.column]
    alongTiles(l, long, ix.sizeIndex(axisOf(e.arg, long)!.size), shared, position =>
      overRows(l, short, new Map([...e.axes.map(a => [a.name, env.get(a.name)!] as const), [long, position]]), inner => foldElement(l, e, inner, components, over)))
    combineDims(l, components, e.monoid, over)
    return components
  })
}

// ---------------------------------------------------------------------------------------------- contractions

/** Over an axis that the block holds whole. */
function contract(l: Lowering, e: Of<'contract'>, env: Environment): RegisterTile {
  const dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
  // The summed axes have positions of their own, even where the result's surroundings have axes of these names.
  const own: Environment = new Map(e.axes.map(a => [a.name, env.get(a.name)!]))
  const target: RegisterTile = { space: 'register', name: l.fresh('product'), dtype: 'f32', dims }
  const tensor = mmaPlan(l, e, own, false)
  if (tensor !== undefined) {
    const multiply = residentMma(l, e, own, tensor, target)
    comment(l, e)
    l.append({ kind: 'map', target, value: v.constantValue(0, 'f32'), fresh: true })
    l.append(multiply)
    return target
  }
  const computed = [e.left, e.right].some(x => isComputed(x, l.g.stored)) ? l.d.rowDim(e.over[0]!) : undefined
  // An operand that is computed has the length that its threads make of it.
  const length = computed === undefined ? e.over.reduce((n, name) => n * fixedSize(axisOf(e.left, name)!.size)!, 1) : padded(computed)
  const name = computed?.name ?? e.over.join('')
  const stage = (start: Index, extent: number): Operand[] => [e.left, e.right].map(x => stageOperand(l, x, own, e.over, operandContext(l), { name, start, extent }))
  const multiply = ([left, right]: readonly Operand[]): void =>
    l.append({ kind: 'contract', target, left: left!.tile, right: right!.tile, over: left!.over, extent: left!.extent })
  // Staged before the tile is declared where it is staged once: outside of the loop where that can be.
  const whole = length <= l.depth || computed !== undefined ? stage(ix.zero, length) : undefined
  comment(l, e)
  l.append({ kind: 'map', target, value: v.constantValue(0, 'f32'), fresh: true })
  if (whole !== undefined) { multiply(whole); return target }
  const start = l.fresh(`${e.over.join('')}Start`)
  inLoop(l, start, ix.zero, ix.constant(length), l.depth, () => multiply(stage(ix.scalar(start, length - 1), l.depth)))
  return target
}

/** Over the streamed axis: each tile adds its share. */
function streamContract(l: Lowering, e: Of<'contract'>, env: Environment, shared = false): RegisterTile {
  const long = longAxes(e)[0]!, dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
  const target: RegisterTile = { space: 'register', name: l.fresh('sum'), dtype: 'f32', dims }
  const normalised = shared ? undefined : normalisedLeft(l, e)
  if (normalised !== undefined) {
    comment(l, e)
    return singlePass(l, e, env, normalised, operandContext(l), (x, at) => tileValue(l, x, at))
  }
  // What the operands need finished is demanded before the loop opens.
  if (!shared) for (const f of passesBelow(l, e.left)) tileValue(l, f, l.d.environment(f.axes))
  comment(l, e)
  l.append({ kind: 'map', target, value: v.constantValue(0, 'f32'), fresh: true })
  alongTiles(l, long, ix.sizeIndex(axisOf(foldArg(e), long)!.size), shared, position => {
    const inner: Environment = new Map([...e.axes.map(a => [a.name, env.get(a.name)!] as const), [long, position]])
    const tensor = mmaPlan(l, e, inner, true)
    if (tensor !== undefined) {
      l.append(streamedMma(l, e, inner, tensor, target, x => spillOperand(l, x, inner, e.over, operandContext(l), x.dtype).tile))
      return
    }
    const operands = [e.left, e.right].map(x => stageOperand(l, x, inner, e.over, operandContext(l), { name: l.d.column.name, start: ix.zero, extent: 0 }))
    l.append({ kind: 'contract', target, left: operands[0]!.tile, right: operands[1]!.tile, over: operands[0]!.over, extent: operands[0]!.extent })
  })
  return target
}

const operandContext = (l: Lowering) => ({
  stored: l.g.stored, facts: l.d.facts, column: l.d.column, dimsOf: (i: readonly Index[]) => dimsIn(l, i),
  value: (e: Expr, env: Environment) => tileValue(l, e, env),
  placed: (key: string, position: readonly Index[], compute: () => void) => { placedAt(l, key, position, () => { compute(); return v.yes }) },
  rows: l.d,
})
