/**
 * Random programs, planned at random, with random schedules, on the emulator against the reference: exact ones to the last
 * bit, others within the language's bound, in several orders of threads. `npm run fuzz` runs more of them.
 */
import { describe, expect, test } from 'vitest'
import { plan } from '../../src/codegen/plan.js'
import { dtypes } from '../../src/dsl/dtype.js'
import { topological, type Expr } from '../../src/dsl/expr.js'
import { emulatorDevice } from '../devices.js'
import { Session } from '../session.js'
import { campaign, type Finding } from './campaign.js'
import { draw, jobOf } from './draw.js'
import { shrink } from './shrink.js'
import { caseSource } from './source.js'

const count = Number(process.env['WEFT_FUZZ_COUNT'] ?? 2000)
const seed = Number(process.env['WEFT_FUZZ_SEED'] ?? 20260101)

describe.skipIf(emulatorDevice.missing !== undefined)('random programs', () => {
  test(`${count} programs of seed ${seed}`, { timeout: 60_000 + count * 1000 }, async () => {
    const findings: Finding[] = [], start = performance.now()
    const tally = await campaign({ seed, count, onFinding: f => findings.push(f) })
    const seconds = (performance.now() - start) / 1000
    console.log(`${tally.programs} random programs, ${tally.kernels} kernels, ${tally.runs} runs in ${seconds.toFixed(0)} s`)
    expect(tally.programs).toBe(count)
    await using session = await Session.open('emulator', { bundle: 12 })
    const texts: string[] = []
    for (const f of findings.slice(0, 3)) {
      const small = process.env['WEFT_FUZZ_SHRINK'] === '0' ? f : await shrink(session, f.case, f.reason, 30_000)
      texts.push(`program ${f.index} of seed ${seed}: ${f.reason}\n\n${caseSource(small.case, small.reason)}\nall of it again: npm run fuzz -- --seed ${seed} --only ${f.index}`)
    }
    expect(texts.join('\n\n'), `${findings.length} of ${count} programs fail`).toBe('')
  })
})

test('what is drawn covers the language, the plans and the schedules', { timeout: 120_000 }, () => {
  const seen = new Set<string>(), see = (...names: readonly string[]): void => names.forEach(n => seen.add(n))
  for (let i = 0; i < 500; i++) {
    const d = draw(seed, i), { job, settled } = jobOf(d)
    for (const e of topological(Object.values(d.program.outputs), (x: Expr) => (x.kind === 'composite' ? x.args : topological([x]).filter(y => y !== x)))) {
      see(e.kind, e.dtype, ...(e.kind === 'reduce' ? [`fold ${e.monoid.name}`, `over ${Math.min(e.over.length, 3)}`] : []), ...(e.kind === 'window' ? [`pool ${e.pool} ${e.counted}`] : []))
      if (e.kind === 'contract') see(`contract ${e.left.dtype} ${e.right.dtype}`, `contract over ${Math.min(e.over.length, 2)}`, ...[e.left, e.right].filter(x => x.kind !== 'tensor').map(() => 'contract of something computed'))
      if (e.kind === 'topK') see(`topK by ${e.order}`, ...(e.k.terms.length > 0 ? ['topK symbolic'] : []))
      if (e.kind === 'composite') see(e.name.split(' ')[0]!.replace(/\d/, ''))
    }
    if (d.program.anchors.length > 0) see('anchors')
    if (Object.values(d.program.inputs).some(t => t.data.length === 0)) see('empty')
    if (d.blocks !== undefined) see('blocks')
    if (d.specialise !== undefined) see('specialise')
    const planned = plan(job.outputs, { sizes: d.program.sizes, ...(job.blocks === undefined ? {} : { blocks: job.blocks }) })
    for (const g of planned.groups) { see(`rule ${g.rule}`, ...(g.roots.some(r => r.stored.form === 'partials') ? ['partials'] : [])); job.schedule?.(g) }
    const { schedules, choices } = settled()
    for (const s of Object.values(schedules)) see(s.rule === 'stream' ? `path ${s.path}` : `schedule ${s.rule}`)
    if (choices !== undefined) see(...Object.keys(choices).map(c => `choice ${c.split(' ')[0]}`))
  }
  const wanted = [
    ...dtypes, 'tensor', 'const', 'iota', 'map', 'contract', 'reduce', 'window', 'topK', 'gather', 'slice', 'concat', 'cast', 'rename', 'split', 'merge', 'composite',
    ...['sum', 'max', 'min', 'mean', 'argmax', 'all', 'any', 'affine', 'last', 'parity', 'product', 'whereabouts', 'range', 'variance'].map(n => `fold ${n}`), 'over 1', 'over 2', 'over 3',
    'pool max false', 'pool sum false', 'pool mean true', 'pool mean false', 'softmax', 'logSumExp', 'layerNorm', 'named',
    'contract bf16 bf16', 'contract f16 f16', 'contract f32 f32', 'contract over 1', 'contract over 2', 'contract of something computed',
    'topK by position', 'topK by score', 'topK symbolic', 'anchors', 'empty', 'blocks', 'specialise', 'rule point', 'rule stream', 'rule select', 'partials',
    'path scalar', 'path mma', 'schedule point', 'schedule select', 'choice fold', 'choice passes', 'choice tile',
  ]
  expect(wanted.filter(n => !seen.has(n))).toEqual([])
})
