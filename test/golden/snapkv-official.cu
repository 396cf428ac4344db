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

// computeVotes: votes f32[kvHead 8, group 4, past key - 32]
// blocks along kvHead, tiles of group; rows group × window; streams past. 10 nodes fused
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
  Shared<bf16, 24576> kTile = sharedAt<bf16, 24576>(0);   // past 64 × dim 128
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
      #pragma unroll
      for (i32 pastI = 0; pastI < 4; ++pastI) {
        if (thread % 4 == 0 && pastStart + pastPart + pastI * 8 + pastLane < keySize - 32) {
          votes[(i64(kvHead) * 4 + groupLane) * (keySize - 32) + pastStart + pastPart + pastI * 8 + pastLane] = sum[pastI];
        }
      }
    }
    slot = slot + 1 == 3 ? 0 : slot + 1;
  }
}

// selectKept: kept i32[kvHead 8, group 4, kept selected]
// a cluster of 4 blocks selects of one row. 2 nodes fused
extern "C" __global__ void __cluster_dims__(4) __launch_bounds__(1024, 1)
selectKept(Global<const f32> votes, Global<i32> kept, i32 keySize, i32 selectedSize) {
  const i32 thread = threadIdx.x;
  const i32 rank = i32(blockIdx.x) % 4;
  const i32 blocksLeft = i32(blockIdx.x) / 4;
  const i32 group = blocksLeft % 4;
  const i32 kvHead = blocksLeft / 4;
  Shared<u32, 2048> histogram = sharedAt<u32, 2048>(0);   // bin 2048
  Shared<u32, 512> candidates = sharedAt<u32, 512>(8192);   // candidate 512
  Shared<u32, 512> gathered = sharedAt<u32, 512>(10240);   // candidate 512
  Shared<u32, 64> totals = sharedAt<u32, 64>(12288);   // warp 64
  Shared<u32, 6> state = sharedAt<u32, 6>(12544);   // word 6
  Shared<u32, 16384> keys = sharedAt<u32, 16384>(12576);   // element 16384
  // window max 7 over past   snapkv.ts:48
  // topK selected over past as kept, by position   snapkv.ts:55
  if (selectedSize > 0) {
    // A key is an integer with the order of the score: -infinity < ... < -0 = +0 < ... < infinity < NaN
    const auto keyAt = [&](i32 past) -> u32 {
      f32 most = -infinity;
      for (i32 near = 0; near < 7; ++near) {
        const f32 x = votes[i64(kvHead * 4 + group) * (keySize - 32) + max(min(past + near - 3, keySize - 33), 0)];
        most = maximum(most, x);
      }
      return orderedBits(most);
    };
    // The keys of 4 neighbours that have 4 others before and 4 behind them in the row
    const auto keysWithin = [&](i32 past) -> Vector<u32, 4> {
      f32 votesNear[12];
      loadRow(votesNear, votes + (i64(kvHead * 4 + group) * (keySize - 32) + past - 4));
      // What the 4 windows of 7 have in common, and what only those to the left and to the right have
      f32 most2[4], core = votesNear[4], left = votesNear[3], right = votesNear[8];
      for (i32 e = 5; e < 8; ++e) core = maximum(core, votesNear[e]);
      most2[0] = most2[1] = most2[2] = most2[3] = core;
      #pragma unroll
      for (i32 e = 0; e < 3; ++e) {
        if (e > 0) left = maximum(left, votesNear[3 - e]), right = maximum(right, votesNear[8 + e]);
        most2[2 - e] = maximum(most2[2 - e], left), most2[1 + e] = maximum(most2[1 + e], right);
      }
      Vector<u32, 4> own;
      #pragma unroll
      for (i32 e = 0; e < 4; ++e) own.at[e] = orderedBits(most2[e]);
      return own;
    };
    const i32 shift = i64(kvHead * 4 + group) * (keySize - 32) % 4;   // groups of 4 begin so much before a multiple of 4: their vectors are aligned
    // Positions outside the row get 0, which is below every key
    const auto keysAt = [&](i32 past) -> Vector<u32, 4> {
      if (past >= 4 && past <= (keySize - 32) - 8) return keysWithin(past);
      Vector<u32, 4> own = {};
      #pragma unroll 1
      for (i32 e = 0; e < 4; ++e) {
        own = {own.at[1], own.at[2], own.at[3], u32(past + e) < u32(keySize - 32) ? keyAt(past + e) : 0u};
      }
      return own;
    };
    const i32 lane = thread % 32;
    // A warp has `rounds` times 128 neighbours, a lane 4 of each: positions rise with the warp, the round and the lane
    const i32 rounds = ((keySize - 32) + shift - 1) / 16384 + 1, begin = (rank * 32 + thread / 32) * rounds * 128 + lane * 4 - shift;
    Vector<u32, 4> own;
    const bool held = rounds <= 4;   // longer rows are evaluated in every sweep
    if (held) {
      for (i32 turn = 0, i = begin; turn < rounds; ++turn, i += 128) {
        own = keysAt(i);
        storeVector(keys + (turn * 4096 + thread * 4), own);   // a thread reads only what it wrote itself
      }
    }
    // The elements that this thread has, 4 at a time; of a single round they stay in registers
    const auto sweep = [&](auto visit) {
      #pragma unroll 1
      for (i32 turn = 0, i = begin; turn < rounds; ++turn, i += 128) {
        if (rounds > 1) own = held ? loadVector<4>(keys + (turn * 4096 + thread * 4)) : keysAt(i);
        visit(i);
      }
    };
    Global<i32> best = kept + (i64(kvHead * 4 + group) * selectedSize);
    enum { foundBin, foundNeed, foundCount, candidateCount, aboveCount, equalCount };   // the words of state
    // Taken: all keys above the threshold and `need` of those equal to it. `open` has the bits not yet known
    u32 threshold = 0, open = ~0u, need = selectedSize;
    if (thread == 0) state[candidateCount] = 0;
    for (i32 digit = 21;; digit = max(digit - 11, 0)) {
      for (i32 i = 0; i < 2; ++i) histogram[i * 1024 + thread] = 0;
      blockBarrier();
      sweep([&](i32 i) {
        if (i >= (keySize - 32)) return;
        if (open == ~0u)   // the first digit: no test for each
          for (i32 e = 0; e < 4; ++e) fetchAdd(histogram, own.at[e] >> digit & 2047, 1);
        else
          for (i32 e = 0; e < 4; ++e)
            if (own.at[e] - threshold <= open) fetchAdd(histogram, own.at[e] >> digit & 2047, 1);
      });
      clusterBarrier();
      u32 count[2], sum = 0;   // of neighbouring bins, thread 0 has the topmost
      for (i32 i = 0; i < 2; ++i) {
        count[i] = 0;
        for (i32 peer = 0; peer < 4; ++peer) count[i] += peerValue(histogram, 2047 - (thread * 2 + i), peer);
        sum += count[i];
      }
      u32 higher = blockScan<1024>(sum, totals).before;
      for (i32 i = 0; i < 2; higher += count[i++])
        if (higher < need && need <= higher + count[i]) {
          state[foundBin] = 2047 - (thread * 2 + i);
          state[foundNeed] = need - higher, state[foundCount] = count[i];
        }
      clusterBarrier();   // also: no block clears a histogram that another one reads
      threshold |= state[foundBin] << digit;
      need = state[foundNeed];
      open = (1u << digit) - 1;
      if (digit == 0 || state[foundCount] <= 512) break;
    }
    if (open != 0) {   // few are left in the bin: rank them
      sweep([&](i32 i) {
        if (i >= (keySize - 32)) return;
        for (i32 e = 0; e < 4; ++e)
          if (own.at[e] - threshold <= open) candidates[fetchAdd(state, candidateCount, 1)] = own.at[e];
      });
      clusterBarrier();
      i32 count = 0;
      for (i32 peer = 0; peer < 4; ++peer) {
        const i32 theirs = peerValue(state, candidateCount, peer);
        if (thread < theirs) gathered[count + thread] = peerValue(candidates, thread, peer);
        count += theirs;
      }
      blockBarrier();
      if (thread < count) {
        const u32 candidate = gathered[thread];
        u32 higher = 0, tied = 0;   // of equal candidates each has a rank of its own, so that one thread writes
        for (i32 i = 0; i < count; ++i) higher += gathered[i] > candidate, tied += i < thread && gathered[i] == candidate;
        if (higher + tied + 1 == need) state[foundBin] = candidate, state[foundNeed] = tied + 1;
      }
      blockBarrier();
      threshold = state[foundBin];
      need = state[foundNeed];
    }
    // Number the elements above and equal to the threshold: first those of the warps before this one
    u32 above = 0, equal = 0;
    sweep([&](i32) {
      for (i32 e = 0; e < 4; ++e) above += own.at[e] > threshold, equal += own.at[e] == threshold;
    });
    above = warpSum(above), equal = warpSum(equal);
    if (lane == 0) totals[thread / 32] = above, totals[32 + thread / 32] = equal;
    blockBarrier();
    if (thread == 0) {
      above = equal = 0;
      for (i32 i = 0; i < 32; ++i) above += totals[i], equal += totals[32 + i];
      state[aboveCount] = above, state[equalCount] = equal;
    }
    clusterBarrier();
    above = warpSum(lane < thread / 32 ? u32(totals[lane]) : 0u), equal = warpSum(lane < thread / 32 ? u32(totals[32 + lane]) : 0u);
    for (i32 peer = 0; peer < 3; ++peer)   // and those of the blocks before
      if (peer < rank) above += peerValue(state, aboveCount, peer), equal += peerValue(state, equalCount, peer);
    sweep([&](i32 i) {
      u32 packed = 0;   // above in the lower half, equal in the upper one: a warp has 128 of both at most
      for (i32 e = 0; e < 4; ++e) packed += own.at[e] > threshold ? 1 : own.at[e] == threshold ? 1 << 16 : 0;
      const u32 upTo = warpScan(packed), total = shuffleFrom(upTo, 31), before = upTo - packed;
      u32 ahead = above + (before & 0xffff), tied = equal + (before >> 16);
      for (i32 e = 0; e < 4; ++e) {
        const bool isAbove = own.at[e] > threshold, isEqual = own.at[e] == threshold;
        if (isAbove || (isEqual && tied < need)) best[ahead + min(tied, need)] = i + e;
        ahead += isAbove, tied += isEqual;
      }
      above += total & 0xffff, equal += total >> 16;
    });
    clusterBarrier();   // a block stays while others read its shared memory
  }
}

