/**
 * Streaming kernels: a block holds the rows of a tile and goes along one long axis, tile by tile.
 *
 * What is needed is computed on demand, each in the outermost scope where its position is known: operands of
 * contractions are staged in shared memory before the loop if they do not depend on it, folds over a whole axis become
 * loops of their own before the loop that needs them (further passes), parts of folds that another kernel has split are
 * put together once. Within a tile, rows × columns of a contraction lie in registers; maps work on them in place; folds
 * over rows end in a few shuffles, folds along the axis keep their state in registers until the axis is done.
 *
 * A fold of the result over the streamed axis can be split: each block takes a share of the tiles and stores the
 * components of its part. A result with the streamed axis itself is stored tile by tile, again in shares.
 */
import { symbolsIn } from '../facts.js'
import { isFold, type Fold } from '../folds.js'
import * as ix from '../index-expr.js'
import type { GridAxis, Kernel } from '../kernel.js'
import type { Root } from '../plan.js'
import { freshNames } from '../reserved.js'
import type { StreamSchedule } from '../schedule.js'
import * as v from '../values.js'
import { memoriesIn, memoryNames, mentionsSplits } from './common.js'
import { divideAxes } from './divide.js'
import { alongTiles, dimsIn, passesBelow, streamsBelow, valid, type Lowering, type Scope, type StreamGroup } from './scopes.js'
import { comment, streamFold, tileValue } from './stream-values.js'
import { memoryOffset, type Environment } from './value.js'

export function lowerStream(g: StreamGroup, schedule: StreamSchedule): Kernel {
  const fresh = freshNames([g.name, 'share', ...memoryNames(new Map([...g.stored, ...g.roots.map(r => [r.node, r.stored] as const)]))])
  const d = divideAxes(g.shape, schedule, fresh)
  const top: Scope = { body: [], scalars: new Set(), tiles: new Map() }
  const l: Lowering = {
    g, d, fresh, threads: schedule.threads, depth: schedule.depth, stages: schedule.path === 'mma' ? schedule.stages : 1, divided: undefined, scopes: [top],
    append: s => { l.scopes[l.scopes.length - 1]!.body.push(s) },
  }
  const root = g.roots[0]!
  const partial = root.stored.form === 'partials'
  const shared = partial || (g.shape.column !== undefined && !g.roots.some(r => streamsBelow(r.node, g)))
  const counts = partial ? 'splits' as const : 'shares' as const

  if (partial) storeParts(l, root)
  else if (g.shape.column === undefined) g.roots.forEach(r => storeWhole(l, r))
  else storeColumns(l, g.roots, shared)

  const grid: GridAxis[] = [...d.grid, ...(shared ? [{ name: 'share', blocks: ix.scalar(counts, ix.longest) }] : [])]
  const outputs = g.roots.flatMap(r => (r.stored.form === 'array' ? [r.stored.memory] : [...r.stored.memories]))
  const used = mentionsSplits(top.body)
  return {
    name: g.name, summary: g.summary, threads: schedule.threads, grid, inputs: memoriesIn(top.body).filter(m => !outputs.includes(m)), outputs,
    symbols: symbolsIn(top.body, grid.slice(0, -1).map(x => x.blocks)),
    counts: [...(partial || used ? ['splits' as const] : []), ...(shared && !partial ? ['shares' as const] : [])], body: top.body,
    ...(l.divided === undefined ? {} : { divided: l.divided }), ...(schedule.path === 'mma' ? { residency: schedule.residency } : {}),
  }
}

// ---------------------------------------------------------------------------------------------- results

/** A result without the streamed axis: what is left when the folds are done. */
function storeWhole(l: Lowering, root: Root): void {
  const env = l.d.environment(root.node.axes)
  const value = tileValue(l, root.node, env)
  if (root.stored.form !== 'array') return
  const dims = dimsIn(l, [...env.values()])
  if (!isFold(root.node)) comment(l, root.node)
  l.append({ kind: 'store', memory: root.stored.memory, dims, at: memoryOffset(root.stored.memory, env), value, condition: valid(root.node, env), vector: 1 })
}

/** The components of a fold of this block's share of the axis. */
function storeParts(l: Lowering, root: Root): void {
  const node = root.node as Fold
  if (root.stored.form !== 'partials') return
  const env = l.d.environment(node.axes)
  const components = streamFold(l, node, env, true)
  const dims = components[0]!.dims
  root.stored.memories.forEach((m, i) => {
    const at = memoryOffset(m, new Map([...env, ['splits', ix.scalar('share', ix.longest)]]))
    l.append({ kind: 'store', memory: m, dims, at, value: v.registerValue(components[i]!), condition: valid(node, env), vector: 1 })
  })
}

/** Results along the streamed axis, tile by tile. */
function storeColumns(l: Lowering, roots: readonly Root[], shared: boolean): void {
  const column = l.g.shape.column!
  // Passes that must be over before: demanded here, so that their loops come first.
  if (!shared) for (const f of roots.flatMap(r => passesBelow(l, r.node))) tileValue(l, f, l.d.environment(f.axes))
  alongTiles(l, column.name, ix.sizeIndex(column.size), shared, position => {
    for (const root of roots) {
      const env: Environment = new Map([...l.d.environment(root.node.axes.filter(a => a.name !== column.name)), [column.name, position]])
      const condition = valid(root.node, env), value = v.assuming(tileValue(l, root.node, env), condition)
      if (root.stored.form !== 'array') return
      if (!isFold(root.node)) comment(l, root.node)
      l.append({ kind: 'store', memory: root.stored.memory, dims: dimsIn(l, [...env.values()]), at: memoryOffset(root.stored.memory, env), value, condition, vector: 1 })
    }
  })
}
