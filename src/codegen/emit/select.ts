/**
 * The text of a radix selection; `lower/select.ts` says how it goes, `select-keys.ts` writes how keys come about. What a
 * kernel cannot need is left out: rounds where a row of known length has one, the cache where no row fits it, the chunks
 * where k is small enough, the sort where positions stay in order, the peers where a row has one block.
 *
 * Pieces are plain text in which local names stand for themselves; one that the kernel has for something else gets a
 * number. What stands in ${} is put in as it is.
 */
import { intrinsics, type IntrinsicName } from '../intrinsics.js'
import type { Index } from '../index-expr.js'
import { sharedElements, type Selection, type Statement } from '../kernel.js'
import { indexText, valueText } from './expression.js'
import { keysLines, lambda } from './select-keys.js'
import type { Scope } from './terms.js'
import type { Writer } from './writer.js'

type Select = Extract<Statement, { kind: 'select' }>

const locals = ('keyAt keysWithin keysAt lane warp shift rounds begin held own turn visit sweep best bestKeys part from to share threshold open need digit higher ' +
  'same count sum bin theirs peer foundBin foundNeed foundCount candidateCount aboveCount equalCount takenCount bound above equal packed upTo total before ' +
  'ahead tied isAbove isEqual done take lastThreshold lastBound slot run mask i j a b atA atB').split(' ')

interface Context {
  readonly s: Select
  readonly w: Writer
  readonly scope: Scope
  readonly threads: number
  /** Text with this kernel's names for the locals. */
  readonly piece: (strings: TemplateStringsArray, ...inserted: readonly (string | number)[]) => string
  /** Writes lines at the present depth. */
  readonly write: (text: string) => void
  readonly length: string
  /** What all blocks of a row come to. */
  readonly rowBarrier: string
}

export function selectLines(s: Select, w: Writer, scope: Scope, threads: number): void {
  const { selection, sorted } = s
  if (selection.k.max === 0) { w.line('// k is 0: nothing to select'); return }
  for (const t of [s.histogram, s.candidates, s.gathered, s.totals, s.state, s.cache, sorted?.keys, sorted?.positions]) if (t !== undefined) w.fresh(t.name)
  const names = new Map(locals.map(local => [local, w.fresh(local)]))
  // Comments stay as they are; \0 holds the places of what is inserted.
  const piece: Context['piece'] = (strings, ...inserted) =>
    strings.join('\0').replace(/\/\/.*|[A-Za-z]\w*/g, word => names.get(word) ?? word).split('\0').map((text, i) => text + (inserted[i] ?? '')).join('')
  const write = (text: string): void => {
    for (const word of text.match(/\w+/g) ?? []) if (word in intrinsics) w.use(word as IntrinsicName)
    for (const line of text.split('\n')) if (line !== '') w.line(line)
  }
  const atom = (i: Index): string => { const text = indexText(i, scope); return /^\w+$/.test(text) ? text : `(${text})` }
  const c: Context = {
    s, w, scope, threads, piece, write, length: atom(selection.length), rowBarrier: selection.cluster ? 'clusterBarrier()' : 'blockBarrier()',
  }
  const k = atom(selection.k)
  const all = (): void => {
    const name = (local: string): string => names.get(local)!
    keysLines(selection, w, scope, { keyAt: name('keyAt'), keysWithin: name('keysWithin'), keysAt: name('keysAt'), own: name('own'), shift: name('shift') })
    roundLines(c)
    write(piece`Global<i32> best = ${selection.target.name}${selection.base.max === 0 ? '' : ` + (${indexText(selection.base, scope)})`};
enum { foundBin, foundNeed, foundCount, candidateCount, ${sorted === undefined ? piece`aboveCount, equalCount` : piece`takenCount, bound`} };   // the words of ${s.state.name}`)
    if (selection.keys !== undefined) partLines(c, k)
    else if (sorted === undefined) { thresholdLines(c, k); compactLines(c) }
    else rankLines(c, k)
  }
  if (selection.k.min > 0) all()
  else w.block(`if (${k} > 0)`, all)
}

const shiftOf = (x: Selection): number => x.neighbours?.shift.max ?? 0

