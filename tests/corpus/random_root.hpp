// random_root(): a .pth file with a random object: every kind of root, nested in every kind. It is
// well formed as a pickle, so that what is tried is what the tool makes of an object, not whether a
// reader refuses it. The same seed gives the same file.
#pragma once

#include <cstdint>
#include <string>

namespace flatbed::corpus {

[[nodiscard]] std::string random_root(std::uint64_t seed);

}  // namespace flatbed::corpus
