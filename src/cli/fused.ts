/** What a kernel fused, in few words. */
import type { Expr } from '../dsl/expr.js'
import { printMonoid } from '../dsl/monoid.js'
import { fusedNodes } from '../codegen/explain.js'
import type { Group } from '../codegen/plan.js'

/** What a kernel does, in the order it does it; runs of the same are counted. */
export function fused(g: Group): string {
  const words: { text: string; times: number }[] = []
  for (const e of fusedNodes(g)) {
    const text = word(e), last = words.at(-1)
    if (last?.text === text) last.times += 1
    else words.push({ text, times: 1 })
  }
  return words.map(w => (w.times === 1 ? w.text : `${w.text} ×${w.times}`)).join(', ')
}
export function word(e: Expr): string {
  switch (e.kind) {
    case 'contract': case 'reduce': return `${e.kind === 'reduce' ? printMonoid(e.monoid).split(/[ .{]/)[0] : 'contract'} over ${e.over.join(' ')}`
    case 'window': return `${e.pool} pooling ${e.size}`
    case 'topK': return `top-k over ${e.axis}`
    case 'cast': return `cast to ${e.dtype}`
    default: return e.kind
  }
}
