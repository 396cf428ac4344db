// computeO: o f32[head, query, dim 64]
// blocks along head, tiles of query; rows query; streams the folded axis. 8 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
computeO(Global<const bf16> q, Global<const bf16> k, Global<const bf16> v, Global<f32> o, i32 headSize,
         i32 keySize, i32 querySize) {
  const i32 thread = threadIdx.x;
  const i32 head = i32(blockIdx.x) % headSize;
  const i32 queryTile = i32(blockIdx.x) / headSize;
  const i32 queryLane = thread / 32;
  const i32 columnLane = thread % 32;
  const i32 dimLane = thread % 32;
  Shared<bf16, 4608> qTile = sharedAt<bf16, 4608>(0);   // query 64 × dim 64, rows padded by 8
  Shared<bf16, 4608> kTile = sharedAt<bf16, 4608>(9216);   // column 64 × dim 64, rows padded by 8
  Shared<bf16, 4608> kTile2 = sharedAt<bf16, 4608>(18432);   // column 64 × dim 64, rows padded by 8
  Shared<f32, 4352> computedTile = sharedAt<f32, 4352>(27648);   // query 64 × column 64, rows padded by 4
  Shared<bf16, 4096> vTile = sharedAt<bf16, 4096>(45056);   // column 64 × dim 64
  f32 m[8];
  fill(m, -infinity);
  f32 l[8] = {};
  for (i32 item = thread; item < 512; item += 256) {
    const i32 dimAt = (item % 8) * 8;
    const i32 queryAt = item / 8;
    storeVector(qTile + (queryAt * 72 + dimAt), queryTile * 64 + queryAt < querySize ? loadVector<8>(q + ((i64(head) * querySize + queryTile * 64 + queryAt) * 64 + dimAt)) : Vector<bf16, 8>{});
  }
  for (i32 keyStart = 0; keyStart < keySize; keyStart += 64) {
    blockBarrier();
    for (i32 item2 = thread; item2 < 512; item2 += 256) {
      const i32 dimAt2 = (item2 % 8) * 8;
      const i32 columnAt = item2 / 8;
      storeVector(kTile + (columnAt * 72 + dimAt2), keyStart + columnAt < keySize ? loadVector<8>(k + ((i64(head) * keySize + keyStart + columnAt) * 64 + dimAt2)) : Vector<bf16, 8>{});
    }
    // contract over dim   programs.ts:34
    f32 product[8][2] = {};
    blockBarrier();
    for (i32 dim = 0; dim < 64; dim += 4) {
      f32 qTileHere[8][4];
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        const Vector<bf16, 4> four = loadVector<4>(qTile + ((queryI * 8 + queryLane) * 72 + dim));
        for (i32 e = 0; e < 4; ++e) qTileHere[queryI][e] = fromBf16(four.at[e]);
      }
      f32 kTileHere[2][4];
      #pragma unroll
      for (i32 columnI = 0; columnI < 2; ++columnI) {
        const Vector<bf16, 4> four2 = loadVector<4>(kTile + ((columnI * 32 + columnLane) * 72 + dim));
        for (i32 e = 0; e < 4; ++e) kTileHere[columnI][e] = fromBf16(four2.at[e]);
      }
      #pragma unroll
      for (i32 e = 0; e < 4; ++e) {
        #pragma unroll
        for (i32 queryI = 0; queryI < 8; ++queryI) {
          #pragma unroll
          for (i32 columnI = 0; columnI < 2; ++columnI) {
            product[queryI][columnI] = multiplyAdd(qTileHere[queryI][e], kTileHere[columnI][e], product[queryI][columnI]);
          }
        }
      }
    }
    // a * 0.125; expSum.max over key   programs.ts:34
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 columnI = 0; columnI < 2; ++columnI) {
        if (keyStart + columnI * 32 + columnLane < keySize) {
          const f32 x = product[queryI][columnI] * 0.125f;
          const f32 larger = maximum(m[queryI], x);
          const f32 lNext = l[queryI] * expFast(m[queryI] == larger ? 0.f : m[queryI] - larger) + expFast(x == larger ? 0.f : x - larger);
          m[queryI] = larger;
          l[queryI] = lNext;
        }
      }
    }
  }
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) {
    for (i32 mask = 1; mask < 32; mask *= 2) {
      const f32 mOther = shuffleXor(m[queryI], mask);
      const f32 lOther = shuffleXor(l[queryI], mask);
      const f32 larger2 = maximum(m[queryI], mOther);
      const f32 lNext2 = l[queryI] * expFast(m[queryI] == larger2 ? 0.f : m[queryI] - larger2) + lOther * expFast(mOther == larger2 ? 0.f : mOther - larger2);
      m[queryI] = larger2;
      l[queryI] = lNext2;
    }
  }
  // a * 0.125; a - b; exp(a); a / b; contract over key   programs.ts:34
  f32 sum[8][2] = {};
  for (i32 keyStart2 = 0; keyStart2 < keySize; keyStart2 += 64) {
    for (i32 item3 = thread; item3 < 512; item3 += 256) {
      const i32 dimAt3 = (item3 % 8) * 8;
      const i32 columnAt2 = item3 / 8;
      storeVector(kTile2 + (columnAt2 * 72 + dimAt3), keyStart2 + columnAt2 < keySize ? loadVector<8>(k + ((i64(head) * keySize + keyStart2 + columnAt2) * 64 + dimAt3)) : Vector<bf16, 8>{});
    }
    // contract over dim   programs.ts:34
    f32 product2[8][2] = {};
    blockBarrier();
    for (i32 dim2 = 0; dim2 < 64; dim2 += 4) {
      f32 qTileHere2[8][4];
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        const Vector<bf16, 4> four3 = loadVector<4>(qTile + ((queryI * 8 + queryLane) * 72 + dim2));
        for (i32 e = 0; e < 4; ++e) qTileHere2[queryI][e] = fromBf16(four3.at[e]);
      }
      f32 kTile2Here[2][4];
      #pragma unroll
      for (i32 columnI = 0; columnI < 2; ++columnI) {
        const Vector<bf16, 4> four4 = loadVector<4>(kTile2 + ((columnI * 32 + columnLane) * 72 + dim2));
        for (i32 e = 0; e < 4; ++e) kTile2Here[columnI][e] = fromBf16(four4.at[e]);
      }
      #pragma unroll
      for (i32 e = 0; e < 4; ++e) {
        #pragma unroll
        for (i32 queryI = 0; queryI < 8; ++queryI) {
          #pragma unroll
          for (i32 columnI = 0; columnI < 2; ++columnI) {
            product2[queryI][columnI] = multiplyAdd(qTileHere2[queryI][e], kTile2Here[columnI][e], product2[queryI][columnI]);
          }
        }
      }
    }
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 columnI = 0; columnI < 2; ++columnI) {
        computedTile[(queryI * 8 + queryLane) * 68 + columnI * 32 + columnLane] = keyStart2 + columnI * 32 + columnLane < keySize ? expFast(product2[queryI][columnI] * 0.125f - m[queryI]) / l[queryI] : 0.f;
      }
    }
    for (i32 item4 = thread; item4 < 512; item4 += 256) {
      const i32 dimAt4 = (item4 % 8) * 8;
      const i32 columnAt3 = item4 / 8;
      storeVector(vTile + (columnAt3 * 64 + dimAt4), keyStart2 + columnAt3 < keySize ? loadVector<8>(v + ((i64(head) * keySize + keyStart2 + columnAt3) * 64 + dimAt4)) : Vector<bf16, 8>{});
    }
    blockBarrier();
    for (i32 column = 0; column < 64; ++column) {
      f32 computedTileHere[8];
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        computedTileHere[queryI] = computedTile[(queryI * 8 + queryLane) * 68 + column];
      }
      f32 vTileHere[2];
      #pragma unroll
      for (i32 dimI = 0; dimI < 2; ++dimI) vTileHere[dimI] = fromBf16(vTile[column * 64 + dimI * 32 + dimLane]);
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        #pragma unroll
        for (i32 dimI = 0; dimI < 2; ++dimI) {
          sum[queryI][dimI] = multiplyAdd(computedTileHere[queryI], vTileHere[dimI], sum[queryI][dimI]);
        }
      }
    }
  }
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) {
    #pragma unroll
    for (i32 dimI = 0; dimI < 2; ++dimI) {
      if (queryTile * 64 + queryI * 8 + queryLane < querySize) {
        o[(i64(head) * querySize + queryTile * 64 + queryI * 8 + queryLane) * 64 + dimI * 32 + dimLane] = sum[queryI][dimI];
      }
    }
  }
}
