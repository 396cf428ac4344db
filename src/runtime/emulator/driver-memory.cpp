// Driver entry points: device memory, copies, fills.
//
// Copies to the device take the host's bytes at the call, copies to pageable host memory return when they are done: both
// as CUDA does it, and a program in a garbage-collected language depends on the second.
#include "device.h"
#include <cstdlib>
#include <cstring>
#include <memory>

using namespace emu;

namespace {

u8* at(u64 address) { return reinterpret_cast<u8*>(address); }

// An operation that does nothing after an error, and makes one where the memory is gone
Operation checked(u64 address, u64 bytes, const char* what, Operation operation) {
  return [=] {
    if (stickyError() != 0) return;
    if (!insideAllocation(address, bytes)) return poison(illegalAddress, std::string(what) + ": the memory was freed");
    operation();
  };
}

bool isPinned(const void* host) { return isOneOf(device().pinned, const_cast<void*>(host)); }

int copyToDevice(u64 to, const void* from, size_t bytes, Stream* stream) {
  if (bytes == 0) return success;
  if (from == nullptr || !insideAllocation(to, bytes)) return invalidValue;
  if (stream->capture != nullptr)  // a graph reads the host's memory each time
    return submit(stream, checked(to, bytes, "copy to the device", [=] { std::memcpy(at(to), from, bytes), markWritten(to, bytes); }));
  const std::shared_ptr<u8> staged(static_cast<u8*>(std::malloc(bytes)), std::free);
  if (staged == nullptr) return outOfMemory;
  std::memcpy(staged.get(), from, bytes);
  return submit(stream, checked(to, bytes, "copy to the device", [=] { std::memcpy(at(to), staged.get(), bytes), markWritten(to, bytes); }));
}

int copyToHost(void* to, u64 from, size_t bytes, Stream* stream, bool wait) {
  if (bytes == 0) return success;
  if (to == nullptr || !insideAllocation(from, bytes)) return invalidValue;
  if (const int error = submit(stream, checked(from, bytes, "copy to the host", [=] { std::memcpy(to, at(from), bytes); }))) return error;
  if (stream->capture != nullptr || !(wait || !isPinned(to))) return success;
  return synchronise(stream->last);
}

int copyOnDevice(u64 to, u64 from, size_t bytes, Stream* stream) {
  if (bytes == 0) return success;
  if (!insideAllocation(to, bytes) || !insideAllocation(from, bytes)) return invalidValue;
  return submit(stream, checked(to, bytes, "copy on the device", checked(from, bytes, "copy on the device", [=] { std::memmove(at(to), at(from), bytes), markWritten(to, bytes); })));
}

template <class T> int fill(u64 to, T value, size_t count, Stream* stream) {
  if (count == 0) return success;
  if (to % sizeof(T) != 0 || !insideAllocation(to, count * sizeof(T))) return invalidValue;
  return submit(stream, checked(to, count * sizeof(T), "fill", [=] {
    T* const begin = reinterpret_cast<T*>(to);
    for (size_t i = 0; i < count; ++i) begin[i] = value;
    markWritten(to, count * sizeof(T));
  }));
}

}  // namespace

#define STREAM(handle) \
  if (const int error = ready()) return error; \
  Stream* const stream = streamOf(handle); \
  if (stream == nullptr) return invalidHandle

