/**
 * Intrinsics of asynchronous copies from global to shared memory (cp.async). A copy has happened when its thread has
 * waited for the group that it was committed in; the other threads see it after the next barrier.
 */
import type { Intrinsic } from '../intrinsics.js'

// .cg goes past L1, which could not serve a second reader; L2::128B fetches the whole line.
const copy = 'cp.async.cg.shared.global.L2::128B [%0], [%1], 16'
const target = '"r"(u32(__cvta_generic_to_shared(to)))'

export const copies = {
  copyAsync: {
    meaning: 'starts to copy 16 bytes from global to shared memory; both addresses are multiples of 16',
    cuda: `template <class T> __device__ __forceinline__ void copyAsync(T* to, const T* from) {
  asm volatile("${copy};" :: ${target}, "l"(from) : "memory");
}`,
    host: 'template <class To, class From> inline void copyAsync(To to, From from, int line = __builtin_LINE()) { emu::copyAsync(true, to, from, line); }',
  },
  copyAsyncIf: {
    meaning: 'the same; zeros if the source is not there, whose address may then be anything',
    cuda: `template <class T> __device__ __forceinline__ void copyAsyncIf(bool there, T* to, const T* from) {
  asm volatile("${copy}, %2;" :: ${target}, "l"(from), "r"(there ? 16 : 0) : "memory");
}`,
    host: 'template <class To, class From> inline void copyAsyncIf(bool there, To to, From from, int line = __builtin_LINE()) { emu::copyAsync(there, to, from, line); }',
  },
  copyAsyncCommit: {
    meaning: "this thread's copies since the last call become a group, which may be empty",
    cuda: '__device__ __forceinline__ void copyAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }',
    host: 'inline void copyAsyncCommit() { emu::copyAsyncCommit(); }',
  },
  copyAsyncWait: {
    meaning: "waits until all of this thread's groups but the last N have landed",
    cuda: 'template <i32 N> __device__ __forceinline__ void copyAsyncWait() { asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory"); }',
    host: 'template <i32 N> inline void copyAsyncWait() { static_assert(N >= 0, "a number of groups"); emu::copyAsyncWait(N); }',
  },
} as const satisfies Record<string, Intrinsic>
