/** The programs of the corpus take the kernels that `docs/fusion.md` tables, and no more than an expert would write. */
import { expect, test } from 'vitest'
import { fusionTable, tabledRows } from '../programs/fusion-table.js'

test('docs/fusion.md is what the plans are', async () => {
  await expect(fusionTable()).toMatchFileSnapshot('../../docs/fusion.md')
})

test('programs of one pass take one kernel, and move what they must', () => {
  const rows = new Map(tabledRows().map(r => [r.name, r]))
  expect(rows.size).toBeGreaterThanOrEqual(35)
  for (const name of ['layer norm', 'RMS norm', 'softmax', 'log-sum-exp', 'statistics of rows', 'attention of bf16', 'causal attention', 'grouped attention', 'product, bias and GELU', 'rotary positions', 'batched outer products']) {
    expect(rows.get(name)!.plan.groups.length, name).toBe(1)
  }
  for (const [name, most] of [['statistics of rows', 1.01], ['log-sum-exp', 1.01], ['product, bias and GELU', 1.01], ['softmax', 1.51], ['RMS norm', 1.51]] as const) {
    const { moved, compulsory } = rows.get(name)!
    expect(moved / compulsory, name).toBeLessThan(most)
  }
})
