/**
 * Arithmetic that a kernel does, counted from its nodes.
 *
 * A streaming kernel computes a node once at each position that it needs, in each of its passes; neighbours that a
 * window reads are computed again for each. Point and select kernels compute by thread: what lies below a fold or a
 * window is computed for each step of its loop, and again for each element of the result.
 */
import { axisOf, type Expr } from '../../dsl/expr.js'
import type { Scalar } from '../../dsl/scalar.js'
import { byteSize } from '../../dsl/dtype.js'
import { evaluateSize, type Sizes } from '../../dsl/size.js'
import { foldArg, foldKey } from '../folds.js'
import { open } from '../lower/value.js'
import type { Group } from '../plan.js'
import { completed, elementsIn, needs, wholeRegion, type Region } from '../regions.js'
import { isPass, lastPass, passHeights } from '../traffic.js'

export interface Work {
  /** f32 and integer operations; a multiplication and an addition are two. */
  readonly operations: number
  /** Operations of contractions whose operands have 16 bits: tensor cores can do them. */
  readonly products: number
  /** Exponentials, logarithms, roots and their like, and divisions. */
  readonly functions: number
  /** Bytes that threads load one element at a time, most of them from the first-level cache. */
  readonly loaded: number
}

type Counts = { -readonly [F in keyof Work]: number }

const functions = new Set(['exp', 'exp2', 'log', 'log2', 'sqrt', 'rsqrt', 'sin', 'cos', 'tanh', 'pow', 'div'])

/** Operations of a scalar expression, and how many of them are functions. */
function scalarWork(s: Scalar): { operations: number; functions: number } {
  const below = s.op === 'unary' || s.op === 'cast' ? [s.a] : s.op === 'binary' ? [s.a, s.b] : s.op === 'where' ? [s.condition, s.a, s.b] : []
  const own = s.op === 'var' || s.op === 'const' || s.op === 'size' ? 0 : 1
  const isFunction = (s.op === 'unary' || s.op === 'binary') && functions.has(s.name) ? 1 : 0
  return below.map(scalarWork).reduce((a, b) => ({ operations: a.operations + b.operations, functions: a.functions + b.functions }), { operations: own - isFunction, functions: isFunction })
}

/** Bits of the elements that a contraction multiplies: those of the array or cast that it reads. */
const narrow = (e: Expr): boolean => e.dtype === 'f16' || e.dtype === 'bf16'

/** `sweeps`: how often a select kernel goes through its row. */
export function groupWork(g: Group, sizes: Sizes, sweeps: (length: number) => number): Work {
  const total: Counts = { operations: 0, products: 0, functions: 0, loaded: 0 }
  const seen = new Set<string>()
  const length = (e: Expr, axes: readonly string[]): number => axes.reduce((n, a) => n * evaluateSize(axisOf(e, a)!.size, sizes), 1)
  const scalars = (times: number, ...all: readonly Scalar[]): void => {
    for (const s of all) { const w = scalarWork(s); total.operations += times * w.operations; total.functions += times * w.functions }
  }
  /** What one node does itself, for so many elements of its own. */
  const own = (e: Expr, elements: number, byThread: boolean): void => {
    switch (e.kind) {
      case 'map': scalars(elements, e.body); break
      case 'cast': total.operations += elements; break
      case 'window': total.operations += elements * e.size; break
      case 'contract': {
        const steps = elements * length(e.left, e.over)
        total[!byThread && narrow(open(e.left)) && narrow(open(e.right)) ? 'products' : 'operations'] += 2 * steps
        break
      }
      case 'reduce':
        scalars(elements * length(e.arg, e.over), ...e.monoid.components.flatMap(c => [c.lift, c.combine]))
        scalars(elements, e.monoid.result)
        break
      default:
    }
  }
  const once = (key: string): boolean => { const fresh = !seen.has(key); seen.add(key); return fresh }
  // Tiles: `times` is how many windows compute the same element.
  const heights = passHeights(e => g.loads.has(e))
  const inTiles = (x: Expr, wanted: Region, pass: number, times: number): void => {
    const e = open(x), region = completed(e, wanted, sizes)
    const at = isPass(e) ? heights(e) : pass
    // Folds that differ only in what is read off them are one.
    if (!once(`${e.kind === 'reduce' ? foldKey(e) : e.id} ${at} ${times} ${[...region.values()].join()}`)) return
    if (g.loads.has(e)) { total.loaded += elementsIn(region) * times * byteSize[e.dtype]; return }
    own(e, elementsIn(region) * times, false)
    for (const [c, r] of needs(e, region, sizes)) inTiles(c, r, at, e.kind === 'window' ? times * e.size : times)
  }
  const byThread = (x: Expr, elements: number): void => {
    const e = open(x)
    if (!once(`${e.id} x${elements}`)) return
    if (g.loads.has(e)) { total.loaded += elements * byteSize[e.dtype]; return }
    own(e, elements, true)
    const steps = e.kind === 'window' ? e.size : e.kind === 'contract' || e.kind === 'reduce' ? length(foldArg(e), e.over) : 1
    for (const [c] of needs(e, completed(e, new Map(), sizes), sizes)) byThread(c, elements * steps)
  }
  for (const { node } of g.roots) {
    const root = open(node), elements = elementsIn(wholeRegion(root, sizes))
    if (g.rule === 'stream') inTiles(root, new Map(), lastPass(root, heights), 1)
    else if (root.kind !== 'topK' || g.rule === 'point') byThread(root, elements)
    else {
      const scores = elementsIn(wholeRegion(root.arg, sizes)), times = sweeps(length(root.arg, [root.axis]))
      byThread(root.arg, scores * times)
      total.operations += scores * times * 4
    }
  }
  return total
}
