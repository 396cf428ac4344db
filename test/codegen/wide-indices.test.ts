/** Indices as text: evaluated as C++ does, they have the value that is meant, and no 32-bit operation overflows. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import * as ix from '../../src/codegen/index-expr.js'
import type { Index } from '../../src/codegen/index-expr.js'
import { indexText } from '../../src/codegen/emit/expression.js'
import type { Scope } from '../../src/codegen/emit/terms.js'
import { writer } from '../../src/codegen/emit/writer.js'

const scope = (): Scope => ({ w: writer([], new Set()), registers: new Map(), named: new Map(), vector: 1 })

interface Typed { readonly value: bigint; readonly wide: boolean }

/** A C++ expression over i32 variables. Throws where signed arithmetic overflows. */
function evaluateText(text: string, values: Readonly<Record<string, number>>): Typed {
  const tokens = text.match(/\w+|[-+*/%(),]/g) ?? []
  let at = 0
  const typed = (value: bigint, wide: boolean): Typed => {
    if (!wide && (value < -(2n ** 31n) || value >= 2n ** 31n)) throw new Error(`${value} overflows in ${text}`)
    return { value, wide }
  }
  const apply = (op: string, a: Typed, b: Typed): Typed => {
    const f: Readonly<Record<string, (x: bigint, y: bigint) => bigint>> = { '+': (x, y) => x + y, '-': (x, y) => x - y, '*': (x, y) => x * y, '/': (x, y) => x / y, '%': (x, y) => x % y }
    return typed(f[op]!(a.value, b.value), a.wide || b.wide)
  }
  const atom = (): Typed => {
    const t = tokens[at++]!
    if (t === '-') { const x = atom(); return typed(-x.value, x.wide) }
    if (t === '(') { const x = sum(); at++; return x }
    if (t === 'i64') { at++; const x = sum(); at++; return { ...x, wide: true } }
    if (t === 'min' || t === 'max') {
      at++
      const a = sum(); at++
      const b = sum(); at++
      if (a.wide !== b.wide) throw new Error(`${t} of two types in ${text}`)
      return (a.value < b.value) === (t === 'min') ? a : b
    }
    return typed(BigInt(/^\d/.test(t) ? t : values[t]!), /^\d/.test(t) && BigInt(t) >= 2n ** 31n)
  }
  const product = (): Typed => { let x = atom(); while (['*', '/', '%'].includes(tokens[at]!)) x = apply(tokens[at++]!, x, atom()); return x }
  const sum = (): Typed => { let x = product(); while (['+', '-'].includes(tokens[at]!)) x = apply(tokens[at++]!, x, product()); return x }
  return sum()
}

/** Variables with the largest value that each can have, and index expressions over them that stay non-negative where C++ divides. */
const variables = { a: 127, b: 4095, c: 380_000, d: ix.longest } as const
const arbitraryIndex: fc.Arbitrary<Index> = fc.letrec<{ index: Index }>(tie => ({
  index: fc.oneof({ maxDepth: 4, withCrossShrink: true },
    fc.constantFrom(...Object.entries(variables).map(([name, most]) => ix.scalar(name, most))), fc.integer({ min: 0, max: 300 }).map(ix.constant),
    fc.tuple(fc.constantFrom('add', 'mul', 'min', 'max', 'sub', 'div', 'mod'), tie('index'), tie('index'), fc.integer({ min: 1, max: 200 })).map(([op, x, y, n]): Index => {
      switch (op) {
        case 'sub': return ix.sub(x, ix.constant(n))
        case 'div': return x.min < 0 ? x : ix.div(x, ix.constant(n))
        case 'mod': return x.min < 0 ? x : ix.mod(x, ix.constant(n))
        default: return ix[op as 'add' | 'mul' | 'min' | 'max'](x, y)
      }
    })),
})).index
// Offsets of arrays fit 64 bits with room to spare; beyond 2^53 ranges are not exact.
const sensible = (i: Index): boolean => Math.max(Math.abs(i.min), Math.abs(i.max)) < 2 ** 50 && ix.indexChildren(i).every(sensible)
const arbitraryValues = fc.record(Object.fromEntries(Object.entries(variables).map(([name, most]) => [name, fc.oneof(fc.constant(most), fc.constant(0), fc.integer({ min: 0, max: most }))])))

test('an index has the value that is meant, whatever the lengths', () => {
  fc.assert(fc.property(arbitraryIndex.filter(sensible), arbitraryValues, (i, values) => {
    const wanted = ix.evaluate(i, values) + 0   // −0 is 0
    expect(Number(evaluateText(indexText(i, scope()), values).value)).toBe(wanted)
  }), { numRuns: 3000 })
})

test('an index lies within its range', () => {
  fc.assert(fc.property(arbitraryIndex.filter(sensible), arbitraryValues, (i, values) => {
    const value = ix.evaluate(i, values)
    expect(value).toBeGreaterThanOrEqual(i.min)
    expect(value).toBeLessThanOrEqual(i.max)
  }), { numRuns: 3000 })
})

test('64 × 380,000 × 128 elements are counted in 64 bits', () => {
  const text = indexText(ix.offset([ix.scalar('a', 63), ix.scalar('c', 379_999), ix.scalar('b', 127)], [64, 380_000, 128].map(ix.constant)), scope())
  expect(evaluateText(text, { a: 63, c: 379_999, b: 127 })).toEqual({ value: 64n * 380_000n * 128n - 1n, wide: true })
})
