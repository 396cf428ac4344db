/**
 * target += a × b by mma.sync m16n8k16: 16 × 16 blocks of a from shared memory by ldmatrix, 16 × 8 blocks of b from
 * registers or by ldmatrix. One step goes 16 elements along the summed axis; what is loaded in it serves all blocks of the
 * result that the warp has.
 */
import { indexText } from './expression.js'
import { type Scope } from './terms.js'
import { partTerm } from './threads.js'
import { packOf, registers, rowPitch, type Dim, type SharedPart, type Statement } from '../kernel.js'
import type { Writer } from './writer.js'

type Mma = Extract<Statement, { kind: 'mma' }>

export function mmaLines(s: Mma, w: Writer, scope: Scope, threads: number): void {
  const { target, m, n } = s
  const blocks = registers(m) / 2, others = target.dims.filter(d => d !== m && d !== n && registers(d) > 1)
  const subscript = (i: string, j: string, names: ReadonlyMap<Dim, string>): string =>
    target.name + target.dims.filter(d => registers(d) > 1).map(d => `[${d === m ? i : d === n ? j : names.get(d)}]`).join('')
  const rows = w.fresh(`${s.a.tile.name}Here`), step = w.fresh('step'), block = w.fresh('block'), column = w.fresh('pair')
  const a = operand(s.a, s, m, w, scope, threads, 'a')
  const odd = registers(n) / 2 % 2 === 1
  const b = s.b.space === 'part' && registers(n) > 2 ? operand(s.b, s, n, w, scope, threads, 'b') : undefined
  const lone = s.b.space === 'part' && odd ? operand(s.b, s, n, w, scope, threads, 'lone b') : undefined
  w.line('#pragma unroll')
  w.block(`for (i32 ${step} = 0; ${step} < ${s.extent / 16}; ++${step})`, () => {
    w.line(`u32 ${rows}[${blocks}][4];`)
    eachBlock(w, block, blocks, i => w.line(`${a.load}(${rows}[${i}], ${a.at(step, i, new Map())});`))
    const names = new Map<Dim, string>()
    const nest = (list: readonly Dim[]): void => {
      const [d, ...rest] = list
      if (d === undefined) { columns(names); return }
      const name = `${d.name}I`
      names.set(d, name)
      w.line('#pragma unroll')
      w.block(`for (i32 ${name} = 0; ${name} < ${registers(d)}; ++${name})`, () => nest(rest))
    }
    const columns = (known: ReadonlyMap<Dim, string>): void => {
      const count = registers(n) / 2
      const multiply = (j: string, b0: string, b1: string): void => eachBlock(w, block, blocks, i => {
        const at = (half: number, odd: number): string => subscript(plus(twice(i), half), plus(twice(j), odd), known)
        w.line(`${w.use(s.a.tile.dtype === 'bf16' ? 'mmaBf16' : 'mmaF16')}(${at(0, 0)}, ${at(0, 1)}, ${at(1, 0)}, ${at(1, 1)}, ${rows}[${i}], ${b0}, ${b1});`)
      })
      const fragment = s.b
      if (fragment.space === 'register') {
        const own = (j: string): string => fragment.name + fragment.dims.slice(0, -1).filter(d => registers(d) > 1).map(d => `[${known.get(d) ?? j}]`).join('') + `[${step}]`
        eachBlock(w, column, count, j => multiply(j, `${own(j)}[0]`, `${own(j)}[1]`))
        return
      }
      // Two blocks of columns by one instruction; an odd last one by itself.
      const loaded = w.fresh(`${fragment.tile.name}Here`)
      eachBlock(w, column, Math.floor(count / 2), pair => {
        w.line(`u32 ${loaded}[4];`)
        w.line(`${b!.load}(${loaded}, ${b!.at(step, pair, known)});`)
        for (const side of [0, 1]) multiply(plus(twice(pair), side), `${loaded}[${2 * side}]`, `${loaded}[${2 * side + 1}]`)
      })
      if (lone !== undefined) w.block('', () => {
        w.line(`u32 ${loaded}[4];`)
        w.line(`${lone.load}(${loaded}, ${lone.at(step, String((count - 1) / 2), known)});`)
        multiply(String(count - 1), `${loaded}[0]`, `${loaded}[1]`)
      })
    }
    nest(others)
  })
}

const twice = (x: string): string => (/^\d+$/.test(x) ? String(2 * Number(x)) : `${x.includes(' ') ? `(${x})` : x} * 2`)
const plus = (x: string, n: number): string => (n === 0 ? x : /^\d+$/.test(x) ? String(Number(x) + n) : `${x} + ${n}`)

