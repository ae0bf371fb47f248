// SavePlan: what a file shall hold, for save() and save_torch(); and make_plan(), which makes one
// of an open Checkpoint. To convert a file: Checkpoint::open, select, make_plan, save.
//
//   FLATBED_ASSIGN(const Checkpoint checkpoint, Checkpoint::open("model.pth"));
//   FLATBED_ASSIGN(const SavePlan plan, make_plan(checkpoint));
//   FLATBED_ASSIGN(const SaveReport report, save("model.safetensors", plan));
//
// Plain data, which keeps the checkpoints open that it takes tensors from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/dtype.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"
#include "flatbed/value.hpp"

namespace flatbed {

// A tensor of an open checkpoint, by its index in tensors().
struct TensorRef {
  Checkpoint checkpoint;
  std::uint32_t tensor = 0;
};

struct SaveItem {
  std::string name;
  Dtype dtype = Dtype::u8;
  std::vector<std::uint64_t> shape;
  // Memory must stay valid and unchanged until save() returns.
  std::variant<std::span<const std::byte>, TensorRef> from;
};

// What a file shall hold, in source order (spec L5).
struct SavePlan {
  std::vector<SaveItem> items;
  ValueTree tree;  // tensor nodes count into `items`; no root: none is written
  std::vector<Alias> aliases;
  // Beside flatbed's own; "format" defaults to "pt".
  std::vector<std::pair<std::string, std::string>> metadata;
  // Checkpoints that the rest was made from, for a plan whose items do not all refer to them. Their
  // files' permissions count for those of the new file.
  std::vector<Checkpoint> sources = {};
};

struct SavePlanOptions {
  // Make every alias a tensor of its own, for readers that do not know aliases. Default: false.
  bool expand_aliases = false;
  // Allow an output over 1 GiB that is more than 16 times the stored size. Default: false.
  bool allow_expansion = false;
};

// Plans all tensors of the checkpoint in source order, with its tree, aliases and metadata. The
// plan holds copies of the checkpoint handle. If the tensors are those of the file, unselected,
// metadata is copied; otherwise only "format" (spec L9). Errors: tree_* if the file's tree is
// malformed, expansion_refused.
[[nodiscard]] FLATBED_EXPORT Result<SavePlan> make_plan(const Checkpoint& checkpoint,
                                                        const SavePlanOptions& options = {});

// Whether the tensors take more than 1 GiB and more than 16 times the bytes of the checkpoint's
// files: a few stored bytes can stand for any number of them. For callers that load or write every
// tensor. Errors: expansion_refused.
[[nodiscard]] FLATBED_EXPORT Result<void> check_expansion(const Checkpoint& checkpoint);
// The same for callers that load a part of them, of this size.
[[nodiscard]] FLATBED_EXPORT Result<void> check_expansion(const Checkpoint& checkpoint,
                                                          std::uint64_t nbytes);

// What a conversion writes to.
enum class WrittenAs : std::uint8_t { file, folder };

// Whether writing `output` would replace a file that `input`, or what it is a view of, was read
// from, under whatever name: a file, or the index of a set. A folder, of which a set takes the
// place, must not hold one. Errors: invalid_argument.
[[nodiscard]] FLATBED_EXPORT Result<void> check_not_input(const Checkpoint& input,
                                                          const std::filesystem::path& output,
                                                          WrittenAs kind = WrittenAs::file);

}  // namespace flatbed
