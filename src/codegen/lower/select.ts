/**
 * Select kernels: the positions of the k best elements of each row, exactly.
 *
 * An element's score becomes a 32-bit key with the same order. A radix pass counts the keys by their upper 11 bits in
 * shared memory; a scan over the bins from the top tells in which one the k-th best lies. The elements of that bin
 * (about 200 of 16K votes) are ranked against each other; only if they are more than `candidates`, a pass over the next
 * digit follows, three in all at most. Then the threshold and the number of elements equal to it that are kept are known,
 * and a last pair of sweeps counts and stores what is kept. No result depends on the order of threads: histogram and
 * candidates are sums and sets, and of equal elements the first are kept by counting.
 *
 * A thread has four neighbours at a time, loaded as vectors where the score allows it (`neighbours.ts`); a warp has a part
 * of the row, so that positions rise with the warp, the round and the lane. A row of one round stays in registers. Of
 * longer ones a block keeps `cached` elements in shared memory, which needs no barrier, since a thread reads only what it
 * wrote itself; what is longer still is evaluated again in each of the four or five sweeps, from L2. That relies on a score
 * having the same bits each time, which `--fmad=false` grants and which always taking the same way at a position keeps.
 *
 * One block a row is bound by its own instructions (4.3 µs for 16K elements on an H100), so rows that do not fill the
 * device are shared. In a cluster (sm_90 and later) every block has a part; all add up each other's histograms, gather
 * each other's candidates and so find the same threshold, and each block stores its own part's share behind those of the
 * blocks before it. Elsewhere two kernels do it: in the first each block selects the k best of its part by itself and
 * stores positions and keys, in the second one block selects among these. That is exact, as the k best of a row are among
 * the k best of its parts, and ties stay right, as the parts lie in order. Histograms in global memory would need a
 * barrier over blocks that may not run at the same time, or as many launches as there are passes, and zeroes to begin
 * with; parts × k elements are little to read again.
 *
 * Results that hang on the positions only, such as the rows they name, can follow in the same kernel (`epilogue.ts`): the
 * blocks of a row copy what they have found, after one more barrier and without another launch. With few rows and few
 * blocks a kernel of its own has more of the device at work.
 *
 * In order of score, what is selected is gathered in shared memory and sorted by a bitonic network over (key, position),
 * which are distinct, so that the order in which they came is forgotten. For k beyond `sorted` ranks follow in chunks:
 * select the best k', leave out what the last chunk had, sort, go on. The sort is one block's work, so several blocks a row
 * always go by two launches then.
 */
import { axisOf, type Axis, type Expr, type Of } from '../../dsl/expr.js'
import { fixedSize, size as symbolSize, times } from '../../dsl/size.js'
import { memoriesIn, memoryNames, mentionsSplits, nodeComments } from './common.js'
import { epilogueStatements, type Epilogue } from './epilogue.js'
import { furthest, neighboursOf, reachOf } from './neighbours.js'
import type { Stored } from './value.js'
import { symbolsIn } from '../facts.js'
import * as ix from '../index-expr.js'
import type { Index } from '../index-expr.js'
import type { GridAxis, Kernel, Memory, Selection, SharedTile, Statement, Value } from '../kernel.js'
import { freshNames } from '../reserved.js'
import { invalidSelect, type SelectSchedule } from '../schedule-select.js'
import { roomiest } from '../target.js'
import { castValue, indexValue, loadValue } from '../values.js'

export interface SelectGroup {
  readonly name: string
  readonly node: Of<'topK'>
  /** The head of a kernel's text: its name, what it stores, how it goes about it. */
  readonly summary: (name: string, stores: readonly Memory[], how: string) => readonly string[]
  /**
   * The selected node's argument at a position of its axes. It may rely on positions at least `inset` from both ends of
   * the selected axis.
   */
  readonly score: (position: ReadonlyMap<string, Index>, inset: number) => Value
  /** Row-major, the positions innermost. */
  readonly target: Memory
  /** A name that was not given out before; the score's own loops take theirs from it too. */
  readonly fresh: (wish: string) => string
  /** What other kernels have stored: those nodes get no comment here, and their arrays' names are taken. */
  readonly stored: ReadonlyMap<Expr, Stored>
  /** Results that the blocks of a row compute from the positions they have found. */
  readonly epilogue?: Epilogue
}

