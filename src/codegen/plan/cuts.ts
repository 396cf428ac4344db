/**
 * Cuts, made from the outputs downwards: which nodes are stored, by a kernel of which rule.
 *
 * Some are forced: topK ends a kernel, and so does a node that a window, gather or concatenation reads if it has a fold
 * below it, since they would compute the fold again for every neighbour. Where there are several legal ways the decider
 * is asked; it is told first what is usually best.
 */
import { byteSize } from '../../dsl/dtype.js'
import { axisOf, children, topological, type Expr } from '../../dsl/expr.js'
import { evaluateSize, fixedSize, type Size, type Sizes } from '../../dsl/size.js'
import { foldArg, foldKey, foldMonoid, inside, isFold, longAxes, type Fold } from '../folds.js'
import type { Memory } from '../kernel.js'
import { open, productOf, type Stored } from '../lower/value.js'
import { groupName, type Namer } from '../names.js'
import type { Edge, Group, Root } from '../plan.js'
import { streamShape, type StreamShape } from '../stream-shape.js'
import type { Decider } from './choices.js'
import { readersOf, sharedTiles, twinFolds, type Readers } from './tiles.js'

export interface Planner {
  readonly outputs: Readonly<Record<string, Expr>>
  /** All symbols have a value. */
  readonly sizes: Sizes
  /** Fewer blocks than this do not fill the device. */
  readonly blocks: number
  readonly names: Namer
  readonly decider: Decider
  readonly stored: Map<Expr, Stored>
  /** Outputs that are not stored yet, and where they go: whoever needs one first has it stored. */
  readonly due: Map<Expr, Memory>
  /** Costly nodes with several readers, and the node that is stored for each: itself, or what it widens. */
  readonly tiles: ReadonlyMap<Expr, Expr>
  readonly readers: Readers
  /** Folds that share their work, by what they share. */
  readonly twins: ReadonlyMap<string, readonly Fold[]>
  readonly groups: Group[]
  readonly edges: Edge[]
}

/** Cuts a whole program. `memories`: each output and where it goes. */
export function cutProgram(p: Omit<Planner, 'tiles' | 'readers' | 'twins'>, memories: readonly (readonly [Expr, Memory])[]): void {
  const readers = readersOf(p.outputs)
  const planner: Planner = { ...p, readers, tiles: sharedTiles(p.outputs, readers), twins: twinFolds(p.outputs) }
  for (const [e, memory] of memories) storeOutput(planner, e, memory)
}

/** Every output has an array of its own, even if it is an input or another output, or lies there in parts. */
function storeOutput(p: Planner, node: Expr, memory: Memory): void {
  store(p, node)
  const stored = p.stored.get(node)
  if (stored?.form === 'array' && stored.memory === memory) return
  p.groups.push({ name: groupName(p.names, 'point', node, memory.name), rule: 'point', roots: [{ node, stored: { form: 'array', memory } }], loads: new Map(p.stored) })
}

const isStored = (p: Planner) => (e: Expr): boolean => p.stored.has(open(e))
const lengthOf = (p: Planner, s: Size): number => evaluateSize(s, p.sizes)

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

  const shape = streamShape(node, folds, isStored(p), a => lengthOf(p, a.size))
  if (typeof shape === 'string') {
    // Without the folds at the bottom, those over long axes first, what is left may have a shape.
    const long = folds.filter(f => f !== node && longAxes(f).length > 0), open = long.length > 0 ? long : folds.filter(f => f !== node)
    const lowest = open.filter(f => foldsOf(p, f).every(g => g === f || !open.includes(g)))
    if (lowest.length === 0) { push(p, 'point', [{ node, stored: array() }]); return }
    for (const f of lowest) cutFold(p, f, node, shape)
    store(p, node)
    return
  }
  const below = folds.filter(f => f !== node && longAxes(f).length > 0)
  const parallel = blocksOf(p, shape)
  const long = [...new Set(folds.flatMap(f => longAxes(f).map(n => axisOf(foldArg(f), n)!)))]
  const worthSplitting = parallel < p.blocks && long.some(a => (fixedSize(a.size) ?? Infinity) > 2048)
  if (below.length > 0) {
    const fits = below.every(f => fitsPass(f, shape)) && levelsOf(p, node, below) <= 3
    const way = p.decider.decide('passes', node, !fits ? ['cut'] : worthSplitting ? ['cut', 'one kernel'] : ['one kernel', 'cut'])
    if (way === 'cut') {
      const lowest = below.filter(f => foldsOf(p, f).every(g => g === f || longAxes(g).length === 0))
      for (const f of lowest) {
        cutFold(p, f, node, fits
          ? `its consumers need the finished fold over ${f.over.join(' ')}; another pass in their kernel had ${parallel} blocks, and ${p.blocks} fill the device`
          : `its consumers need the finished fold over ${f.over.join(' ')}, and do not go along the same axes`)
      }
      store(p, node)
      return
    }
    for (const f of below) p.edges.push({ from: f, to: p.names.of(node), decision: 'recomputed', reason: `a pass over ${f.over.join(' ')} in the same kernel, on ${parallel} blocks` })
  } else if (isFold(node) && longAxes(node).length > 0 && p.decider.decide('fold', p.twins.get(foldKey(node))![0]!, worthSplitting ? ['split', 'whole'] : ['whole', 'split']) === 'split') {
    storePartials(p, node, shape)
    return
  }
  push(p, 'stream', [{ node, stored: array() }], shape)
}

