// SealState: the state of a file's seal. CheckSeal: what open() requires of it. Plain data.
#pragma once

#include <cstdint>
#include <string_view>

#include "flatbed/export.hpp"

namespace flatbed {

// The states of spec S6 that an opened file can be in.
enum class SealState : std::uint8_t {
  unsealed,
  sealed,
  annotated,  // the content matches; other metadata or the JSON form changed after sealing
  newer,      // sealed by a later version of the format: tensors only
  broken,     // only with CheckSeal::off; otherwise it is an error
};
[[nodiscard]] FLATBED_EXPORT std::string_view name(SealState state) noexcept;

// What open() requires (spec S6).
enum class CheckSeal : std::uint8_t { if_sealed, required, off };

}  // namespace flatbed
