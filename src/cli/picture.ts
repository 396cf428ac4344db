/** Which tokens were kept, drawn over the prompt: one line of shades per head. */

/** From nothing to everything of a column's tokens. */
const shades = ['·', '░', '▒', '▓', '█']

/** The tokens that a column of `width` stands for: [from, to). */
export const columnOf = (token: number, length: number, width: number): number => Math.min(width - 1, Math.floor((token * width) / length))

/** One line: each column's share of kept tokens. Any token kept shows. */
export function shadedLine(kept: Iterable<number>, length: number, width: number): string {
  const hits = new Array<number>(width).fill(0), all = new Array<number>(width).fill(0)
  for (let i = 0; i < length; i++) all[columnOf(i, length, width)]! += 1
  for (const i of kept) hits[columnOf(i, length, width)]! += 1
  return hits.map((n, c) => shades[n === 0 ? 0 : Math.min(4, Math.ceil((n / all[c]!) * 4))]!).join('')
}

/** Marks below the lines: a needle's columns and its name. */
export function markLine(from: number, to: number, length: number, width: number, name: string): string {
  const a = columnOf(from, length, width), b = columnOf(to - 1, length, width)
  const mark = '▲'.repeat(b - a + 1)
  return b + 1 + name.length < width ? `${' '.repeat(a)}${mark} ${name}` : `${' '.repeat(Math.max(0, a - name.length - 1))}${name} ${mark}`
}

export const legend = (length: number, width: number): string =>
  `a column is ${Math.round(length / width)} tokens: ${shades[0]} none of them kept, ${shades.slice(1).join('')} up to a quarter, a half, three quarters, all`

/** A text with what was dropped as dots of the same length. */
export const withGaps = (tokens: readonly string[], kept: (i: number) => boolean): string =>
  tokens.map((t, i) => (kept(i) ? t : t.replace(/\S/gu, '·'))).join('').trim()
