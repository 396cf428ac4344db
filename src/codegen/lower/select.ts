/**
 * Select kernels: the positions of the k best elements of a row, exactly, by one thread block per row.
 *
 * An element's score becomes a 32-bit key with the same order. A radix pass counts the keys by their upper 11 bits in
 * shared memory; a scan over the bins from the top tells in which one the k-th best lies. The elements of that bin
 * (about 200 of 16K votes) are ranked against each other; only if they are more than `candidates`, a pass over the next
 * digit follows, three in all at most. Then the threshold and the number of elements equal to it that are kept are known.
 * A last pair of sweeps counts and compacts: a warp goes through its own part of the row, so that ballots number the
 * elements in order of position without a barrier, and of equal ones the first are kept. No result depends on the order
 * of threads: histogram and candidates are sums and sets.
 *
 * Every thread meets the same elements in each sweep, in the positions lane, lane + 32, ... of its warp's part. Rows
 * that fit are evaluated once, into shared memory (`cached`), and since a thread reads only what it wrote itself that
 * needs no barrier; longer rows are evaluated again in each of the four or five sweeps, from L2. That relies on a score
 * having the same bits each time, which `--fmad=false` grants.
 *
 * In order of score, what is selected is gathered in shared memory and sorted by a bitonic network over (key, position),
 * which are distinct, so that the order in which they came is forgotten. For k beyond `sorted` ranks follow in chunks:
 * select the best k', leave out what the last chunk had, sort, go on. That costs a selection per chunk; nothing but
 * shared memory carries data between threads, because no scratch memory is given.
 */
import { axisOf, type Axis, type Expr, type Of } from '../../dsl/expr.js'
import { fixedSize } from '../../dsl/size.js'
import { memoriesIn, mentionsSplits, nodeComments } from './common.js'
import type { Stored } from './value.js'
import { symbolsIn } from '../facts.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { GridAxis, Kernel, Memory, SharedTile, Statement, Value } from '../kernel.js'
import { invalidSelect, type SelectSchedule } from '../schedule-select.js'
import { roomiest } from '../target.js'
import { castValue } from '../values.js'

export interface SelectGroup {
  readonly name: string
  readonly node: Of<'topK'>
  readonly summary: readonly string[]
  /** The selected node's argument at a position of its axes. */
  readonly score: (position: ReadonlyMap<string, Index>) => Value
  /** Row-major, the positions innermost. */
  readonly target: Memory
  /** A name that was not given out before; the score's own loops take theirs from it too. */
  readonly fresh: (wish: string) => string
  /** What other kernels have stored: those nodes get no comment here, and their arrays' names are taken. */
  readonly stored: ReadonlyMap<Expr, Stored>
}

type Scalar = Extract<Index, { op: 'scalar' }>

export function lowerSelect(g: SelectGroup, schedule: SelectSchedule): Kernel {
  const { node, target } = g, wrong = invalidSelect(schedule, roomiest)
  if (wrong !== undefined) throw new Error(`${g.name}: ${wrong}`)
  const selected = axisOf(node.arg, node.axis)!, rows = node.axes.slice(0, -1)
  if (target.axes.some((a, i) => a.name !== node.axes[i]?.name)) throw new Error(`${target.name} must have the axes of its node in their order`)
  const arrays = [...g.stored.values()].flatMap(x => (x.form === 'array' ? [x.memory] : x.memories)).map(m => m.name)
  const taken = new Set([g.name, target.name, ...arrays])
  const fresh = (wish: string): string => {
    let name = g.fresh(wish)
    while (taken.has(name)) name = g.fresh(wish)
    return name
  }
  const variable = (a: Axis): Scalar =>
    ix.scalar(fresh(a.name), Math.max(0, (fixedSize(a.size) ?? ix.longest + 1) - 1), ix.boundText(a.size)) as Scalar
  const axes = [...node.axes.filter(a => a.name !== node.as), selected]
  const position = new Map<string, Scalar>(axes.map(a => [a.name, variable(a)]))
  const score = castValue(g.score(position), 'f32')
  const length = ix.sizeIndex(selected.size), k = ix.sizeIndex(node.k)
  const extents = node.axes.map(a => ix.sizeIndex(a.size))
  const base = ix.offset([...rows.map(a => position.get(a.name)!), ix.zero], extents)

  const tile = (wish: string, axis: string, extent: number, dtype: 'u32' | 'i32' = 'u32'): SharedTile =>
    ({ space: 'shared', name: fresh(wish), dtype, axes: [{ name: axis, extent }], pad: 0 })
  const cached = Math.min(schedule.cached, length.max), sorted = Math.max(1, Math.min(schedule.sorted, k.max))
  const statement: Statement = {
    kind: 'select',
    selection: { score, at: position.get(selected.name)!, length, k, target, base, order: node.order },
    histogram: tile('histogram', 'bin', 2 ** schedule.digitBits),
    candidates: tile('candidates', 'candidate', schedule.candidates),
    totals: tile('totals', 'warp', 32),
    state: tile('state', 'word', node.order === 'position' ? 4 : 6),
    // Part of a row is of no use.
    ...(cached === 0 || cached < length.min ? {} : { cache: tile('keys', 'position', cached) }),
    ...(node.order === 'position' ? {} : { sorted: { keys: tile('sortedKeys', 'rank', sorted), positions: tile('sortedPositions', 'rank', sorted, 'i32') } }),
  }
  const body: Statement[] = [...nodeComments([node], g.stored), statement]
  const grid: GridAxis[] = rows.map(a => ({ name: position.get(a.name)!.name, blocks: ix.sizeIndex(a.size) })).reverse()
  return {
    name: g.name, summary: g.summary, threads: schedule.threads, grid, inputs: memoriesIn(body), outputs: [target],
    symbols: symbolsIn(body, grid.slice(0, -1).map(x => x.blocks)), counts: mentionsSplits(body) ? ['splits'] : [], body,
  }
}
