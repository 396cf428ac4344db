// What is found about memory whatever the order of threads, in kernels that tell of every access. Each byte of shared
// memory and of the buffers that a kernel was given has a shadow: who read and wrote it, and in which epoch, a stretch
// between two barriers of one block. So an epoch also tells the block. Found are:
//
//   - races: two threads of one block in one epoch, or of two blocks in one launch, one of them writing, not both
//     atomically. Exchanges of a warp order nothing in memory, by CUDA's rules and here. A cluster's barrier orders what
//     its blocks do.
//   - the target of an asynchronous copy touched before its thread has waited for it
//   - reads of shared memory that no thread of the block has written, and of buffers that nobody has
//   - the same of shared memory that another block of the cluster reads
//
// Blocks of a watched kernel run one after the other, or a cluster after the other, on one thread.
#include "worker.h"
#include <algorithm>

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

// Whose an epoch of this launch was: the last block that began one no later
u64 blockOf(const Launch& launch, u32 epoch) {
  return (std::upper_bound(launch.starts.begin(), launch.starts.end(), epoch, [](u32 e, const Launch::Start& s) { return e < s.epoch; }) - 1)->block;
}

Access lastWrite(const Shadow& s) { return s.inFlight ? Access::copy : s.atomic ? Access::atomic : Access::write; }

}  // namespace

void touch(Fiber* fiber, const Touch& t) {
  const Worker& worker = *static_cast<Worker*>(fiber->worker);
  const u8* const at = static_cast<const u8*>(t.base) + t.index * t.elementBytes;
  Shadow* const shadow = shadowOf(worker, at, t.shared);
  if (shadow == nullptr) return;
  const u32 epoch = worker.epoch, block = worker.firstEpoch, launch = worker.launch->starts.front().epoch;
  const Cluster* const cluster = fiber->warp->cluster;
  const u16 me = u16(fiber->linear);
  const bool reads = t.access == Access::read || t.access == Access::atomic;
  // Whether an access of that epoch is one of another block, with no barrier of a cluster since
  const auto elsewhere = [&](u32 then) {
    if (t.shared || then < launch || then == epoch) return false;
    return cluster == nullptr || then < cluster->begin ? then < block : then >= cluster->since && blockOf(*worker.launch, then) != worker.number;
  };
  const auto meets = [&](u32 then, u16 thread) { return elsewhere(then) || (then == epoch && thread != me); };
  const auto other = [&](u16 thread, u32 then, i32 line, Access access) -> Other { return {thread, blockOf(*worker.launch, then), elsewhere(then), line, access}; };
  for (u32 i = 0; i < t.bytes; ++i) {
    Shadow& s = shadow[i];
    const auto writer = [&] { return other(s.writer, s.writeEpoch, s.writeLine, lastWrite(s)); };
    if (s.inFlight && s.writeEpoch >= block) failWith(fiber, t, i, s.writer == me ? Wrong::beforeWait : Wrong::race, writer());
    if (meets(s.writeEpoch, s.writer) && !(t.access == Access::atomic && s.atomic)) failWith(fiber, t, i, Wrong::race, writer());
    if (reads && !t.shared && s.writeEpoch == 0) readFirst(*worker.launch, at + i, s);
    if (reads && s.writeEpoch < (t.shared ? block : beforeLaunches)) failWith(fiber, t, i, Wrong::uninitialised);
    if (t.access == Access::read) {
      if (elsewhere(s.readEpoch)) continue;  // another block's read is the one that a write of any block would meet
      s.reader = s.readEpoch == epoch && s.reader != me ? several : me;
      if (s.reader != several || s.readEpoch != epoch) s.readLine = t.line;
      s.readEpoch = epoch;
      continue;
    }
    if (meets(s.readEpoch, s.reader)) failWith(fiber, t, i, Wrong::race, other(s.reader, s.readEpoch, s.readLine, Access::read));
    if (t.shared && cluster != nullptr && s.peerEpoch >= cluster->since)
      failWith(fiber, t, i, Wrong::peerRaceWrite, {several, blockOf(*worker.launch, s.peerEpoch), true, s.peerLine, Access::read});
    const bool again = s.writeEpoch == epoch;
    s.writer = again && s.writer != me ? several : me;
    s.atomic = t.access == Access::atomic && (s.atomic || !again);
    s.inFlight = t.access == Access::copy;
    s.writeLine = t.line;
    s.writeEpoch = epoch;
  }
}

// Notes in the peer's shadow that another block has read, for the peer's next write to find
void touchPeer(Fiber* fiber, const Touch& t, u32 rank) {
  const Worker& worker = *static_cast<Worker*>(fiber->worker);
  const Cluster& cluster = *fiber->warp->cluster;
  Shadow* const shadow = cluster.shadows[rank] + (static_cast<const u8*>(t.base) + t.index * t.elementBytes - worker.arena);
  const u64 block = blockOf(*worker.launch, cluster.first[rank]);
  for (u32 i = 0; i < t.bytes; ++i) {
    Shadow& s = shadow[i];
    const Other writer{s.writer, block, true, s.writeLine, lastWrite(s)};
    if (s.writeEpoch < cluster.first[rank]) failWith(fiber, t, i, Wrong::peerUnwritten, {several, block, true, 0, Access::write});
    if (s.inFlight || s.writeEpoch >= cluster.since) failWith(fiber, t, i, Wrong::peerRace, writer);
    s.peerEpoch = worker.epoch;
    s.peerLine = t.line;
  }
}

// For its own thread now, for the others after the next barrier
void settle(Worker& worker, const u8* at, u64 bytes) {
  Shadow* const shadow = worker.shadow + (at - worker.arena);
  for (u64 i = 0; i < bytes; ++i) shadow[i].inFlight = false, shadow[i].writeEpoch = worker.epoch;
}

}  // namespace emu
