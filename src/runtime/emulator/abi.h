// What a compiled kernel and the emulator's library share. No system header: a kernel may be named like a C function.
//
// A kernel's shared object links with nothing of the emulator. It finds the thread it runs as through its own stack:
// a fiber's stack is aligned to its size and its record lies at the top, so that masking the frame's address finds it.
// That costs one instruction, where thread-local storage of a loaded library costs a call. The record also holds the
// two functions that a kernel calls back: stop (barriers, shuffles) and fail.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;
using i64 = long long;
using f32 = float;

namespace emu {

constexpr u32 abiVersion = 3;
constexpr u32 maxCluster = 8;            // blocks, on every GPU that has clusters
constexpr u32 warpLanes = 32;
constexpr u64 stackBytes = 128 << 10;  // with a guard page at its low end; 1024 threads: 128 MiB of addresses

struct Index3 { u32 x, y, z; };

// Why a fiber gave up the processor
enum class Stop : u32 { none, barrier, barrierOr, clusterBarrier, shuffle, ballot, loadMatrix4, loadMatrix4Transposed, mmaBf16, mmaF16, finished, failed };

// What a kernel did wrong; the library writes the sentence
enum class Wrong : u32 {
  globalIndex,      // a: index, b: elements, c: bytes of an element, where: first element
  sharedIndex,      // the same
  globalAlignment,  // a: address, b: alignment wanted
  sharedAlignment,  // a: byte offset in the arena, b: alignment wanted
  sharedPlace,      // a: byte offset, b: bytes
  argument,         // a: address, b: alignment wanted
  shuffleLane,      // a: the lane asked for
  undefined,        // text: what; a, b: operands
  peerRank,         // a: the rank asked for, b: blocks of the cluster
  peerEnded,        // a: the rank
  race,             // a, b, c, where: as globalIndex; shared; other
  beforeWait,       // the same; other: the asynchronous copy
  uninitialised,    // a, b, c, where: as globalIndex; shared
  peerRace,         // the same as race, of another block's shared memory
  peerRaceWrite,    // the same, of the own block's; other: the reading block, whose thread is not known
  peerUnwritten,    // the same; other: the block
};

enum class Access : u32 { read, write, atomic, copy };

// The other of two that must not meet
struct Other {
  u32 thread;       // in its block; several: more than one thread
  u64 block;        // counted along the grid
  bool elsewhere;   // the block is another one
  i32 line;
  Access access;
};
constexpr u16 several = 0xffff;

struct Failure {
  Wrong wrong;
  i32 line;         // in the text that was compiled; 0: not known
  bool write;
  i64 a;
  u64 b, c;
  const void* where;
  const char* text;
  bool shared = false;
  Other other{};
};

struct Fiber;

// Who touched a byte last, in which stretch between two barriers (an epoch: none is ever used twice, nor by two blocks)
struct Shadow {
  u32 writeEpoch, readEpoch;
  i32 writeLine, readLine;
  u16 writer, reader;
  bool atomic;
  bool inFlight;              // an asynchronous copy that its thread has not waited for
  u32 peerEpoch;              // of the block of the cluster that read it last
  i32 peerLine;
};

// The blocks of a cluster, as their threads see each other's shared memory
struct Cluster {
  u32 size;
  u32 begin, since;           // the first epoch of all, and the first one behind the last cluster barrier
  u8* arenas[maxCluster];
  Shadow* shadows[maxCluster];
  u32 first[maxCluster];      // the block's first epoch
  bool ended[maxCluster];
};

// What a lane offers to a multiplication: registers of its own stack, which the library reads and writes when all are there
struct Operands {
  f32* sum;
  const u32* a;
  const u32* b;
};
// The same for a load: the row that the lane names, and where its registers go
struct MatrixRow {
  const u8* row;
  u32* to;
};

// Elements that a watched kernel reads or writes as one
struct Touch {
  const void* base;           // of their array, which has count elements
  u64 index, count;
  u32 elementBytes, bytes;    // bytes: of all that are touched
  bool shared;
  Access access;
  i32 line;
};

// An asynchronous copy of 16 bytes
struct Copy {
  u8* to;
  const u8* from;             // null: zeros
};
// What the library does for a kernel beside stop and fail
struct Services {
  void (*copy)(Fiber*, const Copy&);     // starts one; each thread has a queue of its own
  void (*commit)(Fiber*);
  void (*wait)(Fiber*, u32 but);         // for all groups but the last ones
  void (*touch)(Fiber*, const Touch&);   // before each access of a watched kernel
  void (*touchPeer)(Fiber*, const Touch&, u32 rank);  // to shared memory of that block of the cluster; base: as the own one's
};

struct Warp {
  const Services* services;
  Fiber* lanes[warpLanes];    // null: not started, exited or never existed
  u32 exists;                 // the set of lanes that the block has
  u32 ballot;
  const Cluster* cluster;     // null: the block is alone
  u32 rank;                   // in the cluster
  u64 slots[2][warpLanes][2]; // what lanes offer to the others: a fast lane may be one exchange ahead, or have exited, never two
};

struct alignas(128) Fiber {
  Index3 thread, block;
  const Index3* blockDim;
  const Index3* gridDim;
  u32 linear;              // in the block
  i32 line;                // of the last barrier or shuffle
  Stop stopped;
  u32 parity;              // which of the two slots the last exchange used
  Warp* warp;
  u8* shared;              // the block's arena
  u64 sharedBytes;
  bool anyVote;            // the result of barrierOr
  void* stackPointer;
  void* worker;            // the library's
  void (*stop)(Fiber*, Stop, i32 line);
  void (*fail)(Fiber*, const Failure&);  // does not return
};

static_assert(sizeof(Fiber) == 128, "fiberOf places records 128 bytes apart");

// The record of the stack that the address lies in. Neighbouring stacks have it 128 bytes further down: at the same
// offset in each, the records of 1024 threads would share a few sets of the cache (twice as slow at barriers).
__attribute__((always_inline)) inline Fiber* fiberOf(u64 address) {
  const u64 stack = address & ~(stackBytes - 1);
  return reinterpret_cast<Fiber*>(stack + stackBytes - sizeof(Fiber) - (stack / (stackBytes / 128) & 127 * 128));
}
__attribute__((always_inline)) inline Fiber* self() { return fiberOf(reinterpret_cast<u64>(__builtin_frame_address(0))); }

// The allocation that a pointer argument lies in; null where there is none
struct Extent {
  u8* begin;
  u64 bytes;
  Shadow* shadow = nullptr;   // one per byte, where the kernel is watched
};

// One per kernel, exported as weftKernel_NAME
struct Kernel {
  u32 abi;
  u32 argumentCount;
  const u32* argumentBytes;
  const bool* argumentIsPointer;
  void (*run)(const void* const* arguments, const Extent* extents);
  u32 cluster;              // neighbouring blocks that run together
  const char* const* text;  // the source, to quote a failure's line
  bool watched;             // it tells of every access to memory
};

}  // namespace emu
