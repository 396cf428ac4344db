/** Constructors of kernel values that simplify on the way: constants fold, index arithmetic stays index arithmetic. */
import { isFloat, round, type Dtype } from '../dsl/dtype.js'
import { binary, unary, type BinaryName, type Scalar, type UnaryName } from '../dsl/scalar.js'
import { fixedSize, type Size } from '../dsl/size.js'
import * as ix from './index-expr.js'
import type { Index } from './index-expr.js'
import type { Memory, RegisterTile, SharedTile, Value } from './kernel.js'
import { atomKey, provablyNonNegative, type Fact } from './prove.js'

export const constantValue = (value: number, dtype: Dtype): Value => ({ op: 'const', value: round[dtype](value), dtype })
export const yes = constantValue(1, 'bool')
export const no = constantValue(0, 'bool')
export const indexValue = (index: Index, dtype: Dtype = 'i32'): Value =>
  index.op === 'const' ? constantValue(index.value, dtype) : index.op === 'value' && index.value.dtype === dtype ? index.value : { op: 'index', index, dtype }
export const registerValue = (tile: RegisterTile): Value => ({ op: 'register', tile, dtype: tile.dtype })
export const sharedValue = (tile: SharedTile, at: readonly Index[]): Value => ({ op: 'shared', tile, at, dtype: tile.dtype })
export const loadValue = (memory: Memory, at: Index): Value => ({ op: 'load', memory, at, dtype: memory.dtype })
export const localValue = (name: string, dtype: Dtype): Value => ({ op: 'local', name, dtype })

const isConst = (v: Value): v is Extract<Value, { op: 'const' }> => v.op === 'const'
const is = (v: Value, value: number): boolean => v.op === 'const' && Object.is(v.value, value)
const asIndex = (v: Value): Index | undefined =>
  v.dtype !== 'i32' ? undefined : v.op === 'index' ? v.index : v.op === 'const' ? ix.constant(v.value) : undefined
const inI32 = (i: Index): boolean => i.min >= -(2 ** 31) && i.max < 2 ** 31

export function castValue(a: Value, dtype: Dtype): Value {
  if (a.dtype === dtype) return a
  if (isConst(a)) return constantValue(convert(a.value, a.dtype, dtype), dtype)
  // 16 bits to 32 and back is nothing; the other way round it rounds.
  if (a.op === 'cast' && a.a.dtype === dtype && (dtype === 'f16' || dtype === 'bf16') && a.dtype === 'f32') return a.a
  return { op: 'cast', a, dtype }
}
const convert = (x: number, from: Dtype, to: Dtype): number => {
  if (to === 'bool') return x === 0 ? 0 : 1
  if (isFloat(from) && (to === 'i32' || to === 'u32')) {
    const [low, high] = to === 'i32' ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1]
    return Number.isNaN(x) ? 0 : Math.min(high!, Math.max(low!, Math.trunc(x)))
  }
  return round[to](x)
}

export function unaryValue(name: UnaryName, a: Value): Value {
  const dtype: Dtype = unary[name].gives === 'bool' ? 'bool' : a.dtype
  // Only what is exact everywhere is computed here.
  if (isConst(a) && (name === 'neg' || name === 'not' || name === 'abs')) return constantValue(unary[name].meaning(a.value), dtype)
  return { op: 'unary', name, a, dtype }
}

export function binaryValue(name: BinaryName, a: Value, b: Value, facts: readonly Fact[] = []): Value {
  const rule = binary[name]
  const dtype: Dtype = rule.gives === 'bool' ? 'bool' : a.dtype
  const i = asIndex(a), j = asIndex(b)
  if (i !== undefined && j !== undefined) {
    const folded = indexBinary(name, i, j, facts)
    if (folded !== undefined) return folded
  }
  if (name === 'mul' && is(b, 1)) return a
  if (name === 'mul' && is(a, 1)) return b
  if (name === 'div' && is(b, 1)) return a
  if (name === 'and') {
    if (isConst(a)) return a.value === 0 ? no : b
    if (isConst(b)) return b.value === 0 ? no : a
  }
  if (name === 'or') {
    if (isConst(a)) return a.value === 0 ? b : yes
    if (isConst(b)) return b.value === 0 ? a : yes
  }
  return { op: 'binary', name, a, b, dtype }
}

function indexBinary(name: BinaryName, a: Index, b: Index, facts: readonly Fact[]): Value | undefined {
  const arithmetic = name === 'add' ? ix.add(a, b) : name === 'sub' ? ix.sub(a, b) : name === 'mul' ? ix.mul(a, b) : undefined
  if (arithmetic !== undefined) return inI32(arithmetic) ? indexValue(arithmetic) : undefined
  if ((name === 'div' || name === 'mod') && a.min >= 0 && b.min > 0) return indexValue(name === 'div' ? ix.div(a, b) : ix.mod(a, b))
  const atLeast = (x: Index, y: Index, more = 0): boolean => provablyNonNegative(ix.sub(ix.sub(x, y), ix.constant(more)), facts)
  switch (name) {
    case 'le': return atLeast(b, a) ? yes : atLeast(a, b, 1) ? no : undefined
    case 'ge': return atLeast(a, b) ? yes : atLeast(b, a, 1) ? no : undefined
    case 'lt': return atLeast(b, a, 1) ? yes : atLeast(a, b) ? no : undefined
    case 'gt': return atLeast(a, b, 1) ? yes : atLeast(b, a) ? no : undefined
    default: return undefined
  }
}

