/**
 * Scalar expressions as straight-line programs over a register file: one register per distinct subexpression, so what
 * the user shares is computed once. Everything is total, hence both sides of `where` are computed.
 */
import { isFloat, isInteger, round, type Dtype } from '../../dsl/dtype.js'
import { binary, scalarChildren, unary, type BinaryName, type Scalar, type UnaryName } from '../../dsl/scalar.js'
import { evaluateSize, type Sizes } from '../../dsl/size.js'

export interface Program {
  /** The variables stand first, in the order in which they were given. */
  readonly registers: Float64Array
  readonly run: () => void
  /** The registers of the results. */
  readonly results: readonly number[]
}

export interface ProgramOptions {
  readonly sizes: Sizes
  /** Keep f32 results in float64: inside a fold, only its result is rounded. Casts round all the same. */
  readonly wide: boolean
}

type Meaning1 = (x: number) => number
type Meaning2 = (x: number, y: number) => number
const unaryMeaning = (name: UnaryName): Meaning1 => unary[name].meaning
const binaryMeaning = (name: BinaryName, dtype: Dtype): Meaning2 => {
  const rule: { readonly meaning: Meaning2; readonly integer?: Meaning2 } = binary[name]
  return isInteger(dtype) ? rule.integer ?? rule.meaning : rule.meaning
}

/** What a number becomes in another dtype. */
export function conversion(from: Dtype, to: Dtype): (x: number) => number {
  if (isFloat(from) && isInteger(to)) {
    const [low, high] = to === 'i32' ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1]
    return x => (Number.isNaN(x) ? 0 : Math.min(Math.max(Math.trunc(x), low), high))
  }
  return round[to]
}

export function compile(results: readonly Scalar[], variables: readonly string[], options: ProgramOptions): Program {
  const slots = new Map<Scalar, number>()
  const constants: [number, number][] = []
  const steps: ((r: Float64Array) => void)[] = []
  let count = variables.length

  const rounding = (dtype: Dtype): Meaning1 | undefined =>
    dtype === 'bool' || (dtype === 'f32' && options.wide) ? undefined : round[dtype]

  const add = (s: Scalar): number => {
    if (s.op === 'var') {
      const slot = variables.indexOf(s.name)
      if (slot < 0) throw new Error(`no variable '${s.name}' among ${variables.join(', ')}`)
      return slot
    }
    const to = count++
    if (s.op === 'const') constants.push([to, s.value])
    else if (s.op === 'size') constants.push([to, round[s.dtype](evaluateSize(s.size, options.sizes))])
    else steps.push(step(s, to))
    return to
  }
  const step = (s: Exclude<Scalar, { op: 'var' | 'const' | 'size' }>, to: number): ((r: Float64Array) => void) => {
    const rounded = rounding(s.dtype)
    const at = (x: Scalar): number => slots.get(x)!
    switch (s.op) {
      case 'unary': {
        const a = at(s.a), f = unaryMeaning(s.name)
        return rounded === undefined ? r => { r[to] = f(r[a]!) } : r => { r[to] = rounded(f(r[a]!)) }
      }
      case 'binary': {
        const a = at(s.a), b = at(s.b), f = binaryMeaning(s.name, s.a.dtype)
        return rounded === undefined ? r => { r[to] = f(r[a]!, r[b]!) } : r => { r[to] = rounded(f(r[a]!, r[b]!)) }
      }
      case 'where': {
        const condition = at(s.condition), a = at(s.a), b = at(s.b)
        return r => { r[to] = r[condition] === 0 ? r[b]! : r[a]! }
      }
      case 'cast': {
        const a = at(s.a), f = conversion(s.a.dtype, s.dtype)
        return r => { r[to] = f(r[a]!) }
      }
    }
  }
  // Children before parents, each once, without recursion: traced expressions may be deep and share much.
  const stack: Scalar[] = [...results].reverse()
  while (stack.length > 0) {
    const s = stack[stack.length - 1]!
    const open = slots.has(s) ? [] : scalarChildren(s).filter(c => !slots.has(c))
    if (open.length > 0) { stack.push(...open); continue }
    stack.pop()
    if (!slots.has(s)) slots.set(s, add(s))
  }

  const registers = new Float64Array(count)
  for (const [slot, value] of constants) registers[slot] = value
  return {
    registers,
    run: () => { for (let i = 0; i < steps.length; i++) steps[i]!(registers) },
    results: results.map(s => slots.get(s)!),
  }
}
