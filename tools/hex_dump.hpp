// The bytes of a safetensors file with the meaning of each run, as in the worked example of
// spec/FORMAT.md. Not thread-safe.
//   +0x0000 | b8 00 00 00 00 00 00 00 | u64 LE | 184 | N, bytes of header
#pragma once

#include "flatbed/checkpoint.hpp"
#include "output.hpp"

namespace flatbed::tool {

// Writes the header and the first bytes of each tensor, for each file of the checkpoint. Errors:
// unsupported_format for a PyTorch file, and those of the system.
[[nodiscard]] Result<void> write_hex(const Checkpoint& checkpoint, Output& output);

}  // namespace flatbed::tool
