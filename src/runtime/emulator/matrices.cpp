// The tensor cores' instructions, done for a whole warp when its 32 lanes have come to the same line. The places of the
// elements are those of the PTX manual's figures for ldmatrix and for mma.m16n8k16.
#include "worker.h"
#include "numbers.h"
#include <cstring>

namespace emu {

namespace {

template <class T> const T& offered(const Warp& warp, u32 lane) {
  return *reinterpret_cast<const T*>(warp.slots[warp.lanes[lane]->parity][lane][0]);
}

void loadMatrices(const Warp& warp, bool transposed) {
  u16 blocks[4][8][8];
  for (u32 lane = 0; lane < warpLanes; ++lane) std::memcpy(blocks[lane / 8][lane % 8], offered<MatrixRow>(warp, lane).row, 16);
  for (u32 lane = 0; lane < warpLanes; ++lane) {
    const u32 group = lane / 4, pair = lane % 4 * 2;
    for (u32 i = 0; i < 4; ++i) {
      const auto& block = blocks[i];
      offered<MatrixRow>(warp, lane).to[i] = transposed
        ? block[pair][group] | u32(block[pair + 1][group]) << 16
        : block[group][pair] | u32(block[group][pair + 1]) << 16;
    }
  }
}

f32 number(u32 bits, bool half) { return half ? halfToFloat(u16(bits)) : bitsToFloat(bits << 16); }

// Products are exact in f64. They are added from the lowest k up, the old sum last, and the total is rounded once: real
// tensor cores keep fewer bits between and add in an order of their own, within the language's bound for sums.
void multiplyMatrices(const Warp& warp, bool half) {
  double a[16][16], b[16][8];
  for (u32 lane = 0; lane < warpLanes; ++lane) {
    const Operands& own = offered<Operands>(warp, lane);
    const u32 group = lane / 4, pair = lane % 4 * 2;
    for (u32 i = 0; i < 4; ++i)
      for (u32 side = 0; side < 2; ++side) a[group + i % 2 * 8][pair + i / 2 * 8 + side] = number(own.a[i] >> 16 * side & 0xffff, half);
    for (u32 i = 0; i < 2; ++i)
      for (u32 side = 0; side < 2; ++side) b[pair + i * 8 + side][group] = number(own.b[i] >> 16 * side & 0xffff, half);
  }
  for (u32 lane = 0; lane < warpLanes; ++lane) {
    f32* sum = offered<Operands>(warp, lane).sum;
    for (u32 i = 0; i < 4; ++i) {
      const u32 row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      double total = 0;
      for (u32 k = 0; k < 16; ++k) total += a[row][k] * b[k][column];
      total += sum[i];
      sum[i] = total == total ? f32(total) : bitsToFloat(0x7fffffff);
    }
  }
}

}  // namespace

bool isMatrixWork(Stop stop) {
  return stop == Stop::loadMatrix4 || stop == Stop::loadMatrix4Transposed || stop == Stop::mmaBf16 || stop == Stop::mmaF16;
}

void matrixWork(const Warp& warp, Stop stop) {
  if (stop == Stop::mmaBf16 || stop == Stop::mmaF16) multiplyMatrices(warp, stop == Stop::mmaF16);
  else loadMatrices(warp, stop == Stop::loadMatrix4Transposed);
}

}  // namespace emu
