#include "flatbed/private_view.hpp"

#include <vector>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/large_allocator.hpp"
#include "io/private_mapping.hpp"

namespace flatbed {

namespace {

// Whether the tensor's address in a mapping of its file fits its elements.
bool is_aligned(const TensorInfo& tensor) {
  const std::uint64_t element = bits(tensor.dtype) / 8;
  return element <= 1 || tensor.where.offset % element == 0;
}

std::shared_ptr<std::byte> allocate(std::size_t nbytes) {
  if (nbytes >= LargeAllocator<std::byte>::kLarge) return try_allocate_large(nbytes);
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  const auto lines = std::make_shared<std::vector<Line>>(nbytes / sizeof(Line) + 1);
  return {lines, lines->front().bytes};
}

}  // namespace

Result<PrivateView> PrivateView::make(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const std::span<const TensorInfo> tensors = checkpoint.tensors();
  if (tensor.index >= tensors.size() || tensors[tensor.index].name != tensor.name) {
    return make_error(ErrorCode::invalid_argument, "tensor ", quoted(tensor.name),
                      " is not of this checkpoint");
  }
  const TensorInfo& own = tensors[tensor.index];
  if (own.stored == Stored::plain && is_aligned(own)) {
    const ByteSource& source = CheckpointAccess::source(checkpoint, own.where.file);
    FLATBED_ASSIGN(PrivateMapping mapping,
                   PrivateMapping::map(source, own.where.offset, own.nbytes));
    const std::span<std::byte> bytes = mapping.bytes();
    if (!bytes.empty()) {
      return PrivateView(std::make_shared<PrivateMapping>(std::move(mapping)), bytes, true);
    }
  }
  const auto nbytes = static_cast<std::size_t>(own.nbytes);
  const std::shared_ptr<std::byte> memory = allocate(nbytes);
  if (memory == nullptr) {
    return make_error(ErrorCode::resource_exhausted, "tensor ", quoted(own.name),
                      ": no memory for ", size_text(own.nbytes));
  }
  const std::span<std::byte> bytes(memory.get(), nbytes);
  FLATBED_TRY(checkpoint.read(own, 0, bytes));
  return PrivateView(memory, bytes, false);
}

}  // namespace flatbed
