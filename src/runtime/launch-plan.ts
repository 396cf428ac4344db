/** Numbers of a launch: how many blocks, how many parts of a split fold, how many bytes; all from sizes. */
import { evaluateSize, type Sizes } from '../dsl/size.js'
import { byteSize } from '../dsl/dtype.js'
import type { LoweredKernel } from '../codegen/pipeline.js'
import { evaluate } from '../codegen/index-expr.js'
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
  for (const { kernel, group } of kernels) {
    if (kernel.divided === undefined) continue
    const others = kernel.grid.filter(g => g.name !== 'share').reduce((n, g) => n * evaluate(g.blocks, sizes), 1)
    const tiles = Math.max(1, Math.ceil(evaluate(kernel.divided.length, sizes) / kernel.divided.tile))
    const wanted = Math.max(1, Math.min(tiles, Math.floor((blocksPerMultiprocessor * multiprocessors) / Math.max(1, others))))
    if (group.roots[0]!.stored.form === 'partials') splits = Math.max(splits, wanted)
    else shares[kernel.name] = wanted
  }
  return { sizes, splits, shares }
}

/** Blocks of a kernel; 0 if an axis of its result is empty. */
export function blocksOf(k: LoweredKernel, n: LaunchNumbers): number {
  const scalars = { ...n.sizes, splits: n.splits, shares: n.shares[k.kernel.name] ?? 1 }
  return k.kernel.grid.reduce((product, g) => product * evaluate(g.blocks, scalars), 1)
}

export const shapeOf = (m: Memory, n: LaunchNumbers): number[] => m.axes.map(a => (a.size === 'splits' ? n.splits : evaluateSize(a.size, n.sizes)))
export const bytesOf = (m: Memory, n: LaunchNumbers): number => shapeOf(m, n).reduce((a, b) => a * b, 1) * byteSize[m.dtype]
