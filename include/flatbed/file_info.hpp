// FileInfo: what a checkpoint knows about one of its files. Layout: what it was read from. Plain
// data.
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
  std::filesystem::path path;  // of a source that is no file: its label
  std::uint64_t nbytes = 0;
  SealState seal = SealState::unsealed;
  std::string content;    // 16 hex digits: equal content means equal names, dtypes, shapes, bytes;
                          // empty: unsealed
  std::string seal_note;  // why it is annotated, newer or broken; empty otherwise
  std::optional<ErrorCode> seal_error;  // broken: the cause
  bool sidecar = false;                 // the seal stands in <file>.flatbed.json
};

// What a checkpoint was read from; of a set, its first shard.
enum class Layout : std::uint8_t {
  safetensors,
  torch_zip,     // torch.save since 1.6
  torch_legacy,  // torch.save from 0.1.10 on: pickles, then storages
  torch_tar,     // torch.save before that
  torch_pickle,  // pickle.dump, with or without tensors
  torch_script,  // torch.jit.save since 1.3
};

}  // namespace flatbed
