#include "pci_numa.hpp"

#include <charconv>
#include <fstream>
#include <iterator>

namespace flatbed::cuda {

int numa_node_of_pci(const std::string& sysfs, std::string_view pci_bus_id) {
  std::string path = sysfs + "/bus/pci/devices/";
  // The kernel's digits are small, CUDA's large.
  for (const char digit : pci_bus_id) {
    path += digit >= 'A' && digit <= 'F' ? static_cast<char>(digit - 'A' + 'a') : digit;
  }
  std::ifstream file(path + "/numa_node");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  int node = -1;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), node);
  const bool whole = failed == std::errc() && (end == text.data() + text.size() || *end == '\n');
  return whole && node >= 0 ? node : -1;
}

}  // namespace flatbed::cuda
