/**
 * The kernel IR as CUDA C++ text: header-free, for people to read. The same text runs on the emulator behind another
 * prelude (`intrinsics.ts`). Only here do threads appear: `thread` and, per distributed dimension, the lane in it.
 */
import { shortSource } from '../../dsl/source.js'
import { preludeText, type IntrinsicName } from '../intrinsics.js'
import { registers, sharedElements, type Dim, type Kernel, type RegisterTile, type SharedTile, type Statement, type Value } from '../kernel.js'
import { dimsOf, flatten, layoutShared, mentions } from '../facts.js'
import { combineLines, foldLines, indexText, nameRepeated, sharedOffset, valueText } from './expression.js'
import { laneName, memoryType, registerType, symbolName, type Scope } from './terms.js'
import { dedupe } from './dedupe.js'
import { localValue, visitValue } from '../values.js'
import { contractLines } from './contract.js'
import { mmaLines } from './mma.js'
import { selectLines } from './select.js'
import { shiftedFold } from './shifted-fold.js'
import { ringLines, stageLines } from './stage.js'
import { laneText, liesAlongThreads, onceCondition } from './threads.js'
import { writer, type Writer } from './writer.js'

export interface EmittedKernel {
  readonly name: string
  /** The kernel's own text: comments, signature, body. */
  readonly text: string
  readonly intrinsics: readonly IntrinsicName[]
  readonly threads: number
  /** Dynamic shared memory in bytes. */
  readonly sharedBytes: number
}

/** Several kernels as one text for a compiler: the intrinsics they use, then the kernels. */
export const sourceText = (kernels: readonly EmittedKernel[], target: 'cuda' | 'host'): string =>
  `${preludeText(new Set(kernels.flatMap(k => k.intrinsics)), target)}\n${kernels.map(k => k.text).join('\n')}`

interface Context {
  readonly kernel: Kernel
  readonly w: Writer
  readonly dims: readonly Dim[]
  readonly offsets: ReadonlyMap<SharedTile, number>
}

export function emit(kernel: Kernel): EmittedKernel {
  const used = new Set<IntrinsicName>()
  const shared = layoutShared(kernel)
  const memories = [...kernel.inputs, ...kernel.outputs]
  const dims = dimsOf(kernel)
  const w = writer([kernel.name, ...memories.map(m => m.name), ...kernel.symbols.map(symbolName), ...kernel.grid.map(g => g.name),
    ...dims.flatMap(d => [laneName(d), `${d.name}I`]), ...namesIn(kernel.body)], used)
  const c: Context = { kernel, w, dims, offsets: shared.offsets }
  for (const line of kernel.summary) w.line(`// ${line}`)
  const parameters = [
    ...kernel.inputs.map(m => `Global<const ${memoryType(m.dtype)}> ${m.name}`),
    ...kernel.outputs.map(m => `Global<${memoryType(m.dtype)}> ${m.name}`),
    ...kernel.symbols.map(s => `i32 ${symbolName(s)}`),
    ...kernel.counts.map(n => `i32 ${n}`),
  ]
  const cluster = kernel.cluster === undefined ? '' : `__cluster_dims__(${kernel.cluster}) `
  w.line(`extern "C" __global__ void ${cluster}__launch_bounds__(${kernel.threads}, ${kernel.residency ?? 1})`)
  const signature = `${kernel.name}(${parameters.join(', ')})`
  const folded = signature.length <= 116 ? [signature] : wrap(`${kernel.name}(`, parameters)
  folded.slice(0, -1).forEach(line => w.line(line))
  w.block(folded[folded.length - 1]!, () => {
    w.line('const i32 thread = threadIdx.x;')
    gridLines(c)
    for (const d of dims) if (liesAlongThreads(d)) w.line(`const i32 ${laneName(d)} = ${laneText(d, kernel.threads)};`)
    for (const [t, at] of shared.offsets) {
      const n = sharedElements(t)
      w.line(`Shared<${memoryType(t.dtype)}, ${n}> ${t.name} = sharedAt<${memoryType(t.dtype)}, ${n}>(${at});   // ${t.axes.map(a => `${a.name} ${a.extent}`).join(' × ')}${t.pad > 0 ? `, rows padded by ${t.pad}` : ''}`)
    }
    kernel.body.forEach(s => statement(s, c))
  })
  return { name: kernel.name, text: w.lines.join('\n') + '\n', intrinsics: [...used], threads: kernel.threads, sharedBytes: shared.bytes }
}

