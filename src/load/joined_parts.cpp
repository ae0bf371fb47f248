#include "load/joined_parts.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

namespace flatbed {

namespace {

// What all parts have in common.
struct Layout {
  std::size_t dim = 0;
  std::uint64_t outer = 1;  // product of the dimensions before it
  std::uint64_t inner = 1;  // of those after it
};

Layout layout_of(ShapeView shape, std::size_t dim) {
  Layout layout{dim};
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i < dim) layout.outer *= shape[i];  // factors of a product that fits
    if (i > dim) layout.inner *= shape[i];
  }
  return layout;
}

// The bytes of `count` elements of the dimension, which are some of a tensor that fits. nullopt if
// they are not whole.
std::optional<std::uint64_t> bytes_of(std::uint64_t count, const Layout& layout, Dtype dtype) {
  const std::uint64_t elements = count * layout.inner;
  const std::uint64_t eighths = elements % 8 * bits(dtype);
  if (eighths % 8 != 0) return std::nullopt;
  return elements / 8 * bits(dtype) + eighths / 8;
}

// `at`: where the part begins in each row of the joined tensor, which has the dimension and those
// after it.
std::optional<Transfer> transfer_of(const TensorPart& part, const Layout& layout,
                                    const Transfer& whole, std::uint64_t at) {
  const TensorInfo& tensor = *part.tensor;
  const std::uint64_t size = tensor.shape[layout.dim];
  const auto source = bytes_of(part.begin, layout, tensor.dtype);
  const auto run = bytes_of(part.end - part.begin, layout, tensor.dtype);
  const auto pitch = bytes_of(size, layout, tensor.dtype);
  if (!source || !run || !pitch) return std::nullopt;
  Transfer out = whole;
  out.tensor = &tensor;
  const bool all = part.end - part.begin == size;
  out.source = *source;
  out.runs = all ? 1 : layout.outer;
  out.run_nbytes = all ? tensor.nbytes : *run;
  out.run_pitch = out.runs == 1 ? out.run_nbytes : *pitch;
  if (layout.outer == 1) {
    out.to = whole.place(at);
    if (whole.packed()) out.row_nbytes = out.row_pitch = *run;
  } else {
    out.to = whole.to + at;
    out.row_nbytes = *run;
    if (whole.packed()) out.row_pitch = whole.nbytes() / layout.outer;
  }
  return out;
}

std::vector<JoinedPart> parts_along(const Checkpoint& checkpoint, const Transfer& whole,
                                    const DimRange& range) {
  const ShapeView shape = whole.tensor->shape;
  const Layout layout = layout_of(shape, range.dim);
  // A row of the destination is one of the last dimension.
  if (layout.outer != 1 && !whole.packed() && range.dim + 1 != shape.size()) return {};
  std::vector<JoinedPart> out;
  std::uint64_t at = 0;
  for (TensorPart& part : CheckpointAccess::parts(checkpoint, *whole.tensor, range)) {
    const std::optional<Transfer> transfer = transfer_of(part, layout, whole, at);
    if (!transfer) return {};
    at += transfer->nbytes() / layout.outer;
    out.push_back({std::move(part.checkpoint), *transfer});
  }
  return out;
}

}  // namespace

std::vector<JoinedPart> joined_parts(const Checkpoint& checkpoint, const Transfer& whole,
                                     const DimRange& range) {
  const ShapeView shape = whole.tensor->shape;
  if (whole.tensor->stored != Stored::computed || range.dim >= shape.size()) return {};
  if (range.end - range.begin != shape[range.dim]) return parts_along(checkpoint, whole, range);
  std::vector<JoinedPart> parts;
  for (std::size_t dim = 0; dim < shape.size() && parts.empty(); ++dim)
    parts = parts_along(checkpoint, whole, {dim, 0, shape[dim]});
  return parts;
}

}  // namespace flatbed
