/** Arguments by a command's own table. What is not understood is refused with the nearest name that is. */
import { parseArgs } from 'node:util'
import { WeftError } from '../dsl/errors.js'
import { commonOptions, type Command, type OptionHelp } from './commands.js'

export interface Arguments {
  readonly positionals: readonly string[]
  /** The value of an option that may be given once. */
  text(name: string): string | undefined
  /** The values of one that may be repeated. */
  texts(name: string): readonly string[]
  flag(name: string): boolean
}

/** Something is wrong with the command line itself: exit 2. */
export const usageError = (reason: string, fix: string): WeftError => new WeftError('usage', reason, { fix })

/** @throws WeftError `usage` */
export function parseArguments(command: Command, args: readonly string[]): Arguments {
  const table: Readonly<Record<string, OptionHelp>> = { ...command.options, ...commonOptions }
  const helped = `weft ${command.name} --help shows what there is`
  const { tokens } = parseArgs({
    args: [...args], strict: false, allowPositionals: true, tokens: true,
    options: Object.fromEntries(Object.entries(table).map(([name, o]) => [name, { type: o.value === undefined ? 'boolean' : 'string', ...(name === 'help' ? { short: 'h' } : {}) }])),
  })
  const values = new Map<string, string[]>(), positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(table, token.name) ? table[token.name]! : undefined
    if (option === undefined) {
      const near = nearest(token.name, Object.keys(table))
      throw usageError(`weft ${command.name} has no option ${token.rawName}`, near === undefined ? helped : `did you mean --${near}? ${helped}`)
    }
    if (option.value === undefined) {
      if (token.value !== undefined) throw usageError(`--${token.name} takes no value`, `write --${token.name} alone`)
    } else if (token.value === undefined || (!token.inlineValue && token.value.startsWith('-') && token.value.length > 1)) {
      throw usageError(`--${token.name} needs a value`, `write --${token.name} ${option.value}${token.value === undefined ? '' : `, or --${token.name}=${token.value} if that is the value`}`)
    }
    const known = values.get(token.name)
    if (known !== undefined && option.value !== undefined && option.repeatable !== true) throw usageError(`--${token.name} is given twice`, 'give it once')
    values.set(token.name, [...(known ?? []), token.value ?? ''])
  }
  if (!values.has('help')) {
    if (positionals.length > command.positionals.length) throw usageError(`'${positionals[command.positionals.length]}' is one argument too many`, `the form is weft ${command.name} ${command.usage}`)
    if (positionals.length < command.required) throw usageError(`${command.positionals[positionals.length]} is missing`, `the form is weft ${command.name} ${command.usage}`)
  }
  return {
    positionals,
    text: name => values.get(name)?.[0],
    texts: name => values.get(name) ?? [],
    flag: name => values.has(name),
  }
}

/** The known name that a misspelt one most likely stands for. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const names = [...known], begun = names.filter(k => name.length >= 3 && k.startsWith(name))
  if (begun.length === 1) return begun[0]
  let best: string | undefined, least = Infinity
  for (const k of names) {
    const d = distance(name.toLowerCase(), k.toLowerCase())
    if (d < least) { least = d; best = k }
  }
  return best !== undefined && least <= Math.max(1, Math.floor(best.length / 3)) ? best : undefined
}

/** Insertions, deletions, replacements and swaps of neighbours that turn a into b. */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      let d = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) d = Math.min(d, rows[i - 2]![j - 2]! + 1)
      row.push(d)
    }
    rows.push(row)
  }
  return rows[a.length]![b.length]!
}
