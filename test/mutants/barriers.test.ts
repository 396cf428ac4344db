/** Every barrier of every golden kernel is needed: without it, some order of threads fails or gives other bits. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { policyByName } from '../../src/snapkv/index.js'
import { inputsOf } from '../../src/dsl/bind.js'
import { evaluateSize, type Sizes } from '../../src/dsl/size.js'
import { randomTensor } from '../arbitrary-tensors.js'
import { emulatorDevice, threadOrders } from '../devices.js'
import { goldens, kernelsOf, type Golden } from '../golden/programs.js'
import { Session, sameBits, type Job, type Outcome } from '../session.js'

/** The golden texts on little data: sizes and `blocks` that leave the text as it is. */
function small(g: Golden): { outputs: Golden['outputs']; sizes: Sizes; blocks?: number } {
  switch (g.name) {
    case 'snapkv': case 'snapkv-official': {
      const { outputs: { keys, values, positions }, sizes } = policyByName(g.name, { capacity: 40 }).build({ dtype: 'bf16', kvHeads: 8, group: 4, queries: 33, length: 150, dim: 128 })
      return { outputs: { keys, values, positions }, sizes }
    }
    case 'snapkv-kvpress': return { outputs: g.outputs, sizes: { ...g.sizes, key: 140, query: 64, selected: 20 } }
    case 'softmax': case 'layer-norm': return { outputs: g.outputs, sizes: { row: 17, column: 600 }, blocks: 1 }
    case 'attention': return { outputs: g.outputs, sizes: { head: 17, query: 40, key: 300 }, blocks: 1 }
    case 'nearest': return { outputs: g.outputs, sizes: { point: 700, query: 20 }, blocks: 1 }
    default: throw new Error(`no small data for ${g.name}`)
  }
}
function jobOf(g: Golden): Job {
  const { outputs, sizes, blocks } = small(g)
  const inputs = Object.fromEntries([...inputsOf(outputs)].map(([name, e], i) =>
    [name, randomTensor(e.dtype, Object.fromEntries(e.axes.map(a => [a.name, evaluateSize(a.size, sizes)])), 'float', i + 1)]))
  return { outputs, sizes, inputs, ...(blocks === undefined ? {} : { blocks }) }
}

const barriersIn = (text: string): number => text.split('blockBarrier();').length - 1
const without = (text: string, n: number): string => text.split('blockBarrier();').reduce((all, part, i) => all + (i === n + 1 ? '' : 'blockBarrier();') + part)

describe.skipIf(emulatorDevice.missing !== undefined)('a barrier less', () => {
  let session: Session
  beforeAll(async () => { session = await Session.open('emulator', { optimise: 1, races: true, bundle: 6 }) })
  afterAll(() => session.dispose())

  test.each(goldens)('is noticed in $name', { timeout: 300_000 }, async g => {
    const job = jobOf(g), expected = kernelsOf(g)
    const [plain] = await session.run([job])
    expect(plain!.error?.message ?? '').toBe('')
    const words = (text: string): string => text.replaceAll('weft0_', '').replace(/\s+/g, ' ')   // lines break elsewhere after a longer name
    // Of a selection the row's length and the device decide the text, and the golden one is for long rows.
    const streamed = (k: { readonly name: string }): boolean => !/^(weft0_)?select/.test(k.name)
    expect(plain!.emitted.filter(streamed).map(k => words(k.text)), 'the same text as the golden one').toEqual(expected.filter(streamed).map(k => words(k.text)))
    const differs = (o: Outcome): boolean => o.error !== undefined ||
      Object.keys(job.outputs).some(name => o.results.some(r => !sameBits(r[name]!, plain!.results[0]![name]!)))

    let open = plain!.emitted.flatMap(k => Array.from({ length: barriersIn(k.text) }, (_, i) => ({ kernel: k.name.replace('weft0_', ''), i })))
    const count = open.length
    for (const order of threadOrders) {
      if (open.length === 0) break
      const outcomes = await session.run(open.map(({ kernel, i }) => ({ ...job, editText: (text, k) => (k.name === `weft0_${kernel}` ? without(text, i) : text) })), [order])
      open = open.filter((_, i) => !differs(outcomes[i]!))
    }
    console.log(`${g.name}: ${count - open.length} of ${count} missing barriers noticed`)
    expect(open.map(o => `${o.kernel}: barrier ${o.i + 1}`)).toEqual([])
  })
})
