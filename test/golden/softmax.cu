// computeY: y f32[row, column]
// blocks along row; streams column. 6 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
computeY(Global<const f32> x, Global<f32> y, i32 columnSize) {
  const i32 thread = threadIdx.x;
  const i32 row = i32(blockIdx.x);
  const i32 columnLane = thread;
  const i32 columnWarpLane = thread / 32;
  Shared<f32, 8> mScratch = sharedAt<f32, 8>(0);   // columnWarp 8
  Shared<f32, 8> lScratch = sharedAt<f32, 8>(32);   // columnWarp 8
  f32 m = -infinity;
  f32 l = 0.f;
  for (i32 columnStart = 0; columnStart < columnSize; columnStart += 256) {
    // expSum.max over column   programs.ts:33
    if (columnStart + columnLane < columnSize) {
      const f32 x2 = x[i64(row) * columnSize + columnStart + columnLane];
      const f32 larger = maximum(m, x2);
      const f32 lNext = l * expFast(m == larger ? 0.f : m - larger) + expFast(x2 == larger ? 0.f : x2 - larger);
      m = larger;
      l = lNext;
    }
  }
  for (i32 mask = 1; mask < 32; mask *= 2) {
    const f32 mOther = shuffleXor(m, mask);
    const f32 lOther = shuffleXor(l, mask);
    const f32 larger2 = maximum(m, mOther);
    const f32 lNext2 = l * expFast(m == larger2 ? 0.f : m - larger2) + lOther * expFast(mOther == larger2 ? 0.f : mOther - larger2);
    m = larger2;
    l = lNext2;
  }
  if (thread % 32 == 0) mScratch[columnWarpLane] = m;
  if (thread % 32 == 0) lScratch[columnWarpLane] = l;
  m = -infinity;
  l = 0.f;
  blockBarrier();
  for (i32 warp = 0; warp < 8; ++warp) {
    const f32 x3 = mScratch[warp];
    const f32 larger3 = maximum(m, x3);
    const f32 lNext3 = l * expFast(m == larger3 ? 0.f : m - larger3) + lScratch[warp] * expFast(x3 == larger3 ? 0.f : x3 - larger3);
    m = larger3;
    l = lNext3;
  }
  // 1 / a   programs.ts:33
  f32 quotient = 1.f / l;
  for (i32 columnStart2 = 0; columnStart2 < columnSize; columnStart2 += 256) {
    // a - b; exp(a); 1 / a; a * b   programs.ts:33
    if (columnStart2 + columnLane < columnSize) {
      y[i64(row) * columnSize + columnStart2 + columnLane] = expFast(x[i64(row) * columnSize + columnStart2 + columnLane] - m) * quotient;
    }
  }
}
