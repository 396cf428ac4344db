/**
 * Values and indices as C++ expressions. What an element needs more than once, and every loop, becomes lines before the
 * statement that uses it; a guarded side is never taken out of its guard.
 */
import type { Dtype } from '../../dsl/dtype.js'
import type { Monoid } from '../../dsl/monoid.js'
import type { BinaryName, UnaryName } from '../../dsl/scalar.js'
import type { Index } from '../index-expr.js'
import { packOf, registers, rowPitch, type Dim, type RegisterTile, type SharedTile, type Value } from '../kernel.js'
import { castValue, localValue, scalarValue, valueChildren, valueIndices } from '../values.js'
import { constant, indexChildren, mul } from '../index-expr.js'
import { dedupe } from './dedupe.js'
import { addsUp, widens, written64 } from './index-width.js'
import { ctype, laneName, literalText, memoryType, paren, symbolName, type Scope, type Text } from './terms.js'
import { liesAlongThreads } from './threads.js'
import type { Writer } from './writer.js'

// ---------------------------------------------------------------------------------------------- indices

export const indexText = (i: Index, s: Scope): string => indexParts(i, s)[0]

function indexParts(i: Index, s: Scope): Text {
  switch (i.op) {
    case 'const': return [String(i.value), i.value < 0 ? 0 : 3]
    case 'scalar': return [i.name, 3]
    case 'symbol': return [symbolName(i.name), 3]
    case 'dim': return coordinate(i.dim, s)
    case 'value': {
      const [text, precedence] = valueParts(i.value, s.vector === 1 ? s : { ...s, vector: 1 })
      return [text, precedence >= 9 ? 3 : precedence === 7 ? 2 : precedence === 6 ? 1 : 0]
    }
    case 'add': {
      const own = indexParts(i.a, s), left = widens(i) ? `i64(${own[0]})` : paren(own, 1)
      if (i.b.op === 'const' && i.b.value < 0) return [`${left} - ${-i.b.value}`, 1]
      if (i.b.op === 'mul' && i.b.b.op === 'const' && i.b.b.value < 0) {
        const negated = mul(i.b.a, constant(-i.b.b.value))
        if (written64(negated) === written64(i.b)) return [`${left} - ${paren(indexParts(negated, s), 2)}`, 1]
      }
      return [`${left} + ${paren(indexParts(i.b, s), addsUp(i.a, written64(i.a) || widens(i), i.b) ? 1 : 2)}`, 1]
    }
    case 'mul': {
      // 64 bits where 32 cannot be proven: one wide operand makes the product wide.
      const a = indexParts(i.a, s), left = widens(i) ? `i64(${a[0]})` : paren(a, 2)
      return [`${left} * ${paren(indexParts(i.b, s), 3)}`, 2]
    }
    case 'div': return [`${paren(indexParts(i.a, s), 2)} / ${paren(indexParts(i.b, s), 3)}`, 2]
    case 'mod': return [`${paren(indexParts(i.a, s), 2)} % ${paren(indexParts(i.b, s), 3)}`, 2]
    case 'min': case 'max': {
      const both = written64(i.a) === written64(i.b)
      const part = (x: Index): string => (both || written64(x) ? indexText(x, s) : `i64(${indexText(x, s)})`)
      return [`${i.op}(${part(i.a)}, ${part(i.b)})`, 3]
    }
  }
}
function coordinate(d: Dim, s: Scope): Text {
  const register = s.registers.get(d)
  const lane = liesAlongThreads(d) ? laneName(d) : undefined
  if (lane === undefined) return [register ?? '0', 3]
  if (registers(d) === 1) return [lane, 3]
  if (register === undefined) throw new Error(`no register variable for ${d.name}`)
  const pack = packOf(d)
  if (pack === 1) return [`${d.threads === 1 ? register : `${register} * ${d.threads}`} + ${lane}`, 1]
  if (registers(d) === pack) return [`${lane} + ${register}`, 1]
  return [`${register} / ${pack} * ${d.threads * pack} + ${lane} + ${register} % ${pack}`, 1]
}

