/** Where the elements of a dimension lie along the threads of a block, as text. */
import { packOf, padded, partsOf, threadFactors, type Dim } from '../kernel.js'

/** One of the thread's digits: (thread / stride) % threads. */
export function digitText(threads: number, stride: number, all: number): string {
  const upper = stride === 1 ? 'thread' : `thread / ${stride}`
  return stride * threads === all ? upper : `${upper} % ${threads}`
}

const times = (text: string, n: number): string => (n === 1 ? text : `${/[/%]/.test(text) ? `(${text})` : text} * ${n}`)

/** The dimension's first element that the thread has; the others follow at distances that registers tell. */
export function laneText(d: Dim, threads: number): string {
  const terms = d.threads > 1 ? [times(digitText(d.threads, d.stride, threads), packOf(d))] : []
  return [...partTerm(d, threads), ...terms].join(' + ')
}
/** Where the thread's stretch begins, as a term of a sum; none where the dimension has one stretch. */
export const partTerm = (d: Dim, threads: number): string[] =>
  partsOf(d) === 1 ? [] : [times(digitText(partsOf(d), d.partStride!, threads), padded(d) / partsOf(d))]

export const liesAlongThreads = (d: Dim): boolean => threadFactors(d).length > 0

/** A condition that holds for one of the threads with the same element. */
export function onceCondition(dims: readonly Dim[], threads: number): string | undefined {
  let covered = 0
  for (const d of dims) for (const f of threadFactors(d)) covered |= (f.threads - 1) * f.stride
  const rest = (threads - 1) & ~covered
  if (rest === 0) return undefined
  if (rest === threads - 1) return 'thread == 0'
  const low = rest & -rest, run = rest / low + 1
  if ((run & (run - 1)) === 0) {
    if (low === 1) return `thread % ${run} == 0`
    if (rest + low === threads) return `thread < ${low}`
  }
  return `(thread & ${rest}) == 0`
}
