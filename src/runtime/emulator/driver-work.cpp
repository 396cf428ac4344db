// Driver entry points: modules, functions and launches.
#include "device.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace emu;

namespace {

// The driver's interface gives no size: the section table is the last thing in a linked object, segments come before it
u64 imageBytes(const void* image) {
  const Elf64_Ehdr& header = *static_cast<const Elf64_Ehdr*>(image);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_type != ET_DYN) return 0;
  u64 end = header.e_shoff + u64(header.e_shnum) * header.e_shentsize;
  const u8* const bytes = static_cast<const u8*>(image);
  for (int i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, bytes + header.e_phoff + u64(i) * header.e_phentsize, sizeof segment);
    if (segment.p_offset + segment.p_filesz > end) end = segment.p_offset + segment.p_filesz;
  }
  for (int i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, bytes + header.e_shoff + u64(i) * header.e_shentsize, sizeof section);
    if (section.sh_type != SHT_NOBITS && section.sh_offset + section.sh_size > end) end = section.sh_offset + section.sh_size;
  }
  return end;
}

bool writeAll(int file, const void* from, u64 bytes) {
  for (u64 done = 0; done < bytes;) {
    const ssize_t n = write(file, static_cast<const u8*>(from) + done, bytes - done);
    if (n <= 0) return false;
    done += u64(n);
  }
  return true;
}

// A file in memory; where those cannot be executed, a temporary one. The loader recognises files by path: the descriptor
// stays open as long as the module, so that no other module gets its number
bool load(Image& module, const void* image, u64 bytes) {
  module.file = memfd_create("weft-kernels", MFD_CLOEXEC);
  if (module.file >= 0 && writeAll(module.file, image, bytes)) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", module.file);
    module.library = dlopen(path, RTLD_LOCAL | RTLD_NOW);
    if (module.library != nullptr) return true;
  }
  if (module.file >= 0) close(module.file);
  module.file = -1;
  const char* folder = std::getenv("TMPDIR");
  std::string path = std::string(folder == nullptr || *folder == 0 ? "/tmp" : folder) + "/weft-kernels-XXXXXX";
  const int file = mkstemp(&path[0]);
  if (file < 0) return false;
  if (writeAll(file, image, bytes)) module.library = dlopen(path.c_str(), RTLD_LOCAL | RTLD_NOW);
  unlink(path.c_str());
  close(file);
  return module.library != nullptr;
}

void unload(Module* module) {
  for (const auto& entry : module->functions) {
    drop(device().functions, entry.second);
    delete entry.second;
  }
  delete module;
}

}  // namespace

emu::Image::~Image() {
  if (library != nullptr) dlclose(library);
  if (file >= 0) close(file);
}

