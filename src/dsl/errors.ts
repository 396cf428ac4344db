/**
 * One class for everything a user can get wrong. A message says what and why; `where` is the user's source line,
 * `fix` is what to do about it. `code` is stable, so that programs can tell errors apart.
 */
import type { Source } from './source.js'

export interface ErrorDetail {
  readonly where?: string | undefined
  readonly fix?: string | undefined
  readonly cause?: unknown
}

export class WeftError extends Error {
  readonly code: string
  readonly where: string | undefined
  readonly fix: string | undefined
  /** What happened and why, without where and fix. */
  readonly reason: string

  constructor(code: string, reason: string, detail: ErrorDetail = {}) {
    const where = detail.where === undefined ? '' : `\n  at ${detail.where}`
    const fix = detail.fix === undefined ? '' : `\n  fix: ${detail.fix}`
    super(reason + where + fix, detail.cause === undefined ? undefined : { cause: detail.cause })
    this.name = 'WeftError'
    this.code = code
    this.reason = reason
    this.where = detail.where
    this.fix = detail.fix
  }
}

/** A value as a complaint names it: JavaScript callers can pass anything. */
export function nameValue(x: unknown): string {
  if (typeof x === 'string') return JSON.stringify(x)
  if (typeof x === 'bigint') return `${x}n`
  if (typeof x === 'function') return 'a function'
  if (typeof x !== 'object' || x === null) return String(x)
  if (Array.isArray(x)) return 'an array'
  return 'kind' in x ? 'a tensor' : 'op' in x ? 'a scalar' : 'terms' in x ? 'a size' : 'components' in x ? 'a monoid' : 'an object'
}

/** Bad use of the language: axes, dtypes, sizes. Thrown where the expression is built or where sizes are bound. */
export const languageError = (code: string, reason: string, fix: string, source: Source | undefined): WeftError =>
  new WeftError(code, reason, { fix, where: source === undefined ? undefined : `${source.file}:${source.line}:${source.column}` })
