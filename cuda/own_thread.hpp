// on_own_thread(): work that must not show on the caller's thread. The current device and the last
// error of CUDA belong to a thread: what runs here changes neither for the caller, and a thread
// that had no context has none afterwards.
//
// The thread takes no signals and is joined before the call returns. Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "flatbed/result.hpp"

namespace flatbed::cuda {

// False: there was no thread to be had, and nothing has run.
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
    return Error{ErrorCode::resource_exhausted, "CUDA: no thread could be had to call it from"};
  }
  return *std::move(result);
}

}  // namespace flatbed::cuda
