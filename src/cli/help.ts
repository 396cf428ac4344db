/** Help texts, made from the table of commands. */
import { commands, commonOptions, type Command } from './commands.js'
import { columns, table, wrapped } from './output.js'

export function overview(): string {
  return [
    'weft: tensor expressions over named axes, as fused CUDA kernels', '',
    'usage: weft COMMAND [options]', '',
    ...table([...commands.values()].map(c => [`  ${c.name}`, c.summary])), '',
    '  weft help COMMAND    options of a command',
    '  weft --version', '',
    'exit codes: 0 well, 1 a check failed, 2 wrong usage or input, 3 something is missing on this machine, 4 a defect of weft',
  ].join('\n')
}

export function commandHelp(c: Command): string {
  const options = Object.entries({ ...c.options, ...commonOptions }).map(([name, o]) => [`  --${name}${o.value === undefined ? '' : ` ${o.value}`}`, `${o.meaning}${o.repeatable === true ? '; may be repeated' : ''}`] as const)
  const width = Math.max(...options.map(([name]) => name.length)) + 2, indent = ' '.repeat(width)
  return [
    `weft ${c.name}: ${c.summary}`, '',
    `usage: weft ${c.name} ${c.usage}`, '',
    ...options.flatMap(([name, meaning]) => wrapped(meaning, columns() - width).map((line, i) => (i === 0 ? name.padEnd(width) : indent) + line)),
    ...(c.notes ?? []).flatMap(n => ['', ...wrapped(n, columns())]),
  ].join('\n')
}
