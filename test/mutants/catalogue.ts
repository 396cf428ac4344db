/**
 * Bugs for the source, one edit each. `npm run mutants` switches them on one at a time and runs the tests that should see
 * them; `--write` makes a table of which did. A test that lets one of these through is not worth its time.
 */

/** A test file, and which of its tests. */
export interface Killer {
  readonly file: string
  readonly pattern?: string
}
export interface Mutant {
  readonly name: string
  /** The module that is edited, from the package's root. */
  readonly file: string
  /** A text that occurs in it exactly once. */
  readonly from: string
  readonly to: string
  /** What goes wrong. */
  readonly breaks: string
  readonly killers: readonly Killer[]
}

const corpus = (family: string): Killer => ({ file: 'test/devices/corpus.test.ts', pattern: `${family}:` })
const fuzz: Killer = { file: 'test/fuzz/random-programs.test.ts', pattern: 'programs of seed' }
const test = (file: string, pattern?: string): Killer => ({ file: `test/${file}.test.ts`, ...(pattern === undefined ? {} : { pattern }) })

const planner: readonly Mutant[] = [
  { name: 'kernels join what they need', file: 'src/codegen/plan/merge.ts', from: 'return [...readBy(g).values()].some(s => memoriesOf(s).some(m => written.has(m)))', to: 'return written.size < 0', breaks: 'a kernel runs before the one whose result it reads', killers: [corpus('found'), corpus('selection')] },
  { name: 'kernels join over other lengths', file: 'src/codegen/plan/merge.ts', from: 'return b === undefined || equalSizes(a.size, b.size)', to: 'return b === undefined || a.size !== null', breaks: 'results of different lengths share a grid', killers: [corpus('selection'), fuzz] },
  { name: 'an empty grid for what is not empty', file: 'src/codegen/plan/merge.ts', from: '(fixedSize(a.size) ?? 0) > 0', to: '(fixedSize(a.size) ?? 0) >= 0', breaks: 'a result that lacks an axis is not written where that axis is empty', killers: [fuzz] },
  { name: 'an ordered fold within a kernel', file: 'src/codegen/plan/cuts.ts', from: "if (e.kind === 'reduce' && e.monoid.ordered && e !== root && !p.stored.has(e))", to: "if (e.kind === 'reduce' && e.monoid.ordered && e === root && !p.stored.has(e))", breaks: 'elements of an ordered fold are taken in strides', killers: [corpus('rows'), fuzz] },
  { name: 'folds below gathers', file: 'src/codegen/plan/cuts.ts', from: "new Set(['window', 'gather', 'concat', 'split', 'merge'])", to: "new Set(['window', 'concat', 'split', 'merge'])", breaks: 'a gather reads a fold at positions that the kernel does not hold', killers: [corpus('selection'), fuzz] },
  { name: 'a name that comes back', file: 'src/codegen/plan/cuts.ts', from: 'if (elsewhere.has(e.kind) || renamesOver(p, root, e))', to: 'if (elsewhere.has(e.kind))', breaks: "a fold's axis is taken for another one of its name", killers: [corpus('found')] },
  { name: 'loops in an index of one side', file: 'src/codegen/plan/cuts.ts', from: "reader.kind === 'gather' && c === reader.index && inside", to: "reader.kind === 'gather' && c !== reader.index && inside", breaks: 'a side of a concatenation needs lines of its own', killers: [corpus('found')] },
  { name: 'a symbol without its factor', file: 'src/dsl/size.ts', from: 'else constant += c * value\n  }\n  return make(constant, terms)', to: 'else constant += value\n  }\n  return make(constant, terms)', breaks: 'a text has wrong numbers in the place of symbols', killers: [fuzz, test('laws/sizes')] },
]

