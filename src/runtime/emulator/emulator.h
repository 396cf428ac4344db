// The words of emitted kernels, for the host's compiler: a kernel that is CUDA text for NVRTC is C++ behind this header.
//
//   abi.h          the record of the thread that a kernel runs as
//   accessors.h    Global<T>, Shared<T, N>: pointers and arrays with bounds
//   races.h        what WEFT_CHECK_RACES adds to them
//   cluster.h      shared memory of the other blocks of a cluster
//   numbers.h      bits, 16-bit numbers
//   emulator.h     types, thread indices, barriers, shuffles
//   cooperation.h  asynchronous copies and what tensor cores do
//   cuda-names.h   functions that CUDA has without a header: min, expf, __popc ...
//   registration.h WEFT_KERNEL, and what undefined behaviour calls
//
// The intrinsics' host texts (src/codegen/intrinsics.ts) stand on the functions of namespace `emu`.
#pragma once
#include "abi.h"
#include "accessors.h"
#include "numbers.h"
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

#include "cooperation.h"
#include "cuda-names.h"
#include "registration.h"
