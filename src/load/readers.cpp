#include "load/readers.hpp"

#include <algorithm>
#include <limits>

namespace flatbed {

namespace {

constexpr unsigned kLeast = 2;
constexpr unsigned kUsualMost = 8;
constexpr unsigned kMost = 32;
// What one thread reads from the page cache and hashes: 3.1 to 5 GB/s on the machines of bench/.
constexpr std::uint64_t kOfOneReader = 4'000'000'000;

}  // namespace

unsigned usual_readers(const ReaderConditions& conditions) noexcept {
  const std::uint64_t of_link = conditions.link_bytes_per_second / kOfOneReader +
                                (conditions.link_bytes_per_second % kOfOneReader != 0 ? 1 : 0);
  const auto most = static_cast<unsigned>(std::clamp<std::uint64_t>(of_link, kUsualMost, kMost));
  const unsigned readers = std::clamp(conditions.cores, kLeast, most);
  return conditions.direct ? std::max(readers, kUsualMost) : readers;
}

std::uint64_t link_bytes_per_second(const LoadPlanState& plan) noexcept {
  constexpr std::uint64_t kLargest = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t sum = 0;
  for (const Device* const device : plan.real_devices()) {
    const std::uint64_t link = device->link_bytes_per_second();
    if (link == 0) return 0;
    sum += std::min(link, kLargest - sum);
  }
  return sum;
}

int numa_node(const LoadPlanState& plan) noexcept {
  const std::span<Device* const> devices = plan.real_devices();
  if (devices.empty()) return -1;
  const int node = devices.front()->numa_node();
  const bool all = std::ranges::all_of(
      devices, [&](const Device* device) { return device->numa_node() == node; });
  return all ? node : -1;
}

}  // namespace flatbed