WEFT_ENTRY cuModuleLoadData(void** out, const void* image) {
  if (const int error = ready()) return error;
  if (out == nullptr || image == nullptr) return invalidValue;
  const u64 bytes = imageBytes(image);
  if (bytes == 0) return invalidImage;
  Module* module = new Module;
  if (!load(*module->image, image, bytes)) {
    const char* why = dlerror();
    std::fprintf(stderr, "weft emulator: the module cannot be loaded: %s\n", why == nullptr ? "no memory file, no temporary file" : why);
    unload(module);
    return invalidImage;
  }
  *out = keep(device().modules, module);
  return success;
}
WEFT_ENTRY cuModuleLoadDataEx(void** out, const void* image, unsigned, int*, void**) { return cuModuleLoadData(out, image); }
WEFT_ENTRY cuModuleGetGlobal_v2(u64*, size_t*, void* handle, const char*) {
  if (const int error = ready()) return error;
  return isOneOf(device().modules, handle) ? notFound : invalidHandle;
}
WEFT_ENTRY cuModuleUnload(void* handle) {
  if (const int error = ready()) return error;
  if (!isOneOf(device().modules, handle)) return invalidHandle;
  drop(device().modules, handle);
  unload(static_cast<Module*>(handle));
  return success;
}
WEFT_ENTRY cuModuleGetFunction(void** out, void* handle, const char* name) {
  if (const int error = ready()) return error;
  if (!isOneOf(device().modules, handle)) return invalidHandle;
  Module& module = *static_cast<Module*>(handle);
  Function*& function = module.functions[name];
  if (function == nullptr) {
    const Kernel* kernel = static_cast<const Kernel*>(dlsym(module.image->library, (std::string("weftKernel_") + name).c_str()));
    if (kernel == nullptr || kernel->abi != abiVersion) {
      module.functions.erase(name);
      return kernel == nullptr ? notFound : noBinary;
    }
    function = keep(device().functions, new Function);
    function->image = module.image, function->kernel = kernel, function->name = name;
  }
  *out = function;
  return success;
}
// Most threads (0), static shared (1), constant (2) and local bytes (3), registers (4), versions (5, 6), dynamic shared (8)
WEFT_ENTRY cuFuncGetAttribute(int* value, int attribute, void* handle) {
  if (const int error = ready()) return error;
  if (!isOneOf(device().functions, handle)) return invalidHandle;
  const Function& function = *static_cast<Function*>(handle);
  switch (attribute) {
    case 0: return *value = 1024, success;
    case 1: case 2: case 3: case 7: case 9: return *value = 0, success;
    case 4: return *value = 32, success;
    case 5: case 6: return *value = 90, success;
    case 8: return *value = int(function.maxSharedBytes), success;
    default: return invalidValue;
  }
}
WEFT_ENTRY cuFuncSetAttribute(void* handle, int attribute, int value) {
  if (const int error = ready()) return error;
  if (!isOneOf(device().functions, handle)) return invalidHandle;
  if (attribute == 9) return success;  // the carve-out is a hint
  if (attribute != 8 || value < 0 || value > 232448) return invalidValue;
  static_cast<Function*>(handle)->maxSharedBytes = u32(value);
  return success;
}

WEFT_ENTRY cuFuncSetCacheConfig(void* handle, int) {
  if (const int error = ready()) return error;
  return isOneOf(device().functions, handle) ? success : invalidHandle;
}

WEFT_ENTRY cuLaunchKernel(void* handle, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY, unsigned blockZ,
                          unsigned sharedBytes, void* streamHandle, void** parameters, void** extra) {
  if (const int error = ready()) return error;
  if (!isOneOf(device().functions, handle)) return invalidHandle;
  Stream* const stream = streamOf(streamHandle);
  if (stream == nullptr) return invalidHandle;
  const Function& function = *static_cast<Function*>(handle);
  const Kernel& kernel = *function.kernel;
  if (gridX == 0 || gridY == 0 || gridZ == 0 || gridX > 2147483647u || gridY > 65535 || gridZ > 65535) return invalidValue;
  if (blockX == 0 || blockY == 0 || blockZ == 0 || blockX > 1024 || blockY > 1024 || blockZ > 64 || u64(blockX) * blockY * blockZ > 1024) return invalidValue;
  if (sharedBytes > function.maxSharedBytes) return invalidValue;
  if (gridX % kernel.cluster != 0) return invalidClusterSize;
  if (extra != nullptr) return notSupported;
  if (kernel.argumentCount > 0 && parameters == nullptr) return invalidValue;

  const std::shared_ptr<Launch> model = std::make_shared<Launch>();
  model->kernel = &kernel;
  model->name = function.name;
  model->grid = {gridX, gridY, gridZ};
  model->block = {blockX, blockY, blockZ};
  model->sharedBytes = sharedBytes;
  model->blocks = u64(gridX) * gridY * gridZ;
  model->cluster = kernel.cluster;
  model->order = currentOrder();
  std::vector<size_t> places;
  for (u32 i = 0; i < kernel.argumentCount; ++i) {
    if (parameters[i] == nullptr) return invalidValue;
    places.push_back((model->values.size() + 15) & ~size_t(15));
    model->values.resize(places[i] + kernel.argumentBytes[i]);
    std::memcpy(model->values.data() + places[i], parameters[i], kernel.argumentBytes[i]);
  }
  for (u32 i = 0; i < kernel.argumentCount; ++i) model->arguments.push_back(model->values.data() + places[i]);

  return submit(stream, [model, image = function.image] {  // may run more than once, from a graph
    if (stickyError() != 0) return;
    Launch launch;
    launch.kernel = model->kernel, launch.name = model->name, launch.grid = model->grid, launch.block = model->block;
    launch.sharedBytes = model->sharedBytes, launch.blocks = model->blocks, launch.cluster = model->cluster, launch.order = model->order, launch.arguments = model->arguments;
    for (size_t i = 0; i < launch.arguments.size(); ++i) {
      Extent extent{nullptr, 0};
      std::vector<Range> written;
      if (launch.kernel->argumentIsPointer[i]) {
        u64 address;
        std::memcpy(&address, launch.arguments[i], 8);
        if (const int error = lend(address, launch.kernel->watched, extent, written)) return poison(error, "kernel '" + launch.name + "': no addresses are left to watch its memory");
      }
      launch.extents.push_back(extent);
      launch.written.push_back(std::move(written));
    }
    runLaunch(launch);
    if (launch.failed) poison(launch.report.error, launch.report.text);
  });
}