const lowering: readonly Mutant[] = [
  { name: 'rows through an index', file: 'src/codegen/lower/rows.ts', from: ' && axisOf(node.index, axis) === undefined', to: '', breaks: 'neighbours move together though each has an index of its own', killers: [corpus('found')] },
  { name: 'rows under another name', file: 'src/codegen/lower/rows.ts', from: 'if (axisOf(node, axis) === undefined) return false', to: 'if (axisOf(node, axis) === undefined && axis === \'\') return false', breaks: 'vectors along an axis that only has the name of the right one', killers: [corpus('found')] },
  { name: 'a gather without its lower clamp', file: 'src/codegen/lower/value.ts', from: "v.binaryValue('max', v.constantValue(0, 'i32'), v.binaryValue('min', raw, v.indexValue(last)))", to: "v.binaryValue('min', raw, v.indexValue(last))", breaks: 'negative indices read before the array', killers: [corpus('selection')] },
  { name: 'a gather without its upper clamp', file: 'src/codegen/lower/value.ts', from: "v.castValue(v.binaryValue('min', raw, v.castValue(v.indexValue(last), 'u32')), 'i32')", to: "v.castValue(raw, 'i32')", breaks: 'large indices read beyond the array', killers: [corpus('selection')] },
  { name: 'a concatenation cut one too late', file: 'src/codegen/lower/value.ts', from: "v.guardedValue(v.binaryValue('lt', v.indexValue(i), v.indexValue(ix.sizeIndex(p.end)))", to: "v.guardedValue(v.binaryValue('le', v.indexValue(i), v.indexValue(ix.sizeIndex(p.end)))", breaks: 'the first element of a part is read from the part before', killers: [corpus('selection')] },
  { name: 'a slice from the beginning', file: 'src/codegen/lower/value.ts', from: '[[e.axis, ix.add(i, rawIndex(e.from))]]', to: '[[e.axis, i]]', breaks: 'a slice begins where its axis does', killers: [corpus('selection')] },
  { name: 'div for mod', file: 'src/codegen/lower/value.ts', from: 'out.unshift([axes[n]!.name, ix.mod(rest, extent)])', to: 'out.unshift([axes[n]!.name, ix.div(rest, extent)])', breaks: 'merged axes come apart wrongly', killers: [corpus('selection')] },
  { name: 'a halo one short', file: 'src/codegen/lower/value.ts', from: 'ix.min(ix.add(i, ix.constant(half + 1)), n)', to: 'ix.min(ix.add(i, ix.constant(half)), n)', breaks: 'the last neighbour of a window is left out', killers: [corpus('rows')] },
  { name: 'a halo beyond the end', file: 'src/codegen/lower/value.ts', from: 'ix.max(ix.min(near, ix.sub(n, ix.constant(1))), ix.zero)', to: 'ix.max(ix.min(near, n), ix.zero)', breaks: 'a window reads the element after the last', killers: [corpus('rows')] },
  { name: 'a pool with another divisor', file: 'src/codegen/lower/value.ts', from: "const count = e.counted ? v.constantValue(e.size, 'f32')", to: "const count = e.counted ? v.constantValue(e.size + 1, 'f32')", breaks: 'a mean counts a neighbour too many', killers: [corpus('rows')] },
  { name: 'a mean of one more', file: 'src/codegen/lower/value.ts', from: 'export const countValue = (count: Index): Value => v.castValue(v.indexValue(count)', to: 'export const countValue = (count: Index): Value => v.castValue(v.indexValue(ix.add(count, ix.constant(1)))', breaks: 'the count of a fold is one too many', killers: [corpus('rows')] },
  { name: 'an output turned round', file: 'src/codegen/lower/value.ts', from: 'return ix.offset(m.axes.map(a => at(env, a.name)), extents)', to: 'return ix.offset(m.axes.map(a => at(env, a.name)).reverse(), extents)', breaks: 'arrays have the strides of another order', killers: [corpus('rows')] },
  { name: 'a tail mask one too long', file: 'src/codegen/lower/scopes.ts', from: "v.yes : v.binaryValue('lt', v.indexValue(i), v.indexValue(n))\n  }))", to: "v.yes : v.binaryValue('le', v.indexValue(i), v.indexValue(n))\n  }))", breaks: 'a tile stores one element beyond its row', killers: [corpus('rows'), corpus('contractions')] },
  { name: 'a fold of one more', file: 'src/codegen/lower/stream-values.ts', from: "v.binaryValue('lt', v.indexValue(i), v.indexValue(ix.sizeIndex(axis.size)))\n  }))", to: "v.binaryValue('le', v.indexValue(i), v.indexValue(ix.sizeIndex(axis.size)))\n  }))", breaks: 'the tail of a fold counts an element that is not there', killers: [corpus('rows')] },
  { name: 'shares without the rest', file: 'src/codegen/lower/scopes.ts', from: 'ix.min(n, ix.mod(named(tiles), count))), ix.longest)', to: 'ix.min(ix.zero, n)), ix.longest)', breaks: 'tiles that do not divide by the blocks are left out', killers: [fuzz, test('devices/snapkv')] },
  { name: 'the last part is dropped', file: 'src/codegen/lower/stream-values.ts', from: "from: ix.zero, to: ix.scalar('splits', ix.longest), step: 1, body: [{ kind: 'merge'", to: "from: ix.constant(1), to: ix.scalar('splits', ix.longest), step: 1, body: [{ kind: 'merge'", breaks: 'a part of a split fold is not put together with the others', killers: [corpus('rows'), corpus('contractions')] },
  { name: 'zeros of a tile that are none', file: 'src/codegen/lower/tiles.ts', from: ": v.guardedValue(within, v.assuming(loaded, within), zero)", to: ": v.guardedValue(v.yes, v.assuming(loaded, within), zero)", breaks: 'operands are read beyond their axes', killers: [corpus('contractions')] },
  { name: 'a stored fold taken for a computed one', file: 'src/codegen/lower/tiles.ts', from: "if (kept !== undefined) return kept.form === 'partials'", to: "if (kept !== undefined && kept.form === 'partials') return true", breaks: 'a contraction looks for its operand in registers', killers: [corpus('found')] },
  { name: 'a swizzle by another axis', file: 'src/codegen/lower/mma.ts', from: 'rows = [...dims.filter(d => d !== own), own].map', to: 'rows = dims.map', breaks: 'matrix loads find other rows than were staged', killers: [corpus('found'), fuzz] },
]