/** Blocks of a streaming kernel whose streamed axis is not divided, in tiles of 64. */
function blocksOf(p: Planner, shape: StreamShape): number {
  const rows = shape.rows.filter(r => !r.folded).reduce((n, r) => n * lengthOf(p, r.axis.size), 1)
  return shape.grid.reduce((n, a) => n * lengthOf(p, a.size), 1) * Math.ceil(rows / 64) * shape.beside.reduce((n, a) => n * Math.ceil(lengthOf(p, a.size) / 64), 1)
}

/** Folds that share their work are stored by one kernel. */
function storePartials(p: Planner, f: Fold, shape: StreamShape): void {
  const memories = p.names.partials(f)
  const loads = new Map(p.stored)
  for (const t of p.twins.get(foldKey(f))!) p.stored.set(t, { form: 'partials', monoid: foldMonoid(t), memories, count: productOf(foldArg(t), t.over) })
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

/** Cuts off a fold: it is stored, or what the program makes of it, element by element, if that has fewer bits. */
function cutFold(p: Planner, f: Fold, reader: Expr, reason: string): void {
  let at: Expr = f
  for (let e: Expr | undefined = f; e !== undefined && e !== reader; e = onlyReader(p, e)) {
    if (!isStored(p)(e) && byteSize[e.dtype] < byteSize[at.dtype] && foldsOf(p, e).every(g => g === f || foldsOf(p, f).includes(g))) at = e
  }
  cut(p, at, reader, at === f ? reason : `${reason}; in the ${at.dtype} that the program makes of it`)
  store(p, at)
}
/** The elementwise node with the same axes that alone reads a node. */
function onlyReader(p: Planner, e: Expr): Expr | undefined {
  const readers = p.readers.get(e), [r] = readers ?? []
  return readers?.size === 1 && (r!.kind === 'map' || r!.kind === 'cast') && r!.axes.length === e.axes.length && !p.stored.has(r!) ? r : undefined
}

/**
 * A pass can feed a later one of its kernel only if its result lies along the kernel's grid and rows, and along all of
 * them: else blocks would repeat it. A contraction along the streamed axis can only be the last: what follows is
 * elementwise, on the tile that it leaves in registers.
 */
function fitsPass(f: Fold, shape: StreamShape): boolean {
  const outer = [...shape.grid, ...shape.rows.filter(r => !r.folded).map(r => r.axis)]
  if (longAxes(f).length !== 1) return false
  if (f.kind === 'contract') {
    const all = [...outer, ...shape.beside]
    return shape.column === undefined && shape.rows.every(r => !r.folded || r.whole) && f.axes.length === all.length && all.every(a => axisOf(f, a.name) !== undefined)
  }
  return outer.every(a => axisOf(f, a.name) !== undefined) &&
    f.axes.every(a => [...shape.grid, ...shape.rows.map(r => r.axis)].some(b => b.name === a.name)) && shape.rows.every(r => !r.folded || r.whole)
}

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

/** Cuts what every rule needs cut: topK, and folds below nodes that read elsewhere; stores tiles that shall be. */
function cutForced(p: Planner, root: Expr): void {
  for (const e of inside(root, isStored(p))) {
    const kept = e === root ? undefined : p.tiles.get(e)
    if (kept !== undefined && kept !== root && !p.stored.has(kept) && !p.stored.has(e) && p.decider.decide('tile', kept, ['recompute', 'store']) === 'store') {
      cut(p, kept, root, 'reading it again takes less than computing it again')
      store(p, kept)
    }
    if (e !== root && p.due.has(e) && !p.stored.has(e) && inside(e, isStored(p)).some(x => isFold(x) || x.kind === 'window' || x.kind === 'topK' && x === e)) { cut(p, e, root, 'it is an output, so it is stored anyway'); store(p, e) }
    if (e !== root && e.kind === 'topK' && !p.stored.has(e)) { cut(p, e, root, selectionAlone); store(p, e) }
    if (e.kind === 'reduce' && e.monoid.ordered && e !== root && !p.stored.has(e)) { cut(p, e, root, 'its order of elements is fixed: one thread goes through them'); store(p, e) }
    if (elsewhere.has(e.kind)) cutBelow(p, e, children(e))
    else if (renamesOver(p, root, e)) cutFolds(p, e)
    // Operands of contractions are staged from arrays; only the left one of a contraction over one axis, a streamed one, may lie in registers.
    if (e.kind === 'contract') for (const x of longAxes(e).length === 0 || e.over.length > 1 ? children(e) : [e.right]) if (isStored(p)(x) || foldsOf(p, open(x)).length === 0) finishParts(p, open(x))
  }
}
/** Whether a node gives an axis another name, and the kernel has an axis of the old one as well: a fold below lies along both. */
function renamesOver(p: Planner, root: Expr, e: Expr): boolean {
  const old = e.kind === 'rename' ? e.from : e.kind === 'slice' && e.as !== e.axis ? e.axis : undefined
  if (old === undefined) return false
  const below = new Set(inside(e, isStored(p)).filter(x => x !== e))
  return inside(root, isStored(p)).some(x => !below.has(x) && axisOf(x, old) !== undefined)
}
/** Stores the folds below a node, not what is made of them element by element. */
function cutFolds(p: Planner, reader: Expr): void {
  const folds = foldsOf(p, reader), highest = folds.filter(f => !folds.some(g => g !== f && foldsOf(p, g).includes(f)))
  for (const f of highest) { cut(p, f, reader, 'it is read along an axis of another name, beside the one that it has'); store(p, f) }
}
const selectionAlone = 'selection needs the whole row, and what follows wants all blocks'

/** Stores the highest nodes that hold folds; windows on the way stay with the reader, or are stored. */
function cutBelow(p: Planner, reader: Expr, below: readonly Expr[]): void {
  for (const c of below) {
    // A concatenation evaluates one side only, so a side cannot hold a loop, and no index of what it reads can.
    const e = open(c), oneSide = reader.kind === 'concat' || reader.kind === 'gather' && c === reader.index && inside(reader.arg, isStored(p)).some(x => x.kind === 'concat')
    if (oneSide) finishParts(p, e)
    if (p.stored.has(e)) continue
    if (e.kind === 'topK') { cut(p, e, reader, selectionAlone); store(p, e); continue }
    const windows = holdsWindow(p, e), again = windows && (reader.kind === 'topK' || reader.kind === 'window')
    if (again && p.decider.decide('window', e, ['at the reader', 'stored']) === 'stored') {
      cut(p, e, reader, `${reader.kind} reads each element several times: stored, its neighbours are read once`)
      store(p, e)
      continue
    }
    const loops = oneSide && windows
    if (foldsOf(p, e).length === 0 && !loops && !inside(e, isStored(p)).some(x => x.kind === 'topK')) continue
    if (again) { cutBelow(p, e.kind === 'window' ? e : reader, children(e)); continue }
    cut(p, e, reader, reader.kind === 'topK'
      ? 'selection reads each element several times; computing it once is cheaper'
      : `${reader.kind} reads it at other positions: ${reader.kind === 'window' ? 'pooled where it is read, each value would be computed once per neighbour' : 'each value would be computed again there'}`)
    store(p, e)
    if (oneSide) finishParts(p, e)
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
