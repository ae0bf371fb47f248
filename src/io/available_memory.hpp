// The inside of flatbed/available_memory.hpp. Thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "flatbed/available_memory.hpp"  // IWYU pragma: export

namespace flatbed {

// available_memory() of a system whose root is this folder.
[[nodiscard]] std::optional<std::uint64_t> available_memory(const std::filesystem::path& root);

}  // namespace flatbed
