// --cache, --cache-size and --ca-file, the same for every command that takes URLs.
#pragma once

#include <CLI/CLI.hpp>

#include "open_input.hpp"

namespace flatbed::tool {

// Adds the options, which fill `remote`, to a subcommand.
void add_remote(CLI::App& command, RemoteChoice& remote);

}  // namespace flatbed::tool
