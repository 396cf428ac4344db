/** Builds a graph again, node by node, with other axis names or with something else in the place of some nodes. */
import { applyRule, node, type Expr, type Rules } from '../src/dsl/expr.js'

/**
 * @param name the axes' new names
 * @param instead what stands for a node wherever another one reads it; outputs are always built
 */
export function rebuild(outputs: Readonly<Record<string, Expr>>, name: (axis: string) => string, instead: (e: Expr) => Expr | undefined = () => undefined): Record<string, Expr> {
  const known = new Map<Expr, Expr>()
  const axesOf = (e: Expr): Expr['axes'] => e.axes.map(a => ({ name: name(a.name), size: a.size }))
  const again = (e: Expr): Expr => {
    let built = known.get(e)
    if (built === undefined) known.set(e, built = instead(e) ?? applyRule(rules, e, undefined))
    return built
  }
  const rules: Rules<Expr> = {
    tensor: e => node<'tensor'>({ ...e, axes: axesOf(e) }),
    const: e => node<'const'>({ ...e }),
    iota: e => node<'iota'>({ ...e, axes: axesOf(e) }),
    map: e => node<'map'>({ ...e, axes: axesOf(e), args: e.args.map(a => ({ name: a.name, value: again(a.value) })) }),
    contract: e => node<'contract'>({ ...e, axes: axesOf(e), left: again(e.left), right: again(e.right), over: e.over.map(name) }),
    reduce: e => node<'reduce'>({ ...e, axes: axesOf(e), arg: again(e.arg), over: e.over.map(name) }),
    window: e => node<'window'>({ ...e, axes: axesOf(e), arg: again(e.arg), axis: name(e.axis) }),
    topK: e => node<'topK'>({ ...e, axes: axesOf(e), arg: again(e.arg), axis: name(e.axis), as: name(e.as) }),
    gather: e => node<'gather'>({ ...e, axes: axesOf(e), arg: again(e.arg), index: again(e.index), axis: name(e.axis) }),
    slice: e => node<'slice'>({ ...e, axes: axesOf(e), arg: again(e.arg), axis: name(e.axis), as: name(e.as) }),
    concat: e => node<'concat'>({ ...e, axes: axesOf(e), parts: e.parts.map(again), axis: name(e.axis) }),
    cast: e => node<'cast'>({ ...e, axes: axesOf(e), arg: again(e.arg) }),
    rename: e => node<'rename'>({ ...e, axes: axesOf(e), arg: again(e.arg), from: name(e.from), to: name(e.to) }),
    split: e => node<'split'>({ ...e, axes: axesOf(e), arg: again(e.arg), axis: name(e.axis), into: e.into.map(a => ({ name: name(a.name), size: a.size })) }),
    merge: e => node<'merge'>({ ...e, axes: axesOf(e), arg: again(e.arg), from: e.from.map(name), as: name(e.as) }),
    composite: e => node<'composite'>({ ...e, axes: axesOf(e), args: e.args.map(again), definition: again(e.definition) }),
  }
  return Object.fromEntries(Object.entries(outputs).map(([n, e]) => [n, applyRule(rules, e, undefined)]))
}
