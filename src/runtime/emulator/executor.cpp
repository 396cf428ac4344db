// Runs one block: its threads are fibers, and a scheduler on the worker's own stack decides which one goes on. A fiber
// runs until it meets a barrier or an exchange of its warp, fails, or ends.
#include "worker.h"
#include <cstring>
#include <sys/mman.h>

namespace emu {

Statistics statistics;

namespace {

constexpr u32 untouched = 0x7fbd7fbd;  // NaN as f32, and both halves NaN as f16 and as bf16

void stopFiber(Fiber* fiber, Stop stopped, i32 line) {
  fiber->stopped = stopped;
  fiber->line = line;
  emuSwitch(&fiber->stackPointer, static_cast<Worker*>(fiber->worker)->scheduler);
}

void failFiber(Fiber* fiber, const Failure& failure) {
  static_cast<Worker*>(fiber->worker)->failure = failure;
  stopFiber(fiber, Stop::failed, failure.line);
  __builtin_unreachable();
}

void fiberEntry() {
  Fiber* fiber = self();
  const Launch& launch = *static_cast<Worker*>(fiber->worker)->launch;
  launch.kernel->run(launch.arguments.data(), launch.extents.data());
  stopFiber(fiber, Stop::finished, 0);
}

Index3 threadAt(const Launch& launch, u32 linear) {
  return {linear % launch.block.x, linear / launch.block.x % launch.block.y, linear / launch.block.x / launch.block.y};
}

std::string threadOf(const Worker& worker, u32 warp, u32 lane) {
  return placeText(threadAt(*worker.launch, warp * warpLanes + lane));
}

const char* word(Stop stopped) {
  switch (stopped) {
    case Stop::barrier: return "a barrier";
    case Stop::barrierOr: return "a barrier with a vote";
    case Stop::clusterBarrier: return "a cluster barrier";
    case Stop::shuffle: return "a shuffle";
    case Stop::ballot: return "a ballot";
    case Stop::loadMatrix4: return "a matrix load";
    case Stop::loadMatrix4Transposed: return "a transposed matrix load";
    case Stop::mmaBf16:
    case Stop::mmaF16: return "a matrix multiplication";
    default: return "its end";
  }
}

}  // namespace

std::string placeText(Index3 at) {
  return "(" + std::to_string(at.x) + "," + std::to_string(at.y) + "," + std::to_string(at.z) + ")";
}
std::string threadName(const Fiber* fiber) { return placeText(fiber->thread); }
// One line of text per place, so that a message has both
std::string lineText(const Launch& launch, i32 line) { return "line " + std::to_string(line) + quoteLine(launch, line); }

void report(Worker& worker, int error, const std::string& who, const std::string& what, i32 line) {
  Launch& launch = *worker.launch;
  std::string text = "kernel '" + launch.name + "', block " + placeText(worker.block) + who;
  if (line > 0) text += ", line " + std::to_string(line);
  text += ": " + what + quoteLine(launch, line);
  if (!launch.failed.exchange(true)) launch.report = {error, text};
  launch.stop = true;
}

// Starts or continues one thread. False: the kernel failed
bool runThread(Worker& worker, u32 w, u32 lane) {
  Launch& launch = *worker.launch;
  Fiber*& slot = worker.warps[w].lanes[lane];
  WarpState& state = worker.states[w];
  const u32 bit = 1u << lane;
  if (slot == nullptr) {
    Fiber* fiber = slot = worker.stacks.take();
    fiber->thread = threadAt(launch, w * warpLanes + lane);
    fiber->block = worker.block;
    fiber->blockDim = &launch.block;
    fiber->gridDim = &launch.grid;
    fiber->linear = w * warpLanes + lane;
    fiber->line = 0;
    fiber->parity = 0;
    fiber->warp = &worker.warps[w];
    fiber->shared = worker.arena;
    fiber->sharedBytes = launch.sharedBytes;
    fiber->worker = &worker;
    fiber->stop = stopFiber;
    fiber->fail = failFiber;
    fiber->stackPointer = freshStack(fiber, fiberEntry);
    worker.copies[fiber->linear].restart();
  }
  Fiber* fiber = slot;
  fiber->stopped = Stop::none;
  worker.current = fiber;
  emuSwitch(&worker.scheduler, fiber->stackPointer);
  worker.current = nullptr;
  ++worker.switches;
  state.ready &= ~bit;
  switch (fiber->stopped) {
    case Stop::barrier:
    case Stop::barrierOr:
    case Stop::clusterBarrier: state.atBarrier |= bit; return true;
    case Stop::shuffle:
    case Stop::ballot:
    case Stop::loadMatrix4:
    case Stop::loadMatrix4Transposed:
    case Stop::mmaBf16:
    case Stop::mmaF16: state.exchanging |= bit; return true;
    case Stop::finished:
      state.exited |= bit;
      worker.stacks.giveBack(fiber);
      slot = nullptr;
      return true;
    default: break;
  }
  const std::string who = ", thread " + threadOf(worker, w, lane);
  if (worker.fault != nullptr) {
    report(worker, worker.faultError, who, worker.fault, 0);
    worker.fault = nullptr;
  } else {
    const Wrong wrong = worker.failure.wrong;
    const int error = wrong == Wrong::globalIndex || wrong == Wrong::sharedIndex || wrong == Wrong::sharedPlace || wrong == Wrong::peerRank ? illegalAddress
      : wrong == Wrong::globalAlignment || wrong == Wrong::sharedAlignment || wrong == Wrong::argument ? misalignedAddress : launchFailed;
    report(worker, error, who, describe(launch, worker.failure), worker.failure.line);
  }
  return false;
}

// When no lane of the warp can run: lanes that wait for each other exchange. False: they cannot
bool exchange(Worker& worker, u32 w) {
  WarpState& state = worker.states[w];
  Warp& warp = worker.warps[w];
  if (state.exchanging == 0) return true;
  const Fiber* first = warp.lanes[lowest(state.exchanging)];
  const std::string who = ", thread " + threadOf(worker, w, lowest(state.exchanging));
  if (state.exited != 0) {
    report(worker, launchFailed, who, std::string("waits in ") + word(first->stopped) + " for thread " +
      threadOf(worker, w, lowest(state.exited)) + " of its warp, which has exited", first->line);
    return false;
  }
  if (state.atBarrier != 0) {
    const u32 lane = lowest(state.atBarrier);
    report(worker, launchFailed, who, std::string("waits in ") + word(first->stopped) + " for thread " + threadOf(worker, w, lane) +
      " of its warp, which waits at the barrier of " + lineText(*worker.launch, warp.lanes[lane]->line), first->line);
    return false;
  }
  u32 votes = 0;
  for (u32 rest = state.exists; rest != 0; rest &= rest - 1) {
    const u32 lane = lowest(rest);
    const Fiber* fiber = warp.lanes[lane];
    if (fiber->line != first->line || fiber->stopped != first->stopped) {
      report(worker, launchFailed, who, std::string("is in ") + word(first->stopped) + " while thread " + threadOf(worker, w, lane) +
        " of its warp is in " + word(fiber->stopped) + " at " + lineText(*worker.launch, fiber->line), first->line);
      return false;
    }
    votes |= u32(warp.slots[fiber->parity][lane][0] & 1) << lane;
  }
  if (first->stopped == Stop::ballot) warp.ballot = votes;
  if (isMatrixWork(first->stopped)) {
    if (state.exists != ~0u) {
      report(worker, launchFailed, who, std::string("is in ") + word(first->stopped) + ", which takes the 32 threads of a full warp; this one has " +
        std::to_string(__builtin_popcount(state.exists)), first->line);
      return false;
    }
    matrixWork(warp, first->stopped);
  }
  state.ready = state.exchanging;
  state.exchanging = 0;
  return true;
}

namespace {

void growArena(Worker& worker, u64 bytes) {
  const auto map = [](u64 size) {
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) __builtin_trap();
    return at;
  };
  if (worker.arena != nullptr) {
    munmap(worker.arena, worker.arenaBytes);
    munmap(worker.shadow, worker.arenaBytes * sizeof(Shadow));
  }
  worker.arenaBytes = (bytes + 65535) & ~65535ull;
  worker.arena = static_cast<u8*>(map(worker.arenaBytes));
  worker.shadow = static_cast<Shadow*>(map(worker.arenaBytes * sizeof(Shadow)));
}

void nextEpoch(Worker& worker) {
  ++worker.epoch;
  for (u32 w = 0; w < worker.warpCount; ++w) {
    worker.warps[w].shadow = worker.shadow;
    worker.warps[w].epoch = worker.epoch;
  }
}

// When no warp can run: opens the barrier, unless it is the cluster's
Turn openBarrier(Worker& worker) {
  const Fiber* first = nullptr;
  u32 firstWarp = 0, firstLane = 0, exitedWarp = maxWarps, count = 0;
  bool any = false;
  for (u32 w = 0; w < worker.warpCount; ++w) {
    const WarpState& state = worker.states[w];
    if (state.exited != 0 && exitedWarp == maxWarps) exitedWarp = w;
    for (u32 rest = state.atBarrier; rest != 0; rest &= rest - 1) {
      const u32 lane = lowest(rest);
      const Fiber* fiber = worker.warps[w].lanes[lane];
      if (first == nullptr) first = fiber, firstWarp = w, firstLane = lane;
      if (fiber->line != first->line || fiber->stopped != first->stopped) {
        report(worker, launchFailed, ", thread " + threadOf(worker, firstWarp, firstLane), std::string("is at ") + word(first->stopped) +
          " while thread " + threadOf(worker, w, lane) + " is at " + word(fiber->stopped) + " at " + lineText(*worker.launch, fiber->line), first->line);
        return Turn::over;
      }
      any |= fiber->stopped == Stop::barrierOr && fiber->anyVote;
      ++count;
    }
  }
  if (first == nullptr) return Turn::over;
  if (exitedWarp != maxWarps) {
    report(worker, launchFailed, ", thread " + threadOf(worker, firstWarp, firstLane), std::string("waits at ") + word(first->stopped) +
      " for thread " + threadOf(worker, exitedWarp, lowest(worker.states[exitedWarp].exited)) + ", which has exited", first->line);
    return Turn::over;
  }
  if (first->stopped == Stop::clusterBarrier && worker.warps[0].cluster != nullptr) return Turn::cluster;
  if (first->stopped == Stop::barrierOr)
    for (u32 w = 0; w < worker.warpCount; ++w)
      for (u32 rest = worker.states[w].atBarrier; rest != 0; rest &= rest - 1) worker.warps[w].lanes[lowest(rest)]->anyVote = any;
  releaseBarrier(worker);
  return Turn::again;
}

}  // namespace

