/** Random lengths and tensors: boundary lengths, exact and special data. Reproducible from a seed. */
import fc from 'fast-check'
import { bf16Bits, f16Bits, newArray, type Dtype } from '../src/dsl/dtype.js'
import { hostTensor, type HostTensor } from '../src/runtime/host-tensor.js'

/** Lengths at which tiles, warps and vectors begin and end. */
export const boundaryLengths = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129] as const
export const arbitraryLength = (options: { readonly min?: number; readonly max?: number } = {}): fc.Arbitrary<number> =>
  fc.constantFrom(...boundaryLengths.filter(n => n >= (options.min ?? 0) && n <= (options.max ?? 129)))

/** Uniform in [0, 1), the same for the same seed everywhere. Source: mulberry32, public domain. */
export function random(seed: number): () => number {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) >>> 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * `exact`: small whole numbers, whose sums are exact in any order. `float`: numbers in (−2, 2), some of them equal.
 * `special`: `float` with NaN, infinities, −0, subnormals and extremes among them.
 */
export type Flavour = 'exact' | 'exactSpecial' | 'float' | 'special'

const infinite = [NaN, Infinity, -Infinity, -0, 0]
const extreme = [...infinite, 2 ** -149, -(2 ** -149), 2 ** -126, -(2 ** -127), 1 - 2 ** -24, 1 + 2 ** -23]

function floatOf(flavour: Flavour, next: () => number): number {
  const special = flavour === 'special' ? extreme : flavour === 'exactSpecial' ? infinite : []
  if (special.length > 0 && next() < 0.06) return special[Math.floor(next() * special.length)]!
  if (flavour === 'exact' || flavour === 'exactSpecial') return Math.floor(next() * 9) - 4
  const x = next() * 4 - 2
  return next() < 0.2 ? Math.round(x * 4) / 4 : Math.fround(x)
}

/** A tensor of random elements; the same for the same seed. */
export function randomTensor(dtype: Dtype, shape: Readonly<Record<string, number>>, flavour: Flavour, seed: number): HostTensor {
  const next = random(seed)
  const data = newArray(dtype, Object.values(shape).reduce((a, b) => a * b, 1))
  for (let i = 0; i < data.length; i++) {
    switch (dtype) {
      case 'f32': data[i] = floatOf(flavour, next); break
      case 'f16': data[i] = f16Bits(floatOf(flavour, next)); break
      case 'bf16': data[i] = bf16Bits(floatOf(flavour, next)); break
      case 'i32': data[i] = Math.floor(next() * 19) - 9; break
      case 'u32': data[i] = Math.floor(next() * 10); break
      case 'bool': data[i] = next() < 0.5 ? 0 : 1
    }
  }
  return hostTensor(dtype, shape, data)
}

export const arbitraryFlavour: fc.Arbitrary<Flavour> = fc.constantFrom('exact', 'exactSpecial', 'float', 'special')

/** A tensor over named axes, of random length where an axis is given none. */
export const arbitraryTensor = (dtype: Dtype, axes: readonly string[], options: { readonly flavour?: Flavour; readonly min?: number; readonly max?: number } = {}): fc.Arbitrary<HostTensor> =>
  fc.tuple(fc.tuple(...axes.map(() => arbitraryLength(options))), fc.nat(), options.flavour === undefined ? arbitraryFlavour : fc.constant(options.flavour))
    .map(([lengths, seed, flavour]) => randomTensor(dtype, Object.fromEntries(axes.map((a, i) => [a, lengths[i]!])), flavour, seed))
