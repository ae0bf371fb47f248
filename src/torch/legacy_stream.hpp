// The stream that torch.save wrote from 0.1.10 to 1.5 and still writes on request, in a file or in
// bytes within a pickle.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "pickle/pickle_stream.hpp"
#include "torch/torch_objects.hpp"

namespace flatbed::pth {

// Runs the next pickle of `stream` into the tree of `objects`, and reads its persistent ids as
// `ids`. Errors: pickle_* and the torch group; the message begins with `what` and the place.
struct PickleRun {
  std::string_view what;
  PersistentIds ids = PersistentIds::none;
};
[[nodiscard]] Result<NodeId> run_next_pickle(PickleStream& stream, TorchObjects& objects,
                                             const PickleRun& run);

// The same for a pickle of plain values, which gets a tree of its own.
[[nodiscard]] Result<ValueTree> read_plain_pickle(PickleStream& stream, std::string_view what);

// Whether `pickle` is the first one of a legacy stream.
[[nodiscard]] bool is_legacy_magic(std::span<const std::byte> pickle);

// Reads a stream from its first byte to its last storage. Returns its value, and records in the
// objects' file where the storages are. Errors: legacy_malformed, legacy_truncated,
// storage_missing, storage_size_mismatch, torch_version_unsupported, and those of
// run_next_pickle().
[[nodiscard]] Result<NodeId> read_legacy_stream(PickleStream& stream, TorchObjects& objects);

}  // namespace flatbed::pth
