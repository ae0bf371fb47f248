#include "torch/shared_views.hpp"

#include <algorithm>
#include <tuple>
#include <vector>

#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

// The bytes of a storage between the first and the last element of a view.
struct Extent {
  std::uint32_t storage;
  std::uint64_t begin, end;
  std::uint32_t name;
};

// The sums are known to fit: each element lies in the storage.
std::uint64_t span_of(const TorchFile& file, const TorchTensor& tensor) {
  std::uint64_t elements = 1;
  for (std::size_t i = 0; i < tensor.rank; ++i) {
    const std::uint64_t size = file.dims[tensor.dims + i];
    elements += (size - 1) * file.dims[tensor.dims + tensor.rank + i];
  }
  return elements * tensor.element_nbytes;
}

bool has_storage(const TorchTensor& tensor) {
  return tensor.storage != kNoStorage && tensor.nbytes != 0;
}

// Of the storages with several tensors, in the order of the bytes.
std::vector<Extent> extents_of(const TorchFile& file, std::span<const std::uint32_t> order) {
  std::vector<std::uint8_t> tensors(file.storages.size());  // 2: several
  for (const std::uint32_t number : order) {
    const TorchTensor& tensor = file.tensors[number];
    if (has_storage(tensor) && tensors[tensor.storage] < 2) ++tensors[tensor.storage];
  }
  std::vector<Extent> extents;
  for (std::uint32_t i = 0; i < order.size(); ++i) {
    const TorchTensor& tensor = file.tensors[order[i]];
    if (!has_storage(tensor) || tensors[tensor.storage] < 2) continue;
    const std::uint64_t begin = tensor.offset * tensor.element_nbytes;
    extents.push_back({tensor.storage, begin, begin + span_of(file, tensor), i});
  }
  std::ranges::sort(extents, [](const Extent& a, const Extent& b) {
    return std::tie(a.storage, a.begin, a.name) < std::tie(b.storage, b.begin, b.name);
  });
  return extents;
}

}  // namespace

std::optional<std::string> shared_views_note(const TorchFile& file,
                                             std::span<const std::uint32_t> order,
                                             const TextList& names) {
  const std::vector<Extent> extents = extents_of(file, order);
  std::size_t count = 0;
  const Extent* first = nullptr;
  const Extent* other = nullptr;
  const Extent* last = nullptr;  // of those before, the one that ends last
  for (const Extent& extent : extents) {
    const bool shares =
        last != nullptr && last->storage == extent.storage && extent.begin < last->end;
    if (shares && count++ == 0) {
      first = last;
      other = &extent;
    }
    if (!shares || extent.end > last->end) last = &extent;
  }
  if (count == 0) return std::nullopt;
  return str_cat(counted(count, "tensor"), count == 1 ? " is a view" : " are views",
                 " of memory that another tensor also sees, and ", count == 1 ? "is" : "are",
                 " stored apart from it: ", count == 1 ? "" : "first ", quoted(names[other->name]),
                 " of ", quoted(names[first->name]));
}

}  // namespace flatbed::pth
