/**
 * Contractions by tensor cores: which ones, and where their operands lie.
 *
 * Both operands have the same 16-bit dtype, so that their products are exact in f32, where they are added up. The operand
 * with the streamed axis (keys, rows of a table) comes through shared memory, copied ahead in a ring where 16 bytes of it
 * are 16 bytes of the array; ldmatrix puts 8 × 8 blocks of it into registers. Where the summed axis is held whole, the
 * other operand does not depend on the loop: its fragments are loaded once and stay in registers. Where the streamed axis
 * itself is summed, both come through shared memory; what the kernel has computed is put there as it is.
 *
 * Rows of a tile have their 16-byte chunks permuted by row % 8 (or, where a row is no multiple of 128 bytes, one chunk
 * more), since ldmatrix reads the same chunk of 8 rows at once: as they lie in memory these share 4 of 32 banks.
 */
import { axisOf, type Expr, type Of } from '../../dsl/expr.js'
import { fixedSize } from '../../dsl/size.js'
import { inside } from '../folds.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import { padded, type Dim, type RegisterTile, type SharedPart, type SharedTile, type Statement, type Value } from '../kernel.js'
import { atomKey } from '../prove.js'
import * as v from '../values.js'
import { movesRows } from './rows.js'
import { dimsIn, placedAt, scopeOf, type Lowering } from './scopes.js'
import { isComputed, nameOf, sharedTile, stagedValue, startsAtMultiple } from './tiles.js'
import { open, type Environment } from './value.js'
import { upTo } from '../powers.js'

type Named = Extract<Index, { op: 'scalar' }>
/** Elements of 16 bytes. */
const chunk = 8

export interface MmaPlan {
  /** The operand along mma's rows, and the one along its columns. */
  readonly a: Expr
  readonly b: Expr
  readonly m: Dim
  readonly n: Dim
}

/** How a contraction meets mma's shape, or nothing if it does not. `env`: positions of the result, and the summed axis's if that is streamed. */
export function mmaPlan(l: Lowering, e: Of<'contract'>, env: Environment, streamed: boolean): MmaPlan | undefined {
  const n = l.d.lane, m = streamed ? l.d.besideDims[0] : l.d.column
  if (n === undefined || m === undefined || e.over.length !== 1) return undefined
  const left = open(e.left), right = open(e.right)
  if (left.dtype !== right.dtype || (left.dtype !== 'bf16' && left.dtype !== 'f16')) return undefined
  if (!streamed && fixedSize(axisOf(left, e.over[0]!)!.size) === undefined) return undefined
  const dims = (x: Expr): Dim[] => dimsIn(l, x.axes.filter(a => !e.over.includes(a.name)).map(a => env.get(a.name)!))
  const a = [left, right].find(x => { const own = dims(x); return own.length === 1 && own[0] === m })
  const b = a === left ? right : left
  if (a === undefined || !dims(b).includes(n) || dims(b).includes(m)) return undefined
  // What is computed lies in registers of the threads that have its columns: only as the streamed operand's partner can it move.
  if (isComputed(a, l.g.stored) || (isComputed(b, l.g.stored) && !streamed)) return undefined
  if ([a, b].some(x => inside(x, y => l.g.stored.has(y)).some(y => y.kind === 'window'))) return undefined
  return { a, b, m, n }
}

/** Over an axis that the block holds whole: one operand in registers, the other through shared memory. */
export function residentMma(l: Lowering, e: Of<'contract'>, env: Environment, p: MmaPlan, target: RegisterTile): Extract<Statement, { kind: 'mma' }> {
  const axis = e.over[0]!, length = fixedSize(axisOf(p.a, axis)!.size)!, extent = upTo(length, 16)
  const over = l.fresh(axis)
  const b = pairs(l, p.b, env, axis, { name: over, extent, threads: 4, stride: 1, pack: 2 }, p.n)
  const a = sharedOperand(l, p.a, env, p.m, { axis, name: over, extent, streamed: false })
  return { kind: 'mma', target, a, b, m: p.m, n: p.n, over, extent }
}

/** Over the streamed axis: one part of a tile. `spilled` puts what the kernel has computed into shared memory. */
export function streamedMma(l: Lowering, e: Of<'contract'>, env: Environment, p: MmaPlan, target: RegisterTile, spilled: (x: Expr) => SharedTile): Extract<Statement, { kind: 'mma' }> {
  const k = { axis: e.over[0]!, name: l.d.column.name, extent: l.d.tile, streamed: true }
  const b: SharedPart = isComputed(p.b, l.g.stored) ? { space: 'part', tile: spilled(p.b), from: ix.zero, fromAxis: k.name } : sharedOperand(l, p.b, env, p.n, k)
  const a = sharedOperand(l, p.a, env, p.m, k)
  return { kind: 'mma', target, a, b, m: p.m, n: p.n, over: k.name, extent: padded(l.d.column) }
}

