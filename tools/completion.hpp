// What shells need to complete the tool's command lines, and the manual page: texts made from the
// same table as --help. Pure functions, thread-safe.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace flatbed::tool {

[[nodiscard]] std::string bash_completion(const CLI::App& app);
[[nodiscard]] std::string zsh_completion(const CLI::App& app);
[[nodiscard]] std::string fish_completion(const CLI::App& app);

// In troff, with the macros of man(7).
[[nodiscard]] std::string manual_page(const CLI::App& app);

}  // namespace flatbed::tool