// gatherKeys: keys bf16[kvHead 8, group 4, kept selected + 32, dim 128], values bf16[kvHead 8, group 4, kept selected + 32, dim 128], positions i32[kvHead 8, group 4, kept selected + 32]
// each thread computes elements by itself. 4 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
gatherKeys(Global<const i32> kept, Global<const bf16> k, Global<const bf16> v, Global<bf16> keys,
           Global<bf16> values, Global<i32> positions, i32 keySize, i32 selectedSize) {
  const i32 thread = threadIdx.x;
  const i32 tile = i32(blockIdx.x) % ((selectedSize + 95) / 64);
  const i32 blocksLeft = i32(blockIdx.x) / ((selectedSize + 95) / 64);
  const i32 group = blocksLeft % 4;
  const i32 kvHead = blocksLeft / 4;
  const i32 kept2Lane = thread / 16;
  const i32 chunkLane = thread % 16;
  // a + size(key - 32); concat along kept   snapkv.ts:56
  // gather along key; gather along key   snapkv.ts:57
  i32 position[4];
  #pragma unroll
  for (i32 kept2I = 0; kept2I < 4; ++kept2I) {
    position[kept2I] = max(0, min(min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31) < selectedSize ? i32(kept[(i64(kvHead) * 4 + group) * selectedSize + min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31)]) : i32(u32(min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31) - selectedSize) + u32(keySize - 32)), keySize - 1));
  }
  i32 position2[4];
  #pragma unroll
  for (i32 kept2I = 0; kept2I < 4; ++kept2I) {
    position2[kept2I] = max(0, min(min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31) < selectedSize ? i32(kept[(i64(kvHead) * 4 + group) * selectedSize + min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31)]) : i32(u32(min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31) - selectedSize) + u32(keySize - 32)), keySize - 1));
  }
  Vector<bf16, 8> keysHere[4];
  #pragma unroll
  for (i32 kept2I = 0; kept2I < 4; ++kept2I) {
    keysHere[kept2I] = loadVector<8>(k + ((i64(kvHead) * keySize + position[kept2I]) * 128 + chunkLane * 8));
  }
  Vector<bf16, 8> valuesHere[4];
  #pragma unroll
  for (i32 kept2I = 0; kept2I < 4; ++kept2I) {
    valuesHere[kept2I] = loadVector<8>(v + ((i64(kvHead) * keySize + position2[kept2I]) * 128 + chunkLane * 8));
  }
  #pragma unroll
  for (i32 kept2I = 0; kept2I < 4; ++kept2I) {
    if (tile * 64 + kept2I * 16 + kept2Lane < selectedSize + 32) {
      storeVector(keys + (((i64(kvHead) * 4 + group) * (selectedSize + 32) + tile * 64 + kept2I * 16 + kept2Lane) * 128 + chunkLane * 8), keysHere[kept2I]);
    }
  }
  #pragma unroll
  for (i32 kept2I = 0; kept2I < 4; ++kept2I) {
    if (tile * 64 + kept2I * 16 + kept2Lane < selectedSize + 32) {
      storeVector(values + (((i64(kvHead) * 4 + group) * (selectedSize + 32) + tile * 64 + kept2I * 16 + kept2Lane) * 128 + chunkLane * 8), valuesHere[kept2I]);
    }
  }
  #pragma unroll
  for (i32 kept2I = 0; kept2I < 4; ++kept2I) {
    if (thread % 16 == 0 && tile * 64 + kept2I * 16 + kept2Lane < selectedSize + 32) {
      positions[(i64(kvHead) * 4 + group) * (selectedSize + 32) + tile * 64 + kept2I * 16 + kept2Lane] = min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31) < selectedSize ? i32(kept[(i64(kvHead) * 4 + group) * selectedSize + min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31)]) : i32(u32(min(tile * 64 + kept2I * 16 + kept2Lane, selectedSize + 31) - selectedSize) + u32(keySize - 32));
    }
  }
}
