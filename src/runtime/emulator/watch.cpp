// What is found about memory whatever the order of threads, in kernels that tell of every access. Each byte of shared
// memory and of the buffers that a kernel was given has a shadow: who read and wrote it, and in which epoch, a stretch
// between two barriers of one block. So an epoch also tells the block. Found are:
//
//   - races: two threads of one block in one epoch, or of two blocks in one launch, one of them writing, not both
//     atomically. Exchanges of a warp order nothing in memory, by CUDA's rules and here.
//   - the target of an asynchronous copy touched before its thread has waited for it
//   - reads of shared memory that no thread of the block has written, and of buffers that nobody has
//
// Blocks of a watched kernel run one after the other, on one worker.
#include "worker.h"

namespace emu {

namespace {

[[noreturn]] void failWith(Fiber* fiber, const Touch& t, u32 byte, Wrong wrong, Other other = {}) {
  Failure failure{wrong, t.line, t.access != Access::read, i64(t.index + byte / t.elementBytes), t.count, t.elementBytes, t.base, nullptr, t.shared, other};
  fiber->fail(fiber, failure);
  __builtin_unreachable();
}

constexpr u32 beforeLaunches = 1;  // the epoch of what the host wrote: a worker's own begin behind it

// Where a buffer's bytes are touched first: those that were written before the launch are marked
void readFirst(const Launch& launch, const u8* at, Shadow& s) {
  for (size_t i = 0; i < launch.extents.size(); ++i) {
    const Extent& extent = launch.extents[i];
    if (extent.begin == nullptr || at < extent.begin || at >= extent.begin + extent.bytes) continue;
    const u64 place = u64(at - extent.begin);
    for (const Range& range : launch.written[i])
      if (place >= range.from && place < range.to) s.writeEpoch = beforeLaunches;
  }
}

Shadow* shadowOf(const Worker& worker, const u8* at, bool shared) {
  if (shared) return worker.shadow + (at - worker.arena);
  for (const Extent& extent : worker.launch->extents)
    if (extent.begin != nullptr && at >= extent.begin && at < extent.begin + extent.bytes) return extent.shadow + (at - extent.begin);
  return nullptr;
}

}  // namespace

void touch(Fiber* fiber, const Touch& t) {
  const Worker& worker = *static_cast<Worker*>(fiber->worker);
  const u8* const at = static_cast<const u8*>(t.base) + t.index * t.elementBytes;
  Shadow* const shadow = shadowOf(worker, at, t.shared);
  if (shadow == nullptr) return;
  const u32 epoch = worker.epoch, block = worker.firstEpoch, launch = worker.launch->starts.front().epoch;
  const u16 me = u16(fiber->linear);
  const bool reads = t.access == Access::read || t.access == Access::atomic;
  // Whether an access of that epoch and thread is one of another block, or of another thread with no barrier since
  const auto elsewhere = [&](u32 then) { return !t.shared && then >= launch && then < block; };
  const auto meets = [&](u32 then, u16 thread) { return elsewhere(then) || (then == epoch && thread != me); };
  for (u32 i = 0; i < t.bytes; ++i) {
    Shadow& s = shadow[i];
    const Other writer{s.writer, s.writeEpoch, s.writeLine, s.inFlight ? Access::copy : s.atomic ? Access::atomic : Access::write};
    if (s.inFlight && s.writeEpoch >= block) failWith(fiber, t, i, s.writer == me ? Wrong::beforeWait : Wrong::race, writer);
    if (meets(s.writeEpoch, s.writer) && !(t.access == Access::atomic && s.atomic)) failWith(fiber, t, i, Wrong::race, writer);
    if (reads && !t.shared && s.writeEpoch == 0) readFirst(*worker.launch, at + i, s);
    if (reads && s.writeEpoch < (t.shared ? block : beforeLaunches)) failWith(fiber, t, i, Wrong::uninitialised);
    if (t.access == Access::read) {
      if (elsewhere(s.readEpoch)) continue;  // another block's read is the one that a write of any block would meet
      s.reader = s.readEpoch == epoch && s.reader != me ? several : me;
      if (s.reader != several || s.readEpoch != epoch) s.readLine = t.line;
      s.readEpoch = epoch;
      continue;
    }
    if (meets(s.readEpoch, s.reader)) failWith(fiber, t, i, Wrong::race, {s.reader, s.readEpoch, s.readLine, Access::read});
    const bool again = s.writeEpoch == epoch;
    s.writer = again && s.writer != me ? several : me;
    s.atomic = t.access == Access::atomic && (s.atomic || !again);
    s.inFlight = t.access == Access::copy;
    s.writeLine = t.line;
    s.writeEpoch = epoch;
  }
}

// For its own thread now, for the others after the next barrier
void settle(Worker& worker, const u8* at, u64 bytes) {
  Shadow* const shadow = worker.shadow + (at - worker.arena);
  for (u64 i = 0; i < bytes; ++i) shadow[i].inFlight = false, shadow[i].writeEpoch = worker.epoch;
}

}  // namespace emu
