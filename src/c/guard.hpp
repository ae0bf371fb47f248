// guarded(): the one way out of the C functions. A result becomes a number and the caller's
// flatbed_error, and so does an exception, so that none reaches a C caller: memory that cannot be
// had is resource_exhausted, and everything else would be our mistake. Without exceptions only the
// first is left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>

#include "flatbed/flatbed.h"
#include "flatbed/result.hpp"

namespace flatbed::c {

// The longest beginning of `text` of at most `limit` bytes that ends between two characters.
[[nodiscard]] std::string_view cut_text(std::string_view text, std::size_t limit) noexcept;

// Both fill `out`, if there is one, and return its code. They allocate nothing. Exported for the
// components.
FLATBED_EXPORT std::int32_t succeed(flatbed_error* out) noexcept;
FLATBED_EXPORT std::int32_t fail(ErrorCode code, std::string_view message,
                                 flatbed_error* out) noexcept;

template <typename Work>
std::int32_t run_guarded(Work& work, flatbed_error* error) {
  const Result<void> result = work();
  return result ? succeed(error) : fail(result.error().code, result.error().message, error);
}

// `work` takes nothing and returns Result<void>.
template <typename Work>
std::int32_t guarded(flatbed_error* error, Work work) noexcept {
#if defined(__cpp_exceptions)
  try {
    return run_guarded(work, error);
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::resource_exhausted, "out of memory", error);
  } catch (...) {
    return fail(ErrorCode::internal_error, "an exception reached the C interface", error);
  }
#else
  return run_guarded(work, error);
#endif
}

}  // namespace flatbed::c
