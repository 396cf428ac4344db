/** `npm run fuzz -- --count N --seed S [--from I] [--only I]`: random programs, with progress, and a file for each failure. */
import { parseArgs } from 'node:util'
import { campaign, type Finding } from './campaign.js'

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
  return findings.length === 0 ? 0 : 1
}
