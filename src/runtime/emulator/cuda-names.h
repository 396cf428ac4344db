// Functions that CUDA offers without a header. The C library's are reached through builtins, so that a kernel may have
// the name of any C function.
#pragma once
#include "abi.h"

#define EMU_INLINE inline __attribute__((always_inline))

EMU_INLINE i32 min(i32 a, i32 b) { return a < b ? a : b; }
EMU_INLINE i32 max(i32 a, i32 b) { return a > b ? a : b; }
EMU_INLINE u32 min(u32 a, u32 b) { return a < b ? a : b; }
EMU_INLINE u32 max(u32 a, u32 b) { return a > b ? a : b; }
EMU_INLINE u32 min(i32 a, u32 b) { return min(u32(a), b); }
EMU_INLINE u32 max(i32 a, u32 b) { return max(u32(a), b); }
EMU_INLINE u32 min(u32 a, i32 b) { return min(a, u32(b)); }
EMU_INLINE u32 max(u32 a, i32 b) { return max(a, u32(b)); }
EMU_INLINE i64 min(i64 a, i64 b) { return a < b ? a : b; }
EMU_INLINE i64 max(i64 a, i64 b) { return a > b ? a : b; }
EMU_INLINE u64 min(u64 a, u64 b) { return a < b ? a : b; }
EMU_INLINE u64 max(u64 a, u64 b) { return a > b ? a : b; }
// The number where one is NaN; of -0 and +0 the one that PTX's min and max give
EMU_INLINE f32 fminf(f32 a, f32 b) { return a != a ? b : b != b ? a : a < b ? a : b < a ? b : __builtin_signbit(a) ? a : b; }
EMU_INLINE f32 fmaxf(f32 a, f32 b) { return a != a ? b : b != b ? a : a > b ? a : b > a ? b : __builtin_signbit(a) ? b : a; }
EMU_INLINE f32 min(f32 a, f32 b) { return fminf(a, b); }
EMU_INLINE f32 max(f32 a, f32 b) { return fmaxf(a, b); }
EMU_INLINE double min(double a, double b) { return __builtin_fmin(a, b); }
EMU_INLINE double max(double a, double b) { return __builtin_fmax(a, b); }
EMU_INLINE i32 abs(i32 x) { return x < 0 ? i32(0u - u32(x)) : x; }
EMU_INLINE i64 llabs(i64 x) { return x < 0 ? i64(0ull - u64(x)) : x; }

// ---- numbers ----
#define EMU_UNARY(name) EMU_INLINE f32 name##f(f32 x) { return __builtin_##name##f(x); }
EMU_UNARY(exp) EMU_UNARY(exp2) EMU_UNARY(expm1) EMU_UNARY(log) EMU_UNARY(log2) EMU_UNARY(log10) EMU_UNARY(log1p)
EMU_UNARY(sqrt) EMU_UNARY(cbrt) EMU_UNARY(sin) EMU_UNARY(cos) EMU_UNARY(tan) EMU_UNARY(asin) EMU_UNARY(acos) EMU_UNARY(atan)
EMU_UNARY(sinh) EMU_UNARY(cosh) EMU_UNARY(tanh) EMU_UNARY(asinh) EMU_UNARY(acosh) EMU_UNARY(atanh) EMU_UNARY(erf) EMU_UNARY(erfc)
EMU_UNARY(fabs) EMU_UNARY(floor) EMU_UNARY(ceil) EMU_UNARY(rint) EMU_UNARY(nearbyint) EMU_UNARY(round) EMU_UNARY(trunc)
#undef EMU_UNARY
EMU_INLINE f32 rsqrtf(f32 x) { return f32(1.0 / __builtin_sqrt(double(x))); }
EMU_INLINE f32 exp10f(f32 x) { return f32(__builtin_pow(10, double(x))); }
EMU_INLINE f32 powf(f32 x, f32 y) { return __builtin_powf(x, y); }
EMU_INLINE f32 fmodf(f32 x, f32 y) { return __builtin_fmodf(x, y); }
EMU_INLINE f32 atan2f(f32 y, f32 x) { return __builtin_atan2f(y, x); }
EMU_INLINE f32 hypotf(f32 x, f32 y) { return __builtin_hypotf(x, y); }
EMU_INLINE f32 copysignf(f32 x, f32 y) { return __builtin_copysignf(x, y); }
EMU_INLINE f32 ldexpf(f32 x, i32 n) { return __builtin_ldexpf(x, n); }
EMU_INLINE f32 fmaf(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
EMU_INLINE bool isnan(f32 x) { return x != x; }
EMU_INLINE bool isinf(f32 x) { return __builtin_isinf(x); }
EMU_INLINE bool isfinite(f32 x) { return __builtin_isfinite(x); }
EMU_INLINE bool signbit(f32 x) { return __builtin_signbit(x); }
EMU_INLINE f32 __fmaf_rn(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
EMU_INLINE f32 __fadd_rn(f32 a, f32 b) { return a + b; }
EMU_INLINE f32 __fsub_rn(f32 a, f32 b) { return a - b; }
EMU_INLINE f32 __fmul_rn(f32 a, f32 b) { return a * b; }
EMU_INLINE f32 __fdiv_rn(f32 a, f32 b) { return a / b; }
EMU_INLINE f32 __fdividef(f32 a, f32 b) { return a / b; }
EMU_INLINE f32 __fsqrt_rn(f32 x) { return __builtin_sqrtf(x); }
EMU_INLINE f32 __saturatef(f32 x) { return x > 0 ? x < 1 ? x : 1.f : 0.f; }

// ---- bits ----
EMU_INLINE u32 __float_as_uint(f32 x) { u32 y; __builtin_memcpy(&y, &x, 4); return y; }
EMU_INLINE f32 __uint_as_float(u32 x) { f32 y; __builtin_memcpy(&y, &x, 4); return y; }
EMU_INLINE i32 __float_as_int(f32 x) { return i32(__float_as_uint(x)); }
EMU_INLINE f32 __int_as_float(i32 x) { return __uint_as_float(u32(x)); }
EMU_INLINE i32 __popc(u32 x) { return __builtin_popcount(x); }
EMU_INLINE i32 __popcll(u64 x) { return __builtin_popcountll(x); }
EMU_INLINE i32 __clz(i32 x) { return x == 0 ? 32 : __builtin_clz(u32(x)); }
EMU_INLINE i32 __clzll(i64 x) { return x == 0 ? 64 : __builtin_clzll(u64(x)); }
EMU_INLINE i32 __ffs(i32 x) { return __builtin_ffs(x); }
EMU_INLINE i32 __ffsll(i64 x) { return __builtin_ffsll(x); }
EMU_INLINE u32 __brev(u32 x) {
  x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
  x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
  x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
  return __builtin_bswap32(x);
}
EMU_INLINE u32 __umulhi(u32 a, u32 b) { return u32(u64(a) * b >> 32); }
EMU_INLINE i32 __mulhi(i32 a, i32 b) { return i32(i64(a) * b >> 32); }
EMU_INLINE u64 __umul64hi(u64 a, u64 b) { return u64((unsigned __int128)a * b >> 64); }

#undef EMU_INLINE
