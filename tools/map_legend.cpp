#include "map_legend.hpp"

#include <fmt/format.h>

#include "format_text.hpp"
#include "map_text.hpp"
#include "totals.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxRows = 40;
constexpr std::size_t kMaxNameColumns = 80;

std::string name_text(std::string_view name) {
  return shortened(picture_text(name), kMaxNameColumns);
}

LegendTable groups_table(const MapPaint& paint, bool mixed) {
  const bool changes = !paint.differences.empty();
  LegendTable table{{changes ? "CHANGE" : "DTYPE", "TENSORS", "PARAMETERS", "SIZE"}, {}, ""};
  for (const MapGroup& group : paint.groups) {
    table.rows.push_back({group.colour,
                          {std::string(group.name), number_text(group.tensors),
                           amount_text(group.parameters), size_text(group.nbytes)}});
  }
  if (mixed) table.rows.push_back({kMixedColour, {"several", "", "", ""}});
  return table;
}

LegendTable shards_table(const Checkpoint& checkpoint) {
  struct Sum {
    std::uint64_t tensors = 0, nbytes = 0;
  };
  std::vector<Sum> sums(checkpoint.files().size());
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    Sum& sum = sums[tensor.where.file];
    ++sum.tensors;
    add_up(sum.nbytes, tensor.nbytes);
  }
  LegendTable table{{"SHARD", "TENSORS", "SIZE", "ON DISK"}, {}, ""};
  for (std::size_t i = 0; i < sums.size() && i < kMaxRows; ++i) {
    const FileInfo& file = checkpoint.files()[i];
    table.rows.push_back({"",
                          {name_text(file.path.filename().native()), number_text(sums[i].tensors),
                           size_text(sums[i].nbytes), size_text(file.nbytes)}});
  }
  if (sums.size() > kMaxRows)
    table.rest = fmt::format("and {}", count_text(sums.size() - kMaxRows, "more shard"));
  return table;
}

LegendTable removed_table(const MapPaint& paint) {
  LegendTable table{{"REMOVED", "DTYPE", "SHAPE", "SIZE"}, {}, ""};
  std::uint64_t rest_nbytes = 0;
  for (const TensorInfo& tensor : paint.removed) {
    if (table.rows.size() == kMaxRows) {
      add_up(rest_nbytes, tensor.nbytes);
      continue;
    }
    table.rows.push_back({"",
                          {name_text(tensor.name), std::string(name(tensor.dtype)),
                           shortened(shape_text(tensor.shape), 24), size_text(tensor.nbytes)}});
  }
  if (paint.removed.size() > kMaxRows)
    table.rest = fmt::format("and {}, {}",
                             count_text(paint.removed.size() - kMaxRows, "more removed tensor"),
                             size_text(rest_nbytes));
  return table;
}

}  // namespace

std::vector<LegendTable> map_legend(const Checkpoint& checkpoint, const MapPaint& paint,
                                    bool mixed) {
  std::vector<LegendTable> tables;
  tables.push_back(groups_table(paint, mixed));
  if (!paint.removed.empty()) tables.push_back(removed_table(paint));
  if (checkpoint.files().size() > 1) tables.push_back(shards_table(checkpoint));
  return tables;
}

}  // namespace flatbed::tool
