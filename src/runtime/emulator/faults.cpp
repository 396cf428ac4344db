// Faults inside a kernel: a signal on a worker's thread, while one of its fibers runs. The handler works on an alternate
// stack (the fiber's may be what overflowed), notes what happened and leaves for the scheduler, as a failed fiber does.
// Every other fault goes to the handler that was there before: V8 has one for WebAssembly's memory.
#include "internal.h"
#include "fibers.h"
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

namespace emu {

thread_local Worker* workerOfThread = nullptr;

namespace {

const int faultSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
struct sigaction before[65];

u64 stackPointerOf(void* context) {
#if defined(__x86_64__)
  return u64(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RSP]);
#elif defined(__aarch64__)
  return static_cast<ucontext_t*>(context)->uc_mcontext.sp;
#else
  (void)context;
  return 0;  // not known: the thread is believed to be in its fiber
#endif
}

bool onStackOf(const Fiber* fiber, u64 at) {
  const u64 low = reinterpret_cast<u64>(fiber) & ~(stackBytes - 1);
  return at == 0 || (at >= low && at < low + stackBytes);
}

void pass(int signal, siginfo_t* info, void* context) {
  const struct sigaction& old = before[signal];
  if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction != nullptr) return old.sa_sigaction(signal, info, context);
  if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) return old.sa_handler(signal);
  sigaction(signal, &old, nullptr);  // back in the faulting instruction, which faults again
  if (info->si_code <= 0) raise(signal);
}

void onFault(int signal, siginfo_t* info, void* context) {
  static thread_local char sentence[256];
  Worker* worker = workerOfThread;
  Fiber* fiber = worker == nullptr ? nullptr : runningFiber(worker);
  if (fiber == nullptr) return pass(signal, info, context);
  const u64 address = reinterpret_cast<u64>(info->si_addr);
  const u64 low = reinterpret_cast<u64>(fiber) & ~(stackBytes - 1);
  int error = launchFailed;
  if (signal == SIGSEGV || signal == SIGBUS) {
    if (address >= low && address < low + guardBytes())
      std::snprintf(sentence, sizeof sentence, "the thread's local variables need more than its stack of %llu KiB", stackBytes >> 10);
    else {
      error = illegalAddress;
      const i64 place = sharedByte(worker, address);
      if (place >= 0) std::snprintf(sentence, sizeof sentence, "touches byte %lld of shared memory, which ends before it", place);
      else std::snprintf(sentence, sizeof sentence, "touches memory at 0x%llx, which it does not own", address);
    }
  } else if (signal == SIGFPE) {
    std::snprintf(sentence, sizeof sentence, "divides an integer by zero");
  } else {
    std::snprintf(sentence, sizeof sentence, "runs into undefined behaviour or an illegal instruction (signal %d)", signal);
  }
  abandonFiber(worker, error, sentence, error == illegalAddress ? address : 0);
}

// The watchdog's: only a thread that is inside the kernel's code leaves it; one in the scheduler sees launch.timedOut
void onPoke(int signal, siginfo_t* info, void* context) {
  Worker* worker = workerOfThread;
  Fiber* fiber = worker == nullptr ? nullptr : runningFiber(worker);
  if (worker == nullptr) {  // another copy of this library in the process uses the same signal
    const struct sigaction& old = before[signal];
    if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction != nullptr) old.sa_sigaction(signal, info, context);
    return;
  }
  if (fiber == nullptr || !mayBeAbandoned(worker) || !onStackOf(fiber, stackPointerOf(context))) return;  // it pokes again
  abandonFiber(worker, launchTimeout, "does not end; the watchdog stopped it (WEFT_EMULATOR_TIMEOUT seconds)", 0);
}

}  // namespace

int pokeSignal() { return SIGRTMAX - 5; }

void installFaultHandlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler does not return: nothing may stay blocked
    sigemptyset(&action.sa_mask);
    action.sa_sigaction = onFault;
    for (int signal : faultSignals) sigaction(signal, &action, &before[signal]);
    action.sa_sigaction = onPoke;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;  // no NODEFER: pokes queue up, and nested would overflow the stack
    sigaction(pokeSignal(), &action, &before[pokeSignal()]);
  });
}

void setThreadWorker(Worker* worker) { workerOfThread = worker; }

void enterWorkerThread(Worker* worker) {
  workerOfThread = worker;
  stack_t stack{};
  stack.ss_size = 64 << 10;
  stack.ss_sp = std::malloc(stack.ss_size);
  sigaltstack(&stack, nullptr);
  sigset_t signals;  // whoever created the thread may have blocked them
  sigemptyset(&signals);
  for (int signal : faultSignals) sigaddset(&signals, signal);
  sigaddset(&signals, pokeSignal());
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

}  // namespace emu
