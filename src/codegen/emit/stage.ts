/** Filling shared memory: by all threads together, and ahead of the loop that uses it. */
import { dedupe } from './dedupe.js'
import { indexText, nameRepeated, sharedOffset, valueText } from './expression.js'
import { memoryType, type Scope } from './terms.js'
import { substitute, type Index } from '../index-expr.js'
import { rowPitch, type Ring, type Statement, type Value } from '../kernel.js'
import { growth } from '../prove.js'
import { digitText } from './threads.js'
import type { Writer } from './writer.js'

type Stage = Extract<Statement, { kind: 'stage' }>

const scopeOf = (w: Writer, vector = 1): Scope => ({ w, registers: new Map(), named: new Map(), vector })

/** All threads fill a tile, neighbours side by side. */
export function stageLines(s: Stage, w: Writer, threads: number): void {
  const { target, vector } = s, { axes } = target
  const count = axes.reduce((n, a) => n * a.extent, 1) / vector
  // A fixed number of turns, unrolled: the copies are under way together.
  const turns = count % threads === 0 && count / threads <= 16 ? count / threads : undefined
  const chunks = axes[axes.length - 1]!.extent / vector
  if (turns !== undefined && axes.length === 2 && threads % chunks === 0) { rowsInTurns(s, turns, chunks, w, threads); return }
  const item = w.fresh('item')
  const body = (): void => {
    let inner = 1
    const last = axes.length - 1
    for (let i = last; i >= 0; i--) {
      const extent = i === last ? chunks : axes[i]!.extent
      const upper = inner === 1 ? item : `${item} / ${inner}`
      const own = inner * extent === count ? upper : `${upper} % ${extent}`
      w.line(`const i32 ${s.at[i]!.name} = ${i === last ? wide(own, vector) : own};`)
      inner *= extent
    }
    fill(s, w)
  }
  w.block(`for (i32 ${item} = thread; ${item} < ${count}; ${item} += ${threads})`, body)
}
const wide = (x: string, vector: number): string => (vector === 1 ? x : `${/[/%]/.test(x) ? `(${x})` : x} * ${vector}`)

/** Every thread keeps its place in the row and goes down the rows in equal steps: addresses differ by constants. */
function rowsInTurns(s: Stage, turns: number, chunks: number, w: Writer, threads: number): void {
  const [row, column] = s.at as [Stage['at'][number], Stage['at'][number]], rows = threads / chunks
  const place = digitText(chunks, 1, threads), first = chunks === 1 ? 'thread' : chunks === threads ? '0' : `thread / ${chunks}`
  // What is copied ahead has a function of its own, others need a block for their names.
  const enclosed = s.slot === undefined ? (body: () => void): void => w.block('', body) : (body: () => void): void => body()
  enclosed(() => {
    w.line(`const i32 ${column.name} = ${chunks === 1 ? '0' : wide(place, s.vector)};`)
    const turn = w.fresh('turn')
    if (s.slot !== undefined && turns > 1 && copyRows(s, turns, rows, first, turn, w)) return
    if (turns > 1) w.line('#pragma unroll')
    const body = (own: string): void => {
      w.line(`const i32 ${row.name} = ${own === '0' ? first : `${own} * ${rows}${first === '0' ? '' : ` + ${first}`}`};`)
      fill(s, w)
    }
    if (turns === 1) body('0')
    else w.block(`for (i32 ${turn} = 0; ${turn} < ${turns}; ++${turn})`, () => body(turn))
  })
}

function fill(s: Stage, w: Writer): void {
  const { target, vector } = s
  const scope = scopeOf(w, vector), plain = scopeOf(w)
  const at = sharedOffset(target, s.at, plain, s.slot, vector)
  if (s.slot !== undefined) { copyAhead(s, `${target.name} + (${at})`, w, plain); return }
  const [value] = dedupe([s.value])
  nameRepeated([value!], scope)
  const text = valueText(value!, scope)
  if (vector > 1) w.line(`${w.use('storeVector')}(${target.name} + (${at}), ${text});`)
  else w.line(`${target.name}[${at}] = ${text};`)
}

/** The load that is copied ahead, and the conditions under which it is there. */
function copied(s: Stage): { readonly load: Extract<Value, { op: 'load' }>; readonly conditions: readonly Value[] } {
  const conditions: Value[] = []
  let value: Value = s.value
  for (; value.op === 'guarded'; value = value.a) conditions.push(value.condition)
  if (value.op !== 'load') throw new Error(`what is copied ahead into ${s.target.name} is no load`)
  return { load: value, conditions }
}

