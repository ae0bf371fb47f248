// closest_name(): the existing name that was probably meant, for messages. A pure function.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

namespace flatbed {

// The number of bytes at the beginning and at the end that two names have in common.
[[nodiscard]] std::size_t common_ends(std::string_view a, std::string_view b) noexcept;

// Of `count` names the one that has most in common with `name` at both ends, the first of several;
// empty if none has anything. Linear in the names.
[[nodiscard]] std::string_view closest_name(
    std::string_view name, std::size_t count,
    const std::function<std::string_view(std::size_t)>& name_at);

}  // namespace flatbed
