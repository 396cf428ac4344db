/** Numbers: rounding of 16-bit floats, casts, whole numbers, constants, and the scalar functions' special values. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  abs, add, and, cast, ceil, constant, cos, div, eq, exp, exp2, floor, ge, gt, isNaN, iota, le, log, log2, lt, map, maximum, minimum, mod, mul, ne, neg, not, or,
  pow, printGraph, round, rsqrt, sin, size, sqrt, sub, sum, tanh, tensor, trunc, where, minus, type Dtype,
} from '../../src/dsl/index.js'
import { bf16Bits, bf16Value, f16Bits, f16Value } from '../../src/dsl/dtype.js'
import { interpret } from '../../src/runtime/reference.js'
import { evaluate, f32, numbers, tensorOf } from '../compare.js'

const x = tensor('x', 'f32', ['a']), y = tensor('y', 'f32', ['a'])
const one = (e: Parameters<typeof evaluate>[0], a: number, b = 0): number => evaluate(e, { x: f32({ a: 1 }, [a]), y: f32({ a: 1 }, [b]) })[0]!
const ints = (dtype: 'i32' | 'u32', f: typeof add, a: number, b: number): number =>
  evaluate(f(tensor('x', dtype, ['a']), tensor('y', dtype, ['a'])), { x: tensorOf(dtype, { a: 1 }, [a]), y: tensorOf(dtype, { a: 1 }, [b]) })[0]!

// ------------------------------------------------------------------------------------------------ 16-bit floats

/** A 16-bit float format, in whole numbers: a value is a multiple of 2^least. Independent of what it checks. */
interface Format { readonly exponentBits: number; readonly fractionBits: number }
const half: Format = { exponentBits: 5, fractionBits: 10 }, brain: Format = { exponentBits: 8, fractionBits: 7 }

/** |value| of finite bits in units of 2^-1074, the smallest double. */
function units({ exponentBits, fractionBits }: Format, bits: number): bigint {
  const fraction = BigInt(bits & ((1 << fractionBits) - 1)), exponent = (bits >> fractionBits) & ((1 << exponentBits) - 1)
  const bias = (1 << (exponentBits - 1)) - 1
  const mantissa = exponent === 0 ? fraction : fraction + (1n << BigInt(fractionBits))
  return mantissa << BigInt(1074 - bias + 1 - fractionBits + Math.max(exponent - 1, 0))
}
function doubleUnits(x: number): bigint {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, Math.abs(x))
  const bits = view.getBigUint64(0), exponent = Number(bits >> 52n), fraction = bits & ((1n << 52n) - 1n)
  return exponent === 0 ? fraction : (fraction + (1n << 52n)) << BigInt(exponent - 1)
}
/** To nearest, ties to even bits, by search among all finite values; one more is infinity. */
function nearestBits(format: Format, x: number): number {
  const sign = Object.is(Math.sign(x), -0) || x < 0 ? 0x8000 : 0
  const infinity = ((1 << format.exponentBits) - 1) << format.fractionBits
  if (Math.abs(x) === Infinity) return sign | infinity
  const u = doubleUnits(x)
  let low = 0, high = infinity   // bits of magnitudes grow with the magnitude; `infinity` stands for the next power of two
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (units(format, middle) <= u) low = middle
    else high = middle
  }
  const down = u - units(format, low), up = units(format, high) - u
  return sign | (down < up || (down === up && low % 2 === 0) ? low : high)
}

