// softmaxStatistics: softmaxMParts f32[splits, kvHead 8, group 4, window 32], softmaxLParts f32[splits, kvHead 8, group 4, window 32]
// blocks along kvHead, tiles of group, tiles of window; rows group × window; streams the folded axis. 5 nodes fused
extern "C" __global__ void __launch_bounds__(128, 3)
softmaxStatistics(Global<const bf16> q, Global<const bf16> k, Global<f32> softmaxMParts, Global<f32> softmaxLParts,
                  i32 keySize, i32 querySize, i32 splits) {
  const i32 thread = threadIdx.x;
  const i32 kvHead = i32(blockIdx.x) % 8;
  const i32 share = i32(blockIdx.x) / 8;
  const i32 groupLane = thread / 32;
  const i32 windowLane = (thread % 4) * 2;
  const i32 windowRowLane = thread / 4 % 8;
  const i32 dimLane = (thread % 4) * 2;
  const i32 columnLane = thread / 4 % 8;
  Shared<bf16, 24576> kTile = sharedAt<bf16, 24576>(0);   // column 64 × dim 128
  f32 m[8];
  fill(m, -infinity);
  f32 l[8] = {};
  const i32 tiles = (keySize + 63) / 64;
  const i32 first = share * (tiles / splits) + min(share, tiles % splits);
  const i32 last = (share + 1) * (tiles / splits) + min(share + 1, tiles % splits);
  u32 qPairs[4][8][2];
  #pragma unroll
  for (i32 windowRowI = 0; windowRowI < 4; ++windowRowI) {
    #pragma unroll
    for (i32 pair = 0; pair < 16; ++pair) {
      const i32 dimAt = pair * 8 + dimLane;
      qPairs[windowRowI][pair / 2][pair % 2] = pairBits(loadVector<2>(q + (((i64(kvHead) * 4 + groupLane) * querySize + windowRowI * 8 + windowRowLane + querySize - 32) * 128 + dimAt)));
    }
  }
  const i32 end = min(last * 64, keySize);
  // Of the 3 tiles in shared memory 2 are on their way while one is used
  const auto copyKTile = [&](i32 slot, i32 keyStart) {
    const i32 dimAt2 = (thread % 16) * 8;
    const i32 columnAtFirst = thread / 16;
    const i32 to = (slot * 64 + columnAtFirst) * 128 + (dimAt2 / 8 ^ columnAtFirst % 8) * 8;
    const Global<const bf16> from = k + ((i64(kvHead) * keySize + keyStart + columnAtFirst) * 128 + dimAt2);
    #pragma unroll
    for (i32 turn = 0; turn < 8; ++turn) {
      const i32 columnAt = turn * 8 + columnAtFirst;
      copyAsyncIf(keyStart + columnAt < keySize, kTile + (to + turn * 1024), from + turn * 1024);
    }
  };
  for (i32 ahead = 0; ahead < 2; ++ahead) {
    if (first * 64 + ahead * 64 < end) copyKTile(ahead, first * 64 + ahead * 64);
    copyAsyncCommit();
  }
  #pragma unroll 1
  for (i32 keyStart = first * 64, slot = 0; keyStart < end; keyStart += 64) {
    copyAsyncWait<1>();
    blockBarrier();
    if (keyStart + 128 < end) copyKTile(slot == 0 ? 2 : slot - 1, keyStart + 128);
    copyAsyncCommit();
    #pragma unroll 1
    for (i32 keyPart = 0; keyPart < 64; keyPart += 32) {
      // slice query[query - 32 .. query) as window   snapkv.ts:31
      // contract over dim   snapkv.ts:32
      f32 product[8][4] = {};
      const i32 kTileRow = (slot * 64 + keyPart + thread % 16) * 128;
      const i32 kTileChunk = thread % 32 / 16;
      #pragma unroll
      for (i32 step = 0; step < 8; ++step) {
        u32 kTileHere[2][4];
        #pragma unroll
        for (i32 block = 0; block < 2; ++block) {
          loadMatrix4(kTileHere[block], kTile + (kTileRow + block * 2048 + ((step * 2 + kTileChunk) ^ thread % 8) * 8));
        }
        #pragma unroll
        for (i32 pair2 = 0; pair2 < 4; ++pair2) {
          #pragma unroll
          for (i32 block = 0; block < 2; ++block) {
            mmaBf16(product[pair2 * 2][block * 2], product[pair2 * 2 + 1][block * 2], product[pair2 * 2][block * 2 + 1], product[pair2 * 2 + 1][block * 2 + 1], kTileHere[block], qPairs[pair2][step][0], qPairs[pair2][step][1]);
          }
        }
      }
      // a * 0.0883883461356163   snapkv.ts:33
      // where((key - size(key - 32)) <= row, logit, -Infinity)   snapkv.ts:34
      // expSum.max over key   snapkv.ts:36
      #pragma unroll
      for (i32 windowI = 0; windowI < 8; ++windowI) {
        f32 mNext = m[windowI], x[4];
        #pragma unroll
        for (i32 columnI = 0; columnI < 4; ++columnI) {
          x[columnI] = keyStart + keyPart + columnI * 8 + columnLane < keySize ? (keyStart + keyPart + columnI * 8 + columnLane - (keySize - 32) <= windowI / 2 * 8 + windowLane + windowI % 2 ? product[windowI][columnI] * 0.0883883461f : -infinity) : -infinity;
          mNext = maximum(mNext, x[columnI]);
        }
        const f32 scale = expFast(m[windowI] == mNext ? 0.f : m[windowI] - mNext);
        l[windowI] *= scale;
        m[windowI] = mNext;
        #pragma unroll
        for (i32 columnI = 0; columnI < 4; ++columnI) {
          l[windowI] += keyStart + keyPart + columnI * 8 + columnLane < keySize ? expFast(x[columnI] == mNext ? 0.f : x[columnI] - mNext) : 0.f;
        }
      }
    }
    slot = slot + 1 == 3 ? 0 : slot + 1;
  }
  #pragma unroll
  for (i32 windowI = 0; windowI < 8; ++windowI) {
    for (i32 mask = 4; mask < 32; mask *= 2) {
      const f32 mOther = shuffleXor(m[windowI], mask);
      const f32 lOther = shuffleXor(l[windowI], mask);
      const f32 larger = maximum(m[windowI], mOther);
      const f32 lNext = l[windowI] * expFast(m[windowI] == larger ? 0.f : m[windowI] - larger) + lOther * expFast(mOther == larger ? 0.f : mOther - larger);
      m[windowI] = larger;
      l[windowI] = lNext;
    }
  }
  #pragma unroll
  for (i32 windowI = 0; windowI < 8; ++windowI) {
    if ((thread & 28) == 0) {
      softmaxMParts[((i64(share) * 8 + kvHead) * 4 + groupLane) * 32 + windowI / 2 * 8 + windowLane + windowI % 2] = m[windowI];
    }
  }
  #pragma unroll
  for (i32 windowI = 0; windowI < 8; ++windowI) {
    if ((thread & 28) == 0) {
      softmaxLParts[((i64(share) * 8 + kvHead) * 4 + groupLane) * 32 + windowI / 2 * 8 + windowLane + windowI % 2] = l[windowI];
    }
  }
}

