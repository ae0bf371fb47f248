// flatbed convert --list: does the jobs of a list, several at a time, beside any number of other
// workers that do jobs of the same list.
#pragma once

#include "commands.hpp"
#include "exit_code.hpp"
#include "output.hpp"

namespace flatbed::tool {

[[nodiscard]] ExitCode convert_list(const ConvertOptions& options, Output& output);

}  // namespace flatbed::tool