describe.each([['f16', half, f16Bits, f16Value], ['bf16', brain, bf16Bits, bf16Value]] as const)('%s', (dtype, format, toBits, toValue) => {
  const infinity = ((1 << format.exponentBits) - 1) << format.fractionBits
  const magnitudes = Array.from({ length: infinity + 1 }, (_, bits) => bits)

  test('all 65,536 values survive the way to f32 and back', () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i)
    const e = cast(cast(tensor('x', dtype, ['a']), 'f32'), dtype)
    const back = interpret({ e }, { x: { dtype, axes: ['a'], shape: [65536], data: bits } })['e']!.data
    for (let i = 0; i < 65536; i++) {
      const magnitude = i & 0x7fff
      if (magnitude > infinity) expect((back[i]! & 0x7fff) > infinity).toBe(true)   // NaN stays NaN
      else if (back[i] !== i) expect.fail(`${i} came back as ${back[i]}`)
    }
  })

  test('values are what their bits say', () => {
    for (const bits of magnitudes.slice(0, -1)) {
      if (doubleUnits(toValue(bits)) !== units(format, bits)) expect.fail(`bits ${bits} give ${toValue(bits)}`)
      if (!Object.is(toValue(bits | 0x8000), -toValue(bits))) expect.fail(`the sign of bits ${bits}`)
    }
    expect(toValue(infinity)).toBe(Infinity)
    expect(toValue(infinity + 1)).toBe(NaN)
  })

  test('rounds to nearest even: midpoints and their neighbours, f32 and double', () => {
    for (const bits of magnitudes.slice(0, -1)) {
      const low = toValue(bits), high = bits + 1 === infinity ? low + (low - toValue(bits - 1)) : toValue(bits + 1)
      const middle = (low + high) / 2
      const even = bits % 2 === 0 ? bits : bits + 1
      const step = (high - low) / 2 ** 13, tiny = middle * 2 ** -52
      for (const [x, want] of [[middle, even], [middle - step, bits], [middle + step, bits + 1], [middle - tiny, bits], [middle + tiny, bits + 1]] as const) {
        if (toBits(x) !== want || toBits(-x) !== (want | 0x8000)) expect.fail(`${x} gives ${toBits(x)}, not ${want}`)
      }
    }
  })

  test('any double rounds as the model says', () => {
    fc.assert(fc.property(fc.double({ noNaN: true }), fc.float({ noNaN: true }), fc.double({ min: -70000, max: 70000, noNaN: true }), (a, b, c) => {
      for (const v of [a, b, c, c * 2 ** -20]) expect(toBits(v)).toBe(nearestBits(format, v))
    }), { numRuns: 3000 })
  })
})

describe('cast', () => {
  const from = (value: number, dtype: Dtype, source: Dtype = 'f32'): number => evaluate(cast(tensor('x', source, ['a']), dtype), { x: tensorOf(source, { a: 1 }, [value]) })[0]!

  test('float to integer: toward zero, saturating, NaN gives 0', () => {
    expect([1.9, -1.9, NaN, Infinity, -Infinity, 3e9, -3e9, -0.5].map(v => from(v, 'i32'))).toEqual([1, -1, 0, 2147483647, -2147483648, 2147483647, -2147483648, 0])
    expect([1.9, -1.9, NaN, Infinity, -Infinity, 3e9, 5e9, -0.5].map(v => from(v, 'u32'))).toEqual([1, 0, 0, 4294967295, 0, 3000000000, 4294967295, 0])
    expect(from(65504, 'i32', 'f16')).toBe(65504)
  })

  test('integer to float: to nearest even', () => {
    expect([2 ** 24 + 1, 2 ** 24 + 3, -(2 ** 24) - 1, 2 ** 31 - 1].map(v => from(v, 'f32', 'i32'))).toEqual([2 ** 24, 2 ** 24 + 4, -(2 ** 24), 2 ** 31])
    expect(from(2 ** 32 - 1, 'f32', 'u32')).toBe(2 ** 32)
    expect([2049, 2051, 65519, 65520].map(v => from(v, 'f16', 'i32'))).toEqual([2048, 2052, 65504, Infinity])
    expect([257, 259].map(v => from(v, 'bf16', 'i32'))).toEqual([256, 260])
  })

  test('integers are taken modulo 2^32; bool is 0 or 1, and whatever is not 0 is true', () => {
    expect(from(-1, 'u32', 'i32')).toBe(2 ** 32 - 1)
    expect(from(2 ** 31, 'i32', 'u32')).toBe(-(2 ** 31))
    expect([0, -0, NaN, 0.1, -Infinity].map(v => from(v, 'bool'))).toEqual([0, 0, 1, 1, 1])
    expect([from(1, 'f32', 'bool'), from(1, 'i32', 'bool'), from(0, 'bf16', 'bool')]).toEqual([1, 1, 0])
  })

  test('inside a map a cast gives a number of its dtype, too', () => {
    expect(evaluate(map({ x }, (v, $) => $.add($.cast(v.x, 'i32'), 1)), { x: f32({ a: 3 }, [NaN, 1.9, 3e9]) })).toEqual([1, 2, -(2 ** 31)])
  })

  test('any byte of a bool input that is not 0 is true', () => {
    const flags = tensor('x', 'bool', ['a'])
    expect(evaluate(cast(flags, 'i32'), { x: { dtype: 'bool', axes: ['a'], shape: [3], data: Uint8Array.of(0, 2, 255) } })).toEqual([0, 1, 1])
    expect(evaluate(not(flags), { x: { dtype: 'bool', axes: ['a'], shape: [2], data: Uint8Array.of(0, 2) } })).toEqual([1, 0])
  })

  test('an integer goes to f16 in one rounding, not over f32', () => {
    fc.assert(fc.property(fc.integer({ min: -70000, max: 70000 }), v => {
      expect(from(v, 'f16', 'i32')).toBe(f16Value(nearestBits(half, v)) + 0)
    }))
  })
})

