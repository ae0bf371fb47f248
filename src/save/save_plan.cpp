// make_plan(): turns a checkpoint into the plan of a file of its own.
#include "flatbed/save_plan.hpp"

#include <algorithm>
#include <limits>
#include <system_error>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "safetensors/seal.hpp"

namespace flatbed {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kExpansionFactor = 16;
constexpr std::uint64_t kExpansionFloor = std::uint64_t{1} << 30;
constexpr std::uint64_t kTooLarge = std::numeric_limits<std::uint64_t>::max();  // 64 bits or more

// Whether the file is in the folder, under its own name or as what a link leads to.
bool lies_in(const fs::path& file, const fs::path& folder) {
  const fs::path named = file.has_parent_path() ? file.parent_path() : fs::path(".");
  std::error_code failed;
  if (fs::equivalent(named, folder, failed)) return true;
  const fs::path own = fs::canonical(file, failed);
  return !failed && fs::equivalent(own.parent_path(), folder, failed);
}

std::vector<fs::path> files_read(const Checkpoint& checkpoint) {
  std::vector<fs::path> files;
  for (const FileInfo& file : checkpoint.files()) files.push_back(file.path);
  if (const fs::path& index = CheckpointAccess::index_file(checkpoint); !index.empty())
    files.push_back(index);
  return files;
}

SaveItem item_of(const Checkpoint& checkpoint, const TensorInfo& tensor, std::string name) {
  return {std::move(name),
          tensor.dtype,
          {tensor.shape.begin(), tensor.shape.end()},
          TensorRef{checkpoint, tensor.index}};
}

}  // namespace

// Strides of 0 and deflated zeros can describe exabytes, so the bytes that are made are bounded by
// the bytes that are stored.
Result<void> check_expansion(const Checkpoint& checkpoint, std::uint64_t nbytes) {
  std::uint64_t stored = 0;
  for (const FileInfo& file : checkpoint.files()) stored += file.nbytes;
  if (nbytes <= kExpansionFloor || nbytes / kExpansionFactor <= stored) return {};
  return make_error(ErrorCode::expansion_refused, "the tensors are too large: found ",
                    nbytes == kTooLarge ? "more than 2^64" : str_cat(nbytes), " bytes for ", stored,
                    " stored ones, more than ", kExpansionFactor, " times as much");
}

Result<void> check_expansion(const Checkpoint& checkpoint) {
  std::optional<std::uint64_t> wanted = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (wanted) wanted = checked_add(*wanted, tensor.nbytes);
  }
  return check_expansion(checkpoint, wanted.value_or(kTooLarge));
}

Result<void> check_not_input(const Checkpoint& input, const fs::path& output, WrittenAs kind) {
  for (const fs::path& file : files_read(input)) {
    std::error_code not_there;
    const bool is_file = fs::equivalent(file, output, not_there);
    const bool is_folder = kind == WrittenAs::folder && lies_in(file, output);
    if (!is_file && !is_folder) continue;
    return make_error(ErrorCode::invalid_argument, "refusing to overwrite ", output.native(),
                      ": it is also the input", is_folder ? "'s folder" : "");
  }
  return {};
}

Result<SavePlan> make_plan(const Checkpoint& checkpoint, const SavePlanOptions& options) {
  if (!options.allow_expansion) FLATBED_TRY(check_expansion(checkpoint));
  SavePlan plan;
  plan.sources.push_back(checkpoint);
  plan.items.reserve(checkpoint.tensors().size());
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    plan.items.push_back(item_of(checkpoint, tensor, std::string(tensor.name)));
  }
  if (checkpoint.has_tree()) {
    FLATBED_ASSIGN(plan.tree, CheckpointAccess::copy_tree(checkpoint));
  }
  for (const Alias& alias : checkpoint.aliases()) {
    const TensorInfo* target = checkpoint.find(alias.target);
    if (!options.expand_aliases) {
      plan.aliases.push_back(alias);
    } else if (target != nullptr) {
      plan.items.push_back(item_of(checkpoint, *target, alias.name));
    }
  }
  // L9: if the plan has more tensors than the source, other metadata may no longer be true.
  const bool same = plan.items.size() == checkpoint.tensors().size();
  for (const auto& [key, value] : checkpoint.metadata()) {
    if (!safetensors::is_seal_key(key) && (same || key == "format"))
      plan.metadata.emplace_back(key, value);
  }
  return plan;
}

}  // namespace flatbed
