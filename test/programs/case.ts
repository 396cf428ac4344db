/** What a program of the corpus is: a dozen lines of the language over an axis `n` that takes all boundary lengths. */
import type { Expr, Sizes } from '../../src/dsl/index.js'
import type { HostTensor } from '../../src/runtime/host-tensor.js'
import { boundaryLengths, randomTensor, type Flavour } from '../arbitrary-tensors.js'
import type { Dtype } from '../../src/dsl/dtype.js'

export interface Case {
  readonly name: string
  /** Lengths of `n`. */
  readonly lengths: readonly number[]
  /** The outputs; `n` is a symbol in them, so that one text serves all lengths that are not specialised. */
  readonly outputs: (n: number) => Readonly<Record<string, Expr>>
  readonly inputs: (n: number, seed: number) => Readonly<Record<string, HostTensor>>
  readonly sizes?: (n: number) => Readonly<Record<string, number>>
  /** How far a correct device may be off, by output; 0 where it is left out: judged to the last bit. */
  readonly bounds?: (n: number) => Readonly<Record<string, number>>
  /** The same program at the sizes of `docs/fusion.md`, and what torch.compile would launch, as an estimate. */
  readonly tabled?: { readonly outputs: Readonly<Record<string, Expr>>; readonly sizes: Sizes; readonly torch: string }
}

/** Where tiles, warps and vectors begin and end, primes among them. */
export const lengths = (from = 0): readonly number[] => [...boundaryLengths.filter(n => ![4, 5, 8, 16].includes(n)), 61, 255, 257].filter(n => n >= from)

/** Numbers of a flavour; the same for the same seed. */
export const data = (dtype: Dtype, shape: Readonly<Record<string, number>>, seed: number, flavour: Flavour = 'exact'): HostTensor => randomTensor(dtype, shape, flavour, seed)

/** Half an ulp of 1: one rounding of an f32 is off by at most this, relatively. */
export const unit = 2 ** -24
/** Relative error of Σ e^(x − m) over n elements up to `most` in magnitude, by the bound of exp and the rescalings. */
export const exponentials = (n: number, most: number): number => (16 + 8 * most + 4 * n) * 2 * unit
