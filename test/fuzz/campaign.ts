/** Many random programs in a row: what the suite runs, and `npm run fuzz` for as many as one likes. */
import { Session } from '../session.js'
import { draw, jobOf, type Case } from './draw.js'
import { fault, reference } from './judge.js'

export interface Finding {
  readonly index: number
  readonly case: Case
  /** What is wrong. */
  readonly reason: string
}

export interface Tally {
  programs: number
  kernels: number
  /** Runs of a program in one order of threads. */
  runs: number
  findings: number
}

export interface CampaignOptions {
  readonly seed: number
  readonly from?: number
  readonly count: number
  readonly onFinding: (f: Finding) => void
  readonly onProgress?: (t: Tally) => void
  /** Programs in one compilation. Default 20. */
  readonly bundle?: number
}

/** So many programs are drawn before the results of the first are looked at. */
const batch = 100

/** Runs cases `from` to `from + count` of a seed on the emulator. */
export async function campaign(options: CampaignOptions): Promise<Tally> {
  const { seed, from = 0, count, bundle = 20 } = options
  const tally: Tally = { programs: 0, kernels: 0, runs: 0, findings: 0 }
  await using session = await Session.open('emulator', { bundle })
  const work = async (first: number): Promise<void> => {
    const draws = Array.from({ length: Math.min(batch, from + count - first) }, (_, i) => draw(seed, first + i)), jobs = draws.map(jobOf)
    const outcomes = await session.run(jobs.map(j => j.job))
    draws.forEach(({ index, program }, i) => {
      const outcome = outcomes[i]!, reason = fault(outcome, device => reference(program, device), program.bounds)
      tally.programs++
      tally.kernels += outcome.emitted.length
      tally.runs += outcome.results.length
      if (reason === undefined) return
      tally.findings++
      options.onFinding({ index, case: jobs[i]!.settled(), reason })
    })
    options.onProgress?.(tally)
  }
  // Two batches at a time: one compiles while the other runs.
  const next = (first: number): Promise<void> => (first >= from + count ? Promise.resolve() : work(first).then(() => next(first + 2 * batch)))
  await Promise.all([next(from), next(from + batch)])
  return tally
}
