// The smallest and largest value and the mean of tensors, and how many values are NaN or infinite.
// Bytes are streamed: memory is 1 MiB a thread, whatever the size of a tensor.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/progress.hpp"

namespace flatbed::tool {

// Of the finite values of a tensor. A long double holds every 64-bit integer where the tool runs.
struct TensorStats {
  std::uint64_t finite = 0;  // how many they are; if 0, the next three are unspecified
  long double min = 0;
  long double max = 0;
  double mean = 0;  // of 16-bit floats to about 2^-24 of the largest magnitude; else as doubles add
  std::uint64_t nans = 0;
  std::uint64_t infinities = 0;
  bool integral = false;  // the dtype is one of integers or BOOL
};

struct StatsOptions {
  unsigned threads = 2;
  ProgressCallback progress = {};  // may be called from several threads at once
  const std::atomic<bool>* cancel = nullptr;
};

// For each of the checkpoint's tensors; nullopt for complex numbers and 6-bit floats. Bytes are not
// checked against a seal. The result does not depend on the threads. Errors: those of
// Checkpoint::read(), expansion_refused (over 1 GiB that is more than 16 times the stored size),
// cancelled.
[[nodiscard]] Result<std::vector<std::optional<TensorStats>>> compute_stats(
    const Checkpoint& checkpoint, const StatsOptions& options);

}  // namespace flatbed::tool
