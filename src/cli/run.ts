/** `weft run`: compresses the keys and values of a file with a policy. */
import { realpathSync } from 'node:fs'
import { WeftError } from '../dsl/errors.js'
import type { HostTensor } from '../runtime/host-tensor.js'
import { writeSafetensors } from '../runtime/safetensors.js'
import { policyByName } from '../snapkv/presets.js'
import type { Policy } from '../snapkv/policy.js'
import type { Compressed, Prompt } from '../snapkv/prompt.js'
import { usageError, type Arguments } from './arguments.js'
import { referenceScores } from './background.js'
import { checkAgainst, checkDocument, describeCheck, numbersOf, type CheckReport } from './check.js'
import { chooseDevice, wantedDevice, type Chosen } from './device.js'
import { execute, type Executed } from './execute.js'
import { checkScheduleNames, readPrompt, readSchedules } from './files.js'
import { clearProgress, columns, count, note, paint, progress, say, seconds, wrapped } from './output.js'

export async function run(given: Arguments): Promise<number> {
  const input = given.text('input'), output = given.text('output')
  if (input === undefined) throw usageError('--input is missing', 'name the safetensors file with q, k and v: --input FILE')
  // All that can be wrong with the request is found before a device is opened.
  const wanted = wantedDevice(given.text('device'))
  const policy = policyByName(given.positionals[0]!, given.texts('set'))
  const schedulesFile = given.text('schedule'), schedules = readSchedules(schedulesFile)
  const { prompt } = readPrompt(input)
  if (output !== undefined && same(input, output)) throw usageError(`--output ${output} is the input itself`, 'give another file')
  const budget = within(input, () => policy.budget(prompt.shape)), checks = given.flag('check')

  progress('opening the device')
  using resources = new Resources()
  const device = await chooseDevice(wanted, { noCache: given.flag('no-cache') })
  resources.keep(device.opened)
  const judged = checks && !budget.bypass && device.kind !== 'reference'
  const reference = judged ? referenceScores(policy.name, policy.settings, prompt) : undefined
  reference?.catch(() => {})   // it is waited for below; until then a failure of its own is not lost but silent
  progress(device.kind === 'reference' ? 'interpreting' : 'compiling')
  const executed = await execute(policy, prompt, device, {
    withScores: given.flag('with-scores'), schedules,
    onPrepared: p => { checkScheduleNames(schedules, p.kernels.map(k => k.kernel.name), schedulesFile); progress('running') },
  })
  let check: CheckReport | undefined
  if (reference !== undefined) {
    progress('waiting for the reference')
    check = checkAgainst(numbersOf((await reference).scores), policy, prompt, executed.results)
  }
  clearProgress()
  const failed = check !== undefined && !check.ok
  const written = output !== undefined && !failed ? write(output, policy, executed.results, given.flag('with-scores')) : undefined
  const not = checks && check === undefined ? (budget.bypass ? 'nothing was computed, so there is nothing to compare' : 'the device is the reference itself, so there is nothing to compare') : undefined
  if (given.flag('json')) say(JSON.stringify(document(policy, prompt, device, executed, check, not, written), undefined, 2))
  else tell(policy, prompt, device, executed, check, not, written)
  if (failed) note(`${paint('red', 'weft: the result disagrees with the reference', process.stderr)}${output === undefined ? '' : `; ${output} was not written`}`)
  return failed ? 1 : 0
}

/** Disposes of what was opened, in the end. */
class Resources implements Disposable {
  private readonly list: Disposable[] = []
  keep(x: Disposable | undefined): void { if (x !== undefined) this.list.push(x) }
  [Symbol.dispose](): void { for (const x of this.list.reverse()) x[Symbol.dispose]() }
}

const same = (a: string, b: string): boolean => {
  try { return realpathSync(a) === realpathSync(b) } catch { return false }
}

/** Errors about a shape name the file it came from. */
function within<T>(file: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw error instanceof WeftError && error.where === undefined ? new WeftError(error.code, error.reason, { where: file, fix: error.fix, cause: error }) : error
  }
}

