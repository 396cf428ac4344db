/**
 * The plan: which nodes are stored, and which meet in one kernel. It is data, with a reason for every edge.
 *
 * Cuts are made from the outputs downwards. Some are forced: topK ends a kernel, and so does a node that a window, gather or
 * concatenation reads if it has a fold below it, since they would compute the fold again for every neighbour. A fold over
 * a long axis is the interesting case. Its consumers need it finished, so they are a second pass over the axis: in the same
 * kernel, one pass after the other, if there are enough blocks to fill a GPU without splitting the axis; else the fold is
 * cut off, its axis is split over blocks, and each consumer's kernel puts the parts together itself. Tiles along the
 * axis are recomputed by each pass, not stored.
 */
import { axisOf, children, topological, type Expr } from '../dsl/expr.js'
import { evaluateSize, fixedSize, type Size, type Sizes } from '../dsl/size.js'
import { specialise, symbolsToSpecialise } from '../dsl/specialise.js'
import { foldKey, foldMonoid, inside, isFold, longAxes, foldArg, type Fold } from './folds.js'
import type { Memory } from './kernel.js'
import { open, productOf, type Stored } from './lower/value.js'
import { groupName, namer, type Namer } from './names.js'
import { streamShape, type StreamShape } from './stream-shape.js'

export interface PlanOptions {
  /** Sizes of symbols, as far as known: they decide how much runs in parallel. Unknown ones count as 1024. */
  readonly sizes?: Sizes
  /** Symbols that are replaced by their values in the text. Default: plain axis lengths up to 16 that `sizes` tells. */
  readonly specialise?: Sizes
  /** Fewer blocks than this do not fill the device. Default 264: twice the 132 multiprocessors of an H100. */
  readonly blocks?: number
}

export interface Root {
  readonly node: Expr
  readonly stored: Stored
}

export interface Group {
  readonly name: string
  readonly rule: 'point' | 'stream' | 'select'
  readonly roots: readonly Root[]
  /** For `stream`: which axes are the grid, the rows of a tile and the streamed one. */
  readonly shape?: StreamShape
  /** What is stored when the group runs: it loads these and computes the rest. */
  readonly loads: ReadonlyMap<Expr, Stored>
}

export interface Edge {
  readonly from: Expr
  readonly to: string
  readonly decision: 'cut' | 'recomputed'
  readonly reason: string
}

export interface Plan {
  readonly outputs: Readonly<Record<string, Expr>>
  readonly groups: readonly Group[]
  readonly stored: ReadonlyMap<Expr, Stored>
  readonly edges: readonly Edge[]
  /** Where each output goes. */
  readonly outputMemories: ReadonlyMap<string, Memory>
  readonly sizes: Sizes
}

interface Planner {
  readonly outputs: Readonly<Record<string, Expr>>
  readonly sizes: Sizes
  readonly blocks: number
  readonly names: Namer
  readonly stored: Map<Expr, Stored>
  /** Outputs that are not stored yet, and where they go: whoever needs one first has it stored. */
  readonly due: Map<Expr, Memory>
  readonly groups: Group[]
  readonly edges: Edge[]
}

const assumedLength = 1024
const about = (s: Size, sizes: Sizes): number =>
  evaluateSize(s, Object.fromEntries([...s.terms.map(([n]) => [n, assumedLength] as const), ...Object.entries(sizes)]))

/** Plans the kernels of a program. */
export function plan(program: Readonly<Record<string, Expr>>, options: PlanOptions = {}): Plan {
  const outputs = specialise(program, options.specialise ?? symbolsToSpecialise(program, options.sizes ?? {}))
  const p: Planner = {
    outputs, sizes: options.sizes ?? {}, blocks: options.blocks ?? 264, names: namer(outputs),
    stored: new Map(), due: new Map(), groups: [], edges: [],
  }
  for (const e of inside0(outputs)) if (e.kind === 'tensor') p.stored.set(e, { form: 'array', memory: p.names.input(e) })
  const outputMemories = new Map(Object.entries(outputs).map(([name, e]) => [name, p.names.output(name, open(e))] as const))
  const memories = Object.entries(outputs).map(([name, e]) => [open(e), outputMemories.get(name)!] as const)
  for (const [e, memory] of memories) if (!p.stored.has(e) && !p.due.has(e)) p.due.set(e, memory)
  for (const [e, memory] of memories) storeOutput(p, e, memory)
  return { outputs, groups: mergePoints(p.groups), stored: p.stored, edges: p.edges, outputMemories, sizes: p.sizes }
}
const inside0 = (outputs: Readonly<Record<string, Expr>>): Expr[] => Object.values(outputs).flatMap(e => inside(e, () => false))

