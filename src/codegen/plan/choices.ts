/**
 * Decisions of the planner that have more than one legal way, and the record of what was chosen.
 *
 * A decision is named by what is decided and the node that it is about (`tile logits`), a choice by one of the ways in
 * which it can go. The record is plain JSON: given back to the planner it leads to the same plan, for the same program at
 * sizes for which the same decisions come up.
 */
import { allChildren } from '../../dsl/bind.js'
import { WeftError } from '../../dsl/errors.js'
import { topological, type Expr } from '../../dsl/expr.js'
import { isFold } from '../folds.js'
import { open } from '../lower/value.js'
import type { Namer } from '../names.js'

/**
 * What can be decided, with the ways it can go.
 * - `passes`: a node needs folds along a long axis finished. `one kernel`: it goes along the axis again, pass after pass.
 *   `cut`: other kernels fold, this one reads their results.
 * - `fold`: a fold of its own kernel. `whole`: a block goes along all of the axis. `split`: blocks take shares of it, and
 *   whoever needs the fold puts their parts together.
 * - `tile`: a costly node that several passes or kernels read. `recompute`: each computes it. `store`: one kernel stores it.
 * - `window`: neighbours that a selection or another window reads. `at the reader`: computed where they are read. `stored`:
 *   by a kernel of their own.
 */
export const ways = {
  passes: ['one kernel', 'cut'],
  fold: ['whole', 'split'],
  tile: ['recompute', 'store'],
  window: ['at the reader', 'stored'],
} as const
export type Topic = keyof typeof ways
export type Way<T extends Topic> = (typeof ways)[T][number]

/** By decision, the way it goes. */
export type Choices = Readonly<Record<string, string>>

/** A decision that came up while a plan was made. */
export interface Decision {
  readonly name: string
  readonly about: Expr
  readonly ways: readonly string[]
  readonly taken: string
}

export interface Decider {
  /** The way to go: the one that was given, else the first. */
  decide<T extends Topic>(topic: T, about: Expr, order: readonly Way<T>[]): Way<T>
  readonly met: readonly Decision[]
}

export function decider(outputs: Readonly<Record<string, Expr>>, names: Namer, given: Choices): Decider {
  const met = new Map<string, Decision>(), labels = new Map<Expr, string>(), used = new Map<string, number>()
  for (const e of topological(Object.values(outputs), allChildren).map(open)) {
    if (labels.has(e)) continue
    // Folds are counted apart: a composition and the fold within it are both called like it.
    const name = names.of(e), key = `${isFold(e) ? 'fold ' : ''}${name}`, n = (used.get(key) ?? 0) + 1
    used.set(key, n)
    labels.set(e, n === 1 ? name : `${name}#${n}`)
  }
  return {
    decide: (topic, about, order) => {
      const name = `${topic} ${labels.get(open(about)) ?? names.of(about)}`, before = met.get(name)
      if (before !== undefined) return before.taken as never
      const wanted = given[name]
      if (wanted !== undefined && !order.includes(wanted as never)) {
        throw new WeftError('plan', `the decision '${name}' cannot go the way '${wanted}' here`, { fix: `${order.length === 1 ? 'the only way is' : 'the ways are'} ${order.map(w => `'${w}'`).join(', ')}` })
      }
      const taken = wanted as typeof order[number] | undefined ?? order[0]!
      met.set(name, { name, about, ways: order, taken })
      return taken
    },
    get met() { return [...met.values()] },
  }
}

/** Refuses choices that never came up: they would silently do nothing. */
export function checkApplied(given: Choices, met: readonly Decision[]): void {
  const strange = Object.keys(given).find(name => !met.some(d => d.name === name))
  if (strange === undefined) return
  throw new WeftError('plan', `the decision '${strange}' does not come up in this program at these sizes`, {
    fix: met.length === 0 ? 'leave the choices out: there is nothing to decide' : `the decisions are ${met.map(d => `'${d.name}' (${d.ways.join(' or ')})`).join(', ')}`,
  })
}
