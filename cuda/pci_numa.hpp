// The NUMA node of a PCI device and the rate of its link, as Linux says them in sysfs. Owns
// nothing; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace flatbed::cuda {

// `sysfs` is "/sys", except in tests; `pci_bus_id` is CUDA's: "0000:3B:00.0". -1: it is unknown, or
// there is only one node.
[[nodiscard]] int numa_node_of_pci(const std::string& sysfs, std::string_view pci_bus_id);

// What large copies reach of the link at its best, in bytes per second: seven eighths of what is on
// the wire (56 GB/s for 16 lanes of PCIe 5). 0: unknown.
[[nodiscard]] std::uint64_t link_of_pci(const std::string& sysfs, std::string_view pci_bus_id);

inline constexpr std::size_t kPciBusIdNbytes = 32;  // room for CUDA's text

}  // namespace flatbed::cuda