struct LaunchAttribute {
  int id;
  alignas(8) unsigned value[16];
};
struct LaunchConfig {
  unsigned grid[3], block[3], sharedBytes;
  void* stream;
  const LaunchAttribute* attributes;
  unsigned attributeCount;
};
// Attributes that do not change what is computed are taken, and the cluster that the kernel was compiled for
WEFT_ENTRY cuLaunchKernelEx(const LaunchConfig* config, void* handle, void** parameters, void** extra) {
  if (config == nullptr) return invalidValue;
  for (unsigned i = 0; i < config->attributeCount; ++i) {
    const LaunchAttribute& attribute = config->attributes[i];
    if (attribute.id != 4) continue;
    if (!isOneOf(device().functions, handle)) return invalidHandle;
    const u32 compiled = static_cast<Function*>(handle)->kernel->cluster;
    if (attribute.value[0] != compiled || attribute.value[1] != 1 || attribute.value[2] != 1) return compiled == 1 ? notSupported : invalidClusterSize;
  }
  return cuLaunchKernel(handle, config->grid[0], config->grid[1], config->grid[2], config->block[0], config->block[1], config->block[2],
                        config->sharedBytes, config->stream, parameters, extra);
}

WEFT_ENTRY cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* handle, int threads, size_t sharedBytes) {
  if (const int error = ready()) return error;
  if (!isOneOf(device().functions, handle)) return invalidHandle;
  if (threads <= 0 || threads > 1024 || sharedBytes > 232448) return *blocks = 0, success;
  const int byThreads = 2048 / ((threads + 31) / 32 * 32), byShared = int(233472 / (sharedBytes + 1024));
  return *blocks = byThreads < byShared ? byThreads < 32 ? byThreads : 32 : byShared < 32 ? byShared : 32, success;
}

void emu::destroyEverything() {
  Device& d = device();
  std::set<void*> streams, events, modules, graphs, execs;
  {
    std::lock_guard<std::mutex> lock(d.lock);
    streams.swap(d.streams), events.swap(d.events), modules.swap(d.modules), graphs.swap(d.graphs), execs.swap(d.execs);
    d.defaultStream = Stream{};
    d.captures.clear();
  }
  for (void* stream : streams) delete static_cast<Stream*>(stream);
  for (void* event : events) delete static_cast<Event*>(event);
  for (void* graph : graphs) delete static_cast<Graph*>(graph);
  for (void* exec : execs) delete static_cast<GraphExec*>(exec);
  for (void* module : modules) unload(static_cast<Module*>(module));
}
