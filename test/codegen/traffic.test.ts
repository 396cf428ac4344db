/** Bytes counted from plans, against what one can work out by hand. */
import { describe, expect, test } from 'vitest'
import {
  add, concat, contract, gather, minus, mul, size, slice, softmax, sum, tensor, topK, type Expr,
} from '../../src/dsl/index.js'
import { plan } from '../../src/codegen/plan.js'
import { traffic, type Traffic } from '../../src/codegen/traffic.js'

const count = (outputs: Readonly<Record<string, Expr>>, sizes: Record<string, number>, splits = 4, blocks = 264): Traffic => traffic(plan(outputs, { sizes, blocks }), { sizes, splits })

describe('traffic', () => {
  test('elementwise: inputs once, output once, which is compulsory', () => {
    const x = tensor('x', 'f32', ['row', 'col']), y = tensor('y', 'f16', ['col'])
    const t = count({ z: add(mul(x, 2), y) }, { row: 10, col: 7 })
    expect(t.kernels).toEqual([{ name: 'computeZ', read: 10 * 7 * 4 + 7 * 2, written: 10 * 7 * 4 }])
    expect(t.compulsory).toEqual({ read: 294, written: 280 })
  })
  test('a slice counts what it cuts out', () => {
    const x = tensor('x', 'f32', ['n'])
    expect(count({ y: slice(x, 'n', { from: 2, to: 6, as: 'm' }) }, { n: 100 })).toMatchObject({ kernels: [{ read: 16, written: 16 }], compulsory: { read: 16, written: 16 } })
  })
  test('parts of a concatenation add up', () => {
    const x = tensor('x', 'f32', ['n'])
    const head = slice(x, 'n', { to: 3, as: 'm' }), tail = slice(x, 'n', { from: minus(size('n'), 2), as: 'm' })
    expect(count({ y: concat([head, tail], 'm') }, { n: 100 }).compulsory).toEqual({ read: 20, written: 20 })
  })
  test('a gather counts the rows that it fetches; compulsory ones at most once each', () => {
    const x = tensor('x', 'f32', ['row', 'dim']), at = tensor('at', 'i32', ['pick'])
    const few = count({ y: gather(x, 'row', at) }, { row: 1000, dim: 8, pick: 5 })
    expect(few).toMatchObject({ kernels: [{ read: 5 * 8 * 4 + 5 * 4, written: 5 * 8 * 4 }], compulsory: { read: 180, written: 160 } })
    const many = count({ y: gather(x, 'row', at) }, { row: 3, dim: 8, pick: 5 })
    expect(many.kernels[0]!.read).toBe(5 * 8 * 4 + 5 * 4)
    expect(many.compulsory.read).toBe(3 * 8 * 4 + 5 * 4)
  })
  test('each pass over a long axis reads it again', () => {
    const x = tensor('x', 'f32', ['row', 'col']), sizes = { row: 4096, col: 5000 }, bytes = 4096 * 5000 * 4
    const t = count({ y: softmax(x, 'col') }, sizes)
    expect(t.kernels.length).toBe(1)
    expect(t.kernels[0]).toMatchObject({ read: 2 * bytes, written: bytes })
    expect(t.compulsory).toEqual({ read: bytes, written: bytes })
  })
  test('parts of a split fold are written and read', () => {
    const x = tensor('x', 'f32', ['n'])
    const t = count({ y: sum(x, 'n') }, { n: 1_000_000 }, 8)
    expect(t.compulsory).toEqual({ read: 4_000_000, written: 4 })
    expect(t.kernels.map(k => [k.read, k.written])).toEqual([[4_000_000, 32], [32, 4]])
  })
  test('a contraction reads each operand once', () => {
    const a = tensor('a', 'bf16', ['m', 'k']), b = tensor('b', 'bf16', ['k', 'n'])
    expect(count({ c: contract(a, b, 'k') }, { m: 300, n: 200, k: 64 }).compulsory).toEqual({ read: 2 * 64 * 500, written: 4 * 300 * 200 })
  })
  test('a selection reads its row once', () => {
    const x = tensor('x', 'f32', ['row', 'n'])
    expect(count({ y: topK(x, 'n', { k: 5, as: 'best' }) }, { row: 3, n: 1000 }).kernels).toMatchObject([{ read: 12_000, written: 60 }])
  })
})
