/**
 * Barrier placement: the only pass that writes barriers. A shared tile must not be read before all threads have
 * written it, nor written before all have read it. Hazards are tracked in order; a loop is gone through twice, so that
 * what its end leaves behind meets its beginning.
 */
import { mentions } from './facts.js'
import type { SharedTile, Statement } from './kernel.js'

interface Pending {
  readonly written: Set<SharedTile>
  readonly read: Set<SharedTile>
}

/** The statements with a barrier before each one that needs it. */
export function placeBarriers(body: readonly Statement[]): Statement[] {
  return walk(body, { written: new Set(), read: new Set() })
}

function walk(body: readonly Statement[], pending: Pending): Statement[] {
  const out: Statement[] = []
  for (const s of body) {
    if (s.kind === 'barrier') { clear(pending); out.push(s); continue }
    if (s.kind === 'for' || s.kind === 'if') {
      const once = walk(s.body, pending)
      // The second turn starts with what the first one left; barriers found then belong into every turn.
      const placed = s.kind === 'for' ? walk(once, pending) : once
      out.push({ ...s, body: placed })
      continue
    }
    const m = mentions(s)
    const hazard = m.sharedRead.some(t => pending.written.has(t)) || m.sharedWritten.some(t => pending.written.has(t) || pending.read.has(t))
    if (hazard) { clear(pending); out.push({ kind: 'barrier' }) }
    m.sharedRead.forEach(t => pending.read.add(t))
    m.sharedWritten.forEach(t => pending.written.add(t))
    out.push(s)
  }
  return out
}

function clear(p: Pending): void {
  p.written.clear()
  p.read.clear()
}
