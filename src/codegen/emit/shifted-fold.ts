/**
 * A fold whose components are sums relative to a shift (`rescale` of a monoid), many elements at once: first the shift of
 * all of them, then one change of the sums so far, then each element's share. For the pair (maximum, sum of
 * exponentials) that is one exponential an element and one for the change, where one by one it is two an element
 * (Milakov and Gimelshein 2018; the form by blocks is that of Dao et al. 2022).
 */
import type { Monoid } from '../../dsl/monoid.js'
import { registers, type Dim, type Value } from '../kernel.js'
import { localValue, scalarValue } from '../values.js'
import { dedupe } from './dedupe.js'
import { nameRepeated, valueText } from './expression.js'
import { type Scope } from './terms.js'
import type { Writer } from './writer.js'

export interface ShiftedFold {
  /** The text of a component. */
  own(component: string): string
  readonly scope: Scope
  /** Goes over the elements that are folded. */
  each(body: (scope: Scope) => void): void
  /** The condition under which an element takes part, if it is not certain. */
  guard(scope: Scope): string | undefined
}

export function shiftedFold(m: Monoid, element: Value, over: readonly Dim[], w: Writer, f: ShiftedFold): void {
  const { shift, factor } = m.rescale!, top = m.components.find(c => c.name === shift)!
  const sums = m.components.filter(c => c !== top)
  const next = w.fresh(`${shift}Next`), x = w.fresh('x'), scale = w.fresh('scale')
  const here = (scope: Scope): string => x + over.map(d => `[${scope.registers.get(d)}]`).join('')
  const lifted = (component: typeof top, scope: Scope): Value => scalarValue(component.lift, () => localValue(here(scope), m.takes))
  const change = (from: Value, to: string, scope: Scope): string => {
    const [value] = dedupe([scalarValue(factor, n => (n === 'from' ? from : localValue(to, 'f32')))])
    return valueText(value!, scope)
  }
  w.line(`f32 ${next} = ${f.own(shift)}, ${x}${over.map(d => `[${registers(d)}]`).join('')};`)
  f.each(scope => {
    const [value] = dedupe([element]), condition = f.guard(scope), start = w.lines.length
    nameRepeated([value!], scope)
    const text = valueText(value!, scope), needed = w.lines.splice(start)
    const identity = valueText(scalarValue(top.identity, unknown), scope)
    if (condition === undefined || needed.length === 0) {
      w.lines.push(...needed)
      w.line(`${here(scope)} = ${condition === undefined ? text : `${condition} ? ${/[?]/.test(text) ? `(${text})` : text} : ${identity}`};`)
    } else {   // lines of the element's own, loads among them, stay under the guard
      w.line(`${here(scope)} = ${identity};`)
      w.block(`if (${condition})`, () => { w.lines.push(...needed.map(line => `  ${line}`)); w.line(`${here(scope)} = ${text};`) })
    }
    w.line(`${next} = ${valueText(scalarValue(top.combine, n => (n === `a.${shift}` ? localValue(next, 'f32') : lifted(top, scope))), scope)};`)
  })
  w.line(`const f32 ${scale} = ${change(localValue(f.own(shift), 'f32'), next, f.scope)};`)
  for (const c of sums) w.line(`${f.own(c.name)} *= ${scale};`)
  w.line(`${f.own(shift)} = ${next};`)
  f.each(scope => {
    for (const c of sums) {
      const share = change(lifted(top, scope), next, scope), own = lifted(c, scope), condition = f.guard(scope)
      const text = own.op === 'const' && own.value === 1 ? share : `${valueText(own, scope)} * ${share}`
      w.line(`${f.own(c.name)} += ${condition === undefined ? text : `${condition} ? ${text} : 0.f`};`)
    }
  })
}
const unknown = (): never => { throw new Error('an identity has no variables') }
