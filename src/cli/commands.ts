/**
 * What `weft` can do, as data: help texts and the parsing of arguments are made from it. Nothing heavy is imported here:
 * a command's own code is loaded when it runs, so that help appears at once.
 */
import type { Arguments } from './arguments.js'

export interface OptionHelp {
  /** What stands for its value in help, `FILE`; a switch has none. */
  readonly value?: string
  readonly meaning: string
  readonly repeatable?: boolean
}

export interface Command {
  readonly name: string
  readonly summary: string
  /** What follows the name in the usage line. */
  readonly usage: string
  /** Names of the arguments without dashes, in order; those from `required` on may be left out. */
  readonly positionals: readonly string[]
  readonly required: number
  readonly options: Readonly<Record<string, OptionHelp>>
  readonly notes?: readonly string[]
  /** Runs it and gives the exit code. */
  readonly load: () => Promise<{ readonly run: (given: Arguments) => Promise<number> }>
}

const json: OptionHelp = { meaning: 'one JSON document on standard output; messages go to standard error' }
const device: OptionHelp = { value: 'DEVICE', meaning: 'cuda, cuda:N, emulator or reference; the best there is where left out' }
const set: OptionHelp = { value: 'NAME=VALUE', meaning: 'an option of the policy (`weft policies` lists them)', repeatable: true }
const noCache: OptionHelp = { meaning: 'compile anew, and keep nothing' }
const schedule: OptionHelp = { value: 'FILE', meaning: 'schedules by kernel name, as `weft explain --stage schedule` prints them' }

const list: readonly Command[] = [
  {
    name: 'demo', summary: 'SnapKV on attention data of a real model: what was kept, how fast, and is it right',
    usage: '[--device DEVICE] [--json]', positionals: [], required: 0,
    options: { device, 'no-cache': noCache, json },
    load: () => import('./demo.js'),
  },
  {
    name: 'run', summary: 'compress the keys and values of a safetensors file',
    usage: 'POLICY --input FILE [--output FILE] [options]', positionals: ['POLICY'], required: 1,
    options: {
      input: { value: 'FILE', meaning: 'safetensors with q [queryHead, query, dim] and k, v [kvHead, key, dim], F32, F16 or BF16; a batch axis may come first' },
      output: { value: 'FILE', meaning: 'where keys, values [head, kept, dim] and positions [head, kept] go' },
      set, device,
      check: { meaning: "compare with the reference interpreter's scores, with the same kernels as without; exit 1 if they disagree" },
      'with-scores': { meaning: 'write (and --check) scores [head, key - window] too, which costs a kernel' },
      'no-cache': noCache, schedule, json,
    },
    notes: ['The last queries of the prompt are the last rows of q. Nothing is written when a run or its check fails.'],
    load: () => import('./run.js'),
  },
  {
    name: 'explain', summary: 'what a policy becomes: graph, plan, schedule, kernels, CUDA, registers',
    usage: 'POLICY (--input FILE | --sizes NAME=N,...) [options]', positionals: ['POLICY'], required: 1,
    options: {
      input: { value: 'FILE', meaning: 'take the sizes and the dtype of this safetensors file' },
      sizes: { value: 'NAME=N,...', meaning: 'key, kvHead, group, dim and, if need be, query: --sizes key=16384,kvHead=8,group=4,dim=128' },
      dtype: { value: 'DTYPE', meaning: 'bf16 (default), f16 or f32, with --sizes' },
      set,
      stage: { value: 'STAGE', meaning: 'graph, plan (default), schedule, kernel, cuda or resources' },
      arch: { value: 'ARCH', meaning: 'architecture that kernels are for: sm_80 (default sm_90)', repeatable: true },
      schedule,
      'with-scores': { meaning: 'with the scores as an output, which costs a kernel' },
      json,
    },
    notes: ['Nothing is run. Shared bytes are those of a block: what the text declares and what the launch adds. Bytes moved are counted from the plan: an array once per pass over it, gathered rows only.'],
    load: () => import('./explain.js'),
  },
  {
    name: 'policies', summary: 'the policies and their options',
    usage: '[POLICY] [--json]', positionals: ['POLICY'], required: 0, options: { json },
    load: () => import('./policies.js'),
  },
  {
    name: 'doctor', summary: 'what works on this machine, and what to do about the rest',
    usage: '[--json] [--verbose]', positionals: [], required: 0,
    options: { verbose: { meaning: 'every place that was looked at' }, json },
    load: () => import('./doctor.js'),
  },
]

export const commands: ReadonlyMap<string, Command> = new Map(list.map(c => [c.name, c]))

/** Options that every command takes. */
export const commonOptions: Readonly<Record<string, OptionHelp>> = {
  debug: { meaning: 'errors with their stack traces' },
  help: { meaning: 'this text' },
}
