/**
 * The words that emitted kernels are written in. One record per intrinsic: its CUDA text, its host text and what it
 * means. PTX occurs here and in intrinsics/ only. Only the records that a kernel uses (and those they use) are put
 * before it.
 *
 * `host` texts stand on `runtime/emulator/emulator.h`, which defines the types, the memory accessors and the
 * `emu::` primitives that stop a fiber. A record with `text` is written in other intrinsics and reads the same on both.
 */
import { copies } from './intrinsics/copies.js'
import { tensorCores } from './intrinsics/tensor-cores.js'

export interface Intrinsic {
  readonly meaning: string
  /** Other intrinsics that this one's text mentions. */
  readonly uses?: readonly string[]
  /** CUDA and host text where they differ. */
  readonly cuda?: string
  readonly host?: string
  /** One text for both. */
  readonly text?: string
}

/** What every kernel has: types and memory. The host's side is `emulator.h`. */
export const cudaCore = `using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i32 = int;
using i64 = long long;
using f32 = float;
struct f16 { u16 bits; };
struct bf16 { u16 bits; };
template <class T, int N> struct alignas(sizeof(T) * N) Vector { T at[N]; };

// Memory: plain pointers and arrays here; a checking build has accessors with bounds behind the same names.
template <class T> using Global = T* __restrict__;
template <class T, int N> using Shared = T (&)[N];
alignas(128) extern __shared__ u8 arena[];
template <class T, int N> __device__ __forceinline__ Shared<T, N> sharedAt(i32 byteOffset) {
  return *reinterpret_cast<T (*)[N]>(arena + byteOffset);
}`

const shuffle = (name: string, parameters: string, cuda: string, hostSource: string): Partial<Intrinsic> => ({
  cuda: `template <class T> __device__ __forceinline__ T ${name}(T x, ${parameters}) { return ${cuda}; }`,
  host: `template <class T> inline emu::Value<T> ${name}(T x, ${parameters}, int line = __builtin_LINE()) { return emu::shuffle(x, ${hostSource}, line); }`,
})

