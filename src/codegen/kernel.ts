/**
 * The kernel IR: how one thread block computes its part, in tiles. There are no threads here: a register tile's layout
 * says which thread holds which element, and only the emitted text names threads. Barriers are placed by a pass.
 */
import type { Dtype } from '../dsl/dtype.js'
import type { Monoid } from '../dsl/monoid.js'
import type { BinaryName, UnaryName } from '../dsl/scalar.js'
import type { Source } from '../dsl/source.js'
import type { Size } from '../dsl/size.js'

interface Range {
  readonly min: number
  readonly max: number
}

/** Index arithmetic; `index-expr.ts` builds it. Every index knows the least and greatest value it can take. */
export type Index = Range & (
  | { readonly op: 'const'; readonly value: number }
  /** A scalar of the kernel: block-uniform, named in the text. `below`: the canonical text of an exclusive bound. */
  | { readonly op: 'scalar'; readonly name: string; readonly below?: string }
  /** A symbol of the program: a kernel argument. */
  | { readonly op: 'symbol'; readonly name: string }
  /** The element's coordinate along a tile dimension. */
  | { readonly op: 'dim'; readonly dim: Dim }
  /** An integer computed from data, such as a gathered position. */
  | { readonly op: 'value'; readonly value: Value; readonly below?: string }
  | { readonly op: 'add' | 'mul' | 'div' | 'mod' | 'min' | 'max'; readonly a: Index; readonly b: Index }
)

/**
 * A dimension of register tiles. It is cut into `parts` equal stretches; within one, `pack` neighbours lie in registers of
 * one thread, the next ones in the next of `threads` threads, and so on in turns: element x of a stretch lies in register
 * ⌊x / (threads · pack)⌋ · pack + x % pack of the threads with (thread / stride) % threads = ⌊x / pack⌋ % threads.
 * `parts` lie along (thread / partStride) % parts. Without pack and parts neighbours lie in neighbouring threads; with
 * threads 8 and stride 4, or threads 4 and pack 2, a dimension lies as the rows and columns of mma's fragments do.
 */
export interface Dim {
  readonly name: string
  readonly extent: number
  readonly threads: number
  readonly stride: number
  /** Default 1. */
  readonly pack?: number
  /** Default 1: no stretches. */
  readonly parts?: number
  readonly partStride?: number
}
export const packOf = (d: Dim): number => d.pack ?? 1
export const partsOf = (d: Dim): number => d.parts ?? 1
/** Registers of a thread that hold the dimension. */
export const registers = (d: Dim): number => Math.ceil(d.extent / (d.threads * packOf(d) * partsOf(d))) * packOf(d)
/** Length of a dimension with what its threads add to it. */
export const padded = (d: Dim): number => registers(d) * d.threads * partsOf(d)
/** Where a dimension lies along threads: lanes first, then parts. */
export const threadFactors = (d: Dim): { readonly threads: number; readonly stride: number }[] =>
  [{ threads: d.threads, stride: d.stride }, { threads: partsOf(d), stride: d.partStride ?? 1 }].filter(f => f.threads > 1)

export interface RegisterTile {
  readonly space: 'register'
  readonly name: string
  readonly dtype: Dtype
  readonly dims: readonly Dim[]
  /** An operand of mma: the pairs of the last dimension, 16 bits each, share registers of 32 bits. */
  readonly paired?: boolean
  /** So many neighbours in memory are one element of the tile; 1 if absent. */
  readonly vector?: number
}

export interface SharedTile {
  readonly space: 'shared'
  readonly name: string
  readonly dtype: Dtype
  readonly axes: readonly { readonly name: string; readonly extent: number }[]
  /** Elements added to each row of the last axis, so that a column's elements lie in different banks. */
  readonly pad: number
  /** The 16-byte chunks of row r stand at chunk ^ (r % 8): eight rows' chunks of one column lie in different banks. */
  readonly swizzle?: boolean
  /** So many tiles, used in turns: a loop fills those ahead while it uses one. */
  readonly stages?: number
}
export const rowPitch = (t: SharedTile): number => t.axes[t.axes.length - 1]!.extent + t.pad
export const sharedElements = (t: SharedTile): number => t.axes.slice(0, -1).reduce((n, a) => n * a.extent, rowPitch(t)) * (t.stages ?? 1)

/** An array in global memory: an input, an output or a value that one kernel leaves for another. */
export interface Memory {
  /** What the text calls it. */
  readonly name: string
  /** What the user calls the input or output. */
  readonly user: string
  readonly dtype: Dtype
  readonly role: 'input' | 'output' | 'between'
  /** Row-major, outermost first. `split` is the number of splits of the kernel that writes it. */
  readonly axes: readonly { readonly name: string; readonly size: Size | 'splits' }[]
}

