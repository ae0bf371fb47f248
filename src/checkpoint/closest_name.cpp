#include "checkpoint/closest_name.hpp"

#include <algorithm>

namespace flatbed {

std::size_t common_ends(std::string_view a, std::string_view b) noexcept {
  const std::size_t least = std::min(a.size(), b.size());
  std::size_t head = 0;
  while (head < least && a[head] == b[head]) ++head;
  std::size_t tail = 0;
  while (tail < least - head && a[a.size() - tail - 1] == b[b.size() - tail - 1]) ++tail;
  return head + tail;
}

std::string_view closest_name(std::string_view name, std::size_t count,
                              const std::function<std::string_view(std::size_t)>& name_at) {
  std::string_view best;
  std::size_t most = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view candidate = name_at(i);
    const std::size_t common = common_ends(name, candidate);
    if (common <= most) continue;
    most = common;
    best = candidate;
  }
  return best;
}

}  // namespace flatbed
