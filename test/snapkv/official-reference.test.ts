/** Every result of the official code and of kvpress on the shipped data against the program, run by the interpreter. */
import { describe, expect, test } from 'vitest'
import { interpret } from '../../src/runtime/reference.js'
import { policyByName } from '../../src/snapkv/presets.js'
import { compressed, type Compressed, type Prompt } from '../../src/snapkv/prompt.js'
import type { Policy } from '../../src/snapkv/policy.js'
import type { HostTensor } from '../../src/runtime/host-tensor.js'
import { checkKvpress, checkOfficial, checkRows, official, prompt } from './fixture.js'

const prompts = { f32: prompt('f32'), bf16: prompt('bf16') }

function run(policy: Policy, p: Prompt): Compressed {
  const program = policy.build(p.shape)
  return compressed(p, interpret(program.outputs, p.inputs, { sizes: program.sizes }) as Record<'keys' | 'values' | 'positions' | 'scores', HostTensor>)
}

describe('snapkv-official, with the rounding of its inputs, is the official code', () => {
  test.each(official)('$key', c => {
    const { window, capacity, pool, kernel: poolSize } = c, p = prompts[c.dtype]
    const result = run(policyByName('snapkv-official', { window, capacity, pool, poolSize, rounding: 'reference', order: 'score' }), p)
    expect(result.keys).toMatchObject({ axes: ['head', 'kept', 'dim'], shape: [9, capacity, 64], dtype: c.dtype })
    checkRows(result.keys, p.inputs.k, result.positions)
    checkRows(result.values, p.inputs.v, result.positions)
    checkOfficial('reference', c, { scores: result.scores!.data, positions: result.positions.data })
  })
})

describe('snapkv-kvpress is kvpress', () => {
  test.each([{ window: 64, poolSize: 5 }, { window: 32, poolSize: 7 }])('window $window, avg $poolSize', ({ window, poolSize }) => {
    const result = run(policyByName('snapkv-kvpress', { window, poolSize }), prompts.f32)
    expect(result.positions.shape).toEqual([3, 1908])
    checkKvpress('reference', window, poolSize, { scores: result.scores!.data, positions: result.positions.data })
  })
})