WEFT_ENTRY cuMemGetInfo_v2(size_t* free, size_t* total) {
  if (const int error = ready()) return error;
  u64 f, t;
  memoryInfo(f, t);
  return *free = f, *total = t, success;
}
WEFT_ENTRY cuMemAlloc_v2(u64* address, size_t bytes) {
  if (const int error = ready()) return error;
  if (const int error = refuseInCapture()) return error;
  return address == nullptr ? int(invalidValue) : allocate(bytes, *address);
}
// Waits for the device, as CUDA does
WEFT_ENTRY cuMemFree_v2(u64 address) {
  if (const int error = ready()) return error;
  if (address == 0) return success;
  if (const int error = refuseInCapture()) return error;
  if (const int error = synchronise(lastSequence())) return error;
  return release(address);
}
// In the order of a stream: the address is there at once, the end comes when the stream gets to it
WEFT_ENTRY cuMemAllocAsync(u64* address, size_t bytes, void* handle) {
  STREAM(handle);
  return address == nullptr ? int(invalidValue) : stream->capture != nullptr ? int(notSupported) : allocate(bytes, *address);
}
WEFT_ENTRY cuMemFreeAsync(u64 address, void* handle) {
  STREAM(handle);
  Allocation found;
  if (!findAllocation(address, found) || reinterpret_cast<u64>(found.begin) != address) return invalidValue;
  if (stream->capture != nullptr) return notSupported;
  return submit(stream, [=] {
    std::string damage;
    if (!checkCanaries(damage)) poison(illegalAddress, damage);
    if (release(address) != success) poison(illegalAddress, "memory was freed twice");
  });
}
WEFT_ENTRY cuMemAllocHost_v2(void** host, size_t bytes) {
  if (const int error = ready()) return error;
  *host = std::malloc(bytes);
  return *host == nullptr ? int(outOfMemory) : (keep(device().pinned, *host), int(success));
}
WEFT_ENTRY cuMemHostAlloc(void** host, size_t bytes, unsigned) { return cuMemAllocHost_v2(host, bytes); }
WEFT_ENTRY cuMemFreeHost(void* host) {
  if (const int error = ready()) return error;
  waitFor(lastSequence());
  if (!drop(device().pinned, host)) return invalidValue;
  std::free(host);
  return success;
}

WEFT_ENTRY cuMemcpyHtoD_v2(u64 to, const void* from, size_t bytes) {
  STREAM(nullptr);
  if (const int error = copyToDevice(to, from, bytes, stream)) return error;
  return synchronise(stream->last);
}
WEFT_ENTRY cuMemcpyDtoH_v2(void* to, u64 from, size_t bytes) { STREAM(nullptr); return copyToHost(to, from, bytes, stream, true); }
WEFT_ENTRY cuMemcpyDtoD_v2(u64 to, u64 from, size_t bytes) { STREAM(nullptr); return copyOnDevice(to, from, bytes, stream); }
WEFT_ENTRY cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void* handle) { STREAM(handle); return copyToDevice(to, from, bytes, stream); }
WEFT_ENTRY cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void* handle) { STREAM(handle); return copyToHost(to, from, bytes, stream, false); }
WEFT_ENTRY cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void* handle) { STREAM(handle); return copyOnDevice(to, from, bytes, stream); }

WEFT_ENTRY cuMemsetD8_v2(u64 to, u8 value, size_t count) { STREAM(nullptr); return fill(to, value, count, stream); }
WEFT_ENTRY cuMemsetD16_v2(u64 to, u16 value, size_t count) { STREAM(nullptr); return fill(to, value, count, stream); }
WEFT_ENTRY cuMemsetD32_v2(u64 to, u32 value, size_t count) { STREAM(nullptr); return fill(to, value, count, stream); }
WEFT_ENTRY cuMemsetD8Async(u64 to, u8 value, size_t count, void* handle) { STREAM(handle); return fill(to, value, count, stream); }
WEFT_ENTRY cuMemsetD16Async(u64 to, u16 value, size_t count, void* handle) { STREAM(handle); return fill(to, value, count, stream); }
WEFT_ENTRY cuMemsetD32Async(u64 to, u32 value, size_t count, void* handle) { STREAM(handle); return fill(to, value, count, stream); }

WEFT_ENTRY cuMemGetAddressRange_v2(u64* begin, size_t* bytes, u64 address) {
  if (const int error = ready()) return error;
  Allocation found;
  if (!findAllocation(address, found)) return invalidValue;
  if (begin != nullptr) *begin = reinterpret_cast<u64>(found.begin);
  if (bytes != nullptr) *bytes = found.bytes;
  return success;
}
// Memory type (2), device pointer (3), ordinal (9), range (11, 12)
WEFT_ENTRY cuPointerGetAttribute(void* out, int attribute, u64 address) {
  if (const int error = ready()) return error;
  Allocation found;
  if (out == nullptr || !findAllocation(address, found)) return invalidValue;
  switch (attribute) {
    case 2: *static_cast<unsigned*>(out) = 2; return success;
    case 3: *static_cast<u64*>(out) = address; return success;
    case 9: *static_cast<int*>(out) = 0; return success;
    case 11: *static_cast<u64*>(out) = reinterpret_cast<u64>(found.begin); return success;
    case 12: *static_cast<size_t*>(out) = found.bytes; return success;
    default: return invalidValue;
  }
}

#undef STREAM
