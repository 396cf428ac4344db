/** From the shapes of inputs to the values of symbols, and the checks that had to wait for them. */
import { languageError } from './errors.js'
import { axisOf, children, topological, type Expr, type Of } from './expr.js'
import { scalarChildren, type Scalar } from './scalar.js'
import { evaluateSize, own, printSize, substituteSize, type Size, type Sizes } from './size.js'

export type Shape = Readonly<Record<string, number>>

/** The inputs that outputs depend on, by name. Two tensors of one name must be the same tensor. */
export function inputsOf(outputs: Readonly<Record<string, Expr>>): ReadonlyMap<string, Of<'tensor'>> {
  const inputs = new Map<string, Of<'tensor'>>()
  for (const e of topological(Object.values(outputs), allChildren)) {
    if (e.kind !== 'tensor') continue
    const known = inputs.get(e.name)
    if (known !== undefined && known !== e) {
      throw languageError('name', `two different tensors are named '${e.name}'`, 'give one of them another name', e.source)
    }
    inputs.set(e.name, e)
  }
  return inputs
}

/** Children, composites' definitions included. */
export const allChildren = (e: Expr): readonly Expr[] => (e.kind === 'composite' ? [e.definition] : children(e))

/**
 * Solves the inputs' sizes for their symbols.
 * @param shapes of each input, by axis name
 * @param given values for symbols that no input tells (for example k of topK)
 * @throws WeftError `shape` where a shape contradicts the declaration, `unbound-size` where a symbol stays unknown
 */
export function bindSizes(outputs: Readonly<Record<string, Expr>>, shapes: Readonly<Record<string, Shape>>, given: Sizes = {}): Sizes {
  const sizes: Record<string, number> = { ...given }
  for (const [symbol, value] of Object.entries(given)) {
    if (!Number.isSafeInteger(value) || value < 0) throw languageError('size', `the size '${symbol}' is given as ${value}`, 'give a whole number that is not negative', undefined)
  }
  const inputs = inputsOf(outputs)
  const open: { e: Of<'tensor'>; axis: number; length: number }[] = []
  for (const [name, e] of inputs) {
    const shape = own(shapes, name)
    if (shape === undefined) {
      throw languageError('input', `the input '${name}' is missing`, `give it: ${name}: a typed array over ${e.axes.map(a => a.name).join(', ') || 'no axes'}`, e.source)
    }
    e.axes.forEach((a, axis) => {
      const length = own(shape, a.name)
      if (length === undefined) throw languageError('shape', `the input '${name}' has no axis '${a.name}'`, `its axes are ${e.axes.map(x => x.name).join(', ')}`, e.source)
      open.push({ e, axis, length })
    })
    const strange = Object.keys(shape).find(a => axisOf(e, a) === undefined)
    if (strange !== undefined) throw languageError('shape', `the input '${name}' has an axis '${strange}', which is not declared`, e.axes.length === 0 ? 'pass one element without axes' : `its axes are ${e.axes.map(x => x.name).join(', ')}`, e.source)
  }
  // Each equation with one unknown gives it; what is left over in the end is checked or undetermined.
  for (let progress = true; progress;) {
    progress = false
    for (const { e, axis, length } of open) {
      const s = substituteSize(e.axes[axis]!.size, sizes)
      if (s.terms.length !== 1) continue
      const [symbol, c] = s.terms[0]!
      const value = (length - s.constant) / c
      if (!Number.isInteger(value) || value < 0) throw mismatch(e, axis, length, sizes)
      sizes[symbol] = value
      progress = true
    }
  }
  for (const { e, axis, length } of open) {
    const s = substituteSize(e.axes[axis]!.size, sizes)
    if (s.terms.length === 0 && s.constant !== length) throw mismatch(e, axis, length, sizes)
  }
  const unknown = symbolsOf(outputs).find(s => own(sizes, s) === undefined)
  if (unknown !== undefined) throw languageError('unbound-size', `the size '${unknown}' is not known: no input's shape tells it`, `give it: { ${unknown}: ... }`, undefined)
  checkSizes(outputs, sizes)
  return sizes
}

function mismatch(e: Of<'tensor'>, axis: number, length: number, sizes: Sizes): Error {
  const a = e.axes[axis]!
  const known = a.size.terms.map(([s]) => s).filter(s => own(sizes, s) !== undefined).map(s => `${s} = ${sizes[s]}`).join(', ')
  return languageError('shape', `the input '${e.name}' has ${length} elements along '${a.name}', but its size is ${printSize(a.size)}${known === '' ? '' : ` with ${known}`}`,
    'pass data of the declared shape, or declare another', e.source)
}

/** All symbols that a graph's meaning needs, sorted: in axes, bounds of slices, and sizes in scalar expressions. */
export function symbolsOf(outputs: Readonly<Record<string, Expr>>): readonly string[] {
  const symbols = new Set<string>(), seen = new Set<Scalar>()
  const add = (s: Size): void => { for (const [name] of s.terms) symbols.add(name) }
  const addScalar = (s: Scalar): void => {
    if (seen.has(s)) return
    seen.add(s)
    if (s.op === 'size') add(s.size)
    scalarChildren(s).forEach(addScalar)
  }
  for (const e of topological(Object.values(outputs), allChildren)) {
    for (const a of e.axes) add(a.size)
    if (e.kind === 'slice') { add(e.from); add(e.to) }
    if (e.kind === 'map') addScalar(e.body)
    if (e.kind === 'reduce') for (const s of [e.monoid.result, ...e.monoid.components.flatMap(c => [c.lift, c.combine])]) addScalar(s)
  }
  return [...symbols].sort()
}

/** What the constructors could not prove: lengths, slices, k, empty reductions. */
export function checkSizes(outputs: Readonly<Record<string, Expr>>, sizes: Sizes): void {
  for (const e of topological(Object.values(outputs), allChildren)) {
    const at = (s: Parameters<typeof evaluateSize>[0]): number => evaluateSize(s, sizes)
    const refuse = (code: string, reason: string, fix: string): never => { throw languageError(code, reason, fix, e.source) }
    for (const a of e.axes) {
      if (at(a.size) < 0) refuse('size', `axis '${a.name}' has size ${printSize(a.size)} = ${at(a.size)}`, 'sizes are not negative: check the lengths of the inputs')
    }
    switch (e.kind) {
      case 'slice': {
        const length = at(axisOf(e.arg, e.axis)!.size), from = at(e.from), to = at(e.to)
        if (from < 0 || to < from || length < to) {
          refuse('slice', `slice: ${printSize(e.from)} .. ${printSize(e.to)} = ${from} .. ${to} of axis '${e.axis}' with ${length} elements`, 'cut within the axis')
        }
        break
      }
      case 'topK': {
        const length = at(axisOf(e.arg, e.axis)!.size), k = at(e.k)
        if (k > length) refuse('topk', `topK: k is ${k}, but axis '${e.axis}' has only ${length} elements`, 'lower k')
        break
      }
      case 'gather':
        if (at(axisOf(e.arg, e.axis)!.size) === 0 && e.axes.every(a => at(a.size) > 0)) refuse('empty', `gather: axis '${e.axis}' is empty`, 'there is nothing to look up')
        break
      case 'reduce':
        if (!e.monoid.emptyAllowed) {
          const empty = e.over.find(n => at(axisOf(e.arg, n)!.size) === 0)
          if (empty !== undefined) refuse('empty', `${e.monoid.name}: axis '${empty}' is empty`, 'only sum, all, any and monoids that say emptyAllowed have a result for no elements')
        }
        break
      default:
    }
  }
}
