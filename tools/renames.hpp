// The options --rename, --rename-file, --strip-prefix and --add-prefix: the same for every command
// that has them. Their rules run in the order of the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <vector>

#include "commands.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

// The options append to `words`, which must outlive `app`.
void add_rename_options(CLI::App& app, std::vector<RenameWord>& words);

// `checkpoint` with the rules of `words`, whose files are read now. Without words it is
// `checkpoint` itself. Errors: those of KeyMap and Checkpoint::rename().
[[nodiscard]] Result<Checkpoint> renamed(const Checkpoint& checkpoint,
                                         const std::vector<RenameWord>& words);

}  // namespace flatbed::tool
