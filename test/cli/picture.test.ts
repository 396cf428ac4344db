import { expect, test } from 'vitest'
import { legend, markLine, shadedLine, withGaps } from '../../src/cli/picture.js'
import { nearest } from '../../src/cli/arguments.js'
import { table, wrapped } from '../../src/cli/output.js'

test('shades are shares of a column, and a single token shows', () => {
  expect(shadedLine([0, 4, 5, 8, 9, 10, 12, 13, 14, 15], 20, 5)).toBe('░▒▓█·')
  expect(shadedLine([99], 1000, 10)).toBe('░·········')
  expect(shadedLine([], 10, 3)).toBe('···')
  expect(shadedLine(Array.from({ length: 7 }, (_, i) => i), 7, 3)).toBe('███')
})
test('marks stand below their columns and fit the width', () => {
  expect(markLine(4, 8, 20, 20, 'x')).toBe('    ▲▲▲▲ x')
  expect(markLine(18, 20, 20, 20, 'name')).toBe('             name ▲▲')
  expect(legend(3816, 89)).toContain('a column is 43 tokens')
})
test('dropped tokens leave a gap of their length', () => {
  expect(withGaps(['The', ' pass', 'word', ' is', '.'], i => i !== 1 && i !== 4)).toBe('The ····word is·')
})
test('the nearest name', () => {
  expect(nearest('otuput', ['input', 'output'])).toBe('output')
  expect(nearest('with', ['input', 'with-scores'])).toBe('with-scores')
  expect(nearest('xyz', ['input', 'output'])).toBe(undefined)
})
test('tables and wrapping', () => {
  expect(table([['a', '1'], ['bb', '22']], [1])).toEqual(['a    1', 'bb  22'])
  expect(wrapped('one two three', 8, '  ')).toEqual(['one two', '  three'])
})