/** Every output has an array of its own, even if it is an input or another output, or lies there in parts. */
function storeOutput(p: Planner, node: Expr, memory: Memory): void {
  store(p, node)
  const stored = p.stored.get(node)
  if (stored?.form === 'array' && stored.memory === memory) return
  p.groups.push({ name: groupName(p.names, 'point', node, memory.name), rule: 'point', roots: [{ node, stored: { form: 'array', memory } }], loads: new Map(p.stored) })
}

const isStored = (p: Planner) => (e: Expr): boolean => p.stored.has(open(e))

/** Makes a group that stores the node; what it needs is stored first. */
function store(p: Planner, node: Expr): void {
  if (p.stored.has(node)) return
  const output = p.due.get(node)
  const array = (): Stored => ({ form: 'array', memory: output ?? p.names.between(node) })
  if (node.kind === 'topK') {
    cutForced(p, node)
    cutBelow(p, node, [node.arg])
    const stored = array()
    push(p, 'select', [{ node, stored }])
    return
  }
  cutForced(p, node)
  const folds = foldsOf(p, node)
  if (folds.length === 0) { push(p, 'point', [{ node, stored: array() }]); return }

  const shape = streamShape(node, folds, isStored(p), a => about(a.size, p.sizes))
  if (typeof shape === 'string') {
    // Without the folds at the bottom, those over long axes first, what is left may have a shape.
    const long = folds.filter(f => f !== node && longAxes(f).length > 0), open = long.length > 0 ? long : folds.filter(f => f !== node)
    const lowest = open.filter(f => foldsOf(p, f).every(g => g === f || !open.includes(g)))
    if (lowest.length === 0) { push(p, 'point', [{ node, stored: array() }]); return }
    for (const f of lowest) { cut(p, f, node, shape); store(p, f) }
    store(p, node)
    return
  }
  const below = folds.filter(f => f !== node && longAxes(f).length > 0)
  const parallel = shape.grid.reduce((n, a) => n * about(a.size, p.sizes), 1) *
    shape.rows.filter(r => !r.folded).reduce((n, r) => n * Math.ceil(about(r.axis.size, p.sizes) / 64), 1)
  const long = [...new Set(folds.flatMap(f => longAxes(f).map(n => axisOf(foldArg(f), n)!)))]
  const worthSplitting = parallel < p.blocks && long.some(a => (fixedSize(a.size) ?? Infinity) > 2048)
  const alone = isFold(node) && longAxes(node).length > 0 && below.length === 0
  if (below.length > 0 && (worthSplitting || below.some(f => !fitsPass(f, shape)) || levelsOf(p, node, below) > 3)) {
    const lowest = below.filter(f => foldsOf(p, f).every(g => g === f || longAxes(g).length === 0))
    for (const f of lowest) {
      cut(p, f, node, worthSplitting
        ? `its consumers need the finished fold over ${f.over.join(' ')}, and ${parallel} blocks do not fill ${p.blocks}: the axis is split`
        : `its consumers need the finished fold over ${f.over.join(' ')}, and do not go along the same axes`)
      store(p, f)
    }
    store(p, node)
    return
  }
  if (alone && worthSplitting) {
    storePartials(p, node)
    return
  }
  if (isFold(node) || below.length > 0) for (const f of below) p.edges.push({ from: f, to: p.names.of(node), decision: 'recomputed', reason: `a second pass over ${f.over.join(' ')} in the same kernel: ${parallel} blocks fill the device` })
  push(p, 'stream', [{ node, stored: array() }], shape)
}

/** Folds that share their work are stored by one kernel. */
function storePartials(p: Planner, f: Fold): void {
  const key = foldKey(f)
  const twins = inside0(p.outputs).filter((e, i, all): e is Fold => all.indexOf(e) === i && isFold(e) && foldKey(e) === key)
  const memories = p.names.partials(f)
  const shape = streamShape(f, foldsOf(p, f), isStored(p), a => about(a.size, p.sizes))
  if (typeof shape === 'string') throw new Error(shape)
  const loads = new Map(p.stored)
  for (const t of twins) p.stored.set(t, { form: 'partials', monoid: foldMonoid(t), memories, count: productOf(foldArg(t), t.over) })
  p.groups.push({ name: groupName(p.names, 'stream', f, memories[0]!.name), rule: 'stream', roots: [{ node: f, stored: p.stored.get(f)! }], shape, loads })
}

