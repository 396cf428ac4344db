/**
 * `npm run fuzz -- --count N --seed S [--from I] [--only I]`: random programs, with progress and a summary. The first
 * failures are made small and printed as tests that fail in the same way.
 */
import { parseArgs } from 'node:util'
import { Session } from '../session.js'
import { campaign, type Finding } from './campaign.js'
import { shrink } from './shrink.js'
import { caseSource } from './source.js'

const mostShrunk = 5

/** Runs the command; the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: { count: { type: 'string' }, seed: { type: 'string' }, from: { type: 'string' }, only: { type: 'string' } } })
  const number = (name: 'count' | 'seed' | 'from' | 'only', otherwise: number): number => {
    const n = values[name] === undefined ? otherwise : Number(values[name])
    if (!Number.isSafeInteger(n) || n < 0) throw new Error(`--${name} takes a whole number, not ${values[name]}`)
    return n
  }
  const seed = number('seed', Math.floor(Date.now() / 1000)), only = values.only !== undefined
  const count = only ? 1 : number('count', 1000), from = only ? number('only', 0) : number('from', 0)
  const findings: Finding[] = [], start = performance.now()
  const seconds = (): number => (performance.now() - start) / 1000
  let told = 0
  const tally = await campaign({
    seed, from, count,
    onFinding: f => { findings.push(f); console.log(`program ${f.index} of seed ${seed}: ${f.reason.split('\n')[0]}`) },
    onProgress: t => {
      if (seconds() - told < 10) return
      told = seconds()
      console.log(`${t.programs} of ${count} programs, ${(t.programs / seconds()).toFixed(1)} per second, ${t.findings} failed`)
    },
  })
  console.log(`seed ${seed}: ${tally.programs} programs, ${tally.kernels} kernels, ${tally.runs} runs in ${seconds().toFixed(0)} s (${(tally.programs / seconds()).toFixed(1)} programs per second); ${findings.length} failed`)
  if (findings.length === 0) return 0
  await using session = await Session.open('emulator', { bundle: 12 })
  for (const f of findings.slice(0, mostShrunk)) {
    const small = await shrink(session, f.case, f.reason)
    console.log(`\nprogram ${f.index} of seed ${seed}, ${small.steps} steps smaller. As test/fuzz/NAME.test.ts:\n\n${caseSource(small.case, small.reason)}\n${small.reason}`)
  }
  return 1
}