// computeVotes: votes f32[kvHead 8, past key - 32]
// blocks along kvHead; rows group × window; streams past. 11 nodes fused
extern "C" __global__ void __launch_bounds__(128, 3)
computeVotes(Global<const bf16> q, Global<const f32> softmaxMParts, Global<const f32> softmaxLParts,
             Global<const bf16> k, Global<f32> votes, i32 keySize, i32 querySize, i32 splits, i32 shares) {
  const i32 thread = threadIdx.x;
  const i32 kvHead = i32(blockIdx.x) % 8;
  const i32 share = i32(blockIdx.x) / 8;
  const i32 groupLane = thread / 32;
  const i32 windowRowLane = thread / 4 % 8;
  const i32 dimLane = (thread % 4) * 2;
  const i32 windowLane = (thread % 4) * 2;
  const i32 pastLane = thread / 4 % 8;
  const i32 groupWarpLane = thread / 32;
  Shared<bf16, 24576> kTile = sharedAt<bf16, 24576>(0);   // past 64 × dim 128
  Shared<f32, 128> totalScratch = sharedAt<f32, 128>(49152);   // groupWarp 4 × past 32
  const i32 tiles = (keySize + 31) / 64;
  const i32 first = share * (tiles / shares) + min(share, tiles % shares);
  const i32 last = (share + 1) * (tiles / shares) + min(share + 1, tiles % shares);
  u32 qPairs[4][8][2];
  #pragma unroll
  for (i32 windowRowI = 0; windowRowI < 4; ++windowRowI) {
    #pragma unroll
    for (i32 pair = 0; pair < 16; ++pair) {
      const i32 dimAt = pair * 8 + dimLane;
      qPairs[windowRowI][pair / 2][pair % 2] = pairBits(loadVector<2>(q + (((i64(kvHead) * 4 + groupLane) * querySize + windowRowI * 8 + windowRowLane + querySize - 32) * 128 + dimAt)));
    }
  }
  f32 softmaxM[8];
  fill(softmaxM, -infinity);
  f32 softmaxL[8] = {};
  for (i32 part = 0; part < splits; ++part) {
    #pragma unroll
    for (i32 windowI = 0; windowI < 8; ++windowI) {
      const f32 softmaxMPartsHere = softmaxMParts[((i64(part) * 8 + kvHead) * 4 + groupLane) * 32 + windowI / 2 * 8 + windowLane + windowI % 2];
      const f32 larger = maximum(softmaxM[windowI], softmaxMPartsHere);
      const f32 lNext = softmaxL[windowI] * expFast(softmaxM[windowI] == larger ? 0.f : softmaxM[windowI] - larger) + softmaxLParts[((i64(part) * 8 + kvHead) * 4 + groupLane) * 32 + windowI / 2 * 8 + windowLane + windowI % 2] * expFast(softmaxMPartsHere == larger ? 0.f : softmaxMPartsHere - larger);
      softmaxM[windowI] = larger;
      softmaxL[windowI] = lNext;
    }
  }
  // 1 / a   snapkv.ts:36
  f32 quotient[8];
  #pragma unroll
  for (i32 windowI = 0; windowI < 8; ++windowI) quotient[windowI] = 1.f / softmaxL[windowI];
  const i32 end = min(last * 64, keySize - 32);
  // Of the 3 tiles in shared memory 2 are on their way while one is used
  const auto copyKTile = [&](i32 slot, i32 pastStart) {
    const i32 dimAt2 = (thread % 16) * 8;
    const i32 pastAtFirst = thread / 16;
    const i32 to = (slot * 64 + pastAtFirst) * 128 + (dimAt2 / 8 ^ pastAtFirst % 8) * 8;
    const Global<const bf16> from = k + ((i64(kvHead) * keySize + pastStart + pastAtFirst) * 128 + dimAt2);
    #pragma unroll
    for (i32 turn = 0; turn < 8; ++turn) {
      const i32 pastAt = turn * 8 + pastAtFirst;
      copyAsyncIf(pastStart + pastAt < keySize, kTile + (to + turn * 1024), from + turn * 1024);
    }
  };
  for (i32 ahead = 0; ahead < 2; ++ahead) {
    if (first * 64 + ahead * 64 < end) copyKTile(ahead, first * 64 + ahead * 64);
    copyAsyncCommit();
  }
  #pragma unroll 1
  for (i32 pastStart = first * 64, slot = 0; pastStart < end; pastStart += 64) {
    copyAsyncWait<1>();
    blockBarrier();
    if (pastStart + 128 < end) copyKTile(slot == 0 ? 2 : slot - 1, pastStart + 128);
    copyAsyncCommit();
    #pragma unroll 1
    for (i32 pastPart = 0; pastPart < 64; pastPart += 32) {
      f32 total[4] = {};
      f32 sum[4] = {};
      // slice query[query - 32 .. query) as window   snapkv.ts:31
      // contract over dim   snapkv.ts:32
      f32 product[8][4] = {};
      const i32 kTileRow = (slot * 64 + pastPart + thread % 16) * 128;
      const i32 kTileChunk = thread % 32 / 16;
      #pragma unroll
      for (i32 step = 0; step < 8; ++step) {
        u32 kTileHere[2][4];
        #pragma unroll
        for (i32 block = 0; block < 2; ++block) {
          loadMatrix4(kTileHere[block], kTile + (kTileRow + block * 2048 + ((step * 2 + kTileChunk) ^ thread % 8) * 8));
        }
        #pragma unroll
        for (i32 pair2 = 0; pair2 < 4; ++pair2) {
          #pragma unroll
          for (i32 block = 0; block < 2; ++block) {
            mmaBf16(product[pair2 * 2][block * 2], product[pair2 * 2 + 1][block * 2], product[pair2 * 2][block * 2 + 1], product[pair2 * 2 + 1][block * 2 + 1], kTileHere[block], qPairs[pair2][step][0], qPairs[pair2][step][1]);
          }
        }
      }
      // a * 0.0883883461356163   snapkv.ts:33
      // where((key - size(key - 32)) <= row, logit, -Infinity)   snapkv.ts:34
      // a - b; exp(a); 1 / a; a * b   snapkv.ts:36
      // slice key[0 .. key - 32) as past   snapkv.ts:39
      // sum over window   snapkv.ts:40
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) {
        #pragma unroll
        for (i32 windowI = 0; windowI < 8; ++windowI) {
          sum[pastI] = multiplyAdd(expFast(product[windowI][pastI] * 0.0883883461f - softmaxM[windowI]), quotient[windowI], sum[pastI]);
        }
      }
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) {
        for (i32 mask = 1; mask < 4; mask *= 2) sum[pastI] += shuffleXor(sum[pastI], mask);
      }
      // mean over group   snapkv.ts:43
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) total[pastI] += sum[pastI];
      blockBarrier();
      if (thread % 4 == 0) {
        #pragma unroll
        for (i32 pastI = 0; pastI < 4; ++pastI) {
          totalScratch[groupWarpLane * 32 + pastI * 8 + pastLane] = total[pastI];
        }
      }
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) total[pastI] = 0.f;
      blockBarrier();
      for (i32 warp = 0; warp < 4; ++warp) {
        #pragma unroll
        for (i32 pastI = 0; pastI < 4; ++pastI) total[pastI] += totalScratch[warp * 32 + pastI * 8 + pastLane];
      }
      f32 mean[4];
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) mean[pastI] = total[pastI] / 4.f;
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) {
        if ((thread & 99) == 0 && pastStart + pastPart + pastI * 8 + pastLane < keySize - 32) {
          votes[i64(kvHead) * (keySize - 32) + pastStart + pastPart + pastI * 8 + pastLane] = mean[pastI];
        }
      }
    }
    slot = slot + 1 == 3 ? 0 : slot + 1;
  }
}

