// A failure in words: what, where, how large the thing is, and why it is wrong.
#include "internal.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace emu {

std::string parameterName(const Launch& launch, size_t parameter);   // source.cpp; "" where the text does not tell
std::string sharedName(const Launch& launch, u64 byte, u64 count);

namespace {

std::string format(const char* pattern, i64 a, u64 b = 0) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, a, b);
  return text;
}
std::string number(i64 x) { return std::to_string(x); }
std::string hex(u64 x) { return format("0x%llx", i64(x)); }
std::string elements(u64 count, u64 bytes) { return std::to_string(count) + " elements of " + std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes"); }
std::string quoted(const std::string& name) { return name.empty() ? "" : " '" + name + "'"; }
std::string position(Index3 at) { return "(" + number(at.x) + "," + number(at.y) + "," + number(at.z) + ")"; }
std::string position(u64 linear, Index3 size) { return position({u32(linear % size.x), u32(linear / size.x % size.y), u32(linear / size.x / size.y)}); }

std::string argument(const Launch& launch, size_t i) { return "argument " + std::to_string(i) + quoted(parameterName(launch, i)); }

std::string argumentAt(const Launch& launch, u64 address) {
  for (size_t i = 0; i < launch.arguments.size(); ++i) {
    if (!launch.kernel->argumentIsPointer[i]) continue;
    u64 value;
    std::memcpy(&value, launch.arguments[i], 8);
    const Extent& extent = launch.extents[i];
    const u64 begin = reinterpret_cast<u64>(extent.begin);
    if (value == address || (extent.begin != nullptr && address >= begin && address < begin + extent.bytes)) return argument(launch, i);
  }
  return "a global buffer";
}

std::string sharedArray(const Launch& launch, const Failure& f, const u8* arena) {
  return "shared array" + quoted(sharedName(launch, u64(static_cast<const u8*>(f.where) - arena), f.b)) + " of " + elements(f.b, f.c);
}

// `index 3 of ...`, wherever that is
std::string element(const Launch& launch, const Failure& f, const u8* arena) {
  if (f.shared) return "index " + number(f.a) + " of " + sharedArray(launch, f, arena);
  return "index " + number(f.a) + " of " + argumentAt(launch, reinterpret_cast<u64>(f.where)) + ", an allocation of " + elements(f.b, f.c);
}

std::string globalIndex(const Launch& launch, const Failure& f) {
  const u64 base = reinterpret_cast<u64>(f.where);
  const std::string index = "index " + number(f.a);
  if (base == 0) return index + " through a null pointer";
  const std::string which = index + " of " + argumentAt(launch, base);
  if (f.b > 0) return which + ", an allocation of " + elements(f.b, f.c);
  Allocation freed;
  if (wasFreed(base, freed)) return which + ", which points into freed memory (it was " + std::to_string(freed.bytes) + " bytes at " + hex(reinterpret_cast<u64>(freed.begin)) + ")";
  Allocation found;
  if (findAllocation(base, found)) return which + ", an allocation of " + std::to_string(found.bytes) + " bytes: less than one element of " + std::to_string(f.c);
  return which + ", which points at no allocation (" + hex(base) + ")";
}

const char* const did[] = {"reads", "writes", "adds to atomically", "copies to asynchronously"};

std::string threadOf(const Launch& launch, const Other& other) {
  return other.thread == several ? "another thread" : "thread " + position(other.thread, launch.block);
}

std::string race(const Launch& launch, const Failure& f, const u8* arena) {
  const Other& other = f.other;
  const std::string who = threadOf(launch, other) + (other.elsewhere ? " of block " + position(other.block, launch.grid) : "");
  return "race: " + std::string(f.write ? "writes " : "reads ") + element(launch, f, arena) + ", which " + who + " " + did[u32(other.access)] + " at line " + number(other.line) +
    (other.elsewhere ? " of the same launch: blocks run at the same time, in any order"
      : other.access == Access::copy ? ", with no wait and barrier between: on a GPU the copy may land at any time"
      : ", with no barrier between: on a GPU either may come first");
}

// A block of the cluster reads what a thread of another one writes: either may be the one that is caught
std::string peerRace(const Launch& launch, const Failure& f, const u8* arena) {
  const Other& other = f.other;
  const std::string what = element(launch, f, arena), block = "block " + position(other.block, launch.grid) + " of its cluster";
  return "race: " + (f.write ? "writes " + what + ", which " + block : "reads " + what + " in " + block + ", which " + threadOf(launch, other) + " there") + " " +
    did[u32(other.access)] + " at line " + number(other.line) + (other.access == Access::copy ? ", with no wait and cluster barrier between: on a GPU the copy may land at any time"
      : ", with no cluster barrier between: on a GPU either may come first");
}

}  // namespace

