/**
 * 64 bits exactly where 32 cannot be proven. The text of random index expressions is evaluated by C's rules, with an i32
 * that may not overflow: it must give the value that plain arithmetic gives, at the ends of all ranges and between. And
 * where no part of an expression can leave 32 bits, its text has none that is wider.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { indexText } from '../../src/codegen/emit/expression.js'
import { writer } from '../../src/codegen/emit/writer.js'
import { add, constant, div, indexChildren, longest, max, min, mod, mul, offset, scalar, sub, symbol, type Index } from '../../src/codegen/index-expr.js'

const text = (i: Index): string => indexText(i, { w: writer([], new Set()), registers: new Map(), named: new Map(), vector: 1 })

// ---- C's integers ----
interface Int { readonly value: bigint; readonly bits: 32 | 64 }
const int = (value: bigint, bits: 32 | 64, what: string): Int => {
  if (BigInt.asIntN(bits, value) !== value) throw new Error(`i${bits} overflows: ${what} is ${value}`)
  return { value, bits }
}
const binary: Readonly<Record<string, (a: bigint, b: bigint) => bigint>> = { '+': (a, b) => a + b, '-': (a, b) => a - b, '*': (a, b) => a * b, '/': (a, b) => a / b, '%': (a, b) => a % b }

/** The value of an expression of + - * / %, min, max, i64(...), names and numbers, by C's precedence and promotions. */
function evaluateText(source: string, names: ReadonlyMap<string, bigint>): Int {
  const tokens = source.match(/\d+|\w+|[-+*/%(),]/g) ?? []
  let at = 0
  const take = (token: string): void => { if (tokens[at++] !== token) throw new Error(`'${token}' expected in ${source} before ${tokens.slice(at - 1).join(' ')}`) }
  const combine = (op: string, a: Int, b: Int): Int => int(binary[op]!(a.value, b.value), a.bits === 64 || b.bits === 64 ? 64 : 32, `${a.value} ${op} ${b.value} in ${source}`)
  const atom = (): Int => {
    const token = tokens[at++]!
    if (token === '(') { const inner = sum(); take(')'); return inner }
    if (token === '-') return combine('-', { value: 0n, bits: 32 }, atom())
    if (/^\d/.test(token)) return { value: BigInt(token), bits: BigInt(token) < 2n ** 31n ? 32 : 64 }
    if (token === 'i64') { take('('); const inner = sum(); take(')'); return { value: inner.value, bits: 64 } }
    if (token === 'min' || token === 'max') {
      take('('); const a = sum(); take(','); const b = sum(); take(')')
      if (a.bits !== b.bits) throw new Error(`${token} of i${a.bits} and i${b.bits} in ${source}: no such function`)
      return (token === 'min') === (a.value < b.value) ? a : b
    }
    const value = names.get(token)
    if (value === undefined) throw new Error(`no value for ${token} in ${source}`)
    return int(value, 32, token)
  }
  const chain = (ops: readonly string[], operand: () => Int): Int => {
    let left = operand()
    while (ops.includes(tokens[at]!)) left = combine(tokens[at++]!, left, operand())
    return left
  }
  const product = (): Int => chain(['*', '/', '%'], atom)
  const sum = (): Int => chain(['+', '-'], product)
  const result = sum()
  if (at !== tokens.length) throw new Error(`${source}: ${tokens.slice(at).join(' ')} is left over`)
  return result
}

// ---- plain arithmetic ----
function exact(i: Index, names: ReadonlyMap<string, bigint>): bigint {
  switch (i.op) {
    case 'const': return BigInt(i.value)
    case 'scalar': return names.get(i.name)!
    case 'symbol': return names.get(`${i.name}Size`)!
    case 'add': return exact(i.a, names) + exact(i.b, names)
    case 'mul': return exact(i.a, names) * exact(i.b, names)
    case 'div': return exact(i.a, names) / exact(i.b, names)
    case 'mod': return exact(i.a, names) % exact(i.b, names)
    case 'min': { const a = exact(i.a, names), b = exact(i.b, names); return a < b ? a : b }
    case 'max': { const a = exact(i.a, names), b = exact(i.b, names); return a > b ? a : b }
    case 'dim': case 'value': throw new Error('not made here')
  }
}

const leaves = (i: Index): { name: string; max: number }[] =>
  i.op === 'scalar' ? [{ name: i.name, max: i.max }] : i.op === 'symbol' ? [{ name: `${i.name}Size`, max: i.max }] : indexChildren(i).flatMap(leaves)
const parts = (i: Index): readonly Index[] => [i, ...indexChildren(i).flatMap(parts)]
const fits = (i: Index): boolean => i.min >= -(2 ** 31) && i.max < 2 ** 31