const barriers: readonly Mutant[] = [
  { name: 'no barrier before reading', file: 'src/codegen/barriers.ts', from: 'm.sharedRead.some(t => pending.written.has(t)) || ', to: '', breaks: 'a tile is read before all have written it', killers: [corpus('contractions'), corpus('rows')] },
  { name: 'no barrier before writing', file: 'src/codegen/barriers.ts', from: 'm.sharedWritten.some(t => pending.written.has(t) || pending.read.has(t))', to: 'm.sharedWritten.some(t => pending.written.has(t))', breaks: 'a tile is written again while others read it', killers: [corpus('contractions'), fuzz] },
  { name: 'no barrier between turns', file: 'src/codegen/barriers.ts', from: 'walk(walk(s.body, p), p)', to: 'walk(s.body, p)', breaks: 'a turn of a loop writes what the turn before still reads', killers: [corpus('contractions'), fuzz] },
  { name: 'a copy that has not landed', file: 'src/codegen/barriers.ts', from: 'landed: s.ring.stages - 2', to: 'landed: s.ring.stages - 1', breaks: 'a tile is read while it is on its way', killers: [test('devices/tensor-cores'), fuzz] },
]

const indexing: readonly Mutant[] = [
  { name: 'a grid without its last block', file: 'src/codegen/index-expr.ts', from: 'isConst(b) ? div(add(a, constant(b.value - 1)), b)', to: 'isConst(b) ? div(a, b)', breaks: 'the last tile has no block', killers: [corpus('arithmetic')] },
  { name: 'all indices in 32 bits', file: 'src/codegen/emit/expression.ts', from: 'const wide = (i: Index): boolean => i.min < -(2 ** 31) || i.max >= 2 ** 31', to: 'const wide = (i: Index): boolean => i.min < -(2 ** 53) || i.max >= 2 ** 53', breaks: 'offsets of large arrays overflow', killers: [test('codegen/wide-indices')] },
  { name: 'ranges of products', file: 'src/codegen/index-expr.ts', from: 'product(a.max, b.min), product(a.max, b.max)]', to: 'product(a.max, b.min)]', breaks: 'an index is thought smaller than it can be', killers: [test('codegen/wide-indices'), fuzz] },
  { name: 'inside by one too many', file: 'src/codegen/index-expr.ts', from: 'if (fixed !== undefined && i.max < fixed) return true', to: 'if (fixed !== undefined && i.max <= fixed) return true', breaks: 'a guard is left out that is needed', killers: [corpus('rows'), corpus('contractions'), fuzz] },
  { name: 'a false inequality', file: 'src/codegen/prove.ts', from: 'return least(affine(rest)) >= 0 ||', to: 'return least(affine(rest)) >= -1 ||', breaks: 'the prover takes -1 for a number that is not negative', killers: [corpus('selection'), corpus('rows'), fuzz] },
  { name: 'quotients of positive factors', file: 'src/codegen/index-expr.ts', from: 'if (a.min >= 0 && a.max < b.min) return a', to: 'if (a.min >= 0 && a.max <= b.min) return a', breaks: 'a remainder may equal its divisor', killers: [test('codegen/wide-indices'), fuzz] },
]

