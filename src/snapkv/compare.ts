/**
 * Are two selections the same choice? Never by index lists: where the cut falls among equal scores, which of the equals
 * stay is each implementation's own rule, and with max pooling that is the normal case.
 *
 * The rule: with t the k-th largest expected score of a head and e a tolerance, every position with score > t + e is
 * kept, none with score < t − e is, and the number kept is k.
 */

export type FloatName = 'f32' | 'f16' | 'bf16'

export interface Mismatch {
  readonly head: number
  readonly kind: 'missing' | 'extra' | 'twice' | 'outside' | 'count'
  /** The position; for `count`, the number kept. */
  readonly position: number
  /** The expected score there; NaN where there is none. */
  readonly score: number
  /** The k-th largest expected score of the head; for `count`, k. */
  readonly threshold: number
  /** How far the score is on the wrong side of the threshold. */
  readonly gap: number
  readonly tolerance: number
}

export interface SelectionReport {
  readonly ok: boolean
  readonly heads: number
  readonly mismatches: readonly Mismatch[]
  /** Heads whose cut falls among equals: more positions within the tolerance of t than places for them. */
  readonly headsWithTies: number
  /** Positions, over all heads, within the tolerance of the threshold: any of them may be kept. */
  readonly borderline: number
}

/**
 * Compares a selection with expected scores.
 * @param scores expected, [head, past], row-major; NaN is the largest
 * @param kept positions kept, [head, rows], row-major; the rows − k ones from past on are the window and need no score
 * @param k how many of the scored positions each head keeps
 * @param tolerance e, from t: `relative(1e-5)` or `ulps('bf16', 4)`
 */
export function compareSelection(
  scores: ArrayLike<number>, kept: ArrayLike<number>, shape: { readonly heads: number; readonly past: number; readonly rows: number; readonly k: number },
  tolerance: (t: number) => number,
): SelectionReport {
  const { heads, past, rows, k } = shape
  const mismatches: Mismatch[] = []
  let borderline = 0, headsWithTies = 0
  for (let head = 0; head < heads; head++) {
    const row = Float64Array.from({ length: past }, (_, j) => { const s = scores[head * past + j]!; return Number.isNaN(s) ? Infinity : s })
    const t = k === 0 ? Infinity : k > past ? -Infinity : Float64Array.from(row).sort()[past - k]!
    const e = Number.isFinite(t) ? tolerance(t) : 0
    const times = new Uint32Array(past + rows - k)
    let count = 0
    const report = (kind: Mismatch['kind'], position: number, score: number, gap: number, threshold = t): void => {
      mismatches.push({ head, kind, position, score, threshold, gap, tolerance: e })
    }
    for (let i = 0; i < rows; i++) {
      const j = kept[head * rows + i]!
      if (!Number.isInteger(j) || j < 0 || j >= times.length) { report('outside', j, NaN, NaN); continue }
      if (j < past) count += 1
      times[j]! += 1
      if (times[j] === 2) report('twice', j, row[j] ?? NaN, 0)
    }
    if (count !== k) report('count', count, NaN, Math.abs(count - k), k)
    let near = 0, above = 0
    for (let j = 0; j < past; j++) {
      const s = row[j]!
      if (s > t + e) {
        above += 1
        if (times[j] === 0) report('missing', j, s, s - t)
      } else if (s < t - e) {
        if (times[j]! > 0) report('extra', j, s, t - s)
      } else near += 1
    }
    borderline += near
    if (near > k - above) headsWithTies += 1
  }
  return { ok: mismatches.length === 0, heads, mismatches, headsWithTies, borderline }
}

/** One mismatch for people. */
export function explainMismatch(m: Mismatch): string {
  const by = `by ${m.gap.toPrecision(3)}, tolerance ${m.tolerance.toPrecision(3)}`
  switch (m.kind) {
    case 'missing': return `head ${m.head}: position ${m.position} was dropped, but its score ${m.score.toPrecision(7)} is above the threshold ${m.threshold.toPrecision(7)} (${by})`
    case 'extra': return `head ${m.head}: position ${m.position} was kept, but its score ${m.score.toPrecision(7)} is below the threshold ${m.threshold.toPrecision(7)} (${by})`
    case 'twice': return `head ${m.head}: position ${m.position} was kept more than once`
    case 'outside': return `head ${m.head}: ${m.position} is not a position of the prompt`
    case 'count': return `head ${m.head}: ${m.position} positions were kept, not ${m.threshold}`
  }
}

/** e = |t| · bound */
export const relative = (bound: number) => (t: number): number => Math.abs(t) * bound
/** e = n units in the last place of t in that dtype. */
export const ulps = (dtype: FloatName, n: number) => (t: number): number => n * ulp(dtype, t)

const formats = { f32: { bits: 23, least: -126 }, f16: { bits: 10, least: -14 }, bf16: { bits: 7, least: -126 } } as const

/** The distance from |x| to the next number of the dtype. */
export function ulp(dtype: FloatName, x: number): number {
  const { bits, least } = formats[dtype]
  const a = Math.abs(x)
  let exponent = a === 0 || !Number.isFinite(a) ? least : Math.floor(Math.log2(a))
  if (a < 2 ** exponent) exponent -= 1
  else if (a >= 2 ** (exponent + 1)) exponent += 1
  return 2 ** (Math.max(exponent, least) - bits)
}

export interface NumbersReport {
  readonly count: number
  /** The largest |actual − expected|, in units of the bound where it is one unit. */
  readonly worst: number
  /** Where it is; −1 if there are no elements. */
  readonly at: number
  /** Elements further apart than the bound. */
  readonly beyond: number
  /** Elements that differ at all. */
  readonly different: number
  readonly ok: boolean
}

/**
 * Compares numbers with a bound for each, `relative(1e-5)` or `ulps('bf16', 1)` of the expected one. NaN agrees with NaN.
 * @param allowed part of the elements that may lie beyond the bound
 */
export function compareNumbers(actual: ArrayLike<number>, expected: ArrayLike<number>, bound: (x: number) => number, allowed = 0): NumbersReport {
  let worst = 0, at = -1, beyond = 0, different = 0
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!, x = expected[i]!
    if (Object.is(a, x) || a === x || (Number.isNaN(a) && Number.isNaN(x))) { if (at < 0) at = i; continue }
    different += 1
    const error = Math.abs(a - x), one = bound(x)
    const distance = Number.isNaN(error) ? Infinity : error === 0 ? 0 : error / one
    if (distance > 1) beyond += 1
    if (distance > worst) { worst = distance; at = i }
  }
  const same = actual.length === expected.length
  return { count: expected.length, worst: same ? worst : Infinity, at, beyond, different, ok: same && beyond <= allowed * expected.length }
}
