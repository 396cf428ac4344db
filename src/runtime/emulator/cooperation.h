// What threads do beside plain loads: asynchronous copies, and the instructions of the tensor cores, in which the 32
// lanes of a warp meet. The library does the work when all are there, so that no order of threads can show in it.
#pragma once
#include "accessors.h"

namespace emu {

// ---- asynchronous copies ----
template <class To, class From> inline void copyAsync(bool there, const To& to, const From& from, i32 line) {
  constexpr int n = 16 / sizeof(typename From::Element);
  static_assert(sizeof(typename To::Element) == sizeof(typename From::Element), "a copy is between elements of one size");
  const auto* source = there ? from.template vector<n>(false, line) : nullptr;
  const auto target = to + 0;
  auto* at = target.template place<n>(true, line);
  touch<true>(target.base, target.index, target.count, n, Access::copy, line);
  Fiber* fiber = self();
  fiber->warp->services->copy(fiber, {reinterpret_cast<u8*>(at), reinterpret_cast<const u8*>(source)});
}
inline void copyAsyncCommit() {
  Fiber* fiber = self();
  fiber->warp->services->commit(fiber);
}
inline void copyAsyncWait(i32 but) {
  Fiber* fiber = self();
  fiber->warp->services->wait(fiber, u32(but));
}

// ---- tensor cores ----
template <class T> inline void meet(const T& offered, Stop stop, i32 line) {
  Fiber* fiber = self();
  const u32 parity = fiber->parity ^= 1;
  fiber->warp->slots[parity][fiber->linear % warpLanes][0] = reinterpret_cast<u64>(&offered);
  fiber->stop(fiber, stop, line);
}
template <class Row> inline void loadMatrices(u32 (&to)[4], Row row, u32, Stop stop, i32 line) {
  static_assert(sizeof(typename Row::Element) == 2, "16-bit elements");
  meet(MatrixRow{reinterpret_cast<const u8*>(row.template vector<8>(false, line)), to}, stop, line);
}
inline void multiplyMatrices(f32 (&sum)[4], const u32 (&a)[4], const u32 (&b)[2], f32, u32, u32, Stop stop, i32 line) {
  meet(Operands{sum, a, b}, stop, line);
}

}  // namespace emu