const emission: readonly Mutant[] = [
  { name: 'NaN is ignored by max', file: 'src/codegen/emit/expression.ts', from: "s.w.use(v.name === 'min' ? 'minimum' : 'maximum')", to: "(v.name === 'min' ? 'fminf' : 'fmaxf')", breaks: 'max of NaN and a number is the number', killers: [corpus('rows'), corpus('arithmetic')] },
  { name: 'products that overflow', file: 'src/codegen/emit/expression.ts', from: "(v.name === 'add' || v.name === 'sub' || v.name === 'mul')", to: "(v.name === 'add' || v.name === 'sub')", breaks: 'i32 products are undefined where they wrap', killers: [corpus('arithmetic')] },
  { name: 'NaN equals itself', file: 'src/codegen/emit/expression.ts', from: 'return [`${x} != ${x}`, 4]', to: 'return [`${x} == ${x}`, 4]', breaks: 'isNaN says the opposite', killers: [corpus('arithmetic')] },
  { name: 'shuffles of half a warp', file: 'src/codegen/emit/cuda.ts', from: 'mask < ${over.stride * over.threads}; mask *= 2)`, () => combineLines(', to: 'mask < ${over.stride * over.threads / 2}; mask *= 2)`, () => combineLines(', breaks: 'half of the lanes are left out of a fold', killers: [corpus('rows')] },
  { name: 'shared tiles that overlap', file: 'src/codegen/facts.ts', from: 'byteSize[t.dtype]) / 16) * 16', to: 'byteSize[t.dtype]) / 32) * 16', breaks: 'shared memory is half of what the tiles need', killers: [corpus('contractions'), corpus('rows')] },
  { name: 'values out of their guard', file: 'src/codegen/emit/expression.ts', from: "if (v.op === 'guarded') visit(v.condition, true)", to: "if (v.op === 'guarded') valueChildren(v).forEach(c => visit(c, single))", breaks: 'a load that is needed twice is made before its guard', killers: [fuzz, corpus('found'), corpus('selection')] },
  { name: 'elements out of their guard', file: 'src/codegen/emit/shifted-fold.ts', from: 'if (condition === undefined || needed.length === 0) {', to: 'if (condition === undefined || needed.length >= 0) {', breaks: 'an element beyond the row is loaded before the guard', killers: [corpus('found')] },
  { name: 'a rounding to 16 bits left out', file: 'src/codegen/values.ts', from: "if (a.op === 'cast' && a.a.dtype === dtype && (dtype === 'f16' || dtype === 'bf16') && a.dtype === 'f32') return a.a", to: "if (a.op === 'cast' && a.a.dtype === dtype && dtype !== 'bool') return a.a", breaks: 'a number that went through 16 bits is as it was', killers: [corpus('arithmetic')] },
  { name: 'a quotient toward zero', file: 'src/codegen/intrinsics.ts', from: 'return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;', to: 'return q;', breaks: 'integers are divided as C++ does', killers: [corpus('arithmetic')] },
  { name: 'a zero that is below zero', file: 'src/codegen/intrinsics.ts', from: 'const u32 bits = emu::floatToBits(x + 0.f);', to: 'const u32 bits = emu::floatToBits(x);', breaks: 'a selection puts -0 below +0', killers: [corpus('selection'), test('codegen/select')] },
  { name: 'scans that count themselves', file: 'src/codegen/intrinsics.ts', from: 'shuffleFrom(upToWarp - own, warp) + upToHere - x', to: 'shuffleFrom(upToWarp - own, warp) + upToHere', breaks: 'an exclusive sum is inclusive', killers: [corpus('selection')] },
  { name: 'a base of 2 for that of e', file: 'src/codegen/intrinsics.ts', from: 'exp2Fast(x * 1.44269504f)', to: 'exp2Fast(x * 1.442695f + 1e-5f)', breaks: 'e^x is off by seven units in the last place', killers: [corpus('rows'), fuzz] },
  { name: 'ties at the higher position', file: 'src/codegen/emit/select.ts', from: 'if (a > b || (a == b && atA < atB)) continue;', to: 'if (a > b || (a == b && atA > atB)) continue;', breaks: 'of equals the later one comes first', killers: [corpus('selection')] },
  { name: 'a tie too many', file: 'src/codegen/emit/select.ts', from: "const taken = piece`own.at[e] > threshold || (isEqual && tied < need)`", to: "const taken = piece`own.at[e] > threshold || (isEqual && tied <= need)`", breaks: 'one more element is selected than asked for', killers: [corpus('selection')] },
  { name: 'a threshold a digit short', file: 'src/codegen/emit/select.ts', from: 'open = (1u << digit) - 1;', to: 'open = (1u << digit) >> 1;', breaks: 'keys that differ in low bits are not told apart', killers: [corpus('selection'), test('codegen/select')] },
]

