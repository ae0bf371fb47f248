// Options of opening, selecting and casting, as those of C++.
#pragma once

#include "c/arguments.hpp"
#include "flatbed/checkpoint.hpp"

namespace flatbed::c {

// Exported for flatbed_remote.
[[nodiscard]] FLATBED_EXPORT Result<OpenOptions> to_cpp(const flatbed_open_options* given);
[[nodiscard]] Result<Selection> to_cpp(const flatbed_selection* given);
[[nodiscard]] Result<CastRules> to_cpp(const flatbed_cast_rules* given);

}  // namespace flatbed::c
