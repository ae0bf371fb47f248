// Ctrl-C and its kin as a flag: commands that write files stop at a safe place and clean up instead
// of dying. The flag is the tool's only global: a signal handler can reach nothing else.
#pragma once

#include <atomic>

namespace flatbed::tool {

// From here on SIGINT, SIGTERM and SIGHUP set the flag, except those that were being ignored.
void catch_interrupts();

// For the `cancel` options of the library.
[[nodiscard]] const std::atomic<bool>& interrupted();

// Writes to a closed pipe or beyond a size limit become errors of the write, not signals.
void ignore_write_signals();

}  // namespace flatbed::tool
