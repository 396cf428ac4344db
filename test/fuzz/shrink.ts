/**
 * Makes a failing case small by delta debugging over its graph: outputs are dropped, nodes become inputs that hold what
 * they held, composites are opened, axes shortened, and the plan, the schedules and the orders made plain, as long as the
 * case goes on failing in the same way. Bounds stay true: what becomes an input is exact from then on.
 */
import { symbolsOf, inputsOf } from '../../src/dsl/bind.js'
import { children, node, topological, type Expr } from '../../src/dsl/expr.js'
import { evaluateSize, type Sizes } from '../../src/dsl/size.js'
import { newArray } from '../../src/dsl/dtype.js'
import { interpret } from '../../src/runtime/reference.js'
import { elementCount, hostTensor, type HostTensor } from '../../src/runtime/host-tensor.js'
import { rebuild } from '../rebuild.js'
import type { Session } from '../session.js'
import type { Program } from '../arbitraries.js'
import type { Case } from './draw.js'
import { verdicts } from './reproduce.js'

/** The way in which a case fails; numbers and names differ from step to step. */
export const kindOf = (reason: string): string => {
  const error = /CUDA_ERROR_\w+/.exec(reason)?.[0] ?? /^(?:plan|compile): .{0,50}/.exec(reason)?.[0]
  return (error ?? (/depends on the order|is missing/.exec(reason)?.[0] ?? 'differs')).replace(/[\d'"].*$/, '')
}

/** Without what the outputs do not need. */
function tidy(p: Program): Program | undefined {
  const inputs = [...inputsOf(p.outputs).keys()], symbols = symbolsOf(p.outputs)
  const only = <T>(r: Readonly<Record<string, T>>, names: readonly string[]): Record<string, T> => Object.fromEntries(Object.entries(r).filter(([n]) => names.includes(n)))
  const outputs = Object.keys(p.outputs), below = new Set(topological(Object.values(p.outputs)).flatMap(children))
  return {
    ...p, inputs: only(p.inputs, inputs), sources: only(p.sources, inputs), sizes: only(p.sizes, symbols), bounds: only(p.bounds, outputs),
    anchors: p.anchors.filter(n => p.outputs[n] !== undefined && below.has(p.outputs[n])),
  }
}

/** Every node's elements by the reference. */
function valuesOf(p: Program): Map<Expr, HostTensor> {
  const nodes = topological(Object.values(p.outputs))
  const results = interpret(Object.fromEntries(nodes.map((e, i) => [`v${i}`, e])), p.inputs, { sizes: p.sizes })
  return new Map(nodes.map((e, i) => [e, results[`v${i}`]!]))
}

/** With another node wherever `from` is read. */
function replaced(p: Program, from: Expr, to: Expr, more: Pick<Program, 'inputs'> = { inputs: {} }): Program {
  const moved = rebuild(p.outputs, a => a, e => (e === from ? to : undefined))
  const nodeBounds = new Map(p.nodeBounds)
  Object.entries(moved).forEach(([n, e]) => nodeBounds.set(e, p.bounds[n]!))
  return { ...p, outputs: moved, nodeBounds, inputs: { ...p.inputs, ...more.inputs } }
}
const isSource = (e: Expr): boolean => e.kind === 'tensor' || e.kind === 'const' || e.kind === 'iota'

function withInput(p: Program, e: Expr, value: HostTensor): Program {
  let n = 0
  while (`in${n}` in p.inputs) n++
  return replaced(p, e, node<'tensor'>({ kind: 'tensor', name: `in${n}`, dtype: e.dtype, axes: e.axes }), { inputs: { [`in${n}`]: value } })
}

/** The leading part of a tensor along each axis. */
function cut(t: HostTensor, shape: readonly number[]): HostTensor {
  const data = newArray(t.dtype, elementCount(shape))
  for (let i = 0; i < data.length; i++) {
    let at = 0, rest = i, stride = 1
    for (let k = shape.length - 1; k >= 0; k--) { at += (rest % shape[k]!) * stride; rest = Math.floor(rest / shape[k]!); stride *= t.shape[k]! }
    data[i] = t.data[at]!
  }
  return hostTensor(t.dtype, Object.fromEntries(t.axes.map((a, i) => [a, shape[i]!])), data)
}
/** Another value for a symbol, and inputs of that size; nothing if one would be longer than it was. */
function resized(p: Program, symbol: string, value: number): Program | undefined {
  const sizes: Sizes = { ...p.sizes, [symbol]: value }, tensors = inputsOf(p.outputs), sources = { ...p.sources }
  const inputs = Object.fromEntries(Object.entries(p.inputs).map(([name, t]) => {
    const e = tensors.get(name)!, shape = t.axes.map(a => evaluateSize(e.axes.find(x => x.name === a)!.size, sizes))
    if (shape.every((n, i) => n === t.shape[i])) return [name, t]
    delete sources[name]
    return [name, shape.some((n, i) => n < 0 || n > t.shape[i]!) ? undefined : cut(t, shape)]
  }))
  return Object.values(inputs).includes(undefined) ? undefined : { ...p, sizes, sources, inputs: inputs as Program['inputs'] }
}

function programsBelow(p: Program): Program[] {
  const names = Object.keys(p.outputs), found: (Program | undefined)[] = []
  const without = (dropped: readonly string[]): Program | undefined => {
    if (dropped.length === names.length) return undefined
    const values = valuesOf(p)
    let rest: Program = { ...p, outputs: Object.fromEntries(Object.entries(p.outputs).filter(([n]) => !dropped.includes(n))) }
    // What was judged on a device's values of an output that is gone gets values of its own.
    for (const n of p.anchors) if (dropped.includes(n)) rest = withInput(rest, p.outputs[n]!, values.get(p.outputs[n]!)!)
    return rest
  }
  if (names.length > 1) {
    for (const n of names) found.push(without(names.filter(x => x !== n)))
    if (names.length > 2) for (const n of names) found.push(without([n]))
  }
  const nodes = topological(Object.values(p.outputs)).reverse(), values = valuesOf(p), results = new Set(Object.values(p.outputs))
  for (const e of nodes) if (!isSource(e) && (nodes.some(x => children(x).includes(e)))) found.push(withInput(p, e, values.get(e)!))
  for (const [n, e] of Object.entries(p.outputs)) for (const c of children(e)) {
    const bound = p.nodeBounds.get(c)
    if (bound !== undefined && !isSource(c) && !results.has(c)) found.push({ ...p, outputs: { ...p.outputs, [n]: c }, bounds: { ...p.bounds, [n]: bound } })
  }
  for (const e of nodes) if (e.kind === 'composite') {
    if (nodes.some(x => children(x).includes(e))) found.push(replaced(p, e, e.definition))
    for (const [n, x] of Object.entries(p.outputs)) if (x === e) found.push({ ...p, outputs: { ...p.outputs, [n]: e.definition } })
  }
  for (const [s, n] of Object.entries(p.sizes)) for (const to of new Set([0, 1, 2, 3, Math.floor(n / 2), n - 1])) if (to >= 0 && to < n) found.push(resized(p, s, to))
  return found.flatMap(x => { const t = x && valid(x); return t === undefined ? [] : [t] })
}
/** Tidied, if the reference can evaluate it. */
function valid(p: Program): Program | undefined {
  try {
    const t = tidy(p)
    if (t !== undefined) interpret(t.outputs, t.inputs, { sizes: t.sizes })
    return t
  } catch {
    return undefined   // a slice beyond its axis, say: not a smaller case but none
  }
}

function casesBelow(c: Case): Case[] {
  const found: Case[] = [], { blocks: _, ...unblocked } = c, { specialise: __, ...unspecialised } = c, { choices: ___, ...undecided } = c
  if (Object.keys(c.schedules).length > 0) found.push({ ...c, schedules: {} })
  if (c.blocks !== undefined) found.push(unblocked)
  if (c.specialise !== undefined) found.push(unspecialised)
  if (c.choices !== undefined) found.push(undecided)
  if (c.orders.length > 1) for (const o of c.orders) found.push({ ...c, orders: [o] })
  if (c.orders.length > 2) for (const o of c.orders) found.push({ ...c, orders: c.orders.filter(x => x !== o) })
  found.push(...programsBelow(c.program).map(program => ({ ...c, program })))
  for (const name of Object.keys(c.schedules)) found.push({ ...c, schedules: Object.fromEntries(Object.entries(c.schedules).filter(([n]) => n !== name)) })
  return found
}

/** Candidates that are tried in one compilation. */
const width = 24

/** The smallest case found within so many milliseconds, and what is wrong with it. */
export async function shrink(session: Session, start: Case, reason: string, milliseconds = 60_000): Promise<{ readonly case: Case; readonly reason: string; readonly steps: number }> {
  const kind = kindOf(reason), until = performance.now() + milliseconds
  const tidied = valid(start.program)
  let best = { case: tidied === undefined ? start : { ...start, program: tidied }, reason, steps: 0 }
  for (let progress = true; progress && performance.now() < until;) {
    progress = false
    const candidates = casesBelow(best.case)
    for (let i = 0; i < candidates.length && !progress && performance.now() < until; i += width) {
      const some = candidates.slice(i, i + width), wrong = await verdicts(session, some)
      const first = wrong.findIndex(w => w !== undefined && kindOf(w) === kind)
      if (first >= 0) { best = { case: some[first]!, reason: wrong[first]!, steps: best.steps + 1 }; progress = true }
    }
  }
  return best
}
