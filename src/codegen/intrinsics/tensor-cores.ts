/**
 * Intrinsics of the tensor cores: products of 16 × 16 by 16 × 8 blocks, what loads their operands and what packs them.
 *
 * Registers of lane l, with g = l / 4 and t = l % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16"). Each u32 holds two
 * 16-bit elements, the one with the lower column (of a) or row (of b) in its lower half:
 *
 *   a[0] rows g, columns 2t, 2t + 1     a[1] rows g + 8, the same columns     a[2], a[3] the same, columns + 8
 *   b0 rows 2t, 2t + 1 of column g      b1 the same, rows + 8
 *   c0, c1 row g, columns 2t, 2t + 1    c2, c3 row g + 8, the same columns
 */
import type { Intrinsic } from '../intrinsics.js'

// The host's are macros that read an element of each array: of the reference sums[2] to a part of sums[2][4] the
// compiler's bounds check allows the address, but not the element.
const multiply = (name: string, dtype: string): Pick<Intrinsic, 'cuda' | 'host'> => ({
  cuda: `__device__ __forceinline__ void ${name}(f32& c0, f32& c1, f32& c2, f32& c3, const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.${dtype}.${dtype}.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}`,
  host: `inline void ${name}Of(f32& c0, f32& c1, f32& c2, f32& c3, const u32 (&a)[4], u32 first, const Vector<f32, 4>& c, const Vector<u32, 2>& b, i32 line) {
  f32 sum[4] = {c.at[0], c.at[1], c.at[2], c.at[3]};
  emu::multiplyMatrices(sum, a, b.at, sum[0], first, b.at[0], emu::Stop::${name}, line);
  c0 = sum[0], c1 = sum[1], c2 = sum[2], c3 = sum[3];
}
#define ${name}(c0, c1, c2, c3, a, b0, b1) ${name}Of(c0, c1, c2, c3, a, (a)[0], Vector<f32, 4>{{c0, c1, c2, c3}}, Vector<u32, 2>{{b0, b1}}, __LINE__)`,
})

const loadMatrix = (name: string, suffix: string): Pick<Intrinsic, 'cuda' | 'host'> => ({
  cuda: `template <class T> __device__ __forceinline__ void ${name}(u32 (&a)[4], const T* row) {
  static_assert(sizeof(T) == 2, "16-bit elements");
  asm volatile("ldmatrix.sync.aligned.m8n8.x4${suffix}.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3]) : "r"(u32(__cvta_generic_to_shared(row))) : "memory");
}`,
  host: `#define ${name}(a, row) emu::loadMatrices(a, row, (a)[0], emu::Stop::${name}, __LINE__)`,
})

const pack = (name: string, dtype: string, host: string): Pick<Intrinsic, 'cuda' | 'host'> => ({
  // PTX's first operand becomes the upper half.
  cuda: `__device__ __forceinline__ u32 ${name}(f32 low, f32 high) { u32 y; asm("cvt.rn.${dtype}.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low)); return y; }`,
  host: `inline u32 ${name}(f32 low, f32 high) { return emu::${host}(low) | u32(emu::${host}(high)) << 16; }`,
})

export const tensorCores = {
  packBf16: { meaning: 'two f32 as bf16, to nearest even: low in the lower half', ...pack('packBf16', 'bf16x2', 'floatToBfloat') },
  packF16: { meaning: 'two f32 as f16, to nearest even: low in the lower half', ...pack('packF16', 'f16x2', 'floatToHalf') },
  pairBits: {
    meaning: 'two 16-bit neighbours as one register, the first in the lower half',
    text: 'template <class T> __device__ __forceinline__ u32 pairBits(Vector<T, 2> x) { return x.at[0].bits | u32(x.at[1].bits) << 16; }',
  },
  loadMatrix4: {
    meaning: 'four 8 x 8 blocks of 16-bit elements; lane l passes row l % 8 of block l / 8 and gets elements 2(l % 4), 2(l % 4) + 1 of row l / 4 of each',
    ...loadMatrix('loadMatrix4', ''),
  },
  loadMatrix4Transposed: {
    meaning: 'the same, each block transposed: lane l gets rows 2(l % 4), 2(l % 4) + 1 of column l / 4',
    ...loadMatrix('loadMatrix4Transposed', '.trans'),
  },
  mmaBf16: { meaning: 'c += a * b: 16 x 16 by 16 x 8 of bf16, by the whole warp', ...multiply('mmaBf16', 'bf16') },
  mmaF16: { meaning: 'c += a * b: 16 x 16 by 16 x 8 of f16, by the whole warp', ...multiply('mmaF16', 'f16') },
} as const satisfies Record<string, Intrinsic>
