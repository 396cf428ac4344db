// softmaxStatistics: softmaxMParts f32[splits, kvHead 8, group 4, window 32], softmaxLParts f32[splits, kvHead 8, group 4, window 32]
// blocks along kvHead, tiles of group, tiles of window; rows group × window; streams the folded axis. 5 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
softmaxStatistics(Global<const bf16> q, Global<const bf16> k, Global<f32> softmaxMParts, Global<f32> softmaxLParts,
                  i32 keySize, i32 querySize, i32 splits) {
  const i32 thread = threadIdx.x;
  const i32 kvHead = i32(blockIdx.x) % 8;
  const i32 share = i32(blockIdx.x) / 8;
  const i32 windowLane = thread / 16;
  const i32 columnLane = thread % 16;
  Shared<bf16, 17408> qTile = sharedAt<bf16, 17408>(0);   // group 4 × window 32 × dim 128, rows padded by 8
  Shared<bf16, 8704> kTile = sharedAt<bf16, 8704>(34816);   // column 64 × dim 128, rows padded by 8
  f32 m[4][2];
  fill(m, -infinity);
  f32 l[4][2] = {};
  const i32 tiles = (keySize + 63) / 64;
  const i32 first = share * (tiles / splits) + min(share, tiles % splits);
  const i32 last = (share + 1) * (tiles / splits) + min(share + 1, tiles % splits);
  for (i32 item = thread; item < 2048; item += 256) {
    const i32 dimAt = (item % 16) * 8;
    const i32 windowAt = item / 16 % 32;
    const i32 groupAt = item / 512;
    storeVector(qTile + ((groupAt * 32 + windowAt) * 136 + dimAt), loadVector<8>(q + (((i64(kvHead) * 4 + groupAt) * querySize + windowAt + querySize - 32) * 128 + dimAt)));
  }
  for (i32 keyStart = first * 64; keyStart < min(last * 64, keySize); keyStart += 64) {
    blockBarrier();
    for (i32 item2 = thread; item2 < 1024; item2 += 256) {
      const i32 dimAt2 = (item2 % 16) * 8;
      const i32 columnAt = item2 / 16;
      storeVector(kTile + (columnAt * 136 + dimAt2), keyStart + columnAt < keySize ? loadVector<8>(k + ((i64(kvHead) * keySize + keyStart + columnAt) * 128 + dimAt2)) : Vector<bf16, 8>{});
    }
    // slice query[query - 32 .. query) as window   snapkv.ts:31
    // contract over dim   snapkv.ts:32
    f32 product[4][2][4] = {};
    blockBarrier();
    for (i32 dim = 0; dim < 128; dim += 4) {
      f32 qTileHere[4][2][4];
      #pragma unroll
      for (i32 groupI = 0; groupI < 4; ++groupI) {
        #pragma unroll
        for (i32 windowI = 0; windowI < 2; ++windowI) {
          const Vector<bf16, 4> four = loadVector<4>(qTile + ((groupI * 32 + windowI * 16 + windowLane) * 136 + dim));
          for (i32 e = 0; e < 4; ++e) qTileHere[groupI][windowI][e] = fromBf16(four.at[e]);
        }
      }
      f32 kTileHere[4][4];
      #pragma unroll
      for (i32 columnI = 0; columnI < 4; ++columnI) {
        const Vector<bf16, 4> four2 = loadVector<4>(kTile + ((columnI * 16 + columnLane) * 136 + dim));
        for (i32 e = 0; e < 4; ++e) kTileHere[columnI][e] = fromBf16(four2.at[e]);
      }
      #pragma unroll
      for (i32 e = 0; e < 4; ++e) {
        #pragma unroll
        for (i32 groupI = 0; groupI < 4; ++groupI) {
          #pragma unroll
          for (i32 windowI = 0; windowI < 2; ++windowI) {
            #pragma unroll
            for (i32 columnI = 0; columnI < 4; ++columnI) {
              product[groupI][windowI][columnI] = multiplyAdd(qTileHere[groupI][windowI][e], kTileHere[columnI][e], product[groupI][windowI][columnI]);
            }
          }
        }
      }
    }
    // a * 0.0883883461356163   snapkv.ts:33
    // where((key - size(key - 32)) <= row, logit, -Infinity)   snapkv.ts:34
    // expSum.max over key   snapkv.ts:36
    #pragma unroll
    for (i32 groupI = 0; groupI < 4; ++groupI) {
      #pragma unroll
      for (i32 windowI = 0; windowI < 2; ++windowI) {
        #pragma unroll
        for (i32 columnI = 0; columnI < 4; ++columnI) {
          if (keyStart + columnI * 16 + columnLane < keySize) {
            const f32 x = keyStart + columnI * 16 + columnLane - (keySize - 32) <= windowI * 16 + windowLane ? product[groupI][windowI][columnI] * 0.0883883461f : -infinity;
            const f32 larger = maximum(m[groupI][windowI], x);
            const f32 lNext = l[groupI][windowI] * expFast(m[groupI][windowI] == larger ? 0.f : m[groupI][windowI] - larger) + expFast(x == larger ? 0.f : x - larger);
            m[groupI][windowI] = larger;
            l[groupI][windowI] = lNext;
          }
        }
      }
    }
  }
  #pragma unroll
  for (i32 groupI = 0; groupI < 4; ++groupI) {
    #pragma unroll
    for (i32 windowI = 0; windowI < 2; ++windowI) {
      for (i32 mask = 1; mask < 16; mask *= 2) {
        const f32 mOther = shuffleXor(m[groupI][windowI], mask);
        const f32 lOther = shuffleXor(l[groupI][windowI], mask);
        const f32 larger2 = maximum(m[groupI][windowI], mOther);
        const f32 lNext2 = l[groupI][windowI] * expFast(m[groupI][windowI] == larger2 ? 0.f : m[groupI][windowI] - larger2) + lOther * expFast(mOther == larger2 ? 0.f : mOther - larger2);
        m[groupI][windowI] = larger2;
        l[groupI][windowI] = lNext2;
      }
    }
  }
  #pragma unroll
  for (i32 groupI = 0; groupI < 4; ++groupI) {
    #pragma unroll
    for (i32 windowI = 0; windowI < 2; ++windowI) {
      if (thread % 16 == 0) {
        softmaxMParts[((i64(share) * 8 + kvHead) * 4 + groupI) * 32 + windowI * 16 + windowLane] = m[groupI][windowI];
      }
    }
  }
  #pragma unroll
  for (i32 groupI = 0; groupI < 4; ++groupI) {
    #pragma unroll
    for (i32 windowI = 0; windowI < 2; ++windowI) {
      if (thread % 16 == 0) {
        softmaxLParts[((i64(share) * 8 + kvHead) * 4 + groupI) * 32 + windowI * 16 + windowLane] = l[groupI][windowI];
      }
    }
  }
}