// ------------------------------------------------------------------------------------------------ arithmetic

test('every operation of a map rounds to f32', () => {
  const float = fc.float({ noNaN: true })
  fc.assert(fc.property(float, float, (a, b) => {
    const r = evaluate(add(mul(x, y), y), { x: f32({ a: 1 }, [a]), y: f32({ a: 1 }, [b]) })[0]!
    expect(r).toEqual(Math.fround(Math.fround(a * b) + b))
    const fused = map({ x, y }, (v, $) => $.add($.mul(v.x, v.y), v.y))
    expect(one(fused, a, b)).toEqual(r)
  }))
})

test('arithmetic on 16-bit floats is f32', () => {
  const h = tensor('x', 'f16', ['a'])
  expect(add(h, h).dtype).toBe('f32')
  expect(evaluate(add(h, 1), { x: tensorOf('f16', { a: 1 }, [2048]) })).toEqual([2049])
  expect(evaluate(sum(h, 'a'), { x: tensorOf('f16', { a: 3 }, [65504, 65504, 1]) })).toEqual([131009])
})

describe('whole numbers', () => {
  const i32 = fc.oneof(fc.integer(), fc.constantFrom(0, 1, -1, 2 ** 31 - 1, -(2 ** 31))), u32 = fc.oneof(fc.nat(2 ** 32 - 1), fc.constantFrom(0, 1, 2 ** 32 - 1, 2 ** 31))
  const wrapI = (v: bigint): number => Number(BigInt.asIntN(32, v)), wrapU = (v: bigint): number => Number(BigInt.asUintN(32, v))
  const floorDiv = (a: bigint, b: bigint): bigint => (b === 0n ? 0n : a / b - (a % b !== 0n && a < 0n !== b < 0n ? 1n : 0n))

  test.each([['i32', i32, wrapI], ['u32', u32, wrapU]] as const)('%s: as BigInt says, modulo 2^32', (dtype, arbitrary, wrap) => {
    fc.assert(fc.property(arbitrary, arbitrary, (a, b) => {
      const p = BigInt(a), q = BigInt(b)
      expect(ints(dtype, add, a, b)).toBe(wrap(p + q))
      expect(ints(dtype, sub, a, b)).toBe(wrap(p - q))
      expect(ints(dtype, mul, a, b)).toBe(wrap(p * q))
      expect(ints(dtype, div, a, b)).toBe(wrap(floorDiv(p, q)))
      expect(ints(dtype, mod, a, b)).toBe(wrap(p - q * floorDiv(p, q)))
      expect(ints(dtype, minimum, a, b)).toBe(Math.min(a, b))
      expect(ints(dtype, maximum, a, b)).toBe(Math.max(a, b))
    }), { numRuns: 200 })
  })

  test('div and mod by hand', () => {
    expect([[7, 2], [-7, 2], [7, -2], [-7, -2], [7, 0], [-(2 ** 31), -1]].map(([a, b]) => [ints('i32', div, a!, b!), ints('i32', mod, a!, b!)]))
      .toEqual([[3, 1], [-4, 1], [-4, -1], [3, -1], [0, 7], [-(2 ** 31), 0]])
    expect(evaluate(neg(tensor('x', 'i32', ['a'])), { x: tensorOf('i32', { a: 2 }, [-(2 ** 31), 0]) })).toEqual([-(2 ** 31), 0])
    expect(evaluate(abs(tensor('x', 'i32', ['a'])), { x: tensorOf('i32', { a: 1 }, [-(2 ** 31)]) })).toEqual([-(2 ** 31)])
  })
})

