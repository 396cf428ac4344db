/**
 * The text of a radix selection; `lower/select.ts` says how it goes. The score is written once, as a function within the
 * kernel. What a kernel cannot need is left out: the test for the cache where the row's length is fixed, the chunks
 * where k is small enough, the sort where positions stay in order.
 *
 * Pieces are plain text in which local names stand for themselves; one that the kernel has for something else gets a
 * number. What stands in ${} is put in as it is.
 */
import { intrinsics, type IntrinsicName } from '../intrinsics.js'
import type { Index } from '../index-expr.js'
import { sharedElements, type Statement, type Value } from '../kernel.js'
import { visitValue } from '../values.js'
import { indexText, nameRepeated, valueText } from './expression.js'
import { type Scope } from './terms.js'
import { dedupe } from './dedupe.js'
import type { Writer } from './writer.js'

type Select = Extract<Statement, { kind: 'select' }>

const locals = ('scoreAt keyAt cached lane share begin end best threshold open need shift own higher same count sum bin foundBin foundNeed foundCount ' +
  'candidateCount takenCount bound above equal aboves equals first before ahead tied isAbove isEqual done take lastThreshold lastBound slot run mask ' +
  'i j a b atA atB').split(' ')

interface Context {
  readonly s: Select
  readonly w: Writer
  readonly threads: number
  /** Text with this kernel's names for the locals. */
  readonly piece: (strings: TemplateStringsArray, ...inserted: readonly (string | number)[]) => string
  /** The key at position i. */
  readonly key: string
  /** What goes before a loop over the row. */
  readonly sweep: (indent: string) => string
  /** Writes lines at the present depth. */
  readonly write: (text: string) => void
}

export function selectLines(s: Select, w: Writer, scope: Scope, threads: number): void {
  const { selection, cache, sorted } = s
  if (selection.k.max === 0) { w.line('// k is 0: nothing to select'); return }
  for (const t of [s.histogram, s.candidates, s.totals, s.state, cache, sorted?.keys, sorted?.positions]) if (t !== undefined) w.fresh(t.name)
  const names = new Map(locals.map(local => [local, w.fresh(local)]))
  // Comments stay as they are; \0 holds the places of what is inserted.
  const piece: Context['piece'] = (strings, ...inserted) =>
    strings.join('\0').replace(/\/\/.*|[A-Za-z]\w*/g, word => names.get(word) ?? word).split('\0').map((text, i) => text + (inserted[i] ?? '')).join('')
  const write = (text: string): void => {
    for (const word of text.match(/\w+/g) ?? []) if (word in intrinsics) w.use(word as IntrinsicName)
    for (const line of text.split('\n')) if (line !== '') w.line(line)
  }
  const atom = (i: Index): string => { const text = indexText(i, scope); return /^\w+$/.test(text) ? text : `(${text})` }
  const length = atom(selection.length), k = atom(selection.k)
  const always = cache !== undefined && selection.length.max <= sharedElements(cache)
  const key = cache === undefined ? piece`scoreAt(i)` : always ? `u32(${cache.name}[${piece`i`}])` : piece`keyAt(i)`
  // A fold is evaluated anew in every sweep; two at once would not fit 64 registers.
  const heavy = cache !== undefined && !always && hasLoop(selection.score)
  const c: Context = { s, w, threads, piece, key, write, sweep: indent => (heavy ? `${indent}#pragma unroll 1\n` : '') }

  w.line('// The score as an integer of the same order: -infinity < ... < -0 = +0 < ... < infinity < NaN')
  lambda(w, piece`const auto scoreAt = [&](i32 ${selection.at.name}) -> u32`, () => {
    const inner: Scope = { ...scope, named: new Map(scope.named) }
    const [score] = dedupe([selection.score])
    nameRepeated([score!], inner)
    w.line(`return ${w.use('orderedBits')}(${valueText(score!, inner)});`)
  })
  write(piece`// A warp has a part of the row, its lanes side by side: what ballots count is in order of position
const i32 lane = thread % 32, share = (${length} + ${threads - 1}) / ${threads} * 32;
const i32 begin = min(thread / 32 * share, ${length}), end = min(begin + share, ${length});`)
  if (cache !== undefined) {
    // So many loads of a thread are under way together; a fold has several per element, and registers are few.
    const unroll = hasLoop(selection.score) ? 1 : 4   // a loop of its own has loads enough under way; two spill on sm_120
    const fill = (): void => write(piece`#pragma unroll ${unroll}
for (i32 i = begin + lane; i < end; i += 32) ${cache.name}[i] = scoreAt(i);   // a thread reads only what it wrote itself`)
    if (always) fill()
    else {
      write(piece`const bool cached = ${length} <= ${sharedElements(cache)};   // a longer row is evaluated in every sweep`)
      w.block(piece`if (cached)`, fill)
      write(piece`const auto keyAt = [&](i32 i) -> u32 { return cached ? u32(${cache.name}[i]) : scoreAt(i); };`)
    }
  }
  write(piece`Global<i32> best = ${selection.target.name}${selection.base.max === 0 ? '' : ` + (${indexText(selection.base, scope)})`};
enum { foundBin, foundNeed, foundCount, candidateCount${sorted === undefined ? '' : piece`, takenCount, bound`} };   // the words of ${s.state.name}`)

  if (sorted === undefined) {
    const all = (): void => { thresholdLines(c, k); compactLines(c) }
    if (selection.k.min > 0) all()
    else w.block(`if (${k} > 0)`, all)
    return
  }
  const most = sharedElements(sorted.keys)
  if (selection.k.min > 0 && selection.k.max <= most) {
    thresholdLines(c, k)
    takeLines(c, false)
    sortLines(c, k, '')
    return
  }
  write(piece`// ${most} ranks at a time. Taken before: keys above lastThreshold, and those equal to it up to position lastBound
u32 lastThreshold = ~0u;
i32 lastBound = -1;`)
  w.block(piece`for (i32 done = 0; done < ${k}; done += ${most})`, () => {
    write(piece`const i32 take = min(${k} - done, ${most});`)
    thresholdLines(c, piece`done + take`)
    takeLines(c, true)
    sortLines(c, piece`take`, piece`done + `)
    write(piece`lastThreshold = threshold;
lastBound = ${s.state.name}[bound];`)
  })
}

