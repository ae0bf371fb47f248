// XXH3-64 with seed 0 and the default secret: the digest of spec/FORMAT.md. The only unit that
// includes xxhash.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

struct XXH3_state_s;

namespace flatbed {

// The digest of one buffer. Thread-safe, no allocation.
[[nodiscard]] std::uint64_t xxh3(std::span<const std::byte> bytes) noexcept;

// The digest of one buffer, which is copied past the cache in the same pass, as copy_past_cache()
// (past_cache.hpp) does it: the processor hashes while the stores are on their way. Measured on
// Zen 5 (bench/results/2026-11-30-fused.txt). Thread-safe, no allocation.
[[nodiscard]] std::uint64_t copy_and_xxh3(std::byte* to, std::span<const std::byte> from) noexcept;

// A hash of a text for tables in memory. Its seed is unknown to files, so they cannot cause
// collisions on purpose. Thread-safe, no allocation.
[[nodiscard]] std::uint64_t xxh3_seeded(std::string_view text, std::uint64_t seed) noexcept;

// The digest of a sequence of buffers. Owns its state. Move-only, not thread-safe. After a move
// only assignment and destruction are allowed.
class Xxh3Stream {
 public:
  Xxh3Stream();

  void update(std::span<const std::byte> bytes) noexcept;
  [[nodiscard]] std::uint64_t digest() const noexcept;  // of all buffers so far

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const noexcept;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

}  // namespace flatbed
