// read_torch_pickle(): a file that is one pickle or begins with one, without running a line of it:
// a legacy stream of torch.save, or what pickle.dump wrote, in which tensors carry their storages
// as legacy streams of their own.
#pragma once

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "torch/torch_file.hpp"

namespace flatbed::pth {

// Errors: pickle_*, the torch group, unsupported_layout (the metadata of a distributed checkpoint).
[[nodiscard]] Result<TorchFile> read_torch_pickle(const ByteSource& file);

}  // namespace flatbed::pth
