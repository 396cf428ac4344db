import { test } from 'vitest'
import { draw, jobOf } from './draw.js'
import { fault, reference } from './judge.js'
import { Session } from '../session.js'
import { shrink } from './shrink.js'
import { caseSource } from './source.js'
test('t', { timeout: 6e5 }, async () => {
  const seed = Number(process.env['S'] ?? 1)
  const session = await Session.open('emulator', { bundle: 20 })
  for (const i of process.env['I']!.split(',').map(Number)) {
    const d = draw(seed, i), j = jobOf(d)
    const [o] = await session.run([j.job])
    const f = fault(o!, dev => reference(d.program, dev), d.program.bounds)
    if (f === undefined) { console.log(i, 'passes'); continue }
    const s = await shrink(session, j.settled(), f, 60000)
    console.log(i, f, s.steps, '\n' + s.reason + '\n' + caseSource(s.case, s.reason))
    if (process.env['V']) { const [p] = await session.run([{ outputs: s.case.program.outputs, inputs: s.case.program.inputs, sizes: s.case.program.sizes, schedule: g => s.case.schedules[g.name], ...(s.case.blocks ? { blocks: s.case.blocks } : {}), ...(s.case.specialise ? { specialise: s.case.specialise } : {}) }]); console.log(p!.emitted.map(k => k.text).join('\n')) }
  }
  session.dispose()
})
