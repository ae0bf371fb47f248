#include "flatbed/private_view.hpp"

#include <mutex>
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

// The checkpoint's own description of the tensor. Errors: invalid_argument.
Result<TensorInfo> own_info(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const std::span<const TensorInfo> tensors = checkpoint.tensors();
  if (tensor.index < tensors.size() && tensors[tensor.index].name == tensor.name)
    return tensors[tensor.index];
  return make_error(ErrorCode::invalid_argument, "tensor ", quoted(tensor.name),
                    " is not of this checkpoint");
}

// The tensor's bytes in memory of their own.
struct Owned {
  std::shared_ptr<std::byte> memory;
  std::span<std::byte> bytes;
};

Result<Owned> read_owned(const Checkpoint& checkpoint, const TensorInfo& own, Verify verify) {
  const auto nbytes = static_cast<std::size_t>(own.nbytes);
  std::shared_ptr<std::byte> memory = allocate(nbytes);
  if (memory == nullptr) {
    return make_error(ErrorCode::resource_exhausted, "tensor ", quoted(own.name),
                      ": no memory for ", size_text(own.nbytes));
  }
  const std::span<std::byte> bytes(memory.get(), nbytes);
  FLATBED_TRY(checkpoint.read(own, 0, bytes, verify));
  return Owned{std::move(memory), bytes};
}

}  // namespace

Result<PrivateView> PrivateView::make(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  FLATBED_ASSIGN(const TensorInfo own, own_info(checkpoint, tensor));
  if (own.stored == Stored::plain && is_aligned(own)) {
    const ByteSource& source = CheckpointAccess::source(checkpoint, own.where.file);
    FLATBED_ASSIGN(PrivateMapping mapping,
                   PrivateMapping::map(source, own.where.offset, own.nbytes));
    const std::span<std::byte> bytes = mapping.bytes();
    if (!bytes.empty()) {
      return PrivateView(std::make_shared<PrivateMapping>(std::move(mapping)), bytes, true);
    }
  }
  FLATBED_ASSIGN(Owned owned, read_owned(checkpoint, own, Verify::yes));
  return PrivateView(std::move(owned.memory), owned.bytes, false);
}

struct PrivateViews::State {
  using Mapped = std::shared_ptr<PrivateMapping>;

  explicit State(Checkpoint of) : checkpoint(std::move(of)), mappings(checkpoint.files().size()) {}

  // The mapping of a whole file; one without bytes if the file cannot be mapped. What was verified
  // of a sealed file holds for its bytes as they were when it was opened.
  Result<Mapped> mapping(std::uint32_t file, Verify verify) {
    const ByteSource& source = CheckpointAccess::source(checkpoint, file);
    if (verify == Verify::yes && is_sealed()) FLATBED_TRY(source.check_unchanged());
    const std::lock_guard lock(mutex);
    Mapped& mapped = mappings[file];
    if (mapped == nullptr) {
      FLATBED_ASSIGN(PrivateMapping made, PrivateMapping::map(source, 0, source.size()));
      mapped = std::make_shared<PrivateMapping>(std::move(made));
    }
    return mapped;
  }

  [[nodiscard]] bool is_sealed() const {
    return checkpoint.seal() == SealState::sealed || checkpoint.seal() == SealState::annotated;
  }

  const Checkpoint checkpoint;
  std::mutex mutex;
  std::vector<Mapped> mappings;  // null: not mapped yet
};

PrivateViews::PrivateViews(Checkpoint checkpoint)
    : state_(std::make_shared<State>(std::move(checkpoint))) {}

Result<PrivateView> PrivateViews::view(const TensorInfo& tensor, Verify verify) const {
  FLATBED_ASSIGN(const TensorInfo own, own_info(state_->checkpoint, tensor));
  if (own.stored == Stored::plain && own.nbytes != 0 && is_aligned(own)) {
    FLATBED_ASSIGN(State::Mapped mapping, state_->mapping(own.where.file, verify));
    const std::span<std::byte> bytes = mapping->bytes();
    if (!bytes.empty()) {
      return PrivateView(std::move(mapping),
                         bytes.subspan(static_cast<std::size_t>(own.where.offset),
                                       static_cast<std::size_t>(own.nbytes)),
                         true);
    }
  }
  FLATBED_ASSIGN(Owned owned, read_owned(state_->checkpoint, own, verify));
  return PrivateView(std::move(owned.memory), owned.bytes, false);
}

}  // namespace flatbed
