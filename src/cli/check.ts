/** Is a result the one that the reference interpreter gives? Choices are compared by score, rows and order exactly. */
import { reader } from '../dsl/dtype.js'
import type { HostTensor } from '../runtime/host-tensor.js'
import { compareNumbers, compareSelection, explainMismatch, relative, ulps, type NumbersReport, type SelectionReport } from '../snapkv/compare.js'
import type { Policy } from '../snapkv/policy.js'
import type { Compressed, Prompt } from '../snapkv/prompt.js'

export interface CheckReport {
  readonly ok: boolean
  /** The kept positions against the reference's scores. */
  readonly selection: SelectionReport
  /** The device's scores against the reference's; undefined if the device's are not there. */
  readonly scores: NumbersReport | undefined
  /** Elements of keys and values that are not, bit by bit, those of the cache at their position. */
  readonly wrongElements: number
  /** Heads whose rows are not in the order that the policy promises, or whose last rows are not the window's. */
  readonly wrongOrder: number
  /** How far a score may lie from the reference's, in words. */
  readonly bound: string
  /** Scored rows that each head keeps. */
  readonly k: number
}

export const numbersOf = (t: HostTensor): Float64Array => {
  const read = reader[t.dtype]
  return Float64Array.from({ length: t.data.length }, (_, i) => read(t.data as never, i))
}

/** @param expected the reference's scores, [head, past] */
export function checkAgainst(expected: ArrayLike<number>, policy: Policy, prompt: Prompt, results: Compressed): CheckReport {
  const { window, kept } = policy.budget(prompt.shape)
  const { length, dtype, kvHeads, group } = prompt.shape
  const heads = policy.perQueryHead ? kvHeads * group : kvHeads, past = length - window, k = kept - window
  // Every step of an f32 program is exact to a few units in 10⁷; a 16-bit rounding may fall to either side.
  const sixteen = policy.settings['rounding'] === 'reference' && dtype !== 'f32' ? dtype : undefined
  const tolerance = sixteen === undefined ? relative(1e-5) : ulps(sixteen, 4)
  const selection = compareSelection(expected, results.positions.data as Int32Array, { heads, past, rows: kept, k }, tolerance)
  const scores = results.scores === undefined ? undefined
    : sixteen === undefined ? compareNumbers(numbersOf(results.scores), expected, relative(1e-5)) : compareNumbers(numbersOf(results.scores), expected, ulps(sixteen, 1), 0.001)
  const wrongElements = wrongIn(results.keys, prompt.inputs.k, results.positions) + wrongIn(results.values, prompt.inputs.v, results.positions)
  const wrongOrder = outOfOrder(policy, results, { heads, past, kept, k }, expected, tolerance)
  return {
    ok: selection.ok && (scores?.ok ?? true) && wrongElements === 0 && wrongOrder === 0, selection, scores, wrongElements, wrongOrder, k,
    bound: sixteen === undefined ? '1e-5 of the score' : `4 units in the last place of ${sixteen}`,
  }
}

/** Elements of [.., head, kept, dim] that differ from the cache's [.., kvHead, key, dim] at their positions. */
function wrongIn(rows: HostTensor, cache: HostTensor, positions: HostTensor): number {
  const [kept, dim] = rows.shape.slice(-2) as [number, number], length = cache.shape[cache.shape.length - 2]!
  const heads = rows.data.length / kept / dim, group = heads / (cache.data.length / length / dim)
  let wrong = 0
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < kept; i++) {
      const from = (Math.floor(h / group) * length + (positions.data[h * kept + i] as number)) * dim, to = (h * kept + i) * dim
      for (let d = 0; d < dim; d++) if (!Object.is(rows.data[to + d], cache.data[from + d])) wrong += 1
    }
  }
  return wrong
}

function outOfOrder(policy: Policy, { positions, scores }: Compressed, { heads, past, kept, k }: { heads: number; past: number; kept: number; k: number },
  expected: ArrayLike<number>, tolerance: (t: number) => number): number {
  const byScore = policy.settings['order'] === 'score'
  let wrong = 0
  for (let h = 0; h < heads; h++) {
    const at = (i: number): number => positions.data[h * kept + i] as number
    const score = (i: number): number => scores?.data[h * past + at(i)] as number
    const reference = (i: number): number => { const s = expected[h * past + at(i)]!; return Number.isNaN(s) ? Infinity : s }
    let good = true
    for (let i = 1; i < k && good; i++) {
      // Without the device's scores its order is judged by the reference's, and near equals may stand either way.
      if (!byScore) good = at(i) > at(i - 1)
      else if (scores === undefined) good = !(reference(i) > reference(i - 1) + tolerance(reference(i - 1)))
      else good = score(i) < score(i - 1) || ((score(i) === score(i - 1) || Number.isNaN(score(i - 1))) && (at(i) > at(i - 1) || Number.isNaN(score(i - 1))))
    }
    for (let i = k; i < kept && good; i++) good = at(i) === past + i - k
    if (!good) wrong += 1
  }
  return wrong
}

/** The report in sentences; the first ones are about what is wrong. */
export function describeCheck(r: CheckReport): string[] {
  const shown = r.selection.mismatches.slice(0, 5).map(explainMismatch), more = r.selection.mismatches.length - shown.length
  const ties = r.selection.headsWithTies
  return [
    ...shown, ...(more > 0 ? [`and ${more} more`] : []),
    ...(r.wrongElements > 0 ? [`${r.wrongElements} elements of keys and values are not those of the cache at their positions`] : []),
    ...(r.wrongOrder > 0 ? [`the rows of ${r.wrongOrder} of ${r.selection.heads} heads are not in order`] : []),
    ...(r.selection.ok ? [`all ${r.selection.heads} heads keep the ${r.k} rows with the highest scores, within ${r.bound}${ties > 0 ? ` (at the cut of ${ties} of them scores are equal: either may stay)` : ''}`] : []),
    ...(r.scores === undefined ? [] : r.scores.different === 0 ? [`all ${r.scores.count} scores are equal to the last bit`]
      : [`${r.scores.ok ? '' : 'too many '}scores differ: ${r.scores.different} of ${r.scores.count} at all, the worst by ${r.scores.worst.toPrecision(2)} of what is allowed, ${r.scores.beyond} beyond it`]),
    ...(r.wrongElements === 0 ? ['keys and values are the rows of the cache, bit by bit'] : []),
  ]
}

/** The report as JSON: numbers, and sentences for what is wrong. */
export const checkDocument = (r: CheckReport): object => ({
  ok: r.ok, against: 'reference', heads: r.selection.heads, keptByScore: r.k, tolerance: r.bound,
  headsWithTies: r.selection.headsWithTies, borderline: r.selection.borderline,
  mismatches: r.selection.mismatches.slice(0, 20).map(explainMismatch), mismatchCount: r.selection.mismatches.length,
  ...(r.scores === undefined ? {} : { scores: { ok: r.scores.ok, count: r.scores.count, different: r.scores.different, worst: r.scores.worst, beyond: r.scores.beyond } }),
  wrongElements: r.wrongElements, headsOutOfOrder: r.wrongOrder,
})