/** What one element is worth: a scalar expression over registers, shared and global memory. */
export type Value =
  | { readonly op: 'const'; readonly value: number; readonly dtype: Dtype }
  | { readonly op: 'index'; readonly index: Index; readonly dtype: Dtype }
  /** The own element of a register tile. */
  | { readonly op: 'register'; readonly tile: RegisterTile; readonly dtype: Dtype }
  | { readonly op: 'shared'; readonly tile: SharedTile; readonly at: readonly Index[]; readonly dtype: Dtype }
  | { readonly op: 'load'; readonly memory: Memory; readonly at: Index; readonly dtype: Dtype }
  | { readonly op: 'unary'; readonly name: UnaryName; readonly a: Value; readonly dtype: Dtype }
  | { readonly op: 'binary'; readonly name: BinaryName; readonly a: Value; readonly b: Value; readonly dtype: Dtype }
  | { readonly op: 'where'; readonly condition: Value; readonly a: Value; readonly b: Value; readonly dtype: Dtype }
  | { readonly op: 'cast'; readonly a: Value; readonly dtype: Dtype }
  /** Like where, but only the chosen side is evaluated: loads in the other one may be out of range. */
  | { readonly op: 'guarded'; readonly condition: Value; readonly a: Value; readonly b: Value; readonly dtype: Dtype }
  /**
   * A fold within one thread: elements for `variable` in from .. to, put together with the monoid. `result` reads the
   * components as variables; `position` is what the monoid's lift knows as `at`. `parts` are components that another
   * kernel has folded already; they take the place of the lifted element.
   */
  | { readonly op: 'loop'; readonly monoid: Monoid; readonly parts?: readonly Value[]; readonly variable: Extract<Index, { op: 'scalar' }>; readonly from: Index; readonly to: Index; readonly element: Value; readonly position: Index; readonly count: Value; readonly dtype: Dtype }
  /** A component of a monoid or a local of a fold, by name. Only inside `merge`, `fold` and `loop`. */
  | { readonly op: 'local'; readonly name: string; readonly dtype: Dtype }

/** A stretch of a row that lies side by side in memory: elements rest + position + from .. rest + position + to. */
export interface RowStretch {
  readonly memory: Memory
  readonly rest: Index
  readonly from: number
  readonly to: number
  /** Read in vectors of four elements: the whole stretch is some, and aligned. */
  readonly vectors?: boolean
}

/** A value at four neighbouring positions of a row at once; see `lower/neighbours.ts`. */
export interface Neighbours {
  /** The value at one of them, where no window needs a bound. */
  readonly score: Value
  /** 0 to 3. Groups of four begin at positions p where shift + p is a multiple of 4; so do their rows in memory. */
  readonly shift: Index
  readonly rows: readonly RowStretch[]
  /** A group at p can be had so if p - before and p + after - 1 lie in the row. */
  readonly before: number
  readonly after: number
}

/** A run of the radix selection over one row; see `lower/select.ts`. */
export interface Selection {
  /** The element at position `at` of the row: f32, or u32 where an earlier kernel has made an integer of the same order. */
  readonly score: Value
  readonly at: Extract<Index, { op: 'scalar' }>
  readonly neighbours?: Neighbours
  readonly length: Index
  readonly k: Index
  /** What is stored of the element at `at`; i32. */
  readonly found: Value
  readonly target: Memory
  /** Where the row's positions go. */
  readonly base: Index
  /** The integers of what is found, stored beside it: the block has only a part of the row, which may have fewer than k. */
  readonly keys?: Memory
  readonly order: 'position' | 'score'
  /** Blocks that share a row, and which of them this one is. */
  readonly blocks: number
  readonly rank: Index
  /** The blocks of a row see each other's shared memory and find the k best of the whole row together. */
  readonly cluster: boolean
}

