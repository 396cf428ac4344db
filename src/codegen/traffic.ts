/**
 * Bytes between a GPU's memory and its kernels, counted from a plan, and the least that any implementation would move.
 *
 * What counts: an array is read once for each pass that a kernel makes over it, however many blocks do (they run at the
 * same time and meet in the cache), and written once. A slice counts only what it cuts out, a gather only the rows that
 * it fetches. The halo of a window is not counted, and a radix selection counts its row once: its later sweeps find it
 * in shared memory or in the cache. Real traffic is never less than this, and close to it where arrays fit the cache.
 */
import { byteSize } from '../dsl/dtype.js'
import { applyRule, axisOf, type Expr, type Rules } from '../dsl/expr.js'
import { evaluateSize, type Size, type Sizes } from '../dsl/size.js'
import { isFold, longAxes } from './folds.js'
import type { Memory } from './kernel.js'
import { open, type Stored } from './lower/value.js'
import type { Group, Plan } from './plan.js'

export interface KernelTraffic {
  readonly name: string
  readonly read: number
  readonly written: number
}

export interface Traffic {
  /** In the order they run. */
  readonly kernels: readonly KernelTraffic[]
  /** Every input's needed elements read once, every output written once. */
  readonly compulsory: { readonly read: number; readonly written: number }
}

/** Values of the symbols, and the number of parts that split folds are cut into. */
export interface TrafficNumbers {
  readonly sizes: Sizes
  readonly splits: number
}

export function traffic(plan: Plan, numbers: TrafficNumbers): Traffic {
  const outputs = [...plan.outputMemories.values()]
  return {
    kernels: plan.groups.map(g => kernelTraffic(g, numbers)),
    compulsory: { read: compulsoryRead(plan, numbers), written: total(outputs.map(m => memoryBytes(m, numbers))) },
  }
}

const total = (list: Iterable<number>): number => [...list].reduce((a, b) => a + b, 0)
const memoryBytes = (m: Memory, n: TrafficNumbers): number =>
  m.axes.reduce((count, a) => count * (a.size === 'splits' ? n.splits : evaluateSize(a.size, n.sizes)), byteSize[m.dtype])

/** How many positions along each axis are needed of a node. */
type Region = ReadonlyMap<string, number>
/** Bytes by what is read in which pass. */
type Reads = Map<string, number>

function kernelTraffic(g: Group, n: TrafficNumbers): KernelTraffic {
  const memories = g.roots.flatMap(r => (r.stored.form === 'array' ? [r.stored.memory] : [...r.stored.memories]))
  const reads: Reads = new Map()
  for (const r of g.roots) atMost(reads, readsOf(open(r.node), e => g.loads.get(e), n))
  return { name: g.name, read: total(reads.values()), written: total(memories.map(m => memoryBytes(m, n))) }
}

/** What the whole program needs of its inputs: as one kernel with a single pass over everything. */
function compulsoryRead(plan: Plan, n: TrafficNumbers): number {
  const needed: Reads = new Map(), whole = new Map<string, number>()
  const input = (e: Expr): Stored | undefined => {
    const stored = e.kind === 'tensor' ? plan.stored.get(e) : undefined
    if (stored?.form === 'array') whole.set(stored.memory.name, memoryBytes(stored.memory, n))
    return stored
  }
  for (const e of Object.values(plan.outputs)) {
    const own: Reads = new Map()
    for (const [key, bytes] of readsOf(open(e), input, n)) own.set(key.split(' ')[0]!, Math.max(own.get(key.split(' ')[0]!) ?? 0, bytes))
    atMost(needed, own)
  }
  // Rows that are gathered several times are still one row.
  return total([...needed].map(([name, bytes]) => Math.min(bytes, whole.get(name) ?? Infinity)))
}

/** The larger of two needs of the same thing: the smaller one is taken to be part of it. */
function atMost(into: Reads, from: Reads): Reads {
  for (const [key, bytes] of from) into.set(key, Math.max(into.get(key) ?? 0, bytes))
  return into
}

