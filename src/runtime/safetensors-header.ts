/**
 * The JSON header of a safetensors file, read from its bytes. JSON.parse would hide duplicate keys and numbers that do
 * not fit, and would build whatever a hostile file asks for; this reader accepts the header's own grammar only:
 * { name: { "dtype": string, "shape": [integers], "data_offsets": [begin, end] }, "__metadata__": { name: string } }.
 */

export interface HeaderEntry {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}
export interface Header {
  readonly entries: readonly HeaderEntry[]
  readonly metadata: ReadonlyMap<string, string>
}

/** More axes than any tensor has: a bound on what a hostile shape can make us keep. */
const maxRank = 32
/** More tensors than any file has, and keys of metadata: 100 MB of the shortest ones would take 1.3 GB of objects. */
const maxKeys = 2 ** 17

/** @throws Error with the reason, the byte's number in it; `readSafetensors` adds the file */
export function parseHeader(bytes: Uint8Array): Header {
  let at = 0
  const stop = (reason: string): never => { throw new Error(`${reason} (byte ${at} of the header)`) }
  const skip = (): void => { while (at < bytes.length && (bytes[at] === 32 || bytes[at] === 10 || bytes[at] === 13 || bytes[at] === 9)) at += 1 }
  const shown = (): string => (at >= bytes.length ? 'its end' : bytes[at]! >= 33 && bytes[at]! < 127 ? `'${String.fromCharCode(bytes[at]!)}'` : `byte 0x${bytes[at]!.toString(16).padStart(2, '0')}`)
  const next = (what: string): number => { skip(); return bytes[at] ?? stop(`the header ends where ${what} should be`) }
  const expect = (char: string, what: string): void => {
    if (next(what) !== char.charCodeAt(0)) stop(`the header has ${shown()} where ${what} should be`)
    at += 1
  }
  /** True for `,`, false for the closing character. */
  const more = (close: string): boolean => {
    const c = next(`',' or '${close}'`)
    if (c !== 44 && c !== close.charCodeAt(0)) stop(`the header has ${shown()} where ',' or '${close}' should be`)
    at += 1
    return c === 44
  }

  /** A string. One with escapes is unescaped into bytes, never more of them than it takes in the file. */
  function string(what: string): string {
    expect('"', what)
    const from = at
    let escapes = false
    for (;; at++) {
      const c = bytes[at] ?? stop(`${what} does not end`)
      if (c === 34) break
      if (c < 32) stop(`${what} has a control character`)
      if (c === 92) { escapes = true; at += 1 }
    }
    const end = at
    let raw = bytes.subarray(from, end)
    if (escapes) {
      const plain = new Uint8Array(raw.length)
      let n = 0
      for (at = from; at < end; at++) {
        const c = bytes[at] === 92 ? escape() : undefined
        if (c === undefined) plain[n++] = bytes[at]!
        else if (c.charCodeAt(0) < 128) plain[n++] = c.charCodeAt(0)
        else n += encoder.encodeInto(c, plain.subarray(n)).written
      }
      raw = plain.subarray(0, n)
    }
    at = end + 1
    try {
      return decoder.decode(raw)
    } catch {
      return stop(`${what} is not UTF-8`)
    }
  }
  /** The character of an escape that begins at `at`, which stands on its last byte afterwards. */
  function escape(): string {
    const c = String.fromCharCode(bytes[++at]!), simple = simpleEscapes[c]
    if (simple !== undefined) return simple
    if (c !== 'u') stop('the header has an unknown escape')
    const high = hex4()
    if (high < 0xd800 || high > 0xdfff) return String.fromCharCode(high)
    if (high > 0xdbff || bytes[at + 1] !== 92 || bytes[at + 2] !== 117) stop('the header has half of a surrogate pair')
    at += 2
    const low = hex4()
    if (low < 0xdc00 || low > 0xdfff) stop('the header has half of a surrogate pair')
    return String.fromCharCode(high, low)
  }
  function hex4(): number {
    let code = 0
    for (let i = 1; i <= 4; i++) {
      const digit = hexDigits.indexOf(String.fromCharCode(bytes[at + i] ?? 0).toLowerCase())
      if (digit < 0) stop('the header has an escape \\u without four hexadecimal digits')
      code = code * 16 + digit
    }
    at += 4
    return code
  }

  function integer(what: string): number {
    next(what)
    const start = at
    let n = 0
    for (let c = bytes[at]; c !== undefined && c >= 48 && c <= 57; c = bytes[++at]) {
      if (at > start && bytes[start] === 48) stop(`${what} has a leading zero`)
      n = n * 10 + (c - 48)
      if (n > Number.MAX_SAFE_INTEGER) stop(`${what} overflows`)
    }
    if (at === start) stop(`the header has ${shown()} where ${what} should be, a whole number that is not negative`)
    if (bytes[at] === 46 || bytes[at] === 69 || bytes[at] === 101) stop(`${what} is not a plain whole number`)
    return n
  }
  function integers(what: string, atMost: number): number[] {
    const list: number[] = []
    expect('[', `the list of ${what}`)
    if (next(what) === 93) { at += 1; return list }
    do {
      if (list.length === atMost) stop(`${what} has more than ${atMost} numbers`)
      list.push(integer(what))
    } while (more(']'))
    return list
  }

  /** Calls `member` at each value; refuses a key that comes twice. */
  function object(what: string, member: (key: string) => void): void {
    const keys = new Set<string>()
    expect('{', what)
    if (next(`a key or '}'`) === 125) { at += 1; return }
    do {
      const key = string(`a key of ${what}`)
      if (keys.has(key)) stop(`${what} has the key ${quote(key)} twice`)
      if (keys.size === maxKeys) stop(`${what} has more than ${maxKeys} keys`)
      keys.add(key)
      expect(':', "':'")
      member(key)
    } while (more('}'))
  }

  function entry(name: string): HeaderEntry {
    let dtype: string | undefined, shape: number[] | undefined, offsets: number[] | undefined
    const what = `tensor ${quote(name)}`
    object(what, key => {
      if (key === 'dtype') dtype = string(`the dtype of ${what}`)
      else if (key === 'shape') shape = integers(`the shape of ${what}`, maxRank)
      else if (key === 'data_offsets') offsets = integers(`data_offsets of ${what}`, 2)
      else stop(`${what} has the unknown key ${quote(key)}`)
    })
    if (dtype === undefined) return stop(`${what} has no dtype`)
    if (shape === undefined) return stop(`${what} has no shape`)
    if (offsets?.length !== 2) return stop(`${what} has no data_offsets of two numbers`)
    return { name, dtype, shape, begin: offsets[0]!, end: offsets[1]! }
  }

  const entries: HeaderEntry[] = [], metadata = new Map<string, string>()
  if (bytes[0] !== 123) stop(`the header does not begin with '{'`)
  object('the header', key => {
    if (key !== '__metadata__') { entries.push(entry(key)); return }
    object('__metadata__', name => {
      if (next('a string') !== 34) stop(`__metadata__ ${quote(name)} is not a string`)
      metadata.set(name, string(`__metadata__ ${quote(name)}`))
    })
  })
  skip()
  if (at < bytes.length) stop(`the header goes on with ${shown()} after its end`)
  return { entries, metadata }
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const encoder = new TextEncoder()
const hexDigits = '0123456789abcdef'
const simpleEscapes: { readonly [c: string]: string } = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }

/** A name from a file, short enough for a message and without characters that a terminal would obey or hide. */
export const quote = (name: string): string =>
  JSON.stringify(name.length > 60 ? `${name.slice(0, 57)}...` : name).replace(/\p{C}|\p{Zl}|\p{Zp}/gu, c => [...Array(c.length).keys()].map(i => `\\u${c.charCodeAt(i).toString(16).padStart(4, '0')}`).join(''))
