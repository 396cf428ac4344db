// One worker: a thread of the library with its stacks, its arena and the block that it runs.
#pragma once
#include "fibers.h"
#include "internal.h"

namespace emu {

constexpr u32 maxWarps = 32;

// Sets of lanes
struct WarpState {
  u32 exists, ready, exchanging, atBarrier, exited;
};

struct QueuedCopy {
  Copy copy;
  u32 group;                             // how many its thread had committed before it
  bool landed;
};
struct ThreadCopies {
  std::vector<QueuedCopy> waiting;       // in the order of their start
  u32 committed = 0;                     // groups

  void restart() { waiting.clear(), committed = 0; }
};

struct Worker {
  Stacks stacks;
  Launch* launch = nullptr;
  Index3 block{};
  u64 number = 0;                        // of the block, counted along the grid
  u8* arena = nullptr;
  u8* arenaEnd = nullptr;                // of the mapping, which has arenaBytes
  u64 arenaBytes = 0;
  Shadow* shadow = nullptr;              // of the arena, touched by watched kernels
  u32 ownClock = 1;
  u32* clock = &ownClock;                // counts epochs, of all blocks that run together
  u32 epoch = 0;                         // of the block, begun with it and by each of its barriers
  u32 firstEpoch = 0;                    // the block's
  u32 warpCount = 0;
  Warp warps[maxWarps];
  WarpState states[maxWarps];
  ThreadCopies copies[maxWarps * warpLanes];
  void* scheduler = nullptr;             // the saved place of the worker's own stack
  Fiber* volatile current = nullptr;     // the fiber that runs; null while the scheduler does
  Failure failure{};                     // of the current fiber
  const char* fault = nullptr;           // a failure found by a signal handler, already in words
  int faultError = 0;
  u64 faultAddress = 0;
  volatile bool allocating = false;      // the fiber is in a function of the library that the watchdog must not leave
  u64 random = 0;
  u64 switches = 0;
  Cluster cluster{};                     // of the blocks that run together, this one and the peers
  Worker* peers[maxCluster] = {};
};

inline u32 lowest(u32 mask) { return u32(__builtin_ctz(mask)); }

inline u64 mix(u64 x) {  // splitmix64
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

// ---- executor.cpp ----
void startBlock(Worker& worker, Launch& launch, u64 block);
// What came of running a block up to its next barrier: it is over (or failed), goes on, or is at the cluster's barrier
enum class Turn { over, again, cluster };
Turn runTurn(Worker& worker);
void endBlock(Worker& worker);
const Fiber* waitingFiber(const Worker& worker);     // the first thread at a barrier
void releaseBarrier(Worker& worker);                 // all threads that are at it go on
void report(Worker& worker, int error, const std::string& who, const std::string& what, i32 line, i32 otherLine = 0);  // otherLine: a second one that the sentence names
std::string placeText(Index3 at);
std::string threadName(const Fiber* fiber);
bool runThread(Worker& worker, u32 warp, u32 lane);  // until it stops; false: the kernel failed
bool exchange(Worker& worker, u32 warp);             // when no lane of the warp can run; false: they wait in vain
// ---- copies.cpp ----
void startCopy(Fiber* fiber, const Copy& copy);
void commitCopies(Fiber* fiber);
void waitForCopies(Fiber* fiber, u32 but);
// ---- watch.cpp ----
void touch(Fiber* fiber, const Touch& touch);
void touchPeer(Fiber* fiber, const Touch& touch, u32 rank);
void settle(Worker& worker, const u8* at, u64 bytes);  // an asynchronous copy to these bytes has landed
// ---- matrices.cpp ----
bool isMatrixWork(Stop stop);
void matrixWork(const Warp& warp, Stop stop);        // for a warp whose lanes have all come to it
// ---- orders.cpp ----
bool runPhase(Worker& worker, const Order& order);   // all threads as far as they come; false: the kernel failed

}  // namespace emu
