/** Numbers of a launch: how many blocks, how many parts of a split fold, how many bytes; all from sizes. */
import { evaluateSize, type Sizes } from '../dsl/size.js'
import { byteSize } from '../dsl/dtype.js'
import type { LoweredKernel } from '../codegen/pipeline.js'
import { ceilDiv, constant, evaluate, sizeIndex, type Index } from '../codegen/index-expr.js'
import type { Memory } from '../codegen/kernel.js'

/** Values of the symbols, and of `splits` and of `shares.KERNEL`. */
export interface LaunchNumbers {
  readonly sizes: Sizes
  readonly splits: number
  /** By kernel name. */
  readonly shares: Readonly<Record<string, number>>
}

/** Blocks on every multiprocessor that streaming kernels are divided into. */
const blocksPerMultiprocessor = 4

/**
 * Shares of an axis: enough blocks for the device, but never more than there are tiles. The sum of a fold depends on
 * the number of parts, so this depends on sizes and the device's multiprocessors only.
 */
export function launchNumbers(kernels: readonly LoweredKernel[], sizes: Sizes, multiprocessors: number): LaunchNumbers {
  const shares: Record<string, number> = {}
  let splits = 1
  for (const { kernel, group, schedule } of kernels) {
    const shared = kernel.grid.find(g => g.name === 'share')
    if (shared === undefined || schedule.rule !== 'stream') continue
    const others = kernel.grid.filter(g => g !== shared).reduce((n, g) => n * evaluate(g.blocks, sizes), 1)
    const length = evaluate(streamedLength(group, kernel), sizes)
    const tiles = Math.max(1, evaluate(ceilDiv(constant(length), constant(Math.max(schedule.columns, 1))), sizes))
    const wanted = Math.max(1, Math.min(tiles, Math.floor((blocksPerMultiprocessor * multiprocessors) / Math.max(1, others))))
    if (group.roots[0]!.stored.form === 'partials') splits = Math.max(splits, wanted)
    else shares[kernel.name] = wanted
  }
  return { sizes, splits, shares }
}

function streamedLength(group: LoweredKernel['group'], kernel: LoweredKernel['kernel']): Index {
  if (group.shape?.column !== undefined) return sizeIndex(group.shape.column.size)
  // A split fold: its axis is the one of the loop over this block's share.
  for (const s of kernel.body) if (s.kind === 'let' && s.value.op === 'div') return s.value.a
  return constant(1)
}

/** Blocks of a kernel; 0 if an axis of its result is empty. */
export function blocksOf(k: LoweredKernel, n: LaunchNumbers): number {
  const scalars = { ...n.sizes, splits: n.splits, shares: n.shares[k.kernel.name] ?? 1 }
  return k.kernel.grid.reduce((product, g) => product * evaluate(g.blocks, scalars), 1)
}

export const shapeOf = (m: Memory, n: LaunchNumbers): number[] => m.axes.map(a => (a.size === 'splits' ? n.splits : evaluateSize(a.size, n.sizes)))
export const bytesOf = (m: Memory, n: LaunchNumbers): number => shapeOf(m, n).reduce((a, b) => a * b, 1) * byteSize[m.dtype]
