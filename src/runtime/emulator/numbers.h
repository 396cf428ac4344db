// Bits of numbers, and 16-bit numbers. The library computes with them as well.
#pragma once
#include "abi.h"

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

}  // namespace emu
