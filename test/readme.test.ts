/** The examples of README.md do what it says. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import ts from 'typescript'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findHostCompiler } from '../src/runtime/emulator/compile.js'
import { commands } from '../src/cli/commands.js'
import { built, root } from './cli/weft.js'

const readme = readFileSync(join(root, 'README.md'), 'utf8')
const examples = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(m => m[1]!)
const folder = mkdtempSync(join(tmpdir(), 'weft-readme-'))
beforeAll(built)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Runs an example against the built package; Node 20 needs it in JavaScript. */
function output(example: string): string {
  const library = pathToFileURL(join(root, 'dist', 'index.js')).href
  const device = 'missing' in findHostCompiler() ? 'reference' : 'emulator'
  const { outputText } = ts.transpileModule(example.replace("'weft-tensor'", `'${library}'`).replace("'emulator'", `'${device}'`), { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } })
  const file = join(folder, 'example.mjs')
  writeFileSync(file, outputText)
  const { status, stdout, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8' })
  expect(stderr).toBe('')
  expect(status).toBe(0)
  return stdout
}

test('the example prints what its comment says', () => {
  const said = /console\.log\(.*\/\/ (.*)$/m.exec(examples[0]!)![1]!
  expect(output(examples[0]!)).toBe(`${said}\n`)
})
test('stages are values', () => {
  const text = output(examples[1]!)
  for (const part of ['computeY  (stream)', 'kernel computeY', 'extern "C" __global__']) expect(text).toContain(part)
})
test('examples type-check', () => {
  const names = examples.map((text, i) => { const file = join(root, 'test', `readme-example-${i}.ts`); return [file, text] as const })
  const texts = new Map(names.map(([file, text]) => [file, text.replace("'weft-tensor'", "'../src/index.js'")]))
  const options: ts.CompilerOptions = { ...ts.parseJsonConfigFileContent(ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile).config, ts.sys, root).options, noEmit: true }
  const host = ts.createCompilerHost(options), { getSourceFile, fileExists, readFile } = host
  host.getSourceFile = (file, ...rest) => { const own = texts.get(file); return own === undefined ? getSourceFile.call(host, file, ...rest) : ts.createSourceFile(file, own, rest[0]) }
  host.fileExists = file => texts.has(file) || fileExists.call(host, file)
  host.readFile = file => texts.get(file) ?? readFile.call(host, file)
  const program = ts.createProgram([...texts.keys()], options, host)
  const errors = [...texts.keys()].flatMap(file => ts.getPreEmitDiagnostics(program, program.getSourceFile(file)).map(d => ts.flattenDiagnosticMessageText(d.messageText, '\n')))
  expect(errors).toEqual([])
})
test('commands and options that it mentions exist', () => {
  for (const line of readme.matchAll(/^weft (\w+)(.*?)(?:#.*)?$/gm)) {
    const command = commands.get(line[1]!)
    expect(command, line[0]).toBeDefined()
    for (const [, option] of line[2]!.matchAll(/--([a-z-]+)/g)) expect(Object.keys(command!.options), line[0]).toContain(option)
  }
})
test('links lead somewhere', () => {
  for (const [, target] of readme.matchAll(/\]\((?!http)([^)]+)\)/g)) expect(() => readFileSync(join(root, target!)), target!).not.toThrow()
})
