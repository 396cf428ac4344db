/** Lines with indentation, names that do not collide, and the intrinsics that were mentioned. */
import type { IntrinsicName } from '../intrinsics.js'
import { freshNames } from '../reserved.js'

export interface Writer {
  readonly lines: string[]
  line(text: string): void
  /** `head {`, the body, `}`. A body of one short line follows the head without braces. */
  block(head: string, body: () => void): void
  /** A name like the wished one that nothing else in the kernel has. */
  fresh(wish: string): string
  use(name: IntrinsicName): IntrinsicName
}

/** What no name in a kernel may be: words of C++ and of the prelude. */
export function writer(taken: Iterable<string>, used: Set<IntrinsicName>): Writer {
  const fresh = freshNames(taken)
  const lines: string[] = []
  let depth = 0
  const self: Writer = {
    lines,
    line: text => { lines.push(text === '' ? '' : '  '.repeat(depth) + text) },
    block: (head, body) => {
      const start = lines.length
      self.line(head === '' ? '{' : `${head} {`)
      depth += 1
      body()
      depth -= 1
      const only = lines[start + 1]?.trim() ?? ''
      const short = '  '.repeat(depth) + `${head} ${only}`
      if (head !== '' && lines.length === start + 2 && only.endsWith(';') && !/^(const|f32|u32|i32|bool)\b/.test(only) && short.length <= 118) lines.splice(start, 2, short)
      else self.line('}')
    },
    fresh,
    use: name => { used.add(name); return name },
  }
  return self
}
