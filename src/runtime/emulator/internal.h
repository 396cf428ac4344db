// What the parts of the emulator's library know of each other. Everything lives as long as the process: the library's
// threads may still run when static objects are destroyed.
#pragma once
#include "abi.h"
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace emu {

// ---- orders ----
struct Order {
  enum Kind { ascending, descending, warpGreedy, warpGreedyDescending, random } kind = ascending;
  u64 seed = 0;
};
bool parseOrder(const char* text, Order& order);
Order currentOrder();                   // of weftEmulatorSetOrder, else of the environment, else ascending
bool setOrder(const char* text);        // null or "": back to the environment

// ---- failures: the CUresults that kernels end with ----
constexpr int illegalAddress = 700, launchTimeout = 702, misalignedAddress = 716, launchFailed = 719;
struct FailureReport {
  int error = 0;                        // a CUresult
  std::string text;
};

// ---- memory.cpp ----
// Bytes of an allocation, from its beginning
struct Range {
  u64 from, to;
};
struct Allocation {
  u8* begin = nullptr;
  u64 bytes = 0;
  u8* mapping = nullptr;                // with the guard pages
  u64 mappingBytes = 0;
  Shadow* shadow = nullptr;             // of all bytes, since a watched kernel was first given them
  std::vector<Range> written;           // by the host, or by a kernel that is not watched; apart and ascending
};
int allocate(u64 bytes, u64& address);  // CUresult
int release(u64 address);
void releaseAll();
bool findAllocation(u64 address, Allocation& found);      // an end is not inside
bool wasFreed(u64 address, Allocation& found);
bool insideAllocation(u64 address, u64 bytes);
void markWritten(u64 address, u64 bytes);
// To a kernel, which writes who knows what unless it is watched. CUresult
int lend(u64 address, bool watched, Extent& extent, std::vector<Range>& written);
bool checkCanaries(std::string& damage);                  // false: damaged
void memoryInfo(u64& free, u64& total);

// ---- a launch ----
struct Launch {
  const Kernel* kernel = nullptr;
  std::string name;
  Index3 grid{}, block{};
  u32 sharedBytes = 0;
  std::vector<u8> values;               // the arguments' bytes, one after the other
  std::vector<const void*> arguments;   // into values
  std::vector<Extent> extents;
  std::vector<std::vector<Range>> written;  // of each extent, before the launch
  Order order;
  u64 blocks = 0;
  u32 cluster = 1;                      // neighbouring blocks that run together

  struct Start { u32 epoch; u64 block; };
  std::vector<Start> starts;            // of a watched kernel: from which epoch on epochs were the block's, ascending
  std::atomic<u64> nextBlock{0};
  std::atomic<bool> stop{false};        // a block failed: finish what runs, start nothing
  std::atomic<bool> timedOut{false};
  std::atomic<bool> failed{false};
  FailureReport report;                 // of the first failure
};
void runLaunch(Launch& launch);         // pool.cpp: returns when all blocks are done or one failed

// ---- executor.cpp: one worker runs one block at a time ----
struct Worker;
Worker* makeWorker();
void runBlock(Worker* worker, Launch& launch, u64 block);
void runCluster(Worker* worker, Launch& launch, u64 cluster);  // cluster.cpp
Fiber* runningFiber(Worker* worker);    // null while the worker is not inside a kernel
i64 sharedByte(Worker* worker, u64 address);  // of an address in the guard page behind the arena; else -1
bool mayBeAbandoned(Worker* worker);    // not inside malloc
void abandonFiber(Worker* worker, int error, const char* sentence, u64 address);  // from a signal handler; does not return
std::string describe(const Launch& launch, const Failure& failure, const u8* arena);
int errorOf(Wrong wrong);
std::string neighbourOf(const Launch& launch, u64 address);  // of an address that faulted: what it lies beside, or ""
std::string quoteLine(const Launch& launch, i32 line);

// ---- faults.cpp ----
void installFaultHandlers();
int pokeSignal();                       // the watchdog's
void setThreadWorker(Worker* worker);   // whose fiber a fault of the calling thread belongs to
void enterWorkerThread(Worker* worker); // gives the calling thread an alternate signal stack

// ---- pool.cpp ----
int workerCount();

struct Statistics {
  std::atomic<u64> kernels{0}, blocks{0}, switches{0};
};
extern Statistics statistics;

}  // namespace emu
