/**
 * The kernel IR as text for people: what one block does, in tiles. No threads and, but for the barriers that the pass has
 * placed, no synchronisation. A register tile shows which dimension lies along threads: `key 64/16` is 64 elements along
 * 16 threads.
 */
import { shortSource } from '../dsl/source.js'
import { memoryText } from './explain.js'
import { symbolName } from './emit/terms.js'
import { flatten, layoutShared, mentions, sharedOf } from './facts.js'
import type { Index } from './index-expr.js'
import { packOf, sharedElements, threadFactors, type Dim, type Kernel, type RegisterTile, type SharedPart, type SharedTile, type Statement, type Value } from './kernel.js'
import { byteSize } from '../dsl/dtype.js'

export function printKernel(k: Kernel): string {
  const registers = [...new Set(flatten(k.body).flatMap(s => [...mentions(s).registers]))]
  const grid = k.grid.length === 0 ? '1' : k.grid.map(g => `${g.name} ${indexText(g.blocks)}`).join(', ')
  const lines = [
    `kernel ${k.name}  grid ${grid}  threads ${k.threads}  shared ${layoutShared(k).bytes} bytes`,
    ...k.inputs.map(m => `  reads   ${memoryText(m)}`),
    ...k.outputs.map(m => `  writes  ${memoryText(m)}`),
    ...sharedOf(k).map(t => `  tile    ${sharedText(t)}`),
    ...registers.map(t => `  tile    ${registerText(t)}`),
    '',
    ...body(k.body, '  '),
  ]
  return lines.join('\n') + '\n'
}

const dimText = (d: Dim): string => [`${d.name} ${d.extent}`, ...threadFactors(d).map(f => f.threads)].join('/') + (packOf(d) === 1 ? '' : ` in ${packOf(d)}s`)
const operandText = (x: SharedPart | RegisterTile): string => (x.space === 'register' ? x.name : x.slot === undefined ? x.tile.name : `${x.tile.name}[${x.slot}]`)
const registerText = (t: RegisterTile): string => `register ${t.dtype} ${t.name}[${t.dims.map(dimText).join(', ')}]`
const sharedText = (t: SharedTile): string =>
  `shared   ${t.dtype} ${t.name}[${t.stages === undefined ? '' : `stage ${t.stages}, `}${t.axes.map(a => `${a.name} ${a.extent}`).join(', ')}]${t.pad > 0 ? `  rows padded by ${t.pad}` : ''}${t.swizzle === true ? '  swizzled' : ''}  ${sharedElements(t) * byteSize[t.dtype]} bytes`

const body = (list: readonly Statement[], indent: string): string[] => list.flatMap(s => statement(s).flatMap(line => (typeof line === 'string' ? [indent + line] : body(line, `${indent}  `))))

type Lines = (string | readonly Statement[])[]

const tiles = (list: readonly { readonly name: string }[]): string => list.map(t => t.name).join(', ')
const unlessSure = (v: Value, word: string): string => (v.op === 'const' && v.value === 1 ? '' : `  ${word} ${valueText(v)}`)
const together = (n: number): string => (n > 1 ? `  ${n} at once` : '')

function statement(s: Statement): Lines {
  switch (s.kind) {
    case 'comment': return [`# ${s.text}${s.source === undefined ? '' : `   ${shortSource(s.source)}`}`]
    // A position that is named after the dimension it counts along: the dimension's own coordinate needs another name.
    case 'let': return [`let ${s.name} = ${indexText(s.value).replace(new RegExp(`\\b${s.name}\\b`, 'g'), `${s.name}Lane`)}`]
    case 'for': return [`for ${s.variable} in ${indexText(s.from)} .. ${indexText(s.to)}${s.step === 1 ? '' : ` step ${s.step}`}${s.ring === undefined ? '' : `, ${s.ring.stages} stages`}:`,
      ...(s.ring === undefined ? [] : [s.ring.loads]), s.body]
    case 'if': return [`if ${valueText(s.condition)}:`, s.body]
    case 'map': return [`map      ${s.target.name} <- ${valueText(s.value)}`]
    case 'fold': return [`fold     ${tiles(s.components)} <- ${s.monoid.name} over ${s.over.map(d => d.name).join(', ')} of ${valueText(s.element)}${s.counted === undefined ? '' : unlessSure(s.counted, 'where')}`]
    case 'merge': return [`merge    ${tiles(s.components)} <- ${s.monoid.name} with ${s.values.map(v => valueText(v)).join(', ')}`]
    case 'combine': return [`combine  ${tiles(s.components)} <- ${s.monoid.name} along the threads of ${s.over.name}`]
    case 'stage': return [`${s.slot === undefined ? 'stage   ' : 'ahead   '} ${s.target.name}[${s.slot === undefined ? '' : `${s.slot}, `}${s.at.map(i => indexText(i)).join(', ')}] <- ${valueText(s.value)}${together(s.vector)}`]
    case 'spill': return [`spill    ${s.target.name}[${s.at.map(i => indexText(i)).join(', ')}] <- ${valueText(s.value)}`]
    case 'contract': return [`contract ${s.target.name} += ${s.left.name} × ${s.right.name} over ${s.over} ${s.extent}`]
    case 'mma': return [`mma      ${s.target.name} += ${operandText(s.a)} × ${operandText(s.b)} over ${s.over} ${s.extent}`]
    case 'pairs': return [`pairs    ${s.target.name} <- ${valueText(s.value)}${together(s.vector)}`]
    case 'store': return [`store    ${s.memory.name}[${indexText(s.at)}] <- ${valueText(s.value)}${unlessSure(s.condition, 'where')}${together(s.vector)}`]
    case 'select': {
      const { selection: x } = s
      return [`select   ${x.target.name}[${indexText(x.base)} ..] <- ${indexText(x.k)} best of ${x.at.name} in 0 .. ${indexText(x.length)} by ${valueText(x.score)}, in order of ${x.order}`]
    }
    case 'barrier': return [s.landed === undefined ? 'barrier' : `barrier when all but ${s.landed} tiles have landed`]
  }
}

