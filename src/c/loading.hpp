// What the functions that load have in common: options as those of C++, and reports.
#pragma once

#include <functional>

#include "c/arguments.hpp"
#include "flatbed/load.hpp"

namespace flatbed::c {

// The handle by which the caller knows a device.
using HandleOf = std::function<const flatbed_device*(const Device* device)>;

// The result borrows the pool and the request to stop. Errors: invalid_argument.
[[nodiscard]] Result<LoadOptions> load_options(const flatbed_load_options* given,
                                               const HandleOf& handle_of);

// Where and how a tensor is loaded, by the members of a transfer that say it.
[[nodiscard]] Result<Slice> slice_of(const flatbed_transfer& transfer);
[[nodiscard]] Group group_of(const flatbed_transfer& transfer) noexcept;

[[nodiscard]] flatbed_load_report report_to_c(const LoadReport& from);

}  // namespace flatbed::c