function hasLoop(v: Value): boolean {
  let found = false
  visitValue(v, x => { if (x.op === 'loop') found = true })
  return found
}

/** A block whose end is a semicolon; on one line if the body is one. */
function lambda(w: Writer, head: string, body: () => void): void {
  const start = w.lines.length
  w.block(head, body)
  const last = w.lines.length - 1, text = w.lines[last]!
  w.lines[last] = last === start ? `${text.replace(head, `${head} {`)} };` : `${text};`
}

/** Finds the key of the `take`-th best element, `threshold`, and how many elements equal to it are taken, `need`. */
function thresholdLines({ s, write, piece, key, threads, sweep }: Context, take: string): void {
  const { histogram, candidates, totals, state } = s, bins = sharedElements(histogram), bits = Math.log2(bins), each = bins / threads
  const scan = each > 1
    ? piece`  u32 count[${each}], sum = 0;   // of neighbouring bins, thread 0 has the topmost
  for (i32 i = 0; i < ${each}; ++i) {
    count[i] = ${histogram.name}[${bins - 1} - (thread * ${each} + i)];
    sum += count[i];
  }
  u32 higher = blockScan<${threads}>(sum, ${totals.name}).before;
  for (i32 i = 0; i < ${each}; higher += count[i++])
    if (higher < need && need <= higher + count[i]) {
      ${state.name}[foundBin] = ${bins - 1} - (thread * ${each} + i);
      ${state.name}[foundNeed] = need - higher, ${state.name}[foundCount] = count[i];
    }`
    : piece`  const i32 bin = ${bins - 1} - thread;   // thread 0 has the topmost
  const u32 count = ${each === 1 ? piece`${histogram.name}[bin]` : piece`bin < 0 ? 0u : u32(${histogram.name}[bin])`};
  const u32 higher = blockScan<${threads}>(count, ${totals.name}).before;
  if (higher < need && need <= higher + count)
    ${state.name}[foundBin] = bin, ${state.name}[foundNeed] = need - higher, ${state.name}[foundCount] = count;`
  write(piece`// Taken: all keys above the threshold and \`need\` of those equal to it. \`open\` has the bits not yet known
u32 threshold = 0, open = ~0u, need = ${take};
if (thread == 0) ${state.name}[candidateCount] = 0${s.sorted === undefined ? '' : piece`, ${state.name}[takenCount] = 0`};
for (i32 shift = ${32 - bits};; shift = max(shift - ${bits}, 0)) {
  ${each > 1 ? piece`for (i32 i = 0; i < ${each}; ++i) ${histogram.name}[i * ${threads} + thread]` : each === 1 ? `${histogram.name}[thread]` : `if (thread < ${bins}) ${histogram.name}[thread]`} = 0;
  blockBarrier();
${sweep('  ')}  for (i32 i = begin + lane; i < end; i += 32) {
    const u32 own = ${key};
    if (own - threshold <= open) fetchAdd(${histogram.name}, own >> shift & ${bins - 1}, 1);
  }
  blockBarrier();
${scan}
  blockBarrier();
  threshold |= ${state.name}[foundBin] << shift;
  need = ${state.name}[foundNeed];
  open = (1u << shift) - 1;
  if (shift == 0 || ${state.name}[foundCount] <= ${sharedElements(candidates)}) break;
}
if (open != 0) {   // few are left in the bin: rank them
${sweep('  ')}  for (i32 i = begin + lane; i < end; i += 32) {
    const u32 own = ${key};
    if (own - threshold <= open) ${candidates.name}[fetchAdd(${state.name}, candidateCount, 1)] = own;
  }
  blockBarrier();
  const i32 count = ${state.name}[foundCount];
  if (thread < count) {
    const u32 own = ${candidates.name}[thread];
    u32 higher = 0, tied = 0;   // of equal candidates each has a rank of its own, so that one thread writes
    for (i32 i = 0; i < count; ++i) higher += ${candidates.name}[i] > own, tied += i < thread && ${candidates.name}[i] == own;
    if (higher + tied + 1 == need) ${state.name}[foundBin] = own, ${state.name}[foundNeed] = tied + 1;
  }
  blockBarrier();
  threshold = ${state.name}[foundBin];
  need = ${state.name}[foundNeed];
}`)
}

/** Stores the positions in rising order. */
function compactLines({ s, write, piece, key, threads, sweep }: Context): void {
  write(piece`// Number the elements above and equal to the threshold: first those of the warps before this one
u32 above = 0, equal = 0;
${sweep('')}for (i32 i = begin + lane; i < end; i += 32) {
  const u32 own = ${key};
  above += own > threshold, equal += own == threshold;
}
above = shuffleFrom(blockScan<${threads}>(above, ${s.totals.name}).before, 0);
blockBarrier();
equal = shuffleFrom(blockScan<${threads}>(equal, ${s.totals.name}).before, 0);
${sweep('')}for (i32 first = begin; first < end; first += 32) {
  const i32 i = first + lane;
  const u32 own = i < end ? ${key} : 0u;   // 0 is below every score
  const bool isAbove = own > threshold, isEqual = own == threshold;
  const u32 aboves = ballot(isAbove), equals = ballot(isEqual), before = (1u << lane) - 1;
  const u32 ahead = above + __popc(aboves & before), tied = equal + __popc(equals & before);
  if (isAbove || (isEqual && tied < need)) best[ahead + min(tied, need)] = i;
  above += __popc(aboves), equal += __popc(equals);
}`)
}

/** Gathers what is taken in shared memory, in any order. */
function takeLines({ s, write, piece, key, threads, sweep }: Context, chunks: boolean): void {
  const { keys, positions } = s.sorted!
  const taken = piece`own > threshold || (own == threshold && tied < need)`
  write(piece`// Gather what is taken, in any order; of the elements equal to the threshold those at the lowest positions
u32 equal = 0;
${sweep('')}for (i32 i = begin + lane; i < end; i += 32) equal += ${key} == threshold;
equal = shuffleFrom(blockScan<${threads}>(equal, ${s.totals.name}).before, 0);
${sweep('')}for (i32 first = begin; first < end; first += 32) {
  const i32 i = first + lane;
  const u32 own = i < end ? ${key} : 0u;   // 0 is below every score
  const u32 equals = ballot(own == threshold);
  const u32 tied = equal + __popc(equals & ((1u << lane) - 1));${chunks ? piece`
  const bool before = own > lastThreshold || (own == lastThreshold && i <= lastBound);
  if (own == threshold && tied + 1 == need) ${s.state.name}[bound] = i;` : ''}
  if (${chunks ? piece`!before && (${taken})` : taken}) {
    const u32 slot = fetchAdd(${s.state.name}, takenCount, 1);
    ${keys.name}[slot] = own, ${positions.name}[slot] = i;
  }
  equal += __popc(equals);
}`)
}

/** Sorts what was gathered and stores it from rank `from` on. */
function sortLines({ s, write, piece, threads }: Context, count: string, from: string): void {
  const { keys, positions } = s.sorted!
  write(piece`// By falling score, then rising position: a bitonic network; mirrored first steps let it sort any number of elements
for (i32 run = 1; run < ${count}; run *= 2)
  for (i32 mask = 2 * run - 1; mask > 0; mask = mask > run ? run / 2 : mask / 2) {
    blockBarrier();
    for (i32 i = thread; i < ${count}; i += ${threads}) {
      const i32 j = i ^ mask;
      if (j < i || j >= ${count}) continue;
      const u32 a = ${keys.name}[i], b = ${keys.name}[j];
      const i32 atA = ${positions.name}[i], atB = ${positions.name}[j];
      if (a > b || (a == b && atA < atB)) continue;
      ${keys.name}[i] = b, ${keys.name}[j] = a;
      ${positions.name}[i] = atB, ${positions.name}[j] = atA;
    }
  }
blockBarrier();
for (i32 i = thread; i < ${count}; i += ${threads}) best[${from}i] = ${positions.name}[i];`)
}
