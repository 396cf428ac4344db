// Asynchronous copies. A copy may land at any time between its start and its wait, so the orders of threads differ in
// it: in some every copy lands at once, which shows a source or a target that is used again too early; in the others it
// lands in its wait and the target holds NaN until then, which shows a value that is read too early. Random tosses.
#include "worker.h"
#include <cstring>

namespace emu {

namespace {

constexpr u32 inFlight = 0x7fbd7fbd;  // NaN as f32, and both halves NaN as f16 and as bf16

ThreadCopies& queueOf(const Fiber* fiber) { return static_cast<Worker*>(fiber->worker)->copies[fiber->linear]; }

void copy(const Copy& c) {
  if (c.from == nullptr) std::memset(c.to, 0, 16);
  else std::memcpy(c.to, c.from, 16);
}

bool landsAtOnce(Worker& worker) {
  switch (worker.launch->order.kind) {
    case Order::descending:
    case Order::warpGreedyDescending: return true;
    case Order::random: return (worker.random = mix(worker.random)) >> 63;
    default: return false;
  }
}

void start(Fiber* fiber, const Copy& started) {
  ThreadCopies& queue = queueOf(fiber);
  queue.waiting.push_back({started, landsAtOnce(*static_cast<Worker*>(fiber->worker))});
  QueuedCopy& last = queue.waiting.back();
  last.copy.group = queue.committed;
  if (last.landed) return copy(last.copy);
  for (u32 i = 0; i < 4; ++i) std::memcpy(last.copy.to + 4 * i, &inFlight, 4);
}

void commit(Fiber* fiber) { ++queueOf(fiber).committed; }

const Copy* land(Fiber* fiber, u32 but) {
  ThreadCopies& queue = queueOf(fiber);
  if (queue.first == queue.waiting.size() || queue.waiting[queue.first].copy.group + u64(but) >= queue.committed) {
    queue.waiting.erase(queue.waiting.begin(), queue.waiting.begin() + std::ptrdiff_t(queue.first));
    queue.first = 0;
    return nullptr;
  }
  QueuedCopy& next = queue.waiting[queue.first++];
  if (!next.landed) copy(next.copy);
  return &next.copy;
}

}  // namespace

const CopyQueues copyQueues = {start, commit, land};

}  // namespace emu
