/**
 * Expression graphs as TypeScript: one `const` for each node, by the functions that users write. What is printed and run
 * gives the same nodes again (`test/fuzz/source.test.ts`), so that a program that fails can be kept as text.
 */
import { layerNorm, logSumExp, softmax, type Expr, type Size, type Tensor } from '../../src/dsl/index.js'
import { applyRule, topological, type Of, type Rules } from '../../src/dsl/expr.js'
import {
  allMonoid, anyMonoid, argmaxMonoid, expSumMonoid, maxMonoid, meanMonoid, minMonoid, printMonoid, sumMonoid, type Monoid,
} from '../../src/dsl/monoid.js'
import { scalarChildren, type Scalar } from '../../src/dsl/scalar.js'
import { arithmetic, type Dtype } from '../../src/dsl/dtype.js'
import { numbers } from '../compare.js'
import type { Case } from './draw.js'

/** Functions of the language and helpers that a text mentions. */
export type Uses = Set<string>

const quoted = (s: string): string => `'${s}'`
const list = (names: readonly string[]): string => names.map(quoted).join(', ')
export const numberText = (x: number): string => (Object.is(x, -0) ? '-0' : String(x))

/** A size: a number, `size('n')`, or sums and products of them. */
export function sizeSource(s: Size, uses: Uses): string {
  if (s.terms.length === 0) return String(s.constant)
  const use = (name: string): string => { uses.add(name); return name }
  const term = ([name, c]: readonly [string, number]): string => (c === 1 ? `${use('size')}(${quoted(name)})` : `${use('times')}(${c}, ${use('size')}(${quoted(name)}))`)
  const sum = s.terms.slice(1).reduce((text, t) => `${use('plus')}(${text}, ${term(t)})`, term(s.terms[0]!))
  return s.constant === 0 ? sum : s.constant > 0 ? `${use('plus')}(${sum}, ${s.constant})` : `${use('minus')}(${sum}, ${-s.constant})`
}
const axesSource = (axes: Expr['axes'], uses: Uses): string => (axes.length === 0 ? '{}' : `{ ${axes.map(a => `${a.name}: ${sizeSource(a.size, uses)}`).join(', ')} }`)

/** A scalar expression in the variables that `name` knows. Numbers beside something typed are written plainly. */
export function scalarSource(s: Scalar, uses: Uses, name: (variable: string) => string): string {
  const free = (x: Scalar): boolean => x.op === 'const' || x.op === 'size'
  const alone = (x: Scalar): string => {
    if (!free(x)) return go(x)
    uses.add('literal')
    return `literal(${plain(x)}, ${quoted(x.dtype)})`
  }
  const plain = (x: Scalar): string => (x.op === 'const' ? (x.dtype === 'bool' ? String(x.value !== 0) : numberText(x.value)) : x.op === 'size' ? sizeArgument(x.size, uses) : go(x))
  // A number takes the dtype of what stands beside it.
  const beside = (xs: readonly Scalar[]): string[] => {
    const typed = xs.find(x => !free(x))
    return xs.map(x => (free(x) && typed !== undefined && arithmetic(typed.dtype) === x.dtype ? plain(x) : alone(x)))
  }
  const go = (x: Scalar): string => {
    switch (x.op) {
      case 'var': return name(x.name)
      case 'const': case 'size': return alone(x)
      case 'cast': return `$.cast(${alone(x.a)}, ${quoted(x.dtype)})`
      case 'unary': return `$.${x.name}(${alone(x.a)})`
      case 'binary': return `$.${x.name}(${beside([x.a, x.b]).join(', ')})`
      case 'where': return `$.where(${alone(x.condition)}, ${beside([x.a, x.b]).join(', ')})`
    }
  }
  return alone(s)
}
/** A size where a bare number would be a number: it stays a size. */
function sizeArgument(s: Size, uses: Uses): string {
  if (s.terms.length > 0) return sizeSource(s, uses)
  uses.add('size')
  return `size(${s.constant})`
}
const mentions = (s: Scalar): boolean => s.op !== 'var' && (s.op === 'const' || s.op === 'size' ? false : true)
const needsScalars = (...all: readonly Scalar[]): boolean => all.some(s => mentions(s) || scalarChildren(s).some(c => needsScalars(c)))

