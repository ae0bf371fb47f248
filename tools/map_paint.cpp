#include "map_paint.hpp"

#include <algorithm>
#include <numeric>

#include "totals.hpp"

namespace flatbed::tool {
namespace {

// Black text is legible on each of them. Kin have kindred colours: 8-bit floats are red, signed
// integers green, unsigned ones yellow.
constexpr std::array<std::string_view, kDtypes.size()> kDtypeColours{
    "#c9ced6",  // BOOL
    "#f4b6c8",  // F4
    "#f0a3bb",  // F6_E2M3
    "#e893ae",  // F6_E3M2
    "#f3e08a",  // U8
    "#a8dcb5",  // I8
    "#f2978b",  // F8_E5M2
    "#ee8478",  // F8_E4M3
    "#f6b3a9",  // F8_E8M0
    "#e67f8c",  // F8_E4M3FNUZ
    "#ea969f",  // F8_E5M2FNUZ
    "#8fd0a3",  // I16
    "#ead26a",  // U16
    "#7fd1c7",  // F16
    "#f5b971",  // BF16
    "#78c391",  // I32
    "#dfc34f",  // U32
    "#8db8ea",  // F32
    "#d3b5ec",  // C64
    "#a6a8ea",  // F64
    "#63b57f",  // I64
    "#d2b33d",  // U64
};

enum : std::uint8_t { kEqual, kBytes, kAdded, kDtype, kShape, kChanges };
constexpr std::array<MapGroup, kChanges> kChangeGroups{
    MapGroup{"equal", "#d5d7da"}, MapGroup{"other bytes", "#f5ab4e"}, MapGroup{"added", "#7ecb86"},
    MapGroup{"other dtype", "#c9a2ea"}, MapGroup{"other shape", "#ab8be6"}};

std::uint8_t group_of(TensorChange change) {
  switch (change) {
    case TensorChange::added:
      return kAdded;
    case TensorChange::dtype:
      return kDtype;
    case TensorChange::shape:
      return kShape;
    case TensorChange::bytes:
      return kBytes;
    case TensorChange::removed:
      break;
  }
  return kEqual;
}

// Counts the tensors of each group, drops groups without one, and sorts the rest.
void count_groups(const Checkpoint& checkpoint, MapPaint& paint) {
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    MapGroup& group = paint.groups[paint.of_tensor[tensor.index]];
    ++group.tensors;
    add_up(group.parameters, element_count(tensor.shape));
    add_up(group.nbytes, tensor.nbytes);
  }
  std::vector<std::uint8_t> order(paint.groups.size());
  std::iota(order.begin(), order.end(), std::uint8_t{0});
  std::ranges::stable_sort(order, std::ranges::greater(),
                           [&](std::uint8_t i) { return paint.groups[i].nbytes; });
  std::vector<MapGroup> groups;
  std::vector<std::uint8_t> places(paint.groups.size());
  for (const std::uint8_t i : order) {
    if (paint.groups[i].tensors == 0) continue;
    places[i] = static_cast<std::uint8_t>(groups.size());
    groups.push_back(paint.groups[i]);
  }
  paint.groups = std::move(groups);
  for (std::uint8_t& group : paint.of_tensor) group = places[group];
}

}  // namespace

MapPaint paint_dtypes(const Checkpoint& checkpoint) {
  MapPaint paint;
  for (const DtypeRow& row : kDtypes)
    paint.groups.push_back({row.name, kDtypeColours[static_cast<std::size_t>(row.dtype)]});
  for (const TensorInfo& tensor : checkpoint.tensors())
    paint.of_tensor.push_back(static_cast<std::uint8_t>(tensor.dtype));
  count_groups(checkpoint, paint);
  return paint;
}

MapPaint paint_changes(const Checkpoint& checkpoint, const DiffReport& report) {
  MapPaint paint;
  paint.groups.assign(kChangeGroups.begin(), kChangeGroups.end());
  paint.of_tensor.resize(checkpoint.tensors().size(), kEqual);
  paint.differences.resize(checkpoint.tensors().size());
  for (const TensorDifference& difference : report.tensors) {
    // An alias counts as a tensor of its name there; a map shows what a file holds, once each.
    const TensorInfo* const one = difference.b ? &*difference.b : &*difference.a;
    if (one->name != difference.name) continue;
    if (!difference.b) {
      paint.removed.push_back(*difference.a);
      continue;
    }
    paint.of_tensor[one->index] = group_of(difference.change);
    paint.differences[one->index] = &difference;
  }
  count_groups(checkpoint, paint);
  return paint;
}

}  // namespace flatbed::tool
