// Progress: how far a save, a load or a verification has come, and the callback that is told. Plain
// data.
//
//   options.progress = [&](const Progress& progress) -> Result<void> {
//     bar.set(progress.bytes_done, progress.bytes_total);
//     return {};
//   };
#pragma once

#include <cstdint>
#include <functional>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct Progress {
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
};

// An error stops the work and is what the work returns. Must not throw.
using ProgressCallback = std::function<Result<void>(const Progress&)>;

}  // namespace flatbed
