/** Canonical text of graphs: the same program gives the same text wherever and whenever it is built. */
import { payload, topological, children, type Expr } from './expr.js'
import { shortSource } from './source.js'
import { printSize } from './size.js'

export interface PrintOptions {
  /** Add each node's source line. It is not part of the canonical text. Default false. */
  readonly sources?: boolean
  /** Show composites' definitions in primitives. Default false. */
  readonly expand?: boolean
}

export const printType = (e: Expr): string =>
  `${e.dtype}[${e.axes.map(a => (printSize(a.size) === a.name ? a.name : `${a.name} ${printSize(a.size)}`)).join(', ')}]`

/**
 * One line per node, children first: `%3 contract over dim %1 %2 : f32[head, window, key]`; then one line per output.
 */
export function printGraph(outputs: Readonly<Record<string, Expr>>, options: PrintOptions = {}): string {
  const below = (e: Expr): readonly Expr[] => (e.kind === 'composite' && options.expand === true ? [e.definition] : children(e))
  const order = topological(Object.values(outputs), below)
  const names = new Map(order.map((e, i) => [e, `%${i}`]))
  const lines = order.map(e => {
    const text = `${names.get(e)} ${e.kind} ${payload(e)}${below(e).map(c => ` ${names.get(c)}`).join('')} : ${printType(e)}`
    return options.sources === true && e.source !== undefined ? `${text}   # ${shortSource(e.source)}` : text
  })
  const results = Object.entries(outputs).map(([name, e]) => `${name} = ${names.get(e)}`)
  return [...lines, ...results].join('\n') + '\n'
}
