/** What `weft demo` shows: on a terminal, in a pipe, as JSON. */
import { fusedNodes } from '../codegen/explain.js'
import { formatBytes } from '../runtime/errors.js'
import { explainMismatch } from '../snapkv/compare.js'
import { checkDocument, describeCheck } from './check.js'
import type { Demo } from './demo.js'
import { fused, word } from './fused.js'
import { columns, count, paint, say, seconds, table, wrapped } from './output.js'
import { columnOf, legend, markLine, shadedLine, withGaps } from './picture.js'

const label = 11

export function tellDemo(d: Demo): void {
  const { shape } = d.prompt, budget = d.policy.budget(shape), width = columns()
  const line = (name: string, text: string): void => wrapped(text, width - label).forEach((l, i) => say(`${paint('bold', (i === 0 ? name : '').padEnd(label))}${l}`))
  const good = (ok: boolean, text: string): string => `${ok ? 'yes' : 'NO'}: ${text}`

  line('prompt', `${shape.length} tokens read by ${d.metadata.get('model')}, layer ${d.metadata.get('layer')}: ${count(shape.kvHeads, 'KV head')} × ${count(shape.group, 'query head')}, dim ${shape.dim}, ${shape.dtype}. ` +
    `Text: ${d.metadata.get('text')}, with one sentence hidden at tokens ${d.needle.from} to ${d.needle.to - 1} and a question at the end: ${d.metadata.get('question')!.replace(/^Question: /, '')}`)
  line('policy', `${d.policy.name}, capacity ${budget.kept}: each KV head keeps ${budget.kept} of ${budget.length} rows, ${budget.kept - budget.window} by votes of the last ${budget.window} queries and the window itself`)
  line('device', d.device.name)
  for (const f of d.device.found) line('', f)
  say()
  kernels(d, line)
  say()
  nvrtc(d, line)
  say()
  picture(d)
  say()
  needle(d, line)
  say()
  if (d.check !== undefined) {
    const [first = '', ...rest] = describeCheck(d.check)
    line('reference', `as the interpreter computes it? ${good(d.check.ok, first)}`)
    for (const text of rest) line('', text)
  }
  const o = d.official
  line('official', `as the published code computes it? ${good(o.scores.ok && o.selection.ok, `the same data with its options (${o.policy.name}, ${settings(o.policy.settings)}), against the numbers it gave: `)}` +
    `${o.scores.count - o.scores.different} of ${o.scores.count} scores equal to the last bit, ${o.scores.beyond} off by more than one unit in the last place of ${shape.dtype}; ` +
    (o.selection.ok ? `all ${o.selection.heads} query heads keep the rows with the highest scores` : o.selection.mismatches.slice(0, 3).map(explainMismatch).join('; ')))
  say()
  const { prepare, runs } = d.executed.times, from = d.executed.prepared?.fromCache === true
  line('times', [
    `${d.times.compile !== undefined ? 'emulator built' : 'device opened'} in ${seconds(d.times.device)}`,
    ...(d.times.compile === undefined ? [] : [`the kernels compiled beside it in ${seconds(d.times.compile)}`]),
    ...(d.executed.prepared === undefined ? [`interpreted in ${seconds(runs[0]!)}`]
      : [`kernels ${d.times.compile !== undefined ? 'loaded' : from ? 'loaded from the cache' : 'compiled and loaded'} in ${seconds(prepare)}`, `first run ${seconds(runs[0]!)}`, `next run ${seconds(runs.at(-1)!)}`]),
    ...(d.times.reference === undefined ? [] : [`the reference took ${seconds(d.times.reference)}`]),
    `all in all ${seconds(d.times.total)}`,
  ].join(', '))
  if (d.device.kind !== 'cuda') line('', `These are times of ${d.device.kind === 'emulator' ? 'the emulator, which checks kernels' : 'the interpreter, which says what is right'}; they say nothing about a GPU.`)
}

const settings = (s: Readonly<Record<string, unknown>>): string => ['capacity', 'rounding'].map(n => `${n}=${String(s[n])}`).join(' ')

function kernels(d: Demo, line: (name: string, text: string) => void): void {
  const rows = d.plan.groups.map((g, i) => ({ g, t: d.traffic.kernels[i]! }))
  const cells = [['', 'reads', 'writes'], ...rows.map(({ g, t }) => [g.name, formatBytes(t.read), formatBytes(t.written)])]
  const lines = table(cells, [1, 2])
  say(paint('bold', 'kernels'.padEnd(label)) + paint('dim', lines[0]!))
  rows.forEach(({ g }, i) => {
    line('', lines[i + 1]!)
    for (const text of wrapped(fused(g), columns() - label - 2)) say(paint('dim', `${' '.repeat(label + 2)}${text}`))
  })
  const moved = d.traffic.kernels.reduce((n, k) => n + k.read + k.written, 0), least = d.traffic.compulsory.read + d.traffic.compulsory.written
  line('', `together ${formatBytes(moved)}; ${formatBytes(least)} are compulsory (inputs once, outputs once): ${(moved / least).toFixed(2)} times as much`)
}

