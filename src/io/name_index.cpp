#include "io/name_index.hpp"

#include <sys/random.h>

namespace flatbed {

std::uint64_t random_seed() noexcept {
  std::uint64_t seed = 0;
  // Without entropy (never on a running system) tables still work, but are open to deliberate
  // collisions.
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) seed = 0x9E3779B97F4A7C15;
  return seed;
}

}  // namespace flatbed
