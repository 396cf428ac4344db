// computeO: o f32[head, query, dim 64]
// blocks along head, tiles of query; rows query; streams the folded axis. 9 nodes fused
extern "C" __global__ void __launch_bounds__(128, 3)
computeO(Global<const bf16> q, Global<const bf16> k, Global<const bf16> v, Global<f32> o, i32 headSize,
         i32 keySize, i32 querySize) {
  const i32 thread = threadIdx.x;
  const i32 head = i32(blockIdx.x) % headSize;
  const i32 queryTile = i32(blockIdx.x) / headSize;
  const i32 queryLane = (thread / 32 % 2) * 32 + (thread % 4) * 2;
  const i32 dimLane = (thread / 64) * 32 + thread / 4 % 8;
  const i32 queryRowLane = (thread / 32 % 2) * 32 + thread / 4 % 8;
  const i32 dim2Lane = (thread % 4) * 2;
  const i32 columnLane = (thread / 64) * 32 + thread / 4 % 8;
  const i32 columnWarpLane = thread / 64;
  const i32 columnWarp2Lane = thread / 64;
  Shared<bf16, 12288> kTile = sharedAt<bf16, 12288>(0);   // column 64 × dim2 64
  Shared<f32, 128> mNextScratch = sharedAt<f32, 128>(24576);   // columnWarp 2 × query 64
  Shared<f32, 4352> weightTile = sharedAt<f32, 4352>(25088);   // query 64 × column 64, rows padded by 4
  Shared<bf16, 4096> vTile = sharedAt<bf16, 4096>(42496);   // column 64 × dim 64
  Shared<f32, 128> lScratch = sharedAt<f32, 128>(50688);   // columnWarp2 2 × query 64
  // a * 0.125; a - b; exp(a); 1 / a; a * b; contract over key   programs.ts:35
  f32 m[8];
  fill(m, -infinity);
  f32 l[8] = {};
  f32 sum2[8][4] = {};
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
    // contract over dim   programs.ts:35
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
    f32 x[8][4];
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) {
        x[queryI][columnI] = keyStart + columnI * 8 + columnLane < keySize ? product[queryI][columnI] * 0.125f : -infinity;
      }
    }
    f32 mNext[8];
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) mNext[queryI] = m[queryI];
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) mNext[queryI] = maximum(mNext[queryI], x[queryI][columnI]);
    }
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      for (i32 mask = 4; mask < 32; mask *= 2) {
        mNext[queryI] = maximum(mNext[queryI], shuffleXor(mNext[queryI], mask));
      }
    }
    if ((thread & 28) == 0) {
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        mNextScratch[columnWarpLane * 64 + queryI / 2 * 8 + queryLane + queryI % 2] = mNext[queryI];
      }
    }
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) mNext[queryI] = -infinity;
    blockBarrier();
    for (i32 warp = 0; warp < 2; ++warp) {
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        mNext[queryI] = maximum(mNext[queryI], mNextScratch[warp * 64 + queryI / 2 * 8 + queryLane + queryI % 2]);
      }
    }
    f32 scale[8];
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      scale[queryI] = expFast(m[queryI] == mNext[queryI] ? 0.f : m[queryI] - mNext[queryI]);
    }
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) l[queryI] = l[queryI] * scale[queryI];
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 dimI = 0; dimI < 4; ++dimI) sum2[queryI][dimI] = sum2[queryI][dimI] * scale[queryI];
    }
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) m[queryI] = mNext[queryI];
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) {
        x[queryI][columnI] = keyStart + columnI * 8 + columnLane < keySize ? expFast(x[queryI][columnI] == mNext[queryI] ? 0.f : x[queryI][columnI] - mNext[queryI]) : 0.f;
      }
    }
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) l[queryI] += x[queryI][columnI];
    }
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) {
        weightTile[(queryI / 2 * 8 + queryLane + queryI % 2) * 68 + columnI * 8 + columnLane] = x[queryI][columnI];
      }
    }
    {
      const i32 dimAt = (thread % 8) * 8;
      #pragma unroll
      for (i32 turn2 = 0; turn2 < 4; ++turn2) {
        const i32 columnAt2 = turn2 * 16 + thread / 8;
        storeVector(vTile + (columnAt2 * 64 + dimAt), keyStart + columnAt2 < keySize ? loadVector<8>(v + ((i64(head) * keySize + keyStart + columnAt2) * 64 + dimAt)) : Vector<bf16, 8>{});
      }
    }
    blockBarrier();
    for (i32 column = 0; column < 64; ++column) {
      f32 weightTileHere[8];
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        weightTileHere[queryI] = weightTile[(queryI / 2 * 8 + queryLane + queryI % 2) * 68 + column];
      }
      f32 vTileHere[4];
      #pragma unroll
      for (i32 dimI = 0; dimI < 4; ++dimI) vTileHere[dimI] = fromBf16(vTile[column * 64 + dimI * 8 + dimLane]);
      #pragma unroll
      for (i32 queryI = 0; queryI < 8; ++queryI) {
        #pragma unroll
        for (i32 dimI = 0; dimI < 4; ++dimI) {
          sum2[queryI][dimI] = multiplyAdd(weightTileHere[queryI], vTileHere[dimI], sum2[queryI][dimI]);
        }
      }
    }
    slot = slot + 1 == 3 ? 0 : slot + 1;
  }
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) {
    for (i32 mask = 4; mask < 32; mask *= 2) l[queryI] += shuffleXor(l[queryI], mask);
  }
  if ((thread & 28) == 0) {
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      lScratch[columnWarp2Lane * 64 + queryI / 2 * 8 + queryLane + queryI % 2] = l[queryI];
    }
  }
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) l[queryI] = 0.f;
  blockBarrier();
  for (i32 warp2 = 0; warp2 < 2; ++warp2) {
    #pragma unroll
    for (i32 queryI = 0; queryI < 8; ++queryI) {
      l[queryI] += lScratch[warp2 * 64 + queryI / 2 * 8 + queryLane + queryI % 2];
    }
  }
  f32 scale2[8];
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) scale2[queryI] = 1.f / l[queryI] * expFast(m[queryI] - m[queryI]);
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) {
    #pragma unroll
    for (i32 dimI = 0; dimI < 4; ++dimI) sum2[queryI][dimI] = sum2[queryI][dimI] * scale2[queryI];
  }
  #pragma unroll
  for (i32 queryI = 0; queryI < 8; ++queryI) {
    #pragma unroll
    for (i32 dimI = 0; dimI < 4; ++dimI) {
      if (queryTile * 64 + queryI / 2 * 8 + queryLane + queryI % 2 < querySize) {
        o[(i64(head) * querySize + queryTile * 64 + queryI / 2 * 8 + queryLane + queryI % 2) * 64 + dimI * 8 + dimLane] = sum2[queryI][dimI];
      }
    }
  }
}
