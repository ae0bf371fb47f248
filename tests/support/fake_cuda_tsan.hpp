// What the fake says to the thread sanitizer; nothing without it. The bookkeeping is Quiet: seen
// neither as access nor as order. Streams are threads of their own (fibers, or real threads), and
// edges are made by hand where CUDA makes them.
#pragma once

#include "support/sanitizers.hpp"

#if FLATBED_THREAD_SANITIZER
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
void AnnotateIgnoreSyncBegin(const char* file, int line);
void AnnotateIgnoreSyncEnd(const char* file, int line);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}
#endif

namespace flatbed::fake_cuda {

#if FLATBED_THREAD_SANITIZER
inline void begin_quiet() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
}
inline void end_quiet() {
  AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
inline void acquire_edge(char* address) { __tsan_acquire(address); }
inline void release_edge(char* address) { __tsan_release(address); }
#else
inline void begin_quiet() {}
inline void end_quiet() {}
inline void acquire_edge(char*) {}
inline void release_edge(char*) {}
#endif

struct Quiet {
  Quiet() { begin_quiet(); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
  ~Quiet() { end_quiet(); }
};

// Makes accesses visible within Quiet.
struct Loud {
  Loud() { end_quiet(); }
  Loud(const Loud&) = delete;
  Loud& operator=(const Loud&) = delete;
  ~Loud() { begin_quiet(); }
};

// A stream as a thread of the sanitizer's: what happens AsFiber is the stream's doing, whichever
// thread runs it.
class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
#if FLATBED_THREAD_SANITIZER
  ~Fiber() {
    if (fiber_ != nullptr) __tsan_destroy_fiber(fiber_);
  }
  void* get() {
    if (fiber_ == nullptr) fiber_ = __tsan_create_fiber(0);
    return fiber_;
  }

 private:
  void* fiber_ = nullptr;
#endif
};

#if FLATBED_THREAD_SANITIZER
// Always inlined: the sanitizer keeps a call stack for each thread, and a constructor that is
// entered on one and left on the other would put both out of step.
class AsFiber {
 public:
  [[gnu::always_inline]] explicit AsFiber(Fiber& fiber) : caller_(__tsan_get_current_fiber()) {
    __tsan_switch_to_fiber(fiber.get(), 1);  // 1: the switch itself orders nothing
  }
  AsFiber(const AsFiber&) = delete;
  AsFiber& operator=(const AsFiber&) = delete;
  [[gnu::always_inline]] ~AsFiber() { __tsan_switch_to_fiber(caller_, 1); }

 private:
  void* caller_;
};
#else
struct AsFiber {
  explicit AsFiber(Fiber&) {}
  AsFiber(const AsFiber&) = delete;
  AsFiber& operator=(const AsFiber&) = delete;
  ~AsFiber() {}
};
#endif

}  // namespace flatbed::fake_cuda
