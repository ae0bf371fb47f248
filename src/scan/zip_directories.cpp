#include "scan/zip_directories.hpp"

#include <algorithm>
#include <string_view>

#include "archive/zip_entry.hpp"
#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "io/large_allocator.hpp"

namespace flatbed::pth {

namespace {

constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::uint64_t kTailBytes = kEndBytes + 0xFFFF + kLocatorBytes;
constexpr std::string_view kEndSignature("PK\x05\x06", 4);
constexpr std::uint32_t kEnd64Signature = 0x06064B50;
constexpr std::uint32_t kLocatorSignature = 0x07064B50;
constexpr std::size_t kMaxEnds = 64;

// Whether a directory that readers can follow begins at `offset`.
Result<bool> is_directory(const ByteSource& file, std::uint64_t offset, std::uint64_t limit) {
  std::byte signature[4];
  if (!in_bounds(offset, zip::kCentralBytes, limit)) return false;
  FLATBED_TRY(file.read_at(offset, signature));
  return load_le32(signature) == zip::kCentralSignature;
}

class DirectoryFinder {
 public:
  DirectoryFinder(const ByteSource& file, ScanLog& log) : file_(file), log_(log) {}

  Result<ZipDirectories> find() {
    tail_.resize(static_cast<std::size_t>(std::min(file_.size(), kTailBytes)));
    tail_offset_ = file_.size() - tail_.size();
    FLATBED_TRY(file_.read_at(tail_offset_, tail_));
    const std::string_view text = as_text(tail_);
    std::size_t ends = 0, seen = 0;
    std::size_t at = text.rfind(kEndSignature);
    for (; at != text.npos && seen < kMaxEnds; ++seen) {
      FLATBED_ASSIGN(const bool valid, add_end(at));
      ends += valid ? 1 : 0;
      if (!valid && ends == 0)
        log_.container("", tail_offset_ + at, "an end record that does not point to a directory");
      if (at == 0) break;
      at = text.rfind(kEndSignature, at - 1);
    }
    if (ends == 0) log_.container("", file_.size(), "the zip has no usable end record");
    if (ends > 1)
      log_.container("", result_.end, str_cat(ends, " end records, of which each reader uses one"));
    if (ends != 0 && result_.end < file_.size())
      log_.container("", result_.end,
                     str_cat(file_.size() - result_.end, " bytes after the end of the zip"));
    return std::move(result_);
  }

 private:
  // Whether the end record at `at` of the tail leads to a directory.
  Result<bool> add_end(std::size_t at) {
    if (tail_.size() - at < kEndBytes) return false;
    const std::byte* const end = tail_.data() + at;
    const std::uint64_t offset = tail_offset_ + at;
    const ZipDirectory stated{load_le32(end + 16), load_le32(end + 12), load_le16(end + 10), 0};
    std::uint64_t begin = offset;  // offset of the records
    bool valid = false;
    const std::size_t before = result_.found.size();
    if (at >= kLocatorBytes && load_le32(end - kLocatorBytes) == kLocatorSignature) {
      FLATBED_ASSIGN(valid, add_end64(end - kLocatorBytes, offset - kLocatorBytes, stated, begin));
    }
    const bool deferred = stated.offset == zip::kMark32 || stated.nbytes == zip::kMark32;
    if (!valid || !deferred) {
      FLATBED_ASSIGN(const bool plain, add(stated, begin));
      valid = valid || plain;
    }
    if (stated.count == 0 && stated.nbytes == 0) valid = true;
    if (!valid) return false;
    if (result_.found.size() > before + 1)
      log_.container("", offset, "the end record can be read as pointing to several directories");
    if (result_.end == 0) {
      const std::uint64_t comment = load_le16(end + 20);
      result_.end = std::min(offset + kEndBytes + comment, file_.size());
      result_.last = begin;
      if (comment > file_.size() - offset - kEndBytes)
        log_.container("", offset, "the zip's comment is longer than the file");
    }
    if (load_le16(end + 4) != 0 || load_le16(end + 6) != 0)
      log_.container("", offset, "the zip spans several disks");
    return true;
  }

  // The zip64 end record: where the locator says it is, and where it should be.
  Result<bool> add_end64(const std::byte* locator, std::uint64_t locator_offset,
                         const ZipDirectory& stated, std::uint64_t& begin) {
    bool valid = false;
    const std::uint64_t adjacent =
        locator_offset - std::min(locator_offset, std::uint64_t{kEnd64Bytes});
    const std::uint64_t places[] = {load_le64(locator + 8), adjacent};
    if (places[0] != places[1])
      log_.container("", locator_offset, "the zip64 end record is not before its locator");
    for (const std::uint64_t at : places) {
      std::byte bytes[kEnd64Bytes];
      if (!in_bounds(at, kEnd64Bytes, locator_offset)) continue;
      FLATBED_TRY(file_.read_at(at, bytes));
      if (load_le32(bytes) != kEnd64Signature) continue;
      begin = std::min(begin, at);
      const ZipDirectory found{load_le64(bytes + 48), load_le64(bytes + 40), load_le64(bytes + 32),
                               0};
      FLATBED_ASSIGN(const bool here, add(found, at));
      valid = valid || here || (found.count == 0 && stated.count == 0);
      const bool same = (stated.offset == zip::kMark32 || stated.offset == found.offset) &&
                        (stated.nbytes == zip::kMark32 || stated.nbytes == found.nbytes) &&
                        (stated.count == 0xFFFF || stated.count == found.count);
      if (!same) log_.container("", at, "the two end records disagree");
    }
    return valid;
  }

  // Adds a directory unless it was added before, and the one that ends where the records begin if
  // that differs. Returns false if there is none.
  Result<bool> add(const ZipDirectory& stated, std::uint64_t records) {
    FLATBED_ASSIGN(bool valid, is_directory(file_, stated.offset, records));
    if (valid)
      keep({stated.offset, std::min(stated.nbytes, records - stated.offset), stated.count, 0});
    if (stated.nbytes > records || records - stated.nbytes == stated.offset) return valid;
    const std::uint64_t adjacent = records - stated.nbytes;
    FLATBED_ASSIGN(const bool there, is_directory(file_, adjacent, records));
    if (there) {
      const std::uint64_t shift = adjacent > stated.offset ? adjacent - stated.offset : 0;
      keep({adjacent, stated.nbytes, stated.count, shift});
    }
    if (valid || there)
      log_.container("", records, "the directory does not end where the end record begins");
    return valid || there;
  }

  void keep(const ZipDirectory& directory) {
    const auto same = [&](const ZipDirectory& other) {
      return other.offset == directory.offset && other.nbytes == directory.nbytes &&
             other.shift == directory.shift;
    };
    if (std::none_of(result_.found.begin(), result_.found.end(), same))
      result_.found.push_back(directory);
  }

  const ByteSource& file_;
  ScanLog& log_;
  ByteBuffer tail_;
  std::uint64_t tail_offset_ = 0;
  ZipDirectories result_;
};

}  // namespace

Result<ZipDirectories> find_directories(const ByteSource& file, ScanLog& log) {
  return DirectoryFinder(file, log).find();
}

}  // namespace flatbed::pth