/** The same with both addresses formed once: in each turn they grow by constants. False where they do not. */
function copyRows(s: Stage, turns: number, rows: number, first: string, turn: string, w: Writer): boolean {
  const scope = scopeOf(w), row = s.at[0]!, { load, conditions } = copied(s)
  const perRow = growth(load.at, row.name)
  // Rows that are multiples of 8 apart have their chunks in the same order.
  if (perRow === undefined || (s.target.swizzle === true && rows % 8 !== 0)) return false
  const to = w.fresh('to'), from = w.fresh('from')
  w.line(`const i32 ${row.name}First = ${first};`)
  const starting = (i: Index): Index => substitute(i, x => (x.op === 'scalar' && x.name === row.name ? { ...x, name: `${row.name}First` } : x))
  w.line(`const i32 ${to} = ${sharedOffset(s.target, s.at.map(starting), scope, s.slot, s.vector)};`)
  w.line(`const Global<const ${memoryType(load.memory.dtype)}> ${from} = ${load.memory.name} + (${indexText(starting(load.at), scope)});`)
  w.line('#pragma unroll')
  w.block(`for (i32 ${turn} = 0; ${turn} < ${turns}; ++${turn})`, () => {
    const addresses = `${s.target.name} + (${to} + ${turn} * ${rows * rowPitch(s.target)}), ${from} + ${turn} * ${rows * perRow}`
    if (conditions.length === 0) { w.line(`${w.use('copyAsync')}(${addresses});`); return }
    w.line(`const i32 ${row.name} = ${turn} * ${rows} + ${row.name}First;`)
    w.line(`${w.use('copyAsyncIf')}(${conditions.map(x => valueText(x, scope)).join(' && ')}, ${addresses});`)
  })
  return true
}

/** 16 bytes of an array, or zeros where the conditions do not hold. */
function copyAhead(s: Stage, to: string, w: Writer, scope: Scope): void {
  const { load: value, conditions: guards } = copied(s), conditions = guards.map(x => valueText(x, scope))
  const from = `${value.memory.name} + (${indexText(value.at, scope)})`
  if (conditions.length === 0) w.line(`${w.use('copyAsync')}(${to}, ${from});`)
  else w.line(`${w.use('copyAsyncIf')}(${conditions.join(' && ')}, ${to}, ${from});`)
}

/**
 * A loop over tiles that are copied ahead. Before it, the copies of the first turns start; each turn waits for its own
 * (the barrier that opens the body), then starts those of the turn that takes the slot just left.
 */
export function ringLines(s: Extract<Statement, { kind: 'for' }>, ring: Ring, w: Writer, threads: number, statement: (x: Statement) => void): void {
  const { slot, stages } = ring, plain = scopeOf(w)
  const from = indexText(s.from, plain), to = w.fresh('end'), copy = w.fresh(`copy${capital(ring.loads[0]!.target.name)}`)
  w.line(`const i32 ${to} = ${indexText(s.to, plain)};`)
  w.line(`// Of the ${stages} tiles in shared memory ${stages - 1} are on their way while one is used`)
  w.block(`const auto ${copy} = [&](i32 ${slot}, i32 ${s.variable})`, () => {
    ring.loads.forEach(x => stageLines(x, w, threads))
  })
  w.lines[w.lines.length - 1] += ';'
  w.block(`for (i32 ahead = 0; ahead < ${stages - 1}; ++ahead)`, () => {
    w.line(`if (${from === '0' ? '' : `${from} + `}ahead * ${s.step} < ${to}) ${copy}(ahead, ${from === '0' ? '' : `${from} + `}ahead * ${s.step});`)
    w.line(`${w.use('copyAsyncCommit')}();`)
  })
  w.line('#pragma unroll 1')
  w.block(`for (i32 ${s.variable} = ${from}, ${slot} = 0; ${s.variable} < ${to}; ${s.variable} += ${s.step})`, () => {
    const [first, ...rest] = s.body
    statement(first!)
    w.line(`if (${s.variable} + ${(stages - 1) * s.step} < ${to}) ${copy}(${slot} == 0 ? ${stages - 1} : ${slot} - 1, ${s.variable} + ${(stages - 1) * s.step});`)
    w.line(`${w.use('copyAsyncCommit')}();`)
    rest.forEach(statement)
    w.line(`${slot} = ${slot} + 1 == ${stages} ? 0 : ${slot} + 1;`)
  })
}
const capital = (x: string): string => x[0]!.toUpperCase() + x.slice(1)
