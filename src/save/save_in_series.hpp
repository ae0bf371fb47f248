// save_in_series(): save() and save_set() for a checkpoint that is part of a series, and says so in
// its header. What it says is the caller's business.
#pragma once

#include <filesystem>
#include <string_view>

#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_set.hpp"

namespace flatbed {

// `series` is the value of flatbed.series; empty: the key is not written. With it the file must be
// sealed. Errors: those of save() and save_set().
[[nodiscard]] Result<SaveReport> save_in_series(const std::filesystem::path& path,
                                                const SavePlan& plan, const SaveOptions& options,
                                                std::string_view series);
[[nodiscard]] Result<SaveSetReport> save_set_in_series(const std::filesystem::path& folder,
                                                       const SavePlan& plan,
                                                       const SaveSetOptions& options,
                                                       std::string_view series);

}  // namespace flatbed
