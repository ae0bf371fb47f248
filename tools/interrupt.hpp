// Ctrl-C and its kin as a flag: commands that write files stop at a safe place and clean up, and
// then main() lets the process die of the signal, so that a shell's loop stops as well. The flag
// and the signal's number are the tool's only globals: a signal handler can reach nothing else.
#pragma once

#include <atomic>

namespace flatbed::tool {

// From here on SIGINT, SIGTERM and SIGHUP set the flag, except those that were being ignored. Only
// the first of them does: the second ends the process at once.
void catch_interrupts();

// For the `cancel` options of the library.
[[nodiscard]] const std::atomic<bool>& interrupted();

// If a signal was caught, ends the process by it. Returns if there was none; also if the system
// does not let it end the process, as for the first process of a container.
void die_if_interrupted();

// Writes to a closed pipe or beyond a size limit become errors of the write, not signals.
void ignore_write_signals();

}  // namespace flatbed::tool