/** Who has which elements, and `sweep`, which goes over all that this thread has. */
function roundLines({ s, w, write, piece, threads, length }: Context): void {
  const { selection: x, cache } = s, span = 4 * threads * x.blocks, warps = threads / 32
  const shifted = shiftOf(x) > 0, single = x.length.max + shiftOf(x) <= span
  const ahead = x.blocks === 1 ? '' : x.rank.op === 'scalar' ? `${x.rank.name} * ${warps} + ` : ''
  const warp = threads === 32 ? ahead.replace(/ \* 1 \+ $/, '') || '0' : `${ahead}thread / 32`
  const place = /\+/.test(warp) ? `(${warp})` : warp
  const by = shifted ? piece` - shift` : ''
  write(piece`const i32 lane = thread % 32;`)
  if (single) {
    write(piece`// A warp has 128 neighbours, a lane 4 of them: positions rise with warp and lane
const i32 begin = ${place} * 128 + lane * 4${by};
const Vector<u32, 4> own = keysAt(begin);
const auto sweep = [&](auto visit) { visit(begin); };`)
    return
  }
  write(piece`// A warp has \`rounds\` times 128 neighbours, a lane 4 of each: positions rise with the warp, the round and the lane
const i32 rounds = (${length}${shifted ? piece` + shift` : ''} - 1) / ${span} + 1, begin = ${place} * rounds * 128 + lane * 4${by};
Vector<u32, 4> own;`)
  const always = cache !== undefined && x.length.max + shiftOf(x) <= sharedElements(cache) * x.blocks
  const fill = (): void => w.block(piece`for (i32 turn = 0, i = begin; turn < rounds; ++turn, i += 128)`, () => {
    write(piece`own = keysAt(i);`)
    if (cache !== undefined) write(piece`storeVector(${cache.name} + (turn * ${4 * threads} + thread * 4), own);   // a thread reads only what it wrote itself`)
  })
  if (always) fill()
  else {
    const most = cache === undefined ? 1 : sharedElements(cache) / (4 * threads)
    write(piece`const bool held = ${most === 1 ? piece`rounds == 1` : piece`rounds <= ${most}`};   // longer rows are evaluated in every sweep`)
    if (cache === undefined) write(piece`if (held) own = keysAt(begin);`)
    else w.block(piece`if (held)`, fill)
  }
  write('// The elements that this thread has, 4 at a time; of a single round they stay in registers')
  lambda(w, piece`const auto sweep = [&](auto visit)`, () => {
    w.line('#pragma unroll 1')
    w.block(piece`for (i32 turn = 0, i = begin; turn < rounds; ++turn, i += 128)`, () => {
      const load = cache === undefined ? '' : piece`loadVector<4>(${cache.name} + (turn * ${4 * threads} + thread * 4))`
      write(piece`if (rounds > 1) own = ${always ? load : cache === undefined ? piece`keysAt(i)` : piece`held ? ${load} : keysAt(i)`};`)
      write(piece`visit(i);`)
    })
  })
}