const runtime: readonly Mutant[] = [
  { name: 'a grid one short', file: 'src/runtime/launch-plan.ts', from: 'product * evaluate(g.blocks, scalars), 1)', to: 'product * evaluate(g.blocks, scalars), 1) - 1', breaks: 'the last block is not launched', killers: [corpus('arithmetic')] },
  { name: 'room for one part', file: 'src/runtime/launch-plan.ts', from: "m.axes.map(a => (a.size === 'splits' ? n.splits", to: "m.axes.map(a => (a.size === 'splits' ? 1", breaks: 'parts of split folds are written beyond their array', killers: [corpus('rows')] },
  { name: 'parameters in another order', file: 'src/runtime/program.ts', from: '...k.kernel.inputs.map(bufferOf), ...k.kernel.outputs.map(bufferOf),', to: '...k.kernel.outputs.map(bufferOf), ...k.kernel.inputs.map(bufferOf),', breaks: 'a kernel writes its inputs', killers: [test('runtime/program')] },
  { name: 'kernels for any sizes', file: 'src/runtime/program.ts', from: 'JSON.stringify(Object.entries(sizes).sort(([a], [b]) => (a < b ? -1 : 1)))', to: 'Object.keys(sizes).sort().join()', breaks: 'kernels that were made for other sizes are launched', killers: [test('runtime/program')] },
  { name: 'no shared memory', file: 'src/runtime/program.ts', from: 'shared: p.emitted[i]!.sharedBytes, stream }', to: 'shared: 0 * p.emitted[i]!.sharedBytes, stream }', breaks: 'a kernel is launched without its shared memory', killers: [test('runtime/program'), test('devices/snapkv')] },
  { name: 'inputs too short', file: 'src/runtime/inputs.ts', from: 'if (x.data.length !== count)', to: 'if (x.data.length > count)', breaks: 'a device reads past the end of an array', killers: [test('runtime/program')] },
  { name: 'inputs as they lie', file: 'src/runtime/host-tensor.ts', from: 'const from = axes.map(a => t.axes.indexOf(a))', to: 'const from = axes.map((a, i) => (t.axes.includes(a) ? i : -1))', breaks: 'the physical order of an input is taken for the declared one', killers: [test('runtime/program')] },
]

