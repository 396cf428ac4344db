/** Names of kernels and arrays: from the user's labels, composites, axes and outputs; never two alike. */
import { allChildren, symbolsOf } from '../dsl/bind.js'
import { topological, type Expr, type Of } from '../dsl/expr.js'
import { foldMonoid, type Fold } from './folds.js'
import type { Memory } from './kernel.js'
import { open } from './lower/value.js'
import { freshNames } from './reserved.js'

export interface Namer {
  input(e: Of<'tensor'>): Memory
  output(name: string, e: Expr): Memory
  between(e: Expr): Memory
  partials(f: Fold): Memory[]
  /** What to call a node in messages. */
  of(e: Expr): string
  unique(wish: string): string
}

const identifier = (text: string): string => {
  const words = text.split(/[^A-Za-z0-9]+/).filter(w => w !== '')
  return words.map((w, i) => (i === 0 ? w[0]!.toLowerCase() : w[0]!.toUpperCase()) + w.slice(1)).join('').replace(/^[0-9]/, 'x$&') || 'value'
}

export function namer(outputs: Readonly<Record<string, Expr>>): Namer {
  const labels = new Map<Expr, string>(), inputs = new Map<Expr, Memory>()
  for (const e of topological(Object.values(outputs), allChildren)) {
    if (e.kind !== 'composite') continue
    const own = e.name.split(' ')[0]!
    // Folds in a definition are known by the composition they belong to.
    for (const inner of topological([e.definition], allChildren)) {
      if ((inner.kind === 'reduce' || inner.kind === 'contract') && !labels.has(inner) && !e.args.includes(inner) && inner.kind === 'reduce' && inner.monoid.components.length > 1) labels.set(inner, own)
    }
    labels.set(open(e), own)
  }
  for (const [name, e] of Object.entries(outputs)) if (!labels.has(open(e))) labels.set(open(e), name)
  const unique = freshNames(symbolsOf(outputs).map(n => `${n}Size`))
  // What only moves or rounds another node is called like it.
  const called = (e: Expr): string => labels.get(e) ??
    (e.kind === 'cast' || e.kind === 'rename' || e.kind === 'slice' ? called(open(e.arg)) : defaultName(e))
  const of = (e: Expr): string => identifier(called(e))
  const axesOf = (e: Expr): Memory['axes'] => e.axes.map(a => ({ name: a.name, size: a.size }))
  // Inputs choose first, so that they keep their names where C++ allows them.
  for (const e of topological(Object.values(outputs), allChildren)) {
    if (e.kind === 'tensor') inputs.set(e, { name: unique(e.name), user: e.name, dtype: e.dtype, role: 'input', axes: axesOf(e) })
  }
  return {
    input: e => inputs.get(e)!,
    output: (name, e) => ({ name: unique(identifier(name)), user: name, dtype: e.dtype, role: 'output', axes: axesOf(e) }),
    between: e => ({ name: unique(of(e)), user: of(e), dtype: e.dtype, role: 'between', axes: axesOf(e) }),
    partials: f => foldMonoid(f).components.map(c => ({
      name: unique(identifier(`${of(f)} ${c.name === 'total' ? '' : c.name} Parts`)), user: of(f), dtype: c.dtype, role: 'between' as const,
      axes: [{ name: 'splits', size: 'splits' as const }, ...axesOf(f)],
    })),
    of, unique,
  }
}

function defaultName(e: Expr): string {
  switch (e.kind) {
    case 'topK': return e.as
    case 'contract': return 'product'
    case 'reduce': return e.monoid.name
    case 'window': return `${e.pool} pooled`
    case 'tensor': return e.name
    case 'map': return 'mapped'
    default: return e.kind
  }
}

/** A kernel is named after what it stores: `computeVotes`, `selectKept`, `gatherKeys`, `softmaxStatistics`. */
export function groupName(names: Namer, rule: 'point' | 'stream' | 'select', node: Expr, memory: string): string {
  if (memory.endsWith('Parts')) return names.unique(`${names.of(node)}Statistics`)
  const moves = ['gather', 'concat', 'slice', 'rename', 'tensor'].includes(node.kind)
  return names.unique(`${rule === 'select' ? 'select' : moves ? 'gather' : 'compute'}${memory[0]!.toUpperCase()}${memory.slice(1)}`)
}