interface Written { readonly file: string; readonly tensors: Readonly<Record<string, HostTensor>> }

function write(file: string, policy: Policy, results: Compressed, withScores: boolean): Written {
  const { keys, values, positions, scores } = results
  const tensors = { keys, values, positions, ...(withScores && scores !== undefined ? { scores } : {}) }
  writeSafetensors(file, tensors, { policy: policy.name, settings: JSON.stringify(policy.settings), length: String(results.length) })
  return { file, tensors }
}

const shapeText = (t: HostTensor): string => `${t.dtype} [${t.axes.map((a, i) => `${a} ${t.shape[i]}`).join(', ')}]`
const promptText = ({ shape: s, batch }: Prompt): string =>
  `${batch === undefined ? '' : `${count(batch, 'prompt')} of `}${s.length} tokens, ${count(s.kvHeads / (batch ?? 1), 'KV head')} × ${count(s.group, 'query head')}, dim ${s.dim}, ${s.dtype}`

function tell(policy: Policy, prompt: Prompt, device: Chosen, e: Executed, check: CheckReport | undefined, not: string | undefined, written: Written | undefined): void {
  const b = policy.budget(prompt.shape), { runs, prepare } = e.times
  const lines = (name: string, texts: readonly string[], colour?: 'red'): void =>
    texts.flatMap(t => wrapped(t, columns() - 9)).forEach((l, i) => say(`${(i === 0 ? name : '').padEnd(9)}${colour === undefined ? l : paint(colour, l)}`))
  say(`${paint('bold', policy.name)}: ${promptText(prompt)}`)
  if (b.bypass) say(`kept     all ${b.kept} rows: the prompt is no longer than what may stay, and passes unchanged`)
  else {
    say(`kept     ${b.kept} of ${b.length} rows per ${policy.perQueryHead ? 'query head' : 'KV head'}, the last ${b.window} always`)
    lines('device', [`${device.name}${device.found[0] === undefined ? '' : ` (${device.found[0]})`}`, ...device.missed])
    const ready = e.prepared === undefined ? '' : `${count(e.prepared.kernels.length, 'kernel')} ready in ${seconds(prepare)}${e.prepared.fromCache ? ' (from the cache)' : ''}, `
    say(`time     ${ready}run in ${seconds(runs[0] ?? 0)}`)
  }
  if (check !== undefined) lines('check', [...describeCheck(check), check.scores === undefined
    ? "the kernels are those of a run without --check: the scores are the reference's own; --with-scores compares the device's as well"
    : 'the scores are an output here, which takes a kernel of its own'], check.ok ? undefined : 'red')
  if (not !== undefined) lines('check', [not])
  if (written !== undefined) {
    say(`wrote    ${written.file}`)
    for (const [name, t] of Object.entries(written.tensors)) say(`         ${name} ${shapeText(t)}`)
  }
}

function document(policy: Policy, prompt: Prompt, device: Chosen, e: Executed, check: CheckReport | undefined, not: string | undefined, written: Written | undefined): object {
  const b = policy.budget(prompt.shape)
  return {
    policy: policy.name, settings: policy.settings,
    input: { ...prompt.shape, ...(prompt.batch === undefined ? {} : { batch: prompt.batch }) },
    length: b.length, kept: b.kept, window: b.window, bypass: b.bypass, heads: e.results.positions.shape.at(-2),
    device: { kind: device.kind, name: device.name, found: device.found },
    kernels: e.prepared?.kernels.map(k => k.kernel.name) ?? [],
    times: { prepareMs: e.times.prepare, runMs: e.times.runs[0] ?? 0, fromCache: e.prepared?.fromCache ?? false },
    ...(check === undefined ? {} : { check: checkDocument(check) }), ...(not === undefined ? {} : { check: { ok: true, skipped: not } }),
    output: written === undefined ? null : { file: written.file, tensors: Object.fromEntries(Object.entries(written.tensors).map(([n, t]) => [n, { dtype: t.dtype, shape: t.shape }])) },
  }
}