const cache: readonly Mutant[] = [
  { name: 'a cache key without options', file: 'src/runtime/cache.ts', from: 'compiler.target, compiler.options, arch', to: 'compiler.target, arch', breaks: 'an image of other options is served', killers: [test('runtime/cache')] },
  { name: 'a cache key without the architecture', file: 'src/runtime/cache.ts', from: 'compiler.options, arch, kernels, text', to: 'compiler.options, kernels, text', breaks: 'an image for another GPU is served', killers: [test('runtime/cache')] },
  { name: 'a cache key without the compiler', file: 'src/runtime/cache.ts', from: '[formatVersion, compiler.id, compiler.target', to: '[formatVersion, compiler.target', breaks: 'an image of another compiler is served', killers: [test('runtime/cache')] },
  { name: 'images as they are found', file: 'src/runtime/cache.ts', from: 'if (image.length !== meta.length || sha256(image) !== meta.sha256) return undefined', to: 'if (image.length !== meta.length) return undefined', breaks: 'a damaged image is loaded', killers: [test('runtime/cache')] },
  { name: 'entries without their seal', file: 'src/runtime/cache.ts', from: ' || sealOf(meta) !== meta.seal) return undefined', to: ') return undefined', breaks: 'damaged records are believed', killers: [test('runtime/cache'), test('runtime/cache-fire')] },
]

const language: readonly Mutant[] = [
  { name: 'sizes solved without their constant', file: 'src/dsl/bind.ts', from: 'const value = (length - s.constant) / c', to: 'const value = length / c', breaks: 'symbols get wrong values', killers: [test('laws/sizes'), test('laws/programs')] },
  { name: 'k above the length', file: 'src/dsl/bind.ts', from: 'if (k > length) refuse(', to: 'if (k > length + 1) refuse(', breaks: 'a selection of more than there are runs', killers: [test('errors/language'), test('laws/selection')] },
  { name: 'affine forms that forget a sign', file: 'src/dsl/size.ts', from: 'terms.set(name, (terms.get(name) ?? 0) + sign * c)', to: 'terms.set(name, (terms.get(name) ?? 0) + c)', breaks: 'differences of sizes are sums', killers: [test('laws/sizes')] },
  { name: 'remainders with the sign of C', file: 'src/dsl/scalar.ts', from: '(y === 0 ? x : x - y * Math.floor(x / y))', to: '(y === 0 ? x : x % y)', breaks: 'the reference itself is wrong', killers: [test('laws/scalars'), test('laws/documentation'), corpus('arithmetic')] },
]

export const mutants: readonly Mutant[] = [...planner, ...lowering, ...barriers, ...indexing, ...emission, ...runtime, ...cache, ...language]

/** The text with the bug in it. Throws unless the place is there exactly once. */
export function mutated(m: Mutant, text: string): string {
  const found = text.split(m.from).length - 1
  if (found !== 1) throw new Error(`mutant '${m.name}': its text occurs ${found} times in ${m.file}`)
  return text.replace(m.from, () => m.to)
}
