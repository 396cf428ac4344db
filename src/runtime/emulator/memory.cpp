// Device memory: every allocation is a mapping of its own between two guard pages, its end at a page's end. Ends are
// aligned to 16 bytes, for vectors; the slack behind the end and the bytes before the beginning hold canaries. Pages
// are not reserved: a huge sparse buffer costs what is touched. Freed addresses stay inaccessible for a while.
#include "internal.h"
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>

namespace emu {

namespace {

constexpr u8 canary = 0xc5;
constexpr u32 uninitialised = 0x7fbd7fbd;      // NaN as f32, f16 and bf16
constexpr u64 fillLimit = 4 << 20;             // larger allocations start as zeros: filling would touch their pages
constexpr u64 watchedBefore = 256;             // bytes before the beginning whose canaries are looked at
constexpr size_t freedKept = 4096;

struct Memory {
  std::mutex lock;
  std::map<u64, Allocation> live;
  std::map<u64, Allocation> freed;
  std::deque<u64> freedOrder;
  u64 used = 0;
};
Memory& memory() {
  static Memory* const memory = new Memory;
  return *memory;
}

u64 pageBytes() {
  static const u64 bytes = u64(sysconf(_SC_PAGESIZE));
  return bytes;
}

u64 totalBytes() {
  const char* text = std::getenv("WEFT_EMULATOR_MEMORY");
  const u64 bytes = text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  return bytes > 0 ? bytes : 16ull << 30;
}

u64 keyOf(const Allocation& a) { return reinterpret_cast<u64>(a.begin); }

bool find(const std::map<u64, Allocation>& in, u64 address, Allocation& found) {
  auto at = in.upper_bound(address);
  if (at == in.begin()) return false;
  --at;
  if (address - at->first >= at->second.bytes) return false;
  found = at->second;
  return true;
}

u64 beforeBytes(const Allocation& a) { return std::min<u64>(watchedBefore, u64(a.begin - (a.mapping + pageBytes()))); }
u64 afterBytes(const Allocation& a) { return u64(a.mapping + a.mappingBytes - pageBytes() - (a.begin + a.bytes)); }

bool intact(const Allocation& a, std::string& damage) {
  const auto damaged = [&](const u8* from, u64 count, const char* where) {
    for (u64 i = 0; i < count; ++i)
      if (from[i] != canary) {
        const i64 offset = from + i - a.begin;
        damage = std::string("memory ") + where + " an allocation of " + std::to_string(a.bytes) + " bytes was written, at its byte " + std::to_string(offset);
        return true;
      }
    return false;
  };
  const u64 before = beforeBytes(a);
  return !damaged(a.begin - before, before, "before") && !damaged(a.begin + a.bytes, afterBytes(a), "behind");
}

void giveUp(Memory& m, Allocation a) {
  if (a.shadow != nullptr) munmap(a.shadow, a.bytes * sizeof(Shadow));
  a.shadow = nullptr;
  a.written.clear();
  // A new mapping in its place: the pages go back, the addresses stay taken
  mmap(a.mapping, a.mappingBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  m.used -= a.bytes;
  m.freed[keyOf(a)] = a;
  m.freedOrder.push_back(keyOf(a));
  while (m.freedOrder.size() > freedKept) {
    const auto oldest = m.freed.find(m.freedOrder.front());
    m.freedOrder.pop_front();
    if (oldest == m.freed.end()) continue;
    munmap(oldest->second.mapping, oldest->second.mappingBytes);
    m.freed.erase(oldest);
  }
}

}  // namespace

int allocate(u64 bytes, u64& address) {
  constexpr int invalidValue = 1, outOfMemory = 2;
  if (bytes == 0) return invalidValue;
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.lock);
  const u64 total = totalBytes(), page = pageBytes();
  if (bytes > total || m.used > total - bytes) return outOfMemory;
  const u64 aligned = (bytes + 15) & ~15ull, inside = (aligned + page - 1) / page * page;
  Allocation a;
  a.bytes = bytes;
  a.mappingBytes = inside + 2 * page;
  void* mapping = mmap(nullptr, a.mappingBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return outOfMemory;
  a.mapping = static_cast<u8*>(mapping);
  if (mprotect(a.mapping + page, inside, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapping, a.mappingBytes);
    return outOfMemory;
  }
  a.begin = a.mapping + page + inside - aligned;
  std::memset(a.begin - beforeBytes(a), canary, beforeBytes(a));
  std::memset(a.begin + bytes, canary, afterBytes(a));
  if (bytes <= fillLimit)
    for (u64 i = 0; i < bytes; i += 4) std::memcpy(a.begin + i, &uninitialised, std::min<u64>(4, bytes - i));
  m.live[keyOf(a)] = a;
  m.used += bytes;
  address = keyOf(a);
  return 0;
}

int release(u64 address) {
  constexpr int invalidValue = 1;
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.lock);
  const auto at = m.live.find(address);
  if (at == m.live.end()) return invalidValue;
  const Allocation a = at->second;
  m.live.erase(at);
  giveUp(m, a);
  return 0;
}

void releaseAll() {
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.lock);
  for (const auto& entry : m.live) giveUp(m, entry.second);
  m.live.clear();
}

