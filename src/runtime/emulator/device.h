// The one device of the library: its queue, and what the driver's handles point at.
//
// All streams share one queue that a thread of the library works through in order. That is a legal schedule for any
// program: whatever an operation waits for was submitted before it. Calls return at once; errors surface at the next
// call after the operation failed, as with CUDA.
#pragma once
#include "internal.h"
#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>

namespace emu {

enum : int {
  success = 0, invalidValue = 1, outOfMemory = 2, notInitialised = 3, invalidDevice = 101, invalidImage = 200, invalidContext = 201,
  invalidHandle = 400, notFound = 500, notReady = 600, illegalState = 401, notSupported = 801, captureUnsupported = 900,
  captureInvalidated = 901, captureUnmatched = 903, captureWrongStream = 905, captureImplicit = 906, noBinary = 209,
  invalidClusterSize = 912,
};

using Operation = std::function<void()>;

struct Graph {
  std::vector<Operation> operations;
};

// A capture that is under way: streams join it by waiting for an event that was recorded in it
struct Capture {
  Graph* graph = nullptr;
  int mode = 0;              // 0 global, 1 thread-local, 2 relaxed
  bool broken = false;
};

struct Stream {
  u64 last = 0;              // the sequence number of the last operation
  std::shared_ptr<Capture> capture;
  bool beganCapture = false;
};

struct Event {
  bool timed = true;
  u64 sequence = 0;          // of the last record; 0: never recorded
  std::shared_ptr<Capture> capture;
  std::chrono::steady_clock::time_point time;
};

// The loaded object: launches and graphs that use it keep it, whoever unloads the module
struct Image {
  void* library = nullptr;
  int file = -1;
  ~Image();
};
struct Module {
  std::shared_ptr<Image> image = std::make_shared<Image>();
  std::unordered_map<std::string, struct Function*> functions;
};
struct Function {
  std::shared_ptr<Image> image;
  const Kernel* kernel = nullptr;
  std::string name;
  u32 maxSharedBytes = 48 << 10;
};
struct GraphExec {
  std::shared_ptr<std::vector<Operation>> operations;
};

struct Device {
  std::mutex lock;           // of the sets below; never held while waiting for the queue
  std::set<void*> streams, events, modules, functions, graphs, execs, pinned;
  Stream defaultStream;
  std::vector<std::weak_ptr<Capture>> captures;
  int retained = 0;
};
Device& device();

// ---- queue.cpp ----
u64 enqueue(Operation operation);        // the operation's sequence number, from 1
u64 lastSequence();
bool isDone(u64 sequence);
void waitFor(u64 sequence);              // where the calling thread is the queue's own: returns at once
int stickyError();
void poison(int error, const std::string& text);   // the first one stays
void cleanse();
size_t lastFailure(char* buffer, size_t capacity);

// ---- what entry points begin with ----
int ready();                             // 0, or why the call cannot be made: not initialised, no context, sticky error
int synchronise(u64 sequence);           // waits, looks at the canaries, returns the sticky error
int refuseInCapture();                   // for calls that a capture does not allow; breaks the capture
Stream* streamOf(void* handle);          // null: no such stream
int submit(Stream* stream, Operation operation);
void destroyEverything();

template <class T> bool isOneOf(const std::set<void*>& set, T* handle) {
  std::lock_guard<std::mutex> lock(device().lock);
  return set.count(handle) != 0;
}
template <class T> T* keep(std::set<void*>& set, T* handle) {
  std::lock_guard<std::mutex> lock(device().lock);
  set.insert(handle);
  return handle;
}
template <class T> bool drop(std::set<void*>& set, T* handle) {
  std::lock_guard<std::mutex> lock(device().lock);
  return set.erase(handle) != 0;
}

}  // namespace emu

#define WEFT_ENTRY extern "C" __attribute__((visibility("default"))) int
