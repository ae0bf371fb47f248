// available_memory(): how much memory a process can take before the system has to swap or to end
// processes. For programs that ask before they allocate room for a model. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "flatbed/export.hpp"

namespace flatbed {

// In bytes: what the kernel estimates for the machine, or what the limits of the process's control
// groups (containers, batch jobs) leave, if that is less. Both count caches that can be dropped.
// nullopt: unknown.
[[nodiscard]] FLATBED_EXPORT std::optional<std::uint64_t> available_memory();

}  // namespace flatbed
