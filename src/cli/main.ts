#!/usr/bin/env node
/** The binary: finds the command, runs it, and turns whatever goes wrong into a message and an exit code. */
import { readFileSync } from 'node:fs'
import { WeftError } from '../dsl/errors.js'
import { nearest, parseArguments, usageError } from './arguments.js'
import { commands } from './commands.js'
import { clearProgress } from './output.js'

const args = process.argv.slice(2)
// Of options after `--` nobody knows, so errors before parsing look at the plain words.
const asked = (option: string): boolean => args.includes(option)

async function main(): Promise<number> {
  const [name, ...rest] = args
  if (name === undefined || name === '--help' || name === '-h') return print((await import('./help.js')).overview(), name === undefined ? 2 : 0)
  if (name === '--version' || name === '-V') return print(version())
  if (name === 'help') {
    const { overview, commandHelp } = await import('./help.js')
    return print(rest[0] === undefined ? overview() : commandHelp(commandNamed(rest[0])))
  }
  const command = commandNamed(name)
  const given = parseArguments(command, rest)
  if (given.flag('help')) return print((await import('./help.js')).commandHelp(command))
  process.setSourceMapsEnabled(true)   // expressions remember their TypeScript lines
  return (await command.load()).run(given)
}

function commandNamed(name: string): NonNullable<ReturnType<typeof commands.get>> {
  const command = commands.get(name)
  if (command !== undefined) return command
  const near = nearest(name, commands.keys())
  const known = `the commands are ${[...commands.keys()].join(', ')}`
  throw usageError(name.startsWith('-') ? `weft has no option ${name}` : `weft has no command '${name}'`, near === undefined ? known : `did you mean '${near}'? ${known}`)
}

function print(text: string, code = 0): number {
  (code === 0 ? process.stdout : process.stderr).write(`${text}\n`)
  return code
}

function version(): string {
  const { name, version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { name: string; version: string }
  return `${name} ${version}`
}

/** 2 wrong usage or input, 3 this machine lacks something, 4 a defect: a faulty kernel, or an error that nobody foresaw. */
function exitCodeOf(error: unknown): 2 | 3 | 4 {
  if (!(error instanceof WeftError)) return 4
  if ('exitCode' in error && error.exitCode === 3) return 3
  if (error.code === 'nvrtc') return 3
  if (error.code === 'cuda' || error.code === 'out-of-memory') return 'sticky' in error && error.sticky === true ? 4 : 3
  if (error.code === 'host-compile' || error.code === 'host-compiler-missing') return /refuses kernel/.test(error.reason) ? 4 : 3
  return ['internal', 'compile', 'kernel-name', 'alignment', 'not-prepared'].includes(error.code) ? 4 : 2
}

function report(error: unknown): number {
  const code = exitCodeOf(error)
  clearProgress()
  const known = error instanceof WeftError
  const message = known ? error.reason : error instanceof Error ? error.message : String(error)
  const fix = known ? error.fix : 'this is a defect of weft: please report it with the output of the same command with --debug'
  if (asked('--debug')) process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
  else {
    const lines = [`weft: ${known ? '' : 'internal error: '}${message}`, ...(known && error.where !== undefined ? [`  at ${error.where}`] : []), ...(fix === undefined ? [] : [`  fix: ${fix}`])]
    process.stderr.write(`${lines.join('\n')}\n`)
  }
  if (asked('--json')) {
    const document = { error: { code: known ? error.code : 'internal', message, ...(known && error.where !== undefined ? { where: error.where } : {}), ...(fix === undefined ? {} : { fix }), exitCode: code } }
    process.stdout.write(`${JSON.stringify(document, undefined, 2)}\n`)
  }
  return code
}

// `weft ... | head`: whoever read has seen enough.
process.stdout.on('error', error => { if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0) })

const code = await main().catch(report)
// Compilers may still be at work on what nobody waits for any more.
await new Promise<void>(done => { process.stdout.write('', () => done()) })
process.exit(code)
