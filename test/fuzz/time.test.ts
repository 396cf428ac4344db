import { test } from 'vitest'
import { draw, jobOf } from './draw.js'
import { fault, reference } from './judge.js'
import { Session } from '../session.js'
test('t', { timeout: 6e5 }, async () => {
  const n = Number(process.env['N'] ?? 200), seed = Number(process.env['S'] ?? 1)
  let s = performance.now()
  const t = (l: string) => { console.log(l, Math.round(performance.now() - s)); s = performance.now() }
  const ds = Array.from({ length: n }, (_, i) => draw(seed, i))
  t('draw')
  const js = ds.map(jobOf)
  const session = await Session.open('emulator', { bundle: 20 })
  const os = await session.run(js.map(j => j.job)); t('run'); const first = await session.run(js.map(j => ({ ...j.job, schedule: (g: never) => j.settled().schedules[(g as { name: string }).name], orders: ['ascending'] }))); t('one order'); void first; await session.run(js.map(j => ({ ...j.job, schedule: (g: never) => j.settled().schedules[(g as { name: string }).name], orders: [] }))); t('no order')
  const kinds = new Map<string, number>()
  ds.forEach((d, i) => {
    const f = fault(os[i]!, dev => reference(d.program, dev), d.program.bounds)
    if (f !== undefined) console.log(i, f.slice(0, 300), '\n' + String((d.program as never as Record<symbol, () => string>)[Symbol.for('fast-check/toStringMethod')]?.()).slice(0, 1500), JSON.stringify(js[i]!.settled().schedules), d.blocks, d.specialise)
    for (const l of String((d.program as never as Record<symbol, () => string>)[Symbol.for('fast-check/toStringMethod')]?.()).matchAll(/^%\d+ (\w+)/gm)) kinds.set(l[1]!, (kinds.get(l[1]!) ?? 0) + 1)
  })
  t('judge'); console.log(JSON.stringify([...kinds]), ds.filter(d => d.program.anchors.length > 0).length, 'with anchors')
  session.dispose()
})
