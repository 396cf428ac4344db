/**
 * SnapKV once more, as plain loops in float64, for tests. It shares nothing with the language, the interpreter or the
 * compiler: not even the 16-bit formats, which are computed here from their definition.
 *
 * Source: the steps of FasterDecoding/SnapKV, `snapkv_utils.py` at e216ddc, with the group reduction of
 * KVCache-Factory's kv_head mode (before pooling).
 */

export interface OracleOptions {
  readonly window: number
  /** Rows kept, window included; at least window + 1, less than length. */
  readonly capacity: number
  readonly pool: 'max' | 'avg' | 'none'
  readonly poolSize: number
  readonly vote: 'sum' | 'mean'
  readonly group: 'none' | 'mean' | 'max' | 'sum'
  /** The format that each step is rounded to; `exact` leaves everything in float64. */
  readonly rounding: 'exact' | 'f16' | 'bf16'
  readonly order: 'position' | 'score'
}

export interface OracleInput {
  /** Numbers, [queryHeads, queries, dim]: the last `queries` of the prompt. */
  readonly q: ArrayLike<number>
  /** Numbers, [kvHeads, length, dim]. */
  readonly k: ArrayLike<number>
  readonly queryHeads: number
  readonly kvHeads: number
  readonly queries: number
  readonly length: number
  readonly dim: number
}

export interface OracleResult {
  /** Query heads if `group` is none, else KV heads. */
  readonly heads: number
  /** [heads, length − window], after pooling. */
  readonly scores: Float64Array
  /** [heads, capacity] */
  readonly positions: Int32Array
}

export function oracle(o: OracleOptions, x: OracleInput): OracleResult {
  const { window, capacity } = o
  const past = x.length - window, groupSize = x.queryHeads / x.kvHeads
  const round = rounding[o.rounding]
  const perQueryHead: Float64Array[] = []
  for (let h = 0; h < x.queryHeads; h++) perQueryHead.push(votes(o, x, h, Math.floor(h / groupSize), past, round))

  const heads = o.group === 'none' ? x.queryHeads : x.kvHeads
  const scores = new Float64Array(heads * past), positions = new Int32Array(heads * capacity)
  for (let h = 0; h < heads; h++) {
    const vote = o.group === 'none' ? perQueryHead[h]! : together(o.group, perQueryHead.slice(h * groupSize, (h + 1) * groupSize), round)
    const score = pooled(o, vote, round)
    scores.set(score, h * past)
    const best = Array.from(score.keys()).sort((a, b) => score[b]! - score[a]! || a - b).slice(0, capacity - window)
    if (o.order === 'position') best.sort((a, b) => a - b)
    for (let i = 0; i < window; i++) best.push(past + i)
    positions.set(best, h * capacity)
  }
  return { heads, scores, positions }
}

/** What the window's rows of one query head give each earlier row. */
function votes(o: OracleOptions, x: OracleInput, queryHead: number, kvHead: number, past: number, round: Rounding): Float64Array {
  const vote = new Float64Array(past), p = new Float64Array(x.length)
  for (let i = 0; i < o.window; i++) {
    const row = (queryHead * x.queries + x.queries - o.window + i) * x.dim
    let m = -Infinity
    const visible = past + i + 1
    for (let j = 0; j < visible; j++) {
      const key = (kvHead * x.length + j) * x.dim
      let dot = 0
      for (let d = 0; d < x.dim; d++) dot += x.q[row + d]! * x.k[key + d]!
      p[j] = round(round(dot) / Math.sqrt(x.dim))
      if (p[j]! > m) m = p[j]!
    }
    let total = 0
    for (let j = 0; j < visible; j++) total += (p[j] = Math.exp(p[j]! - m))
    for (let j = 0; j < past; j++) vote[j]! += round(p[j]! / total)
  }
  for (let j = 0; j < past; j++) vote[j] = round(o.vote === 'sum' ? vote[j]! : vote[j]! / o.window)
  return vote
}

function together(how: 'mean' | 'max' | 'sum', rows: readonly Float64Array[], round: Rounding): Float64Array {
  return rows[0]!.map((_, j) => {
    const values = rows.map(r => r[j]!)
    if (how === 'max') return Math.max(...values)
    const total = values.reduce((a, b) => a + b, 0)
    return round(how === 'sum' ? total : total / rows.length)
  })
}

/** Stride 1, centred; beyond the ends −∞ for max, and 0 for avg, which always divides by the whole size. */
function pooled(o: OracleOptions, vote: Float64Array, round: Rounding): Float64Array {
  if (o.pool === 'none') return vote
  const side = (o.poolSize - 1) / 2
  return vote.map((_, j) => {
    let most = -Infinity, total = 0
    for (let n = Math.max(0, j - side); n <= Math.min(vote.length - 1, j + side); n++) {
      most = Math.max(most, vote[n]!)
      total += vote[n]!
    }
    return o.pool === 'max' ? most : round(total / o.poolSize)
  })
}

type Rounding = (x: number) => number

const single = new Float32Array(1), singleBits = new Uint32Array(single.buffer)

/** To `digits` significant binary digits, ties to even, with the format's subnormals and infinity. */
const toFormat = (digits: number, leastExponent: number, largest: number): Rounding => x => {
  single[0] = x   // results of f32 arithmetic are what the official code rounds
  const exponent = Math.max(leastExponent, ((singleBits[0]! >>> 23) & 255) - 127)
  const a = Math.abs(single[0]!)
  if (a === 0 || exponent === 128) return single[0]!
  const unit = 2 ** (exponent - digits + 1), n = a / unit
  let whole = Math.floor(n)
  if (n - whole > 0.5 || (n - whole === 0.5 && whole % 2 === 1)) whole += 1
  return Math.sign(x) * (whole * unit > largest ? Infinity : whole * unit)
}

/** To nearest, ties to even. */
export const rounding: { readonly [F in OracleOptions['rounding']]: Rounding } = {
  exact: x => x,
  f16: toFormat(11, -14, 65504),
  bf16: toFormat(8, -126, 255 * 2 ** 120),
}

/** The numbers of 16-bit elements. */
export function decode16(format: 'f16' | 'bf16', bits: ArrayLike<number>): Float64Array {
  const fractionBits = format === 'f16' ? 10 : 7, exponentBits = 15 - fractionBits
  const bias = 2 ** (exponentBits - 1) - 1, one = 2 ** fractionBits, top = 2 ** exponentBits - 1
  return Float64Array.from(bits, b => {
    const sign = b >= 0x8000 ? -1 : 1, exponent = Math.floor((b % 0x8000) / one), fraction = (b % one) / one
    if (exponent === top) return fraction === 0 ? sign * Infinity : NaN
    return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias))
  })
}
