// Orders: which thread goes on next. The order is an adversary. CUDA promises nothing between two barriers, so a kernel
// without races computes the same under every order; one that lacks a barrier computes something else, or reads the NaN
// that shared memory starts as, under one of them. Ascending and descending find most, `warp-greedy` lets one warp run
// far ahead of the others, random picks single threads. pool.cpp orders the blocks in the same spirit.
#include "worker.h"
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace emu {

namespace {

// Every ready lane of the warp once
bool stepWarp(Worker& worker, u32 w, bool descending) {
  for (u32 rest = worker.states[w].ready; rest != 0;) {
    const u32 lane = descending ? 31 - u32(__builtin_clz(rest)) : lowest(rest);
    rest &= ~(1u << lane);
    if (!runThread(worker, w, lane)) return false;
  }
  return exchange(worker, w);
}

// One thread of any warp; a run of lanes is as likely as single ones, so that warps drift apart
bool stepRandom(Worker& worker) {
  worker.random = mix(worker.random);
  u32 w = u32(worker.random) % worker.warpCount;
  while (worker.states[w].ready == 0) w = (w + 1) % worker.warpCount;
  u32 turns = worker.random >> 32 & 1 ? 1 : 1 + (worker.random >> 33 & 31);
  for (u64 choice = worker.random >> 40; turns > 0 && worker.states[w].ready != 0; --turns, choice = mix(choice)) {
    const u32 ready = worker.states[w].ready, turn = u32(choice) & 31;
    const u32 rotated = ready >> turn | (turn == 0 ? 0 : ready << (32 - turn));
    if (!runThread(worker, w, (lowest(rotated) + turn) & 31)) return false;
  }
  return worker.states[w].ready != 0 || exchange(worker, w);
}

bool anyReady(const Worker& worker) {
  for (u32 w = 0; w < worker.warpCount; ++w)
    if (worker.states[w].ready != 0) return true;
  return false;
}

}  // namespace

// All threads as far as they come without the barrier. False: the kernel failed
bool runPhase(Worker& worker, const Order& order) {
  const bool descending = order.kind == Order::descending || order.kind == Order::warpGreedyDescending;
  const bool greedy = order.kind == Order::warpGreedy || order.kind == Order::warpGreedyDescending;
  while (anyReady(worker)) {
    if (worker.launch->timedOut) return false;
    if (order.kind == Order::random) {
      if (!stepRandom(worker)) return false;
      continue;
    }
    for (u32 i = 0; i < worker.warpCount; ++i) {
      const u32 w = descending ? worker.warpCount - 1 - i : i;
      do {
        if (worker.states[w].ready != 0 && !stepWarp(worker, w, descending)) return false;
      } while (greedy && worker.states[w].ready != 0 && !worker.launch->timedOut);
    }
  }
  return true;
}

// ---- names ----
bool parseOrder(const char* text, Order& order) {
  const std::string name = text;
  const char* const plain[] = {"ascending", "descending", "warp-greedy", "warp-greedy-descending"};
  for (int i = 0; i < 4; ++i)
    if (name == plain[i]) return order = {static_cast<Order::Kind>(i), 0}, true;
  if (name == "random") return order = {Order::random, 0}, true;
  if (name.rfind("random:", 0) != 0 || name.size() == 7) return false;
  char* end;
  const u64 seed = std::strtoull(name.c_str() + 7, &end, 10);
  return *end == 0 ? order = {Order::random, seed}, true : false;
}

namespace {
std::mutex orderLock;
bool orderIsSet = false;
Order chosenOrder;
}  // namespace

bool setOrder(const char* text) {
  std::lock_guard<std::mutex> lock(orderLock);
  if (text == nullptr || *text == 0) return orderIsSet = false, true;
  return orderIsSet = parseOrder(text, chosenOrder);
}

Order currentOrder() {
  std::lock_guard<std::mutex> lock(orderLock);
  Order order;
  if (orderIsSet) return chosenOrder;
  const char* text = std::getenv("WEFT_EMULATOR_ORDER");
  if (text != nullptr && *text != 0 && !parseOrder(text, order))
    std::fprintf(stderr, "weft emulator: WEFT_EMULATOR_ORDER=%s is not an order; use ascending, descending, warp-greedy, warp-greedy-descending or random:SEED\n", text);
  return order;
}

}  // namespace emu
