/**
 * What a plan takes, roughly: for choosing between plans, not for predicting times. The constants are an H100's; on other
 * GPUs of the last years the quotients between them are similar.
 *
 * A kernel takes as long as the scarcest of four things: bytes of memory, tensor-core products, other arithmetic, and
 * loads by single threads. With too few blocks to fill the device it gets that share of each. A launch is added.
 */
import { evaluateSize, type Sizes } from '../../dsl/size.js'
import { isFold, longAxes } from '../folds.js'
import type { Group } from '../plan.js'
import { elementsIn, wholeRegion } from '../regions.js'
import { groupMemories, groupReads, memoryBytes, passHeights, type TrafficNumbers } from '../traffic.js'
import { groupWork, type Work } from './work.js'

/** Per second, of the whole device. */
const device = {
  /** Bytes from memory that a streaming kernel reaches. */
  memory: 3.0e12,
  /** Bytes from the second-level cache, and how much of it holds what the last kernel wrote or the last pass read. */
  cache: 5.5e12, cached: 30e6,
  /** 16-bit products by mma.sync: about 62 % of the peak. */
  products: 600e12,
  /** f32 operations without fused multiply-adds: half of 67e12. */
  operations: 33e12,
  /** 16 a clock and multiprocessor. */
  functions: 3.7e12,
  /** 128 bytes a clock and multiprocessor out of the first-level cache. */
  loaded: 29e12,
  /** Seconds between the end of a kernel and the work of the next: about 1.25 µs to drain and launch, as much until all blocks are busy. */
  launch: 2.5e-6,
} as const

/** Rows of a tile, and the length of one along the streamed axis: those of the default schedules. */
const tileRows = 64, tileColumns = 64, tileBeside = 64

export interface KernelCost {
  readonly name: string
  readonly bytes: number
  readonly blocks: number
  readonly seconds: number
  /** What it waits for most. */
  readonly bound: 'memory' | 'products' | 'arithmetic' | 'loads' | 'launch'
}

export interface Cost {
  readonly seconds: number
  readonly bytes: number
  readonly kernels: readonly KernelCost[]
}

/** Blocks that a stream group has before its axis is divided. */
const outerBlocks = (g: Group, sizes: Sizes): number => {
  const shape = g.shape!, at = (s: (typeof shape.grid)[number]): number => evaluateSize(s.size, sizes)
  const rows = shape.rows.filter(r => !r.folded).reduce((n, r) => n * at(r.axis), 1)
  return shape.grid.reduce((n, a) => n * at(a), 1) * Math.ceil(rows / tileRows) * shape.beside.reduce((n, a) => n * Math.ceil(at(a) / tileBeside), 1)
}
/** What the loop along the streamed axis goes over, if its tiles are shared among blocks. */
function sharedLength(g: Group, sizes: Sizes): number | undefined {
  const root = g.roots[0]!, { node } = root
  if (root.stored.form === 'partials' && isFold(node)) return evaluateSize((node.kind === 'reduce' ? node.arg : node.left).axes.find(a => a.name === longAxes(node)[0])!.size, sizes)
  if (g.shape?.column === undefined || passHeights(e => g.loads.has(e))(node) > 0) return undefined
  return evaluateSize(g.shape.column.size, sizes)
}
const shares = (length: number, outer: number, fill: number): number =>
  Math.max(1, Math.min(Math.ceil(length / tileColumns), Math.floor((2 * fill) / Math.max(1, outer))))

function blocksOf(g: Group, sizes: Sizes, fill: number): number {
  const elements = Math.max(...g.roots.map(r => elementsIn(wholeRegion(r.node, sizes))))
  if (g.rule === 'point') return Math.ceil(elements / 256)
  if (g.rule === 'stream') {
    const outer = outerBlocks(g, sizes), length = sharedLength(g, sizes)
    return length === undefined ? outer : outer * shares(length, outer, fill)
  }
  // A block of 1024 threads has a multiprocessor to itself.
  return 2 * g.roots.reduce((n, r) => (r.node.kind === 'topK' ? n + elements / Math.max(1, evaluateSize(r.node.k, sizes)) : n), 0)
}

/** Rows of up to 16384 are evaluated once; longer ones in each of the five sweeps. */
const sweeps = (length: number): number => (length <= 16384 ? 1 : 5)

/** `sizes` has all symbols. `fill`: blocks that fill the device. */
export function costOf(groups: readonly Group[], sizes: Sizes, fill: number): Cost {
  const splits = Math.max(1, ...groups.filter(g => g.roots[0]!.stored.form === 'partials').map(g => shares(sharedLength(g, sizes)!, outerBlocks(g, sizes), fill)))
  const numbers: TrafficNumbers = { sizes, splits }
  const warm = new Set<string>()
  const kernels = groups.map((g): KernelCost => {
    let fromMemory = 0, fromCache = 0
    for (const { memory, bytes } of groupReads(g, numbers)) {
      if (warm.has(memory.name)) fromCache += bytes
      else fromMemory += bytes
      if (memoryBytes(memory, numbers) <= device.cached) warm.add(memory.name)
    }
    for (const m of groupMemories(g)) {
      const bytes = memoryBytes(m, numbers), fits = bytes <= device.cached
      if (fits) warm.add(m.name)
      if (fits && m.role === 'between') fromCache += bytes
      else fromMemory += bytes
    }
    const work = groupWork(g, sizes, sweeps), blocks = blocksOf(g, sizes, fill)
    const times = { memory: fromMemory / device.memory + fromCache / device.cache, ...timesOf(work) }
    const busy = Math.min(1, Math.max(1, blocks) / fill), longest = Math.max(...Object.values(times)) / busy
    const bound = longest < device.launch ? 'launch' as const : (Object.keys(times) as (keyof typeof times)[]).find(k => times[k] / busy === longest)!
    return { name: g.name, bytes: fromMemory + fromCache, blocks, seconds: longest + device.launch, bound }
  })
  const sum = (f: (k: KernelCost) => number): number => kernels.reduce((n, k) => n + f(k), 0)
  return { seconds: sum(k => k.seconds), bytes: sum(k => k.bytes), kernels }
}

const timesOf = (w: Work): { products: number; arithmetic: number; loads: number } => ({
  products: w.products / device.products, arithmetic: w.operations / device.operations + w.functions / device.functions, loads: w.loaded / device.loaded,
})
