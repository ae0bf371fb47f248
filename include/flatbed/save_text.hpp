// save_text(): writes a text that belongs to a checkpoint, such as a report or a picture, with the
// care of save(): readers see the old file or the complete new one, a killed process leaves nothing
// or a temporary that the next save in the directory removes, and a symbolic link at the target is
// replaced, not followed.
//
//   FLATBED_ASSIGN(const OutputState found, compare_text_output("report.html", "<p>"));
//   if (found.kind != OutputKind::up_to_date)
//     FLATBED_TRY(save_text("report.html", "<p>", {.replace = false}));
//
// Blocking. May be called from several threads for different targets.
#pragma once

#include <filesystem>
#include <string_view>

#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_compare.hpp"

namespace flatbed {

// Of the options, `sync`, `replace` and `dry_run` count. A new file gets the permissions of the one
// that it replaces, or the process's default. Errors: file_exists, file_not_found (no directory),
// permission_denied, not_a_regular_file, no_space, io_error.
[[nodiscard]] FLATBED_EXPORT Result<SaveReport> save_text(const std::filesystem::path& path,
                                                          std::string_view text,
                                                          const SaveOptions& options = {});

// compare_output() for save_text(): whether the file holds this text. Errors: not_a_regular_file.
[[nodiscard]] FLATBED_EXPORT Result<OutputState> compare_text_output(
    const std::filesystem::path& path, std::string_view text);

}  // namespace flatbed