std::string describe(const Launch& launch, const Failure& f, const u8* arena) {
  const std::string does = f.write ? "writes " : "reads ";
  switch (f.wrong) {
    case Wrong::globalIndex: return does + globalIndex(launch, f);
    case Wrong::sharedIndex: return does + "index " + number(f.a) + " of " + sharedArray(launch, f, arena) + ": on a GPU that is another array's place";
    case Wrong::globalAlignment:
      return does + "a vector at address " + hex(u64(f.a)) + " of " + argumentAt(launch, u64(f.a)) + ", which is not a multiple of " + std::to_string(f.b) + " bytes: a GPU stops there";
    case Wrong::sharedAlignment: return does + "at byte " + number(f.a) + " of shared memory, which is not a multiple of " + std::to_string(f.b) + ": a GPU stops there";
    case Wrong::sharedPlace:
      return "places a shared array at byte " + number(f.a) + " for " + std::to_string(f.b) + " bytes; the launch gave " + std::to_string(launch.sharedBytes) + " bytes of shared memory";
    case Wrong::argument:
      return argumentAt(launch, u64(f.a)) + " is the address " + hex(u64(f.a)) + ", which is not a multiple of its element's alignment, " + std::to_string(f.b);
    case Wrong::shuffleLane: return "asks for the value of lane " + number(f.a) + ", which this warp does not have: on a GPU it is undefined";
    case Wrong::peerRank: return "asks for shared memory of block " + number(f.a) + " of its cluster, which has " + std::to_string(f.b) + (f.b == 1 ? " block" : " blocks");
    case Wrong::peerEnded: return "reads shared memory of block " + number(f.a) + " of its cluster, which has ended: on a GPU that may be another block's by now";
    case Wrong::race: return race(launch, f, arena);
    case Wrong::peerRace: case Wrong::peerRaceWrite: return peerRace(launch, f, arena);
    case Wrong::peerUnwritten:
      return does + element(launch, f, arena) + " in block " + position(f.other.block, launch.grid) +
        " of its cluster, which no thread there has written so far: the write is missing, or a cluster barrier between";
    case Wrong::beforeWait:
      return does + element(launch, f, arena) + " before its wait: the thread copies to it asynchronously at line " + number(f.other.line) +
        " and has not waited for that group; on a GPU the copy may land at any time";
    case Wrong::uninitialised:
      return does + element(launch, f, arena) + (f.shared ? ", which no thread of the block has written so far: the write is missing, or a barrier between"
        : ", which nobody has written: neither a copy or fill nor a kernel");
    case Wrong::undefined: return "undefined behaviour: " + format(f.text, f.a, f.b);
  }
  return "fails";
}

int errorOf(Wrong wrong) {
  switch (wrong) {
    case Wrong::globalIndex: case Wrong::sharedIndex: case Wrong::sharedPlace: case Wrong::peerRank: return illegalAddress;
    case Wrong::globalAlignment: case Wrong::sharedAlignment: case Wrong::argument: return misalignedAddress;
    default: return launchFailed;
  }
}

std::string neighbourOf(const Launch& launch, u64 address) {
  constexpr u64 near = 64 << 10;
  for (size_t i = 0; i < launch.extents.size(); ++i) {
    const Extent& extent = launch.extents[i];
    const u64 begin = reinterpret_cast<u64>(extent.begin), end = begin + extent.bytes;
    if (extent.begin == nullptr || address + near < begin || address >= end + near) continue;
    const std::string of = argument(launch, i) + ", an allocation of " + std::to_string(extent.bytes) + " bytes";
    return ": " + (address < begin ? std::to_string(begin - address) + " bytes before " + of : "byte " + std::to_string(address - begin) + " of " + of);
  }
  return "";
}

}  // namespace emu
