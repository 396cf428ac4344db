/** Every result of the official code and of kvpress on the shipped data against the oracle, by the score rule. */
import { describe, test } from 'vitest'
import { oracle } from '../../src/snapkv/oracle.js'
import { checkKvpress, checkOfficial, official, oracleInput } from './fixture.js'

const input = oracleInput()

describe('the oracle computes what the official code computes', () => {
  test.each(official)('$key', c => {
    checkOfficial('oracle', c, oracle({
      window: c.window, capacity: c.capacity, pool: c.pool, poolSize: c.kernel, vote: 'sum', group: 'none', rounding: c.dtype === 'f32' ? 'exact' : c.dtype, order: 'score',
    }, input))
  })
})

describe('the oracle computes what kvpress computes', () => {
  test.each([{ window: 64, poolSize: 5 }, { window: 32, poolSize: 7 }])('window $window, avg $poolSize', ({ window, poolSize }) => {
    checkKvpress('oracle', window, poolSize, oracle({ window, capacity: 1908, pool: 'avg', poolSize, vote: 'mean', group: 'mean', rounding: 'exact', order: 'position' }, input))
  })
})
