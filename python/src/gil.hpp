// GilReleased and GilHeld: scopes without the GIL, and with it.
//
// A thread that wants the GIL while the interpreter ends, such as a daemon thread, stays where it
// is until the process has ended, as from CPython 3.14 on. Before, CPython unwinds it
// (pthread_exit), which no destructor of C++ survives: with nanobind's classes the process aborts.
#pragma once

#include <cxxabi.h>
#include <nanobind/nanobind.h>

#include <chrono>
#include <thread>

namespace flatbed::python {

// Calls `take`, which takes the GIL, or calls Python, which gives it away and takes it again.
template <typename Take>
auto take_gil(Take&& take) noexcept {
  try {
    return take();
  } catch (const abi::__forced_unwind&) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

class GilReleased {
 public:
  GilReleased() noexcept : state_(PyEval_SaveThread()) {}
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;
  ~GilReleased() {
    take_gil([this] { PyEval_RestoreThread(state_); });
  }

 private:
  PyThreadState* state_;
};

class GilHeld {
 public:
  GilHeld() noexcept : state_(take_gil([] { return PyGILState_Ensure(); })) {}
  GilHeld(const GilHeld&) = delete;
  GilHeld& operator=(const GilHeld&) = delete;
  ~GilHeld() { PyGILState_Release(state_); }

 private:
  PyGILState_STATE state_;
};

}  // namespace flatbed::python
