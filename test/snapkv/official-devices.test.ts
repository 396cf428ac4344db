/** Every result of the official code and of kvpress on the shipped data against the program, on every device there is. */
import { expect, test } from 'vitest'
import type { DeviceSpec } from '../../src/runtime/devices.js'
import { compile } from '../../src/runtime/program.js'
import { policyByName } from '../../src/snapkv/presets.js'
import { compressed, type Compressed, type Prompt } from '../../src/snapkv/prompt.js'
import type { Policy } from '../../src/snapkv/policy.js'
import { describeDevices, devices, type TestDevice } from '../devices.js'
import { checkKvpress, checkOfficial, checkRows, official, prompt } from './fixture.js'

const prompts = { f32: prompt('f32'), bf16: prompt('bf16') }

async function run(device: TestDevice, policy: Policy, p: Prompt): Promise<Compressed> {
  const { outputs: { keys, values, positions, scores }, sizes } = policy.build(p.shape)
  using program = await compile({ keys, values, positions, scores }, { device: device.name as DeviceSpec | 'reference' })
  return compressed(p, await program.run(p.inputs, { sizes }) as Parameters<typeof compressed>[1])
}

describeDevices('snapkv-official, with the rounding of its inputs, is the official code', devices, device => {
  test.each(official)('$key', async c => {
    const { window, capacity, pool, kernel: poolSize } = c, p = prompts[c.dtype]
    const result = await run(device, policyByName('snapkv-official', { window, capacity, pool, poolSize, rounding: 'reference', order: 'score' }), p)
    expect(result.keys).toMatchObject({ axes: ['head', 'kept', 'dim'], shape: [9, capacity, 64], dtype: c.dtype })
    checkRows(result.keys, p.inputs.k, result.positions)
    checkRows(result.values, p.inputs.v, result.positions)
    checkOfficial('reference', c, { scores: result.scores!.data, positions: result.positions.data })
  })
})

describeDevices('snapkv-kvpress is kvpress', devices, device => {
  test.each([{ window: 64, poolSize: 5 }, { window: 32, poolSize: 7 }])('window $window, avg $poolSize', async ({ window, poolSize }) => {
    const result = await run(device, policyByName('snapkv-kvpress', { window, poolSize }), prompts.f32)
    expect(result.positions.shape).toEqual([3, 1908])
    checkKvpress('reference', window, poolSize, { scores: result.scores!.data, positions: result.positions.data })
  })
})
