/** The oracle's own 16-bit formats, which it shares with nobody: decoded and rounded as the language's are. */
import { expect, test } from 'vitest'
import { bf16Value, f16Value, round } from '../../src/dsl/dtype.js'
import { decode16, rounding } from '../../src/snapkv/oracle.js'

const all = Uint16Array.from({ length: 65536 }, (_, i) => i)

test.each(['f16', 'bf16'] as const)('%s: all 65,536 values', format => {
  const value = format === 'f16' ? f16Value : bf16Value
  const ours = decode16(format, all)
  expect(all.findIndex((bits, i) => !Object.is(ours[i], value(bits)))).toBe(-1)
})

test.each(['f16', 'bf16'] as const)('%s: rounding at, below and above the middle of all neighbours', format => {
  const positive = decode16(format, all.subarray(0, 0x8000)).filter(x => Number.isFinite(x))
  let wrong = 0
  positive.forEach((x, i) => {
    const next = positive[i + 1]
    if (next === undefined) return
    const middle = (x + next) / 2, even = i % 2 === 0 ? x : next
    const nudge = (next - x) * 2 ** -8   // f32 holds the sum: subnormal bf16 aside, which have no bits to spare
    const exact = Math.fround(middle + nudge) > middle && Math.fround(middle - nudge) < middle
    for (const sign of [1, -1]) {
      if (Math.fround(middle) === middle && rounding[format](sign * middle) !== sign * even) wrong += 1
      if (exact && rounding[format](sign * (middle + nudge)) !== sign * next) wrong += 1
      if (exact && rounding[format](sign * (middle - nudge)) !== sign * x) wrong += 1
      if (rounding[format](sign * x) !== round[format](sign * x)) wrong += 1
    }
  })
  expect(wrong).toBe(0)
})

test('beyond the largest value lies infinity', () => {
  expect(rounding.f16(65519)).toBe(65504)
  expect(rounding.f16(65520)).toBe(Infinity)
  expect(rounding.bf16(-3.4e38)).toBe(-Infinity)
  expect(rounding.exact(1 / 3)).toBe(1 / 3)
})
