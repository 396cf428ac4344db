// computeMapped: mapped f32[point, query]
// blocks along tiles of query; rows query × dim; streams point. 6 nodes fused
extern "C" __global__ void __launch_bounds__(256, 1)
computeMapped(Global<const f32> queries, Global<const f32> points, Global<f32> mapped, i32 pointSize,
              i32 querySize, i32 shares) {
  const i32 thread = threadIdx.x;
  const i32 queryTile = i32(blockIdx.x) % ((querySize + 3) / 4);
  const i32 share = i32(blockIdx.x) / ((querySize + 3) / 4);
  const i32 pointLane = thread / 16;
  const i32 dimLane = thread % 16;
  Shared<f32, 144> queriesTile = sharedAt<f32, 144>(0);   // query 4 × dim 32, rows padded by 4
  Shared<f32, 2304> pointsTile = sharedAt<f32, 2304>(576);   // point 64 × dim 32, rows padded by 4
  const i32 tiles = (pointSize + 63) / 64;
  const i32 first = share * (tiles / shares) + min(share, tiles % shares);
  const i32 last = (share + 1) * (tiles / shares) + min(share + 1, tiles % shares);
  for (i32 item = thread; item < 32; item += 256) {
    const i32 dimAt = (item % 8) * 4;
    const i32 queryAt = item / 8;
    storeVector(queriesTile + (queryAt * 36 + dimAt), queryTile * 4 + queryAt < querySize ? loadVector<4>(queries + (i64(queryTile * 4 + queryAt) * 32 + dimAt)) : Vector<f32, 4>{});
  }
  for (i32 pointStart = first * 64; pointStart < min(last * 64, pointSize); pointStart += 64) {
    f32 sum[4] = {};
    // a * a; sum over dim   programs.ts:27
    #pragma unroll
    for (i32 pointI = 0; pointI < 4; ++pointI) {
      #pragma unroll
      for (i32 dimI = 0; dimI < 2; ++dimI) {
        const f32 x = pointStart + pointI * 16 + pointLane < pointSize ? f32(points[i64(pointStart + pointI * 16 + pointLane) * 32 + dimI * 16 + dimLane]) : 0.f;
        sum[pointI] = multiplyAdd(x, x, sum[pointI]);
      }
    }
    #pragma unroll
    for (i32 pointI = 0; pointI < 4; ++pointI) {
      for (i32 mask = 1; mask < 16; mask *= 2) sum[pointI] += shuffleXor(sum[pointI], mask);
    }
    blockBarrier();
    {
      const i32 dimAt2 = (thread % 8) * 4;
      #pragma unroll
      for (i32 turn = 0; turn < 2; ++turn) {
        const i32 pointAt = turn * 32 + thread / 8;
        storeVector(pointsTile + (pointAt * 36 + dimAt2), pointStart + pointAt < pointSize ? loadVector<4>(points + (i64(pointStart + pointAt) * 32 + dimAt2)) : Vector<f32, 4>{});
      }
    }
    // contract over dim   programs.ts:27
    f32 product[4][4] = {};
    blockBarrier();
    for (i32 dim = 0; dim < 32; dim += 4) {
      f32 queriesTileHere[4][4];
      #pragma unroll
      for (i32 queryI = 0; queryI < 4; ++queryI) {
        const Vector<f32, 4> four = loadVector<4>(queriesTile + (queryI * 36 + dim));
        for (i32 e = 0; e < 4; ++e) queriesTileHere[queryI][e] = four.at[e];
      }
      f32 pointsTileHere[4][4];
      #pragma unroll
      for (i32 pointI = 0; pointI < 4; ++pointI) {
        const Vector<f32, 4> four2 = loadVector<4>(pointsTile + ((pointI * 16 + pointLane) * 36 + dim));
        for (i32 e = 0; e < 4; ++e) pointsTileHere[pointI][e] = four2.at[e];
      }
      #pragma unroll
      for (i32 e = 0; e < 4; ++e) {
        #pragma unroll
        for (i32 queryI = 0; queryI < 4; ++queryI) {
          #pragma unroll
          for (i32 pointI = 0; pointI < 4; ++pointI) {
            product[queryI][pointI] = multiplyAdd(queriesTileHere[queryI][e], pointsTileHere[pointI][e], product[queryI][pointI]);
          }
        }
      }
    }
    // a * 2; a - b   programs.ts:27
    // -a   programs.ts:28
    #pragma unroll
    for (i32 queryI = 0; queryI < 4; ++queryI) {
      #pragma unroll
      for (i32 pointI = 0; pointI < 4; ++pointI) {
        if (thread % 16 == 0 && pointStart + pointI * 16 + pointLane < pointSize && queryTile * 4 + queryI < querySize) {
          mapped[i64(pointStart + pointI * 16 + pointLane) * querySize + queryTile * 4 + queryI] = -(sum[pointI] - product[queryI][pointI] * 2.f);
        }
      }
    }
  }
}

