#include "archive/zip_writer.hpp"

#include <algorithm>

#include "archive/zip_entry.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kZip64Extra = 20;  // in a local header: two sizes
constexpr std::uint64_t kPadExtra = 4;     // header of the padding field
constexpr std::uint64_t kEnd64Bytes = 56;
constexpr std::uint64_t kLocatorBytes = 20;
constexpr std::uint64_t kEndBytes = 22;
constexpr std::uint16_t kNeeded = 20;      // version 2.0
constexpr std::uint16_t kNeeded64 = 45;    // version 4.5: zip64
constexpr std::uint16_t kFirstDay = 0x21;  // 1980-01-01, so that equal contents give equal files

bool is_large(std::uint64_t value) { return value >= zip::kMark32; }

// The padding before data of `nbytes` that would begin at `offset`.
std::uint64_t padding_at(std::uint64_t offset, std::uint64_t nbytes) {
  const std::uint64_t alignment = nbytes >= kPageAlignedFrom ? kZipPage : kZipAlignment;
  return (alignment - offset % alignment) % alignment;
}

// The size of a local header without its padding.
std::uint64_t fixed_nbytes(const NewZipEntry& entry) {
  return zip::kLocalBytes + entry.name.size() + (is_large(entry.nbytes) ? kZip64Extra : 0) +
         kPadExtra;
}

class Fields {
 public:
  Fields& u16(std::uint64_t value) { return put(value, 2); }
  Fields& u32(std::uint64_t value) { return put(value, 4); }
  Fields& u64(std::uint64_t value) { return put(value, 8); }
  // The 32-bit field: all bits are set if the value is in the zip64 field instead.
  Fields& short_u32(std::uint64_t value) {
    return u32(std::min<std::uint64_t>(value, zip::kMark32));
  }
  Fields& text(std::string_view text) {
    bytes_ += text;
    return *this;
  }
  std::string take() { return std::move(bytes_); }

 private:
  Fields& put(std::uint64_t value, int nbytes) {
    for (int i = 0; i < nbytes; ++i) bytes_ += static_cast<char>(value >> (8 * i));
    return *this;
  }

  std::string bytes_;
};

}  // namespace

ZipLayout::ZipLayout(std::vector<NewZipEntry> entries) : entries_(std::move(entries)) {
  std::uint64_t offset = 0;
  offsets_.reserve(entries_.size() + 1);
  for (const NewZipEntry& entry : entries_) {
    offsets_.push_back(offset);
    offset += fixed_nbytes(entry);
    offset += padding_at(offset, entry.nbytes) + entry.nbytes;
  }
  offsets_.push_back(offset);
}

std::uint64_t ZipLayout::data_offset(std::size_t entry) const {
  return offsets_[entry + 1] - entries_[entry].nbytes;
}

std::uint64_t ZipLayout::central_nbytes(std::size_t entry) const {
  const std::uint64_t extra =
      (is_large(entries_[entry].nbytes) ? 16U : 0U) + (is_large(offsets_[entry]) ? 8U : 0U);
  return zip::kCentralBytes + entries_[entry].name.size() + (extra == 0 ? 0 : extra + 4);
}

std::uint64_t ZipLayout::file_nbytes() const {
  std::uint64_t nbytes = entries_nbytes() + kEnd64Bytes + kLocatorBytes + kEndBytes;
  for (std::size_t i = 0; i < size(); ++i) nbytes += central_nbytes(i);
  return nbytes;
}

std::string ZipLayout::local_header(std::size_t entry, std::uint32_t crc) const {
  const NewZipEntry& described = entries_[entry];
  const bool large = is_large(described.nbytes);
  const std::uint64_t padding = data_offset(entry) - offsets_[entry] - fixed_nbytes(described);
  Fields fields;
  fields.u32(zip::kLocalSignature).u16(large ? kNeeded64 : kNeeded).u16(zip::kFlagUtf8);
  fields.u16(zip::kStored).u16(0).u16(kFirstDay).u32(crc);
  fields.short_u32(described.nbytes).short_u32(described.nbytes).u16(described.name.size());
  fields.u16((large ? kZip64Extra : 0) + kPadExtra + padding).text(described.name);
  if (large) fields.u16(zip::kZip64Id).u16(16).u64(described.nbytes).u64(described.nbytes);
  fields.text("FB").u16(padding).text(std::string(padding, 'Z'));
  return fields.take();
}

std::string ZipLayout::directory(std::span<const std::uint32_t> crcs) const {
  Fields fields;
  for (std::size_t i = 0; i < size(); ++i) {
    const NewZipEntry& entry = entries_[i];
    const bool large = is_large(entry.nbytes);
    const bool far = is_large(offsets_[i]);
    const std::uint16_t needed = large || far ? kNeeded64 : kNeeded;
    fields.u32(zip::kCentralSignature).u16(needed).u16(needed).u16(zip::kFlagUtf8);
    fields.u16(zip::kStored).u16(0).u16(kFirstDay).u32(crcs[i]);
    fields.short_u32(entry.nbytes).short_u32(entry.nbytes).u16(entry.name.size());
    fields.u16(central_nbytes(i) - zip::kCentralBytes - entry.name.size());
    fields.u16(0).u16(0).u16(0).u32(0).short_u32(offsets_[i]).text(entry.name);
    if (large || far) fields.u16(zip::kZip64Id).u16((large ? 16U : 0U) + (far ? 8U : 0U));
    if (large) fields.u64(entry.nbytes).u64(entry.nbytes);
    if (far) fields.u64(offsets_[i]);
  }
  const std::uint64_t end64 = file_nbytes() - kEnd64Bytes - kLocatorBytes - kEndBytes;
  const std::uint64_t nbytes = end64 - entries_nbytes();
  const std::uint64_t few = std::min<std::uint64_t>(size(), 0xFFFF);
  fields.u32(0x06064B50).u64(kEnd64Bytes - 12).u16(kNeeded64).u16(kNeeded64).u32(0).u32(0);
  fields.u64(size()).u64(size()).u64(nbytes).u64(entries_nbytes());
  fields.u32(0x07064B50).u32(0).u64(end64).u32(1);
  fields.u32(0x06054B50).u16(0).u16(0).u16(few).u16(few);
  fields.short_u32(nbytes).short_u32(entries_nbytes()).u16(0);
  return fields.take();
}

}  // namespace flatbed::pth