// computeVotes: votes f32[kvHead 8, group 4, past key - 32]
// blocks along kvHead, tiles of group; rows group × window; streams past. 9 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
computeVotes(Global<const bf16> q, Global<const f32> softmaxMParts, Global<const f32> softmaxLParts,
             Global<const bf16> k, Global<f32> votes, i32 keySize, i32 querySize, i32 splits, i32 shares) {
  const i32 thread = threadIdx.x;
  const i32 kvHead = i32(blockIdx.x) % 8;
  const i32 share = i32(blockIdx.x) / 8;
  const i32 windowLane = thread % 16;
  const i32 pastLane = thread / 16;
  Shared<bf16, 17408> qTile = sharedAt<bf16, 17408>(0);   // group 4 × window 32 × dim 128, rows padded by 8
  Shared<bf16, 8704> kTile = sharedAt<bf16, 8704>(34816);   // past 64 × dim 128, rows padded by 8
  const i32 tiles = (keySize + 31) / 64;
  const i32 first = share * (tiles / shares) + min(share, tiles % shares);
  const i32 last = (share + 1) * (tiles / shares) + min(share + 1, tiles % shares);
  for (i32 item = thread; item < 2048; item += 256) {
    const i32 dimAt = (item % 16) * 8;
    const i32 windowAt = item / 16 % 32;
    const i32 groupAt = item / 512;
    storeVector(qTile + ((groupAt * 32 + windowAt) * 136 + dimAt), loadVector<8>(q + (((i64(kvHead) * 4 + groupAt) * querySize + windowAt + querySize - 32) * 128 + dimAt)));
  }
  f32 softmaxM[4][2];
  fill(softmaxM, -infinity);
  f32 softmaxL[4][2] = {};
  for (i32 part = 0; part < splits; ++part) {
    #pragma unroll
    for (i32 groupI = 0; groupI < 4; ++groupI) {
      #pragma unroll
      for (i32 windowI = 0; windowI < 2; ++windowI) {
        const f32 softmaxMPartsHere = softmaxMParts[((i64(part) * 8 + kvHead) * 4 + groupI) * 32 + windowI * 16 + windowLane];
        const f32 larger = maximum(softmaxM[groupI][windowI], softmaxMPartsHere);
        const f32 lNext = softmaxL[groupI][windowI] * expFast(softmaxM[groupI][windowI] == larger ? 0.f : softmaxM[groupI][windowI] - larger) + softmaxLParts[((i64(part) * 8 + kvHead) * 4 + groupI) * 32 + windowI * 16 + windowLane] * expFast(softmaxMPartsHere == larger ? 0.f : softmaxMPartsHere - larger);
        softmaxM[groupI][windowI] = larger;
        softmaxL[groupI][windowI] = lNext;
      }
    }
  }
  for (i32 pastStart = first * 64; pastStart < min(last * 64, keySize - 32); pastStart += 64) {
    f32 sum[4][4] = {};
    blockBarrier();
    for (i32 item2 = thread; item2 < 1024; item2 += 256) {
      const i32 dimAt2 = (item2 % 16) * 8;
      const i32 pastAt = item2 / 16;
      storeVector(kTile + (pastAt * 136 + dimAt2), pastStart + pastAt < keySize ? loadVector<8>(k + ((i64(kvHead) * keySize + pastStart + pastAt) * 128 + dimAt2)) : Vector<bf16, 8>{});
    }
    // slice query[query - 32 .. query) as window   snapkv.ts:31
    // contract over dim   snapkv.ts:32
    f32 product[4][2][4] = {};
    blockBarrier();
    for (i32 dim = 0; dim < 128; dim += 4) {
      f32 qTileHere[4][2][4];
      #pragma unroll
      for (i32 groupI = 0; groupI < 4; ++groupI) {
        #pragma unroll
        for (i32 windowI = 0; windowI < 2; ++windowI) {
          const Vector<bf16, 4> four = loadVector<4>(qTile + ((groupI * 32 + windowI * 16 + windowLane) * 136 + dim));
          for (i32 e = 0; e < 4; ++e) qTileHere[groupI][windowI][e] = fromBf16(four.at[e]);
        }
      }
      f32 kTileHere[4][4];
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) {
        const Vector<bf16, 4> four2 = loadVector<4>(kTile + ((pastI * 16 + pastLane) * 136 + dim));
        for (i32 e = 0; e < 4; ++e) kTileHere[pastI][e] = fromBf16(four2.at[e]);
      }
      #pragma unroll
      for (i32 e = 0; e < 4; ++e) {
        #pragma unroll
        for (i32 groupI = 0; groupI < 4; ++groupI) {
          #pragma unroll
          for (i32 windowI = 0; windowI < 2; ++windowI) {
            #pragma unroll
            for (i32 pastI = 0; pastI < 4; ++pastI) {
              product[groupI][windowI][pastI] = multiplyAdd(qTileHere[groupI][windowI][e], kTileHere[pastI][e], product[groupI][windowI][pastI]);
            }
          }
        }
      }
    }
    // a * 0.0883883461356163   snapkv.ts:33
    // where((key - size(key - 32)) <= row, logit, -Infinity)   snapkv.ts:34
    // a - b; exp(a); a / b   snapkv.ts:36
    // slice key[0 .. key - 32) as past   snapkv.ts:39
    // sum over window   snapkv.ts:40
    #pragma unroll
    for (i32 groupI = 0; groupI < 4; ++groupI) {
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) {
        #pragma unroll
        for (i32 windowI = 0; windowI < 2; ++windowI) {
          sum[groupI][pastI] += expFast(product[groupI][windowI][pastI] * 0.0883883461f - softmaxM[groupI][windowI]) / softmaxL[groupI][windowI];
        }
      }
    }
    #pragma unroll
    for (i32 groupI = 0; groupI < 4; ++groupI) {
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) {
        for (i32 mask = 1; mask < 16; mask *= 2) sum[groupI][pastI] += shuffleXor(sum[groupI][pastI], mask);
      }
    }
    #pragma unroll
    for (i32 groupI = 0; groupI < 4; ++groupI) {
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) {
        if (thread % 16 == 0 && pastStart + pastI * 16 + pastLane < keySize - 32) {
          votes[(i64(kvHead) * 4 + groupI) * (keySize - 32) + pastStart + pastI * 16 + pastLane] = sum[groupI][pastI];
        }
      }
    }
  }
}

