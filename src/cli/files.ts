/** The files that commands read. */
import { readFileSync } from 'node:fs'
import { WeftError } from '../dsl/errors.js'
import type { Schedules } from '../codegen/pipeline.js'
import { fieldsOf, invalid, space, type Schedule } from '../codegen/schedule.js'
import { roomiest } from '../codegen/target.js'
import { readSafetensors, type TensorFile } from '../runtime/safetensors.js'
import { promptOf, type Prompt, type PromptTensor } from '../snapkv/prompt.js'

export interface PromptFile {
  readonly file: TensorFile
  readonly prompt: Prompt
}

/** q, k and v of a file. @throws WeftError with the file's name in it */
export function readPrompt(path: string): PromptFile {
  const file = readSafetensors(path)
  const tensor = (name: string): PromptTensor => {
    const t = file.tensors.get(name)
    if (t === undefined) {
      const there = [...file.tensors.keys()]
      throw new WeftError('input', `${path} has no tensor '${name}'`, { fix: `q, k and v are needed; it has ${there.length === 0 ? 'no tensors' : there.slice(0, 8).join(', ') + (there.length > 8 ? ', ...' : '')}` })
    }
    return t
  }
  const tensors = { q: tensor('q'), k: tensor('k'), v: tensor('v') }
  try {
    return { file, prompt: promptOf(tensors) }
  } catch (error) {
    throw error instanceof WeftError ? new WeftError(error.code, error.reason, { where: path, fix: error.fix, cause: error }) : error
  }
}

/**
 * Schedules by kernel name, as `explain --stage schedule` prints them. A misspelt field would silently be the default, so
 * every field of the rule must be there and no other.
 */
export function readSchedules(path: string | undefined): Schedules {
  if (path === undefined) return {}
  const refuse = (reason: string, fix = 'start from what `weft explain POLICY ... --stage schedule` prints'): never => { throw new WeftError('schedule', `${path}: ${reason}`, { fix }) }
  let text: string, value: unknown
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new WeftError('file', `cannot read ${path}: ${(error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file or folder' : (error as Error).message}`, { fix: 'check the path and the permissions', cause: error })
  }
  try {
    value = JSON.parse(text)
  } catch (error) {
    return refuse(`it is no JSON: ${(error as Error).message}`)
  }
  if (!isRecord(value)) return refuse('it is no JSON object from kernel name to schedule')
  for (const [name, s] of Object.entries(value)) {
    if (!isRecord(s) || typeof s['rule'] !== 'string' || !Object.hasOwn(space, s['rule'])) return refuse(`the schedule of ${name} has no rule`, `its rule is one of ${Object.keys(space).join(', ')}`)
    const fields = fieldsOf(s)
    if (fields === undefined) return refuse(`the schedule of ${name} has ${s['path'] === undefined ? 'no path' : `the path ${JSON.stringify(s['path'])}`}`, 'its path is scalar or mma')
    const missing = fields.find(f => !Object.hasOwn(s, f)), strange = Object.keys(s).find(f => !fields.includes(f))
    if (missing !== undefined) return refuse(`the schedule of ${name} lacks '${missing}'`, `the fields of the rule ${s['rule']} are ${fields.join(', ')}`)
    if (strange !== undefined) return refuse(`the schedule of ${name} has a field '${strange}'`, `the fields of the rule ${s['rule']} are ${fields.join(', ')}`)
    const reason = invalid(s as unknown as Schedule, roomiest)   // what this device lacks is said when kernels are lowered
    if (reason !== undefined) return refuse(`kernel ${name}: ${reason}`, 'choose other values')
  }
  return value as Schedules
}

/** A schedule for a kernel that the program does not have would silently do nothing. */
export function checkScheduleNames(schedules: Schedules, kernels: readonly string[], path: string | undefined): void {
  const strange = Object.keys(schedules).find(name => !kernels.includes(name))
  if (strange !== undefined) throw new WeftError('schedule', `${path}: the program has no kernel '${strange}'`, { fix: `its kernels are ${kernels.join(', ')}` })
}

const isRecord = (x: unknown): x is Readonly<Record<string, unknown>> => typeof x === 'object' && x !== null && !Array.isArray(x)
