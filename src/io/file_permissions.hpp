// FilePermissions: who may access a file, as far as a new file can have it too. Plain data.
#pragma once

#include <cstdint>
#include <optional>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct FilePermissions {
  std::uint32_t bits = 0;              // the mode's lower nine bits; others are not set
  std::optional<std::uint32_t> group;  // nullopt: of no one group
};

// The permissions of the file behind the source. nullopt: it is not a file. Errors: those of
// ByteSource::descriptor() and of the system.
[[nodiscard]] Result<std::optional<FilePermissions>> permissions_of(const ByteSource& source);

}  // namespace flatbed
