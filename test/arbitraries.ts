/**
 * What the suites draw at random: whole programs that are legal by construction. The steps that build them are in
 * `generate/`, tensors in `arbitrary-tensors.ts`.
 *
 * A program comes with a bound on how far a correct device may be from the reference, from a forward error analysis
 * that runs along with the construction (`generate/ranges.ts`). Bound 0 means: every device gives the same numbers (−0
 * and +0 count as one number, all NaNs as one). Operations that jump (topK, comparisons, casts to integers ...) get
 * arguments that all devices have, or arguments that are outputs themselves (`anchors`): then what follows is judged on the
 * device's own values of them, so that a rounding error never turns into another answer.
 */
import fc from 'fast-check'
import { add, not, plus, printGraph, size, tensor, times, type Expr, type Size, type Sizes } from '../src/dsl/index.js'
import type { Dtype } from '../src/dsl/dtype.js'
import { topological } from '../src/dsl/expr.js'
import type { HostTensor } from '../src/runtime/host-tensor.js'
import { arbitraryLength, randomTensor, type Flavour } from './arbitrary-tensors.js'
import { Builder, entry, isBool, isFloat, isInteger, one, type Choose, type Entry, type Step } from './generate/builder.js'
import { elementwiseSteps, inexactElementwise } from './generate/elementwise.js'
import { foldSteps, inexactFolds } from './generate/folds.js'
import { layoutSteps } from './generate/layout.js'
import { exactly } from './generate/ranges.js'

export * from './arbitrary-tensors.js'
export { affineMonoid } from './generate/folds.js'

/** Where an input's elements come from: `randomTensor` of these. */
export interface Source { readonly flavour: Flavour; readonly seed: number }

export interface Program {
  readonly outputs: Readonly<Record<string, Expr>>
  readonly inputs: Readonly<Record<string, HostTensor>>
  /** Of the inputs that are drawn; others are what their elements are. */
  readonly sources: Readonly<Record<string, Source>>
  /** By output: how far a correct device may be from the reference. */
  readonly bounds: Readonly<Record<string, number>>
  /** Outputs whose device values judge what is computed from them; what is below another one comes first. */
  readonly anchors: readonly string[]
  /** Symbols' values, those included that no shape of an input that the outputs need tells. */
  readonly sizes: Sizes
  /** The bound of every node that a step built. */
  readonly nodeBounds: ReadonlyMap<Expr, number>
}

export interface ProgramOptions {
  /** `exact` gives programs with bounds of 0 only. Default `exact`. */
  readonly flavour?: Flavour
  /** Operations at most. Default 7. */
  readonly steps?: number
  /** Elements of a node at most. Default 8000. */
  readonly elements?: number
}

const exactSteps: Readonly<Record<string, Step>> = { ...elementwiseSteps, ...foldSteps, ...layoutSteps }
const allSteps: Readonly<Record<string, Step>> = { ...exactSteps, ...inexactElementwise, ...inexactFolds }
/** Names of the steps that programs are built of; `inexact` ones are not drawn on exact data. */
export const stepNames = Object.keys(allSteps)

/** Programs over the whole language, with data. */
export function arbitraryProgram(options: ProgramOptions = {}): fc.Arbitrary<Program> {
  const { flavour = 'exact', steps: maxLength = 7, elements = 8000 } = options
  const exact = flavour === 'exact' || flavour === 'exactSpecial'
  return fc.record({
    axes: fc.tuple(
      fc.oneof({ arbitrary: arbitraryAxis(129), weight: 12 }, { arbitrary: arbitraryAxis([255, 256, 257, 509, 1023, 1025, 2049]), weight: 1 }),
      arbitraryAxis(65), arbitraryAxis(5), arbitraryAxis(5), arbitraryAxis(deepLengths)),
    inputs: fc.oneof(arbitraryInputs, matrixInputs),
    seed: fc.nat(),
    choices: fc.array(fc.array(fc.nat(9972), { minLength: 10, maxLength: 10 }), { minLength: 1, maxLength }),
    results: fc.tuple(fc.nat(3), fc.nat(9), fc.nat(9)),
  }).map(recipe => build(recipe, flavour, exact ? exactSteps : allSteps, elements))
}