// selectKept: kept i32[kvHead 8, kept selected]
// one block selects of one row. 2 nodes fused
extern "C" __global__ void __launch_bounds__(1024, 1)
selectKept(Global<const f32> votes, Global<i32> kept, i32 keySize, i32 selectedSize) {
  const i32 thread = threadIdx.x;
  const i32 kvHead = i32(blockIdx.x);
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
      const f32 x = votes[i64(kvHead) * (keySize - 32) + max(min(past + near - 3, keySize - 33), 0)];
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
  Global<i32> best = kept + (i64(kvHead) * selectedSize);
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

// gatherKeys: keys bf16[kvHead 8, kept selected + 32, dim 128], values bf16[kvHead 8, kept selected + 32, dim 128], positions i32[kvHead 8, kept selected + 32]
// each thread computes elements by itself. 4 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
gatherKeys(Global<const bf16> k, Global<const i32> kept, Global<const bf16> v, Global<bf16> keys,
           Global<bf16> values, Global<i32> positions, i32 keySize, i32 selectedSize) {
  const i32 thread = threadIdx.x;
  const i32 tile = i32(blockIdx.x) % (((selectedSize + 32) * 128 + 255) / 256);
  const i32 kvHead = i32(blockIdx.x) / (((selectedSize + 32) * 128 + 255) / 256);
  const i32 itemLane = thread;
  const i32 item = tile * 256 + itemLane;
  const i32 kept2 = item / 128;
  const i32 dim = item % 128;
  // a + size(key - 32); concat along kept   snapkv.ts:56
  // gather along key   snapkv.ts:57
  if (item < (selectedSize + 32) * 128) {
    keys[(i64(kvHead) * (selectedSize + 32) + kept2) * 128 + dim] = k[(i64(kvHead) * keySize + max(0, min(kept2 < selectedSize ? i32(kept[i64(kvHead) * selectedSize + kept2]) : i32(u32(kept2 - selectedSize) + u32(keySize - 32)), keySize - 1))) * 128 + dim];
  }
  // a + size(key - 32); concat along kept   snapkv.ts:56
  // gather along key   snapkv.ts:57
  if (item < (selectedSize + 32) * 128) {
    values[(i64(kvHead) * (selectedSize + 32) + kept2) * 128 + dim] = v[(i64(kvHead) * keySize + max(0, min(kept2 < selectedSize ? i32(kept[i64(kvHead) * selectedSize + kept2]) : i32(u32(kept2 - selectedSize) + u32(keySize - 32)), keySize - 1))) * 128 + dim];
  }
  // a + size(key - 32); concat along kept   snapkv.ts:56
  if (item < (selectedSize + 32) * 128 && dim == 0) {
    positions[i64(kvHead) * (selectedSize + 32) + kept2] = kept2 < selectedSize ? i32(kept[i64(kvHead) * selectedSize + kept2]) : i32(u32(kept2 - selectedSize) + u32(keySize - 32));
  }
}
