// What the tool does with an output that is text in one file: it appears complete or not at all,
// and replaces nothing by accident. Blocking; for one thread.
#pragma once

#include <filesystem>
#include <string_view>

#include "flatbed/result.hpp"

namespace flatbed::tool {

enum class Existing : std::uint8_t { keep, replace };
enum class TextFileState : std::uint8_t { written, up_to_date };

// Writes the file. One that has these bytes already is up to date and stays. Errors: file_exists
// (another one is there that is to be kept), not_a_regular_file, those of the system.
[[nodiscard]] Result<TextFileState> write_text_file(const std::filesystem::path& path,
                                                    std::string_view text, Existing existing);

}  // namespace flatbed::tool
