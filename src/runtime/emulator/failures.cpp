// A failure in words: what, where and how large the thing was. The kernel's text is in its shared object, so that the
// line can be shown.
#include "internal.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace emu {

namespace {

std::string format(const char* pattern, i64 a, u64 b = 0) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, a, b);
  return text;
}
std::string number(i64 x) { return std::to_string(x); }
std::string hex(u64 x) { return format("0x%llx", i64(x)); }
std::string elements(u64 count, u64 bytes) { return std::to_string(count) + " elements of " + std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes"); }

std::string argumentAt(const Launch& launch, u64 address) {
  for (size_t i = 0; i < launch.arguments.size(); ++i) {
    if (!launch.kernel->argumentIsPointer[i]) continue;
    u64 value;
    std::memcpy(&value, launch.arguments[i], 8);
    const Extent& extent = launch.extents[i];
    const u64 begin = reinterpret_cast<u64>(extent.begin);
    if (value == address || (extent.begin != nullptr && address >= begin && address < begin + extent.bytes)) return "argument " + std::to_string(i);
  }
  return "a global buffer";
}

std::string globalIndex(const Launch& launch, const Failure& f) {
  const u64 base = reinterpret_cast<u64>(f.where);
  const std::string does = f.write ? "writes" : "reads";
  if (base == 0) return does + " index " + number(f.a) + " through a null pointer";
  const std::string which = argumentAt(launch, base);
  if (f.b > 0) return does + " index " + number(f.a) + " of " + which + ", an allocation of " + elements(f.b, f.c);
  Allocation freed;
  if (wasFreed(base, freed)) return does + " index " + number(f.a) + " of " + which + ", which points into freed memory (it was " + std::to_string(freed.bytes) + " bytes at " + hex(reinterpret_cast<u64>(freed.begin)) + ")";
  Allocation found;
  if (findAllocation(base, found)) return does + " index " + number(f.a) + " of " + which + ", an allocation of " + std::to_string(found.bytes) + " bytes: less than one element of " + std::to_string(f.c);
  return does + " index " + number(f.a) + " of " + which + ", which points at no allocation (" + hex(base) + ")";
}

std::string threadText(const Launch& launch, u32 linear) {
  const u32 x = launch.block.x, y = launch.block.y;
  return "(" + std::to_string(linear % x) + "," + std::to_string(linear / x % y) + "," + std::to_string(linear / x / y) + ")";
}

}  // namespace

std::string describe(const Launch& launch, const Failure& f) {
  const std::string does = f.write ? "writes" : "reads";
  switch (f.wrong) {
    case Wrong::globalIndex: return globalIndex(launch, f);
    case Wrong::sharedIndex: return does + " index " + number(f.a) + " of a shared array of " + elements(f.b, f.c);
    case Wrong::globalAlignment: {
      const std::string which = argumentAt(launch, u64(f.a));
      return does + " a vector at address " + hex(u64(f.a)) + " of " + which + ", which is not a multiple of " + std::to_string(f.b) + " bytes";
    }
    case Wrong::sharedAlignment: return does + " at byte " + number(f.a) + " of shared memory, which is not a multiple of " + std::to_string(f.b);
    case Wrong::sharedPlace:
      return "places a shared array at byte " + number(f.a) + " for " + std::to_string(f.b) + " bytes; the launch gave " + std::to_string(launch.sharedBytes) + " bytes of shared memory";
    case Wrong::argument: return argumentAt(launch, u64(f.a)) + " is the address " + hex(u64(f.a)) + ", which is not a multiple of its element's alignment, " + std::to_string(f.b);
    case Wrong::shuffleLane: return "asks for the value of lane " + number(f.a) + ", which this warp does not have";
    case Wrong::peerRank: return "asks for shared memory of block " + number(f.a) + " of its cluster, which has " + std::to_string(f.b) + (f.b == 1 ? " block" : " blocks");
    case Wrong::peerEnded: return "reads shared memory of block " + number(f.a) + " of its cluster, which has ended";
    case Wrong::peerRace:
      return "race: reads index " + number(f.a) + " of a shared array of block " + std::to_string(f.c) + " of its cluster that thread " + threadText(launch, u32(f.b & 0xffff)) + " there writes at line " +
        std::to_string(f.b >> 32) + ", with no cluster barrier between" + quoteLine(launch, i32(f.b >> 32));
    case Wrong::peerRaceWrite:
      return "race: writes index " + number(f.a) + " of a shared array that another block of its cluster reads at line " + std::to_string(f.b) + ", with no cluster barrier between" + quoteLine(launch, i32(f.b));
    case Wrong::peerUnwritten: return "reads index " + number(f.a) + " of a shared array of block " + std::to_string(f.c) + " of its cluster that no thread there has written so far";
    case Wrong::race: {
      const u32 other = u32(f.b & 0xffff), otherLine = u32(f.b >> 32);
      const char* const did[] = {"reads", "writes", "adds to atomically", "copies to asynchronously"};
      const char* const missing = f.c % 4 == 3 ? ", with no wait and barrier between" : ", with no barrier between";
      const std::string who = other == 0xffff ? "another thread" : "thread " + threadText(launch, other);
      return "race: " + does + " index " + number(f.a) + " of a shared array that " + who + " " + did[f.c % 4] + " at line " + std::to_string(otherLine) +
        missing + quoteLine(launch, i32(otherLine));
    }
    case Wrong::beforeWait:
      return does + " index " + number(f.a) + " of a shared array before its wait: the thread copies to it asynchronously at line " + std::to_string(f.b) +
        " and has not waited for that group" + quoteLine(launch, i32(f.b));
    case Wrong::uninitialised: return does + " index " + number(f.a) + " of a shared array that no thread of the block has written so far: the write is missing, or a barrier between";
    case Wrong::undefined: return "undefined behaviour: " + format(f.text, f.a, f.b);
  }
  return "fails";
}

std::string quoteLine(const Launch& launch, i32 line) {
  if (line <= 0 || launch.kernel->text == nullptr || *launch.kernel->text == nullptr) return "";
  const char* at = *launch.kernel->text;
  for (i32 n = 1; n < line; ++n) {
    at = std::strchr(at, '\n');
    if (at == nullptr) return "";
    ++at;
  }
  return format("\n  %5lld | ", line) + std::string(at, std::strcspn(at, "\n"));
}

}  // namespace emu
