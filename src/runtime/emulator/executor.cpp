// Runs one block: its threads are fibers, and a scheduler on the worker's own stack decides which one goes on. A fiber
// runs until it meets a barrier or an exchange of its warp, fails, or ends.
#include "worker.h"
#include <cstring>
#include <pthread.h>
#include <signal.h>
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

std::string atLine(i32 line) { return " at line " + std::to_string(line); }

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

void report(Worker& worker, int error, const std::string& who, const std::string& what, i32 line, i32 otherLine) {
  Launch& launch = *worker.launch;
  std::string text = "kernel '" + launch.name + "', block " + placeText(worker.block) + who;
  if (line > 0) text += ", line " + std::to_string(line);
  text += ": " + what + quoteLine(launch, line);
  if (otherLine != line) text += quoteLine(launch, otherLine);
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
    report(worker, worker.faultError, who, worker.fault + neighbourOf(launch, worker.faultAddress), 0);
    worker.fault = nullptr;
  } else {
    report(worker, errorOf(worker.failure.wrong), who, describe(launch, worker.failure, worker.arena), worker.failure.line, worker.failure.other.line);
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
      threadOf(worker, w, lowest(state.exited)) + " of its warp, which has exited: on a GPU the result is undefined", first->line);
    return false;
  }
  if (state.atBarrier != 0) {
    const u32 lane = lowest(state.atBarrier);
    report(worker, launchFailed, who, std::string("waits in ") + word(first->stopped) + " for thread " + threadOf(worker, w, lane) +
      " of its warp, which waits at a barrier" + atLine(warp.lanes[lane]->line) + ": on a GPU the result is undefined", first->line, warp.lanes[lane]->line);
    return false;
  }
  u32 votes = 0;
  for (u32 rest = state.exists; rest != 0; rest &= rest - 1) {
    const u32 lane = lowest(rest);
    const Fiber* fiber = warp.lanes[lane];
    if (fiber->line != first->line || fiber->stopped != first->stopped) {
      report(worker, launchFailed, who, std::string("is in ") + word(first->stopped) + " while thread " + threadOf(worker, w, lane) +
        " of its warp is in " + word(fiber->stopped) + atLine(fiber->line) + ": on a GPU the result is undefined", first->line, fiber->line);
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

constexpr Services services = {startCopy, commitCopies, waitForCopies, touch, touchPeer};

// Between two guard pages, its end at the one behind, whatever the launch asks for
void placeArena(Worker& worker, u64 bytes) {
  const auto map = [](u64 size) {
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) __builtin_trap();
    return static_cast<u8*>(at);
  };
  const u64 guard = guardBytes(), aligned = (bytes + 1023) & ~1023ull;
  if (worker.arenaEnd == nullptr || bytes > worker.arenaBytes) {
    if (worker.arenaEnd != nullptr) {
      munmap(worker.arenaEnd - worker.arenaBytes - guard, worker.arenaBytes + 2 * guard);
      munmap(worker.shadow, worker.arenaBytes * sizeof(Shadow));
    }
    worker.arenaBytes = (bytes + 65536) & ~65535ull;
    u8* const begin = map(worker.arenaBytes + 2 * guard) + guard;
    worker.arenaEnd = begin + worker.arenaBytes;
    if (mprotect(begin - guard, guard, PROT_NONE) != 0 || mprotect(worker.arenaEnd, guard, PROT_NONE) != 0) __builtin_trap();
    worker.shadow = reinterpret_cast<Shadow*>(map(worker.arenaBytes * sizeof(Shadow)));
  }
  worker.arena = worker.arenaEnd - aligned;
}

void nextEpoch(Worker& worker) {
  worker.epoch = ++*worker.clock;
  std::vector<Launch::Start>& starts = worker.launch->starts;
  if (worker.launch->kernel->watched && (starts.empty() || starts.back().block != worker.number)) starts.push_back({worker.epoch, worker.number});
}

// When no warp can run: opens the barrier, unless it is the cluster's
Turn openBarrier(Worker& worker) {
  const Fiber* first = nullptr;
  u32 firstWarp = 0, firstLane = 0, exitedWarp = maxWarps;
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
          " while thread " + threadOf(worker, w, lane) + " is at " + word(fiber->stopped) + atLine(fiber->line) + ": a GPU may take them for one barrier, or wait forever", first->line, fiber->line);
        return Turn::over;
      }
      any |= fiber->stopped == Stop::barrierOr && fiber->anyVote;
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
  worker.number = block;
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
    worker.warps[w].services = &services;
    worker.warps[w].cluster = nullptr, worker.warps[w].rank = 0;
  }
  placeArena(worker, launch.sharedBytes);
  nextEpoch(worker);
  worker.firstEpoch = worker.epoch;
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
i64 sharedByte(Worker* worker, u64 address) {
  const u64 end = reinterpret_cast<u64>(worker->arenaEnd);
  return address >= end && address < end + guardBytes() ? i64(address - reinterpret_cast<u64>(worker->arena)) : -1;
}
bool mayBeAbandoned(Worker* worker) { return !worker->allocating; }

void abandonFiber(Worker* worker, int error, const char* sentence, u64 address) {
  Fiber* fiber = worker->current;
  worker->current = nullptr;  // from here on pokes do nothing
  worker->fault = sentence;
  worker->faultAddress = address;
  sigset_t poke;              // what onPoke left blocked
  sigemptyset(&poke);
  sigaddset(&poke, pokeSignal());
  pthread_sigmask(SIG_UNBLOCK, &poke, nullptr);
  worker->faultError = error;
  fiber->stopped = Stop::failed;
  emuSwitch(&fiber->stackPointer, worker->scheduler);
}

}  // namespace emu
