// Runs the blocks of a cluster together, on one processor: each is a worker of its own, and one after the other goes as
// far as it comes, through its own barriers up to the cluster's. The order of blocks is as adverse as that of threads.
#include "worker.h"

namespace emu {

namespace {

enum class Stage { runs, waits, ended };

// The n-th of the running blocks to go on
u32 nextBlock(Worker& first, const Order& order, const Stage* stages, u32 size) {
  u32 at = 0;
  if (order.kind == Order::random) at = u32(first.random = mix(first.random)) % size;
  const bool descending = order.kind == Order::descending || order.kind == Order::warpGreedyDescending;
  for (u32 n = 0; n < size; ++n) {
    const u32 i = descending ? size - 1 - n : (at + n) % size;
    if (stages[i] == Stage::runs) return i;
  }
  return size;
}

// All blocks that have not ended are at the cluster's barrier. False: not at the same one
bool openClusterBarrier(Worker** blocks, Stage* stages, Cluster& cluster) {
  const Worker* first = nullptr;
  for (u32 i = 0; i < cluster.size; ++i) {
    if (stages[i] != Stage::waits) continue;
    const Fiber* own = waitingFiber(*blocks[i]);
    const Fiber* other = first == nullptr ? own : waitingFiber(*first);
    if (first == nullptr) first = blocks[i];
    if (own->line == other->line) continue;
    report(*blocks[i], launchFailed, ", thread " + threadName(own), "is at a cluster barrier while thread " + threadName(other) + " of block " +
      placeText(first->block) + " is at another one at line " + std::to_string(other->line), own->line, other->line);
    return false;
  }
  cluster.since = *blocks[0]->clock + 1;
  for (u32 i = 0; i < cluster.size; ++i) {
    if (stages[i] != Stage::waits) continue;
    releaseBarrier(*blocks[i]);
    stages[i] = Stage::runs;
  }
  return true;
}

}  // namespace

void runCluster(Worker* own, Launch& launch, u64 number) {
  const u32 size = launch.cluster;
  Worker* blocks[maxCluster];
  Stage stages[maxCluster];
  Cluster& cluster = own->cluster;
  cluster.size = size;
  cluster.begin = cluster.since = *own->clock + 1;
  for (u32 i = 0; i < size; ++i) {
    if (own->peers[i] == nullptr) own->peers[i] = i == 0 ? own : makeWorker();
    Worker& block = *(blocks[i] = own->peers[i]);
    block.clock = own->clock;
    startBlock(block, launch, number * size + i);
    for (u32 w = 0; w < block.warpCount; ++w) block.warps[w].cluster = &cluster, block.warps[w].rank = i;
    stages[i] = Stage::runs;
    cluster.arenas[i] = block.arena, cluster.shadows[i] = block.shadow, cluster.ended[i] = false, cluster.first[i] = block.firstEpoch;
  }
  while (!launch.stop && !launch.timedOut) {
    const u32 i = nextBlock(*own, launch.order, stages, size);
    if (i == size) {
      bool waits = false;
      for (u32 n = 0; n < size; ++n) waits = waits || stages[n] == Stage::waits;
      if (!waits || !openClusterBarrier(blocks, stages, cluster)) break;
      continue;
    }
    setThreadWorker(blocks[i]);
    const Turn turn = runTurn(*blocks[i]);
    if (turn == Turn::cluster) stages[i] = Stage::waits;
    if (turn == Turn::over) stages[i] = Stage::ended, cluster.ended[i] = true;
  }
  setThreadWorker(own);
  for (u32 i = 0; i < size; ++i) endBlock(*blocks[i]);
}

}  // namespace emu