type Scalar = Extract<Index, { op: 'scalar' }>

/** One kernel, or two where several blocks share a row without a cluster; the first one's name ends in _parts. */
export function lowerSelect(g: SelectGroup, schedule: SelectSchedule): Kernel[] {
  const wrong = invalidSelect(schedule, roomiest)
  if (wrong !== undefined) throw new Error(`${g.name}: ${wrong}`)
  const { node, target } = g, parts = schedule.blocksPerRow
  if (target.axes.some((a, i) => a.name !== node.axes[i]?.name)) throw new Error(`${target.name} must have the axes of its node in their order`)
  const own = variables(g)
  const score = castValue(g.score(own.position, 0), 'f32'), length = ix.sizeIndex(own.selected.size)
  const near = ofGroup(g, own), whole = { score, ...(near === undefined ? {} : { neighbours: near }), length, found: indexValue(own.at) }
  if (parts === 1) return [kernelOf(g, schedule, own, { ...whole, blocks: 1, cluster: false, target })]
  if (schedule.exchange === 'cluster' && node.order === 'position') return [kernelOf(g, schedule, own, { ...whole, blocks: parts, cluster: true, target })]

  // The parts' best lie behind one another: [rows, part, k].
  const partAxis = own.fresh('part'), kAxis = target.axes[target.axes.length - 1]!
  const between = (wish: string, dtype: 'i32' | 'u32'): Memory => ({
    name: own.fresh(`${target.name}${wish}`), user: target.user, dtype, role: 'between',
    axes: [...target.axes.slice(0, -1), { name: partAxis, size: symbolSize(parts) }, kAxis],
  })
  const positions = between('Parts', 'i32'), keys = between('Keys', 'u32')
  // No plan gives a kernel a name with an underscore.
  const first = kernelOf({ ...g, name: `${g.name}_parts` }, schedule, own, { ...whole, blocks: parts, cluster: false, target: positions, keys })
  // A kernel of its own has names of its own.
  const again = variables({ ...g, fresh: freshNames([positions.name, keys.name]) }), candidates = times(parts, node.k)
  const extents = [...node.axes.slice(0, -1).map(a => ix.sizeIndex(a.size)), ix.sizeIndex(candidates)]
  const at = ix.scalar(again.fresh('candidate'), Math.max(0, (fixedSize(candidates) ?? ix.longest + 1) - 1)) as Scalar
  const place = ix.offset([...node.axes.slice(0, -1).map(a => again.position.get(a.name)!), at], extents)
  const stored = loadValue(keys, place)
  const neighbours = neighboursOf(stored, at, 0)
  const second = kernelOf(g, schedule, { ...again, at }, {
    score: stored, ...(neighbours === undefined ? {} : { neighbours }), length: ix.sizeIndex(candidates), found: loadValue(positions, place), blocks: 1, cluster: false, target,
  })
  return [first, second]
}

interface Variables {
  readonly fresh: (wish: string) => string
  readonly selected: Axis
  /** The block's row, and the position along the selected axis. */
  readonly position: ReadonlyMap<string, Scalar>
  readonly at: Scalar
}

function variables(g: SelectGroup): Variables {
  const { node, target } = g, selected = axisOf(node.arg, node.axis)!
  const taken = new Set([g.name, target.name, ...memoryNames(g.stored), ...(g.epilogue?.roots ?? []).map(r => r.memory.name)])
  const fresh = (wish: string): string => {
    let name = g.fresh(wish)
    while (taken.has(name)) name = g.fresh(wish)
    return name
  }
  const variable = (a: Axis): Scalar =>
    ix.scalar(fresh(a.name), Math.max(0, (fixedSize(a.size) ?? ix.longest + 1) - 1), ix.boundText(a.size)) as Scalar
  const position = new Map([...node.axes.filter(a => a.name !== node.as), selected].map(a => [a.name, variable(a)]))
  return { fresh, selected, position, at: position.get(selected.name)! }
}