/** What a node reads of what is stored. A fold over a long axis is a pass of its own. */
function readsOf(root: Expr, stored: (e: Expr) => Stored | undefined, n: TrafficNumbers): Reads {
  const known = new Map<string, Reads>(), heights = new Map<Expr, number>()
  const length = (s: Size): number => evaluateSize(s, n.sizes)
  const all = (e: Expr): Region => new Map(e.axes.map(a => [a.name, length(a.size)]))
  const isPass = (e: Expr): boolean => isFold(e) && longAxes(e).length > 0

  /** Passes that must be over before this node is known. */
  const height = (x: Expr): number => {
    const e = open(x), done = heights.get(e)
    if (done !== undefined) return done
    const h = stored(e) !== undefined ? 0 : Math.max(0, ...applyRule(parts, e, all(e)).map(([c]) => height(c))) + (isPass(e) ? 1 : 0)
    heights.set(e, h)
    return h
  }
  const visit = (x: Expr, wanted: Region, pass: number): Reads => {
    const e = open(x), kept = stored(e)
    const region: Region = new Map(e.axes.map(a => [a.name, wanted.get(a.name) ?? length(a.size)]))
    if (kept !== undefined) return new Map((kept.form === 'array' ? [kept.memory] : [...kept.memories]).map(m => [`${m.name} ${pass}`,
      m.axes.reduce((count, a) => count * (a.size === 'splits' ? n.splits : region.get(a.name) ?? length(a.size)), byteSize[m.dtype])]))
    const own = isPass(e) ? height(e) : pass
    const key = `${e.id} ${own} ${[...region.values()].join()}`, done = known.get(key)
    if (done !== undefined) return done
    const reads: Reads = new Map()
    for (const [c, r] of applyRule(parts, e, region)) {
      const below = visit(c, r, own)
      // Parts of a concatenation are different pieces of what they may share; other operands meet the same ones.
      if (e.kind === 'concat') for (const [k, bytes] of below) reads.set(k, (reads.get(k) ?? 0) + bytes)
      else atMost(reads, below)
    }
    known.set(key, reads)
    return reads
  }
  const lengthOf = (e: Expr, axis: string): number => length(axisOf(e, axis)!.size)
  const moved = (r: Region, from: string, to: string, by: number): Region => new Map([...[...r].filter(([a]) => a !== from), [to, by]])

  /** The children of a node and what is needed of them. Axes that are not said are needed whole. */
  const parts: Rules<readonly (readonly [Expr, Region])[], Region> = {
    tensor: () => [], const: () => [], iota: () => [],
    map: (e, r) => e.args.map(a => [a.value, r]),
    cast: (e, r) => [[e.arg, r]],
    composite: (e, r) => [[e.definition, r]],
    contract: (e, r) => [[e.left, without(r, e.over)], [e.right, without(r, e.over)]],
    reduce: (e, r) => [[e.arg, without(r, e.over)]],
    window: (e, r) => [[e.arg, r]],
    topK: (e, r) => [[e.arg, without(r, [e.axis, e.as])]],
    gather: (e, r) => {
      const fetched = e.index.axes.filter(a => axisOf(e.arg, a.name) === undefined).reduce((k, a) => k * (r.get(a.name) ?? length(a.size)), 1)
      return [[e.arg, new Map([...r, [e.axis, fetched]])], [e.index, r]]
    },
    slice: (e, r) => [[e.arg, moved(r, e.as, e.axis, r.get(e.as)!)]],
    concat: (e, r) => e.parts.map(p => [p, new Map([...r, [e.axis, lengthOf(p, e.axis)]])] as const),
    rename: (e, r) => [[e.arg, moved(r, e.to, e.from, r.get(e.to)!)]],
    split: (e, r) => [[e.arg, new Map([...r, [e.axis, e.into.reduce((k, a) => k * r.get(a.name)!, 1)]])]],
    merge: (e, r) => [[e.arg, without(r, [e.as, ...e.from])]],
  }
  return visit(root, all(root), height(root) + (isPass(root) ? 0 : 1))
}

const without = (r: Region, axes: readonly string[]): Region => new Map([...r].filter(([a]) => !axes.includes(a)))