/** The own element of a register tile, `scores[groupI][keyI]`. */
export function registerText(t: RegisterTile, s: Scope): string {
  return t.name + t.dims.filter(d => registers(d) > 1).map(d => `[${s.registers.get(d) ?? missing(t, d)}]`).join('')
}
const missing = (t: RegisterTile, d: Dim): never => { throw new Error(`${t.name}: no loop over ${d.name}`) }

/**
 * The element offset within a shared tile, or within its stage `slot`. Rows of a swizzled tile have their chunks of 8 in
 * another order, which the row decides; `vector`: the last position is a multiple of so many.
 */
export function sharedOffset(t: SharedTile, at: readonly Index[], s: Scope, slot?: string, vector = 1): string {
  const extents = t.axes.map((a, i) => (i === t.axes.length - 1 ? rowPitch(t) : a.extent))
  let text: Text = slot === undefined ? ['0', 3] : [slot, 3]
  at.forEach((i, n) => {
    const own: Text = n === at.length - 1 && t.swizzle === true ? swizzled(indexParts(i, s), indexParts(at[n - 1]!, s), vector) : indexParts(i, s)
    text = text[0] === '0' ? own : own[0] === '0' ? [`${paren(text, 2)} * ${extents[n]}`, 2] : [`${paren(text, 2)} * ${extents[n]} + ${paren(own, 1)}`, 1]
  })
  return text[0]
}
// All but the last two axes of a swizzled tile, and its stages, have multiples of 8 rows: the last of them decides.
const swizzled = (i: Text, row: Text, vector: number): Text => vector === 8 ? [`(${paren(i, 2)} / 8 ^ ${paren(row, 2)} % 8) * 8`, 2]
  : [`(${paren(i, 2)} / 8 ^ ${paren(row, 2)} % 8) * 8 + ${paren(i, 2)} % 8`, 1]

// ---------------------------------------------------------------------------------------------- values

const infix: { readonly [N in BinaryName]?: readonly [string, number] } = {
  mul: ['*', 7], div: ['/', 7], add: ['+', 6], sub: ['-', 6], lt: ['<', 5], le: ['<=', 5], gt: ['>', 5], ge: ['>=', 5],
  eq: ['==', 4], ne: ['!=', 4], and: ['&&', 3], or: ['||', 2],
}
const functions = {
  exp: 'expFast', exp2: 'exp2Fast', log: 'logf', log2: 'log2f', sqrt: 'sqrtf', rsqrt: 'rsqrtf', sin: 'sinf', cos: 'cosf',
  tanh: 'tanhf', floor: 'floorf', ceil: 'ceilf', round: 'rintf', trunc: 'truncf', abs: 'fabsf',
} as const satisfies { readonly [N in UnaryName]?: string }

export const valueText = (v: Value, s: Scope): string => valueParts(v, s)[0]
const tight = (v: Value, s: Scope, atLeast: number): string => {
  const [text, precedence] = valueParts(v, s)
  return precedence >= atLeast ? text : `(${text})`
}

