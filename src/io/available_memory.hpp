// available_memory(): how much memory a process can take before the system has to swap or to end
// processes. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>

namespace flatbed {

// In bytes, by the kernel's own estimate, which counts caches that it can drop. It is that of the
// machine: limits of a container are not in it. nullopt: unknown.
[[nodiscard]] std::optional<std::uint64_t> available_memory();

}  // namespace flatbed
