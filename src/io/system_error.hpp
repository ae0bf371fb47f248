// system_error(): the one place where an errno becomes an ErrorCode. Pure functions, thread-safe.
#pragma once

#include <string_view>

#include "flatbed/error.hpp"

namespace flatbed {

// Makes "<place>: <the system's message>". Codes: file_not_found, permission_denied, no_space (also
// for quotas and size limits), resource_exhausted (descriptors, threads, memory), io_error for
// everything else.
[[nodiscard]] Error system_error(int error_number, std::string_view place);

// For a call that reads into memory. The same codes, and destination_invalid (the memory cannot be
// written).
[[nodiscard]] Error read_error(int error_number, std::string_view place);

}  // namespace flatbed
