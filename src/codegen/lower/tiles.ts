/** Pieces that streaming kernels are built from: fold state, folds across threads, operands in shared memory. */
import { axisOf, children, topological, type Expr } from '../../dsl/expr.js'
import { fixedSize } from '../../dsl/size.js'
import { byteSize, type Dtype } from '../../dsl/dtype.js'
import type { Monoid } from '../../dsl/monoid.js'
import { inside, isFold } from '../folds.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import { padded, threadFactors, type Dim, type RegisterTile, type SharedTile, type Statement, type Value } from '../kernel.js'
import type { Fact } from '../prove.js'
import * as v from '../values.js'
import { movesRows } from './rows.js'
import type { Division } from './divide.js'
import { insideFacts, open, unflatten, valueAt, type Environment, type Stored } from './value.js'

export interface Builder {
  readonly threads: number
  readonly fresh: (wish: string) => string
  readonly append: (s: Statement) => void
}

/** A fold's components, set to the identity. */
export function startFold(b: Builder, m: Monoid, dims: readonly Dim[], names: readonly string[]): RegisterTile[] {
  return m.components.map((c, i) => {
    const tile: RegisterTile = { space: 'register', name: b.fresh(names[i] === undefined || names[i] === '' ? c.name : names[i]!), dtype: c.dtype, dims }
    b.append({ kind: 'map', target: tile, value: v.scalarValue(c.identity, unknown), fresh: true })
    return tile
  })
}
const unknown = (name: string): never => { throw new Error(`an identity mentions ${name}`) }

export function resultTile(b: Builder, m: Monoid, components: readonly RegisterTile[], count: Value): RegisterTile {
  const tile: RegisterTile = { space: 'register', name: b.fresh(m.name.replace(/[^A-Za-z0-9]/g, '')), dtype: m.result.dtype, dims: components[0]!.dims }
  const component = (n: string): Value => v.registerValue(components[m.components.findIndex(c => c.name === n)]!)
  b.append({ kind: 'map', target: tile, value: v.scalarValue(m.result, n => (n === 'count' ? count : component(n))), fresh: true })
  return tile
}

/**
 * Puts the threads along dimensions together: first within warps by shuffles, then across warps through shared memory, in
 * the order of the warps. All threads hold the result. Only when every lane has what its warp has may one lane write it.
 */
export function combineDims(b: Builder, components: readonly RegisterTile[], m: Monoid, over: readonly Dim[]): void {
  const warps: Dim[] = []
  for (const d of over) for (const { threads, stride } of threadFactors(d)) {
    const near = stride >= 32 ? 1 : Math.min(threads, 32 / stride)
    if (near > 1) b.append({ kind: 'combine', components, monoid: m, over: { name: d.name, extent: near, threads: near, stride } })
    const far = threads / near
    if (far > 1) warps.push({ name: b.fresh(`${d.name}Warp`), extent: far, threads: far, stride: stride * near })
  }
  if (warps.length === 0) return
  const others = components[0]!.dims, dims = [...warps, ...others]
  const scratch = components.map(c => sharedTile(b, `${c.name}Scratch`, c.dtype, [...warps.map(w => ({ name: w.name, extent: w.extent })), ...others.map(o => ({ name: o.name, extent: padded(o) }))], 0))
  components.forEach((c, i) => b.append({ kind: 'spill', target: scratch[i]!, dims, at: dims.map(ix.dimIndex), value: v.registerValue(c) }))
  components.forEach((c, i) => b.append({ kind: 'map', target: c, value: v.scalarValue(m.components[i]!.identity, unknown), fresh: false }))
  const turns = warps.map(w => ({ name: b.fresh(warps.length === 1 ? 'warp' : `${w.name}At`), extent: w.extent }))
  const values = scratch.map(s => v.sharedValue(s, [...turns.map(t => ix.scalar(t.name, t.extent - 1)), ...others.map(ix.dimIndex)]))
  const merge: Statement = { kind: 'merge', components, monoid: m, values }
  b.append(turns.reduceRight<Statement>((body, t) => ({ kind: 'for', variable: t.name, from: ix.zero, to: ix.constant(t.extent), step: 1, body: [body] }), merge))
}

export const sharedTile = (b: Builder, name: string, dtype: Dtype, axes: SharedTile['axes'], pad: number): SharedTile =>
  ({ space: 'shared', name: b.fresh(name), dtype, axes, pad })