// selectKept: kept i32[kvHead 8, group 4, kept selected]
// one block selects of one row. 2 nodes fused
extern "C" __global__ void __launch_bounds__(1024, 1)
selectKept(Global<const f32> votes, Global<i32> kept, i32 keySize, i32 selectedSize) {
  const i32 thread = threadIdx.x;
  const i32 group = i32(blockIdx.x) % 4;
  const i32 kvHead = i32(blockIdx.x) / 4;
  Shared<u32, 2048> histogram = sharedAt<u32, 2048>(0);   // bin 2048
  Shared<u32, 512> candidates = sharedAt<u32, 512>(8192);   // candidate 512
  Shared<u32, 32> totals = sharedAt<u32, 32>(10240);   // warp 32
  Shared<u32, 4> state = sharedAt<u32, 4>(10368);   // word 4
  Shared<u32, 16384> keys = sharedAt<u32, 16384>(10384);   // position 16384
  // window max 7 over past   snapkv.ts:48
  // topK selected over past as kept, by position   snapkv.ts:55
  // The score as an integer of the same order: -infinity < ... < -0 = +0 < ... < infinity < NaN
  const auto scoreAt = [&](i32 past) -> u32 {
    f32 most = -infinity;
    for (i32 near = 0; near < 7; ++near) {
      const f32 x = votes[i64(kvHead * 4 + group) * (keySize - 32) + max(min(past + near - 3, keySize - 33), 0)];
      most = maximum(most, x);
    }
    return orderedBits(most);
  };
  // A warp has a part of the row, its lanes side by side: what ballots count is in order of position
  const i32 lane = thread % 32, share = ((keySize - 32) + 1023) / 1024 * 32;
  const i32 begin = min(thread / 32 * share, (keySize - 32)), end = min(begin + share, (keySize - 32));
  const bool cached = (keySize - 32) <= 16384;   // a longer row is evaluated in every sweep
  if (cached) {
    #pragma unroll 1
    for (i32 i = begin + lane; i < end; i += 32) keys[i] = scoreAt(i);   // a thread reads only what it wrote itself
  }
  const auto keyAt = [&](i32 i) -> u32 { return cached ? u32(keys[i]) : scoreAt(i); };
  Global<i32> best = kept + (i64(kvHead * 4 + group) * selectedSize);
  enum { foundBin, foundNeed, foundCount, candidateCount };   // the words of state
  if (selectedSize > 0) {
    // Taken: all keys above the threshold and `need` of those equal to it. `open` has the bits not yet known
    u32 threshold = 0, open = ~0u, need = selectedSize;
    if (thread == 0) state[candidateCount] = 0;
    for (i32 shift = 21;; shift = max(shift - 11, 0)) {
      for (i32 i = 0; i < 2; ++i) histogram[i * 1024 + thread] = 0;
      blockBarrier();
      #pragma unroll 1
      for (i32 i = begin + lane; i < end; i += 32) {
        const u32 own = keyAt(i);
        if (own - threshold <= open) fetchAdd(histogram, own >> shift & 2047, 1);
      }
      blockBarrier();
      u32 count[2], sum = 0;   // of neighbouring bins, thread 0 has the topmost
      for (i32 i = 0; i < 2; ++i) {
        count[i] = histogram[2047 - (thread * 2 + i)];
        sum += count[i];
      }
      u32 higher = blockScan<1024>(sum, totals).before;
      for (i32 i = 0; i < 2; higher += count[i++])
        if (higher < need && need <= higher + count[i]) {
          state[foundBin] = 2047 - (thread * 2 + i);
          state[foundNeed] = need - higher, state[foundCount] = count[i];
        }
      blockBarrier();
      threshold |= state[foundBin] << shift;
      need = state[foundNeed];
      open = (1u << shift) - 1;
      if (shift == 0 || state[foundCount] <= 512) break;
    }
    if (open != 0) {   // few are left in the bin: rank them
      #pragma unroll 1
      for (i32 i = begin + lane; i < end; i += 32) {
        const u32 own = keyAt(i);
        if (own - threshold <= open) candidates[fetchAdd(state, candidateCount, 1)] = own;
      }
      blockBarrier();
      const i32 count = state[foundCount];
      if (thread < count) {
        const u32 own = candidates[thread];
        u32 higher = 0, tied = 0;   // of equal candidates each has a rank of its own, so that one thread writes
        for (i32 i = 0; i < count; ++i) higher += candidates[i] > own, tied += i < thread && candidates[i] == own;
        if (higher + tied + 1 == need) state[foundBin] = own, state[foundNeed] = tied + 1;
      }
      blockBarrier();
      threshold = state[foundBin];
      need = state[foundNeed];
    }
    // Number the elements above and equal to the threshold: first those of the warps before this one
    u32 above = 0, equal = 0;
    #pragma unroll 1
    for (i32 i = begin + lane; i < end; i += 32) {
      const u32 own = keyAt(i);
      above += own > threshold, equal += own == threshold;
    }
    above = shuffleFrom(blockScan<1024>(above, totals).before, 0);
    blockBarrier();
    equal = shuffleFrom(blockScan<1024>(equal, totals).before, 0);
    #pragma unroll 1
    for (i32 first = begin; first < end; first += 32) {
      const i32 i = first + lane;
      const u32 own = i < end ? keyAt(i) : 0u;   // 0 is below every score
      const bool isAbove = own > threshold, isEqual = own == threshold;
      const u32 aboves = ballot(isAbove), equals = ballot(isEqual), before = (1u << lane) - 1;
      const u32 ahead = above + __popc(aboves & before), tied = equal + __popc(equals & before);
      if (isAbove || (isEqual && tied < need)) best[ahead + min(tied, need)] = i;
      above += __popc(aboves), equal += __popc(equals);
    }
  }
}

