// FileInfo: what a checkpoint knows about one of its files. Layout: the kind of file that it was
// read from. Plain data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "flatbed/error.hpp"
#include "flatbed/export.hpp"
#include "flatbed/seal_state.hpp"

namespace flatbed {

struct FileInfo {
  std::filesystem::path path;  // for a source that is not a file: its label
  std::uint64_t nbytes = 0;
  SealState seal = SealState::unsealed;
  std::string content;    // 16 hex digits: equal content means equal names, dtypes, shapes, bytes;
                          // empty: unsealed
  std::string seal_note;  // why it is annotated, newer or broken; otherwise empty
  std::optional<ErrorCode> seal_error;  // the cause, if broken
  bool sidecar = false;                 // the seal is in <file>.flatbed.json
};

// The kind of file that a checkpoint was read from; for a set, the kind of its first shard.
enum class Layout : std::uint8_t {
  safetensors,
  torch_zip,     // torch.save since 1.6
  torch_legacy,  // torch.save from 0.1.10 on: pickles, then storages
  torch_tar,     // torch.save before that
  torch_pickle,  // pickle.dump, with or without tensors
  torch_script,  // torch.jit.save since 1.3
};

}  // namespace flatbed
