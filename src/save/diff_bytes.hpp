// Compares the contents of pairs of tensors by digests or, where there are none or the values are
// asked for, by reading them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "flatbed/diff.hpp"
#include "save/diff_values.hpp"

namespace flatbed {

// A tensor of each checkpoint, of one shape, and what was found.
struct ContentPair {
  const TensorInfo* a = nullptr;
  const TensorInfo* b = nullptr;
  // Of equal dtypes: how many chunks differ, and the first of them.
  std::uint64_t chunks = 0;
  std::uint64_t first_chunk = 0;
  std::optional<ValueSums> values;  // if options.values, and both sides were read

  [[nodiscard]] bool same_dtype() const noexcept { return a->dtype == b->dtype; }
};

// What is compared, all borrowed.
struct Contents {
  const Checkpoint& a;
  const Checkpoint& b;
  std::span<ContentPair> pairs;
};

// Fills in the pairs' results. Pairs of different dtypes are compared only if options.values.
// Returns the number of bytes that were read. Errors: those of read(), cancelled.
[[nodiscard]] Result<std::uint64_t> compare_contents(const Contents& contents,
                                                     const DiffOptions& options);

}  // namespace flatbed
