/** A program under construction: nodes with the ranges of their elements, and the random choices that a step makes. */
import type { Dtype } from '../../src/dsl/dtype.js'
import type { Expr, Size, Tensor } from '../../src/dsl/index.js'
import { equalSizes, evaluateSize, size } from '../../src/dsl/size.js'
import type { Range } from './ranges.js'

/** A node with what is known about its elements. */
export interface Entry extends Range {
  readonly e: Tensor
}

/** Numbers that decide one step; each is used for one decision. */
export type Choose = (n: number) => number
/** Adds one node, or says that there is nothing it could be made from. */
export type Step = (b: Builder, choose: Choose) => Entry | undefined

/** More nodes than this on which others jump would leave little to fuse: each is an output. */
const mostAnchors = 3

export class Builder {
  readonly entries: Entry[] = []
  readonly lengths: Record<string, number> = {}
  /** Nodes whose device values judge what is computed from them. */
  readonly anchors: Expr[] = []
  /** How far a device may be off at nodes whose entries say 0 because they are anchors. */
  readonly errors = new Map<Expr, number>()
  private fresh = 0

  /** @param exact only nodes whose value all devices have @param limit elements of a node @param work elements times terms of a fold */
  constructor(readonly exact: boolean, readonly limit: number, readonly work: number) {}

  freshAxis(): string { return `n${this.fresh++}` }
  /** A symbol that no input's shape tells. */
  freshSymbol(value: number): Size {
    const name = `k${this.fresh++}`
    this.lengths[name] = value
    return size(name)
  }
  at(s: Size): number { return evaluateSize(s, this.lengths) }
  length(e: Expr, axis: string): number { return this.at(this.sizeOf(e, axis)) }
  sizeOf(e: Expr, axis: string): Size { return e.axes.find(a => a.name === axis)!.size }
  count(axes: readonly { readonly name: string; readonly size: Size }[]): number {
    return [...new Map(axes.map(a => [a.name, this.at(a.size)])).values()].reduce((a, b) => a * b, 1)
  }
  /** Whether they can meet: shared axes provably equal, the result not too large. */
  meet(...all: readonly Expr[]): boolean {
    const axes = all.flatMap(e => e.axes)
    return axes.every(x => axes.every(y => x.name !== y.name || equalSizes(x.size, y.size))) && this.count(axes) <= this.limit
  }

  /**
   * The entry as one that all devices have: its node becomes an output, and what is computed from it is judged on the
   * device's own values of it. Nothing where there are enough such outputs.
   */
  settle(t: Entry): Entry | undefined {
    if (t.error === 0) return t
    if (this.exact || this.anchors.length >= mostAnchors) return undefined
    const settled = { ...t, most: t.most + t.error, error: 0, whole: false }
    this.anchors.push(t.e)
    this.errors.set(t.e, t.error)
    this.entries[this.entries.indexOf(t)] = settled
    return settled
  }
}

export const entry = (e: Expr, range: Range): Entry => ({ e: e as Tensor, most: range.most, error: range.error, whole: range.whole, finite: range.finite })

const floatTypes: readonly Dtype[] = ['f32', 'f16', 'bf16']
export const isFloat = (t: Entry): boolean => floatTypes.includes(t.e.dtype)
export const isNarrow = (t: Entry): boolean => t.e.dtype === 'f16' || t.e.dtype === 'bf16'
export const isInteger = (t: Entry): boolean => t.e.dtype === 'i32' || t.e.dtype === 'u32'
export const isNumber = (t: Entry): boolean => t.e.dtype !== 'bool'
export const isBool = (t: Entry): boolean => t.e.dtype === 'bool'
export const hasAxes = (t: Entry): boolean => t.e.axes.length > 0
export const hasAxis = (t: Entry, name: string): boolean => t.e.axes.some(a => a.name === name)
/** Whether arithmetic takes both. */
export const akin = (x: Entry, y: Entry): boolean => (isFloat(x) ? isFloat(y) : x.e.dtype === y.e.dtype)

/** Integers wrap. */
export const wrapped = (t: Entry, r: Range): Range => (isInteger(t) ? { most: r.most >= 2 ** 31 || t.e.dtype === 'u32' ? 2 ** 32 : r.most, error: 0, whole: true, finite: true } : r)

export function pick(b: Builder, choose: Choose, fits: (t: Entry) => boolean): Entry | undefined {
  const fitting = b.entries.filter(fits)
  // Recent nodes are likelier: programs grow deep rather than wide.
  return fitting.length === 0 ? undefined : fitting[fitting.length - 1 - Math.min(choose(fitting.length), choose(fitting.length))]
}
/** One that all devices have, made so if need be. */
export function pickSettled(b: Builder, choose: Choose, fits: (t: Entry) => boolean): Entry | undefined {
  const t = pick(b, choose, fits)
  return t === undefined ? undefined : b.settle(t) ?? pick(b, choose, x => x.error === 0 && fits(x))
}
export const one = <T>(choose: Choose, from: readonly T[]): T => from[choose(from.length)]!
export const axisOf = (t: Entry, choose: Choose): string | undefined => (hasAxes(t) ? one(choose, t.e.axes).name : undefined)
/** One axis, sometimes two or all, in any order. */
export function axesOf(t: Entry, choose: Choose): readonly string[] {
  const names = t.e.axes.map(a => a.name), start = choose(Math.max(names.length, 1))
  const turned = [...names.slice(start), ...names.slice(0, start)]
  return turned.slice(0, [1, 1, 1, 1, 2, 2, 3][choose(7)])
}