function valueParts(v: Value, s: Scope): Text {
  const { w } = s
  const name = s.named.get(v)
  if (name !== undefined) return [name, 9]
  if (s.vector > 1 && v.op === 'const') return [`Vector<${memoryType(v.dtype)}, ${s.vector}>{}`, 9]
  switch (v.op) {
    case 'const': { const text = literalText(v.value, v.dtype, w); return [text, text.startsWith('-') ? 8 : 9] }
    case 'local': return [v.name, 9]
    case 'index': {
      const [text, precedence] = indexParts(v.index, s)
      if (v.dtype === 'i32' && written64(v.index)) return [`i32(${text})`, 9]
      return v.dtype === 'i32' ? [text, precedence === 3 ? 9 : precedence === 2 ? 7 : precedence === 1 ? 6 : 0] : [`${ctype[v.dtype]}(${text})`, 9]
    }
    case 'register': return [registerText(v.tile, s), 9]
    case 'shared': return [`${v.tile.name}[${sharedOffset(v.tile, v.at, s)}]`, 9]
    case 'load': {
      if (s.vector > 1) return [`${w.use('loadVector')}<${s.vector}>(${v.memory.name} + (${indexText(v.at, s)}))`, 9]
      const text = `${v.memory.name}[${indexText(v.at, s)}]`
      return v.dtype === 'bool' ? [`${text} != 0`, 4] : [text, 9]
    }
    case 'unary': return unaryText(v, s)
    case 'binary': return binaryText(v, s)
    case 'where': return [`${tight(v.condition, s, 2)} ? ${tight(v.a, s, 2)} : ${tight(v.b, s, 1)}`, 1]
    case 'guarded': return [`${tight(v.condition, s.vector === 1 ? s : { ...s, vector: 1 }, 2)} ? ${guardedSide(v.a, s, 2)} : ${guardedSide(v.b, s, 1)}`, 1]
    case 'cast': return castText(v.a, v.dtype, s)
    case 'loop': return [loopText(v, s), 9]
  }
}

/** A side that may not be evaluated: nothing of it may move before the statement. */
function guardedSide(v: Value, s: Scope, atLeast: number): string {
  const lines = s.w.lines.length
  const text = tight(v, s, atLeast)
  if (s.w.lines.length !== lines) throw new Error('a guarded value needs lines of its own: the planner should have cut there')
  // A proxy of the checked build has no common type with a constant.
  return v.op === 'load' && s.vector === 1 && v.dtype !== 'bool' ? `${memoryType(v.dtype)}(${text})` : text
}

function unaryText(v: Extract<Value, { op: 'unary' }>, s: Scope): Text {
  switch (v.name) {
    case 'neg': return v.dtype === 'i32' ? [`i32(0u - u32(${valueText(v.a, s)}))`, 9] : v.dtype === 'u32' ? [`0u - ${tight(v.a, s, 7)}`, 6] : [`-${tight(v.a, s, 8).replace(/^-.*$/s, '($&)')}`, 8]
    case 'not': return [`!${tight(v.a, s, 8)}`, 8]
    case 'isNaN': { const x = tight(v.a, s, 5); return [`${x} != ${x}`, 4] }
    case 'abs':
      if (v.dtype === 'u32') return valueParts(v.a, s)
      if (v.dtype === 'i32') { const x = tight(v.a, s, 8); return [`${x} < 0 ? i32(0u - u32(${x})) : ${x}`, 1] }
      return [`fabsf(${valueText(v.a, s)})`, 9]
    default: {
      if (v.name === 'exp') s.w.use('expFast')
      if (v.name === 'exp2') s.w.use('exp2Fast')
      return [`${functions[v.name]}(${valueText(v.a, s)})`, 9]
    }
  }
}

function binaryText(v: Extract<Value, { op: 'binary' }>, s: Scope): Text {
  const integer = v.a.dtype === 'i32' || v.a.dtype === 'u32'
  if (v.name === 'min' || v.name === 'max') {
    const f = integer ? v.name : s.w.use(v.name === 'min' ? 'minimum' : 'maximum')
    return [`${f}(${valueText(v.a, s)}, ${valueText(v.b, s)})`, 9]
  }
  if (v.name === 'pow') return [`powf(${valueText(v.a, s)}, ${valueText(v.b, s)})`, 9]
  if (v.name === 'mod' || (v.name === 'div' && integer)) {
    const f = s.w.use(v.name === 'mod' ? 'floorModulo' : 'floorDivide'), type = v.name === 'mod' ? `<${ctype[v.a.dtype]}>` : ''
    return [`${f}${type}(${valueText(v.a, s)}, ${valueText(v.b, s)})`, 9]
  }
  const [symbol, precedence] = infix[v.name]!
  if (v.dtype === 'i32' && (v.name === 'add' || v.name === 'sub' || v.name === 'mul')) {
    // The language wraps around; signed overflow is undefined in C++.
    return [`i32(u32(${valueText(v.a, s)}) ${symbol} u32(${valueText(v.b, s)}))`, 9]
  }
  return [`${tight(v.a, s, precedence)} ${symbol} ${tight(v.b, s, precedence + 1)}`, precedence]
}

