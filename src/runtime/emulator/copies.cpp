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

}  // namespace

void startCopy(Fiber* fiber, const Copy& started) {
  ThreadCopies& queue = queueOf(fiber);
  Worker& worker = *static_cast<Worker*>(fiber->worker);
  const bool atOnce = landsAtOnce(worker);
  worker.allocating = true;
  queue.waiting.push_back({started, queue.committed, atOnce});
  worker.allocating = false;
  if (atOnce) return copy(started);
  for (u32 i = 0; i < 4; ++i) std::memcpy(started.to + 4 * i, &inFlight, 4);
}

void commitCopies(Fiber* fiber) { ++queueOf(fiber).committed; }

void waitForCopies(Fiber* fiber, u32 but) {
  Worker& worker = *static_cast<Worker*>(fiber->worker);
  ThreadCopies& queue = queueOf(fiber);
  auto next = queue.waiting.begin();
  for (; next != queue.waiting.end() && next->group + u64(but) < queue.committed; ++next) {
    if (!next->landed) copy(next->copy);
    if (worker.launch->kernel->watched) settle(worker, next->copy.to, 16);
  }
  queue.waiting.erase(queue.waiting.begin(), next);
}

}  // namespace emu
