/** How much of its operands a node needs: the positions along each axis, from those wanted of the node itself. */
import { applyRule, axisOf, type Expr, type Rules } from '../dsl/expr.js'
import { evaluateSize, type Size, type Sizes } from '../dsl/size.js'

/** How many positions along each axis are needed of a node; axes that are not in it are needed whole. */
export type Region = ReadonlyMap<string, number>

interface Wanted { readonly region: Region; readonly length: (s: Size) => number }

export const wholeRegion = (e: Expr, sizes: Sizes): Region => new Map(e.axes.map(a => [a.name, Math.max(0, evaluateSize(a.size, sizes))]))
/** The region of a node with the axes that are not said at their full length. */
export const completed = (e: Expr, wanted: Region, sizes: Sizes): Region => new Map(e.axes.map(a => [a.name, wanted.get(a.name) ?? Math.max(0, evaluateSize(a.size, sizes))]))
export const elementsIn = (r: Region): number => [...r.values()].reduce((a, b) => a * b, 1)

/** The children of a node and what is needed of them. */
export const needs = (e: Expr, region: Region, sizes: Sizes): readonly (readonly [Expr, Region])[] =>
  applyRule(parts, e, { region, length: s => evaluateSize(s, sizes) })

const without = (r: Region, axes: readonly string[]): Region => new Map([...r].filter(([a]) => !axes.includes(a)))
const moved = (r: Region, from: string, to: string, by: number): Region => new Map([...[...r].filter(([a]) => a !== from), [to, by]])

const parts: Rules<readonly (readonly [Expr, Region])[], Wanted> = {
  tensor: () => [], const: () => [], iota: () => [],
  map: (e, { region }) => e.args.map(a => [a.value, region]),
  cast: (e, { region }) => [[e.arg, region]],
  composite: (e, { region }) => [[e.definition, region]],
  contract: (e, { region }) => [[e.left, without(region, e.over)], [e.right, without(region, e.over)]],
  reduce: (e, { region }) => [[e.arg, without(region, e.over)]],
  window: (e, { region }) => [[e.arg, region]],
  topK: (e, { region }) => [[e.arg, without(region, [e.axis, e.as])]],
  gather: (e, { region, length }) => {
    const fetched = e.index.axes.filter(a => axisOf(e.arg, a.name) === undefined).reduce((k, a) => k * (region.get(a.name) ?? length(a.size)), 1)
    return [[e.arg, new Map([...region, [e.axis, fetched]])], [e.index, region]]
  },
  slice: (e, { region }) => [[e.arg, moved(region, e.as, e.axis, region.get(e.as)!)]],
  concat: (e, { region, length }) => e.parts.map(p => [p, new Map([...region, [e.axis, length(axisOf(p, e.axis)!.size)]])] as const),
  rename: (e, { region }) => [[e.arg, moved(region, e.to, e.from, region.get(e.to)!)]],
  split: (e, { region }) => [[e.arg, new Map([...region, [e.axis, e.into.reduce((k, a) => k * region.get(a.name)!, 1)]])]],
  merge: (e, { region }) => [[e.arg, without(region, [e.as, ...e.from])]],
}