/** The operand that stays: mma's columns are rows of the operand, 8 lanes apart, and pairs along the summed axis. */
function pairs(l: Lowering, e: Expr, env: Environment, axis: string, k: Dim, lane: Dim): RegisterTile {
  const turned: Dim = { ...lane, threads: 8, stride: 4, pack: 1, name: l.fresh(`${lane.name}Row`) }
  const others = e.axes.filter(a => a.name !== axis)
  const position = others.map(a => env.get(a.name)!)
  let made: RegisterTile | undefined
  const key = `pairs ${e.id} at ${position.map(atomKey).join(' ')}`
  const value = placedAt(l, key, position, () => {
    const dims = [...dimsIn(l, position).filter(d => d !== lane), turned, k]
    const at = ix.scalar(l.fresh(`${k.name}At`), k.extent - 1) as Named
    const here: Environment = new Map([...others.map(a => [a.name, ix.substitute(env.get(a.name)!, x => (x.op === 'dim' && x.dim === lane ? ix.dimIndex(turned) : x))] as const), [axis, at]])
    const raw = stagedValue(l, e, here, v.allOf(e.axes.map(a => v.inside(here.get(a.name)!, a.size))), { stored: l.g.stored, facts: l.d.facts })
    const length = fixedSize(axisOf(e, axis)!.size)!
    made = { space: 'register', name: l.fresh(`${nameOf(e)}Pairs`), dtype: e.dtype, dims, paired: true }
    l.append({ kind: 'pairs', target: made, at, value: raw, vector: length % 2 === 0 && movesRows(e, axis, l.g.stored) ? 2 : 1 })
    return v.registerValue(made)
  })
  return made ?? (value as Extract<Value, { op: 'register' }>).tile
}

interface Summed { readonly axis: string; readonly name: string; readonly extent: number; readonly streamed: boolean }

/** An operand in shared memory, a whole tile of the streamed axis at once, copied ahead where that can be. */
function sharedOperand(l: Lowering, e: Expr, env: Environment, own: Dim, k: Summed): SharedPart {
  const { column } = l.d
  const others = e.axes.filter(a => a.name !== k.axis)
  const positions = e.axes.filter(a => env.has(a.name)).map(a => env.get(a.name)!)
  const part = [...l.scopes].reverse().find(s => s.part)?.scalars.values().next().value
  const whole = (i: Index): Index => ix.substitute(i, x => (x.op === 'scalar' && x.name === part ? ix.zero : x))
  const position = positions.map(whole)
  const scope = scopeOf(l, position), ring = scope.ring
  const from: Index = part === undefined || !positions.some(i => whole(i) !== i) ? ix.zero : ix.scalar(part, l.d.tile - column.extent)
  const key = `mma operand ${e.id} over ${k.axis} at ${position.map(atomKey).join(' ')}`
  const known = operands.get(l) ?? new Map<string, SharedPart>()
  operands.set(l, known)
  const make = (): SharedPart => {
    const dims = dimsIn(l, others.map(a => env.get(a.name)!))
    const extentOf = (d: Dim): number => (d === column ? l.d.tile : d === own ? upTo(padded(d), 16) : padded(d))
    const variables = new Map(dims.map(d => [d, ix.scalar(l.fresh(`${d.name}At`), extentOf(d) - 1) as Named]))
    const along = ix.scalar(l.fresh(`${k.name}At`), k.extent - 1) as Named
    const put = (i: Index): Index => ix.substitute(whole(i), x => (x.op !== 'dim' ? x : k.streamed && x.dim === column ? along : variables.get(x.dim) ?? x))
    const at: Environment = new Map([...others.map(a => [a.name, put(env.get(a.name)!)] as const), [k.axis, k.streamed ? put(env.get(k.axis)!) : along]])
    const last = e.axes[e.axes.length - 1]!
    // The summed axis last, unless memory has the own one last: ldmatrix can transpose.
    const turned = dims.length === 1 && last.name !== k.axis && movesRows(e, last.name, l.g.stored)
    // The own axis beside the summed one: its rows are those that ldmatrix takes 8 of, and by which a swizzle goes.
    const summed = { name: k.name, extent: k.extent }, rows = [...dims.filter(d => d !== own), own].map(d => ({ name: d.name, extent: extentOf(d) }))
    const axes = turned ? [summed, ...rows] : [...rows, summed]
    const within = v.allOf(e.axes.map(a => v.inside(at.get(a.name)!, a.size)))
    const value = stagedValue(l, e, at, within, { stored: l.g.stored, facts: l.d.facts })
    const lengthLast = fixedSize(last.size), contiguous = turned ? last.name : k.axis
    const moves = movesRows(e, contiguous, l.g.stored) && lengthLast !== undefined && lengthLast % chunk === 0 &&
      (!turned || startsAtMultiple(env.get(last.name)!, chunk))
    const pitch = axes[axes.length - 1]!.extent, swizzle = pitch % 64 === 0
    const plain = sharedTile(l, `${nameOf(e)}Tile`, e.dtype, axes, swizzle ? 0 : pitch % (2 * chunk) === 0 ? chunk : 0)
    const ahead = moves && ring !== undefined
    const tile: SharedTile = { ...plain, ...(swizzle ? { swizzle } : {}), ...(ahead ? { stages: ring.stages } : {}) }
    const order = axes.map(a => (a === summed ? along : variables.get(dims.find(d => d.name === a.name)!)!))
    const stage = { kind: 'stage', target: tile, at: order, value, vector: moves ? chunk : 1, ...(ahead ? { slot: ring.slot } : {}) } as const
    if (ahead) ring.loads.push(stage)
    else l.append(stage)
    return { space: 'part', tile, ...(ahead ? { slot: ring.slot } : {}), from, fromAxis: column.name }
  }
  placedAt(l, key, position, () => { known.set(key, make()); return v.yes })
  return { ...known.get(key)!, from }
}
const operands = new WeakMap<Lowering, Map<string, SharedPart>>()
