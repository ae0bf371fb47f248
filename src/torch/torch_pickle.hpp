// read_torch_pickle(): reads a file that is or begins with a pickle, without running any of its
// code. It is either a legacy stream of torch.save, or the output of pickle.dump, where tensors
// carry their storages as legacy streams.
#pragma once

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "torch/torch_file.hpp"

namespace flatbed::pth {

// Errors: pickle_*, the torch group, unsupported_layout (the metadata of a distributed checkpoint).
[[nodiscard]] Result<TorchFile> read_torch_pickle(const ByteSource& file);

}  // namespace flatbed::pth
