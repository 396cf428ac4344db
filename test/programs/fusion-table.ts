/** `docs/fusion.md`: how the programs of the corpus are planned, written from the plans. */
import { lower } from '../../src/codegen/pipeline.js'
import { plan, type Plan } from '../../src/codegen/plan.js'
import { traffic } from '../../src/codegen/traffic.js'
import { fused } from '../../src/cli/fused.js'
import { formatBytes } from '../../src/runtime/errors.js'
import { launchNumbers } from '../../src/runtime/launch-plan.js'
import { corpus } from './index.js'

const multiprocessors = 132

interface Row {
  readonly name: string
  readonly sizes: string
  readonly plan: Plan
  readonly moved: number
  readonly compulsory: number
  readonly torch: string
}

export const tabledRows = (): Row[] => Object.values(corpus).flat().flatMap(c => {
  if (c.tabled === undefined) return []
  const { outputs, sizes, torch } = c.tabled, planned = plan(outputs, { sizes })
  const t = traffic(planned, launchNumbers(lower(planned), sizes, multiprocessors))
  return [{
    name: c.name, sizes: Object.entries(sizes).map(([n, x]) => `${n} ${x}`).join(', '), plan: planned, torch,
    moved: t.kernels.reduce((n, k) => n + k.read + k.written, 0), compulsory: t.compulsory.read + t.compulsory.written,
  }]
})

const head = `# What is fused

The programs of \`test/programs/everyday.ts\`, each a dozen lines of the language, and the kernels that Weft plans for them. No line of the compiler knows any of them. This page is written by \`test/codegen/fusion.test.ts\` from the plans and fails the suite where the two differ (\`npx vitest run test/codegen/fusion.test.ts -u\` writes it anew).

**Words.** The planner cuts the graph of a program into *groups*, one kernel each. An edge between nodes of one group is *fused*: the value stays in registers or shared memory. An edge between groups is *cut*: the value is stored by one kernel and read by the other. A node that several groups or several passes of one need is *recomputed* in each, unless it is stored. A group has a *rule*: \`stream\` goes along one long axis in tiles (contractions, folds, maps), in several passes if a fold must be finished before its result is used; \`select\` is a radix selection of one row for each block; \`point\` computes each element by a thread of its own. A fold over a long axis is *whole* where each block goes along all of it, or *split* where blocks take shares and the next kernel puts the parts together.

**Decisions.** Where several ways are legal the planner makes each plan, gives it a price and takes the cheapest: \`passes\` (several passes in one kernel, or a cut), \`fold\` (whole or split), \`tile\` (recompute or store) and \`window\` (pooled where it is read, or stored). \`plans()\` returns the best few, each with its \`choices\`, which given back to \`plan()\` lead to the same kernels. A tile is stored in the dtype that the program gives it, never in fewer bits. \`weft explain\` shows all of this for one program, with the bytes of every edge.

**The price** (\`src/codegen/plan/cost.ts\`) is a model, not a measurement: of each kernel the scarcest of bytes, tensor-core products, other arithmetic and loads by single threads at the rates of an H100, divided by the part of the device that its blocks fill, and 2.5 µs for a launch. Sizes that are not given count as 1024.

**Bytes.** *Moved* counts each array once for each pass of a kernel over it; *compulsory* are all inputs read once and all outputs written once (\`src/codegen/traffic.ts\`).

**torch.compile.** The last column says what it would launch by the rules it documents: one kernel for elementwise work with at most one chain of reductions over the same rows, library calls for matrix products and \`topk\`, templates for attention where the program calls them. It is an estimate: none of it was run.

`

export function fusionTable(): string {
  const rows = tabledRows()
  const summary = [
    '| program | sizes | kernels | moved | compulsory | times as much | torch.compile, kernels (estimate) |', '| --- | --- | ---: | ---: | ---: | ---: | --- |',
    ...rows.map(r => `| ${r.name} | ${r.sizes} | ${r.plan.groups.length} | ${formatBytes(r.moved)} | ${formatBytes(r.compulsory)} | ${(r.moved / r.compulsory).toFixed(2)} | ${r.torch} |`),
  ]
  const kernels = rows.flatMap(r => [
    '', `**${r.name}** (${r.sizes})`, '',
    ...r.plan.groups.map(g => `- \`${g.name}\` ${g.rule}: ${fused(g)}`),
    ...(r.plan.decisions.length === 0 ? [] : [`- decided: ${r.plan.decisions.map(d => `${d.name}: ${d.taken}`).join('; ')}`]),
  ])
  return `${head}## Programs\n\n${summary.join('\n')}\n\n## Kernels\n${kernels.join('\n')}\n`
}
