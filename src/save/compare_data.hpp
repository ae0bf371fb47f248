// compare_data(): compares the bytes of a plan's items with those of a file that exists. The caller
// has compared the structure of the file.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/save_compare.hpp"
#include "save/output_file.hpp"
#include "save/pieces.hpp"

namespace flatbed {

// What is compared with what, all borrowed.
struct DataComparison {
  const SavePlan& plan;
  const SaveOptions& options;
  const OutputFile& file;
  std::span<const Run> places;  // where each item is in the file; Run::tensor is its number
  // Called for each chunk that is equal, from several threads: the index into `places`, the chunk
  // of that item, its bytes. May report a difference() of its own.
  std::function<Result<void>(std::uint32_t place, std::uint64_t chunk, std::span<const std::byte>)>
      on_equal;
};

// Compares the samples. Returns a difference() or success. Chunks of a sealed source are checked
// against its digests, if options.verify says so. Errors: those of reading either file,
// chunk_corrupt, cancelled.
[[nodiscard]] Result<void> compare_data(const DataComparison& comparison,
                                        std::span<const Sample> samples);

}  // namespace flatbed