/** Lengths that contractions are over: multiples of 16, as tensor cores want them, and others. */
const deepLengths = [16, 16, 32, 48, 64, 80, 8, 15, 17, 24, 33, 1, 2]

interface AxisRecipe { readonly length: number; readonly form: 'symbol' | 'fixed' | 'double' | 'more' }
const arbitraryAxis = (from: number | readonly number[]): fc.Arbitrary<AxisRecipe> => fc.record({
  length: typeof from === 'number' ? fc.oneof({ arbitrary: arbitraryLength({ min: 1, max: from }), weight: 12 }, { arbitrary: fc.constant(0), weight: 1 }) : fc.constantFrom(...from),
  form: fc.constantFrom('symbol', 'fixed', 'double', 'more'),
})

interface InputRecipe { readonly dtype: Dtype; readonly axes: readonly number[] }
const arbitraryInputs: fc.Arbitrary<readonly InputRecipe[]> = fc.array(fc.record({
  dtype: fc.constantFrom<Dtype>('f32', 'f32', 'f16', 'bf16', 'i32', 'u32', 'bool'), axes: fc.subarray([0, 1, 2, 3, 4], { minLength: 1, maxLength: 3 }),
}), { minLength: 1, maxLength: 3 })
/** Two operands of a matrix product, perhaps in batches, and something over an axis of theirs. */
const matrixInputs: fc.Arbitrary<readonly InputRecipe[]> = fc.record({
  dtypes: fc.constantFrom<readonly [Dtype, Dtype, Dtype]>(['bf16', 'bf16', 'bf16'], ['f16', 'f16', 'f16'], ['bf16', 'bf16', 'f32'], ['f16', 'f16', 'f32'], ['bf16', 'f16', 'f32'], ['f32', 'f32', 'f32'], ['f32', 'bf16', 'i32'], ['bf16', 'bf16', 'bool']),
  batch: fc.subarray([2, 3], { maxLength: 2 }), alone: fc.boolean(), turned: fc.boolean(), third: fc.constantFrom<readonly number[]>([0], [0, 4], [1], [0, 3], [1, 2], [4]),
}).map(({ dtypes, batch, alone, turned, third }) => [
  { dtype: dtypes[0], axes: [...batch, 0, 4] }, { dtype: dtypes[1], axes: [...(alone ? [] : batch), ...(turned ? [4, 1] : [1, 4])] }, { dtype: dtypes[2], axes: third },
])

interface Recipe {
  readonly axes: readonly AxisRecipe[]
  readonly inputs: readonly InputRecipe[]
  readonly seed: number
  readonly choices: readonly (readonly number[])[]
  /** Which nodes beside those that nothing reads are outputs. */
  readonly results: readonly [number, number, number]
}

const axisNames = ['a', 'b', 'c', 'd', 'e']

function sizesOf(b: Builder, axes: readonly AxisRecipe[]): Size[] {
  return axes.map(({ length, form: wished }, i) => {
    const symbol = `s${axisNames[i]!}`, form = wished === 'double' && length % 2 !== 0 || wished === 'more' && length < 3 ? 'symbol' : wished
    if (form === 'fixed') return size(length)
    b.lengths[symbol] = form === 'double' ? length / 2 : form === 'more' ? length - 3 : length
    return form === 'double' ? times(2, size(symbol)) : form === 'more' ? plus(size(symbol), size(3)) : size(symbol)
  })
}

/** Steps that make kernels interesting come up more often than those that are many. */
const frequent = ['contract', 'matrixProduct', 'matrixProduct', 'attend', 'sum', 'max', 'pool', 'topK', 'topK', 'gather', 'gather', 'slice', 'softmax', 'concat', 'body', 'compare', 'merge', 'split']

