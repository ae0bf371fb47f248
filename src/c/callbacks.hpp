// What a caller's callback returned, as a Result. Numbers that are no error of flatbed's become
// `otherwise`.
#pragma once

#include <cstdint>
#include <string_view>

#include "flatbed/flatbed.h"
#include "flatbed/result.hpp"

namespace flatbed::c {

// `what` is the callback: "the reader". `said` is what the callback may have written into the error
// that it was given; it was empty before.
[[nodiscard]] Result<void> callback_result(std::int32_t code, std::string_view what,
                                           ErrorCode otherwise,
                                           const flatbed_error* said = nullptr);

}  // namespace flatbed::c
