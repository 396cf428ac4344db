// Memory that is watched, found whatever the order of threads: with WEFT_CHECK_RACES every byte of the arena has a shadow
// that says who read and wrote it, and in which stretch between two barriers. Failures, which name both lines:
//
//   - two threads, one of them writing, not both atomically, with no barrier between. Exchanges of a warp order nothing
//     in memory, by CUDA's rules and here.
//   - the target of an asynchronous copy touched before its thread has waited for it
//   - a read of what no thread of the block has written
//
// Off by default: a shared access costs 4 to 10 times as much, and orders catch most of it.
#pragma once
#include "abi.h"

namespace emu {

[[noreturn]] inline void fail(const Failure& failure);

enum class Access : u32 { read, write, atomic, copy };

#ifdef WEFT_CHECK_RACES
constexpr u16 several = 0xffff;  // more than one thread: never equal to the thread that looks

[[noreturn]] __attribute__((noinline, cold)) inline void
race(Access access, u64 index, i32 line, u16 other, i32 otherLine, Access otherAccess) {
  fail({Wrong::race, line, access != Access::read, i64(index), u64(u32(otherLine)) << 32 | other, u64(otherAccess), nullptr, nullptr});
}
[[noreturn]] __attribute__((noinline, cold)) inline void beforeWait(Access access, u64 index, i32 line, i32 copyLine) {
  fail({Wrong::beforeWait, line, access != Access::read, i64(index), u64(copyLine), 0, nullptr, nullptr});
}
[[noreturn]] __attribute__((noinline, cold)) inline void uninitialised(u64 index, i32 line) {
  fail({Wrong::uninitialised, line, false, i64(index), 0, 0, nullptr, nullptr});
}

inline void touch(const void* at, u64 bytes, u64 index, Access access, i32 line) {
  const Fiber* fiber = self();
  const u32 epoch = fiber->warp->epoch, begin = fiber->warp->firstEpoch;
  const u16 me = u16(fiber->linear);
  Shadow* shadow = fiber->warp->shadow + (static_cast<const u8*>(at) - fiber->shared);
  for (u64 i = 0; i < bytes; ++i) {
    Shadow& s = shadow[i];
    const bool written = s.writeEpoch == epoch, read = s.readEpoch == epoch;
    if (s.writeEpoch >= begin && s.inFlight) {
      if (s.writer == me) beforeWait(access, index, line, s.writeLine);
      race(access, index, line, s.writer, s.writeLine, Access::copy);
    }
    if (written && s.writer != me && !(access == Access::atomic && s.atomic))
      race(access, index, line, s.writer, s.writeLine, s.atomic ? Access::atomic : Access::write);
    if (s.writeEpoch < begin && (access == Access::read || access == Access::atomic)) uninitialised(index, line);
    if (access == Access::read) {
      s.reader = read && s.reader != me ? several : me;
      if (s.reader != several || !read) s.readLine = line;
      s.readEpoch = epoch;
    } else {
      // Another block of the cluster has read it since the last cluster barrier
      if (s.peerPhase != 0 && fiber->warp->cluster != nullptr && s.peerPhase == fiber->warp->cluster->phase)
        fail({Wrong::peerRaceWrite, line, true, i64(index), u64(u32(s.peerLine)), 0, nullptr, nullptr});
      if (read && s.reader != me) race(access, index, line, s.reader, s.readLine, Access::read);
      s.writer = written && s.writer != me ? several : me;
      s.atomic = access == Access::atomic && (s.atomic || !written);
      s.inFlight = access == Access::copy;
      s.writeLine = line;
      s.writeEpoch = epoch;
    }
  }
}

// The copy to these bytes has landed: for its own thread now, for the others after the next barrier
inline void settle(const void* at, u64 bytes) {
  const Fiber* fiber = self();
  Shadow* shadow = fiber->warp->shadow + (static_cast<const u8*>(at) - fiber->shared);
  for (u64 i = 0; i < bytes; ++i) shadow[i].inFlight = false, shadow[i].writeEpoch = fiber->warp->epoch;
}
#else
__attribute__((always_inline)) inline void touch(const void*, u64, u64, Access, i32) {}
__attribute__((always_inline)) inline void settle(const void*, u64) {}
#endif

}  // namespace emu