function eachBlock(w: Writer, name: string, count: number, body: (index: string) => void): void {
  if (count === 0) return
  if (count === 1) { body('0'); return }
  w.line('#pragma unroll')
  w.block(`for (i32 ${name} = 0; ${name} < ${count}; ++${name})`, () => body(name))
}

interface Address {
  readonly load: string
  /** The lane's address for a step and a block of 16 along the operand's own dimension. */
  at(step: string, block: string, names: ReadonlyMap<Dim, string>): string
}

/**
 * ldmatrix.x4 takes the address of row l % 8 of block l / 8 from lane l. The four blocks of `a`: rows, rows + 8, then both
 * 8 further along the summed axis; of `b` first along the summed axis, and of a lone block of 8 columns that one twice. A
 * tile that has the summed axis first is loaded transposed.
 */
function operand(part: SharedPart, s: Mma, own: Dim, w: Writer, scope: Scope, threads: number, which: 'a' | 'b' | 'lone b'): Address {
  const { tile } = part, isA = which === 'a', axes = tile.axes, last = axes[axes.length - 1]!
  const turned = last.name !== s.over
  const low = 'thread % 16 / 8', high = which === 'lone b' ? undefined : 'thread % 32 / 16', eight = 'thread % 8'
  // Which half-blocks of 8: along the row axis of the tile, and along its last one.
  const rowHigh = isA === turned   // the row axis changes with the upper bit
  const rowText = !rowHigh ? 'thread % 16' : high === undefined ? eight : `${high} * 8 + ${eight}`, chunkText = rowHigh ? low : high ?? '0'
  const pitch = rowPitch(tile), from = part.from.op === 'const' ? undefined : indexText(part.from, scope)
  const shift = (name: string): string[] => (from !== undefined && part.fromAxis === name ? [from] : [])
  // Rows of the tile: slot, then the axes before the last, the one that ldmatrix goes along with the lane's own row.
  const rowAxis = turned ? s.over : own.name
  let fixed: string[] = part.slot === undefined ? [] : [part.slot]
  let scale = 1
  const moving: { readonly dim: Dim; readonly rows: number }[] = []
  for (let i = axes.length - 2, below = 1; i >= 0; below *= axes[i]!.extent, i--) {
    const axis = axes[i]!
    if (axis.name === rowAxis) { scale = below; continue }
    const dim = s.target.dims.find(d => d.name === axis.name)
    if (dim !== undefined) moving.push({ dim, rows: below })
  }
  const perStage = axes.slice(0, -1).reduce((n, a) => n * a.extent, 1)
  fixed = fixed.map(x => (perStage === 1 ? x : `${x} * ${perStage}`))
  for (const { dim, rows } of moving) for (const t of partTerm(dim, threads)) fixed.push(rows === 1 ? t : `(${t}) * ${rows}`)
  const start = [...(turned ? [] : partTerm(own, threads)), ...shift(rowAxis), rowText]
  const lane = scale === 1 ? start : [`(${start.join(' + ')}) * ${scale}`]
  const base = w.fresh(`${tile.name}Row`), chunk = w.fresh(`${tile.name}Chunk`)
  w.line(`const i32 ${base} = (${[...fixed, ...lane].join(' + ')}) * ${pitch};`)
  const eighth = (t: string): string => t.replace(/ \* (\d+)$/, (_, n) => (Number(n) === 8 ? '' : ` * ${Number(n) / 8}`))
  const startLast = [...(turned ? partTerm(own, threads).map(eighth) : []), ...shift(last.name).map(x => `${x} / 8`), chunkText]
  w.line(`const i32 ${chunk} = ${startLast.join(' + ')};`)
  const load = w.use(turned ? 'loadMatrix4Transposed' : 'loadMatrix4')
  return {
    load,
    at: (step, block, names) => {
      const along = (name: string): string => (name === s.over ? step : block)
      const row = along(rowAxis), column = along(turned ? own.name : s.over)   // blocks of 16, as rows and as chunks of 8
      const rows = [row === '0' ? '' : `${row} * ${16 * scale * pitch}`, ...moving.filter(x => registers(x.dim) > 1).map(x => `${names.get(x.dim)} * ${x.rows * pitch * (packOf(x.dim) === 1 ? x.dim.threads : 1)}`)].filter(x => x !== '')
      const chunks = column === '0' ? chunk : `${column} * 2 + ${chunk}`
      const placed = tile.swizzle === true ? `((${chunks}) ^ ${eight}) * 8` : `(${chunks}) * 8`
      return `${tile.name} + (${[base, ...rows, placed].join(' + ')})`
    },
  }
}
