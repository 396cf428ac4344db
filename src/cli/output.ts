/** Where words go: results to standard output, messages and progress to standard error. Colour and motion on terminals only. */
import { styleText } from 'node:util'

type Format = Parameters<typeof styleText>[0]
type Stream = NodeJS.WriteStream

export const say = (text = ''): void => { process.stdout.write(`${text}\n`) }
export const note = (text: string): void => { clearProgress(); process.stderr.write(`${text}\n`) }

/** `hasColors` honours NO_COLOR, FORCE_COLOR and TERM=dumb. */
const coloured = (stream: Stream): boolean => stream.isTTY && stream.hasColors()
export const paint = (format: Format, text: string, stream: Stream = process.stdout): string => (coloured(stream) ? styleText(format, text) : text)

/** Columns to draw in: a terminal's width, 100 in a pipe. */
export const columns = (): number => Math.max(40, process.stdout.isTTY ? process.stdout.columns : 100)

let shown = false
/** What is going on, on one line that the next one replaces. Nothing in a pipe. */
export function progress(text: string): void {
  if (!process.stderr.isTTY) return
  process.stderr.write(`\r\u001b[2K${paint('dim', text.slice(0, Math.max(20, process.stderr.columns - 1)), process.stderr)}`)
  shown = true
}
export function clearProgress(): void {
  if (shown) process.stderr.write('\r\u001b[2K')
  shown = false
}

export const seconds = (ms: number): string => (ms < 1 ? `${(ms * 1000).toFixed(0)} µs` : ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`)
export const count = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`

/** Rows of cells as columns, two spaces between them; the columns named in `right` end flush. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths = (rows[0] ?? []).map((_, c) => Math.max(...rows.map(r => (r[c] ?? '').length)))
  return rows.map(r => r.map((cell, c) => (right.includes(c) ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!))).join('  ').trimEnd())
}

/** Words in lines of at most `width`, all but the first behind `indent`. */
export function wrapped(text: string, width: number, indent = ''): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    const next = line === '' ? (lines.length === 0 ? word : indent + word) : `${line} ${word}`
    if (next.length > width && line !== '') { lines.push(line); line = indent + word } else line = next
  }
  return [...lines, line]
}