export interface OperandContext {
  readonly stored: ReadonlyMap<Expr, Stored>
  readonly facts: readonly Fact[]
  readonly column: Dim
  readonly rows: Division
  readonly dimsOf: (indices: readonly Index[]) => Dim[]
  readonly value: (e: Expr, env: Environment) => Value
  /** Runs in the outermost scope that knows the position, once. */
  readonly placed: (key: string, position: readonly Index[], compute: () => void) => void
}
export interface Operand {
  readonly tile: SharedTile
  /** The name of the summed axis in the tile, and its length there. */
  readonly over: string
  readonly extent: number
}

/** Whether an operand is computed in registers: it holds folds, or parts of folds that must be put together. */
export function isComputed(x: Expr, stored: ReadonlyMap<Expr, Stored>): boolean {
  const node = open(x), kept = stored.get(node)
  if (kept !== undefined) return kept.form === 'partials'
  return inside(node, n => stored.has(n)).some(isFold) || topological([node], n => (n.kind === 'composite' ? [open(n)] : stored.has(n) ? [] : children(n))).some(n => stored.get(n)?.form === 'partials')
}

/** The stretch of the summed axes that is staged; of a streamed axis it is the tile. */
export interface Part {
  /** What the summed axis is called in both operands' tiles. */
  readonly name: string
  readonly start: Index
  readonly extent: number
}

const operands = new WeakMap<object, Map<string, Operand>>()

/**
 * An operand of a contraction in shared memory. What only moves or maps inputs is staged by all threads together;
 * what is computed in registers is spilled. `env` has the streamed axis's position if that is summed.
 */
export function stageOperand(b: Builder, x: Expr, env: Environment, over: readonly string[], c: OperandContext, part: Part): Operand {
  const e = open(x), streamed = over.filter(n => env.has(n))
  const computed = isComputed(e, c.stored)
  const short = over.filter(n => !streamed.includes(n))
  if (computed) {
    if (part.start.op !== 'const') throw new Error('an operand that is computed in registers is taken whole')
    return spillOperand(b, e, env, over, c, 'f32')
  }
  const others = e.axes.filter(a => !over.includes(a.name))
  const dims = c.dimsOf(others.map(a => env.get(a.name)!))
  const whole = short.reduce((n, name) => n * fixedSize(axisOf(e, name)!.size)!, 1)
  const length = streamed.length > 0 ? whole : part.extent
  const overName = streamed.length > 0 ? c.column.name : part.name
  const extent = streamed.length > 0 ? padded(c.column) * length : length
  const position: Environment = new Map([...others.map(a => [a.name, env.get(a.name)!] as const), ...streamed.map(n => [n, env.get(n)!] as const)])
  const key = `operand ${e.id} over ${over.join(' ')} at ${[...position.values(), part.start].map(i => JSON.stringify(textOf(i))).join(' ')}`
  const known = operands.get(c.rows) ?? new Map<string, Operand>()
  operands.set(c.rows, known)
  c.placed(key, [...position.values(), part.start], () => {
    const lastAxis = e.axes[e.axes.length - 1]!.name
    const overLast = over.includes(lastAxis)
    const variables = new Map(dims.map(d => [d, ix.scalar(b.fresh(`${d.name}At`), padded(d) - 1) as Extract<Index, { op: 'scalar' }>]))
    const overVariable = ix.scalar(b.fresh(`${overName}At`), extent - 1) as Extract<Index, { op: 'scalar' }>
    const put = (i: Index): Index => substituteDims(i, d => (streamed.length > 0 && d === c.column ? overVariable : variables.get(d)!))
    const at = new Map<string, Index>(others.map(a => [a.name, put(env.get(a.name)!)]))
    for (const n of streamed) at.set(n, put(env.get(n)!))
    if (short.length > 0) for (const [n, i] of unflatten(ix.add(part.start, overVariable), short.map(n => axisOf(e, n)!))) at.set(n, i)
    const overAxis = { name: overName, extent }
    const dimAxes = dims.map(d => ({ name: d.name, extent: padded(d) }))
    const axes = overLast || dims.length === 0 ? [...dimAxes, overAxis] : [overAxis, ...dimAxes]
    const raw = stagedValue(b, e, at, v.allOf([...streamed.map(n => v.inside(at.get(n)!, axisOf(e, n)!.size)),
      ...(streamed.length === 0 ? [v.binaryValue('lt', v.indexValue(ix.add(part.start, overVariable)), v.constantValue(whole, 'i32'))] : [])]), c)
    const narrow = raw.dtype === 'bf16' || raw.dtype === 'f16'
    const dtype: Dtype = narrow ? raw.dtype : 'f32'
    const width = 16 / byteSize[dtype]
    const last = axes[axes.length - 1]!
    const lengths = fixedSize(axisOf(e, lastAxis)!.size)
    const vector = last.extent % width === 0 && lengths !== undefined && lengths % width === 0 && raw.dtype === dtype && movesRows(e, lastAxis, c.stored) &&
      (overLast ? over.length === 1 && streamed.length === 0 && length % width === 0 : dims.length === 1 && startsAtMultiple(env.get(lastAxis)!, width)) ? width : 1
    // Rows of tiles that are read side by side must not start in the same bank.
    const tile = sharedTile(b, `${nameOf(e)}Tile`, dtype, axes, overLast ? width : 0)
    const order = axes.map(a => (a === overAxis ? overVariable : variables.get(dims.find(d => d.name === a.name)!)!))
    b.append({ kind: 'stage', target: tile, at: order, value: v.castValue(raw, dtype), vector })
    known.set(key, { tile, over: overName, extent })
  })
  return known.get(key)!
}

