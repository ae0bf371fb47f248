// available_memory(): how much memory a process can take before the system has to swap or to end
// processes. Thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace flatbed {

// In bytes: what the kernel estimates for the machine, or what the limits of the process's control
// groups (containers, batch jobs) leave, if that is less. Both count caches that can be dropped.
// nullopt: unknown. `root` is "/", except in tests.
[[nodiscard]] std::optional<std::uint64_t> available_memory(
    const std::filesystem::path& root = "/");

}  // namespace flatbed
