// DeviceThread: a thread that makes a device's CUDA calls for callers whose own thread must not
// change. CUDA's current device, last error and capture mode belong to a thread: this one keeps its
// own from one call to the next, and the callers' stay as they were.
// Owns the thread, which receives no signals and ends with the object. Thread-safe after start();
// calls are made one at a time, in order.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "flatbed/result.hpp"

namespace flatbed::cuda {

class DeviceThread {
 public:
  // `name`: the device's, in errors.
  explicit DeviceThread(std::string name);
  DeviceThread(const DeviceThread&) = delete;
  DeviceThread& operator=(const DeviceThread&) = delete;
  ~DeviceThread();

  // Call once, before the calls. Errors: resource_exhausted.
  [[nodiscard]] Result<void> start();

  // Calls `work` on the thread and waits for it, or calls it at once if this is the thread. False
  // if there is no thread: nothing has run.
  template <typename Work>
  [[nodiscard]] bool run(Work&& work) noexcept {
    using Callable = std::remove_reference_t<Work>;
    return run([](void* argument) { (*static_cast<Callable*>(argument))(); }, std::addressof(work));
  }

  // The Result of `work`, or device_unavailable.
  template <typename Work>
  [[nodiscard]] auto result_of(Work&& work) -> decltype(work()) {
    std::optional<decltype(work())> result;
    if (!run([&] { result.emplace(work()); })) return absent();
    return *std::move(result);
  }

  // Whether the thread is there. Errors: device_unavailable.
  [[nodiscard]] Result<void> check() const;

 private:
  struct Shared;
  [[nodiscard]] bool run(void (*work)(void*), void* argument) noexcept;
  [[nodiscard]] bool is_here() const noexcept;
  [[nodiscard]] Error absent() const;
  static void* serve(void* shared) noexcept;

  const std::string name_;
  std::unique_ptr<Shared> shared_;  // null: not started
  int process_ = 0;                 // that started it: fork() takes no thread along
};

}  // namespace flatbed::cuda
