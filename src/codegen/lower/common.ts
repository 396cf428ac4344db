/** What all lowering rules share: which arrays a body touches, and the comments that name the user's nodes. */
import { payload, topological, type Expr, children } from '../../dsl/expr.js'
import { flatten, mentions } from '../facts.js'
import type { Memory, Statement, Value } from '../kernel.js'
import { visitValue } from '../values.js'
import { open, type Stored } from './value.js'

/** The arrays that a body reads, in order of first use. */
export function memoriesIn(body: readonly Statement[]): Memory[] {
  const found = new Set<Memory>()
  const see = (v: Value): void => { if (v.op === 'load') found.add(v.memory) }
  for (const s of flatten(body)) {
    const m = mentions(s)
    m.values.forEach(x => visitValue(x, see))
    m.indices.forEach(i => { if (i.op === 'value') visitValue(i.value, see) })
  }
  return [...found]
}

/** Names that a kernel's own must not hide. */
export const memoryNames = (stored: ReadonlyMap<Expr, Stored>): string[] =>
  [...stored.values()].flatMap(s => (s.form === 'array' ? [s.memory.name] : s.memories.map(m => m.name)))

/** Whether a body mentions the number of splits of some array it reads. */
export function mentionsSplits(body: readonly Statement[]): boolean {
  return flatten(body).some(s => mentions(s).indices.some(i => i.op === 'scalar' && i.name === 'splits'))
}

/** Children in this kernel: what is stored already is a leaf. */
export const within = (stored: ReadonlyMap<Expr, Stored>) => (e: Expr): readonly Expr[] => {
  const node = open(e)
  return node !== e ? [node] : stored.has(node) ? [] : children(node)
}

const quiet = new Set(['tensor', 'const', 'iota', 'composite'])

/**
 * What is computed, one comment per source line of the user's. `leaf`: nodes that are computed elsewhere in the kernel
 * and have their comments there.
 */
export function nodeComments(roots: readonly Expr[], stored: ReadonlyMap<Expr, Stored>, leaf: (e: Expr) => boolean = () => false): Statement[] {
  const below = within(stored)
  const nodes = topological(roots.map(open), e => (leaf(e) && !roots.includes(e) ? [] : below(e))).filter(e => !leaf(e) || roots.includes(e))
    .filter(e => !quiet.has(e.kind) && !(stored.has(e) && !roots.map(open).includes(e)))
  const byLine = new Map<string, Expr[]>()
  for (const e of nodes) {
    const line = e.source === undefined ? '' : `${e.source.file}:${e.source.line}`
    byLine.set(line, [...(byLine.get(line) ?? []), e])
  }
  return [...byLine.values()].map(list => ({
    kind: 'comment', source: list[list.length - 1]!.source,
    text: list.map(describe).join('; '),
  }))
}

/** A node in a few words. */
export function describe(e: Expr): string {
  switch (e.kind) {
    case 'reduce': return `${e.monoid.name} over ${e.over.join(' ')}`
    case 'map': return payload(e).replace(/^.*=> /, '')
    default: return `${e.kind} ${payload(e)}`
  }
}