const builtIn: Readonly<Record<string, (takes: Dtype) => Monoid>> = { sum: sumMonoid, max: maxMonoid, min: minMonoid, mean: () => meanMonoid, all: () => allMonoid, any: () => anyMonoid }

/** What builds the monoid: the function of the language that has it, or its whole definition. */
function reduceSource(e: Of<'reduce'>, arg: string, uses: Uses): string {
  const over = list(e.over), text = printMonoid(e.monoid), takes = e.monoid.takes
  const use = (name: string): string => { uses.add(name); return name }
  const known = builtIn[e.monoid.name]
  if (known !== undefined && printMonoid(known(takes)) === text) return `${use(e.monoid.name)}(${arg}, ${over})`
  if (e.monoid.name === 'argmax' && e.over.length === 1 && printMonoid(argmaxMonoid(takes)) === text) return `${use('argmax')}(${arg}, ${over})`
  const part = (['max', 'sum', 'logSumExp'] as const).find(p => printMonoid(expSumMonoid(p)) === text)
  if (part !== undefined) return `${use('reduce')}(${arg}, ${use('expSumMonoid')}(${quoted(part)}), ${over})`
  return `${use('reduce')}(${arg}, ${monoidSource(e.monoid, uses)}, ${over})`
}
function monoidSource(m: Monoid, uses: Uses): string {
  uses.add('monoid')
  const components = m.components
  const record = (of: (c: Monoid['components'][number]) => string): string => `{ ${components.map(c => `${c.name}: ${of(c)}`).join(', ')} }`
  const identity = (s: Scalar): string => (s.op !== 'const' ? scalarSource(s, uses, unknown) : s.dtype === 'bool' ? String(s.value !== 0) : numberText(s.value))
  const by = (name: string): string => name
  return `monoid(${quoted(m.name)}, {\n  takes: ${quoted(m.takes)}, components: ${record(c => quoted(c.dtype))}, identity: ${record(c => identity(c.identity))},\n` +
    `  lift: (x, at, $) => (${record(c => scalarSource(c.lift, uses, by))}),\n  combine: (a, b, $) => (${record(c => scalarSource(c.combine, uses, by))}),\n` +
    `  result: (c, count, $) => ${scalarSource(m.result, uses, n => (n === 'count' ? n : `c.${n}`))}, ordered: ${m.ordered}, emptyAllowed: ${m.emptyAllowed},\n})`
}
const unknown = (name: string): never => { throw new Error(`there is no variable '${name}' here`) }

interface Context { readonly of: (e: Expr) => string; readonly uses: Uses }
const call = (c: Context, name: string, ...args: readonly string[]): string => { c.uses.add(name); return `${name}(${args.join(', ')})` }
/** The type of a node whose function tells TypeScript less than is known. */
const typed = (text: string, e: Expr, c: Context): string => { c.uses.add('type Tensor'); return `${text} as Tensor<${e.axes.map(a => quoted(a.name)).join(' | ') || 'never'}, ${quoted(e.dtype)}>` }

