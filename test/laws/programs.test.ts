/** Laws of whole programs: names, physical order and sharing have no meaning. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { allChildren, symbolsOf } from '../../src/dsl/bind.js'
import { topological } from '../../src/dsl/expr.js'
import { printGraph } from '../../src/dsl/index.js'
import { interpret, interpretNodes } from '../../src/runtime/reference.js'
import { arbitraryProgram, random, type Flavour } from '../arbitraries.js'
import { expectClose, permuted } from '../compare.js'
import { rebuild } from '../rebuild.js'

const shuffled = <T>(items: readonly T[], next: () => number): T[] =>
  items.map(x => [next(), x] as const).sort(([a], [b]) => a - b).map(([, x]) => x)

describe.each<Flavour>(['exact', 'exactSpecial', 'float', 'special'])('random programs on %s data', flavour => {
  test('renaming the axes renames the results and nothing else', () => {
    fc.assert(fc.property(arbitraryProgram({ flavour }), p => {
      const renamed = rebuild(p.outputs, a => `z${a}`)
      const inputs = Object.fromEntries(Object.entries(p.inputs).map(([n, t]) => [n, { ...t, axes: t.axes.map(a => `z${a}`) }]))
      const before = interpret(p.outputs, p.inputs, { sizes: p.sizes }), after = interpret(renamed, inputs, { sizes: p.sizes })
      for (const [name, t] of Object.entries(before)) expectClose(after[name]!, { ...t, axes: t.axes.map(a => `z${a}`) })
    }), { numRuns: 150 })
  })

  test('the physical order of inputs does not matter', () => {
    fc.assert(fc.property(arbitraryProgram({ flavour }), fc.nat(), (p, seed) => {
      const next = random(seed)
      const inputs = Object.fromEntries(Object.entries(p.inputs).map(([n, t]) => [n, permuted(t, shuffled(t.axes, next))]))
      const before = interpret(p.outputs, p.inputs, { sizes: p.sizes }), after = interpret(p.outputs, inputs, { sizes: p.sizes })
      for (const name of Object.keys(before)) expectClose(after[name]!, before[name]!)
    }), { numRuns: 150 })
  })
})

test('a node means the same alone and within a program', () => {
  fc.assert(fc.property(arbitraryProgram({ flavour: 'special' }), p => {
    const nodes = topological(Object.values(p.outputs), allChildren)
    const inner = interpretNodes(p.outputs, p.inputs, nodes, { sizes: p.sizes })
    for (const e of nodes) expectClose(interpret({ e }, p.inputs, { sizes: p.sizes })['e']!, inner.get(e)!)
  }), { numRuns: 60 })
})

test('building the same program twice gives the same nodes', () => {
  fc.assert(fc.property(arbitraryProgram({ flavour: 'float' }), p => {
    const again = rebuild(p.outputs, a => a)
    for (const [name, e] of Object.entries(p.outputs)) expect(again[name]).toBe(e)
  }))
})

test('the canonical text does not depend on what was built before, or in which order', () => {
  let run = 0
  fc.assert(fc.property(arbitraryProgram({ flavour: 'float' }), p => {
    run++
    const backwards = Object.fromEntries(Object.entries(p.outputs).reverse())
    const first = rebuild(p.outputs, a => `p${run}p${a}`), second = rebuild(backwards, a => `q${run}q${a}`)
    const inOrder = Object.fromEntries(Object.keys(p.outputs).map(n => [n, second[n]!]))
    expect(printGraph(first).replaceAll(`p${run}p`, '')).toBe(printGraph(inOrder).replaceAll(`q${run}q`, ''))
  }))
})

test('the symbols of a graph are all it takes to evaluate it', () => {
  fc.assert(fc.property(arbitraryProgram(), p => {
    const needed = new Set(symbolsOf(p.outputs))
    const sizes = Object.fromEntries(Object.entries(p.sizes).filter(([s]) => needed.has(s)))
    interpret(p.outputs, p.inputs, { sizes })
  }))
})
