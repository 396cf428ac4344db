// Stacks and switching between them. A switch saves the registers that a called function must keep, and the stack
// pointer: no signal mask, no system call. x86-64 and arm64 by hand; elsewhere ucontext, which costs two system calls.
#pragma once
#include "abi.h"
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace emu {

inline u64 guardBytes() {
  static const u64 bytes = u64(sysconf(_SC_PAGESIZE));
  return bytes;
}

#if defined(__x86_64__)
// emuSwitch(&from, to): saves here, goes on there. A jump, not `ret`: the processor would predict the return to be to the
// call it saw last, wrongly every time (1.6 times slower).
asm(R"(
.text
.p2align 4
.type emuSwitch, @function
emuSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size emuSwitch, .-emuSwitch
)");
extern "C" void emuSwitch(void** from, void* to) __asm__("emuSwitch") __attribute__((visibility("hidden")));

// A stack that starts in `entry` when it is switched to
inline void* freshStack(void* top, void (*entry)()) {
  u64* at = reinterpret_cast<u64*>(reinterpret_cast<u64>(top) & ~15ull);
  *--at = 0;                                   // the return address of entry, which never returns; 16-byte alignment
  *--at = reinterpret_cast<u64>(entry);
  for (int i = 0; i < 6; ++i) *--at = 0;
  return at;
}
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.type emuSwitch, %function
emuSwitch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emuSwitch, .-emuSwitch
)");
extern "C" void emuSwitch(void** from, void* to) __asm__("emuSwitch") __attribute__((visibility("hidden")));

inline void* freshStack(void* top, void (*entry)()) {
  u64* at = reinterpret_cast<u64*>(reinterpret_cast<u64>(top) & ~15ull) - 20;
  for (int i = 0; i < 20; ++i) at[i] = 0;
  at[11] = reinterpret_cast<u64>(entry);       // x30
  return at;
}
#else
// The saved place is a ucontext_t on the stack that was left
inline void emuSwitch(void** from, void* to) {
  ucontext_t here;
  *from = &here;
  swapcontext(&here, static_cast<ucontext_t*>(to));
}
inline void* freshStack(void* top, void (*entry)()) {
  u64 place = (reinterpret_cast<u64>(top) - sizeof(ucontext_t)) & ~63ull;
  ucontext_t* context = reinterpret_cast<ucontext_t*>(place);
  getcontext(context);
  const u64 low = (place & ~(stackBytes - 1)) + guardBytes();
  context->uc_stack.ss_sp = reinterpret_cast<void*>(low);
  context->uc_stack.ss_size = place - low;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}
#endif

// One worker's stacks. A stack belongs to a thread of the block from its start to its end, and the last one given back
// is the first one given out: threads that never wait all run on one warm stack.
class Stacks {
 public:
  Fiber* take() {
    if (free_.empty()) grow();
    Fiber* fiber = free_.back();
    free_.pop_back();
    return fiber;
  }
  void giveBack(Fiber* fiber) { free_.push_back(fiber); }

 private:
  void grow() {
    constexpr u64 count = 32, bytes = (count + 1) * stackBytes;
    void* mapping = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) __builtin_trap();
    const u64 first = (reinterpret_cast<u64>(mapping) + stackBytes - 1) & ~(stackBytes - 1);
    for (u64 i = count; i-- > 0;) {
      const u64 stack = first + i * stackBytes;
      if (mprotect(reinterpret_cast<void*>(stack + guardBytes()), stackBytes - guardBytes(), PROT_READ | PROT_WRITE) != 0) __builtin_trap();
      free_.push_back(fiberOf(stack));
    }
  }
  std::vector<Fiber*> free_;
};

}  // namespace emu