const rules: Rules<string, Context> = {
  tensor: (e, c) => call(c, 'tensor', quoted(e.name), quoted(e.dtype), axesSource(e.axes, c.uses)),
  const: (e, c) => call(c, 'constant', e.dtype === 'bool' ? String(e.value !== 0) : numberText(e.value), quoted(e.dtype)),
  iota: (e, c) => call(c, 'iota', quoted(e.axes[0]!.name), sizeSource(e.axes[0]!.size, c.uses)),
  map: (e, c) => {
    const scalars = needsScalars(e.body) ? ', $' : ''
    return typed(call(c, 'map', `{ ${e.args.map(a => `${a.name}: ${c.of(a.value)}`).join(', ')} }`, `(v${scalars}) => ${scalarSource(e.body, c.uses, n => `v.${n}`)}`), e, c)
  },
  contract: (e, c) => call(c, 'contract', c.of(e.left), c.of(e.right), list(e.over)),
  reduce: (e, c) => typed(reduceSource(e, c.of(e.arg), c.uses), e, c),
  window: (e, c) => call(c, `pool.${e.pool}`, c.of(e.arg), quoted(e.axis), `{ size: ${e.size}${e.pool === 'mean' && !e.counted ? ', countPadding: false' : ''} }`),
  topK: (e, c) => call(c, 'topK', c.of(e.arg), quoted(e.axis), `{ k: ${sizeSource(e.k, c.uses)}, as: ${quoted(e.as)}, order: ${quoted(e.order)} }`),
  gather: (e, c) => call(c, 'gather', c.of(e.arg), quoted(e.axis), c.of(e.index)),
  slice: (e, c) => call(c, 'slice', c.of(e.arg), quoted(e.axis), `{ from: ${sizeSource(e.from, c.uses)}, to: ${sizeSource(e.to, c.uses)}, as: ${quoted(e.as)} }`),
  // TypeScript wants one type of all parts; they may have axes of their own.
  concat: (e, c) => typed(call(c, 'concat', `[${e.parts.map(c.of).join(', ')}] as readonly Tensor<string, ${quoted(e.dtype)}>[]`, quoted(e.axis)), e, c),
  cast: (e, c) => call(c, 'cast', c.of(e.arg), quoted(e.dtype)),
  rename: (e, c) => call(c, 'rename', c.of(e.arg), quoted(e.from), quoted(e.to)),
  split: (e, c) => call(c, 'split', c.of(e.arg), quoted(e.axis), axesSource(e.into, c.uses)),
  merge: (e, c) => call(c, 'merge', c.of(e.arg), `[${list(e.from)}]`, quoted(e.as)),
  composite: (e, c) => namedSource(e, c) ?? call(c, 'composite', JSON.stringify(e.name), `[${e.args.map(c.of).join(', ')}]`, c.of(e.definition)),
}

/** A composite by its own function, if that gives this very node. */
function namedSource(e: Of<'composite'>, c: Context): string | undefined {
  const [name, axes] = e.name.split(' over '), over = axes?.split(' ') ?? [], arg = e.args[0] as Tensor<string, 'f32'> | undefined
  if (arg === undefined) return undefined
  if (axes === undefined) return e.definition === arg ? call(c, 'label', quoted(e.name), c.of(arg)) : undefined
  if (name === 'softmax' && softmax(arg, ...over) === e) return call(c, 'softmax', c.of(arg), list(over))
  if (name === 'logSumExp' && logSumExp(arg, ...over) === e) return call(c, 'logSumExp', c.of(arg), list(over))
  if (name !== 'layerNorm') return undefined
  const [, second, third] = e.args as readonly (Tensor<string, 'f32'> | undefined)[]
  for (const epsilon of constantsIn(e.definition)) for (const more of [{ weight: second, bias: third }, { weight: undefined, bias: second }]) {
    const given = Object.entries(more).filter((x): x is [string, Tensor<string, 'f32'>] => x[1] !== undefined)
    if (layerNorm(arg, over, { epsilon, ...Object.fromEntries(given) }) !== e) continue
    return call(c, 'layerNorm', c.of(arg), `[${list(over)}]`, `{ epsilon: ${numberText(epsilon)}${given.map(([n, x]) => `, ${n}: ${c.of(x)}`).join('')} }`)
  }
  return undefined
}
function constantsIn(e: Expr): number[] {
  const found = new Set<number>(), see = (s: Scalar): void => { if (s.op === 'const') found.add(s.value); scalarChildren(s).forEach(see) }
  for (const x of topological([e])) if (x.kind === 'map') see(x.body)
  return [...found]
}

export interface ProgramSource {
  /** Statements, one for each node. */
  readonly lines: readonly string[]
  /** The variable that holds an output. */
  readonly names: Readonly<Record<string, string>>
}

/** The statements that build the outputs. What they mention is added to `uses`. */
export function programSource(outputs: Readonly<Record<string, Expr>>, uses: Uses): ProgramSource {
  const named = new Map<Expr, string>(), taken = new Set<string>(), lines: string[] = []
  // A composite without a function of its own shows its definition, too.
  const visit = (e: Expr): string => {
    const known = named.get(e)
    if (known !== undefined) return known
    const text = applyRule(rules, e, { of: visit, uses })
    const wish = e.kind === 'tensor' && !reserved.has(e.name) && !/^v\d*$/.test(e.name) ? e.name : `v${named.size}`
    const name = taken.has(wish) ? `v${named.size}` : wish
    taken.add(name)
    named.set(e, name)
    lines.push(`const ${name} = ${text}`)
    return name
  }
  const names = Object.fromEntries(Object.entries(outputs).map(([name, e]) => [name, visit(e)]))
  return { lines, names }
}
/** What a variable may not be called: functions of the language, and words of TypeScript that are names of tensors, too. */
const reserved = new Set(['a', 'b', 'c', '$', 'tensor', 'size', 'sum', 'max', 'min', 'mean', 'all', 'any', 'map', 'iota', 'slice', 'split', 'merge', 'cast', 'outputs', 'inputs', 'case', 'default', 'new', 'test', 'data'])