export const intrinsics = {
  // ---- constants ----
  infinity: {
    meaning: 'positive infinity',
    cuda: 'constexpr f32 infinity = __builtin_bit_cast(f32, 0x7f800000);',
    host: 'constexpr f32 infinity = __builtin_inff();',
  },
  notANumber: {
    meaning: 'the quiet NaN that constants are written as',
    cuda: 'constexpr f32 notANumber = __builtin_bit_cast(f32, 0x7fc00000);',
    host: 'constexpr f32 notANumber = __builtin_nanf("");',
  },

  // ---- 16-bit types: round to nearest even; NaN stays NaN ----
  fromF16: {
    meaning: 'f16 to f32, exact',
    cuda: '__device__ __forceinline__ f32 fromF16(f16 x) { f32 y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits)); return y; }',
    host: 'inline f32 fromF16(f16 x) { return emu::halfToFloat(x.bits); }',
  },
  toF16: {
    meaning: 'f32 to f16, to nearest even',
    cuda: '__device__ __forceinline__ f16 toF16(f32 x) { f16 y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }',
    host: 'inline f16 toF16(f32 x) { return {emu::floatToHalf(x)}; }',
  },
  fromBf16: {
    meaning: 'bf16 to f32, exact',
    cuda: '__device__ __forceinline__ f32 fromBf16(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }',
    host: 'inline f32 fromBf16(bf16 x) { return emu::bitsToFloat(u32(x.bits) << 16); }',
  },
  toBf16: {
    meaning: 'f32 to bf16, to nearest even',
    cuda: '__device__ __forceinline__ bf16 toBf16(f32 x) { bf16 y; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }',
    host: 'inline bf16 toBf16(f32 x) { return {emu::floatToBfloat(x)}; }',
  },

  // ---- numbers to integers: toward zero, saturating, NaN becomes 0 ----
  toI32: {
    meaning: 'f32 to i32: toward zero, saturating, NaN becomes 0',
    cuda: '__device__ __forceinline__ i32 toI32(f32 x) { return __float2int_rz(x); }',
    host: 'inline i32 toI32(f32 x) { return x != x ? 0 : x >= 2147483648.f ? 2147483647 : x < -2147483648.f ? -2147483647 - 1 : i32(x); }',
  },
  toU32: {
    meaning: 'f32 to u32: toward zero, saturating, NaN becomes 0',
    cuda: '__device__ __forceinline__ u32 toU32(f32 x) { return __float2uint_rz(x); }',
    host: 'inline u32 toU32(f32 x) { return !(x > 0) ? 0u : x >= 4294967296.f ? 4294967295u : u32(x); }',
  },

  // ---- arithmetic ----
  multiplyAdd: {
    meaning: 'a * b + c, rounded once',
    cuda: '__device__ __forceinline__ f32 multiplyAdd(f32 a, f32 b, f32 c) { return __fmaf_rn(a, b, c); }',
    host: 'inline f32 multiplyAdd(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }',
  },
  maximum: {
    meaning: 'the larger one; NaN if either is NaN',
    cuda: '__device__ __forceinline__ f32 maximum(f32 a, f32 b) { asm("max.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b)); return a; }',
    host: 'inline f32 maximum(f32 a, f32 b) { return a != a ? a : b != b ? b : a > b ? a : b > a ? b : emu::signBit(a) ? b : a; }',
  },
  minimum: {
    meaning: 'the smaller one; NaN if either is NaN',
    cuda: '__device__ __forceinline__ f32 minimum(f32 a, f32 b) { asm("min.NaN.f32 %0, %0, %1;" : "+f"(a) : "f"(b)); return a; }',
    host: 'inline f32 minimum(f32 a, f32 b) { return a != a ? a : b != b ? b : a < b ? a : b < a ? b : emu::signBit(a) ? a : b; }',
  },
  exp2Fast: {
    meaning: '2^x within 2 units in the last place; results below 2^-126 are 0',
    // Only the .ftz form is a single MUFU; exp2f adds a comparison and two multiplications.
    cuda: '__device__ __forceinline__ f32 exp2Fast(f32 x) { asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(x)); return x; }',
    host: 'inline f32 exp2Fast(f32 x) { return x < -126.f ? 0.f : f32(__builtin_exp2(double(x))); }',
  },
  expFast: {
    meaning: 'e^x within (2 + |x|) 2^-23 relative; results below 2^-126 are 0',
    uses: ['exp2Fast'],
    text: '__device__ __forceinline__ f32 expFast(f32 x) { return exp2Fast(x * 1.44269504f); }',
  },
  floorDivide: {
    meaning: 'integer quotient toward negative infinity; 0 for a zero divisor',
    text: `__device__ __forceinline__ i32 floorDivide(i32 a, i32 b) {
  if (b == 0) return 0;
  if (b == -1) return i32(0u - u32(a));
  const i32 q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}
__device__ __forceinline__ u32 floorDivide(u32 a, u32 b) { return b == 0 ? 0 : a / b; }`,
  },
  floorModulo: {
    meaning: 'what floorDivide leaves, with the sign of the divisor; a for a zero divisor',
    uses: ['floorDivide'],
    text: 'template <class T> __device__ __forceinline__ T floorModulo(T a, T b) { return T(u32(a) - u32(b) * u32(floorDivide(a, b))); }',
  },

  // ---- one warp ----
  shuffleXor: { meaning: "the value of lane ^ mask", ...shuffle('shuffleXor', 'i32 mask', '__shfl_xor_sync(~0u, x, mask)', 'emu::lane() ^ mask') },
  shuffleUp: { meaning: 'the value of lane - by; the own one in the first lanes', ...shuffle('shuffleUp', 'i32 by', '__shfl_up_sync(~0u, x, by)', 'emu::lane() < by ? emu::lane() : emu::lane() - by') },
  shuffleFrom: { meaning: 'the value of that lane', ...shuffle('shuffleFrom', 'i32 from', '__shfl_sync(~0u, x, from)', 'from & 31') },
  ballot: {
    meaning: 'bit l: whether lane l says yes',
    cuda: '__device__ __forceinline__ u32 ballot(bool x) { return __ballot_sync(~0u, x); }',
    host: 'inline u32 ballot(bool x, int line = __builtin_LINE()) { return emu::ballot(x, line); }',
  },

  warpSum: {
    meaning: 'the sum over all lanes',
    cuda: '__device__ __forceinline__ u32 warpSum(u32 x) { return __reduce_add_sync(~0u, x); }',
    host: `inline u32 warpSum(u32 x, int line = __builtin_LINE()) {
  for (i32 mask = 1; mask < 32; mask *= 2) x += emu::shuffle(x, emu::lane() ^ mask, line);
  return x;
}`,
  },

  // ---- one block ----
  blockBarrier: {
    meaning: 'every thread of the block arrives; what was written to shared memory before is seen by all',
    cuda: '__device__ __forceinline__ void blockBarrier() { __syncthreads(); }',
    host: 'inline void blockBarrier(int line = __builtin_LINE()) { emu::barrier(line); }',
  },
  blockAny: {
    meaning: 'whether any thread of the block says yes; a barrier as well',
    cuda: '__device__ __forceinline__ bool blockAny(bool x) { return __syncthreads_or(x); }',
    host: 'inline bool blockAny(bool x, int line = __builtin_LINE()) { return emu::barrierOr(x, line); }',
  },
  fetchAdd: {
    meaning: 'adds to an element of a shared array, atomically; returns what was there. Integers only',
    cuda: 'template <int N> __device__ __forceinline__ u32 fetchAdd(Shared<u32, N> array, i32 i, u32 n) { return atomicAdd(&array[i], n); }',
    host: 'template <int N> inline u32 fetchAdd(Shared<u32, N> array, emu::Index i, u32 n) { return emu::fetchAdd(array, i, n); }',
  },

  // ---- a cluster of blocks, sm_90 and later ----
  clusterBarrier: {
    meaning: 'every thread of every block of the cluster arrives; what was written to memory before is seen by all',
    cuda: `__device__ __forceinline__ void clusterBarrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}`,
    host: 'inline void clusterBarrier(int line = __builtin_LINE()) { emu::clusterBarrier(line); }',
  },
  peerValue: {
    meaning: 'an element of the same shared array in the block of that rank in the cluster, which must not have ended',
    cuda: `template <int N> __device__ __forceinline__ u32 peerValue(Shared<u32, N> array, i32 i, i32 rank) {
  u32 address = u32(__cvta_generic_to_shared(&array[i])), value;
  asm volatile("mapa.shared::cluster.u32 %0, %0, %2;\\nld.shared::cluster.u32 %1, [%0];" : "+r"(address), "=r"(value) : "r"(rank) : "memory");
  return value;
}`,
    host: 'template <int N> inline u32 peerValue(Shared<u32, N> array, emu::Index i, i32 rank) { return emu::peerValue(array, i, rank); }',
  },

  // ---- memory ----
  fill: {
    meaning: 'sets all elements of an array of registers',
    text: `template <class T> __device__ __forceinline__ void fill(T& x, T value) { x = value; }
template <class T, int N, class V> __device__ __forceinline__ void fill(T (&array)[N], V value) {
#pragma unroll
  for (i32 i = 0; i < N; ++i) fill(array[i], value);
}`,
  },
  loadVector: {
    meaning: 'N neighbours at once; the address is a multiple of their size',
    cuda: `template <int N, class T> __device__ __forceinline__ Vector<T, N> loadVector(const T* from) { return *reinterpret_cast<const Vector<T, N>*>(from); }`,
    host: `template <int N, class T> inline Vector<typename T::Element, N> loadVector(T from, int line = __builtin_LINE()) { return emu::loadVector<N>(from, line); }`,
  },
  storeVector: {
    meaning: 'N neighbours at once; the address is a multiple of their size',
    cuda: `template <int N, class T> __device__ __forceinline__ void storeVector(T* to, Vector<T, N> v) { *reinterpret_cast<Vector<T, N>*>(to) = v; }`,
    host: `template <int N, class T, class To> inline void storeVector(To to, Vector<T, N> v, int line = __builtin_LINE()) { emu::storeVector(to, v, line); }`,
  },

  ...copies,
  ...tensorCores,
  loadRow: {
    meaning: 'fills an array of registers with neighbours, four at once; the address is a multiple of their size',
    uses: ['loadVector'],
    text: `template <class T, int N> __device__ __forceinline__ void loadRow(T (&row)[N], Global<const T> from) {
#pragma unroll
  for (i32 i = 0; i < N; i += 4) {
    const Vector<T, 4> four = loadVector<4>(from + i);
    for (i32 j = 0; j < 4; ++j) row[i + j] = four.at[j];
  }
}`,
  },

  // ---- scans ----
  warpScan: {
    meaning: 'the sum over this lane and those before',
    uses: ['shuffleUp'],
    text: `__device__ __forceinline__ u32 warpScan(u32 x) {
  for (i32 by = 1; by < 32; by *= 2) {
    const u32 before = shuffleUp(x, by);
    if (i32(threadIdx.x % 32) >= by) x += before;
  }
  return x;
}`,
  },
  blockScan: {
    meaning: 'the sums over the threads before this one, and over all. One barrier inside; another is due between two calls',
    uses: ['warpScan', 'shuffleFrom', 'blockBarrier'],
    text: `struct Scan { u32 before, total; };
template <int threads, int N> __device__ __forceinline__ Scan blockScan(u32 x, Shared<u32, N> warpTotals) {
  const i32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u32 upToHere = warpScan(x);
  if (lane == 31) warpTotals[warp] = upToHere;
  blockBarrier();
  const u32 own = lane < threads / 32 ? u32(warpTotals[lane]) : 0u;
  const u32 upToWarp = warpScan(own);  // every warp scans the totals by itself: no second barrier
  return {shuffleFrom(upToWarp - own, warp) + upToHere - x, shuffleFrom(upToWarp, 31)};
}`,
  },

  // ---- order ----
  orderedBits: {
    meaning: 'an integer with the order of the number: -infinity < ... < -0 = +0 < ... < infinity < NaN',
    cuda: `__device__ __forceinline__ u32 orderedBits(f32 x) {
  if (x != x) return ~0u;
  const u32 bits = __float_as_uint(x + 0.f);  // -0 becomes +0
  return bits ^ (u32(i32(bits) >> 31) | 1u << 31);
}`,
    host: `inline u32 orderedBits(f32 x) {
  if (x != x) return ~0u;
  const u32 bits = emu::floatToBits(x + 0.f);
  return bits ^ (u32(i32(bits) >> 31) | 1u << 31);
}`,
  },
} as const satisfies Record<string, Intrinsic>

export type IntrinsicName = keyof typeof intrinsics

/**
 * The text that goes before a kernel: the named intrinsics and those they use, in the order of this file's table.
 * @param target `cuda` for NVRTC, `host` for the emulator (whose core is `emulator.h`)
 */
export function preludeText(used: Iterable<IntrinsicName>, target: 'cuda' | 'host'): string {
  const wanted = new Set<string>()
  const want = (name: string): void => {
    if (wanted.has(name)) return
    wanted.add(name)
    const record: Intrinsic = intrinsics[name as IntrinsicName]
    record.uses?.forEach(want)
  }
  for (const name of used) want(name)
  const parts = target === 'cuda' ? [cudaCore] : []
  for (const [name, record] of Object.entries(intrinsics) as [string, Intrinsic][]) {
    if (!wanted.has(name)) continue
    const text = record.text ?? record[target]
    if (text === undefined) throw new Error(`intrinsic ${name} has no ${target} text`)
    parts.push(`// ${record.meaning}\n${text}`)
  }
  return parts.join('\n') + '\n'
}
