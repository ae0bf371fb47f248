// Where threads run: the processors of a NUMA node, as sysfs lists them, and threads that stay on
// them. Memory that such a thread touches first lies on that node. Thread-safe.
#pragma once

#include <filesystem>
#include <vector>

namespace flatbed {

using Processors = std::vector<unsigned>;  // their numbers, ascending

// Of a node. Empty if there is no such node, or sysfs cannot be read or understood.
[[nodiscard]] Processors processors_of_node(int node, const std::filesystem::path& sysfs = "/sys");

// Those that the calling thread may run on; empty if unknown.
[[nodiscard]] Processors processors_of_thread();

// Where `threads` threads for a device of that node should stay: on all processors of the node.
// Empty, nowhere in particular, if the node is unknown, if there are more threads than it has
// processors, or if the calling thread may not run on all of them: then somebody has decided where
// this program runs, and that stays as it is.
[[nodiscard]] Processors processors_to_stay_on(int node, unsigned threads,
                                               const std::filesystem::path& sysfs = "/sys");

// Keeps the calling thread, and those that it starts, on these processors. Returns false if the
// system refuses; then the thread runs wherever it did.
bool stay_on(const Processors& processors) noexcept;

}  // namespace flatbed
