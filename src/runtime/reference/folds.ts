/**
 * What puts several elements together: contract, reduce, window, and the choice of topK. Sums and user's monoids are
 * accumulated in float64 and rounded once, when they are stored: the interpreter's error is far below any device's.
 */
import type { Of } from '../../dsl/expr.js'
import { evaluateSize, type Sizes } from '../../dsl/size.js'
import { compile } from './scalars.js'
import { eachRow, newData, offsetsOver, product, reordered, type Data, type Value } from './values.js'

const names = (e: { readonly axes: readonly { readonly name: string }[] }): string[] => e.axes.map(a => a.name)

/** Σ left × right. A product of two f32 is exact in float64. */
export function contract(e: Of<'contract'>, left: Value, right: Value, shape: readonly number[]): Data {
  // With the summed axes innermost, each sum runs over two contiguous stretches.
  const inner = (v: Value): Value => reordered(v, [...v.axes.filter(n => !e.over.includes(n)), ...e.over])
  const l = inner(left), r = inner(right)
  const x = l.data as Float32Array, y = r.data as Float32Array
  const terms = product(e.over.map(n => left.shape[left.axes.indexOf(n)]!))
  const result = new Float32Array(product(shape))
  let i = 0
  eachRow(names(e), shape, [l, r], (length, [atX, atY], [stepX, stepY]) => {
    for (let j = 0; j < length; j++) result[i++] = dot(x, atX! + j * stepX!, y, atY! + j * stepY!, terms)
  })
  return result
}

function dot(x: Float32Array, atX: number, y: Float32Array, atY: number, terms: number): number {
  let total = 0
  for (let k = 0; k < terms; k++) total += x[atX + k]! * y[atY + k]!
  return total
}

/** A left fold in the order of the axes, the last one named fastest, that starts with the identity. */
export function reduce(e: Of<'reduce'>, arg: Value, shape: readonly number[], sizes: Sizes): Data {
  const { components, result: answer } = e.monoid
  const options = { sizes, wide: true }
  const prefixed = (prefix: string): string[] => components.map(c => prefix + c.name)
  const n = components.length
  const identity = compile(components.map(c => c.identity), [], options)
  const lift = compile(components.map(c => c.lift), ['x', 'at'], options)
  const combine = compile(components.map(c => c.combine), [...prefixed('a.'), ...prefixed('b.')], options)
  const finish = compile([answer], [...prefixed(''), 'count'], options)
  identity.run()

  const offsets = offsetsOver(arg, e.over)
  const result = newData(e.dtype, product(shape))
  const read = arg.data
  let i = 0
  eachRow(names(e), shape, [arg], (length, [start], [step]) => {
    for (let j = 0; j < length; j++) {
      const from = start! + j * step!
      for (let c = 0; c < n; c++) combine.registers[c] = identity.registers[identity.results[c]!]!
      for (let at = 0; at < offsets.length; at++) {
        lift.registers[0] = read[from + offsets[at]!]!
        lift.registers[1] = at
        lift.run()
        for (let c = 0; c < n; c++) combine.registers[n + c] = lift.registers[lift.results[c]!]!
        combine.run()
        // All results first: a result may be one of the registers that are written.
        for (let c = 0; c < n; c++) finish.registers[c] = combine.registers[combine.results[c]!]!
        for (let c = 0; c < n; c++) combine.registers[c] = finish.registers[c]!
      }
      for (let c = 0; c < n; c++) finish.registers[c] = combine.registers[c]!
      finish.registers[n] = Math.fround(offsets.length)
      finish.run()
      result[i++] = finish.registers[finish.results[0]!]!
    }
  })
  return result
}

/** Pooling with stride 1. What lies beyond the ends is padding: not there for max, 0 for the sums. */
export function pool(e: Of<'window'>, arg: Value): Data {
  const along = arg.axes.indexOf(e.axis)
  const length = arg.shape[along]!, step = product(arg.shape.slice(along + 1)), reach = (e.size - 1) / 2
  const result = new Float32Array(arg.data.length)
  const position = (i: number): number => Math.floor(i / step) % length
  for (let i = 0; i < result.length; i++) {
    const at = position(i)
    const first = Math.max(at - reach, 0), last = Math.min(at + reach, length - 1)
    let most = -Infinity, total = 0
    for (let j = first; j <= last; j++) {
      const x = arg.data[i + (j - at) * step]!
      most = Math.max(most, x)   // NaN if one is NaN, +0 before −0
      total += x
    }
    const neighbours = last - first + 1
    result[i] = e.pool === 'max' ? most : e.pool === 'sum' ? total : total / (e.counted ? e.size : neighbours)
  }
  return result
}

/** Positions of the k largest: −∞ < … < −0 = +0 < … < ∞ < NaN; of equals the lowest position. */
export function topK(e: Of<'topK'>, arg: Value, sizes: Sizes): Data {
  const rest = arg.axes.filter(n => n !== e.axis)
  const rows = reordered(arg, [...rest, e.axis])
  const length = arg.shape[arg.axes.indexOf(e.axis)]!, k = evaluateSize(e.k, sizes)
  const count = product(rest.map(n => arg.shape[arg.axes.indexOf(n)]!))
  const result = new Int32Array(count * k)
  for (let row = 0; row < count; row++) {
    const scores = rows.data.subarray(row * length, (row + 1) * length)
    const chosen = Int32Array.from(scores, (_, i) => i).sort((i, j) => falling(scores[i]!, scores[j]!) || i - j).subarray(0, k)
    if (e.order === 'position') chosen.sort()
    result.set(chosen, row * k)
  }
  return result
}

function falling(a: number, b: number): number {
  if (a > b) return -1
  if (a < b) return 1
  return Number(Number.isNaN(b)) - Number(Number.isNaN(a))   // equal, or NaN is among them
}
