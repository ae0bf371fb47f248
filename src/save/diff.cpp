#include "flatbed/diff.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "checkpoint/checkpoint_access.hpp"
#include "save/diff_bytes.hpp"
#include "save/diff_tree.hpp"

namespace flatbed {

namespace {

// Calls visit(name, tensor) for every name of the checkpoint: those of tensors, then the aliases.
template <typename Visit>
void for_each_name(const Checkpoint& checkpoint, Visit visit) {
  for (const TensorInfo& tensor : checkpoint.tensors()) visit(tensor.name, tensor);
  for (const Alias& alias : checkpoint.aliases()) {
    if (const TensorInfo* target = checkpoint.find(alias.target))
      visit(std::string_view(alias.name), *target);
  }
}

// Pairs the tensors. What differs without a look at the contents goes to the report, the others to
// `pairs`, with their names beside them.
struct Pairing {
  DiffReport report;
  std::vector<ContentPair> pairs;
  std::vector<std::size_t> places;  // of the pairs, in report.tensors

  void add(std::string_view tensor, const TensorInfo& a, const TensorInfo* b) {
    TensorDifference difference;
    difference.name = tensor;
    difference.a = a;
    if (b == nullptr) {
      difference.change = TensorChange::removed;
    } else {
      difference.b = *b;
      const bool same_shape = std::ranges::equal(a.shape, b->shape);
      if (!same_shape) {
        difference.change = TensorChange::shape;
      } else if (a.dtype != b->dtype) {
        difference.change = TensorChange::dtype;
      }
      if (same_shape) {
        pairs.push_back({&a, b, 0, 0, std::nullopt});
        places.push_back(report.tensors.size());
      }
    }
    report.tensors.push_back(difference);
  }
};

Pairing pair_tensors(const Checkpoint& a, const Checkpoint& b) {
  Pairing pairing;
  for_each_name(a, [&](std::string_view tensor, const TensorInfo& info) {
    pairing.add(tensor, info, b.find(tensor));
  });
  for_each_name(b, [&](std::string_view tensor, const TensorInfo& info) {
    if (a.find(tensor) != nullptr) return;
    TensorDifference& added = pairing.report.tensors.emplace_back();
    added.name = tensor;
    added.change = TensorChange::added;
    added.b = info;
  });
  return pairing;
}

// Moves what was found to the report, and takes the pairs whose contents are equal out of it.
void take_results(Pairing& pairing) {
  std::vector<TensorDifference>& tensors = pairing.report.tensors;
  for (std::size_t i = 0; i < pairing.pairs.size(); ++i) {
    const ContentPair& pair = pairing.pairs[i];
    TensorDifference& tensor = tensors[pairing.places[i]];
    tensor.chunks = pair.chunks;
    tensor.first_chunk = pair.first_chunk;
    if (pair.values) tensor.values = pair.values->result();
  }
  const std::size_t all = tensors.size();
  std::erase_if(tensors, [](const TensorDifference& tensor) {
    return tensor.change == TensorChange::bytes && tensor.chunks == 0;
  });
  pairing.report.equal_tensors = all - tensors.size();
}

Result<void> check_complete(const Checkpoint& checkpoint) {
  if (std::optional<Error> missing = CheckpointAccess::missing_tensor(checkpoint))
    return *std::move(missing);
  return {};
}

Result<void> check_unchanged(const Checkpoint& checkpoint) {
  for (std::uint32_t i = 0; i < checkpoint.files().size(); ++i)
    FLATBED_TRY(CheckpointAccess::source(checkpoint, i).check_unchanged());
  return {};
}

}  // namespace

std::string_view name(TensorChange change) noexcept {
  constexpr std::array<std::string_view, 5> kNames{"removed", "added", "dtype", "shape", "bytes"};
  return kNames[static_cast<std::size_t>(change)];
}

Result<DiffReport> diff(const Checkpoint& a, const Checkpoint& b, const DiffOptions& options) {
  FLATBED_TRY(check_complete(a));
  FLATBED_TRY(check_complete(b));
  Pairing pairing = pair_tensors(a, b);
  FLATBED_ASSIGN(const std::uint64_t bytes_read, compare_contents({a, b, pairing.pairs}, options));
  FLATBED_TRY(check_unchanged(a));
  FLATBED_TRY(check_unchanged(b));
  take_results(pairing);
  pairing.report.bytes_read = bytes_read;
  if (a.has_tree() && b.has_tree()) {
    FLATBED_ASSIGN(const Value tree_a, a.tree());
    FLATBED_ASSIGN(const Value tree_b, b.tree());
    FLATBED_TRY(compare_trees(tree_a, tree_b, pairing.report));
    pairing.report.trees_compared = true;
  }
  return std::move(pairing.report);
}

}  // namespace flatbed
