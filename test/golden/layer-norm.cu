// computeY: y f32[row, column]
// blocks along row; streams column. 9 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
computeY(Global<const f32> x, Global<const f32> weight, Global<const f32> bias, Global<f32> y, i32 columnSize) {
  const i32 thread = threadIdx.x;
  const i32 row = i32(blockIdx.x);
  const i32 columnLane = thread;
  const i32 columnWarpLane = thread / 32;
  const i32 columnWarp2Lane = thread / 32;
  Shared<f32, 8> totalScratch = sharedAt<f32, 8>(0);   // columnWarp 8
  Shared<f32, 8> total2Scratch = sharedAt<f32, 8>(32);   // columnWarp2 8
  f32 total = 0.f;
  for (i32 columnStart = 0; columnStart < columnSize; columnStart += 256) {
    // mean over column   programs.ts:34
    if (columnStart + columnLane < columnSize) {
      const f32 x2 = x[i64(row) * columnSize + columnStart + columnLane];
      total += x2;
    }
  }
  for (i32 mask = 1; mask < 32; mask *= 2) total += shuffleXor(total, mask);
  if (thread % 32 == 0) totalScratch[columnWarpLane] = total;
  total = 0.f;
  blockBarrier();
  for (i32 warp = 0; warp < 8; ++warp) total += totalScratch[warp];
  f32 mean = total / f32(columnSize);
  f32 total2 = 0.f;
  for (i32 columnStart2 = 0; columnStart2 < columnSize; columnStart2 += 256) {
    // a - b; a * a; mean over column   programs.ts:34
    if (columnStart2 + columnLane < columnSize) {
      const f32 x3 = x[i64(row) * columnSize + columnStart2 + columnLane] - mean;
      total2 = multiplyAdd(x3, x3, total2);
    }
  }
  for (i32 mask = 1; mask < 32; mask *= 2) total2 += shuffleXor(total2, mask);
  if (thread % 32 == 0) total2Scratch[columnWarp2Lane] = total2;
  total2 = 0.f;
  blockBarrier();
  for (i32 warp2 = 0; warp2 < 8; ++warp2) total2 += total2Scratch[warp2];
  f32 mean2 = total2 / f32(columnSize);
  // a + 0.000009999999747378752; rsqrt(a)   programs.ts:34
  f32 rowValue = rsqrtf(mean2 + 0.00000999999975f);
  for (i32 columnStart3 = 0; columnStart3 < columnSize; columnStart3 += 256) {
    // a - b; a + 0.000009999999747378752; rsqrt(a); a * b; a * b; a + b   programs.ts:34
    if (columnStart3 + columnLane < columnSize) {
      y[i64(row) * columnSize + columnStart3 + columnLane] = (x[i64(row) * columnSize + columnStart3 + columnLane] - mean) * rowValue * weight[columnStart3 + columnLane] + bias[columnStart3 + columnLane];
    }
  }
}
