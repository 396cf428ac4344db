// The device's queue and the state that outlives an operation: the sticky error and its sentence.
#include "device.h"
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <thread>

namespace emu {

namespace {

struct Queue {
  std::mutex lock;
  std::condition_variable work, done;
  std::deque<Operation> operations;
  u64 submitted = 0, completed = 0;
  std::thread::id thread;
  bool started = false;
  std::atomic<int> error{0};
  std::string failure;
};
Queue& queue() {
  static Queue* const queue = new Queue;
  return *queue;
}

void workThrough() {
  Queue& q = queue();
  std::unique_lock<std::mutex> lock(q.lock);
  q.thread = std::this_thread::get_id();
  for (;;) {
    q.work.wait(lock, [&] { return !q.operations.empty(); });
    Operation operation = std::move(q.operations.front());
    q.operations.pop_front();
    lock.unlock();
    operation();
    operation = nullptr;
    lock.lock();
    ++q.completed;
    q.done.notify_all();
  }
}

}  // namespace

Device& device() {
  static Device* const device = new Device;
  return *device;
}

u64 enqueue(Operation operation) {
  Queue& q = queue();
  std::lock_guard<std::mutex> lock(q.lock);
  if (!q.started) {
    q.started = true;
    std::thread(workThrough).detach();
  }
  q.operations.push_back(std::move(operation));
  q.work.notify_one();
  return ++q.submitted;
}

u64 lastSequence() {
  std::lock_guard<std::mutex> lock(queue().lock);
  return queue().submitted;
}

bool isDone(u64 sequence) {
  std::lock_guard<std::mutex> lock(queue().lock);
  return queue().completed >= sequence;
}

void waitFor(u64 sequence) {
  Queue& q = queue();
  std::unique_lock<std::mutex> lock(q.lock);
  if (std::this_thread::get_id() == q.thread) return;
  q.done.wait(lock, [&] { return q.completed >= sequence; });
}

int stickyError() { return queue().error; }

void poison(int error, const std::string& text) {
  std::lock_guard<std::mutex> lock(queue().lock);
  if (queue().error != 0) return;
  queue().failure = text;
  queue().error = error;
}

void cleanse() {
  std::lock_guard<std::mutex> lock(queue().lock);
  queue().error = 0;
}

size_t lastFailure(char* buffer, size_t capacity) {
  std::lock_guard<std::mutex> lock(queue().lock);
  const std::string& text = queue().failure;
  if (capacity > 0) {
    const size_t bytes = std::min(capacity - 1, text.size());
    std::memcpy(buffer, text.data(), bytes);
    buffer[bytes] = 0;
  }
  return text.size();
}

int synchronise(u64 sequence) {
  waitFor(sequence);
  std::string damage;
  if (stickyError() == 0 && !checkCanaries(damage)) poison(illegalAddress, damage);
  return stickyError();
}

int refuseInCapture() {
  std::lock_guard<std::mutex> lock(device().lock);
  int error = success;
  for (const std::weak_ptr<Capture>& weak : device().captures)
    if (const std::shared_ptr<Capture> capture = weak.lock())
      if (capture->mode != 2) capture->broken = true, error = captureUnsupported;
  return error;
}

Stream* streamOf(void* handle) {
  Device& d = device();
  const uintptr_t special = reinterpret_cast<uintptr_t>(handle);
  if (special <= 2) return &d.defaultStream;  // null, CU_STREAM_LEGACY, CU_STREAM_PER_THREAD
  return isOneOf(d.streams, handle) ? static_cast<Stream*>(handle) : nullptr;
}

int submit(Stream* stream, Operation operation) {
  if (stream->capture != nullptr) {
    if (stream->capture->broken) return captureInvalidated;
    stream->capture->graph->operations.push_back(std::move(operation));
    return success;
  }
  if (stream == &device().defaultStream && refuseInCapture() != success) return captureImplicit;
  stream->last = enqueue(std::move(operation));
  return success;
}

}  // namespace emu