/** Finds the key of the `take`-th best element, `threshold`, and how many elements equal to it are taken, `need`. */
function thresholdLines({ s, write, piece, threads, length, rowBarrier }: Context, take: string): void {
  const { histogram, candidates, gathered, totals, state, selection: { blocks, cluster } } = s
  const bins = sharedElements(histogram), bits = Math.log2(bins), each = bins / threads
  const limit = sharedElements(candidates)
  const counted = (bin: string): string => (cluster ? piece`0;
${each > 1 ? '    ' : '  '}for (i32 peer = 0; peer < ${blocks}; ++peer) ${each > 1 ? piece`count[i]` : piece`count`} += peerValue(${histogram.name}, ${bin}, peer)` : `${histogram.name}[${bin}]`)
  const scan = each > 1
    ? piece`  u32 count[${each}], sum = 0;   // of neighbouring bins, thread 0 has the topmost
  for (i32 i = 0; i < ${each}; ++i) {
    count[i] = ${counted(piece`${bins - 1} - (thread * ${each} + i)`)};
    sum += count[i];
  }
  u32 higher = blockScan<${threads}>(sum, ${totals.name}).before;
  for (i32 i = 0; i < ${each}; higher += count[i++])
    if (higher < need && need <= higher + count[i]) {
      ${state.name}[foundBin] = ${bins - 1} - (thread * ${each} + i);
      ${state.name}[foundNeed] = need - higher, ${state.name}[foundCount] = count[i];
    }`
    : piece`  const i32 bin = ${bins - 1} - thread;   // thread 0 has the topmost
  ${each === 1 && !cluster ? piece`const u32 count = ${histogram.name}[bin];` : cluster ? piece`u32 count = ${counted(each === 1 ? piece`bin` : piece`max(bin, 0)`)};` : piece`const u32 count = bin < 0 ? 0u : u32(${histogram.name}[bin]);`}${
      cluster && each < 1 ? piece`
  if (bin < 0) count = 0;` : ''}
  const u32 higher = blockScan<${threads}>(count, ${totals.name}).before;
  if (higher < need && need <= higher + count)
    ${state.name}[foundBin] = bin, ${state.name}[foundNeed] = need - higher, ${state.name}[foundCount] = count;`
  const list = gathered ?? candidates
  write(piece`// Taken: all keys above the threshold and \`need\` of those equal to it. \`open\` has the bits not yet known
u32 threshold = 0, open = ~0u, need = ${take};
if (thread == 0) ${state.name}[candidateCount] = 0${s.sorted === undefined ? '' : piece`, ${state.name}[takenCount] = 0`};
for (i32 digit = ${32 - bits};; digit = max(digit - ${bits}, 0)) {
  ${each > 1 ? piece`for (i32 i = 0; i < ${each}; ++i) ${histogram.name}[i * ${threads} + thread]` : each === 1 ? `${histogram.name}[thread]` : `if (thread < ${bins}) ${histogram.name}[thread]`} = 0;
  blockBarrier();
  sweep([&](i32 i) {
    if (i >= ${length}) return;
    if (open == ~0u)   // the first digit: no test for each
      for (i32 e = 0; e < 4; ++e) fetchAdd(${histogram.name}, own.at[e] >> digit & ${bins - 1}, 1);
    else
      for (i32 e = 0; e < 4; ++e)
        if (own.at[e] - threshold <= open) fetchAdd(${histogram.name}, own.at[e] >> digit & ${bins - 1}, 1);
  });
  ${rowBarrier};
${scan}
  ${rowBarrier};${cluster ? '   // also: no block clears a histogram that another one reads' : ''}
  threshold |= ${state.name}[foundBin] << digit;
  need = ${state.name}[foundNeed];
  open = (1u << digit) - 1;
  if (digit == 0 || ${state.name}[foundCount] <= ${limit}) break;
}
if (open != 0) {   // few are left in the bin: rank them
  sweep([&](i32 i) {
    if (i >= ${length}) return;
    for (i32 e = 0; e < 4; ++e)
      if (own.at[e] - threshold <= open) ${candidates.name}[fetchAdd(${state.name}, candidateCount, 1)] = own.at[e];
  });
  ${rowBarrier};
${cluster ? piece`  i32 count = 0;
  for (i32 peer = 0; peer < ${blocks}; ++peer) {
    const i32 theirs = peerValue(${state.name}, candidateCount, peer);
    if (thread < theirs) ${list.name}[count + thread] = peerValue(${candidates.name}, thread, peer);
    count += theirs;
  }
  blockBarrier();
` : piece`  const i32 count = ${state.name}[candidateCount];
`}  if (thread < count) {
    const u32 candidate = ${list.name}[thread];
    u32 higher = 0, tied = 0;   // of equal candidates each has a rank of its own, so that one thread writes
    for (i32 i = 0; i < count; ++i) higher += ${list.name}[i] > candidate, tied += i < thread && ${list.name}[i] == candidate;
    if (higher + tied + 1 == need) ${state.name}[foundBin] = candidate, ${state.name}[foundNeed] = tied + 1;
  }
  blockBarrier();
  threshold = ${state.name}[foundBin];
  need = ${state.name}[foundNeed];
}`)
}

/** What is stored of the element at the position that `at` names. */
function foundText({ s, scope }: Context, at: string): string {
  const { found, at: variable } = s.selection
  if (found.op === 'index' && found.index === variable) return at
  return valueText(found, { ...scope, named: new Map([...scope.named]) }).replace(new RegExp(`\\b${variable.name}\\b`, 'g'), `(${at})`)
}

