#include "pci_numa.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <system_error>

namespace flatbed::cuda {

namespace {

std::string read_entry(const std::string& sysfs, std::string_view pci_bus_id,
                       std::string_view entry) {
  std::string path = sysfs + "/bus/pci/devices/";
  // The kernel's digits are small, CUDA's large.
  for (const char digit : pci_bus_id) {
    path += digit >= 'A' && digit <= 'F' ? static_cast<char>(digit - 'A' + 'a') : digit;
  }
  std::ifstream file(path.append("/").append(entry));
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

int numa_node_of_pci(const std::string& sysfs, std::string_view pci_bus_id) {
  const std::string text = read_entry(sysfs, pci_bus_id, "numa_node");
  int node = -1;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), node);
  const bool whole = failed == std::errc() && (end == text.data() + text.size() || *end == '\n');
  return whole && node >= 0 ? node : -1;
}

// "32.0 GT/s PCIe\n" and "16\n". An idle GPU lets its link run slower: these are its best.
std::uint64_t link_of_pci(const std::string& sysfs, std::string_view pci_bus_id) {
  constexpr std::uint64_t kMost = 1'000;  // more transfers or lanes than any link has
  const std::string speed = read_entry(sysfs, pci_bus_id, "max_link_speed");
  const std::string width = read_entry(sysfs, pci_bus_id, "max_link_width");
  const std::size_t unit = speed.find(" GT/s");
  const std::size_t dot = std::min(speed.find('.'), unit);
  std::uint64_t whole = 0;
  std::uint64_t lanes = 0;
  if (unit == std::string::npos ||
      std::from_chars(speed.data(), speed.data() + dot, whole).ptr != speed.data() + dot ||
      std::from_chars(width.data(), width.data() + width.size(), lanes).ec != std::errc() ||
      whole > kMost || lanes > kMost) {
    return 0;
  }
  const bool half = dot + 1 < unit && speed[dot + 1] == '5';  // 2.5
  return (2 * whole + (half ? 1 : 0)) * lanes * 1'000'000'000 / 2 / 8 * 7 / 8;
}

}  // namespace flatbed::cuda