function push(p: Planner, rule: Group['rule'], roots: readonly Root[], shape?: StreamShape): void {
  const loads = new Map(p.stored)
  for (const r of roots) p.stored.set(r.node, r.stored)
  const first = roots[0]!.stored
  const name = groupName(p.names, rule, roots[0]!.node, first.form === 'array' ? first.memory.name : first.memories[0]!.name)
  p.groups.push({ name, rule, roots, loads, ...(shape === undefined ? {} : { shape }) })
}

const cut = (p: Planner, from: Expr, to: Expr, reason: string): void => { p.edges.push({ from, to: p.names.of(to), decision: 'cut', reason }) }

/**
 * A pass can feed a later one of its kernel only if its result lies along the kernel's grid and rows, and along all of
 * them: else blocks would repeat it.
 */
const fitsPass = (f: Fold, shape: StreamShape): boolean =>
  [...shape.grid, ...shape.rows.filter(r => !r.folded).map(r => r.axis)].every(a => axisOf(f, a.name) !== undefined) &&
  f.axes.every(a => [...shape.grid, ...shape.rows.map(r => r.axis)].some(b => b.name === a.name)) &&
  longAxes(f).length === 1 && f.kind === 'reduce' && shape.rows.every(r => !r.folded || r.whole)

function levelsOf(p: Planner, node: Expr, folds: readonly Fold[]): number {
  const level = (e: Expr): number => {
    const below = inside(e, isStored(p)).filter((x): x is Fold => x !== e && isFold(x) && folds.includes(x))
    return below.reduce((n, f) => Math.max(n, level(f) + 1), 0)
  }
  return level(node)
}

const foldsOf = (p: Planner, root: Expr): Fold[] => inside(root, isStored(p)).filter(isFold)

/** Kinds that read their arguments at other positions: what they read must not hold a fold. */
const elsewhere = new Set(['window', 'gather', 'concat', 'split', 'merge'])

/** Cuts what every rule needs cut: topK, and folds below nodes that read elsewhere. */
function cutForced(p: Planner, root: Expr): void {
  for (const e of inside(root, isStored(p))) {
    if (e !== root && p.due.has(e) && !p.stored.has(e) && inside(e, isStored(p)).some(x => isFold(x) || x.kind === 'window' || x.kind === 'topK' && x === e)) { cut(p, e, root, 'it is an output, so it is stored anyway'); store(p, e) }
    if (e !== root && e.kind === 'topK' && !p.stored.has(e)) { cut(p, e, root, 'selection needs the whole row, and what follows wants all blocks'); store(p, e) }
    if (e.kind === 'reduce' && e.monoid.ordered && e !== root && !p.stored.has(e)) { cut(p, e, root, 'its order of elements is fixed: one thread goes through them'); store(p, e) }
    if (elsewhere.has(e.kind)) cutBelow(p, e, children(e))
    // Operands of contractions are staged from arrays; only the left one of a streamed contraction may lie in registers.
    if (e.kind === 'contract') for (const x of longAxes(e).length === 0 ? children(e) : [e.right]) if (foldsOf(p, open(x)).length === 0) finishParts(p, open(x))
  }
}

/** Stores the highest nodes that hold folds; windows on the way stay with the reader. */
function cutBelow(p: Planner, reader: Expr, below: readonly Expr[]): void {
  for (const c of below) {
    const e = open(c)
    if (reader.kind === 'concat') finishParts(p, e)
    if (p.stored.has(e)) continue
    if (e.kind === 'topK') { cut(p, e, reader, 'selection needs the whole row, and what follows wants all blocks'); store(p, e); continue }
    // A concatenation evaluates one side only, so a side cannot hold a loop.
    const loops = reader.kind === 'concat' && holdsWindow(p, e)
    if (foldsOf(p, e).length === 0 && !loops && !inside(e, isStored(p)).some(x => x.kind === 'topK')) continue
    const windows = holdsWindow(p, e)
    if (windows && (reader.kind === 'topK' || reader.kind === 'window')) { cutBelow(p, e.kind === 'window' ? e : reader, children(e)); continue }
    cut(p, e, reader, reader.kind === 'topK'
      ? 'selection reads each element several times; computing it once is cheaper'
      : `${reader.kind} reads it at other positions: ${reader.kind === 'window' ? 'pooled where it is read, each value would be computed once per neighbour' : 'each value would be computed again there'}`)
    store(p, e)
    if (reader.kind === 'concat') finishParts(p, e)
  }
}