function wrap(head: string, parameters: readonly string[]): string[] {
  const lines: string[] = []
  let line = head
  parameters.forEach((p, i) => {
    const text = p + (i === parameters.length - 1 ? ')' : ', ')
    if (line.length + text.length > 116) { lines.push(line.trimEnd()); line = ' '.repeat(head.length) }
    line += text
  })
  return [...lines, line]
}

function gridLines({ kernel, w }: Context): void {
  const scope: Scope = { w, registers: new Map(), named: new Map(), vector: 1 }
  let rest = 'i32(blockIdx.x)'
  kernel.grid.forEach((g, i) => {
    const last = i === kernel.grid.length - 1
    const blocks = indexText(g.blocks, scope), atom = /^\w+$/.test(blocks) ? blocks : `(${blocks})`
    w.line(`const i32 ${g.name} = ${rest}${last ? '' : ` % ${atom}`};`)
    if (!last) {
      const name = kernel.grid.length - 1 === i + 1 ? '' : w.fresh('blocksLeft')
      if (name === '') rest = `${rest} / ${atom}`
      else { w.line(`const i32 ${name} = ${rest} / ${atom};`); rest = name }
    }
  })
}

/** Names that statements and the loops in their values declare. */
function namesIn(body: readonly Statement[]): string[] {
  const loops = new Set<string>()
  for (const s of flatten(body)) for (const v of mentions(s).values) visitValue(v, x => { if (x.op === 'loop') loops.add(x.variable.name) })
  return [...loops, ...declaredNames(body)]
}
function declaredNames(body: readonly Statement[]): string[] {
  return body.flatMap(s => {
    switch (s.kind) {
      case 'let': return [s.name]
      case 'for': return [s.variable, ...(s.ring === undefined ? [] : [s.ring.slot, 'ahead', ...declaredNames(s.ring.loads)]), ...declaredNames(s.body)]
      case 'if': return declaredNames(s.body)
      case 'map': return [s.target.name]
      case 'stage': return [s.target.name, ...s.at.map(a => a.name)]
      case 'spill': return [s.target.name]
      case 'pairs': return [s.target.name, s.at.name]
      default: return []
    }
  })
}

const scopeOf = (c: Context, names: ReadonlyMap<Dim, string> = new Map(), vector = 1): Scope => ({ w: c.w, registers: names, named: new Map(), vector })

/** Loops over the registers of dimensions, the body innermost. */
function overRegisters(c: Context, dims: readonly Dim[], body: (names: ReadonlyMap<Dim, string>) => void, outer: ReadonlyMap<Dim, string> = new Map()): void {
  const names = new Map(outer)
  const nest = (i: number): void => {
    const d = dims[i]
    if (d === undefined) { body(names); return }
    if (registers(d) === 1) { nest(i + 1); return }
    const name = `${d.name}I`
    names.set(d, name)
    c.w.line('#pragma unroll')
    c.w.block(`for (i32 ${name} = 0; ${name} < ${registers(d)}; ++${name})`, () => nest(i + 1))
  }
  nest(0)
}

const declaration = (t: RegisterTile): string =>
  `${t.vector === undefined ? registerType(t.dtype) : `Vector<${memoryType(t.dtype)}, ${t.vector}>`} ${t.name}${t.dims.filter(d => registers(d) > 1).map(d => `[${registers(d)}]`).join('')}`

