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
  void* at = target.template place<n>(true, line);
  touch(at, 16, target.index, Access::copy, line);
  Fiber* fiber = self();
  fiber->warp->copies->start(fiber, {static_cast<u8*>(at), reinterpret_cast<const u8*>(source), target.index, line, 0});
}
inline void copyAsyncCommit() {
  Fiber* fiber = self();
  fiber->warp->copies->commit(fiber);
}
inline void copyAsyncWait(i32 but) {
  Fiber* fiber = self();
  while (const Copy* copy = fiber->warp->copies->land(fiber, u32(but))) settle(copy->to, 16);
}

// ---- tensor cores ----
template <class T> inline void meet(const T& offered, Stop stop, i32 line) {
  Fiber* fiber = self();
  const u32 parity = fiber->parity ^= 1;
  fiber->warp->slots[parity][fiber->linear % warpLanes][0] = reinterpret_cast<u64>(&offered);
  fiber->stop(fiber, stop, line);
}
template <class Row> inline void loadMatrices(u32* to, const Row& row, Stop stop, i32 line) {
  static_assert(sizeof(typename Row::Element) == 2, "16-bit elements");
  meet(MatrixRow{reinterpret_cast<const u8*>(row.template vector<8>(false, line)), to}, stop, line);
}
inline void multiplyMatrices(f32* sum, const u32* a, const u32* b, Stop stop, i32 line) { meet(Operands{sum, a, b}, stop, line); }

}  // namespace emu
