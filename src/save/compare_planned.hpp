// compare_planned(): compare_output() for a file whose header is planned in another way, such as a
// shard of a set.
#pragma once

#include <filesystem>
#include <functional>

#include "flatbed/result.hpp"
#include "flatbed/save_compare.hpp"
#include "save/output_file.hpp"
#include "save/planned_header.hpp"

namespace flatbed {

// What would be written, all borrowed.
struct PlannedOutput {
  const SavePlan& plan;  // with the items that the file holds
  const SaveOptions& options;
  CompareData data = CompareData::sampled;
  std::function<Result<PlannedHeader>()> make_header;  // called only if there is a file
};

// Errors: those of compare_output() and of `make_header`.
[[nodiscard]] Result<OutputState> compare_planned(const std::filesystem::path& path,
                                                  const PlannedOutput& output);

// The same for a file that is open.
[[nodiscard]] Result<OutputState> compare_planned(const OutputFile& file,
                                                  const PlannedOutput& output);

}  // namespace flatbed