void releaseBarrier(Worker& worker) {
  nextEpoch(worker);
  for (u32 w = 0; w < worker.warpCount; ++w) {
    WarpState& state = worker.states[w];
    state.ready = state.atBarrier;
    state.atBarrier = 0;
  }
}

const Fiber* waitingFiber(const Worker& worker) {
  for (u32 w = 0; w < worker.warpCount; ++w)
    if (worker.states[w].atBarrier != 0) return worker.warps[w].lanes[lowest(worker.states[w].atBarrier)];
  return nullptr;
}

Turn runTurn(Worker& worker) { return runPhase(worker, worker.launch->order) ? openBarrier(worker) : Turn::over; }

Worker* makeWorker() { return new Worker; }

void startBlock(Worker& worker, Launch& launch, u64 block) {
  worker.launch = &launch;
  worker.block = {u32(block % launch.grid.x), u32(block / launch.grid.x % launch.grid.y), u32(block / launch.grid.x / launch.grid.y)};
  worker.random = mix(launch.order.seed ^ mix(block));
  const u32 threads = launch.block.x * launch.block.y * launch.block.z;
  worker.warpCount = (threads + warpLanes - 1) / warpLanes;
  for (u32 w = 0; w < worker.warpCount; ++w) {
    const u32 lanes = threads - w * warpLanes;
    const u32 mask = lanes >= warpLanes ? ~0u : (1u << lanes) - 1;
    worker.states[w] = {mask, mask, 0, 0, 0};
    std::memset(worker.warps[w].lanes, 0, sizeof worker.warps[w].lanes);
    worker.warps[w].exists = mask;
    worker.warps[w].cluster = nullptr, worker.warps[w].rank = 0;
    worker.warps[w].copies = &copyQueues;
  }
  if (launch.sharedBytes > worker.arenaBytes) growArena(worker, launch.sharedBytes);
  nextEpoch(worker);
  for (u32 w = 0; w < worker.warpCount; ++w) worker.warps[w].firstEpoch = worker.epoch;
  for (u64 i = 0; i < (u64(launch.sharedBytes) + 3) / 4; ++i) reinterpret_cast<u32*>(worker.arena)[i] = untouched;

}

void endBlock(Worker& worker) {
  for (u32 w = 0; w < worker.warpCount; ++w)
    for (Fiber* fiber : worker.warps[w].lanes)
      if (fiber != nullptr) worker.stacks.giveBack(fiber);
  statistics.blocks.fetch_add(1, std::memory_order_relaxed);
  statistics.switches.fetch_add(worker.switches, std::memory_order_relaxed);
  worker.switches = 0;
}

void runBlock(Worker* worker, Launch& launch, u64 block) {
  startBlock(*worker, launch, block);
  while (runTurn(*worker) == Turn::again) {}
  endBlock(*worker);
}

Fiber* runningFiber(Worker* worker) { return worker->current; }

void abandonFiber(Worker* worker, int error, const char* sentence) {
  Fiber* fiber = worker->current;
  worker->fault = sentence;
  worker->faultError = error;
  fiber->stopped = Stop::failed;
  emuSwitch(&fiber->stackPointer, worker->scheduler);
}

}  // namespace emu