// selectNear: near i32[query, near 10]
// one block selects of one row. 1 node fused
extern "C" __global__ void __launch_bounds__(1024, 1)
selectNear(Global<const f32> mapped, Global<i32> near, i32 pointSize, i32 querySize) {
  const i32 thread = threadIdx.x;
  const i32 query = i32(blockIdx.x);
  Shared<u32, 2048> histogram = sharedAt<u32, 2048>(0);   // bin 2048
  Shared<u32, 512> candidates = sharedAt<u32, 512>(8192);   // candidate 512
  Shared<u32, 64> totals = sharedAt<u32, 64>(10240);   // warp 64
  Shared<u32, 8> state = sharedAt<u32, 8>(10496);   // word 8
  Shared<u32, 16384> keys = sharedAt<u32, 16384>(10528);   // element 16384
  Shared<u32, 10> sortedKeys = sharedAt<u32, 10>(76064);   // rank 10
  Shared<i32, 10> sortedPositions = sharedAt<i32, 10>(76112);   // rank 10
  // topK 10 over point as near, by score   programs.ts:28
  // A key is an integer with the order of the score: -infinity < ... < -0 = +0 < ... < infinity < NaN
  const auto keyAt = [&](i32 point) -> u32 { return orderedBits(mapped[i64(point) * querySize + query]); };
  // Positions outside the row get 0, which is below every key
  const auto keysAt = [&](i32 point) -> Vector<u32, 4> {
    Vector<u32, 4> own = {};
    #pragma unroll
    for (i32 e = 0; e < 4; ++e) {
      own = {own.at[1], own.at[2], own.at[3], u32(point + e) < u32(pointSize) ? keyAt(point + e) : 0u};
    }
    return own;
  };
  const i32 lane = thread % 32;
  // A warp has `rounds` times 128 neighbours, a lane 4 of each: positions rise with the warp, the round and the lane
  const i32 rounds = (pointSize - 1) / 4096 + 1, begin = thread / 32 * rounds * 128 + lane * 4;
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
  Global<i32> best = near + (i64(query) * 10);
  enum { foundBin, foundNeed, foundCount, candidateCount, takenCount, bound };   // the words of state
  // Taken: all keys above the threshold and `need` of those equal to it. `open` has the bits not yet known
  u32 threshold = 0, open = ~0u, need = 10;
  if (thread == 0) state[candidateCount] = 0, state[takenCount] = 0;
  for (i32 digit = 21;; digit = max(digit - 11, 0)) {
    for (i32 i = 0; i < 2; ++i) histogram[i * 1024 + thread] = 0;
    blockBarrier();
    sweep([&](i32 i) {
      if (i >= pointSize) return;
      if (open == ~0u)   // the first digit: no test for each
        for (i32 e = 0; e < 4; ++e) fetchAdd(histogram, own.at[e] >> digit & 2047, 1);
      else
        for (i32 e = 0; e < 4; ++e)
          if (own.at[e] - threshold <= open) fetchAdd(histogram, own.at[e] >> digit & 2047, 1);
    });
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
    threshold |= state[foundBin] << digit;
    need = state[foundNeed];
    open = (1u << digit) - 1;
    if (digit == 0 || state[foundCount] <= 512) break;
  }
  if (open != 0) {   // few are left in the bin: rank them
    sweep([&](i32 i) {
      if (i >= pointSize) return;
      for (i32 e = 0; e < 4; ++e)
        if (own.at[e] - threshold <= open) candidates[fetchAdd(state, candidateCount, 1)] = own.at[e];
    });
    blockBarrier();
    const i32 count = state[candidateCount];
    if (thread < count) {
      const u32 candidate = candidates[thread];
      u32 higher = 0, tied = 0;   // of equal candidates each has a rank of its own, so that one thread writes
      for (i32 i = 0; i < count; ++i) higher += candidates[i] > candidate, tied += i < thread && candidates[i] == candidate;
      if (higher + tied + 1 == need) state[foundBin] = candidate, state[foundNeed] = tied + 1;
    }
    blockBarrier();
    threshold = state[foundBin];
    need = state[foundNeed];
  }
  // Gather what is taken, in any order; of the elements equal to the threshold those at the lowest positions
  u32 equal = 0;
  sweep([&](i32) { for (i32 e = 0; e < 4; ++e) equal += own.at[e] == threshold; });
  equal = warpSum(equal);
  if (lane == 0) totals[thread / 32] = equal;
  blockBarrier();
  equal = warpSum(lane < thread / 32 ? u32(totals[lane]) : 0u);
  sweep([&](i32 i) {
    u32 same = 0;
    for (i32 e = 0; e < 4; ++e) same += own.at[e] == threshold;
    const u32 upTo = warpScan(same);
    u32 tied = equal + upTo - same;
    for (i32 e = 0; e < 4; ++e) {
      const bool isEqual = own.at[e] == threshold;
      if (own.at[e] > threshold || (isEqual && tied < need)) {
        const u32 slot = fetchAdd(state, takenCount, 1);
        sortedKeys[slot] = own.at[e], sortedPositions[slot] = i + e;
      }
      tied += isEqual;
    }
    equal += shuffleFrom(upTo, 31);
  });
  // By falling score, then rising position: a bitonic network; mirrored first steps let it sort any number of elements
  for (i32 run = 1; run < 10; run *= 2)
    for (i32 mask = 2 * run - 1; mask > 0; mask = mask > run ? run / 2 : mask / 2) {
      blockBarrier();
      for (i32 i = thread; i < 10; i += 1024) {
        const i32 j = i ^ mask;
        if (j < i || j >= 10) continue;
        const u32 a = sortedKeys[i], b = sortedKeys[j];
        const i32 atA = sortedPositions[i], atB = sortedPositions[j];
        if (a > b || (a == b && atA < atB)) continue;
        sortedKeys[i] = b, sortedKeys[j] = a;
        sortedPositions[i] = atB, sortedPositions[j] = atA;
      }
    }
  blockBarrier();
  for (i32 i = thread; i < 10; i += 1024) best[i] = sortedPositions[i];
}