// gatherKeys: keys bf16[kvHead 8, group 4, kept selected + 32, dim 128], values bf16[kvHead 8, group 4, kept selected + 32, dim 128], positions i32[kvHead 8, group 4, kept selected + 32]
// each thread computes elements by itself. 4 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
gatherKeys(Global<const bf16> k, Global<const i32> kept, Global<const bf16> v, Global<bf16> keys,
           Global<bf16> values, Global<i32> positions, i32 keySize, i32 selectedSize) {
  const i32 thread = threadIdx.x;
  const i32 tile = i32(blockIdx.x) % (((selectedSize + 32) * 128 + 255) / 256);
  const i32 blocksLeft = i32(blockIdx.x) / (((selectedSize + 32) * 128 + 255) / 256);
  const i32 group = blocksLeft % 4;
  const i32 kvHead = blocksLeft / 4;
  const i32 itemLane = thread;
  const i32 item = tile * 256 + itemLane;
  const i32 kept2 = item / 128;
  const i32 dim = item % 128;
  // a + size(key - 32); concat along kept   snapkv.ts:56
  // gather along key   snapkv.ts:57
  if (item < (selectedSize + 32) * 128) {
    keys[((i64(kvHead) * 4 + group) * (selectedSize + 32) + kept2) * 128 + dim] = k[(i64(kvHead) * keySize + max(0, min(kept2 < selectedSize ? i32(kept[(i64(kvHead) * 4 + group) * selectedSize + kept2]) : i32(u32(kept2 - selectedSize) + u32(keySize - 32)), keySize - 1))) * 128 + dim];
  }
  // a + size(key - 32); concat along kept   snapkv.ts:56
  // gather along key   snapkv.ts:57
  if (item < (selectedSize + 32) * 128) {
    values[((i64(kvHead) * 4 + group) * (selectedSize + 32) + kept2) * 128 + dim] = v[(i64(kvHead) * keySize + max(0, min(kept2 < selectedSize ? i32(kept[(i64(kvHead) * 4 + group) * selectedSize + kept2]) : i32(u32(kept2 - selectedSize) + u32(keySize - 32)), keySize - 1))) * 128 + dim];
  }
  // a + size(key - 32); concat along kept   snapkv.ts:56
  if (item < (selectedSize + 32) * 128 && dim == 0) {
    positions[(i64(kvHead) * 4 + group) * (selectedSize + 32) + kept2] = kept2 < selectedSize ? i32(kept[(i64(kvHead) * 4 + group) * selectedSize + kept2]) : i32(u32(kept2 - selectedSize) + u32(keySize - 32));
  }
}
