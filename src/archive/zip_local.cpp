#include "archive/zip_local.hpp"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "io/far_source.hpp"
#include "io/thread_pool.hpp"

namespace flatbed::pth {

namespace {

// Local headers closer than this share a read, because copying 4 KiB costs about as much as another
// system call.
constexpr std::uint64_t kWindowGap = 4096;
constexpr std::uint64_t kWindowBytes = 64 * 1024;
constexpr std::uint64_t kExtraGuess = 96;  // torch pads its data to 64 bytes

constexpr std::size_t kMostAhead = 20'000;  // headers
constexpr unsigned kThreadsAhead = 16;

// The bytes of local headers that were read before they are needed, on several threads, where each
// read waits for a network.
class HeadersAhead {
 public:
  // `order`: the entries by offset. What cannot be read is left to whoever needs it.
  static Result<HeadersAhead> read(const ByteSource& file, std::span<const ZipEntry> entries,
                                   std::span<const std::uint32_t> order) {
    HeadersAhead ahead;
    if (!is_far(file)) return ahead;
    ahead.headers_.resize(std::min(order.size(), kMostAhead));
    std::atomic<std::size_t> next = 0;
    const auto work = [&](unsigned) -> Result<void> {
      for (std::size_t i = next++; i < ahead.headers_.size(); i = next++) {
        const ZipEntry& entry = entries[order[i]];
        if (entry.header_offset >= file.size()) continue;
        const std::uint64_t nbytes = std::min<std::uint64_t>(
            zip::kLocalBytes + entry.name.size() + kExtraGuess, file.size() - entry.header_offset);
        std::vector<std::byte> bytes(static_cast<std::size_t>(nbytes));
        if (!file.read_at(entry.header_offset, bytes)) continue;
        ahead.headers_[i] = {entry.header_offset, std::move(bytes)};
      }
      return {};
    };
    FLATBED_TRY(run_parallel(kThreadsAhead, work));
    return ahead;
  }

  // Empty: these bytes are not there. For ascending offsets.
  [[nodiscard]] std::span<const std::byte> find(std::uint64_t offset, std::size_t nbytes) {
    for (; at_ < headers_.size(); ++at_) {
      const auto& [begin, bytes] = headers_[at_];
      if (offset >= begin && in_bounds(offset - begin, nbytes, bytes.size()))
        return std::span(bytes).subspan(static_cast<std::size_t>(offset - begin), nbytes);
      if (begin > offset || at_ + 1 == headers_.size() || headers_[at_ + 1].first > offset) break;
    }
    return {};
  }

 private:
  std::vector<std::pair<std::uint64_t, std::vector<std::byte>>> headers_;
  std::size_t at_ = 0;
};

// Reads ranges at ascending offsets through one buffer.
class ForwardWindow {
 public:
  ForwardWindow(const ByteSource& file, HeadersAhead ahead)
      : file_(file), ahead_(std::move(ahead)), buffer_(kWindowBytes + 0x10000) {}

  // Returns the `nbytes` bytes at `offset`: at most 65,565, and inside the file. If they must be
  // read, what follows up to `ahead_end` is read with them, up to kWindowBytes.
  Result<std::span<const std::byte>> get(std::uint64_t offset, std::size_t nbytes,
                                         std::uint64_t ahead_end) {
    if (const auto bytes = ahead_.find(offset, nbytes); !bytes.empty()) return bytes;
    if (offset < begin_ || !in_bounds(offset - begin_, nbytes, filled_)) {
      const std::uint64_t ahead =
          ahead_end > offset ? std::min(ahead_end - offset, kWindowBytes) : 0;
      filled_ = 0;
      const auto count = static_cast<std::size_t>(
          std::max<std::uint64_t>(nbytes, std::min(ahead, file_.size() - offset)));
      FLATBED_TRY(file_.read_at(offset, std::span(buffer_).first(count)));
      begin_ = offset;
      filled_ = count;
    }
    return std::span<const std::byte>(buffer_).subspan(offset - begin_, nbytes);
  }