function castText(a: Value, to: Dtype, s: Scope): Text {
  const { w } = s
  const from = a.dtype, text = (): string => valueText(a, s)
  if (from === 'f16' || from === 'bf16') {
    const widened = `${w.use(from === 'f16' ? 'fromF16' : 'fromBf16')}(${text()})`
    return to === 'f32' ? [widened, 9] : castFromF32(widened, to, w)
  }
  if (from === 'f32') return castFromF32(text(), to, w)
  if (to === 'bool') return [`${tight(a, s, 5)} != 0`, 4]
  const number = to === 'f16' || to === 'bf16' ? `f32(${text()})` : `${ctype[to]}(${text()})`
  return to === 'f16' || to === 'bf16' ? castFromF32(number, to, w) : [number, 9]
}
function castFromF32(text: string, to: Dtype, w: Writer): Text {
  switch (to) {
    case 'f32': return [text, 9]
    case 'bool': return [`(${text}) != 0.f`, 4]
    default: return [`${w.use(({ f16: 'toF16', bf16: 'toBf16', i32: 'toI32', u32: 'toU32' } as const)[to])}(${text})`, 9]
  }
}

// ---------------------------------------------------------------------------------------------- folds

/** Components that become combine(components, b), as lines. Shared parts get names first. */
export function combineLines(m: Monoid, own: (component: string) => string, b: (component: string) => Value, s: Scope): void {
  const dtype = (c: string): Dtype => m.components.find(x => x.name === c)!.dtype
  const inner: Scope = { ...s, named: new Map(s.named) }
  // One Value per printed operand, so that equal parts are one object and are named once.
  const aValues = new Map(m.components.map(c => [c.name, localValue(own(c.name), c.dtype)]))
  const bValues = new Map(m.components.map(c => [c.name, b(c.name)]))
  const results = m.components.map(c => scalarValue(c.combine, n =>
    n.startsWith('a.') ? aValues.get(n.slice(2))! : n.startsWith('b.') ? bValues.get(n.slice(2))! : localValue(n, dtype(n))))
  const shared = dedupe(results)
  nameRepeated(shared, inner)
  if (m.components.length === 1) {
    const c = m.components[0]!, result = shared[0]!
    const target = own(c.name)
    if (result.op === 'binary' && result.name === 'add' && result.dtype !== 'i32' && result.a.op === 'local' && result.a.name === target) {
      s.w.line(`${target} += ${valueText(result.b, inner)};`)
    } else s.w.line(`${target} = ${valueText(result, inner)};`)
    return
  }
  // All components are read before the first is written.
  const next = m.components.map((c, i) => {
    const known = inner.named.get(shared[i]!)
    if (known !== undefined) return known
    const name = s.w.fresh(`${c.name}Next`)
    s.w.line(`const ${ctype[c.dtype]} ${name} = ${valueText(shared[i]!, inner)};`)
    return name
  })
  m.components.forEach((c, i) => s.w.line(`${own(c.name)} = ${next[i]};`))
}

/** combine(components, lift(element)). */
export function foldLines(m: Monoid, own: (component: string) => string, element: Value, position: Value, s: Scope): void {
  const [c] = m.components
  if (m.components.length === 1 && c!.combine.op === 'binary' && c!.combine.name === 'add' && c!.dtype === 'f32' && c!.lift.op === 'var' &&
    element.op === 'binary' && element.name === 'mul' && !s.named.has(element)) {
    s.w.line(`${own(c!.name)} = ${s.w.use('multiplyAdd')}(${valueText(element.a, s)}, ${valueText(element.b, s)}, ${own(c!.name)});`)
    return
  }
  let x = element
  const times = m.components.length > 1 || element.op === 'shared' || element.op === 'load'
  if (times && element.op !== 'register' && element.op !== 'local') {
    const name = s.w.fresh('x')
    s.w.line(`const ${ctype[element.dtype]} ${name} = ${valueText(element, s)};`)
    x = localValue(name, element.dtype)
  }
  const lifted = new Map(m.components.map(k => [k.name, scalarValue(k.lift, n => (n === 'x' ? x : n === 'at' ? position : localValue(n, 'f32')))]))
  combineLines(m, own, n => lifted.get(n)!, s)
}

