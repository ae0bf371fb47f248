#include "listing.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "interrupt.hpp"
#include "open_input.hpp"
#include "progress.hpp"
#include "renames.hpp"

namespace flatbed::tool {
namespace {

Result<Checkpoint> open_part(const std::filesystem::path& path, const LsOptions& options) {
  // Listing reads no data, so a broken seal does not prevent it.
  FLATBED_ASSIGN(Checkpoint checkpoint,
                 open_input(path, {.check_seal = CheckSeal::off}, options.remote));
  Selection selection;
  selection.path = options.select;
  selection.state_dict = !options.select.empty();
  selection.include = options.include;
  selection.exclude = options.exclude;
  if (!selection.path.empty() || !selection.include.empty() || !selection.exclude.empty()) {
    FLATBED_ASSIGN(checkpoint, checkpoint.select(selection));
  }
  return renamed(checkpoint, options.renames);
}

std::vector<std::uint32_t> make_order(std::span<const TensorInfo> tensors, LsSort sort) {
  std::vector<std::uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0U);
  switch (sort) {
    case LsSort::none:
      break;
    case LsSort::name:
      std::ranges::stable_sort(order, {}, [&](std::uint32_t i) { return tensors[i].name; });
      break;
    case LsSort::size:
      std::ranges::stable_sort(order, std::ranges::greater(),
                               [&](std::uint32_t i) { return tensors[i].nbytes; });
      break;
    case LsSort::offset:
      std::ranges::stable_sort(order, {}, [&](std::uint32_t i) {
        return std::tuple(tensors[i].where.file, tensors[i].where.offset);
      });
      break;
  }
  return order;
}

}  // namespace

std::optional<Error> Listing::tree_error() const {
  // A file without a tree has none that could be wrong; making one of its names would only cost.
  if (!checkpoint.has_tree() && checkpoint.seal() != SealState::newer) return std::nullopt;
  const Result<Value> tree = checkpoint.tree();
  return tree ? std::nullopt : std::optional(tree.error());
}

Result<Listing> make_listing(const std::filesystem::path& path, const LsOptions& options) {
  FLATBED_ASSIGN(Checkpoint checkpoint, open_part(path, options));
  Listing listing{path, checkpoint, make_order(checkpoint.tensors(), options.sort), {}};
  if (!options.stats) return listing;
  ProgressLine progress("reading", 1, !options.json);
  StatsOptions stats_options;
  stats_options.progress = progress.callback(0);
  stats_options.cancel = &interrupted();
  FLATBED_ASSIGN(listing.stats, compute_stats(checkpoint, stats_options));
  return listing;
}

}  // namespace flatbed::tool