// The higher, the tighter; arguments of calls and subscripts need no parentheses.
const levels = { or: 1, and: 2, eq: 3, ne: 3, lt: 3, le: 3, gt: 3, ge: 3, add: 4, sub: 4, mul: 5, div: 5, mod: 5 } as const
const signs: { readonly [N in keyof typeof levels]: string } = { or: 'or', and: 'and', eq: '==', ne: '!=', lt: '<', le: '<=', gt: '>', ge: '>=', add: '+', sub: '-', mul: '*', div: '/', mod: '%' }
const isInfix = (name: string): name is keyof typeof levels => Object.hasOwn(levels, name)
const infix = (name: keyof typeof levels, outer: number, side: (level: number, right: boolean) => string): string => {
  const own = levels[name], text = `${side(own, false)} ${signs[name]} ${side(own + 1, true)}`
  return own < outer ? `(${text})` : text
}

/** An index as arithmetic over scalars, symbols and coordinates. */
function indexText(i: Index, outer = 0): string {
  switch (i.op) {
    case 'const': return String(i.value)
    case 'scalar': return i.name
    case 'symbol': return symbolName(i.name)   // as in the emitted text: a position may have the axis' own name
    case 'dim': return i.dim.name
    case 'value': return valueText(i.value, outer)
    case 'min': case 'max': return `${i.op}(${indexText(i.a)}, ${indexText(i.b)})`
    case 'add': {
      // a + b * -1 and a + -3 are how subtraction is kept.
      const less = negated(i.b)
      return less === undefined ? infix('add', outer, (l, right) => indexText(right ? i.b : i.a, right ? l - 1 : l)) : infix('sub', outer, (l, right) => (right ? indexText(less, l) : indexText(i.a, l)))
    }
    default: return infix(i.op, outer, (l, right) => indexText(right ? i.b : i.a, l))
  }
}
function negated(i: Index): Index | undefined {
  if (i.op === 'const' && i.value < 0) return { ...i, value: -i.value, min: -i.max, max: -i.min }
  if (i.op !== 'mul' || i.b.op !== 'const' || i.b.value >= 0) return undefined
  return i.b.value === -1 ? i.a : { ...i, b: { ...i.b, value: -i.b.value } }
}

const numberText = (x: number): string => (x === Infinity ? 'inf' : x === -Infinity ? '-inf' : Object.is(x, -0) ? '-0' : Number.isNaN(x) ? 'nan' : String(x))

/** A value as an expression; loads name their array and offset. */
function valueText(v: Value, outer = 0): string {
  switch (v.op) {
    case 'const': return v.dtype === 'bool' ? (v.value === 0 ? 'false' : 'true') : numberText(v.value)
    case 'index': return v.dtype === 'i32' ? indexText(v.index, outer) : `${v.dtype}(${indexText(v.index)})`
    case 'register': return v.tile.name
    case 'shared': return `${v.tile.name}[${v.at.map(i => indexText(i)).join(', ')}]`
    case 'load': return `${v.memory.name}[${indexText(v.at)}]`
    case 'unary': return `${v.name}(${valueText(v.a)})`
    case 'binary': {
      const { name } = v
      return isInfix(name) ? infix(name, outer, (l, right) => valueText(right ? v.b : v.a, l)) : `${name}(${valueText(v.a)}, ${valueText(v.b)})`
    }
    case 'where': return `where(${valueText(v.condition)}, ${valueText(v.a)}, ${valueText(v.b)})`
    case 'guarded': return `(${valueText(v.condition, 1)} ? ${valueText(v.a, 1)} : ${valueText(v.b, 1)})`
    case 'cast': return `${v.dtype}(${valueText(v.a)})`
    case 'loop': return `${v.monoid.name}(${v.variable.name} in ${indexText(v.from)} .. ${indexText(v.to)}: ${(v.parts ?? [v.element]).map(x => valueText(x)).join(', ')})`
    case 'local': return v.name
  }
}