function build(recipe: Recipe, flavour: Flavour, vocabulary: Readonly<Record<string, Step>>, elements: number): Program {
  const exact = flavour === 'exact' || flavour === 'exactSpecial', finite = flavour === 'exact' || flavour === 'float'
  const b = new Builder(exact, elements, 20 * elements), sizes = sizesOf(b, recipe.axes)
  const inputs: Record<string, HostTensor> = {}, sources: Record<string, Source> = {}
  recipe.inputs.forEach(({ dtype, axes }, i) => {
    const chosen: number[] = [], name = 'xyz'[i]!
    for (const a of axes) if (chosen.concat(a).reduce((n, c) => n * recipe.axes[c]!.length, 1) <= elements) chosen.push(a)
    sources[name] = { flavour, seed: recipe.seed + i }
    inputs[name] = randomTensor(dtype, Object.fromEntries(chosen.map(a => [axisNames[a]!, recipe.axes[a]!.length])), flavour, recipe.seed + i)
    const t = entry(tensor(name, dtype, Object.fromEntries(chosen.map(a => [axisNames[a]!, sizes[a]!]))), exactly(dtype === 'bool' ? 1 : 9))
    b.entries.push(isFloat(t) ? { ...t, most: 4, whole: exact, finite } : t)
  })

  const names = [...Object.keys(vocabulary), ...frequent.filter(n => n in vocabulary)]
  for (const numbers of recipe.choices) {
    let used = 1
    const choose: Choose = n => numbers[used < numbers.length ? used++ : 1 + used++ % (numbers.length - 1)]! % n
    // A step that finds nothing to work on gives way to its neighbour.
    let next: Entry | undefined
    for (let i = 0; i < 3 && next === undefined; i++) next = vocabulary[names[(numbers[0]! + i * 7) % names.length]!]!(b, choose)
    if (next === undefined || b.count(next.e.axes) > elements || b.entries.some(t => t.e === next.e)) continue
    // An exact program keeps to numbers that f32 holds; an inexact one to errors that show a bug.
    if (isInteger(next) || isBool(next) || (exact ? next.error === 0 && next.most <= 2 ** 24 : next.error <= 1e-2 && next.most < 1e6)) b.entries.push(next)
  }
  return finished(b, recipe, flavour, inputs, sources)
}

/** 0 stays 0; else both a device and the reference may be off, and results below 2^-126 may be 0. */
const boundOf = (error: number): number => (error === 0 ? 0 : 2 * error + 2 ** -126)

function finished(b: Builder, recipe: Recipe, flavour: Flavour, inputs: Program['inputs'], sources: Program['sources']): Program {
  const computed = b.entries.slice(recipe.inputs.length)
  if (computed.length === 0) computed.push(fallback(b.entries[0]!))
  const below = new Set(computed.flatMap(t => topological([t.e]).filter(e => e !== t.e)))
  const sinks = computed.filter(t => !below.has(t.e)).slice(-3), [more, first, second] = recipe.results
  // Outputs that others read, that are inputs, or that are there twice.
  const extra: readonly Entry[] = more === 0 ? [one(() => first % b.entries.length, b.entries)] : more === 1 ? [computed[first % computed.length]!, computed[second % computed.length]!] : []
  const nodeBounds = new Map<Expr, number>()
  for (const t of [...b.entries, ...computed]) nodeBounds.set(t.e, boundOf(b.errors.get(t.e) ?? t.error))
  const chosen = new Map<string, Expr>([...sinks, ...extra].map((t, i) => [`out${i}`, t.e as Expr]))
  // Only those whose device values something among the outputs is computed from.
  const needed = new Set(topological([...chosen.values()])), anchored = b.anchors.filter(e => needed.has(e)), order = topological(anchored)
  const anchors = [...anchored].sort((x, y) => order.indexOf(x) - order.indexOf(y)).map((e, i) => { chosen.set(`at${i}`, e); return `at${i}` })
  const outputs = Object.fromEntries(chosen)
  const program: Program = { outputs, inputs, sources, anchors, nodeBounds, bounds: Object.fromEntries([...chosen].map(([n, e]) => [n, nodeBounds.get(e)!])), sizes: b.lengths }
  return Object.assign(program, { [fc.toStringMethod]: () => `${printGraph(outputs)}flavour ${flavour}, data seed ${recipe.seed}, sizes ${JSON.stringify(b.lengths)}` })
}

const fallback = (t: Entry): Entry => (isBool(t) ? entry(not(t.e), exactly(1)) : entry(add(t.e, t.e), { ...t, most: t.most * 2 }))