/** Stores the positions in rising order. */
function compactLines(c: Context): void {
  const { s, write, piece, threads, rowBarrier } = c, { totals, state, selection: { blocks, cluster, rank, keys } } = s
  const place = piece`ahead + min(tied, need)`, found = foundText(c, piece`i + e`)
  write(piece`// Number the elements above and equal to the threshold: first those of the warps before this one
u32 above = 0, equal = 0;`)
  if (threads > 32 || cluster) write(piece`sweep([&](i32) {
  for (i32 e = 0; e < 4; ++e) above += own.at[e] > threshold, equal += own.at[e] == threshold;
});
above = warpSum(above), equal = warpSum(equal);
if (lane == 0) ${totals.name}[thread / 32] = above, ${totals.name}[32 + thread / 32] = equal;
blockBarrier();`)
  if (cluster) {
    write(piece`if (thread == 0) {
  above = equal = 0;
  for (i32 i = 0; i < ${threads / 32}; ++i) above += ${totals.name}[i], equal += ${totals.name}[32 + i];
  ${state.name}[aboveCount] = above, ${state.name}[equalCount] = equal;
}
${rowBarrier};`)
  }
  if (threads > 32 || cluster) {
    write(piece`above = warpSum(lane < thread / 32 ? u32(${totals.name}[lane]) : 0u), equal = warpSum(lane < thread / 32 ? u32(${totals.name}[32 + lane]) : 0u);`)
  }
  if (cluster) {
    write(piece`for (i32 peer = 0; peer < ${blocks - 1}; ++peer)   // and those of the blocks before
  if (peer < ${indexText(rank, c.scope)}) above += peerValue(${state.name}, aboveCount, peer), equal += peerValue(${state.name}, equalCount, peer);`)
  }
  write(piece`sweep([&](i32 i) {
  u32 packed = 0;   // above in the lower half, equal in the upper one: a warp has 128 of both at most
  for (i32 e = 0; e < 4; ++e) packed += own.at[e] > threshold ? 1 : own.at[e] == threshold ? 1 << 16 : 0;
  const u32 upTo = warpScan(packed), total = shuffleFrom(upTo, 31), before = upTo - packed;
  u32 ahead = above + (before & 0xffff), tied = equal + (before >> 16);
  for (i32 e = 0; e < 4; ++e) {
    const bool isAbove = own.at[e] > threshold, isEqual = own.at[e] == threshold;
    ${keys === undefined ? piece`if (isAbove || (isEqual && tied < need)) best[${place}] = ${found};` : piece`if (isAbove || (isEqual && tied < need)) best[${place}] = ${found}, bestKeys[${place}] = own.at[e];`}
    ahead += isAbove, tied += isEqual;
  }
  above += total & 0xffff, equal += total >> 16;
});`)
  if (cluster) write(piece`${rowBarrier};   // a block stays while others read its shared memory`)
}

/** The best of the block's part, at most k of them; keys of 0 take the places of those that the part does not have. */
function partLines(c: Context, k: string): void {
  const { s, w, write, piece, threads, length } = c, { selection: x } = s, part = 4 * threads
  const shift = shiftOf(x) === 0 ? '' : piece` - shift`, single = x.length.max + shiftOf(x) <= part * x.blocks
  write(piece`Global<u32> bestKeys = ${x.keys!.name} + (${indexText(x.base, c.scope)});
const i32 part = ${single ? part : piece`rounds * ${part}`}, from = max(${indexText(x.rank, c.scope)} * part${shift}, 0), to = min((${indexText(x.rank, c.scope)} + 1) * part${shift}, ${length});
const i32 share = min(${k}, max(to - from, 0));`)
  w.block(piece`if (share > 0)`, () => { thresholdLines(c, piece`share`); compactLines(c) })
  write(piece`for (i32 i = share + thread; i < ${k}; i += ${threads}) bestKeys[i] = 0;   // below every key`)
}

/** In order of score, `most` at a time. */
function rankLines(c: Context, k: string): void {
  const { s, w, write, piece } = c, most = sharedElements(s.sorted!.keys), { selection } = s
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

/** Gathers what is taken in shared memory, in any order. */
function takeLines({ s, write, piece, threads }: Context, chunks: boolean): void {
  const { keys, positions } = s.sorted!, { totals, state } = s
  const taken = piece`own.at[e] > threshold || (isEqual && tied < need)`
  write(piece`// Gather what is taken, in any order; of the elements equal to the threshold those at the lowest positions
u32 equal = 0;${threads === 32 ? '' : piece`
sweep([&](i32) { for (i32 e = 0; e < 4; ++e) equal += own.at[e] == threshold; });
equal = warpSum(equal);
if (lane == 0) ${totals.name}[thread / 32] = equal;
blockBarrier();
equal = warpSum(lane < thread / 32 ? u32(${totals.name}[lane]) : 0u);`}
sweep([&](i32 i) {
  u32 same = 0;
  for (i32 e = 0; e < 4; ++e) same += own.at[e] == threshold;
  const u32 upTo = warpScan(same);
  u32 tied = equal + upTo - same;
  for (i32 e = 0; e < 4; ++e) {
    const bool isEqual = own.at[e] == threshold;${chunks ? piece`
    const bool before = own.at[e] > lastThreshold || (own.at[e] == lastThreshold && i + e <= lastBound);
    if (isEqual && tied + 1 == need) ${state.name}[bound] = i + e;` : ''}
    if (${chunks ? piece`!before && (${taken})` : taken}) {
      const u32 slot = fetchAdd(${state.name}, takenCount, 1);
      ${keys.name}[slot] = own.at[e], ${positions.name}[slot] = i + e;
    }
    tied += isEqual;
  }
  equal += shuffleFrom(upTo, 31);
});`)
}

/** Sorts what was gathered and stores it from rank `from` on. */
function sortLines(c: Context, count: string, from: string): void {
  const { s, write, piece, threads } = c, { keys, positions } = s.sorted!
  const found = foundText(c, piece`${positions.name}[i]`)
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
for (i32 i = thread; i < ${count}; i += ${threads}) best[${from}i] = ${found};`)
}
