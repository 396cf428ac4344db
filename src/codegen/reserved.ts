/** Words that nothing in emitted text may be named after, and the making of names that nothing else has. */
import { intrinsics } from './intrinsics.js'

const cpp = 'alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr continue decltype default ' +
  'delete do double else enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq ' +
  'nullptr operator or or_eq private protected public register return short signed sizeof static struct switch template this thread_local throw ' +
  'true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq'
const cuda = 'threadIdx blockIdx blockDim gridDim warpSize min max abs exp log sqrt sin cos tanh floor ceil round trunc pow expf logf log2f exp2f sqrtf ' +
  'rsqrtf sinf cosf tanhf fabsf floorf ceilf rintf truncf powf isnan __popc'
const own = 'u8 u16 u32 i32 i64 f32 f16 bf16 Vector Global Shared sharedAt arena emu Scan thread splits shares e main'

export const reserved: ReadonlySet<string> = new Set([...`${cpp} ${cuda} ${own}`.split(' '), ...Object.keys(intrinsics)])

/** Makes names like the wished ones that are neither reserved nor taken. */
export function freshNames(taken: Iterable<string>): (wish: string) => string {
  const names = new Set<string>(taken)
  return wish => {
    let name = reserved.has(wish) ? `${wish}2` : wish
    for (let i = 2; names.has(name); i++) name = `${wish}${i}`
    names.add(name)
    return name
  }
}