function statement(s: Statement, c: Context): void {
  const { w } = c
  switch (s.kind) {
    case 'comment': w.line(`// ${s.text}${s.source === undefined ? '' : `   ${shortSource(s.source)}`}`); return
    case 'barrier':
      if (s.landed !== undefined) w.line(`${w.use('copyAsyncWait')}<${s.landed}>();`)
      w.line(`${w.use(c.kernel.cluster === undefined ? 'blockBarrier' : 'clusterBarrier')}();`)
      return
    case 'let': w.line(`const i32 ${s.name} = ${indexText(s.value, scopeOf(c))};`); return
    case 'for': {
      if (s.ring !== undefined) { ringLines(s, s.ring, w, c.kernel.threads, x => statement(x, c)); return }
      if (s.rolled === true) w.line('#pragma unroll 1')
      const scope = scopeOf(c), step = s.step === 1 ? `++${s.variable}` : `${s.variable} += ${s.step}`
      w.block(`for (i32 ${s.variable} = ${indexText(s.from, scope)}; ${s.variable} < ${indexText(s.to, scope)}; ${step})`, () => s.body.forEach(x => statement(x, c)))
      return
    }
    case 'if': w.block(`if (${valueText(s.condition, scopeOf(c))})`, () => s.body.forEach(x => statement(x, c))); return
    case 'map': {
      const { target, value } = s
      const flat = target.dims.every(d => registers(d) === 1)
      if (s.fresh && !flat && value.op === 'const') {
        // The braces zero; other constants need a fill.
        const zero = Object.is(value.value, 0)
        w.line(`${declaration(target)}${zero ? ' = {}' : ''};`)
        if (!zero) w.line(`${w.use('fill')}(${target.name}, ${valueText(value, scopeOf(c))});`)
        return
      }
      if (s.fresh && !flat) w.line(`${declaration(target)};`)
      elements(c, target.dims, value, (text, scope) => w.line(`${s.fresh && flat ? declaration(target) : target.name + subscript(target, scope)} = ${text};`), undefined, target.vector)
      return
    }
    case 'fold': foldStatement(s, c); return
    case 'merge': {
      overRegisters(c, s.components[0]!.dims, names => {
        const scope = scopeOf(c, names)
        combineLines(s.monoid, n => componentText(s.components, s.monoid.components.findIndex(m => m.name === n), scope),
          n => s.values[s.monoid.components.findIndex(m => m.name === n)]!, scope)
      })
      return
    }
    case 'combine': combineThreads(s, c); return
    case 'stage': stageLines(s, w, c.kernel.threads); return
    case 'spill': {
      elements(c, s.dims, s.value, (text, scope) => w.line(`${s.target.name}[${sharedOffset(s.target, s.at, scope)}] = ${text};`), onceCondition(s.dims, c.kernel.threads))
      return
    }
    case 'mma': mmaLines(s, w, scopeOf(c), c.kernel.threads); return
    case 'pairs': pairLines(s, c); return
    case 'contract': contractLines(s, c.w, (dims, body) => overRegisters(c, dims, body)); return
    case 'store': {
      const conditions = [onceCondition(s.dims, c.kernel.threads)].filter((x): x is string => x !== undefined)
      overRegisters(c, s.dims, names => {
        const scope = scopeOf(c, names, s.vector), plain = scopeOf(c, names)
        const guard = s.condition.op === 'const' ? [] : [valueText(s.condition, plain)]
        const write = (): void => {
          const [value] = dedupe([s.value])
          nameRepeated([value!], scope)
          const text = valueText(value!, scope)
          if (s.vector > 1) w.line(`${w.use('storeVector')}(${s.memory.name} + (${indexText(s.at, plain)}), ${text});`)
          else w.line(`${s.memory.name}[${indexText(s.at, plain)}] = ${s.memory.dtype === 'bool' ? `u8(${text})` : text};`)
        }
        const all = [...conditions, ...guard]
        if (all.length > 0) w.block(`if (${all.join(' && ')})`, write)
        else write()
      })
      return
    }
    case 'select': selectLines(s, c.w, scopeOf(c), c.kernel.threads); return
  }
}

const componentText = (components: readonly RegisterTile[], i: number, scope: Scope): string => components[i]!.name + subscript(components[i]!, scope)
const subscript = (t: RegisterTile, scope: Scope): string => t.dims.filter(d => registers(d) > 1).map(d => `[${scope.registers.get(d)}]`).join('')

/** One statement for every element; what is needed more than once is named first. */
function elements(c: Context, dims: readonly Dim[], value: Value, write: (text: string, scope: Scope) => void, once?: string, vector = 1): void {
  const body = (): void => overRegisters(c, dims, names => {
    const scope = scopeOf(c, names, vector)
    const [v] = dedupe([value])
    nameRepeated([v!], scope)
    write(valueText(v!, scope), scope)
  })
  if (once === undefined) body()
  else c.w.block(`if (${once})`, body)
}