const holdsWindow = (p: Planner, e: Expr): boolean => inside(e, isStored(p)).some(x => x.kind === 'window' && x.size > 1)

/** Parts of folds that a node reads are put together by a kernel of their own. */
function finishParts(p: Planner, e: Expr): void {
  const parts = topological([e], x => (x.kind === 'composite' ? [open(x)] : isStored(p)(x) ? [] : children(x))).filter(x => p.stored.get(x)?.form === 'partials')
  for (const f of parts) {
    const loads = new Map(p.stored), memory = p.due.get(f) ?? p.names.between(f)
    p.stored.set(f, { form: 'array', memory })
    p.groups.push({ name: groupName(p.names, 'point', f, memory.name), rule: 'point', roots: [{ node: f, stored: { form: 'array', memory } }], loads })
  }
}

/** Point groups over the same axes, or fewer, that do not need each other become one kernel. */
function mergePoints(groups: readonly Group[]): Group[] {
  const merged: Group[] = []
  for (const g of groups) {
    const names = (x: Group): string[] => [...new Set(x.roots.flatMap(r => r.node.axes.map(a => a.name)))]
    const other = g.rule !== 'point' ? undefined : merged.find((m, i) => m.rule === 'point' &&
      (names(g).every(n => names(m).includes(n)) || names(m).every(n => names(g).includes(n))) &&
      [...g.roots, ...m.roots].some(r => r.node.axes.length === Math.max(names(g).length, names(m).length)) &&
      !merged.slice(i).some(later => needs(g, later)) && sameLengths(g, m) && worthSharing(g, m) && coversAll([...g.roots, ...m.roots]))
    if (other === undefined) merged.push(g)
    else merged[merged.indexOf(other)] = { ...other, roots: [...other.roots, ...g.roots], loads: without(new Map([...other.loads, ...readBy(g)]), [...other.roots, ...g.roots]) }
  }
  return merged
}
/** Results of one kernel do not read each other. */
const without = (loads: Map<Expr, Stored>, roots: readonly Root[]): Map<Expr, Stored> => {
  for (const r of roots) {
    const known = loads.get(r.node)
    if (known?.form === 'array' && roots.some(o => o.stored.form === 'array' && o.stored.memory === known.memory)) loads.delete(r.node)
  }
  return loads
}
/** The widest result's grid must reach the others: the axes that they lack are certainly not empty. */
const coversAll = (roots: readonly Root[]): boolean => {
  const widest = roots.reduce((a, b) => (b.node.axes.length > a.node.axes.length ? b : a)).node
  return roots.every(r => widest.axes.every(a => axisOf(r.node, a.name) !== undefined || (fixedSize(a.size) ?? 0) > 0))
}
const sameLengths = (g: Group, m: Group): boolean => g.roots.every(r => m.roots.every(s => r.node.axes.every(a => {
  const b = axisOf(s.node, a.name)
  return b === undefined || JSON.stringify(a.size) === JSON.stringify(b.size)
})))
/** A result that lacks most axes would leave most threads idle, but a launch costs more. Folds keep their own kernels. */
const worthSharing = (g: Group, m: Group): boolean => [...g.roots, ...m.roots].every(r => !isFold(r.node))
/**
 * What a group reads of what is stored when it runs. The rest of its `loads` may be written after the group that it joins:
 * that one must go on computing it.
 */
const readBy = (g: Group): Map<Expr, Stored> => {
  const read = new Set(g.roots.flatMap(r => (g.loads.has(r.node) ? [r.node] : inside(r.node, e => g.loads.has(e)).flatMap(e => children(e).map(open)))))
  return new Map([...g.loads].filter(([e]) => read.has(e)))
}
const needs = (g: Group, before: Group): boolean => { const read = readBy(g); return before.roots.some(r => read.has(r.node)) }
