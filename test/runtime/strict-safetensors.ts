/**
 * The safetensors format a second time, for judging the reader: tokens, then the grammar of a header at its fixed depth,
 * then the rules of the format's description (offsets that cover the data without gap or overlap, no key twice). It is
 * strict where the description leaves a choice, and shares no code with the reader.
 */
export interface Read {
  readonly tensors: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[]; readonly bytes: Uint8Array }>
  readonly metadata: ReadonlyMap<string, string>
}

const bytesOf: { readonly [dtype: string]: bigint } = { F32: 4n, F16: 2n, BF16: 2n, I32: 4n, U32: 4n, BOOL: 1n, I64: 8n, U8: 1n }
const token = /[ \n\r\t]+|"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|(?:0|[1-9][0-9]*)(?![0-9.eE])|[{}[\]:,]/y

class No extends Error {}
const no = (): never => { throw new No() }

/** The file's contents, or undefined where it is not valid. */
export function strictly(file: Uint8Array): Read | undefined {
  try {
    return read(file)
  } catch (error) {
    if (error instanceof No || error instanceof TypeError) return undefined   // the decoder's error is a TypeError
    throw error
  }
}

function read(file: Uint8Array): Read {
  if (file.length < 8) no()
  const length = Buffer.from(file).readBigUInt64LE(0)
  if (length > 100_000_000n || length > BigInt(file.length - 8)) no()
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(file.subarray(8, 8 + Number(length))), data = file.subarray(8 + Number(length))
  if (!text.startsWith('{')) no()

  let at = 0
  const next = (): string => {
    for (;;) {
      token.lastIndex = at
      const found = token.exec(text)?.[0] ?? no()
      at += found.length
      if (!/^[ \n\r\t]/.test(found)) return found
    }
  }
  const must = (wanted: string): void => { if (next() !== wanted) no() }
  const string = (raw: string): string => {
    if (!raw.startsWith('"')) no()
    const value = JSON.parse(raw) as string
    return /\p{Surrogate}/u.test(value) ? no() : value
  }
  const number = (raw: string): number => (/^[0-9]/.test(raw) && Number.isSafeInteger(Number(raw)) ? Number(raw) : no())
  /** The items of a list that was opened, up to its end. */
  function* items(end: string): Generator<string> {
    let raw = next()
    if (raw === end) return
    for (;;) {
      yield raw
      raw = next()
      if (raw === end) return
      if (raw !== ',') no()
      raw = next()
    }
  }
  function object(member: (key: string) => void): void {
    const keys = new Set<string>()
    for (const raw of items('}')) {
      const key = string(raw)
      if (keys.has(key)) no()
      keys.add(key)
      must(':')
      member(key)
    }
  }
  const numbers = (): number[] => {
    must('[')
    return [...items(']')].map(number)
  }

  const metadata = new Map<string, string>(), entries: { name: string; dtype: string; shape: number[]; begin: number; end: number }[] = []
  must('{')
  object(name => {
    must('{')
    if (name === '__metadata__') return object(key => void metadata.set(key, string(next())))
    let dtype: string | undefined, shape: number[] | undefined, offsets: number[] | undefined
    object(key => {
      if (key === 'dtype') dtype = string(next())
      else if (key === 'shape') shape = numbers()
      else if (key === 'data_offsets') offsets = numbers()
      else no()
    })
    if (dtype === undefined || shape === undefined || shape.length > 32 || offsets?.length !== 2) return no()
    entries.push({ name, dtype, shape, begin: offsets[0]!, end: offsets[1]! })
  })
  if (/[^ \n\r\t]/.test(text.slice(at))) no()

  let end = 0
  const tensors = new Map(entries.sort((a, b) => a.begin - b.begin || a.end - b.end).map(e => {
    if (e.begin !== end || e.end < e.begin || e.end > data.length) no()
    end = e.end
    const count = e.shape.some(n => n === 0) ? 0n : e.shape.reduce((n, d) => n * BigInt(d), 1n)
    if (count * (bytesOf[e.dtype] ?? no()) !== BigInt(e.end - e.begin)) no()
    const bytes = data.subarray(e.begin, e.end)
    if (e.dtype === 'BOOL' && bytes.some(b => b > 1)) no()
    return [e.name, { dtype: e.dtype, shape: e.shape, bytes }] as const
  }))
  return end === data.length ? { tensors, metadata } : no()
}
