// computeO: o f32[head, query, dim 64]
// blocks along head, tiles of query; rows query; streams the folded axis. 9 nodes fused
extern "C" __global__ void __launch_bounds__(128, 3)
computeO(Global<const bf16> q, Global<const bf16> k, Global<const bf16> v, Global<f32> o, i32 headSize,
         i32 keySize, i32 querySize) {
  const i32 thread = threadIdx.x;
  const i32 head = i32(blockIdx.x) % headSize;
  const i32 queryTile = i32(blockIdx.x) / headSize;
  const i32 queryLane = (thread / 32 % 2) * 32 + (thread % 4) * 2;
  const i32 queryRowLane = (thread / 32 % 2) * 32 + thread / 4 % 8;
  const i32 dim2Lane = (thread % 4) * 2;
  const i32 columnLane = (thread / 64) * 32 + thread / 4 % 8;
  const i32 columnWarpLane = thread / 64;
  const i32 dimLane = (thread / 64) * 32 + thread / 4 % 8;
  Shared<bf16, 12288> kTile = sharedAt<bf16, 12288>(0);   // column 64 × dim2 64
  Shared<f32, 128> mScratch = sharedAt<f32, 128>(24576);   // columnWarp 2 × query 64
  Shared<f32, 128> lScratch = sharedAt<f32, 128>(25088);   // columnWarp 2 × query 64
  Shared<bf16, 12288> kTile2 = sharedAt<bf16, 12288>(25600);   // column 64 × dim3 64
  Shared<f32, 4352> computedTile = sharedAt<f32, 4352>(50176);   // query 64 × column 64, rows padded by 4
  Shared<bf16, 4096> vTile = sharedAt<bf16, 4096>(67584);   // column 64 × dim 64
  f32 m[8];
  fill(m, -infinity);
  f32 l[8] = {};
  u32 qPairs[4][4][2];
  #pragma unroll
  for (i32 queryRowI = 0; queryRowI < 4; ++queryRowI) {
    #pragma unroll
    for (i32 pair = 0; pair < 8; ++pair) {
      const i32 dim2At = pair * 8 + dim2Lane;
      qPairs[queryRowI][pair / 2][pair % 2] = pairBits(queryTile * 64 + queryRowI * 8 + queryRowLane < querySize ? loadVector<2>(q + ((i64(head) * querySize + queryTile * 64 + queryRowI * 8 + queryRowLane) * 64 + dim2At)) : Vector<bf16, 2>{});
    }
  }
  const i32 end = keySize;
  // Of the 3 tiles in shared memory 2 are on their way while one is used
  const auto copyKTile = [&](i32 slot, i32 keyStart) {
    const i32 dim2At2 = (thread % 8) * 8;
    const i32 columnAtFirst = thread / 8;
    const i32 to = (slot * 64 + columnAtFirst) * 64 + (dim2At2 / 8 ^ columnAtFirst % 8) * 8;
    const Global<const bf16> from = k + ((i64(head) * keySize + keyStart + columnAtFirst) * 64 + dim2At2);
    #pragma unroll
    for (i32 turn = 0; turn < 4; ++turn) {
      const i32 columnAt = turn * 16 + columnAtFirst;
      copyAsyncIf(keyStart + columnAt < keySize, kTile + (to + turn * 1024), from + turn * 1024);
    }
  };
  for (i32 ahead = 0; ahead < 2; ++ahead) {
    if (ahead * 64 < end) copyKTile(ahead, ahead * 64);
    copyAsyncCommit();
  }
  #pragma unroll 1
  for (i32 keyStart = 0, slot = 0; keyStart < end; keyStart += 64) {
    copyAsyncWait<1>();
    blockBarrier();
    if (keyStart + 128 < end) copyKTile(slot == 0 ? 2 : slot - 1, keyStart + 128);
    copyAsyncCommit();
    // contract over dim   programs.ts:34
    f32 product[8][4] = {};
    const i32 kTileRow = (slot * 64 + (thread / 64) * 32 + thread % 16) * 64;
    const i32 kTileChunk = thread % 32 / 16;
    #pragma unroll
    for (i32 step = 0; step < 4; ++step) {
      u32 kTileHere[2][4];
      #pragma unroll
      for (i32 block = 0; block < 2; ++block) {
        loadMatrix4(kTileHere[block], kTile + (kTileRow + block * 1024 + ((step * 2 + kTileChunk) ^ thread % 8) * 8));
      }
      #pragma unroll
      for (i32 pair2 = 0; pair2 < 4; ++pair2) {
        #pragma unroll
        for (i32 block = 0; block < 2; ++block) {
          mmaBf16(product[pair2 * 2][block * 2], product[pair2 * 2 + 1][block * 2], product[pair2 * 2][block * 2 + 1], product[pair2 * 2 + 1][block * 2 + 1], kTileHere[block], qPairs[pair2][step][0], qPairs[pair2][step][1]);
        }
      }
    }
    // a * 0.125; expSum.max over key   programs.ts:34
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      f32 mNext = m[queryI], x[4];
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) {
        x[columnI] = keyStart + columnI * 8 + columnLane < keySize ? product[queryI][columnI] * 0.125f : -infinity;
        mNext = maximum(mNext, x[columnI]);
      }
      const f32 scale = expFast(m[queryI] == mNext ? 0.f : m[queryI] - mNext);
      l[queryI] *= scale;
      m[queryI] = mNext;
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) {
        l[queryI] += keyStart + columnI * 8 + columnLane < keySize ? expFast(x[columnI] == mNext ? 0.f : x[columnI] - mNext) : 0.f;
      }
    }
    slot = slot + 1 == 3 ? 0 : slot + 1;
  }
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) {
    for (i32 mask = 4; mask < 32; mask *= 2) {
      const f32 mOther = shuffleXor(m[queryI], mask);
      const f32 lOther = shuffleXor(l[queryI], mask);
      const f32 larger = maximum(m[queryI], mOther);
      const f32 lNext = l[queryI] * expFast(m[queryI] == larger ? 0.f : m[queryI] - larger) + lOther * expFast(mOther == larger ? 0.f : mOther - larger);
      m[queryI] = larger;
      l[queryI] = lNext;
    }
  }
  if ((thread & 28) == 0) {
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      mScratch[columnWarpLane * 64 + queryI / 2 * 8 + queryLane + queryI % 2] = m[queryI];
    }
  }
  if ((thread & 28) == 0) {
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      lScratch[columnWarpLane * 64 + queryI / 2 * 8 + queryLane + queryI % 2] = l[queryI];
    }
  }
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) m[queryI] = -infinity;
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) l[queryI] = 0.f;
  blockBarrier();
  for (i32 warp = 0; warp < 2; ++warp) {
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      const f32 x2 = mScratch[warp * 64 + queryI / 2 * 8 + queryLane + queryI % 2];
      const f32 larger2 = maximum(m[queryI], x2);
      const f32 lNext2 = l[queryI] * expFast(m[queryI] == larger2 ? 0.f : m[queryI] - larger2) + lScratch[warp * 64 + queryI / 2 * 8 + queryLane + queryI % 2] * expFast(x2 == larger2 ? 0.f : x2 - larger2);
      m[queryI] = larger2;
      l[queryI] = lNext2;
    }
  }
  // a * 0.125; a - b; exp(a); 1 / a; a * b; contract over key   programs.ts:34
  f32 sum[8][4] = {};
  // 1 / a   programs.ts:34
  f32 quotient[8];
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) quotient[queryI] = 1.f / l[queryI];
  const i32 end2 = keySize;
  // Of the 3 tiles in shared memory 2 are on their way while one is used
  const auto copyKTile2 = [&](i32 slot2, i32 keyStart2) {
    const i32 dim3At = (thread % 8) * 8;
    const i32 columnAt2First = thread / 8;
    const i32 to2 = (slot2 * 64 + columnAt2First) * 64 + (dim3At / 8 ^ columnAt2First % 8) * 8;
    const Global<const bf16> from2 = k + ((i64(head) * keySize + keyStart2 + columnAt2First) * 64 + dim3At);
    #pragma unroll
    for (i32 turn2 = 0; turn2 < 4; ++turn2) {
      const i32 columnAt2 = turn2 * 16 + columnAt2First;
      copyAsyncIf(keyStart2 + columnAt2 < keySize, kTile2 + (to2 + turn2 * 1024), from2 + turn2 * 1024);
    }
  };
  for (i32 ahead = 0; ahead < 2; ++ahead) {
    if (ahead * 64 < end2) copyKTile2(ahead, ahead * 64);
    copyAsyncCommit();
  }
  #pragma unroll 1
  for (i32 keyStart2 = 0, slot2 = 0; keyStart2 < end2; keyStart2 += 64) {
    copyAsyncWait<1>();
    blockBarrier();
    if (keyStart2 + 128 < end2) copyKTile2(slot2 == 0 ? 2 : slot2 - 1, keyStart2 + 128);
    copyAsyncCommit();
    // contract over dim   programs.ts:34
    f32 product2[8][4] = {};
    const i32 kTile2Row = (slot2 * 64 + (thread / 64) * 32 + thread % 16) * 64;
    const i32 kTile2Chunk = thread % 32 / 16;
    #pragma unroll
    for (i32 step2 = 0; step2 < 4; ++step2) {
      u32 kTile2Here[2][4];
      #pragma unroll
      for (i32 block2 = 0; block2 < 2; ++block2) {
        loadMatrix4(kTile2Here[block2], kTile2 + (kTile2Row + block2 * 1024 + ((step2 * 2 + kTile2Chunk) ^ thread % 8) * 8));
      }
      #pragma unroll
      for (i32 pair3 = 0; pair3 < 4; ++pair3) {
        #pragma unroll
        for (i32 block2 = 0; block2 < 2; ++block2) {
          mmaBf16(product2[pair3 * 2][block2 * 2], product2[pair3 * 2 + 1][block2 * 2], product2[pair3 * 2][block2 * 2 + 1], product2[pair3 * 2 + 1][block2 * 2 + 1], kTile2Here[block2], qPairs[pair3][step2][0], qPairs[pair3][step2][1]);
        }
      }
    }
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) {
        computedTile[(queryI / 2 * 8 + queryLane + queryI % 2) * 68 + columnI * 8 + columnLane] = keyStart2 + columnI * 8 + columnLane < keySize ? expFast(product2[queryI][columnI] * 0.125f - m[queryI]) * quotient[queryI] : 0.f;
      }
    }
    {
      const i32 dimAt = (thread % 8) * 8;
      #pragma unroll
      for (i32 turn3 = 0; turn3 < 4; ++turn3) {
        const i32 columnAt3 = turn3 * 16 + thread / 8;
        storeVector(vTile + (columnAt3 * 64 + dimAt), keyStart2 + columnAt3 < keySize ? loadVector<8>(v + ((i64(head) * keySize + keyStart2 + columnAt3) * 64 + dimAt)) : Vector<bf16, 8>{});
      }
    }
    blockBarrier();
    for (i32 column = 0; column < 64; ++column) {
      f32 computedTileHere[8];
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        computedTileHere[queryI] = computedTile[(queryI / 2 * 8 + queryLane + queryI % 2) * 68 + column];
      }
      f32 vTileHere[4];
      #pragma unroll
      for (i32 dimI = 0; dimI < 4; ++dimI) vTileHere[dimI] = fromBf16(vTile[column * 64 + dimI * 8 + dimLane]);
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        #pragma unroll
        for (i32 dimI = 0; dimI < 4; ++dimI) {
          sum[queryI][dimI] = multiplyAdd(computedTileHere[queryI], vTileHere[dimI], sum[queryI][dimI]);
        }
      }
    }
    slot2 = slot2 + 1 == 3 ? 0 : slot2 + 1;
  }
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) {
    #pragma unroll
    for (i32 dimI = 0; dimI < 4; ++dimI) {
      if (queryTile * 64 + queryI / 2 * 8 + queryLane + queryI % 2 < querySize) {
        o[(i64(head) * querySize + queryTile * 64 + queryI / 2 * 8 + queryLane + queryI % 2) * 64 + dimI * 8 + dimLane] = sum[queryI][dimI];
      }
    }
  }
}
