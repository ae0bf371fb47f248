// Compares the contents of pairs of tensors by digests or, without digests, by reading them.
#pragma once

#include <cstdint>
#include <span>

#include "flatbed/diff.hpp"

namespace flatbed {

// A tensor of each checkpoint, of one dtype and shape, and what was found.
struct ContentPair {
  const TensorInfo* a = nullptr;
  const TensorInfo* b = nullptr;
  std::uint64_t chunks = 0;       // that differ
  std::uint64_t first_chunk = 0;  // the first of them
};

// What is compared, all borrowed.
struct Contents {
  const Checkpoint& a;
  const Checkpoint& b;
  std::span<ContentPair> pairs;
};

// Fills in the pairs' results. Returns the number of bytes that were read. Errors: those of read(),
// file_changed, cancelled.
[[nodiscard]] Result<std::uint64_t> compare_contents(const Contents& contents,
                                                     const DiffOptions& options);

}  // namespace flatbed