export const resultValue = (m: Monoid, own: (component: string) => Value, count: Value): Value =>
  scalarValue(m.result, n => (n === 'count' ? count : own(n)))

function loopText(v: Extract<Value, { op: 'loop' }>, s: Scope): string {
  const { w } = s, m = v.monoid
  const names = new Map(m.components.map(c => [c.name, w.fresh(m.components.length === 1 ? (m.name === 'sum' || m.name === 'mean' ? 'sum' : m.name === 'max' ? 'most' : 'folded') : c.name)]))
  for (const c of m.components) w.line(`${ctype[c.dtype]} ${names.get(c.name)} = ${valueText(scalarValue(c.identity, () => missingIdentity()), s)};`)
  w.block(`for (i32 ${v.variable.name} = ${indexText(v.from, s)}; ${v.variable.name} < ${indexText(v.to, s)}; ++${v.variable.name})`, () => {
    const inner: Scope = { ...s, named: new Map(s.named) }
    if (v.parts !== undefined) {
      const parts = dedupe(v.parts)
      nameRepeated(parts, inner)
      combineLines(m, c => names.get(c)!, c => parts[m.components.findIndex(x => x.name === c)]!, inner)
      return
    }
    nameRepeated([v.element], inner)
    foldLines(m, c => names.get(c)!, v.element, castValue({ op: 'index', index: v.position, dtype: 'i32' }, 'i32'), inner)
  })
  const result = resultValue(m, c => localValue(names.get(c)!, m.components.find(x => x.name === c)!.dtype), v.count)
  const text = valueText(result, s)
  if (result.op === 'local') { s.named.set(v, text); return text }
  const name = w.fresh('folded')
  w.line(`const ${ctype[v.dtype]} ${name} = ${text};`)
  s.named.set(v, name)
  return name
}
const missingIdentity = (): never => { throw new Error('an identity has no variables') }

// ---------------------------------------------------------------------------------------------- shared parts

/** Names every part that occurs more than once and is worth it. Guarded sides and loops' insides stay where they are. */
export function nameRepeated(roots: readonly Value[], s: Scope): void {
  const uses = new Map<Value, number>(), order: Value[] = [], plain = new Set<Value>()
  // Indices and conditions are single numbers even where elements move in vectors.
  const visit = (v: Value, single: boolean): void => {
    const n = uses.get(v) ?? 0
    uses.set(v, n + 1)
    if (n > 0) return
    if (single) plain.add(v)
    if (v.op === 'guarded') visit(v.condition, true)
    else if (v.op !== 'loop') valueChildren(v).forEach(c => visit(c, single))
    const index = (i: Index): void => { if (i.op === 'value') visit(i.value, true); indexChildren(i).forEach(index) }
    if (v.op !== 'loop') valueIndices(v).forEach(index)
    order.push(v)
  }
  roots.forEach(r => visit(r, false))
  for (const v of order) {
    if (uses.get(v)! < 2 || s.named.has(v) || ['const', 'index', 'register', 'local'].includes(v.op) || (v.op === 'cast' && v.a.op === 'register')) continue
    const single = s.vector === 1 || plain.has(v)
    const text = valueText(v, single ? { ...s, vector: 1 } : s)
    if (s.named.has(v)) continue   // a loop has named itself
    const name = s.w.fresh(v.op === 'load' ? `${v.memory.name}Here` : v.op === 'binary' && v.name === 'max' ? 'larger' : 'x')
    s.w.line(`const ${single ? ctype[v.dtype] : `Vector<${memoryType(v.dtype)}, ${s.vector}>`} ${name} = ${text};`)
    s.named.set(v, name)
  }
}