export function whereValue(condition: Value, a: Value, b: Value): Value {
  if (isConst(condition)) return condition.value === 0 ? b : a
  return { op: 'where', condition, a, b, dtype: a.dtype }
}
export function guardedValue(condition: Value, a: Value, b: Value): Value {
  if (isConst(condition)) return condition.value === 0 ? b : a
  return { op: 'guarded', condition, a, b, dtype: a.dtype }
}
export const allOf = (conditions: readonly Value[]): Value => conditions.reduce((a, b) => binaryValue('and', a, b), yes)

/** i < size, or `yes` where the ranges prove it. The index is not negative. */
export function inside(i: Index, length: Size): Value {
  return ix.provablyInside(i, length) ? yes : binaryValue('lt', indexValue(i), indexValue(ix.sizeIndex(length)))
}

/** A scalar expression of the language as a value; variables by name. */
export function scalarValue(s: Scalar, variables: (name: string) => Value, facts: readonly Fact[] = []): Value {
  const down = (x: Scalar): Value => scalarValue(x, variables, facts)
  switch (s.op) {
    case 'var': return variables(s.name)
    case 'const': return constantValue(s.value, s.dtype)
    case 'size': {
      const fixed = fixedSize(s.size)
      return fixed === undefined ? castValue(indexValue(ix.sizeIndex(s.size)), s.dtype) : constantValue(fixed, s.dtype)
    }
    case 'unary': return unaryValue(s.name, down(s.a))
    case 'binary': return binaryValue(s.name, down(s.a), down(s.b), facts)
    case 'where': return whereValue(down(s.condition), down(s.a), down(s.b))
    case 'cast': return castValue(down(s.a), s.dtype)
  }
}

/** What a value is made of, without the insides of indices. */
export function valueChildren(v: Value): readonly Value[] {
  switch (v.op) {
    case 'const': case 'index': case 'register': case 'shared': case 'load': case 'local': return []
    case 'unary': case 'cast': return [v.a]
    case 'binary': return [v.a, v.b]
    case 'where': case 'guarded': return [v.condition, v.a, v.b]
    case 'loop': return [...(v.parts ?? [v.element]), v.count]
  }
}
/** The indices that a value mentions. */
export function valueIndices(v: Value): readonly Index[] {
  switch (v.op) {
    case 'index': return [v.index]
    case 'shared': return v.at
    case 'load': return [v.at]
    case 'loop': return [v.from, v.to, v.position]
    default: return []
  }
}

/** Calls `see` on a value and all within it, data-dependent indices included. */
export function visitValue(v: Value, see: (v: Value) => void, seeIndex: (i: Index) => void = () => {}): void {
  const index = (i: Index): void => {
    seeIndex(i)
    if (i.op === 'value') visitValue(i.value, see, seeIndex)
    ix.indexChildren(i).forEach(index)
  }
  see(v)
  valueChildren(v).forEach(c => visitValue(c, see, seeIndex))
  valueIndices(v).forEach(index)
}

/** Conditions that all hold where the whole does, by text. */
function conjuncts(v: Value): string[] {
  if (v.op !== 'binary') return []
  if (v.name === 'and') return [...conjuncts(v.a), ...conjuncts(v.b)]
  const text = (x: Value): string | undefined => (x.op === 'index' ? atomKey(x.index) : x.op === 'const' ? String(x.value) : undefined)
  const a = text(v.a), b = text(v.b)
  return a === undefined || b === undefined ? [] : [`${v.name} ${a} ${b}`]
}

/** The value where the condition holds: guards that it implies are gone. */
export function assuming(v: Value, condition: Value): Value {
  const known = new Set(conjuncts(condition))
  if (known.size === 0) return v
  const done = new Map<Value, Value>()
  const visit = (x: Value): Value => {
    const before = done.get(x)
    if (before !== undefined) return before
    const after = rebuild(x)
    done.set(x, after)
    return after
  }
  const rebuild = (x: Value): Value => {
    switch (x.op) {
      case 'guarded': {
        const left = unknown(x.condition)
        return left.op === 'const' ? visit(x.a) : { ...x, condition: left, a: visit(x.a), b: visit(x.b) }
      }
      case 'unary': case 'cast': return { ...x, a: visit(x.a) }
      case 'binary': return { ...x, a: visit(x.a), b: visit(x.b) }
      case 'where': return { ...x, condition: visit(x.condition), a: visit(x.a), b: visit(x.b) }
      case 'loop': return x.parts === undefined ? { ...x, element: visit(x.element) } : x
      default: return x
    }
  }
  /** What of a condition is not known to hold. */
  const unknown = (x: Value): Value => {
    if (x.op === 'binary' && x.name === 'and') return binaryValue('and', unknown(x.a), unknown(x.b))
    const own = conjuncts(x)
    return own.length === 1 && known.has(own[0]!) ? yes : x
  }
  return visit(v)
}
