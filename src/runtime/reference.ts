/**
 * The reference interpreter: the meaning of a program, in plain loops over named axes. `docs/language.md` says the same
 * in words. Every other device is judged against it, so it shares nothing with the compiler and prefers the obvious.
 *
 * Each node's elements are computed in full, children first. Arithmetic is float64; a map rounds after each scalar
 * operation, a fold (contract, reduce, window) only its result.
 */
import { allChildren, bindSizes, type Shape } from '../dsl/bind.js'
import { applyRule, topological, type Expr, type Rules } from '../dsl/expr.js'
import { evaluateSize, type Size, type Sizes } from '../dsl/size.js'
import type { HostTensor } from './host-tensor.js'
import { contract, pool, reduce, topK } from './reference/folds.js'
import { compile, conversion } from './reference/scalars.js'
import { eachRow, fromHost, newData, product, reordered, stridesAlong, toHost, type Data, type Value } from './reference/values.js'

export interface InterpretOptions {
  /** Values for symbols that no input's shape tells. */
  readonly sizes?: Sizes
}

/**
 * Computes the outputs from the inputs. Inputs are bound by name and their axes by name, in whatever physical order;
 * outputs list their axes as the node does. Inputs that the program does not use are ignored.
 * @throws WeftError where an input is missing or contradicts its declaration, or a symbol stays unknown
 */
export function interpret(
  outputs: Readonly<Record<string, Expr>>, inputs: Readonly<Record<string, HostTensor>>, options: InterpretOptions = {},
): Record<string, HostTensor> {
  const values = interpretNodes(outputs, inputs, Object.values(outputs), options)
  return Object.fromEntries(Object.entries(outputs).map(([name, e]) => [name, values.get(e)!]))
}

/** The values of chosen nodes of a program, inner ones included. */
export function interpretNodes(
  outputs: Readonly<Record<string, Expr>>, inputs: Readonly<Record<string, HostTensor>>, nodes: Iterable<Expr>, options: InterpretOptions = {},
): ReadonlyMap<Expr, HostTensor> {
  const sizes = bindSizes(outputs, shapesOf(inputs), options.sizes)
  const wanted = new Set(nodes)
  const order = topological([...wanted], allChildren)
  const lastUse = new Map<Expr, number>()
  order.forEach((e, i) => { for (const c of allChildren(e)) lastUse.set(c, i) })

  const values = new Map<Expr, Value>()
  const results = new Map<Expr, HostTensor>()
  const context: Context = {
    inputs, sizes,
    value: e => values.get(e)!,
    length: s => evaluateSize(s, sizes),
  }
  order.forEach((e, i) => {
    const shape = e.axes.map(a => context.length(a.size))
    const value = { axes: e.axes.map(a => a.name), shape, data: applyRule(rules, e, { ...context, shape }) }
    if (wanted.has(e)) results.set(e, toHost(value, e.dtype))
    if (lastUse.has(e)) values.set(e, value)
    for (const c of allChildren(e)) if (lastUse.get(c) === i) values.delete(c)   // a long program is wide only in places
  })
  return results
}

/** Axis lengths of the inputs by name, as `bindSizes` takes them. */
export function shapesOf(inputs: Readonly<Record<string, HostTensor>>): Record<string, Shape> {
  return Object.fromEntries(Object.entries(inputs).map(([name, t]) => [name, Object.fromEntries(t.axes.map((a, i) => [a, t.shape[i]!]))]))
}

interface Context {
  readonly inputs: Readonly<Record<string, HostTensor>>
  readonly sizes: Sizes
  /** The elements of a node that was computed before. */
  readonly value: (e: Expr) => Value
  readonly length: (s: Size) => number
}
interface NodeContext extends Context {
  /** Of the node that is computed. */
  readonly shape: readonly number[]
}

const names = (e: Expr): string[] => e.axes.map(a => a.name)

