// Errors of the library as exceptions of Python, and the GIL around calls that block.
//
//   return value_or_raise(released([&] { return Checkpoint::open(path); }));
//
// An exception that is thrown here is an instance of a class of flatbed/errors.py.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"
#include "gil.hpp"

namespace flatbed::python {

namespace nb = nanobind;

// Throws the flatbed.Error that stands for `error`. The GIL must be held, as for value_or_raise().
[[noreturn]] void raise_error(const Error& error);

// A message as a str. Names of files in it may hold any bytes.
nb::object message_text(const std::string& message);

template <typename T>
T value_or_raise(Result<T> result) {
  if (!result) raise_error(result.error());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

// Calls `work`, which must not touch Python, without the GIL.
template <typename Work>
auto released(Work&& work) {
  const GilReleased release;
  return std::forward<Work>(work)();
}

// Long work that a signal (Ctrl-C) or an exception of a progress callback ends.
//
//   Interruptible work(progress);
//   VerifyOptions options{.progress = work.progress()};
//   const VerifyReport report = work.run([&] { return verify(checkpoint, options); });
//
// Belongs to the thread that makes it. Make it with the GIL held.
class Interruptible {
 public:
  // `progress`: None, a callable that takes the bytes done and the bytes in total, or True for a
  // bar of tqdm. Throws what flatbed._progress does for anything else.
  explicit Interruptible(const nb::object& progress);

  // For the options of the work. Borrows this object. Takes the GIL whenever it is called.
  [[nodiscard]] ProgressCallback progress();

  // Calls `work` without the GIL, and throws what Python raised meanwhile, or the work's error.
  template <typename Work>
  auto run(Work&& work) {
    auto result = released(std::forward<Work>(work));
    finish();
    return value_or_raise(std::move(result));
  }

  // For work without a progress callback, which looks at a flag: calls it on a thread of its own
  // and sets the flag when a signal handler raises.
  template <typename Work>
  static auto run_cancellable(Work&& work) {
    std::atomic<bool> cancel = false;
    auto running = std::async(std::launch::async, [&] { return work(std::as_const(cancel)); });
    wait(running, cancel);
    return value_or_raise(running.get());
  }

  // Waits for work that looks at `cancel`, and sets it when a signal handler raises.
  template <typename Future>
  static void wait(Future& running, std::atomic<bool>& cancel) {
    while (!wait_briefly(running)) {
      if (PyErr_CheckSignals() == 0) continue;
      cancel = true;
      released([&] { running.wait(); });
      throw nb::python_error();
    }
  }

 private:
  template <typename Future>
  static bool wait_briefly(Future& future) {
    return released([&] { return future.wait_for(std::chrono::milliseconds(20)); }) ==
           std::future_status::ready;
  }
  Result<void> tell(const Progress& progress);
  void call_back(const Progress& progress);
  void finish();

  nb::object callback_;  // None, or a callable
  bool is_own_;          // a bar that ends with the work, and not the caller's callable
  std::optional<nb::python_error> raised_;
};

}  // namespace flatbed::python
