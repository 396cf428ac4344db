/**
 * Bytes between a GPU's memory and its kernels, counted from a plan, and the least that any implementation would move.
 *
 * What counts: an array is read once for each pass that a kernel makes over it, however many blocks do (they run at the
 * same time and meet in the cache), and written once. A slice counts only what it cuts out, a gather only the rows that
 * it fetches. The halo of a window is not counted, and a radix selection counts its row once: its later sweeps find it
 * in shared memory or in the cache. Real traffic is never less than this, and close to it where arrays fit the cache.
 */
import { byteSize } from '../dsl/dtype.js'
import { children, type Expr } from '../dsl/expr.js'
import { evaluateSize, type Sizes } from '../dsl/size.js'
import { isFold, longAxes } from './folds.js'
import type { Memory } from './kernel.js'
import { open, type Stored } from './lower/value.js'
import type { Group, Plan } from './plan.js'
import { completed, needs, wholeRegion, type Region } from './regions.js'

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
export const memoryBytes = (m: Memory, n: TrafficNumbers): number =>
  m.axes.reduce((count, a) => count * (a.size === 'splits' ? n.splits : evaluateSize(a.size, n.sizes)), byteSize[m.dtype])

/** What a kernel reads of one array, once for each pass over it. */
export interface Read {
  readonly memory: Memory
  readonly bytes: number
}
/** By array and pass. */
type Reads = Map<string, Read>

/** The arrays that a kernel reads, in passes. */
export function groupReads(g: Group, n: TrafficNumbers): readonly Read[] {
  const reads: Reads = new Map()
  for (const r of g.roots) atMost(reads, readsOf(open(r.node), e => g.loads.get(e), n))
  return [...reads.values()]
}
export const groupMemories = (g: Group): Memory[] => g.roots.flatMap(r => (r.stored.form === 'array' ? [r.stored.memory] : [...r.stored.memories]))

function kernelTraffic(g: Group, n: TrafficNumbers): KernelTraffic {
  return { name: g.name, read: total(groupReads(g, n).map(r => r.bytes)), written: total(groupMemories(g).map(m => memoryBytes(m, n))) }
}

/** What the whole program needs of its inputs: as one kernel with a single pass over everything. */
function compulsoryRead(plan: Plan, n: TrafficNumbers): number {
  const needed = new Map<Memory, number>()
  const input = (e: Expr): Stored | undefined => (e.kind === 'tensor' ? plan.stored.get(e) : undefined)
  for (const e of Object.values(plan.outputs)) {
    for (const { memory, bytes } of readsOf(open(e), input, n).values()) needed.set(memory, Math.max(needed.get(memory) ?? 0, bytes))
  }
  // Rows that are gathered several times are still one row.
  return total([...needed].map(([memory, bytes]) => Math.min(bytes, memoryBytes(memory, n))))
}

/** The larger of two needs of the same thing: the smaller one is taken to be part of it. */
function atMost(into: Reads, from: Reads): Reads {
  for (const [key, read] of from) if (read.bytes > (into.get(key)?.bytes ?? -1)) into.set(key, read)
  return into
}

/** What a node reads of what is stored. A fold over a long axis is a pass of its own. */
function readsOf(root: Expr, stored: (e: Expr) => Stored | undefined, n: TrafficNumbers): Reads {
  const known = new Map<string, Reads>(), heights = passHeights(e => stored(e) !== undefined)
  const visit = (x: Expr, wanted: Region, pass: number): Reads => {
    const e = open(x), kept = stored(e), region = completed(e, wanted, n.sizes)
    if (kept !== undefined) return new Map((kept.form === 'array' ? [kept.memory] : [...kept.memories]).map(m => [`${m.name} ${pass}`, { memory: m,
      bytes: m.axes.reduce((count, a) => count * (a.size === 'splits' ? n.splits : region.get(a.name) ?? evaluateSize(a.size, n.sizes)), byteSize[m.dtype]) }]))
    const own = isPass(e) ? heights(e) : pass
    const key = `${e.id} ${own} ${[...region.values()].join()}`, done = known.get(key)
    if (done !== undefined) return done
    const reads: Reads = new Map()
    for (const [c, r] of needs(e, region, n.sizes)) {
      const below = visit(c, r, own)
      // Parts of a concatenation are different pieces of what they may share; other operands meet the same ones.
      if (e.kind === 'concat') for (const [k, read] of below) reads.set(k, { memory: read.memory, bytes: (reads.get(k)?.bytes ?? 0) + read.bytes })
      else atMost(reads, below)
    }
    known.set(key, reads)
    return reads
  }
  return visit(root, wholeRegion(root, n.sizes), lastPass(root, heights))
}

export const isPass = (e: Expr): boolean => isFold(e) && longAxes(e).length > 0

/** Passes over long axes that must be over before a node is known. */
export function passHeights(leaf: (e: Expr) => boolean): (e: Expr) => number {
  const heights = new Map<Expr, number>()
  const height = (x: Expr): number => {
    const e = open(x), done = heights.get(e)
    if (done !== undefined) return done
    const h = leaf(e) ? 0 : Math.max(0, ...childrenOf(e).map(height)) + (isPass(e) ? 1 : 0)
    heights.set(e, h)
    return h
  }
  return height
}
/** The pass in which a kernel's result itself is computed. */
export const lastPass = (root: Expr, heights: (e: Expr) => number): number => heights(root) + (isPass(root) ? 0 : 1)
const childrenOf = (e: Expr): readonly Expr[] => (e.kind === 'composite' ? [e.definition] : children(e))
