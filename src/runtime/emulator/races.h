// A kernel that is compiled with WEFT_CHECK_RACES tells the library of every access to memory; watch.cpp says what is
// found so. Off by default: an access costs some 20 times as much, and the orders of threads catch most of it.
#pragma once
#include "abi.h"

namespace emu {

#ifdef WEFT_CHECK_RACES
constexpr bool watched = true;
template <bool shared, class T> inline void touch(const T* base, u64 index, u64 count, u32 elements, Access access, i32 line) {
  Fiber* fiber = self();
  fiber->warp->services->touch(fiber, {base, index, count, sizeof(T), u32(sizeof(T)) * elements, shared, access, line});
}
template <class T> inline void touchPeer(const T* base, u64 index, u64 count, u32 rank, i32 line) {
  Fiber* fiber = self();
  fiber->warp->services->touchPeer(fiber, {base, index, count, sizeof(T), sizeof(T), true, Access::read, line}, rank);
}
#else
constexpr bool watched = false;
template <bool shared, class T> __attribute__((always_inline)) inline void touch(const T*, u64, u64, u32, Access, i32) {}
template <class T> __attribute__((always_inline)) inline void touchPeer(const T*, u64, u64, u32, i32) {}
#endif

}  // namespace emu
