/**
 * Barrier placement: the only pass that writes barriers. A shared tile must not be read before all threads have
 * written it, nor written before all have read it. Hazards are tracked in order; a loop is gone through twice, so that
 * what its end leaves behind meets its beginning.
 */
import { flatten, mentions } from './facts.js'
import type { SharedTile, Statement } from './kernel.js'

interface Pending {
  readonly written: Set<SharedTile>
  readonly read: Set<SharedTile>
}

/** The statements with a barrier before each one that needs it. */
export function placeBarriers(body: readonly Statement[]): Statement[] {
  return walk(body, empty())
}

function walk(body: readonly Statement[], pending: Pending): Statement[] {
  const out: Statement[] = []
  for (const s of body) {
    if (s.kind === 'barrier') { clear(pending); out.push(s); continue }
    if (s.kind === 'if') { out.push({ ...s, body: walk(s.body, pending) }); continue }
    if (s.kind === 'for' && s.ring !== undefined) {
      // Copies ahead fill the ring before the loop; each turn waits for its own, and all threads have left the slot that
      // is filled next.
      const touched = s.ring.loads.map(x => x.target)
      if (touched.some(t => pending.written.has(t) || pending.read.has(t))) { clear(pending); out.push({ kind: 'barrier' }) }
      const own = s.body[0]?.kind === 'barrier' && s.body[0].landed !== undefined ? s.body.slice(1) : s.body
      const turn = empty()
      out.push({ ...s, body: [{ kind: 'barrier', landed: s.ring.stages - 2 }, ...walk(own, turn)] })
      // There may be no turn at all: what was open before is open still.
      turn.read.forEach(t => pending.read.add(t))
      turn.written.forEach(t => pending.written.add(t))
      continue
    }
    if (s.kind === 'for') {
      // The second turn starts with what the first one left; barriers found then belong into every turn.
      const turns = (p: Pending): Statement[] => walk(walk(s.body, p), p)
      const inside = turns(copy(pending))
      // Where only what lies before the loop asks for a barrier, one before it does.
      const alone = turns(empty())
      if (count(alone) < count(inside)) {
        clear(pending)
        out.push({ kind: 'barrier' }, { ...s, body: turns(pending) })
      } else out.push({ ...s, body: turns(pending) })
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

const empty = (): Pending => ({ written: new Set(), read: new Set() })
const copy = (p: Pending): Pending => ({ written: new Set(p.written), read: new Set(p.read) })
const count = (body: readonly Statement[]): number => flatten(body).filter(s => s.kind === 'barrier').length

function clear(p: Pending): void {
  p.written.clear()
  p.read.clear()
}
