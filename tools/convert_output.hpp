// What every kind of output of `flatbed convert` has in common: the options it is written with, and
// what is done with one that exists.
#pragma once

#include <filesystem>

#include "commands.hpp"
#include "convert_jobs.hpp"
#include "convert_one.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_compare.hpp"

namespace flatbed::tool {

[[nodiscard]] SaveOptions save_options(const ConvertJob& job, const ConvertOptions& options,
                                       const ConvertWatch& watch);
[[nodiscard]] CompareData compare_data(const ConvertOptions& options);

// Notes what the output's name holds. Returns whether it is up to date. Errors: those of the
// comparison; file_exists if it holds something else that may not be replaced.
[[nodiscard]] Result<bool> judge_output(const ConvertJob& job, const ConvertOptions& options,
                                        const Result<OutputState>& compared, Outcome& outcome);

// Where a dry run looks whether the output could be written: if the directory is still to be made,
// in the one that it would be made in, under a name that nothing has.
[[nodiscard]] std::filesystem::path target_of(const ConvertJob& job, const ConvertOptions& options);

// Makes the directory, or for a dry run finds out what would prevent that. Errors: io_error.
[[nodiscard]] Result<void> make_folder(const std::filesystem::path& folder,
                                       const ConvertOptions& options);

// Says what an output without a seal leaves out.
void note_unsealed(const SavePlan& plan, const ConvertOptions& options, Outcome& outcome);

}  // namespace flatbed::tool
