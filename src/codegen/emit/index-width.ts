/**
 * Which index expressions are written in 64 bits: those that are not proven to fit 32, and what is made of them. C adds
 * from the left, so a sum in a sum may need its parentheses: in `a + (b - c)`, `a + b` need not fit although all else does.
 */
import type { Index } from '../index-expr.js'

const fits = (min: number, max: number): boolean => min >= -(2 ** 31) && max < 2 ** 31
export const wide = (i: Index): boolean => !fits(i.min, i.max)

/** Whether an index is written as a 64-bit expression: it or a part of it may be wide. */
export const written64 = (i: Index): boolean => {
  switch (i.op) {
    case 'const': return wide(i)
    case 'scalar': case 'symbol': case 'dim': case 'value': return false
    case 'mul': case 'add': return written64(i.a) || written64(i.b) || wide(i)
    default: return written64(i.a) || written64(i.b)
  }
}

/** Whether a sum or product is wide though neither side is: one of them is widened before. */
export const widens = (i: Extract<Index, { readonly a: Index }>): boolean => wide(i) && !written64(i.a) && !written64(i.b)

interface Term { readonly min: number; readonly max: number; readonly is64: boolean }
const term = (i: Index): Term => ({ min: i.min, max: i.max, is64: written64(i) })
/** What the text of a sum adds, one after the other: a sum on its right has no parentheses where it adds up. */
function terms(i: Index): readonly Term[] {
  if (i.op !== 'add') return [term(i)]
  const left = widens(i) ? [{ ...term(i.a), is64: true }] : terms(i.a)
  return [...left, ...(addsUp(i.a, written64(i.a) || widens(i), i.b) ? terms(i.b) : [term(i.b)])]
}

/** Whether the terms of b may be added to a one by one. */
export function addsUp(a: Index, aIs64: boolean, b: Index): boolean {
  let { min, max } = a, is64 = aIs64
  return terms(b).every(t => {
    min += t.min
    max += t.max
    return (is64 ||= t.is64) || fits(min, max)
  })
}