// ---------------------------------------------------------------------------------------------- a whole case

const record = (entries: readonly (readonly [string, string])[]): string => (entries.length === 0 ? '{}' : `{ ${entries.map(([k, v]) => `${k}: ${v}`).join(', ')} }`)
const object = (o: Readonly<Record<string, unknown>>): string => record(Object.entries(o).map(([k, v]) => [k, typeof v === 'string' ? quoted(v) : typeof v === 'number' ? numberText(v) : object(v as Readonly<Record<string, unknown>>)]))

/** The text of a test that fails as the case does, to be kept in `test/fuzz/` as `NAME.test.ts`. */
export function caseSource(c: Case, reason: string): string {
  const { program: p } = c, uses: Uses = new Set(), helpers = new Set<string>()
  const { lines, names } = programSource(p.outputs, uses)
  const inputs = Object.entries(p.inputs).map(([name, t]): [string, string] => {
    const shape = record(t.axes.map((a, i) => [a, String(t.shape[i])])), source = p.sources[name]
    helpers.add(source === undefined ? 'tensorOf' : 'randomTensor')
    return [name, source === undefined ? `tensorOf(${quoted(t.dtype)}, ${shape}, [${numbers(t).map(numberText).join(', ')}])` : `randomTensor(${quoted(t.dtype)}, ${shape}, ${quoted(source.flavour)}, ${source.seed})`]
  })
  const inner = ['literal', 'expSumMonoid'].filter(n => uses.has(n))
  const fromLanguage = [...new Set([...uses].filter(n => !inner.includes(n)).map(n => n.split('.')[0]!))].sort()
  return [
    `/** ${reason.split('\n')[0]!.replaceAll('*/', '* /').replace(/[^\x20-\x7e]/g, ' ')} */`,
    `import { ${fromLanguage.join(', ')} } from '../../src/dsl/index.js'`,
    ...(inner.includes('literal') ? [`import { literal } from '../../src/dsl/scalar.js'`] : []), ...(inner.includes('expSumMonoid') ? [`import { expSumMonoid } from '../../src/dsl/monoid.js'`] : []),
    `import { test } from 'vitest'`,
    ...(helpers.has('randomTensor') ? [`import { randomTensor } from '../arbitrary-tensors.js'`] : []), ...(helpers.has('tensorOf') ? [`import { tensorOf } from '../compare.js'`] : []),
    `import { expectRight } from './reproduce.js'`,
    '',
    ...lines,
    '',
    `test('is as the reference says', () => expectRight({`,
    `  outputs: ${record(Object.entries(names))},`,
    ...inputs.length === 0 ? ['  inputs: {},'] : ['  inputs: {', ...inputs.map(([n, t]) => `    ${n}: ${t},`), '  },'],
    `  sizes: ${object(p.sizes)},`,
    `  bounds: ${object(p.bounds)},`,
    ...(p.anchors.length === 0 ? [] : [`  anchors: [${list(p.anchors)}],`]),
    ...(c.blocks === undefined ? [] : [`  blocks: ${c.blocks},`]), ...(c.specialise === undefined ? [] : [`  specialise: [${list(c.specialise)}],`]),
    ...(c.choices === undefined ? [] : [`  choices: { ${Object.entries(c.choices).map(([k, v]) => `${quoted(k)}: ${quoted(v)}`).join(', ')} },`]),
    ...(Object.keys(c.schedules).length === 0 ? [] : ['  schedules: {', ...Object.entries(c.schedules).map(([n, s]) => `    ${n}: ${object(s as unknown as Readonly<Record<string, unknown>>)},`), '  },']),
    `  orders: [${list(c.orders)}],`,
    '}))',
    '',
  ].join('\n')
}
