// Driver entry points: initialisation, the device and its properties, the primary context, error names, and the
// emulator's own settings.
#include "device.h"
#include <cstdio>
#include <cstring>
#include <dlfcn.h>

using namespace emu;

namespace {

std::atomic<bool> initialised{false};
char primaryContext;                        // its address is the handle
thread_local void* currentContext = nullptr;

struct ErrorText { int code; const char *name, *text; };
const ErrorText errors[] = {
  {0, "CUDA_SUCCESS", "no error"},
  {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
  {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
  {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
  {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
  {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
  {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
  {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
  {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
  {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
  {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
  {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
  {600, "CUDA_ERROR_NOT_READY", "device not ready"},
  {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
  {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
  {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
  {710, "CUDA_ERROR_ASSERT", "device-side assert triggered"},
  {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
  {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
  {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
  {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
  {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
  {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not ended in the same stream as it began"},
  {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
  {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", "operation would make the legacy stream depend on a capturing blocking stream"},
  {912, "CUDA_ERROR_INVALID_CLUSTER_SIZE", "invalid cluster size"},
  {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};
const ErrorText* errorText(int code) {
  for (const ErrorText& entry : errors)
    if (entry.code == code) return &entry;
  return nullptr;
}

int resetContext() {
  waitFor(lastSequence());
  destroyEverything();
  releaseAll();
  cleanse();
  return success;
}

}  // namespace

int emu::ready() {
  if (!initialised) return notInitialised;
  if (currentContext == nullptr) return invalidContext;
  return stickyError();
}

WEFT_ENTRY cuInit(unsigned flags) {
  if (flags != 0) return invalidValue;
  installFaultHandlers();
  initialised = true;
  return success;
}
WEFT_ENTRY cuDriverGetVersion(int* version) { return version == nullptr ? invalidValue : (*version = 13000, success); }

WEFT_ENTRY cuGetErrorName(int error, const char** text) {
  const ErrorText* entry = errorText(error);
  *text = entry == nullptr ? nullptr : entry->name;
  return entry == nullptr ? invalidValue : success;
}
WEFT_ENTRY cuGetErrorString(int error, const char** text) {
  const ErrorText* entry = errorText(error);
  *text = entry == nullptr ? nullptr : entry->text;
  return entry == nullptr ? invalidValue : success;
}

// ---- the device ----
WEFT_ENTRY cuDeviceGetCount(int* count) { return !initialised ? notInitialised : (*count = 1, success); }
WEFT_ENTRY cuDeviceGet(int* out, int ordinal) { return !initialised ? notInitialised : ordinal != 0 ? invalidDevice : (*out = 0, success); }
WEFT_ENTRY cuDeviceGetName(char* name, int bytes, int dev) {
  if (!initialised) return notInitialised;
  if (dev != 0) return invalidDevice;
  std::snprintf(name, size_t(bytes), "Weft emulator");
  return success;
}
WEFT_ENTRY cuDeviceTotalMem_v2(size_t* bytes, int dev) {
  if (!initialised) return notInitialised;
  if (dev != 0) return invalidDevice;
  u64 free, total;
  memoryInfo(free, total);
  *bytes = total;
  return success;
}
WEFT_ENTRY cuDeviceGetUuid_v2(char* uuid, int dev) {
  if (!initialised) return notInitialised;
  if (dev != 0) return invalidDevice;
  std::memcpy(uuid, "weft-emulator-00", 16);
  return success;
}
WEFT_ENTRY cuDeviceGetUuid(char* uuid, int dev) { return cuDeviceGetUuid_v2(uuid, dev); }

// An H100's limits, with this computer's processors as multiprocessors
WEFT_ENTRY cuDeviceGetAttribute(int* value, int attribute, int dev) {
  if (!initialised) return notInitialised;
  if (dev != 0) return invalidDevice;
  if (value == nullptr || attribute < 1 || attribute > 200) return invalidValue;
  static const struct { int attribute, value; } table[] = {
    {1, 1024}, {2, 1024}, {3, 1024}, {4, 64},             // threads per block; block x, y, z
    {5, 2147483647}, {6, 65535}, {7, 65535},              // grid x, y, z
    {8, 48 << 10}, {9, 64 << 10}, {10, 32},               // shared memory per block, constant memory, warp
    {11, 2147483647}, {12, 65536}, {13, 1000000}, {14, 512},  // pitch, registers per block, clock in kHz, texture alignment
    {31, 1}, {36, 1000000}, {37, 64}, {38, 50 << 20},     // concurrent kernels, memory clock and bus, L2 cache
    {39, 2048}, {40, 1}, {41, 1}, {75, 9}, {76, 0},       // threads per multiprocessor, copy engines, unified addresses, capability
    {81, 233472}, {82, 65536}, {97, 232448}, {106, 32}, {111, 1024},  // shared memory and registers per multiprocessor, opt-in, blocks, reserved
  };
  *value = attribute == 16 ? workerCount() : 0;
  for (const auto& entry : table)
    if (entry.attribute == attribute) *value = entry.value;
  return success;
}
WEFT_ENTRY cuDeviceGetPCIBusId(char* id, int bytes, int dev) {
  if (!initialised) return notInitialised;
  if (dev != 0 || bytes < 1) return invalidValue;
  std::snprintf(id, size_t(bytes), "0000:00:00.0");
  return success;
}
WEFT_ENTRY cuDeviceComputeCapability(int* major, int* minor, int) { return *major = 9, *minor = 0, success; }

// ---- the primary context ----
WEFT_ENTRY cuDevicePrimaryCtxRetain(void** context, int dev) {
  if (!initialised) return notInitialised;
  if (dev != 0) return invalidDevice;
  ++device().retained;
  *context = &primaryContext;
  return success;
}
WEFT_ENTRY cuDevicePrimaryCtxRelease_v2(int dev) {
  if (!initialised) return notInitialised;
  if (dev != 0) return invalidDevice;
  if (device().retained == 0) return invalidContext;
  return --device().retained > 0 ? int(success) : resetContext();
}
WEFT_ENTRY cuDevicePrimaryCtxReset_v2(int dev) { return !initialised ? notInitialised : dev != 0 ? int(invalidDevice) : resetContext(); }
WEFT_ENTRY cuDevicePrimaryCtxGetState(int dev, unsigned* flags, int* active) {
  if (dev != 0) return invalidDevice;
  return *flags = 0, *active = device().retained > 0, success;
}
WEFT_ENTRY cuCtxSetCurrent(void* context) {
  if (!initialised) return notInitialised;
  if (context != nullptr && context != &primaryContext) return invalidContext;
  currentContext = context;
  return success;
}
WEFT_ENTRY cuCtxGetCurrent(void** context) { return !initialised ? notInitialised : (*context = currentContext, success); }
WEFT_ENTRY cuCtxGetDevice(int* dev) { return !initialised ? notInitialised : currentContext == nullptr ? invalidContext : (*dev = 0, success); }
WEFT_ENTRY cuCtxSynchronize() {
  if (const int error = ready()) return error;
  if (const int error = refuseInCapture()) return error;
  return synchronise(lastSequence());
}

// As the driver does it: the plain name finds the newest form
WEFT_ENTRY cuGetProcAddress_v2(const char* symbol, void** found, int, u64, int* status) {
  if (symbol == nullptr || found == nullptr) return invalidValue;
  static void* const library = [] {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&cuInit), &info);
    return dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  }();
  *found = nullptr;
  for (const char* version : {"_v2", ""}) {
    if (*found == nullptr) *found = dlsym(library, (std::string(symbol) + version).c_str());
  }
  if (status != nullptr) *status = *found == nullptr ? 1 : 0;
  return *found == nullptr ? int(notFound) : int(success);
}

// ---- the emulator's own ----
// "ascending", "descending", "warp-greedy", "warp-greedy-descending", "random:SEED"; "": what WEFT_EMULATOR_ORDER says
WEFT_ENTRY weftEmulatorSetOrder(const char* order) { return setOrder(order) ? success : invalidValue; }
WEFT_ENTRY weftEmulatorWorkers() { return workerCount(); }
// The whole length; the buffer has as much as fits, ended by a zero
extern "C" __attribute__((visibility("default"))) size_t weftEmulatorLastFailure(char* buffer, size_t capacity) { return lastFailure(buffer, capacity); }
// kernels, blocks and switches to a fiber since the library was loaded
extern "C" __attribute__((visibility("default"))) void weftEmulatorStatistics(u64* values) {
  values[0] = statistics.kernels, values[1] = statistics.blocks, values[2] = statistics.switches;
}