export type Statement =
  | { readonly kind: 'comment'; readonly text: string; readonly source?: Source | undefined }
  /** An integer by name: block-uniform, or one for each thread if it mentions a dimension with one register. */
  | { readonly kind: 'let'; readonly name: string; readonly value: Index }
  | { readonly kind: 'for'; readonly variable: string; readonly from: Index; readonly to: Index; readonly step: number; readonly body: readonly Statement[]; readonly ring?: Ring; readonly rolled?: boolean }
  /** The condition is the same for the whole block. */
  | { readonly kind: 'if'; readonly condition: Value; readonly body: readonly Statement[] }
  /** Every element of the tile becomes the value. `fresh` declares the tile. */
  | { readonly kind: 'map'; readonly target: RegisterTile; readonly value: Value; readonly fresh: boolean }
  /** Puts the elements along `over` into the components, within each thread. `counted`: elements that take part. */
  | { readonly kind: 'fold'; readonly components: readonly RegisterTile[]; readonly monoid: Monoid; readonly over: readonly Dim[]; readonly element: Value; readonly position: Index; readonly counted: Value | undefined }
  /** components = components combined with the values, one per component. */
  | { readonly kind: 'merge'; readonly components: readonly RegisterTile[]; readonly monoid: Monoid; readonly values: readonly Value[] }
  /** Puts the components of the threads along a dimension of one warp together; all of them then hold the result. */
  | { readonly kind: 'combine'; readonly components: readonly RegisterTile[]; readonly monoid: Monoid; readonly over: Dim }
  /** All threads fill a shared tile; `at` are the variables of its axes in `value`. `vector` neighbours go at once. A ring's
   * copies fill the stage `slot` and are asynchronous: 16 bytes of an array each, or zeros. */
  | { readonly kind: 'stage'; readonly target: SharedTile; readonly at: readonly Extract<Index, { op: 'scalar' }>[]; readonly value: Value; readonly vector: number; readonly slot?: string }
  /** Every element of a register tile goes to its place in a shared tile. */
  | { readonly kind: 'spill'; readonly target: SharedTile; readonly dims: readonly Dim[]; readonly at: readonly Index[]; readonly value: Value }
  /** target += left × right, summed over the axis `over` of both, by each thread's own products. */
  | { readonly kind: 'contract'; readonly target: RegisterTile; readonly left: SharedTile; readonly right: SharedTile; readonly over: string; readonly extent: number }
  /** target += a × b by tensor cores: `a` along the target's dimension `m` (8 lanes), `b` along `n` (pairs in 4 lanes). */
  | { readonly kind: 'mma'; readonly target: RegisterTile; readonly a: SharedPart; readonly b: SharedPart | RegisterTile; readonly m: Dim; readonly n: Dim; readonly over: string; readonly extent: number }
  /** Fills a paired tile: `at` is the position along its last dimension; `vector` 2 loads a pair at once. */
  | { readonly kind: 'pairs'; readonly target: RegisterTile; readonly at: Extract<Index, { op: 'scalar' }>; readonly value: Value; readonly vector: number }
  /** Every element goes to memory where the condition holds. Threads that hold copies write once. `vector` at once. */
  | { readonly kind: 'store'; readonly memory: Memory; readonly dims: readonly Dim[]; readonly at: Index; readonly value: Value; readonly condition: Value; readonly vector: number }
  /** Finds and stores the positions of the best elements. `cache` has the keys of a row that fits, `sorted` what is put in order. */
  | {
    readonly kind: 'select'; readonly selection: Selection
    readonly histogram: SharedTile; readonly totals: SharedTile; readonly state: SharedTile; readonly candidates: SharedTile
    /** Candidates of all blocks of a cluster. */
    readonly gathered?: SharedTile
    readonly cache?: SharedTile; readonly sorted?: { readonly keys: SharedTile; readonly positions: SharedTile }
  }
  /** `landed`: before the barrier, the thread's asynchronous copies have landed but for so many tiles. */
  | { readonly kind: 'barrier'; readonly landed?: number }

/** An operand of mma in shared memory: a tile or one of its stages, from element `from` of the dimension that a loop divides. */
export interface SharedPart {
  readonly space: 'part'
  readonly tile: SharedTile
  readonly slot?: string
  /** Added to the position along the axis called `fromAxis`. */
  readonly from: Index
  readonly fromAxis: string
}

/** What a loop copies ahead: each turn uses slot `slot` of the tiles; the copies of turns to come are under way. */
export interface Ring {
  readonly slot: string
  readonly stages: number
  /** Copies of one turn's tiles, in terms of the loop's variable. */
  readonly loads: readonly Extract<Statement, { kind: 'stage' }>[]
}

export interface GridAxis {
  readonly name: string
  /** Number of blocks along it. */
  readonly blocks: Index
}

export interface Kernel {
  readonly name: string
  /** What it computes, for the head of the text. */
  readonly summary: readonly string[]
  readonly threads: number
  /** Blocks that a multiprocessor should hold at once, a bound on registers. Default 1. */
  readonly residency?: number
  /** Neighbouring blocks that run together and read each other's shared memory. */
  readonly cluster?: number
  /** Blocks, fastest first: blockIdx.x runs over their product. */
  readonly grid: readonly GridAxis[]
  readonly inputs: readonly Memory[]
  readonly outputs: readonly Memory[]
  /** Program symbols that the text mentions, as i32 arguments, sorted. */
  readonly symbols: readonly string[]
  /**
   * Numbers of blocks that are arguments: `splits`, of a fold's parts (its own or of what it reads); `shares`, of the
   * blocks among which the tiles of a result are divided.
   */
  readonly counts: readonly ('splits' | 'shares')[]
  /** The axis whose tiles are divided among blocks, if there is one: its length, and how much a tile takes. */
  readonly divided?: { readonly length: Index; readonly tile: number }
  readonly body: readonly Statement[]
}
