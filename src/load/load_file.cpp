#include "load/load_file.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "load/load_schedule.hpp"

namespace flatbed {

namespace {

constexpr std::uint64_t round_down(std::uint64_t at) { return at - at % kDirectAlignment; }

}  // namespace

LoadFile::LoadFile(const ByteSource& file, const Options& options)
    : file_(&file), hooks_(options.hooks), index_(options.index), direct_(options.direct) {
  if (!direct_ || hooks_->read) return;
  pool_ = options.pool ? options.pool : std::make_shared<DirectPool>(1);
  pool_key_ = pool_->add();
  direct_ = past_cache().has_value();
}

Result<std::shared_ptr<const DirectFile>> LoadFile::past_cache() {
  return pool_->get(pool_key_, [this]() -> Result<DirectFile> {
    std::optional<DirectFile> opened = DirectFile::open(*file_);
    if (opened && opened->alignment() <= kDirectAlignment) return *std::move(opened);
    return Error{ErrorCode::unsupported_filesystem, "the file cannot be opened with O_DIRECT"};
  });
}

Result<void> LoadFile::read(std::uint64_t offset, std::span<std::byte> out) {
  if (hooks_->read) return hooks_->read(index_, offset, out);
  FLATBED_TRY(file_->read_at(offset, out));
  bytes_read_ += out.size();
  return {};
}

Result<void> LoadFile::read(std::uint64_t offset, std::span<const std::span<std::byte>> parts) {
  if (parts.size() == 1) return read(offset, parts.front());
  std::uint64_t nbytes = 0;
  for (const std::span<std::byte> part : parts) {
    if (hooks_->read) FLATBED_TRY(hooks_->read(index_, offset + nbytes, part));
    nbytes += part.size();
  }
  if (hooks_->read) return {};
  FLATBED_TRY(file_->read_parts(offset, parts));
  bytes_read_ += nbytes;
  return {};
}

Result<void> LoadFile::read(std::uint64_t offset, std::span<const std::span<std::byte>> parts,
                            const ReadProgress& progress) {
  if (hooks_->read) return read(offset, parts);
  FLATBED_TRY(file_->read_with_progress(offset, parts, progress));
  for (const std::span<std::byte> part : parts) bytes_read_ += part.size();
  return {};
}

void LoadFile::read_ahead(std::span<const FileRange> ranges) const {
  if (!hooks_->read) flatbed::read_ahead(*file_, ranges);
}

// Returns how many of the blocks' bytes were read; nullopt once the system has refused.
Result<std::size_t> LoadFile::read_blocks(std::uint64_t offset, std::span<std::byte> out) {
  Result<std::shared_ptr<const DirectFile>> file = past_cache();
  Result<std::size_t> got = file ? (*file)->read_at(offset, out) : std::move(file).error();
  if (got) {
    bytes_read_ += *got;
    return got;
  }
  if (got.error().code != ErrorCode::unsupported_filesystem) return got;
  refused_ = true;
  return std::size_t{0};
}

Result<void> LoadFile::read_around(std::uint64_t offset, std::span<std::byte> out) {
  if (!direct() || hooks_->read) return read(offset, out);
  const std::uint64_t begin = round_down(offset);
  const std::uint64_t end = round_down(offset + out.size() + kDirectAlignment - 1);
  const auto before = static_cast<std::size_t>(offset - begin);
  FLATBED_ASSIGN(const std::size_t got,
                 read_blocks(begin, {out.data() - before, static_cast<std::size_t>(end - begin)}));
  // The file ended within the blocks, or the kernel stopped early; the rest is read the other way.
  const std::size_t arrived = std::min(got > before ? got - before : 0, out.size());
  return arrived == out.size() ? Result<void>() : read(offset + arrived, out.subspan(arrived));
}

Result<void> LoadFile::read_within(std::uint64_t offset, std::span<std::byte> out) {
  const std::uint64_t begin = round_down(offset + kDirectAlignment - 1);
  const std::uint64_t end = round_down(offset + out.size());
  if (!direct() || hooks_->read || begin >= end) return read(offset, out);
  const auto head = static_cast<std::size_t>(begin - offset);
  FLATBED_ASSIGN(const std::size_t got,
                 read_blocks(begin, out.subspan(head, static_cast<std::size_t>(end - begin))));
  if (head != 0) FLATBED_TRY(read(offset, out.first(head)));
  const std::size_t arrived = head + got;
  return arrived == out.size() ? Result<void>() : read(offset + arrived, out.subspan(arrived));
}

}  // namespace flatbed
