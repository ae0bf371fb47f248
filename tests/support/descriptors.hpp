// open_descriptors(): how many files this process holds open. Beside another count it tells whether
// what ran in between left one open. It holds one more itself while it counts.
#pragma once

#include <cstddef>
#include <filesystem>
#include <iterator>

namespace flatbed::test {

inline std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

}  // namespace flatbed::test
