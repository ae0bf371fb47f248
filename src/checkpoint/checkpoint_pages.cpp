// The pages behind the views of a Checkpoint: prefetch(), release() and lock().
#include <string>

#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_state.hpp"
#include "flatbed/checkpoint.hpp"
#include "io/pages.hpp"

namespace flatbed {

namespace {

struct ViewedRange {
  const ByteSource* source = nullptr;
  std::span<const std::byte> bytes;
  std::string place;  // for messages
  bool mapped = false;
};

Result<ViewedRange> find_range(const Checkpoint& checkpoint, const TensorInfo& tensor,
                               std::uint64_t offset, std::uint64_t nbytes) {
  FLATBED_ASSIGN(const TensorView view, checkpoint.view(tensor));
  if (!in_bounds(offset, nbytes, view.bytes.size())) {
    return make_error(ErrorCode::buffer_too_small, "tensor ", quoted(tensor.name), " has ",
                      view.bytes.size(), " bytes, ", nbytes, " from ", offset, " were asked for");
  }
  ViewedRange range;
  range.source = &CheckpointAccess::source(checkpoint, view.info.where.file);
  range.bytes =
      view.bytes.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(nbytes));
  range.place = str_cat(range.source->label(), ": tensor ", quoted(tensor.name));
  // What the checkpoint holds itself, and the memory of a source, is no mapping: released, its
  // contents would be lost.
  range.mapped = view.info.stored == Stored::plain && range.source->memory().empty();
  return range;
}

Result<void> prefetch_range(const ViewedRange& range) {
  const Result<void> read = prefetch_pages(range.bytes, range.place);
  if (!range.mapped || range.bytes.empty()) return read;
  // A file that was truncated is the likely cause of an error, and may be none: the page in which
  // it ends now is still there.
  FLATBED_TRY(range.source->check_unchanged());
  return read;
}

}  // namespace

Result<void> Checkpoint::prefetch(const TensorInfo& tensor, std::uint64_t offset,
                                  std::uint64_t nbytes) const {
  FLATBED_ASSIGN(const ViewedRange range, find_range(*this, tensor, offset, nbytes));
  return prefetch_range(range);
}

Result<void> Checkpoint::release(const TensorInfo& tensor, std::uint64_t offset,
                                 std::uint64_t nbytes) const {
  FLATBED_ASSIGN(const ViewedRange range, find_range(*this, tensor, offset, nbytes));
  if (!range.mapped) return {};
  return release_pages(range.bytes, range.place);
}

Result<PageLock> Checkpoint::lock(const TensorInfo& tensor, std::uint64_t offset,
                                  std::uint64_t nbytes) const {
  FLATBED_ASSIGN(const ViewedRange range, find_range(*this, tensor, offset, nbytes));
  // Pages are read first: of a truncated file mlock() says only that memory is missing.
  FLATBED_TRY(prefetch_range(range));
  Result<PageLock> locked = PageLock::lock(range.bytes, state_);
  if (!locked) return with_context(range.place, std::move(locked).error());
  return locked;
}

}  // namespace flatbed
