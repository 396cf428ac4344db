/**
 * How a thread of a selection comes by the keys of four neighbours. `keyAt` has the key of any element of the row; where
 * the lowering has found that four can be had at once, `keysWithin` loads what they share in vectors and computes it once;
 * `keysAt` takes one way or the other by the position alone, so that a key has the same bits in every sweep.
 */
import { byteSize } from '../../dsl/dtype.js'
import { coefficient, rowOffset, substitute } from '../lower/neighbours.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { Neighbours, Selection, Value } from '../kernel.js'
import { binaryValue, castValue, localValue, scalarValue, visitValue } from '../values.js'
import { dedupe } from './dedupe.js'
import { foldLines, indexText, nameRepeated, resultValue, valueText } from './expression.js'
import { memoryType, registerType, type Scope } from './terms.js'
import type { Writer } from './writer.js'

type Loop = Extract<Value, { op: 'loop' }>

export const hasLoop = (v: Value): boolean => {
  let found = false
  visitValue(v, x => { if (x.op === 'loop') found = true })
  return found
}

/** A key of the score's text: u32 scores are keys already. */
const keyText = (score: Value, text: string, w: Writer): string => (score.dtype === 'u32' ? text : `${w.use('orderedBits')}(${text})`)

/** A block whose end is a semicolon; on one line if the body is one. */
export function lambda(w: Writer, head: string, body: () => void): void {
  const start = w.lines.length
  w.block(head, body)
  const last = w.lines.length - 1, text = w.lines[last]!
  w.lines[last] = last === start ? `${text.replace(head, `${head} {`)} };` : `${text};`
}

export interface KeyNames { readonly keyAt: string; readonly keysWithin: string; readonly keysAt: string; readonly own: string; readonly shift: string }

/** Writes the functions, and `shift` unless it is 0. */
export function keysLines(x: Selection, w: Writer, scope: Scope, names: KeyNames): void {
  const { neighbours, at } = x, length = indexText(x.length, scope), atom = /^\w+$/.test(length) ? length : `(${length})`
  w.line('// A key is an integer with the order of the score: -infinity < ... < -0 = +0 < ... < infinity < NaN')
  lambda(w, `const auto ${names.keyAt} = [&](i32 ${at.name}) -> u32`, () => {
    const inner: Scope = { ...scope, named: new Map(scope.named) }
    const [score] = dedupe([x.score])
    nameRepeated([score!], inner)
    w.line(`return ${keyText(x.score, valueText(score!, inner), w)};`)
  })
  if (neighbours !== undefined) {
    w.line(`// The keys of 4 neighbours ${neighbours.before + neighbours.after > 4 ? `that have ${neighbours.before} others before and ${neighbours.after - 4} behind them in the row` : 'within the row'}`)
    lambda(w, `const auto ${names.keysWithin} = [&](i32 ${at.name}) -> Vector<u32, 4>`, () => withinLines(neighbours, x, w, scope, names.own))
    if (neighbours.shift.max > 0) w.line(`const i32 ${names.shift} = ${indexText(neighbours.shift, scope)};   // groups of 4 begin so much before a multiple of 4: their vectors are aligned`)
  }
  w.line('// Positions outside the row get 0, which is below every key')
  lambda(w, `const auto ${names.keysAt} = [&](i32 ${at.name}) -> Vector<u32, 4>`, () => {
    const i = at.name, own = names.own
    if (neighbours !== undefined) w.line(`if (${i} >= ${neighbours.before} && ${i} <= ${atom} - ${neighbours.after}) return ${names.keysWithin}(${i});`)
    w.line(`Vector<u32, 4> ${own} = {};`)
    // Rolled up where it is rare or long: registers cannot be indexed, so the four move along.
    w.line(neighbours !== undefined || hasLoop(x.score) ? '#pragma unroll 1' : '#pragma unroll')
    w.block(`for (i32 e = 0; e < 4; ++e)`, () => {
      w.line(`${own} = {${own}.at[1], ${own}.at[2], ${own}.at[3], u32(${i} + e) < u32${atom === length ? `(${length})` : atom} ? ${names.keyAt}(${i} + e) : 0u};`)
    })
    w.line(`return ${own};`)
  })
}

/** An array of registers: element at + i of what it holds is `name[i + offset]`. */
interface Held { readonly name: string; readonly offset: number }

function withinLines(n: Neighbours, x: Selection, w: Writer, scope: Scope, own: string): void {
  const at = x.at.name, rows = new Map<string, Held>()
  const inner: Scope = { ...scope, named: new Map(scope.named) }
  const key = (memory: string, rest: Index): string => `${memory} ${indexText(rest, scope)}`
  for (const r of n.rows) {
    const name = w.fresh(`${r.memory.name}Near`), count = r.to - r.from + 1
    rows.set(key(r.memory.name, r.rest), { name, offset: -r.from })
    const place = indexText(ix.add(ix.add(r.rest, x.at), ix.constant(r.from)), scope)
    w.line(`${memoryType(r.memory.dtype)} ${name}[${count}];`)
    if (r.vectors === true && byteSize[r.memory.dtype] > 1) w.line(`${w.use('loadRow')}(${name}, ${r.memory.name} + (${place}));`)
    else w.line(`for (i32 e = 0; e < ${count}; ++e) ${name}[e] = ${r.memory.name}[${indexText(ix.add(ix.add(r.rest, x.at), ix.constant(r.from)), scope)} + e];`)
  }
  const done = new Map<Value, Held>()
  const subscript = (counter: string, by: number): string => (by === 0 ? counter : by < 0 ? `${counter} - ${-by}` : `${counter} + ${by}`)
  /** The value at position at + counter + by, the variables of windows being 0. */
  const shifted = (v: Value, counter: string, by: number, variables: readonly string[]): Value => {
    const held = done.get(v)
    if (held !== undefined) return localValue(`${held.name}[${subscript(counter, by + held.offset)}]`, v.dtype)
    const index = (i: Index): Index => {
      const moved = ix.add(ix.add(x.at, ix.scalar(counter, ix.longest)), ix.constant(by))
      return substitute(i, new Map([[at, moved], ...variables.map(name => [name, ix.zero] as const)]))
    }
    const down = (c: Value): Value => shifted(c, counter, by, variables)
    switch (v.op) {
      case 'load': {
        if (coefficient(v.at, at) !== 1) return v
        const { rest, constant } = rowOffset(v.at, at, variables), row = rows.get(key(v.memory.name, rest))!
        const text = `${row.name}[${subscript(counter, by + constant + row.offset)}]`
        return localValue(v.dtype === 'bool' ? `(${text} != 0)` : text, v.dtype)
      }
      case 'index': return { ...v, index: index(v.index) }
      case 'unary': case 'cast': return { ...v, a: down(v.a) }
      case 'binary': return binaryValue(v.name, down(v.a), down(v.b))
      case 'where': return { ...v, condition: down(v.condition), a: down(v.a), b: down(v.b) }
      default: return v
    }
  }
  /** Arrays for the windows within, innermost first: `v` is wanted at positions at + from .. at + to. */
  const windows = (v: Value, from: number, to: number, variables: readonly string[]): void => {
    if (done.has(v)) return
    if (v.op !== 'loop') { below(v).forEach(c => windows(c, from, to, variables)); return }
    const steps = v.to.op === 'const' ? v.to.value : 0, all = [...variables, v.variable.name]
    windows(v.element, from, to + steps - 1, all)
    done.set(v, windowLines(v, from, to, steps, elementsOf(v, from, to + steps - 1, all)))
  }
  const below = (v: Value): readonly Value[] => (v.op === 'unary' || v.op === 'cast' ? [v.a] : v.op === 'binary' ? [v.a, v.b] : v.op === 'where' ? [v.condition, v.a, v.b] : [])
  /** What a window goes over: a loaded row as it is, else computed once. */
  const elementsOf = (v: Loop, from: number, to: number, variables: readonly string[]): Held => {
    const plain = v.element.op === 'load' && v.element.dtype === 'f32' && coefficient(v.element.at, at) === 1
    if (plain && v.element.op === 'load') {
      const { rest, constant } = rowOffset(v.element.at, at, variables), row = rows.get(key(v.element.memory.name, rest))!
      return { name: row.name, offset: row.offset + constant }
    }
    const known = done.get(v.element)
    if (known !== undefined) return known
    const name = w.fresh('near')
    w.line(`${registerType(v.element.dtype)} ${name}[${to - from + 1}];`)
    unrolled(to - from + 1, () => assign(`${name}[e]`, shifted(v.element, 'e', from, variables)))
    return { name, offset: -from }
  }
  const unrolled = (count: number, body: () => void): void => {
    w.line('#pragma unroll')
    w.block(`for (i32 e = 0; e < ${count}; ++e)`, body)
  }
  const assign = (target: string, value: Value): void => {
    const [one] = dedupe([value]), own: Scope = { ...inner, named: new Map(inner.named) }
    nameRepeated([one!], own)
    w.line(`${target} = ${valueText(one!, own)};`)
  }
  const windowLines = (v: Loop, from: number, to: number, steps: number, elements: Held): Held => {
    const m = v.monoid, c = m.components[0]!, count = to - from + 1, first = from + elements.offset
    const name = w.fresh(m.name === 'max' ? 'most' : 'folded')
    const element = (i: string): string => `${elements.name}[${i}]`
    if (m.name === 'max' && count === 4 && steps > 4) {
      const max = w.use('maximum'), core = w.fresh('core'), [left, right] = [w.fresh('left'), w.fresh('right')]
      w.line(`// What the 4 windows of ${steps} have in common, and what only those to the left and to the right have`)
      w.line(`f32 ${name}[4], ${core} = ${element(String(first + 3))}, ${left} = ${element(String(first + 2))}, ${right} = ${element(String(first + steps))};`)
      w.line(`for (i32 e = ${first + 4}; e < ${first + steps}; ++e) ${core} = ${max}(${core}, ${element('e')});`)
      w.line(`${name}[0] = ${name}[1] = ${name}[2] = ${name}[3] = ${core};`)
      w.line('#pragma unroll')
      w.block('for (i32 e = 0; e < 3; ++e)', () => {
        w.line(`if (e > 0) ${left} = ${max}(${left}, ${element(`${first + 2} - e`)}), ${right} = ${max}(${right}, ${element(`${first + steps} + e`)});`)
        w.line(`${name}[2 - e] = ${max}(${name}[2 - e], ${left}), ${name}[1 + e] = ${max}(${name}[1 + e], ${right});`)
      })
      return { name, offset: 0 }
    }
    w.line(`${registerType(v.dtype)} ${name}[${count}];`)
    unrolled(count, () => {
      const own: Scope = { ...inner, named: new Map(inner.named) }, total = w.fresh(m.name === 'max' ? 'most' : 'sum'), i = w.fresh('i')
      w.line(`${registerType(c.dtype)} ${total} = ${valueText(scalarValue(c.identity, () => { throw new Error('an identity has no variables') }), own)};`)
      w.block(`for (i32 ${i} = 0; ${i} < ${steps}; ++${i})`, () =>
        foldLines(m, () => total, localValue(element(`e + ${i}${first === 0 ? '' : ` + ${first}`}`), v.element.dtype), castValue({ op: 'index', index: ix.scalar(i, steps), dtype: 'i32' }, 'i32'), own))
      w.line(`${name}[e] = ${valueText(resultValue(m, () => localValue(total, c.dtype), v.count), own)};`)
    })
    return { name, offset: -from }
  }
  windows(n.score, 0, 3, [])
  w.line(`Vector<u32, 4> ${own};`)
  unrolled(4, () => {
    const [value] = dedupe([shifted(n.score, 'e', 0, [])]), one: Scope = { ...inner, named: new Map(inner.named) }
    nameRepeated([value!], one)
    w.line(`${own}.at[e] = ${keyText(n.score, valueText(value!, one), w)};`)
  })
  w.line(`return ${own};`)
}
