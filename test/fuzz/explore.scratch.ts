import { it } from 'vitest'
import fc from 'fast-check'
import { appendFileSync } from 'node:fs'
import { arbitraryProgram } from '../arbitraries.js'
import { Session } from '../session.js'
import { judge } from './judge.js'
it('explore', async () => {
  const n = Number(process.env['N'] ?? 40), seed = Number(process.env['S'] ?? 1), flavour = (process.env['F'] ?? 'exact') as 'exact'
  const session = await Session.open('emulator', { optimise: 0, bundle: 20 })
  const programs = fc.sample(arbitraryProgram({ flavour, steps: Number(process.env['STEPS'] ?? 7) }), { numRuns: n, seed })
  const t = Date.now()
  const failures = await judge(session, programs, (process.env['O'] ?? 'ascending').split(','))
  console.log(n, 'programs', Date.now() - t, 'ms', failures.length, 'failures')
  const seen = new Map<string, number>()
  for (const f of failures) {
    const key = f.reason.replace(/\d+/g, '#').slice(0, 90)
    seen.set(key, (seen.get(key) ?? 0) + 1)
    appendFileSync('/tmp/fuzz-failures.txt', `==== seed ${seed} index ${f.index} flavour ${flavour}\n${f.reason.slice(0, 1500)}\n${fc.stringify(f.program)}\n${process.env['TEXT'] ? f.outcome.emitted.map(k => k.text).join('\n') : ''}\n`)
  }
  for (const [k, c] of seen) console.log(c, k)
  session.dispose()
}, 600000)
