// on_own_thread(): runs work that must not affect the caller's thread. CUDA's current device and
// last error belong to a thread. Work that runs here changes neither for the caller, and a thread
// without a context still has none afterwards.
// The thread receives no signals and is joined before the call returns. Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "flatbed/result.hpp"

namespace flatbed::cuda {

// Returns false if no thread could be started; then nothing has run.
[[nodiscard]] bool run_on_own_thread(void (*work)(void*), void* argument) noexcept;

template <typename Work>
[[nodiscard]] bool on_own_thread(Work&& work) noexcept {
  using Callable = std::remove_reference_t<Work>;
  return run_on_own_thread([](void* argument) { (*static_cast<Callable*>(argument))(); },
                           std::addressof(work));
}

// The Result of `work`, or resource_exhausted.
template <typename Work>
[[nodiscard]] auto result_of_own_thread(Work&& work) -> decltype(work()) {
  std::optional<decltype(work())> result;
  if (!on_own_thread([&] { result.emplace(work()); })) {
    return Error{ErrorCode::resource_exhausted, "CUDA: cannot start a thread for the call"};
  }
  return *std::move(result);
}

}  // namespace flatbed::cuda
