// read_torch_tar(): reads a tar file of torch.save before 0.1.10, without running any of its code.
#pragma once

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "torch/torch_file.hpp"

namespace flatbed::pth {

// Errors: tar_malformed, unsupported_layout (other tars), legacy_malformed, legacy_truncated,
// storage_conflict, torch_version_unsupported, pickle_*, the torch group.
[[nodiscard]] Result<TorchFile> read_torch_tar(const ByteSource& file);

}  // namespace flatbed::pth