function nvrtc({ nvrtc: n }: Demo, line: (name: string, text: string) => void): void {
  if ('missing' in n) return line('nvrtc', `not compiled by NVRTC here: npm run setup:nvrtc (${n.missing})`)
  line('nvrtc', `the same kernels compiled by ${n.compiler} for ${n.arch}: ` +
    n.kernels.map(k => `${k.name} ${k.registers} registers, ${k.spillStores + k.spillLoads === 0 ? 'no spills' : `spills of ${k.spillStores} bytes stored, ${k.spillLoads} loaded`}`).join('; '))
}

function picture(d: Demo): void {
  const { positions } = d.executed.results, [heads, kept] = positions.shape as [number, number]
  const { length } = d.prompt.shape, width = columns() - label
  for (let h = 0; h < heads; h++) {
    const line = shadedLine(positions.data.subarray(h * kept, (h + 1) * kept) as Int32Array, length, width)
    const a = columnOf(d.needle.from, length, width), b = columnOf(d.needle.to - 1, length, width) + 1
    say(`${paint('bold', `KV head ${h}`.padEnd(label))}${line.slice(0, a)}${paint('green', line.slice(a, b))}${line.slice(b)}`)
  }
  say(' '.repeat(label) + paint('green', markLine(d.needle.from, d.needle.to, length, width, 'the hidden sentence')))
  for (const l of wrapped(legend(length, width), width)) say(' '.repeat(label) + paint('dim', l))
}

function needle(d: Demo, line: (name: string, text: string) => void): void {
  line('sentence', `${d.metadata.get('needle_text')}`)
  d.needle.kept.forEach((kept, h) => {
    const n = kept.filter(Boolean).length, all = n === kept.length
    line('', `KV head ${h} kept ${all ? `all ${n}` : `${String(n).padStart(3)} of ${kept.length}`} tokens${all ? '' : `: ${withGaps(d.needle.tokens, i => kept[i]!)}`}`)
  })
}

export function demoDocument(d: Demo): object {
  const { shape } = d.prompt, budget = d.policy.budget(shape), { positions } = d.executed.results
  const [heads, kept] = positions.shape as [number, number]
  return {
    prompt: { ...shape, model: d.metadata.get('model'), layer: d.metadata.get('layer'), question: d.metadata.get('question') },
    policy: d.policy.name, settings: d.policy.settings, kept: budget.kept, window: budget.window,
    device: { kind: d.device.kind, name: d.device.name, found: d.device.found },
    kernels: d.plan.groups.map((g, i) => ({ name: g.name, rule: g.rule, fused: fusedNodes(g).map(word), readBytes: d.traffic.kernels[i]!.read, writtenBytes: d.traffic.kernels[i]!.written })),
    nvrtc: 'missing' in d.nvrtc ? { compiled: false, reason: d.nvrtc.missing, fix: 'npm run setup:nvrtc' }
      : { compiled: true, compiler: d.nvrtc.compiler, arch: d.nvrtc.arch, kernels: d.nvrtc.kernels.map(k => ({ name: k.name, registers: k.registers, spillStores: k.spillStores, spillLoads: k.spillLoads })) },
    compulsoryBytes: { read: d.traffic.compulsory.read, written: d.traffic.compulsory.written },
    heads: Array.from({ length: heads }, (_, h) => ({ positions: [...positions.data.subarray(h * kept, (h + 1) * kept)], needleKept: d.needle.kept[h] })),
    needle: { from: d.needle.from, to: d.needle.to, tokens: d.needle.tokens },
    reference: d.check === undefined ? null : checkDocument(d.check),
    official: {
      key: d.official.key, policy: d.official.policy.name, settings: d.official.policy.settings, ok: d.official.scores.ok && d.official.selection.ok,
      scores: d.official.scores, heads: d.official.selection.heads, mismatches: d.official.selection.mismatches.slice(0, 20).map(explainMismatch),
    },
    times: {
      deviceMs: d.times.device, compileMs: d.times.compile ?? null, prepareMs: d.executed.times.prepare, fromCache: d.executed.prepared?.fromCache ?? false, runsMs: d.executed.times.runs,
      referenceMs: d.times.reference ?? null, totalMs: d.times.total,
    },
  }
}
