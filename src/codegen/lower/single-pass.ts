/**
 * A contraction along the streamed axis with weights that are normalised along it, in one pass: softmax(x) · v without
 * knowing the maximum before. The fold's shift and sums go along with the products; where a tile raises the shift, sums and
 * products so far are rescaled, and what the fold's components say of the scale is applied at the end.
 *
 * This is online softmax (Milakov and Gimelshein 2018) along with a product, as Dao et al. 2022 have it by blocks, read off
 * the monoid's `rescale` and what a composite says of itself: no expression is recognised here.
 */
import { axisOf, type Expr, type Normalised, type Of } from '../../dsl/expr.js'
import { maxMonoid, sumMonoid } from '../../dsl/monoid.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import { padded, type Dim, type RegisterTile, type Value } from '../kernel.js'
import * as v from '../values.js'
import { alongTiles, dimsIn, passesBelow, type Lowering } from './scopes.js'
import { combineDims, sharedTile, stageOperand, startFold, type OperandContext } from './tiles.js'
import type { Environment } from './value.js'

/** What a composite on the left of a contraction says of itself, if one pass will do. */
export function normalisedLeft(l: Lowering, e: Of<'contract'>): Normalised | undefined {
  let x: Expr = e.left
  while (x.kind === 'composite' && x.normalised === undefined) x = x.definition
  const n = x.kind === 'composite' ? x.normalised : undefined
  if (n === undefined || e.over.length !== 1 || n.over.join() !== e.over.join() || n.monoid.rescale === undefined) return undefined
  // Folds that another kernel has finished are read; elements that are folds along the axis take a pass of their own anyway.
  if (passesBelow(l, x).length === 0 || passesBelow(l, n.arg).length > 0) return undefined
  const shift = n.monoid.components.find(c => c.name === n.monoid.rescale!.shift)!
  const plain = n.monoid.components.every(c => (c === shift ? c.lift.op === 'var' : c.lift.op === 'const' && c.lift.value === 1)) && shift.combine.op === 'binary' && shift.combine.name === 'max'
  return plain ? n : undefined
}

export function singlePass(l: Lowering, e: Of<'contract'>, env: Environment, n: Normalised, context: OperandContext, valueOf: (x: Expr, env: Environment) => Value): RegisterTile {
  const [long] = e.over as [string], { monoid } = n, { shift, factor } = monoid.rescale!, { column } = l.d
  const rowAxes = n.arg.axes.filter(a => a.name !== long)
  const rowPosition: Environment = new Map(rowAxes.map(a => [a.name, env.get(a.name)!]))
  const rows = dimsIn(l, [...rowPosition.values()]), dims = dimsIn(l, e.axes.map(a => env.get(a.name)!))
  const components = startFold(l, monoid, rows, monoid.components.map(c => c.name))
  const own = components[monoid.components.findIndex(c => c.name === shift)]!, sums = components.filter(c => c !== own)
  const target = tile(l, 'sum', dims)
  l.append({ kind: 'map', target, value: v.constantValue(0, 'f32'), fresh: true })
  const change = (from: Value, to: Value): Value => v.scalarValue(factor, name => (name === 'from' ? from : to))
  const times = (a: RegisterTile, b: RegisterTile): void => { l.append({ kind: 'map', target: a, value: v.binaryValue('mul', v.registerValue(a), v.registerValue(b)), fresh: false }) }

  alongTiles(l, long, ix.sizeIndex(axisOf(n.arg, long)!.size), false, position => {
    const inner: Environment = new Map([...rowPosition, [long, position]])
    const counted = v.inside(position, axisOf(n.arg, long)!.size)
    const element = v.assuming(valueOf(n.arg, inner), counted)
    const x = tile(l, 'x', dimsIn(l, [...inner.values()]))
    l.append({ kind: 'map', target: x, value: v.whereValue(counted, element, v.scalarValue(monoid.components.find(c => c.name === shift)!.identity, unknown)), fresh: true })
    // All threads of a row have to agree on the shift: they share the weights.
    const next = tile(l, `${shift}Next`, rows)
    l.append({ kind: 'map', target: next, value: v.registerValue(own), fresh: true })
    l.append({ kind: 'fold', components: [next], monoid: maxMonoid('f32'), over: [column], element: v.registerValue(x), position: ix.zero, counted: undefined })
    combineDims(l, [next], maxMonoid('f32'), [column])
    const scale = tile(l, 'scale', rows)
    l.append({ kind: 'map', target: scale, value: change(v.registerValue(own), v.registerValue(next)), fresh: true })
    sums.forEach(s => times(s, scale))
    times(target, scale)
    l.append({ kind: 'map', target: own, value: v.registerValue(next), fresh: false })
    l.append({ kind: 'map', target: x, value: v.whereValue(counted, change(v.registerValue(x), v.registerValue(next)), v.constantValue(0, 'f32')), fresh: false })
    for (const s of sums) l.append({ kind: 'fold', components: [s], monoid: sumMonoid('f32'), over: [column], element: v.registerValue(x), position: ix.zero, counted: undefined })
    const weights = spill(l, x, column)
    const right = stageOperand(l, e.right, new Map([...e.axes.map(a => [a.name, env.get(a.name)!] as const), [long, position]]), e.over, context, { name: column.name, start: ix.zero, extent: 0 })
    l.append({ kind: 'contract', target, left: weights, right: right.tile, over: right.over, extent: right.extent })
  })
  sums.forEach(s => combineDims(l, [s], sumMonoid('f32'), [column]))
  const scale = tile(l, 'scale', rows)
  const component = (name: string): Value => v.registerValue(components[monoid.components.findIndex(c => c.name === name)]!)
  // weight(s, s) is 1, but where the shift is infinite the weights of its own elements are not numbers.
  l.append({ kind: 'map', target: scale, value: v.binaryValue('mul', v.scalarValue(n.scale, component), v.scalarValue(n.weight, () => v.registerValue(own))), fresh: true })
  times(target, scale)
  return target
}

const unknown = (name: string): never => { throw new Error(`an identity mentions ${name}`) }
const tile = (l: Lowering, name: string, dims: readonly Dim[]): RegisterTile => ({ space: 'register', name: l.fresh(name), dtype: 'f32', dims })

function spill(l: Lowering, x: RegisterTile, column: Dim) {
  const order = [...x.dims.filter(d => d !== column), column], at: Index[] = order.map(ix.dimIndex)
  const target = sharedTile(l, 'weightTile', 'f32', order.map(d => ({ name: d.name, extent: padded(d) })), 4)
  l.append({ kind: 'spill', target, dims: order, at, value: v.registerValue(x) })
  return target
}
