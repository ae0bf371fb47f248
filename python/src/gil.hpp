// GilReleased and GilHeld: scopes without the GIL, and with it. call_python(): a call of Python
// code, which gives the GIL away now and then.
//
// A thread that wants the GIL while the interpreter ends, such as a daemon thread, stays where it
// is until the process has ended, as from CPython 3.14 on. Before, CPython unwinds it
// (pthread_exit), which no destructor of C++ survives: with nanobind's classes the process aborts.
// So what a daemon thread may reach runs Python code by call_python() and import_python() alone.
#pragma once

#include <cxxabi.h>
#include <nanobind/nanobind.h>

#include <chrono>
#include <thread>

namespace flatbed::python {

// Calls `take`, which takes the GIL, or calls Python, which gives it away and takes it again. What
// is caught has no object, which the sanitizer takes for a null reference.
template <typename Take>
[[gnu::no_sanitize_undefined]] auto take_gil(Take&& take) noexcept {
  try {
    return take();
  } catch (const abi::__forced_unwind&) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// callable(*arguments, **keywords). Throws what it raises.
inline nanobind::object call_python(const nanobind::handle& callable,
                                    const nanobind::tuple& arguments,
                                    const nanobind::dict& keywords) {
  // No destructor lies between the call and the catch in take_gil().
  PyObject* const made =
      take_gil([&] { return PyObject_Call(callable.ptr(), arguments.ptr(), keywords.ptr()); });
  if (made == nullptr) throw nanobind::python_error();
  return nanobind::steal(made);
}

template <typename... Arguments>
nanobind::object call_python(const nanobind::handle& callable, const Arguments&... arguments) {
  return call_python(callable, nanobind::make_tuple(arguments...), nanobind::dict());
}

// An attribute of a module, which is imported by the first call.
inline nanobind::object import_python(const char* module, const char* attribute) {
  PyObject* const found = take_gil([&] { return PyImport_ImportModule(module); });
  if (found == nullptr) throw nanobind::python_error();
  return nanobind::steal(found).attr(attribute);
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
