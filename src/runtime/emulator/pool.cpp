// Spreads the blocks of a launch over all processors; those of a watched kernel stay on one, in the launch's order. The
// thread that launches works too; a launch of one block wakes nobody. A watchdog thread looks at the running launch and
// interrupts its workers when it has taken too long.
#include "internal.h"
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <pthread.h>
#include <signal.h>
#include <thread>

namespace emu {

namespace {

using Clock = std::chrono::steady_clock;

u64 greatestCommonDivisor(u64 a, u64 b) { return b == 0 ? a : greatestCommonDivisor(b, a % b); }

// The block that is run as the n-th: random is a permutation by n * a + b, which needs no memory for huge grids
u64 blockAt(const Launch& launch, u64 n, u64 count) {
  const u64 seed = launch.order.seed * 0x9e3779b97f4a7c15 + 0x1234567;
  switch (launch.order.kind) {
    case Order::descending:
    case Order::warpGreedyDescending: return count - 1 - n;
    case Order::random: {
      u64 step = (seed >> 7) % count | 1;
      while (greatestCommonDivisor(step, count) != 1) ++step;
      return u64((static_cast<unsigned __int128>(n) * step + (seed >> 32)) % count);
    }
    default: return n;
  }
}

// Threads whose stacks a worker may hold for its clusters: Linux allows 64K mappings, two for each
constexpr u32 clusterThreads = 16384;

void runBlocks(Worker* worker, Launch& launch, u32 index) {
  const u64 count = launch.blocks / launch.cluster;
  if (launch.cluster > 1 && index > 0 && (index + 1) * launch.cluster * launch.block.x * launch.block.y * launch.block.z > clusterThreads) return;
  while (!launch.stop && !launch.timedOut) {
    const u64 n = launch.nextBlock.fetch_add(1);
    if (n >= count) break;
    const u64 at = blockAt(launch, n, count);
    if (launch.cluster > 1) runCluster(worker, launch, at);
    else runBlock(worker, launch, at);
  }
}

struct Pool {
  std::mutex lock;
  std::condition_variable wake, done, watch;
  Launch* launch = nullptr;
  u64 generation = 0;
  int busy = 0;                            // helpers inside the launch
  Clock::time_point deadline;
  std::vector<pthread_t> threads;          // of all workers
  bool started = false, watcherIdle = false;
};
Pool& pool() {
  static Pool* const pool = new Pool;
  return *pool;
}

double timeoutSeconds() {
  const char* text = std::getenv("WEFT_EMULATOR_TIMEOUT");
  const double seconds = text == nullptr ? 0 : std::atof(text);
  return seconds > 0 ? seconds : 120;
}

void help(u32 index) {
  Pool& p = pool();
  Worker* worker = makeWorker();
  enterWorkerThread(worker);
  u64 seen = 0;
  std::unique_lock<std::mutex> lock(p.lock);
  p.threads.push_back(pthread_self());
  for (;;) {
    p.wake.wait(lock, [&] { return p.launch != nullptr && p.generation != seen && !p.launch->kernel->watched; });
    seen = p.generation;
    Launch& launch = *p.launch;
    ++p.busy;
    lock.unlock();
    runBlocks(worker, launch, index);
    lock.lock();
    if (--p.busy == 0) p.done.notify_all();
  }
}

void watch() {
  Pool& p = pool();
  std::unique_lock<std::mutex> lock(p.lock);
  for (;;) {
    p.watcherIdle = true;
    p.watch.wait(lock, [&] { return p.launch != nullptr; });
    p.watcherIdle = false;
    const u64 generation = p.generation;
    // Polling costs less than being woken by each of many short launches
    while (p.launch != nullptr && p.generation == generation) {
      if (Clock::now() >= p.deadline) {
        p.launch->timedOut = true;
        for (pthread_t thread : p.threads) pthread_kill(thread, pokeSignal());
        p.watch.wait_for(lock, std::chrono::milliseconds(5));
      } else {
        p.watch.wait_for(lock, std::min<Clock::duration>(std::chrono::milliseconds(50), p.deadline - Clock::now()));
      }
    }
  }
}

}  // namespace

int workerCount() {
  static const int count = [] {
    const char* text = std::getenv("WEFT_EMULATOR_WORKERS");
    const int wanted = text == nullptr ? 0 : std::atoi(text);
    // 16 workers of 1024 stacks are 32K mappings, half of what Linux allows by default
    return std::clamp(wanted > 0 ? wanted : int(std::thread::hardware_concurrency()), 1, 16);
  }();
  return count;
}

void runLaunch(Launch& launch) {
  static thread_local Worker* const worker = [] {
    Worker* made = makeWorker();
    enterWorkerThread(made);
    std::lock_guard<std::mutex> lock(pool().lock);
    pool().threads.push_back(pthread_self());
    return made;
  }();
  Pool& p = pool();
  const double seconds = timeoutSeconds();
  bool wakeWatcher;
  {
    std::lock_guard<std::mutex> lock(p.lock);
    if (!p.started) {
      p.started = true;
      for (int i = 1; i < workerCount(); ++i) std::thread(help, i).detach();
      std::thread(watch).detach();
    }
    p.launch = &launch;
    ++p.generation;
    p.deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    wakeWatcher = p.watcherIdle;
  }
  if (launch.blocks > 1) p.wake.notify_all();
  if (wakeWatcher) p.watch.notify_one();
  runBlocks(worker, launch, 0);
  {
    std::unique_lock<std::mutex> lock(p.lock);
    p.launch = nullptr;
    p.done.wait(lock, [&] { return p.busy == 0; });
  }
  statistics.kernels.fetch_add(1, std::memory_order_relaxed);
  if (launch.timedOut && !launch.failed) {
    launch.failed = true;
    launch.report = {launchTimeout, "kernel '" + launch.name + "': does not end; the watchdog stopped it (WEFT_EMULATOR_TIMEOUT seconds)"};
  }
}

}  // namespace emu
