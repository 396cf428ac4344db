/** `weft policies`: what there is, with all options and how the policies differ. */
import { findPreset, presets, type Preset } from '../snapkv/presets.js'
import type { OptionSpec } from '../snapkv/policy.js'
import type { Arguments } from './arguments.js'
import { columns, paint, say, table, wrapped } from './output.js'

export function run(given: Arguments): Promise<number> {
  const asked = given.positionals[0], list = asked === undefined ? [...presets.values()] : [findPreset(asked)]
  if (given.flag('json')) say(JSON.stringify({ policies: list.map(p => ({ name: p.name, summary: p.summary, difference: p.difference, defaults: p.defaults, options: p.options })) }, undefined, 2))
  else tell(list)
  return Promise.resolve(0)
}

function tell(list: readonly Preset[]): void {
  for (const p of list) {
    say(paint('bold', p.name))
    for (const text of [p.summary, p.difference]) for (const line of wrapped(text, columns() - 2)) say(`  ${line}`)
    say()
  }
  // The policies share one table of options; only defaults differ.
  const options = list[0]!.options
  const rows = [['option', ...list.map(p => p.name), 'values', ''], ...Object.entries(options).map(([name, o]) => [name, ...list.map(p => String(p.defaults[name] ?? '-')), values(o), o.meaning])]
  // The meaning goes on a line of its own where the terminal is too narrow for it.
  const wide = table(rows)
  if (wide.every(line => line.length <= columns())) for (const [i, line] of wide.entries()) say(i === 0 ? paint('dim', line) : line)
  else table(rows.map(r => r.slice(0, -1))).forEach((line, i) => { say(i === 0 ? paint('dim', line) : line); if (i > 0) say(paint('dim', `    ${rows[i]!.at(-1)}`)) })
}

const values = (o: OptionSpec): string =>
  o.kind === 'integer' ? `${o.odd === true ? 'odd, ' : ''}from ${o.atLeast}` : o.kind === 'fraction' ? '0 to below 1' : o.values.join(' ')
