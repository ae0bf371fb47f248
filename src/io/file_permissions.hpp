// FilePermissions: who may access a file, as far as a new file can have it too. Plain data.
#pragma once

#include <cstdint>
#include <optional>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// The bits of a mode that are kept. Those above them, such as setuid, never are.
inline constexpr std::uint32_t kPermissionBits = 0777;

struct FilePermissions {
  std::uint32_t bits = 0;              // within kPermissionBits
  std::optional<std::uint32_t> group;  // nullopt: the files have different groups
};

// Leaves in `common` what it and `more` share; nullopt shares everything.
void narrow(std::optional<FilePermissions>& common, const FilePermissions& more) noexcept;

// The permissions of the file that the source reads. nullopt: it is not a file. Errors: those of
// ByteSource::descriptor() and of the system.
[[nodiscard]] Result<std::optional<FilePermissions>> permissions_of(const ByteSource& source);

}  // namespace flatbed
