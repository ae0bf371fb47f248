// The NUMA node of a PCI device, as Linux says it in sysfs. Owns nothing; thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace flatbed::cuda {

// `sysfs` is "/sys", except in tests; `pci_bus_id` is CUDA's: "0000:3B:00.0". -1: it is unknown, or
// there is only one node.
[[nodiscard]] int numa_node_of_pci(const std::string& sysfs, std::string_view pci_bus_id);

}  // namespace flatbed::cuda