/** An operand's element at a position: zero where `within` does not hold, not the neighbours in memory, which a slice leaves readable. */
export function stagedValue(b: Builder, e: Expr, at: Environment, within: Value, c: Pick<OperandContext, 'stored' | 'facts'>): Value {
  const assumed = e.axes.flatMap(a => insideFacts(at.get(a.name)!, a.size))
  const loaded = valueAt(e, at, { stored: c.stored, tile: () => undefined, fresh: b.fresh, safe: c.facts, assumed: [...c.facts, ...assumed] })
  const zero = v.constantValue(0, loaded.dtype)
  return holdsLoop(loaded) ? v.whereValue(within, loaded, zero) : v.guardedValue(within, v.assuming(loaded, within), zero)
}

/** An operand that lies in registers, put into shared memory. Rows there are 16 bytes longer, which changes their banks. */
export function spillOperand(b: Builder, e: Expr, env: Environment, over: readonly string[], c: OperandContext, dtype: Dtype): Operand {
  const [axis] = over as [string]
  const streamed = env.has(axis)
  const dim = streamed ? c.column : c.rows.rowDim(axis)
  const at: Environment = new Map([...e.axes.filter(a => env.has(a.name)).map(a => [a.name, env.get(a.name)!] as const), ...(streamed ? [] : [[axis, ix.dimIndex(dim)] as const])])
  const dims = c.dimsOf([...at.values()]).filter(d => d !== dim)
  const value = v.castValue(c.value(e, at), dtype)
  const position = at.get(axis)!, length = axisOf(e, axis)!.size
  const valid = ix.provablyInside(position, length) ? v.yes : v.binaryValue('lt', v.indexValue(position), v.indexValue(ix.sizeIndex(length)))
  const tile = sharedTile(b, `${nameOf(e)}Tile`, dtype, [...dims, dim].map(d => ({ name: d.name, extent: padded(d) })), 16 / byteSize[dtype])
  b.append({ kind: 'spill', target: tile, dims: [...dims, dim], at: [...dims, dim].map(ix.dimIndex), value: v.whereValue(valid, value, v.constantValue(0, dtype)) })
  return { tile, over: dim.name, extent: padded(dim) }
}

function holdsLoop(value: Value): boolean {
  let found = false
  v.visitValue(value, x => { if (x.op === 'loop') found = true })
  return found
}

/** Whether a position is a multiple of the width wherever its dimension is. */
export function startsAtMultiple(i: Index, width: number): boolean {
  if (i.op === 'dim') return true
  return i.op === 'add' && i.b.op === 'dim' && i.a.op === 'mul' && i.a.b.op === 'const' && i.a.b.value % width === 0
}

/** The index with other variables in place of tile coordinates. */
const substituteDims = (i: Index, by: (d: Dim) => Index): Index => ix.substitute(i, x => (x.op === 'dim' ? by(x.dim) : x))

const textOf = (i: Index): string => (i.op === 'dim' ? i.dim.name : i.op === 'scalar' || i.op === 'symbol' ? i.name : i.op === 'const' ? String(i.value) : 'a' in i ? `(${i.op} ${textOf(i.a)} ${textOf(i.b)})` : 'value')
export const nameOf = (e: Expr): string => {
  switch (e.kind) {
    case 'tensor': return e.name
    case 'slice': case 'rename': case 'cast': case 'split': case 'merge': case 'gather': return nameOf(open(e.arg))
    case 'composite': return nameOf(open(e))
    default: return 'computed'
  }
}
