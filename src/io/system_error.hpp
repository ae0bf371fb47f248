// system_error(): the one place where an errno becomes an ErrorCode. Plain functions, thread-safe.
#pragma once

#include <string_view>

#include "flatbed/error.hpp"

namespace flatbed {

// "<place>: <what the system says>". Codes: file_not_found, permission_denied, no_space (also
// quotas and size limits), resource_exhausted (descriptors, threads, memory), io_error for
// everything else.
[[nodiscard]] Error system_error(int error_number, std::string_view place);

// Of a call that reads into memory. The same, and destination_invalid (the memory cannot be
// written).
[[nodiscard]] Error read_error(int error_number, std::string_view place);

}  // namespace flatbed