 private:
  const ByteSource& file_;
  HeadersAhead ahead_;
  std::vector<std::byte> buffer_;
  std::uint64_t begin_ = 0;
  std::size_t filled_ = 0;
};

// Whether a size in the local header is the directory's. If it is deferred (flag 8), it may also be
// 0.
bool agrees(std::uint64_t local, std::uint64_t central, bool deferred) {
  return local == central || (deferred && local == 0);
}

Result<void> check_local_sizes(const ZipEntry& entry, const zip::LocalFields& local,
                               std::uint32_t central_crc, std::span<const std::byte> zip64) {
  const bool deferred = (local.flags & zip::kFlagDescriptor) != 0;
  std::uint64_t nbytes = local.nbytes;
  std::uint64_t stored_nbytes = local.stored_nbytes;
  if (nbytes == zip::kMark32 || stored_nbytes == zip::kMark32) {
    std::size_t at = 0;
    for (std::uint64_t* value : {&nbytes, &stored_nbytes}) {
      if (*value != zip::kMark32) continue;
      if (zip64.size() < at + 8)
        return make_error(ErrorCode::zip64_malformed,
                          "the local header's zip64 extra field is missing or too short");
      *value = load_le64(zip64.data() + at);
      at += 8;
    }
  }
  if (!agrees(local.crc, central_crc, deferred))
    return make_error(ErrorCode::zip_local_mismatch, "wrong CRC in the local header: found 0x",
                      hex(local.crc), ", expected 0x", hex(central_crc));
  if (!agrees(nbytes, entry.nbytes, deferred) ||
      !agrees(stored_nbytes, entry.stored_nbytes, deferred))
    return make_error(ErrorCode::zip_local_mismatch, "wrong sizes in the local header: found ",
                      stored_nbytes, " stored bytes for ", nbytes, ", expected ",
                      entry.stored_nbytes, " for ", entry.nbytes);
  return {};
}

Result<void> check_local(const ZipEntry& entry, const zip::CentralFields& central,
                         const zip::LocalFields& local, std::string_view local_name) {
  if (local.flags != central.flags)
    return make_error(ErrorCode::zip_local_mismatch, "wrong flags in the local header: found 0x",
                      hex(local.flags), ", expected 0x", hex(central.flags));
  if (local.method != central.method)
    return make_error(ErrorCode::zip_local_mismatch, "wrong method in the local header: found ",
                      local.method, ", expected ", central.method);
  if (local.name_nbytes != entry.name.size() || local_name != entry.name)
    return make_error(ErrorCode::zip_local_mismatch, "wrong name in the local header: found ",
                      quoted(local_name), ", a name of ", local.name_nbytes, " bytes");
  return {};
}

// The surroundings of an entry: where the next one (or the directory) begins, and how far the local
// headers stand close together.
struct Surroundings {
  std::uint64_t next_offset = 0;
  std::uint64_t ahead_end = 0;
};

// Compares the local header with the directory and finds the data after it.
Result<void> check_local_header(const ByteSource& file, ForwardWindow& window, ZipEntry& entry,
                                const Surroundings& around) {
  const std::size_t fixed = zip::kLocalBytes + entry.name.size();
  if (!in_bounds(entry.header_offset, fixed, file.size()))
    return make_error(ErrorCode::zip_out_of_bounds, "its local header at byte ",
                      entry.header_offset, " extends past the end of the file of ", file.size(),
                      " bytes");
  FLATBED_ASSIGN(const auto bytes, window.get(entry.header_offset, fixed, around.ahead_end));
  if (load_le32(bytes.data()) != zip::kLocalSignature)
    return make_error(ErrorCode::zip_local_mismatch, "no local header at byte ",
                      entry.header_offset);
  const zip::LocalFields local = zip::load_local(bytes.data());
  const zip::CentralFields central =
      zip::load_central(as_bytes(entry.name).data() - zip::kCentralBytes);
  FLATBED_TRY(check_local(entry, central, local, as_text(bytes.subspan(zip::kLocalBytes))));

  const std::uint64_t extra_offset = entry.header_offset + fixed;
  entry.data_offset = extra_offset + local.extra_nbytes;
  if (!in_bounds(entry.data_offset, entry.stored_nbytes, file.size()))
    return make_error(ErrorCode::zip_out_of_bounds, "its ", entry.stored_nbytes, " bytes at byte ",
                      entry.data_offset, " extend past the end of the file of ", file.size(),
                      " bytes");
  // Only the length of the extra fields tells where the data begins, so they must fill it.
  FLATBED_ASSIGN(const auto extra, window.get(extra_offset, local.extra_nbytes, around.ahead_end));
  FLATBED_ASSIGN(const auto zip64, zip::find_extra(extra, zip::kZip64Id));
  FLATBED_TRY(
      check_local_sizes(entry, local, central.crc, zip64.value_or(std::span<const std::byte>())));
  if (entry.data_offset + entry.stored_nbytes > around.next_offset)
    return make_error(ErrorCode::zip_overlap, "its bytes [", entry.header_offset, ", ",
                      entry.data_offset + entry.stored_nbytes, ") overlap what begins at byte ",
                      around.next_offset);
  return {};
}

}  // namespace

// In file order: each header must agree with the directory, and each entry must end before the next
// begins.
Result<void> check_local_headers(const ByteSource& file, std::span<ZipEntry> entries,
                                 std::uint64_t directory_offset) {
  std::vector<std::uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto offset_of = [entries](std::uint32_t n) { return entries[n].header_offset; };
  // A stable sort keeps entries with the same header in the directory's order, so that the same one
  // is always refused.
  const auto place_of = [&](std::uint32_t n) { return std::pair(offset_of(n), n); };
  if (!std::ranges::is_sorted(order, {}, place_of)) std::ranges::sort(order, {}, place_of);
  if (!order.empty() && offset_of(order[0]) != 0)
    return make_error(ErrorCode::zip_directory_malformed,
                      "data before the first zip entry: found it at byte ", offset_of(order[0]),
                      ", expected 0");

  FLATBED_ASSIGN(HeadersAhead ahead, HeadersAhead::read(file, entries, order));
  ForwardWindow window(file, std::move(ahead));
  std::size_t close = 0;  // headers from the current one up to this one stand close together
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (close = std::max(close, i); close + 1 < order.size(); ++close) {
      if (offset_of(order[close + 1]) - offset_of(order[close]) > kWindowGap) break;
    }
    const ZipEntry& last = entries[order[close]];
    const Surroundings around{
        i + 1 < order.size() ? offset_of(order[i + 1]) : directory_offset,
        last.header_offset + zip::kLocalBytes + last.name.size() + kExtraGuess};
    ZipEntry& entry = entries[order[i]];
    if (auto ok = check_local_header(file, window, entry, around); !ok)
      return with_context(str_cat("zip entry ", quoted(entry.name)), std::move(ok).error());
  }
  return {};
}

}  // namespace flatbed::pth