/** Elements of the own registers into the components: one by one, or with one change of the shift for all of them. */
function foldStatement(s: Extract<Statement, { kind: 'fold' }>, c: Context): void {
  const { w } = c, outer = s.components[0]!.dims
  const guard = (scope: Scope): string | undefined => (s.counted === undefined || (s.counted.op === 'const' && s.counted.value === 1) ? undefined : valueText(s.counted, scope))
  const own = (scope: Scope) => (n: string): string => componentText(s.components, s.monoid.components.findIndex(m => m.name === n), scope)
  const many = s.over.filter(d => registers(d) > 1)
  if (s.monoid.rescale !== undefined && many.length > 0) {
    overRegisters(c, outer, names => shiftedFold(s.monoid, s.element, many, w, {
      own: own(scopeOf(c, names)), scope: scopeOf(c, names), each: body => overRegisters(c, s.over, inner => body(scopeOf(c, inner)), names), guard,
    }))
    return
  }
  overRegisters(c, [...outer, ...s.over], names => {
    const scope = scopeOf(c, names)
    const write = (): void => {
      const [element] = dedupe([s.element])
      nameRepeated([element!], scope)
      foldLines(s.monoid, own(scope), element!, { op: 'index', index: s.position, dtype: 'i32' }, scope)
    }
    const condition = guard(scope)
    if (condition === undefined) write()
    else w.block(`if (${condition})`, write)
  })
}

/** An operand of mma: each register takes two neighbours along the last dimension. */
function pairLines(s: Extract<Statement, { kind: 'pairs' }>, c: Context): void {
  const { target, at, value } = s, { w } = c, k = target.dims[target.dims.length - 1]!, rows = target.dims.slice(0, -1)
  const name = w.fresh('pair'), count = registers(k) / 2
  w.line(`u32 ${target.name}${rows.filter(d => registers(d) > 1).map(d => `[${registers(d)}]`).join('')}[${count / 2}][2];`)
  overRegisters(c, rows, names => {
    w.line('#pragma unroll')
    w.block(`for (i32 ${name} = 0; ${name} < ${count}; ++${name})`, () => {
      const own = `${target.name}${rows.filter(d => registers(d) > 1).map(d => `[${names.get(d)}]`).join('')}[${name} / 2][${name} % 2]`
      const element = (scope: Scope): string => {
        const [v] = dedupe([value])
        nameRepeated([v!], scope)
        return valueText(v!, scope)
      }
      const from = `${name} * ${2 * k.threads} + ${laneName(k)}`
      if (s.vector === 2) {
        w.line(`const i32 ${at.name} = ${from};`)
        w.line(`${own} = ${w.use('pairBits')}(${element(scopeOf(c, names, 2))});`)
        return
      }
      const both = w.fresh('both')
      w.line(`Vector<${memoryType(target.dtype)}, 2> ${both};`)
      w.block('for (i32 e = 0; e < 2; ++e)', () => {
        w.line(`const i32 ${at.name} = ${from} + e;`)
        w.line(`${both}.at[e] = ${element(scopeOf(c, names))};`)
      })
      w.line(`${own} = ${w.use('pairBits')}(${both});`)
    })
  })
}

function combineThreads(s: Extract<Statement, { kind: 'combine' }>, c: Context): void {
  const { over } = s, { w } = c
  overRegisters(c, s.components[0]!.dims, names => {
    const scope = scopeOf(c, names)
    const own = (n: string): string => componentText(s.components, s.monoid.components.findIndex(m => m.name === n), scope)
    // A sum's shuffle stands where it is used. Elsewhere && and ?: must not keep a lane from taking part in it, and no
    // component may change before all are read.
    const [only] = s.monoid.components
    if (s.monoid.components.length === 1 && only!.combine.op === 'binary' && only!.combine.name !== 'and' && only!.combine.name !== 'or' && only!.combine.a.op === 'var' && only!.combine.b.op === 'var') {
      w.block(`for (i32 mask = ${over.stride}; mask < ${over.stride * over.threads}; mask *= 2)`, () => combineLines(s.monoid, own, n =>
        localValue(`${w.use('shuffleXor')}(${own(n)}, mask)`, only!.dtype), scope))
    } else {
      w.block(`for (i32 mask = ${over.stride}; mask < ${over.stride * over.threads}; mask *= 2)`, () => {
        const others = new Map(s.monoid.components.map(k => {
          const name = w.fresh(`${k.name}Other`)
          w.line(`const ${registerType(k.dtype)} ${name} = ${w.use('shuffleXor')}(${own(k.name)}, mask);`)
          return [k.name, name] as const
        }))
        combineLines(s.monoid, own, n => localValue(others.get(n)!, s.monoid.components.find(m => m.name === n)!.dtype), scope)
      })
    }
  })
}