/** The score at four neighbours, if they can be had at once: far from the ends by as much as its windows reach. */
function ofGroup(g: SelectGroup, { position, at }: Variables): Selection['neighbours'] {
  const reach = reachOf(g.score(position, furthest))
  if (reach > furthest) return undefined
  return neighboursOf(castValue(g.score(position, reach), 'f32'), at, reach)
}

type Task = Pick<Selection, 'score' | 'neighbours' | 'length' | 'found' | 'blocks' | 'cluster' | 'target' | 'keys'>

function kernelOf(g: SelectGroup, schedule: SelectSchedule, { fresh, position, at }: Variables, task: Task): Kernel {
  const { node } = g, { target, length, blocks, cluster } = task, rows = node.axes.slice(0, -1), k = ix.sizeIndex(node.k)
  // The rank of a block moves fastest, so that the blocks of a cluster are those of a row.
  const rank = blocks === 1 ? ix.zero : ix.scalar(fresh('rank'), blocks - 1)
  const shared = blocks > 1 && !cluster ? [rank] : []
  const base = ix.offset([...rows.map(a => position.get(a.name)!), ...shared, ix.zero],
    [...rows.map(a => ix.sizeIndex(a.size)), ...shared.map(() => ix.constant(blocks)), k])
  const order = task.keys === undefined ? node.order : 'position'
  const tile = (wish: string, axis: string, extent: number, dtype: 'u32' | 'i32' = 'u32'): SharedTile =>
    ({ space: 'shared', name: fresh(wish), dtype, axes: [{ name: axis, extent }], pad: 0 })
  const round = 4 * schedule.threads, most = Math.ceil((length.max + (task.neighbours?.shift.max ?? 0)) / (round * blocks)) * round
  // Whole rounds of the block; of one round the keys stay in registers.
  const cached = Math.min(Math.floor(schedule.cached / round) * round, most), sorted = Math.max(1, Math.min(schedule.sorted, k.max))
  const statement: Statement = {
    kind: 'select',
    selection: { ...task, at, k, base, order, rank },
    histogram: tile('histogram', 'bin', 2 ** schedule.digitBits),
    candidates: tile('candidates', 'candidate', schedule.candidates),
    ...(cluster ? { gathered: tile('gathered', 'candidate', schedule.candidates) } : {}),
    totals: tile('totals', 'warp', 64),
    state: tile('state', 'word', order === 'position' ? 6 : 8),
    ...(cached <= round ? {} : { cache: tile('keys', 'element', cached) }),
    ...(order === 'position' ? {} : { sorted: { keys: tile('sortedKeys', 'rank', sorted), positions: tile('sortedPositions', 'rank', sorted, 'i32') } }),
  }
  const after = task.keys === undefined ? g.epilogue : undefined
  const body: Statement[] = [
    ...nodeComments([node], g.stored), statement,
    ...(after === undefined ? [] : [{ kind: 'barrier' } as const, ...epilogueStatements(after, new Map(rows.map(a => [a.name, position.get(a.name)!])), rank, blocks, schedule.threads, fresh)]),
  ]
  const outputs = [target, ...(task.keys === undefined ? [] : [task.keys]), ...(after === undefined ? [] : after.roots.map(r => r.memory))]
  const grid: GridAxis[] = [
    ...(rank.op === 'scalar' ? [{ name: rank.name, blocks: ix.constant(blocks) }] : []),
    ...rows.map(a => ({ name: position.get(a.name)!.name, blocks: ix.sizeIndex(a.size) })).reverse(),
  ]
  return {
    name: g.name, summary: g.summary(g.name, outputs, howText(task)), threads: schedule.threads, ...(cluster ? { cluster: blocks } : {}), grid,
    inputs: memoriesIn(body).filter(m => !outputs.includes(m)), outputs,
    symbols: symbolsIn(body, grid.slice(0, -1).map(x => x.blocks)), counts: mentionsSplits(body) ? ['splits'] : [], body,
  }
}

const howText = ({ blocks, cluster, keys }: Task): string =>
  keys !== undefined ? `each of ${blocks} blocks of a row selects the best of its part` : cluster ? `a cluster of ${blocks} blocks selects of one row` : 'one block selects of one row'