describe('floats', () => {
  test('comparisons with NaN are false, but ne', () => {
    expect([lt, le, gt, ge, eq, ne].map(f => one(f(x, y), NaN, 1))).toEqual([0, 0, 0, 0, 0, 1])
    expect([lt, le, gt, ge, eq, ne].map(f => one(f(x, y), -0, 0))).toEqual([0, 1, 0, 1, 1, 0])
    expect([isNaN(x), not(isNaN(x)), and(isNaN(x), isNaN(y)), or(isNaN(x), isNaN(y))].map(e => one(e, NaN, 1))).toEqual([1, 0, 0, 1])
  })

  test('maximum and minimum: NaN wins, −0 is below +0', () => {
    expect([one(maximum(x, y), NaN, 1), one(minimum(x, y), 1, NaN), one(maximum(x, y), -0, 0), one(minimum(x, y), 0, -0)]).toEqual([NaN, NaN, 0, -0])
  })

  test('rounding functions: ties to even, −0 kept', () => {
    expect([0.5, 1.5, 2.5, -0.5, -1.5, -0.2, 2 ** 23 + 1, Infinity].map(v => one(round(x), v))).toEqual([0, 2, 2, -0, -2, -0, 2 ** 23 + 1, Infinity])
    expect([one(floor(x), -0.5), one(ceil(x), -0.5), one(trunc(x), -0.5), one(floor(x), -0)]).toEqual([-1, -0, -0, -0])
    fc.assert(fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), v => {
      const r = one(round(x), v)
      expect(Math.abs(r - v)).toBeLessThanOrEqual(0.5)
      if (Math.abs(r - v) === 0.5) expect(r % 2).toEqual(r < 0 || Object.is(r, -0) ? -0 : 0)
    }))
  })

  test('limits', () => {
    expect([one(exp(x), 89), one(exp(x), -200), one(exp(x), -Infinity), one(exp2(x), 127), one(exp2(x), -149), one(exp2(x), 128)]).toEqual([Infinity, 0, 0, 2 ** 127, 2 ** -149, Infinity])
    expect([one(log(x), 0), one(log(x), -1), one(log2(x), 8), one(sqrt(x), -1), one(sqrt(x), -0), one(rsqrt(x), 0), one(rsqrt(x), -0), one(rsqrt(x), 4)]).toEqual([-Infinity, NaN, 3, NaN, -0, Infinity, -Infinity, 0.5])
    expect([one(sin(x), Infinity), one(cos(x), 0), one(tanh(x), Infinity), one(tanh(x), -0)]).toEqual([NaN, 1, 1, -0])
    expect([one(div(x, y), 1, 0), one(div(x, y), 1, -0), one(div(x, y), 0, 0)]).toEqual([Infinity, -Infinity, NaN])
    expect([one(pow(x, y), 1, NaN), one(pow(x, y), NaN, 0), one(pow(x, y), -1, Infinity), one(pow(x, y), -8, 1 / 3), one(pow(x, y), -2, 3), one(pow(x, y), 0, -1)]).toEqual([1, 1, 1, NaN, -8, Infinity])
  })

  test('sqrt, division and subnormals are correctly rounded', () => {
    fc.assert(fc.property(fc.float({ noNaN: true, min: 0 }), fc.float({ noNaN: true }), (a, b) => {
      expect(one(sqrt(x), a)).toEqual(Math.fround(Math.sqrt(a)))
      expect(one(div(x, y), a, b)).toEqual(Math.fround(a / b))
    }))
    expect(one(div(x, y), 2 ** -148, 2)).toBe(2 ** -149)
    expect(one(mul(x, y), 2 ** -149, 0.5)).toBe(0)
  })

  test('where takes one side whatever the other is', () => {
    expect(evaluate(where(lt(x, 0), constant(0), sqrt(x)), { x: f32({ a: 2 }, [-1, 4]) })).toEqual([0, 2])
  })
})

describe('constants and sizes', () => {
  test('numbers take the dtype of the other operand, rounded to it', () => {
    expect(add(tensor('x', 'i32', ['a']), 1).dtype).toBe('i32')
    expect(one(mul(x, 0.1), 1)).toBe(Math.fround(0.1))
    expect(add(tensor('x', 'bf16', ['a']), 1).dtype).toBe('f32')
    expect(constant(0.1).kind === 'const' && numbers(interpret({ c: constant(0.1, 'bf16') }, {})['c']!)).toEqual([bf16Value(bf16Bits(0.1))])
    expect(evaluate(where(lt(x, 0), true, false), { x: f32({ a: 2 }, [-1, 1]) })).toEqual([1, 0])
  })

  test('sizes are operands', () => {
    expect(evaluate(sub(minus(size('a'), 1), iota('a')), { x: f32({ a: 3 }, [0, 0, 0]) }, { sizes: { a: 3 } })).toEqual([2, 1, 0])
    expect(evaluate(div(x, size('a')), { x: f32({ a: 4 }, [1, 2, 3, 4]) })).toEqual([0.25, 0.5, 0.75, 1])
    expect(printGraph({ e: div(x, size('a')) })).toContain('a / size(a)')
  })

  test('shared subexpressions are computed once: 2^60 additions in 60 steps', () => {
    const e = map({ x }, (v, $) => { let s = v.x; for (let i = 0; i < 60; i++) s = $.add(s, s); return s })
    expect(one(e, 1)).toBe(2 ** 60)
  })
})
