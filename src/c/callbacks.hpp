// What a caller's callback returned, as a Result, and callbacks of C as those of C++. Numbers that
// are no error of flatbed's become `otherwise`.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "flatbed/flatbed.h"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"

namespace flatbed::c {

// `what` is the callback: "the reader". `said` is what the callback may have written into the error
// that it was given; it was empty before. Exported, as read_cancel() is, for the components.
[[nodiscard]] FLATBED_EXPORT Result<void> callback_result(std::int32_t code, std::string_view what,
                                                          ErrorCode otherwise,
                                                          const flatbed_error* said = nullptr);

using ProgressFunction = std::int32_t (*)(void* context, std::uint64_t bytes_done,
                                          std::uint64_t bytes_total);
// None for a null.
[[nodiscard]] ProgressCallback progress_callback(ProgressFunction function, void* context);

// Null for a null. Errors: invalid_argument.
[[nodiscard]] FLATBED_EXPORT Result<const std::atomic<bool>*> read_cancel(
    const flatbed_cancel* cancel);

}  // namespace flatbed::c
