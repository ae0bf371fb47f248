#include "text_hash.hpp"

#include <xxhash.h>

namespace flatbed::tool {

TextHash hash_of(std::string_view text) noexcept {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {hash.high64, hash.low64};
}

}  // namespace flatbed::tool
