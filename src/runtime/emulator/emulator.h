// The words of emitted kernels, for the host's compiler: a kernel that is CUDA text for NVRTC is C++ behind this header.
//
//   abi.h          the record of the thread that a kernel runs as
//   accessors.h    Global<T>, Shared<T, N>: pointers and arrays with bounds
//   races.h        what WEFT_CHECK_RACES adds to them
//   cluster.h      shared memory of the other blocks of a cluster
//   emulator.h     types, thread indices, barriers, shuffles, conversions
//   cuda-names.h   functions that CUDA has without a header: min, expf, __popc ...
//   registration.h WEFT_KERNEL, and what undefined behaviour calls
//
// The intrinsics' host texts (src/codegen/intrinsics.ts) stand on the functions of namespace `emu`.
#pragma once
#include "abi.h"
#include "accessors.h"
#include "cluster.h"

struct f16 { u16 bits; };
struct bf16 { u16 bits; };

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __restrict__ __restrict

using uint3 = emu::Index3;
struct dim3 : emu::Index3 {};
#define threadIdx (emu::self()->thread)
#define blockIdx (emu::self()->block)
#define blockDim (*emu::self()->blockDim)
#define gridDim (*emu::self()->gridDim)
constexpr i32 warpSize = 32;

namespace emu {

// ---- bits ----
template <class To, class From> __attribute__((always_inline)) inline To bitCast(From x) {
  static_assert(sizeof(To) == sizeof(From), "bitCast: sizes differ");
  To y;
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}
inline f32 bitsToFloat(u32 x) { return bitCast<f32>(x); }
inline u32 floatToBits(f32 x) { return bitCast<u32>(x); }
inline bool signBit(f32 x) { return floatToBits(x) >> 31; }

// ---- 16-bit numbers: to nearest even; NaN becomes the one that PTX's cvt gives ----
inline f32 halfToFloat(u16 half) {
  const u32 sign = u32(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ff;
  if (exponent == 31) return bitsToFloat(fraction ? 0x7fffffff : sign | 0x7f800000);
  if (exponent == 0) {
    const f32 tiny = f32(fraction) * 0x1p-24f;  // exact: a subnormal half is a normal float
    return sign ? -tiny : tiny;
  }
  return bitsToFloat(sign | (exponent + 112) << 23 | fraction << 13);
}
inline u16 floatToHalf(f32 x) {
  const u32 bits = floatToBits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return 0x7fff;
  if (size >= 0x477ff000) return u16(sign | 0x7c00);  // 65520 and above: the tie at 65520 goes to the even side, infinity
  // Below 2^-14 the sum's own rounding does it: 0.5 has 2^-24, a subnormal half's step, as its last place
  if (size < 0x38800000) return u16(sign | (floatToBits(bitsToFloat(size) + 0.5f) - 0x3f000000));
  return u16(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}
inline u16 floatToBfloat(f32 x) {
  const u32 bits = floatToBits(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return u16((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// ---- one warp ----
inline i32 lane() { return i32(self()->linear % warpLanes); }

// Every lane comes to the same line with its x and leaves with the one of sourceLane
template <class T> inline Value<T> shuffle(const T& offered, i32 sourceLane, i32 line) {
  const Value<T> x = offered;
  static_assert(sizeof x <= sizeof(Warp::slots[0][0]), "a shuffle carries at most 16 bytes");
  Fiber* fiber = self();
  const u32 parity = fiber->parity ^= 1;
  __builtin_memcpy(fiber->warp->slots[parity][fiber->linear % warpLanes], &x, sizeof x);
  fiber->stop(fiber, Stop::shuffle, line);
  if (u32(sourceLane) >= warpLanes || (fiber->warp->exists >> sourceLane & 1) == 0) fail({Wrong::shuffleLane, line, false, sourceLane, 0, 0, nullptr, nullptr});
  Value<T> y;
  __builtin_memcpy(&y, fiber->warp->slots[parity][sourceLane], sizeof y);
  return y;
}
inline u32 ballot(bool x, i32 line) {
  Fiber* fiber = self();
  const u32 parity = fiber->parity ^= 1;
  fiber->warp->slots[parity][fiber->linear % warpLanes][0] = x;
  fiber->stop(fiber, Stop::ballot, line);
  return fiber->warp->ballot;
}

// ---- one block ----
inline void barrier(i32 line) {
  Fiber* fiber = self();
  fiber->stop(fiber, Stop::barrier, line);
}
inline bool barrierOr(bool x, i32 line) {
  Fiber* fiber = self();
  fiber->anyVote = x;
  fiber->stop(fiber, Stop::barrierOr, line);
  return fiber->anyVote;
}

}  // namespace emu

#include "cuda-names.h"
#include "registration.h"