// ---- random expressions ----
/** Extents as they occur, and those about the edge: a product of a few of them is about 2^31. None is above `longest`. */
const extent = fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constantFrom(128, 4096, 32767, 46341, 65536, 389_120), fc.nat({ max: 30 }).map(e => 2 ** e), fc.integer({ min: 1, max: longest }))
const leaf = (name: string): fc.Arbitrary<Index> => fc.oneof(
  { weight: 4, arbitrary: extent.map(n => scalar(name, n - 1)) }, { weight: 1, arbitrary: fc.constant(symbol(name)) },
  { weight: 2, arbitrary: fc.oneof(fc.integer({ min: -300, max: 300 }), extent).map(constant) })
const limit = 2 ** 53   // ranges are numbers of JavaScript
const tree: fc.Arbitrary<Index> = fc.letrec<{ tree: Index; node: Index }>(tie => ({
  tree: fc.oneof({ maxDepth: 4, depthSize: 'small' }, fc.constantFrom('a', 'b', 'c', 'd', 'e').chain(leaf), tie('node')),
  node: fc.tuple(fc.constantFrom(add, add, mul, mul, sub, div, mod, min, max), tie('tree'), tie('tree')).map(([make, a, b]) => {
    // Quotients are of numbers that are not negative, by divisors that are positive.
    if ((make === div || make === mod) && (a.min < 0 || b.min < 1)) return add(a, b)
    const i = make(a, b)
    return i.min < -limit || i.max > limit ? add(a, constant(1)) : i
  }),
})).tree.filter(i => parts(i).every(p => p.min > -limit && p.max < limit))

/** Values for the leaves: their ends, and one between. */
const assignments = (i: Index, choices: readonly number[]): ReadonlyMap<string, bigint> => {
  // A name that occurs with several ranges lies in all of them.
  const ranges = new Map<string, number>()
  for (const { name, max } of leaves(i)) ranges.set(name, Math.min(max, ranges.get(name) ?? Infinity))
  return new Map([...ranges].map(([name, top], n) => [name, BigInt(Math.floor(top * choices[n % choices.length]!))]))
}

describe('index expressions', () => {
  const choices = fc.array(fc.constantFrom(0, 1, 1, 1, 0.5, 0.9), { minLength: 8, maxLength: 8 })

  test('no 32-bit part overflows, whatever the values', () => {
    fc.assert(fc.property(tree, fc.array(choices, { minLength: 4, maxLength: 4 }), (i, some) => {
      const source = text(i)
      for (const c of [[0], [1], ...some]) {
        const names = assignments(i, c)
        const divisors = parts(i).flatMap(p => (p.op === 'div' || p.op === 'mod' ? [p.b] : []))
        if (divisors.some(d => exact(d, names) < 1n)) continue
        expect(evaluateText(source, names).value, source).toBe(exact(i, names))
      }
    }), { numRuns: 20_000 })
  })

  test('what provably fits 32 bits has no wider part', () => {
    fc.assert(fc.property(tree, i => {
      fc.pre(parts(i).every(fits))
      expect(text(i)).not.toContain('i64')
    }), { numRuns: 20_000 })
  })

  test('offsets into arrays are wide from 2^31 elements on, and not before', () => {
    const array = fc.array(extent, { minLength: 1, maxLength: 4 })
    fc.assert(fc.property(array, extents => {
      const elements = extents.reduce((n, e) => n * e, 1)
      fc.pre(elements < limit)
      const at = offset(extents.map((e, n) => scalar(`i${n}`, e - 1)), extents.map(constant))
      const source = text(at), last = new Map(extents.map((e, n) => [`i${n}`, BigInt(e - 1)]))
      expect(evaluateText(source, last).value).toBe(BigInt(extents.reduce((n, e) => n * BigInt(e), 1n)) - 1n)
      expect(source.includes('i64'), source).toBe(elements > 2 ** 31)
    }), { numRuns: 20_000 })
  })

  test('offsets with lengths that are arguments are wide, unless rows and a fixed length keep them small', () => {
    fc.assert(fc.property(extent, extent, (rows, dim) => {
      const at = offset([scalar('row', rows - 1), scalar('key', symbol('key').max - 1), scalar('d', dim - 1)], [constant(rows), symbol('key'), constant(dim)])
      const names = new Map([['row', BigInt(rows - 1)], ['key', BigInt(symbol('key').max - 1)], ['d', BigInt(dim - 1)], ['keySize', BigInt(symbol('key').max)]])
      fc.pre(exact(at, names) < BigInt(limit))
      expect(evaluateText(text(at), names).value).toBe(exact(at, names))
      expect(text(at).includes('i64')).toBe(exact(at, names) >= 2n ** 31n)
    }), { numRuns: 5000 })
  })
})
