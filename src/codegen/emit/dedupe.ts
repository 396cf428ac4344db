/** Equal values as one object, so that what occurs twice is seen to. */
import { atomKey } from '../prove.js'
import type { Value } from '../kernel.js'
import { binaryValue, valueChildren } from '../values.js'

const key = (v: Value, ids: ReadonlyMap<Value, number>): string => {
  const below = valueChildren(v).map(c => ids.get(c)).join(' ')
  switch (v.op) {
    case 'const': return `const ${v.dtype} ${Object.is(v.value, -0) ? '-0' : v.value}`
    case 'index': return `index ${v.dtype} ${atomKey(v.index)}`
    case 'local': return `local ${v.name}`
    case 'register': return `register ${v.tile.name}`
    case 'unary': case 'binary': return `${v.name} ${v.dtype} ${below}`
    case 'where': case 'guarded': case 'cast': return `${v.op} ${v.dtype} ${below}`
    case 'load': return `load ${v.memory.name} ${atomKey(v.at)}`
    case 'shared': return `shared ${v.tile.name} ${v.at.map(atomKey).join(' ')}`
    case 'loop': return `loop ${v.variable.name} ${v.monoid.name} ${below}`
  }
}
/** The same values with equal parts as one object. */
export function dedupe(roots: readonly Value[]): Value[] {
  const known = new Map<string, Value>(), ids = new Map<Value, number>(), done = new Map<Value, Value>()
  const visit = (v: Value): Value => {
    const before = done.get(v)
    if (before !== undefined) return before
    const copy = v.op === 'loop' ? v : rebuild(v, visit)
    if (v.op === 'loop') ids.set(v.element, ids.size), ids.set(v.count, ids.size)
    const text = key(copy, ids)
    let one = known.get(text)
    if (one === undefined) { known.set(text, (one = copy)); ids.set(one, ids.size) }
    done.set(v, one)
    return one
  }
  return roots.map(visit)
}
function rebuild(v: Value, f: (v: Value) => Value): Value {
  switch (v.op) {
    case 'unary': case 'cast': return { ...v, a: f(v.a) }
    case 'binary': return binaryValue(v.name, f(v.a), f(v.b))
    case 'where': case 'guarded': return { ...v, condition: f(v.condition), a: f(v.a), b: f(v.b) }
    default: return v
  }
}