bool findAllocation(u64 address, Allocation& found) {
  std::lock_guard<std::mutex> lock(memory().lock);
  return find(memory().live, address, found);
}

bool wasFreed(u64 address, Allocation& found) {
  std::lock_guard<std::mutex> lock(memory().lock);
  return find(memory().freed, address, found);
}

bool insideAllocation(u64 address, u64 bytes) {
  Allocation a;
  if (!findAllocation(address, a)) return false;
  return bytes <= a.bytes && address - keyOf(a) <= a.bytes - bytes;
}

namespace {

Allocation* allocationAt(u64 address) {
  std::map<u64, Allocation>& live = memory().live;
  auto at = live.upper_bound(address);
  if (at == live.begin()) return nullptr;
  --at;
  return address - at->first < at->second.bytes ? &at->second : nullptr;
}

void addRange(std::vector<Range>& ranges, Range added) {
  const auto first = std::find_if(ranges.begin(), ranges.end(), [&](const Range& r) { return r.to >= added.from; });
  auto last = first;
  for (; last != ranges.end() && last->from <= added.to; ++last) added = {std::min(added.from, last->from), std::max(added.to, last->to)};
  ranges.insert(ranges.erase(first, last), added);
}

}  // namespace

void markWritten(u64 address, u64 bytes) {
  std::lock_guard<std::mutex> lock(memory().lock);
  Allocation* const a = allocationAt(address);
  if (a != nullptr) addRange(a->written, {address - keyOf(*a), address - keyOf(*a) + bytes});
}

int lend(u64 address, bool watched, Extent& extent, std::vector<Range>& written) {
  constexpr int outOfMemory = 2;
  std::lock_guard<std::mutex> lock(memory().lock);
  Allocation* const a = allocationAt(address);
  if (a == nullptr) return 0;
  if (!watched) addRange(a->written, {0, a->bytes});
  if (watched && a->shadow == nullptr) {
    void* const shadow = mmap(nullptr, a->bytes * sizeof(Shadow), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (shadow == MAP_FAILED) return outOfMemory;
    a->shadow = static_cast<Shadow*>(shadow);
  }
  extent = {a->begin, a->bytes, a->shadow};
  written = a->written;
  return 0;
}

bool checkCanaries(std::string& damage) {
  std::lock_guard<std::mutex> lock(memory().lock);
  for (const auto& entry : memory().live)
    if (!intact(entry.second, damage)) return false;
  return true;
}

void memoryInfo(u64& free, u64& total) {
  std::lock_guard<std::mutex> lock(memory().lock);
  total = totalBytes();
  free = total - std::min(memory().used, total);
}

}  // namespace emu
