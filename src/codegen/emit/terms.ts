/** The words that expressions are made of: types, names, literals, and text with its precedence. */
import type { Dtype } from '../../dsl/dtype.js'
import type { Dim, Value } from '../kernel.js'
import type { Writer } from './writer.js'

/** What is known while the elements of one statement are written. */
export interface Scope {
  readonly w: Writer
  /** The register variable of each dimension that a loop runs over. */
  readonly registers: ReadonlyMap<Dim, string>
  /** Values that have a name here already. */
  readonly named: Map<Value, string>
  /** Number of neighbours handled at once; more than 1 only in copies. */
  readonly vector: number
}

export const ctype: { readonly [D in Dtype]: string } = { f32: 'f32', f16: 'f16', bf16: 'bf16', i32: 'i32', u32: 'u32', bool: 'bool' }
/** The C++ type of a dtype in a register. */
export const registerType = (dtype: Dtype): string => ctype[dtype]
/** The C++ type of a dtype in memory. */
export const memoryType = (dtype: Dtype): string => (dtype === 'bool' ? 'u8' : ctype[dtype])

export const laneName = (d: Dim): string => `${d.name}Lane`
export const symbolName = (symbol: string): string => `${symbol}Size`

/** Text with the precedence of its outermost operator: 3 unary or atom, 2 product, 1 sum. */
export type Text = readonly [text: string, precedence: number]
export const paren = ([text, precedence]: Text, atLeast: number): string => (precedence >= atLeast ? text : `(${text})`)

export function literalText(x: number, dtype: Dtype, w: Writer): string {
  switch (dtype) {
    case 'bool': return x === 0 ? 'false' : 'true'
    case 'i32': return x === -(2 ** 31) ? '(-2147483647 - 1)' : String(x)
    case 'u32': return `${x}u`
    case 'f16': return `${w.use('toF16')}(${literalText(x, 'f32', w)})`
    case 'bf16': return `${w.use('toBf16')}(${literalText(x, 'f32', w)})`
    case 'f32': {
      if (Number.isNaN(x)) return w.use('notANumber')
      if (!Number.isFinite(x)) return (x < 0 ? '-' : '') + w.use('infinity')
      // 9 significant digits name every f32.
      const text = Object.is(x, -0) ? '-0' : String(Number(x.toPrecision(9)))
      return (/[.e]/.test(text) ? text : `${text}.`) + 'f'
    }
  }
}
