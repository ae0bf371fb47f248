#include "io/digest.hpp"

#define XXH_STATIC_LINKING_ONLY  // for the size of its state
// The x86 header chooses SSE2, AVX2 or AVX-512 at run time; the plain one is fixed at compile time.
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <algorithm>

#include "flatbed/error.hpp"
#include "io/past_cache.hpp"

namespace flatbed {

std::uint64_t xxh3(std::span<const std::byte> bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t copy_and_xxh3(std::byte* to, std::span<const std::byte> from) noexcept {
  const auto turn = static_cast<std::size_t>(turn_nbytes());
  std::size_t nbytes = turn - reinterpret_cast<std::uintptr_t>(to) % kLineNbytes;  // ends a line
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  while (!from.empty()) {
    const std::span<const std::byte> step = from.first(std::min(from.size(), nbytes));
    XXH3_64bits_update(&state, step.data(), step.size());
    copy_part_past_cache(to, step.data(), step.size());
    to += step.size();
    from = from.subspan(step.size());
    nbytes = turn;
  }
  return XXH3_64bits_digest(&state);
}

std::uint64_t xxh3_seeded(std::string_view text, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

Xxh3Stream::Xxh3Stream() : state_(XXH3_createState()) {
  // Fails as an allocation by the standard library would.
  if (state_ == nullptr) raise({ErrorCode::resource_exhausted, "out of memory for a digest"});
  XXH3_64bits_reset(state_.get());
}

void Xxh3Stream::update(std::span<const std::byte> bytes) noexcept {
  XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
}

std::uint64_t Xxh3Stream::digest() const noexcept { return XXH3_64bits_digest(state_.get()); }

void Xxh3Stream::Free::operator()(XXH3_state_s* state) const noexcept { XXH3_freeState(state); }

}  // namespace flatbed