// gatherFound: found f32[query, near 10, dim 32]
// each thread computes elements by itself. 1 node fused
extern "C" __global__ void __launch_bounds__(256, 1)
gatherFound(Global<const i32> near, Global<const f32> points, Global<f32> found) {
  const i32 thread = threadIdx.x;
  const i32 tile = i32(blockIdx.x) % 1;
  const i32 query = i32(blockIdx.x) / 1;
  const i32 near2Lane = thread / 8;
  const i32 chunkLane = thread % 8;
  // gather along point   programs.ts:36
  i32 position[4];
  #pragma unroll
  for (i32 near2I = 0; near2I < 4; ++near2I) {
    position[near2I] = near[i64(query) * 10 + min(tile * 128 + near2I * 32 + near2Lane, 9)];
  }
  Vector<f32, 4> foundHere[4];
  #pragma unroll
  for (i32 near2I = 0; near2I < 4; ++near2I) {
    foundHere[near2I] = loadVector<4>(points + (i64(position[near2I]) * 32 + chunkLane * 4));
  }
  #pragma unroll
  for (i32 near2I = 0; near2I < 4; ++near2I) {
    if (tile * 128 + near2I * 32 + near2Lane < 10) {
      storeVector(found + ((i64(query) * 10 + tile * 128 + near2I * 32 + near2Lane) * 32 + chunkLane * 4), foundHere[near2I]);
    }
  }
}
