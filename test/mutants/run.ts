/**
 * `npm run mutants [-- --only NAME] [--all-tests] [--write]`: switches on the bugs of the catalogue one at a time and runs the
 * tests that should see them. A bug that no test sees, that is not where the catalogue says, or that TypeScript refuses
 * is a failure. `--write` writes the table.
 */
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import ts from 'typescript'
import { mutants, mutated, type Killer, type Mutant } from './catalogue.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
export const tableFile = join(root, 'test', 'mutants', 'table.md')

export interface Verdict {
  readonly mutant: Mutant
  /** The test that failed first: `file: title`; undefined where the bug was not seen. */
  readonly killer?: string
  /** Why the bug is none: not found, or refused by TypeScript. */
  readonly invalid?: string
  readonly seconds: number
}

/** Complaints of TypeScript about a mutant. A name that is not used any more is none. */
export function complaints(list: readonly Mutant[]): Map<Mutant, string> {
  const options: ts.CompilerOptions = {
    ...ts.parseJsonConfigFileContent(ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config, ts.sys, root).options,
    noUnusedLocals: false, noUnusedParameters: false, noEmit: true,
  }
  const texts = new Map<string, string>(), versions = new Map<string, number>(), found = new Map<Mutant, string>()
  const service = ts.createLanguageService({
    getCompilationSettings: () => options, getScriptFileNames: () => [join(root, 'src', 'index.ts'), ...list.map(m => join(root, m.file))],
    getScriptVersion: f => String(versions.get(f) ?? 0), getCurrentDirectory: () => root, getDefaultLibFileName: ts.getDefaultLibFilePath,
    getScriptSnapshot: f => { const text = texts.get(f) ?? ts.sys.readFile(f); return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text) },
    fileExists: ts.sys.fileExists, readFile: ts.sys.readFile, readDirectory: ts.sys.readDirectory, directoryExists: ts.sys.directoryExists, getDirectories: ts.sys.getDirectories,
  })
  const put = (file: string, text: string | undefined): void => {
    if (text === undefined) texts.delete(file)
    else texts.set(file, text)
    versions.set(file, (versions.get(file) ?? 0) + 1)
  }
  for (const m of list) {
    const file = join(root, m.file)
    try {
      put(file, mutated(m, readFileSync(file, 'utf8')))
      const [first] = [...service.getSyntacticDiagnostics(file), ...service.getSemanticDiagnostics(file)]
      if (first !== undefined) found.set(m, ts.flattenDiagnosticMessageText(first.messageText, ' '))
    } catch (error) {
      found.set(m, error instanceof Error ? error.message : String(error))
    }
    put(file, undefined)
  }
  return found
}

/** Runs one file's tests over the bug: the title of one that failed, or nothing if all passed. */
export function killedBy(mutant: Mutant, killer: Killer, seconds = 600): Promise<string | undefined> {
  const args = [join('node_modules', 'vitest', 'vitest.mjs'), 'run', killer.file, '--bail', '1', '--reporter', 'json', ...(killer.pattern === undefined ? [] : ['-t', killer.pattern])]
  const env = { ...process.env, WEFT_MUTANT: mutant.name, WEFT_CORPUS_LENGTHS: '3,33,129', WEFT_FUZZ_COUNT: '200', WEFT_FUZZ_SHRINK: '0' }
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'ignore'] })
    const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000)
    let text = ''
    child.stdout.on('data', (data: Buffer) => { text += data.toString('utf8') })
    child.on('error', reject)
    child.on('close', () => {
      clearTimeout(timer)
      const start = text.lastIndexOf('{"numTotalTestSuites"')
      if (start < 0) { resolve('the run ended without a report'); return }
      const report = JSON.parse(text.slice(start)) as Report
      const failed = report.testResults.flatMap(f => f.assertionResults).find(t => t.status === 'failed')
      if (failed !== undefined) { resolve(failed.title); return }
      if (!report.success) { resolve(`the file fails: ${report.testResults.find(f => f.status === 'failed')?.message.split('\n')[0] ?? ''}`); return }
      if (report.numPassedTests === 0) { reject(new Error(`'${mutant.name}': no test of ${killer.file} is called '${killer.pattern}'`)); return }
      resolve(undefined)
    })
  })
}
interface Report {
  readonly success: boolean
  readonly numPassedTests: number
  readonly testResults: readonly { readonly status: string; readonly message: string; readonly assertionResults: readonly { readonly title: string; readonly status: string }[] }[]
}

export async function judge(mutant: Mutant, killers: readonly Killer[] = mutant.killers): Promise<Verdict> {
  const start = performance.now()
  for (const k of killers) {
    const title = await killedBy(mutant, k)
    if (title !== undefined) return { mutant, killer: `${k.file}: ${title}`, seconds: (performance.now() - start) / 1000 }
  }
  return { mutant, seconds: (performance.now() - start) / 1000 }
}

const folderOf = (m: Mutant): string => m.file.replace(/^src\//, '')
export const tableText = (verdicts: readonly Verdict[]): string => [
  '# Injected bugs', '',
  'Each of these is switched on alone, and the test named beside it fails. Written by `npm run mutants -- --write`; the edits are in `test/mutants/catalogue.ts`.', '',
  '| bug | in `src/` | what goes wrong | seen by |', '| --- | --- | --- | --- |',
  ...verdicts.map(v => `| ${v.mutant.name} | ${folderOf(v.mutant)} | ${v.mutant.breaks} | ${v.killer === undefined ? '**nothing**' : v.killer.replace(/^test\//, '').replace('.test.ts: ', ': ').replaceAll('|', '\\|')} |`), '',
].join('\n')

/** Runs the command; the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: { only: { type: 'string', multiple: true }, 'all-tests': { type: 'boolean' }, write: { type: 'boolean' } } })
  const wanted = values.only ?? [], strange = wanted.find(n => !mutants.some(m => m.name === n))
  if (strange !== undefined) throw new Error(`there is no mutant '${strange}'`)
  const list = wanted.length === 0 ? mutants : mutants.filter(m => wanted.includes(m.name))
  const wrong = complaints(list), verdicts: Verdict[] = []
  const queue = [...list]
  const worker = async (): Promise<void> => {
    for (let m = queue.shift(); m !== undefined; m = queue.shift()) {
      const invalid = wrong.get(m)
      const v: Verdict = invalid !== undefined ? { mutant: m, invalid, seconds: 0 } : await judge(m, values['all-tests'] === true ? [{ file: 'test' }] : m.killers)
      verdicts.push(v)
      console.log(`${v.invalid !== undefined ? 'INVALID ' : v.killer === undefined ? 'SURVIVES' : 'killed  '} ${m.name} (${v.seconds.toFixed(0)} s)${v.killer === undefined ? `: ${v.invalid ?? m.breaks}` : `: ${v.killer}`}`)
    }
  }
  await Promise.all([worker(), worker()])
  const killed = verdicts.filter(v => v.killer !== undefined)
  console.log(`${killed.length} of ${verdicts.length} killed`)
  if (values.write === true && wanted.length === 0) writeFileSync(tableFile, tableText(list.map(m => verdicts.find(v => v.mutant === m)!)))
  return killed.length === verdicts.length ? 0 : 1
}
