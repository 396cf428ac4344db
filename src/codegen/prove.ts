/**
 * A small prover for index comparisons. An index is read as an affine form over atoms (scalars, symbols, coordinates);
 * facts are forms known to be non-negative for every element that counts, such as `length - 1 - position`.
 */
import { sub, type Index } from './index-expr.js'

/** An index that is never negative where the element matters. */
export interface Fact {
  readonly nonNegative: Index
}

interface Atom { coefficient: number; min: number; max: number }
interface Affine { constant: number; atoms: Map<string, Atom> }

function affine(i: Index): Affine {
  const form: Affine = { constant: 0, atoms: new Map() }
  const put = (key: string, coefficient: number, range: { min: number; max: number }): void => {
    const known = form.atoms.get(key)
    if (known === undefined) form.atoms.set(key, { coefficient, min: range.min, max: range.max })
    else if ((known.coefficient += coefficient) === 0) form.atoms.delete(key)
  }
  const walk = (x: Index, factor: number): void => {
    switch (x.op) {
      case 'const': form.constant += factor * x.value; return
      case 'add': walk(x.a, factor); walk(x.b, factor); return
      case 'mul':
        if (x.b.op === 'const') { walk(x.a, factor * x.b.value); return }
        break
      default:
    }
    put(atomKey(x), factor, x)
  }
  walk(i, 1)
  return form
}

/** By how much an index grows with a scalar, if that is a constant. */
export function growth(i: Index, name: string): number | undefined {
  const { atoms } = affine(i)
  const inside = [...atoms.keys()].some(key => key !== name && new RegExp(`(^|[^\\w|<])${name}([^\\w|>]|$)`).test(key))
  return inside ? undefined : atoms.get(name)?.coefficient ?? 0
}

/** Equal keys mean equal values. */
export function atomKey(i: Index): string {
  switch (i.op) {
    case 'const': return String(i.value)
    case 'scalar': return i.name
    case 'symbol': return `|${i.name}|`
    case 'dim': return `<${i.dim.name}>`
    case 'value': return `value${valueId(i.value)}`
    default: return `(${i.op} ${atomKey(i.a)} ${atomKey(i.b)})`
  }
}
const ids = new WeakMap<object, number>()
let nextId = 0
function valueId(v: object): number {
  let id = ids.get(v)
  if (id === undefined) ids.set(v, (id = nextId++))
  return id
}

const least = (f: Affine): number =>
  [...f.atoms.values()].reduce((sum, a) => sum + (a.coefficient > 0 ? a.coefficient * a.min : a.coefficient * a.max), f.constant)

/** Whether i >= 0 for all elements for which the facts hold. */
export function provablyNonNegative(i: Index, facts: readonly Fact[]): boolean {
  if (i.min >= 0 || least(affine(i)) >= 0) return true
  // i = fact + rest with both not negative; two facts at most, as in `0 <= key` and `key < length`.
  return facts.some(f => {
    const rest = sub(i, f.nonNegative)
    return least(affine(rest)) >= 0 || facts.some(g => g !== f && least(affine(sub(rest, g.nonNegative))) >= 0)
  })
}
