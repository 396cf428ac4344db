/** The user's source line of every node: the first stack frame outside this folder. */
import { fileURLToPath } from 'node:url'

export interface Source {
  readonly file: string
  readonly line: number
  readonly column: number
}

// With source maps on, frames of the built package name its sources.
const here = fileURLToPath(new URL('.', import.meta.url))
const own = [here, here.replace(/\/dist\/dsl\/$/, '/src/dsl/')]

/** Where the user's code called into the language. Undefined where the engine keeps no stack (limit 0). */
export function userSource(): Source | undefined {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 12   // composites call constructors that call constructors: 6 frames of our own at most
  const stack = new Error().stack ?? ''
  Error.stackTraceLimit = limit
  for (const frame of stack.split('\n').slice(1)) {
    const match = /\(?((?:file:\/\/)?[^()\s][^()]*?):(\d+):(\d+)\)?$/.exec(frame.replace(/^\s*at (?:async )?/, '').replace(/^[^(]*\(/, '('))
    if (match === null) continue
    const [, path = '', line = '0', column = '0'] = match
    const file = path.startsWith('file://') ? fileURLToPath(path) : path
    if (own.some(folder => file.startsWith(folder)) || file.startsWith('node:')) continue
    return { file, line: Number(line), column: Number(column) }
  }
  return undefined
}

/** `file:line`, the file without its folders: for comments in emitted text and for `explain`. */
export const shortSource = (source: Source | undefined): string =>
  source === undefined ? '' : `${source.file.slice(source.file.lastIndexOf('/') + 1)}:${source.line}`
