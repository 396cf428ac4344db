/**
 * The type system of the kernel IR. What passes here has matching dtypes and dimensions, loads and stores that are
 * proven or guarded in range as far as the text can show, no hazard in shared memory, and fits a block.
 */
import { byteSize } from '../dsl/dtype.js'
import { binary } from '../dsl/scalar.js'
import { flatten, layoutShared, mentions, dimsOf } from './facts.js'
import { placeBarriers } from './barriers.js'
import { packOf, registers, threadFactors, type Kernel, type RegisterTile, type SharedTile, type Statement, type Value } from './kernel.js'
import { visitValue } from './values.js'
import { isPowerOfTwo } from './powers.js'

export interface CheckOptions {
  /** Shared memory that a block may have, in bytes. Default 227 KB, as on sm_90. */
  readonly sharedLimit?: number
}

/** Everything that is wrong with a kernel; empty if nothing is. */
export function check(k: Kernel, options: CheckOptions = {}): string[] {
  const faults: string[] = []
  const fault = (text: string): void => { faults.push(`${k.name}: ${text}`) }
  if (!isPowerOfTwo(k.threads) || k.threads < 32 || k.threads > 1024) fault(`${k.threads} threads: a power of two from 32 to 1024 is needed`)
  for (const d of dimsOf(k)) {
    for (const { threads, stride } of threadFactors(d)) {
      if (!isPowerOfTwo(threads) || !isPowerOfTwo(stride) || threads * stride > k.threads) fault(`dimension ${d.name}: ${threads} threads with stride ${stride} do not lie within ${k.threads}`)
    }
  }
  const { bytes } = layoutShared(k), limit = options.sharedLimit ?? 232448
  if (bytes > limit) fault(`${bytes} bytes of shared memory: a block has ${limit}`)

  const declared = new Set<RegisterTile>(), known = new Set(['splits', 'shares', ...k.grid.map(g => g.name)])
  walk(k.body, declared, known)
  if (flatten(placeBarriers(k.body)).length !== flatten(k.body).length) fault('a barrier is missing')
  const memories = new Set([...k.inputs, ...k.outputs])
  for (const s of flatten(k.body)) {
    for (const v of mentions(s).values) visitValue(v, x => { if (x.op === 'load' && !memories.has(x.memory)) fault(`${x.memory.name} is not a parameter`) })
    if (s.kind === 'store' && !k.outputs.includes(s.memory)) fault(`${s.memory.name} is stored but is no output`)
  }
  return faults

  function walk(body: readonly Statement[], tiles: Set<RegisterTile>, scalars: Set<string>): void {
    const t = new Set(tiles), n = new Set(scalars)
    for (const s of body) {
      if (s.kind === 'map' && s.fresh) {
        if (t.has(s.target)) fault(`${s.target.name} is declared twice`)
        t.add(s.target)
      }
      if (s.kind === 'pairs') t.add(s.target)
      if (s.kind === 'let') n.add(s.name)
      const own = new Set([...n, ...(s.kind === 'stage' ? s.at.map(a => a.name) : s.kind === 'pairs' ? [s.at.name] : []), ...(s.kind === 'select' ? [s.selection.at.name] : [])])
      const m = mentions(s)
      for (const r of m.registers) if (!t.has(r)) fault(`${s.kind} mentions ${r.name}, which is not declared here`)
      for (const v of m.values) checkValue(v)
      if (s.kind !== 'for' && s.kind !== 'let') for (const i of m.indices) if (i.op === 'scalar' && !own.has(i.name) && !inLoops(m.values, i.name)) fault(`${s.kind} mentions ${i.name}, which is not known here`)
      checkStatement(s)
      if (s.kind === 'for') {
        walk(s.ring?.loads ?? [], t, new Set([...n, s.variable]))
        walk(s.body, t, new Set([...n, s.variable]))
        if (s.ring !== undefined && (s.body[0]?.kind !== 'barrier' || s.body[0].landed === undefined)) fault(`the loop over ${s.variable} uses tiles before they have landed`)
      }
      if (s.kind === 'if') walk(s.body, t, n)
    }
  }
  function inLoops(values: readonly Value[], name: string): boolean {
    let found = false
    for (const v of values) visitValue(v, x => { if (x.op === 'loop' && x.variable.name === name) found = true })
    return found
  }
  function checkStatement(s: Statement): void {
    switch (s.kind) {
      case 'map': if (s.value.dtype !== s.target.dtype) fault(`${s.target.name} is ${s.target.dtype} but gets ${s.value.dtype}`); return
      case 'store': if (s.value.dtype !== s.memory.dtype) fault(`${s.memory.name} is ${s.memory.dtype} but gets ${s.value.dtype}`); return
      case 'stage': case 'spill': if (s.value.dtype !== s.target.dtype) fault(`${s.target.name} is ${s.target.dtype} but gets ${s.value.dtype}`); return
      case 'fold': case 'merge':
        if (s.components.length !== s.monoid.components.length) fault(`${s.monoid.name} has ${s.monoid.components.length} components, not ${s.components.length}`)
        return
      case 'pairs': if (s.value.dtype !== s.target.dtype || s.target.paired !== true || packOf(s.target.dims[s.target.dims.length - 1]!) !== 2) fault(`${s.target.name} is no tile of pairs of ${s.value.dtype}`); return
      case 'mma': {
        const has = (t: SharedTile, ...axes: string[]): boolean => axes.every(n => t.axes.some(a => a.name === n && (n !== s.over || a.extent >= s.extent)))
        if (s.m.threads !== 8 || s.m.stride !== 4 || registers(s.m) % 2 !== 0) fault(`${s.m.name} does not lie along the rows of mma`)
        if (s.n.threads !== 4 || s.n.stride !== 1 || packOf(s.n) !== 2) fault(`${s.n.name} does not lie along the columns of mma`)
        if (s.extent % 16 !== 0) fault(`mma goes in steps of 16 along ${s.over}, not over ${s.extent}`)
        const b = s.b.space === 'register' ? s.b : s.b.tile
        if (!has(s.a.tile, s.m.name, s.over)) fault(`${s.a.tile.name} has no axes ${s.m.name} and ${s.over} of ${s.extent}`)
        if (b.space === 'register' ? b.paired !== true || b.dims[b.dims.length - 1]!.extent !== s.extent : !has(b, s.n.name, s.over)) fault(`${b.name} is no operand over ${s.over} of ${s.extent}`)
        if (s.a.tile.dtype !== b.dtype || (b.dtype !== 'bf16' && b.dtype !== 'f16')) fault(`mma of ${s.a.tile.dtype} and ${b.dtype}`)
        return
      }
      case 'contract': {
        for (const t of [s.left, s.right]) if (!t.axes.some(a => a.name === s.over && a.extent === s.extent)) fault(`${t.name} has no axis ${s.over} of ${s.extent}`)
        for (const d of s.target.dims) if (![s.left, s.right].some(t => t.axes.some(a => a.name === d.name))) fault(`${s.target.name}: no operand has ${d.name}`)
        return
      }
      default:
    }
  }
  function checkValue(v: Value): void {
    visitValue(v, x => {
      if (x.op === 'binary') {
        if (x.a.dtype !== x.b.dtype) fault(`${x.name} of ${x.a.dtype} and ${x.b.dtype}`)
        if (binary[x.name].gives === 'bool' && x.dtype !== 'bool') fault(`${x.name} gives ${x.dtype}`)
      }
      if (x.op === 'where' || x.op === 'guarded') {
        if (x.condition.dtype !== 'bool') fault(`a condition is ${x.condition.dtype}`)
        if (x.a.dtype !== x.b.dtype) fault(`${x.op} of ${x.a.dtype} and ${x.b.dtype}`)
      }
      if (x.op === 'shared' && x.at.length !== x.tile.axes.length) fault(`${x.tile.name} has ${x.tile.axes.length} axes, not ${x.at.length}`)
      if (x.op === 'load' && byteSize[x.dtype] !== byteSize[x.memory.dtype]) fault(`${x.memory.name} read as ${x.dtype}`)
    })
  }
}

