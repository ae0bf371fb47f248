#include "io/container.hpp"

namespace flatbed {

Container::Container(std::shared_ptr<const ByteSource> source) : source_(std::move(source)) {
  contents_.info.path = source_->label();
  contents_.info.nbytes = source_->size();
}

Container::~Container() = default;

Result<void> Container::read(std::uint32_t, std::uint64_t, std::span<std::byte>) const {
  return Error{ErrorCode::internal_error, "this format stores all tensors plainly"};
}

Result<void> Container::reread(std::uint32_t number, std::uint64_t offset,
                               std::span<std::byte> out) const {
  return read(number, offset, out);
}

std::span<const std::byte> Container::held(std::uint32_t) const { return {}; }

ContainerRecords Container::records() const { return {}; }

std::optional<TensorRecord> Container::record_of(std::uint32_t) const { return std::nullopt; }

Result<ByteBuffer> Container::read_raw_header() const { return ByteBuffer(); }

Result<std::span<const std::byte>> Container::bytes() const {
  const std::span<const std::byte> memory = source_->memory();
  if (!memory.empty() || source_->size() == 0) return memory;
  std::call_once(map_once_, [this] { mapping_.emplace(MappedFile::map(*source_)); });
  if (!*mapping_) return mapping_->error();
  return (*mapping_)->bytes();
}

}  // namespace flatbed
