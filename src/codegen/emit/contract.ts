/**
 * target += left × right over one axis, on the scalar path: every thread multiplies its registers' rows of both shared
 * tiles. A step takes 4 neighbours along the summed axis from each tile with one vector load, so that 8 + 4 loads feed
 * 128 multiply-adds of an 8 × 4 register tile.
 */
import type { Dim, SharedTile, Statement } from '../kernel.js'
import { registers } from '../kernel.js'
import { dimIndex, scalar } from '../index-expr.js'
import { registerText, sharedOffset } from './expression.js'
import { memoryType, type Scope } from './terms.js'
import type { Writer } from './writer.js'

type Loops = (dims: readonly Dim[], body: (names: ReadonlyMap<Dim, string>) => void) => void

export function contractLines(s: Extract<Statement, { kind: 'contract' }>, w: Writer, loops: Loops): void {
  const { target, over, extent } = s
  const step = [s.left, s.right].every(t => t.axes[t.axes.length - 1]!.name === over && t.pad % 4 === 0) && extent % 4 === 0 ? 4 : 1
  const variable = w.fresh(over)
  w.block(`for (i32 ${variable} = 0; ${variable} < ${extent}; ${step === 1 ? `++${variable}` : `${variable} += ${step}`})`, () => {
    const left = operand(s.left, s, step, variable, w, loops)
    const right = operand(s.right, s, step, variable, w, loops)
    const inner = (at: string): void => loops(target.dims, names => {
      const scope: Scope = { w, registers: names, named: new Map(), vector: 1 }
      const own = registerText(target, scope)
      w.line(`${own} = ${w.use('multiplyAdd')}(${left(scope, at)}, ${right(scope, at)}, ${own});`)
    })
    if (step === 1) inner('')
    else {
      w.line('#pragma unroll')
      w.block('for (i32 e = 0; e < 4; ++e)', () => inner('[e]'))
    }
  })
}

/** Loads a tile's elements for this step into registers; returns their text. */
function operand(t: SharedTile, s: Extract<Statement, { kind: 'contract' }>, step: number, variable: string, w: Writer, loops: Loops): (scope: Scope, at: string) => string {
  const dims = s.target.dims.filter(d => t.axes.some(a => a.name === d.name))
  const name = w.fresh(`${t.name}Here`)
  const many = dims.filter(d => registers(d) > 1)
  w.line(`f32 ${name}${many.map(d => `[${registers(d)}]`).join('')}${step === 1 ? '' : `[${step}]`};`)
  const widen = (x: string): string => (t.dtype === 'bf16' ? `${w.use('fromBf16')}(${x})` : t.dtype === 'f16' ? `${w.use('fromF16')}(${x})` : x)
  loops(dims, names => {
    const scope: Scope = { w, registers: names, named: new Map(), vector: 1 }
    const position = t.axes.map(a => (a.name === s.over ? scalar(variable, s.extent - 1) : dimIndex(dims.find(d => d.name === a.name)!)))
    const offset = sharedOffset(t, position, scope), own = name + many.map(d => `[${names.get(d)}]`).join('')
    if (step === 1) w.line(`${own} = ${widen(`${t.name}[${offset}]`)};`)
    else {
      const vector = w.fresh('four')
      w.line(`const Vector<${memoryType(t.dtype)}, 4> ${vector} = ${w.use('loadVector')}<4>(${t.name} + (${offset}));`)
      w.line(`for (i32 e = 0; e < 4; ++e) ${own}[e] = ${widen(`${vector}.at[e]`)};`)
    }
  })
  return (scope, at) => name + many.map(d => `[${scope.registers.get(d)}]`).join('') + at
}
