/**
 * What kernels are made for: the limits of a GPU that a lowering or a schedule may depend on. A target is data; passes
 * get it as an argument, so that the same plan, schedules and target always give the same text.
 */
import { WeftError } from '../dsl/errors.js'

export interface Target {
  /** What the compiler is told, such as `sm_90a`. */
  readonly name: string
  /** The compute capability as one number: 90 for 9.0. */
  readonly capability: number
  readonly multiprocessors: number
  /** Shared memory that one block may have, in bytes, where it opts in. */
  readonly sharedPerBlock: number
  /** Shared memory of a multiprocessor, in bytes; each of its blocks takes 1 KB more than it asks for. */
  readonly sharedPerMultiprocessor: number
  readonly threadsPerMultiprocessor: number
  readonly registersPerMultiprocessor: number
  readonly registersPerThread: number
  /** Whether blocks can form clusters that read each other's shared memory. */
  readonly clusters: boolean
}

type Limits = readonly [multiprocessors: number, sharedKilobytes: number, threads: number]

// Shared memory of a multiprocessor in KB, its threads, and multiprocessors of the usual GPU: A100, A40, Orin, RTX 4090,
// H100, B200, B300, RTX 5090.
const limits: Readonly<Record<number, Limits>> = {
  80: [108, 164, 2048], 86: [84, 100, 1536], 87: [16, 164, 1536], 89: [128, 100, 1536],
  90: [132, 228, 2048], 100: [148, 228, 2048], 103: [148, 228, 2048], 120: [170, 100, 1536],
}

function make(name: string, capability: number, [multiprocessors, sharedKilobytes, threads]: Limits): Target {
  return {
    name, capability, multiprocessors, sharedPerBlock: (sharedKilobytes - 1) * 1024, sharedPerMultiprocessor: sharedKilobytes * 1024,
    threadsPerMultiprocessor: threads, registersPerMultiprocessor: 65536, registersPerThread: 255, clusters: capability >= 90,
  }
}

/** What every GPU since sm_80 can do: 99 KB of shared memory, no clusters. */
export const portable: Target = make('sm_80', 80, [108, 100, 1536])

/**
 * The target of an architecture: `sm_80`, `sm_90a`. One that is not in the table has the limits of the newest older one.
 * @throws WeftError `arch` if it is no architecture, or older than sm_80
 */
export function targetOf(arch: string): Target {
  const capability = Number(/^sm_(\d{2,3})[af]?$/.exec(arch)?.[1] ?? 0)
  const known = Object.keys(limits).map(Number).filter(c => c <= capability).at(-1)
  if (known === undefined) throw new WeftError('arch', `'${arch}' is no architecture that kernels are made for`, { fix: 'write it like sm_90 or sm_90a; sm_80 is the oldest' })
  return make(arch, capability, limits[known]!)
}

/** What no target goes beyond: a schedule that this refuses, all refuse. */
export const roomiest: Target = targetOf('sm_100')
