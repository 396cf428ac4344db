// Shared memory of other blocks: what a kernel of a cluster reads of its peers. A peer must not have ended, and a cluster
// barrier must lie between its writing and this reading, and between the reading and its next writing. The first is
// always checked; the others with WEFT_CHECK_RACES, and otherwise show as wrong values under some order of blocks.
#pragma once
#include "accessors.h"

namespace emu {

template <int N> inline u32 peerValue(const Shared<u32, N>& array, const Index& i, i32 rank) {
  const Fiber* fiber = self();
  const Cluster* cluster = fiber->warp->cluster;
  const u32 blocks = cluster == nullptr ? 1 : cluster->size;
  if (u32(rank) >= blocks) fail({Wrong::peerRank, i.line, false, rank, blocks, 0, nullptr, nullptr});
  if (u32(rank) == fiber->warp->rank) return array[i];
  if (i.value >= u64(N)) outOfRange(true, false, i.value, N, 4, array.base, i.line);
  if (cluster->ended[rank]) fail({Wrong::peerEnded, i.line, false, rank, 0, 0, nullptr, nullptr});
  const u64 offset = reinterpret_cast<const u8*>(array.base + i.value) - fiber->shared;
  touchPeer(array.base, i.value, N, u32(rank), i.line);
  return *reinterpret_cast<const u32*>(cluster->arenas[rank] + offset);
}

inline void clusterBarrier(i32 line) {
  Fiber* fiber = self();
  fiber->stop(fiber, Stop::clusterBarrier, line);
}

}  // namespace emu