/** Each kind of node's elements, row-major over its axes. */
const rules: Rules<Data, NodeContext> = {
  tensor: (e, c) => fromHost(e.name, c.inputs[e.name]!, e.dtype, names(e)).data,

  const: e => newData(e.dtype, 1).fill(e.value),

  iota: (_, c) => Int32Array.from({ length: c.shape[0]! }, (_, i) => i),

  map: (e, c) => {
    const args = e.args.map(a => c.value(a.value))
    const { registers, run, results: [answer] } = compile([e.body], e.args.map(a => a.name), { sizes: c.sizes, wide: false })
    const result = newData(e.dtype, product(c.shape))
    let i = 0
    eachRow(names(e), c.shape, args, (length, offsets, steps) => {
      for (let j = 0; j < length; j++) {
        for (let k = 0; k < args.length; k++) registers[k] = args[k]!.data[offsets[k]! + j * steps[k]!]!
        run()
        result[i++] = registers[answer!]!
      }
    })
    return result
  },

  contract: (e, c) => contract(e, c.value(e.left), c.value(e.right), c.shape),
  reduce: (e, c) => reduce(e, c.value(e.arg), c.shape, c.sizes),
  window: (e, c) => pool(e, c.value(e.arg)),
  topK: (e, c) => topK(e, c.value(e.arg), c.sizes),

  gather: (e, c) => {
    const arg = c.value(e.arg), index = c.value(e.index)
    const result = newData(e.dtype, product(c.shape))
    const length = arg.shape[arg.axes.indexOf(e.axis)]!, [stride] = stridesAlong(arg, [e.axis])
    // The axis looked along is not among the result's axes, so its part of the offset is the index's alone.
    let i = 0
    eachRow(names(e), c.shape, [arg, index], (n, [start, indexStart], [step, indexStep]) => {
      for (let j = 0; j < n; j++) {
        const position = Math.min(Math.max(index.data[indexStart! + j * indexStep!]!, 0), length - 1)
        result[i++] = arg.data[start! + j * step! + position * stride!]!
      }
    })
    return result
  },

  slice: (e, c) => {
    const arg = c.value(e.arg)
    const [stride] = stridesAlong(arg, [e.axis])
    // The argument from the first position on, under the new names: strides stay, only fewer positions are visited.
    const rest: Value = { axes: names(e), shape: arg.shape, data: arg.data.subarray(c.length(e.from) * stride!) }
    const result = newData(e.dtype, product(c.shape))
    let i = 0
    eachRow(rest.axes, c.shape, [rest], (n, [start], [step]) => {
      for (let j = 0; j < n; j++) result[i++] = rest.data[start! + j * step!]!
    })
    return result
  },

  concat: (e, c) => {
    const result: Value = { axes: names(e), shape: c.shape, data: newData(e.dtype, product(c.shape)) }
    const along = result.axes.indexOf(e.axis), [stride] = stridesAlong(result, [e.axis])
    let before = 0
    for (const part of e.parts) {
      const arg = c.value(part)
      const length = arg.shape[arg.axes.indexOf(e.axis)]!
      const shape = c.shape.map((n, i) => (i === along ? length : n))
      const base = before * stride!
      eachRow(result.axes, shape, [result, arg], (n, [to, from], [toStep, fromStep]) => {
        for (let j = 0; j < n; j++) result.data[base + to! + j * toStep!] = arg.data[from! + j * fromStep!]!
      })
      before += length
    }
    return result.data
  },

  cast: (e, c) => {
    const convert = conversion(e.arg.dtype, e.dtype)
    const { data } = c.value(e.arg), result = newData(e.dtype, data.length)
    for (let i = 0; i < result.length; i++) result[i] = convert(data[i]!)
    return result
  },

  // Row-major elements are the same ones under other names.
  rename: (e, c) => c.value(e.arg).data,
  split: (e, c) => c.value(e.arg).data,
  merge: (e, c) => {
    const [first, ...others] = e.from
    return reordered(c.value(e.arg), names(e.arg).flatMap(n => (n === first ? e.from : others.includes(n) ? [] : [n]))).data
  },

  composite: (e, c) => c.value(e.definition).data,
}
