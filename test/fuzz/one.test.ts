import { test } from 'vitest'
import { draw, jobOf } from './draw.js'
import { fault, reference } from './judge.js'
import { numbers } from '../compare.js'
import { Session } from '../session.js'
test('t', { timeout: 6e5 }, async () => {
  const seed = Number(process.env['S'] ?? 1)
  const session = await Session.open('emulator', { bundle: 20 })
  for (const i of process.env['I']!.split(',').map(Number)) {
    const d = draw(seed, i), j = jobOf(d)
    const [o] = await session.run([j.job])
    const f = fault(o!, dev => reference(d.program, dev), d.program.bounds)
    console.log(i, f, String((d.program as never as Record<symbol, () => string>)[Symbol.for('fast-check/toStringMethod')]?.()), JSON.stringify(j.settled()).slice(0, 0))
    console.log(o!.emitted.map(k => k.text).join('\n'))
    const e = reference(d.program, o!.results[0] ?? {})
    if (process.env['V']) for (const [n, t] of Object.entries(o!.results[0] ?? {})) console.log(n, numbers(t).slice(0, 300).join(' '), '\nEXP', numbers(e[n]!).slice(0, 300).join(' '))
  }
  session.dispose()
})
