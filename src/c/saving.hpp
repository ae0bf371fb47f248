// What the functions that write files have in common: options as those of C++, and reports.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "c/arguments.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/save_torch.hpp"

namespace flatbed::c {

[[nodiscard]] Result<SavePlanOptions> plan_options(const flatbed_save_plan_options* given);

// Options that have been read. Errors: invalid_argument.
[[nodiscard]] Result<SaveOptions> file_options(const flatbed_save_options& read);
[[nodiscard]] Result<SaveTorchOptions> torch_options(const flatbed_save_options& read);
[[nodiscard]] Result<SaveSetOptions> set_options(const flatbed_save_options& read);

[[nodiscard]] flatbed_save_report report_to_c(const SaveReport& from, std::uint64_t files);

// A target, and how it is written.
struct SaveTarget {
  std::filesystem::path path;
  std::uint32_t format = FLATBED_FORMAT_SAFETENSORS;
  bool replace_set = false;
};

// Writes the plan, and tells the callbacks. `report` may be null, and has been checked.
[[nodiscard]] Result<void> write_plan(const SaveTarget& target, const SavePlan& plan,
                                      const flatbed_save_options* given,
                                      flatbed_save_report* report);

}  // namespace flatbed::c
