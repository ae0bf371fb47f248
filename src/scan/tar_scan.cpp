// Reads a tar as Python's tarfile does: headers of 512 bytes are recognized by their checksums
// alone. Pax records can change names, so any member may be the one that torch.load takes, and
// every member is scanned. The tables of torch.save's tars are pickles between raw numbers, so the
// scan looks for another pickle after each end, but not in the storages that torch's reader finds.
#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <vector>

#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"
#include "scan/content_scan.hpp"
#include "scan/file_part.hpp"
#include "scan/npy_scan.hpp"
#include "scan/stream_scan.hpp"
#include "torch/torch_tar.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kBlock = 512;
constexpr std::size_t kMaxMembers = 100'000;
constexpr std::uint64_t kFirstWindow = 1024;  // doubled each time
constexpr std::uint64_t kWindow = 64 * 1024;
constexpr std::uint64_t kMemberWork = 4096;  // of a member, however small it is
constexpr std::uint64_t kMaxPax = 64 * 1024;
constexpr int kMaxBroken = 16;      // pickles of a member, each of which may be read to its end
constexpr std::size_t kLook = 256;  // bytes that may begin a pickle
constexpr std::uint64_t kFreeTorchBytes = 4 << 20;

// Parses as tarfile does: 0x80 and a big-endian number, or what Python's int(text, 8) accepts, with
// blanks, a sign, 0o and underscores. 2^64 - 1 if it is neither.
std::uint64_t number_field(std::string_view field) {
  std::uint64_t value = 0;
  if (field[0] == '\x80') {
    for (const char c : field.substr(1)) {
      if (value >> 55 != 0) return UINT64_MAX;
      value = value << 8 | static_cast<unsigned char>(c);
    }
    return value;
  }
  field = trim_blanks(field.substr(0, field.find('\0')));
  if (field.starts_with('+')) field.remove_prefix(1);
  if (field.starts_with("0o") || field.starts_with("0O")) field.remove_prefix(2);
  for (const char c : field) {
    if (c == '_') continue;
    if (c < '0' || c > '7') return UINT64_MAX;
    value = value * 8 + static_cast<std::uint64_t>(c - '0');  // at most 12 digits, so 36 bits
  }
  return value;
}

struct Member {
  std::string name;
  std::uint64_t begin = 0;
  std::uint64_t nbytes = 0;
  bool data = true;    // the next header comes after its bytes
  bool usual = true;   // false: the next header's place, or the name, is stated elsewhere
  bool swept = false;  // not a member, but all that is left of the file
};

struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// The scan of one tar.
struct Tar {
  const ByteSource& file;
  ScanLog& log;
  unsigned depth = 0;
  std::vector<Range> storages = {};  // numbers, by their offset in the file
};

// The storages, if the file is a tar of torch.save.
std::vector<Range> find_storages(const ByteSource& file, const ScanLog& log) {
  std::vector<Range> ranges;
  if (file.size() > kFreeTorchBytes && file.size() > log.file_nbytes()) return ranges;
  const Result<TorchFile> torch = read_torch_tar(file);
  if (!torch) return ranges;
  for (const TorchStorage& storage : torch->storages) {
    if (storage.held == kNotHeld && storage.stored_nbytes != 0)
      ranges.push_back({storage.stored_offset, storage.stored_offset + storage.stored_nbytes});
  }
  std::ranges::sort(ranges, {}, &Range::begin);
  return ranges;
}

// The first offset from `at` on that is in no storage.
std::uint64_t after_storages(const std::vector<Range>& storages, std::uint64_t at) {
  const auto after = std::ranges::upper_bound(storages, at, {}, &Range::begin);
  return after == storages.begin() ? at : std::max(at, std::prev(after)->end);
}

// The next offset from `at` on where a pickle may begin, or `nbytes` if there is none.
Result<std::uint64_t> find_pickle(const Tar& tar, const Member& member, std::uint64_t at) {
  const ByteSource& file = tar.file;
  std::vector<std::byte> window(kFirstWindow);
  while (at < member.nbytes) {
    at = after_storages(tar.storages, member.begin + at) - member.begin;
    if (at >= member.nbytes) break;
    const auto size =
        static_cast<std::size_t>(std::min<std::uint64_t>(window.size(), member.nbytes - at));
    FLATBED_TRY(file.read_at(member.begin + at, std::span(window).first(size)));
    const std::span<const std::byte> bytes = std::span(window).first(size);
    const bool last = at + size == member.nbytes;
    const std::size_t limit = last ? size : size - kLook;
    for (std::size_t i = 0; i < limit; ++i) {
      if (bytes[i] != std::byte{0x80} && at + i != 0) continue;
      const std::span<const std::byte> head = bytes.subspan(i, std::min(kLook, size - i));
      if (after_storages(tar.storages, member.begin + at + i) != member.begin + at + i) continue;
      if (looks_like_pickle(head, false)) return at + i;
    }
    at += limit;
    window.resize(std::min<std::size_t>(window.size() * 2, kWindow));
  }
  return member.nbytes;
}

// Whether the member is a file with a format of its own, which is then scanned as that.
Result<bool> scan_whole(const Tar& tar, const Member& member) {
  std::array<std::byte, kBlock> buffer;
  const auto size = static_cast<std::size_t>(std::min(kBlock, member.nbytes));
  const std::span<std::byte> head = std::span(buffer).first(size);
  FLATBED_TRY(tar.file.read_at(member.begin, head));
  if (inner_file_kind(head).empty() && !is_npy(head)) return false;
  const FilePart part(tar.file, member.begin, member.nbytes);
  scan_inner_file(part, member.name, tar.log, tar.depth);
  return true;
}

// Members may overlap, in each other and in tars within tars. The work for all of them is limited.
bool take_work(const Tar& tar, const Member& member, std::uint64_t nbytes) {
  if (tar.log.take_work(nbytes)) return true;
  tar.log.container(member.name, member.begin, std::string(kOutOfWork));
  return false;
}

Result<void> scan_member(const Tar& tar, const Member& member) {
  if (!take_work(tar, member, member.nbytes + kMemberWork)) return {};
  const bool named = member.name == "pickle" || member.name == "sys_info" ||
                     member.name == "tensors" || member.name == "storages";
  std::uint64_t at = 0;
  int broken = 0;
  if (!named && !member.swept) {
    FLATBED_ASSIGN(const bool whole, scan_whole(tar, member));
    if (whole) return {};
  }
  if (!named) {
    FLATBED_ASSIGN(at, find_pickle(tar, member, 0));
  }
  while (at < member.nbytes && !tar.log.cancelled()) {
    ScanBytes bytes(tar.file, member.begin + at, member.nbytes - at);
    // In the middle, numbers may look like a pickle: an error ends it, as it ends every unpickler.
    PickleScan pickle(bytes, tar.log, member.name, ScanIds::tar,
                      at == 0 ? ScanErrors::go_on : ScanErrors::stop);
    const std::optional<std::uint64_t> end = pickle.run(0);
    if (!take_work(tar, member, end.value_or(bytes.have().size()))) return {};
    if (!end && ++broken == kMaxBroken) {
      tar.log.container(member.name, member.begin + at,
                        "too many broken pickles; the rest is not scanned");
      return {};
    }
    FLATBED_ASSIGN(at, find_pickle(tar, member, at + end.value_or(2)));
  }
  return {};
}

// Scans everything from `at` on that looks like a pickle, when the headers lead no further.
Result<void> sweep(const Tar& tar, std::uint64_t at) {
  // Readers may disagree on where the storages are.
  Member rest;
  rest.begin = at;
  rest.nbytes = tar.file.size() - at;
  rest.swept = true;
  return scan_member({tar.file, tar.log, tar.depth}, rest);
}

Result<bool> renames_or_resizes(const ByteSource& file, const Member& member) {
  std::string records(static_cast<std::size_t>(std::min(member.nbytes, kMaxPax)), '\0');
  FLATBED_TRY(file.read_at(member.begin, std::as_writable_bytes(std::span(records))));
  for (const std::string_view key : {"path", "size", "GNU.sparse"}) {
    if (records.find(key) != records.npos) return true;
  }
  return member.nbytes > kMaxPax;
}

// The member whose header is at `at`, or nullopt if the archive ends there.
Result<std::optional<Member>> read_member(const Tar& tar, std::uint64_t at) {
  const ByteSource& file = tar.file;
  ScanLog& log = tar.log;
  std::array<std::byte, kBlock> buffer;
  if (!in_bounds(at, kBlock, file.size())) {
    log.container("", at, "the file ends before the final block of zeros of a tar");
    return std::optional<Member>();
  }
  FLATBED_TRY(file.read_at(at, buffer));
  const std::string_view block = as_text(buffer);
  if (block.find_first_not_of('\0') == block.npos) return std::optional<Member>();
  Member member;
  member.name = block.substr(0, std::min<std::size_t>(block.find('\0'), 100));
  member.begin = at + kBlock;
  member.nbytes = number_field(block.substr(124, 12));
  if (!is_tar_block(buffer) || member.nbytes > file.size() - member.begin) {
    log.container(member.name, at, "a tar header with a wrong checksum or size");
    FLATBED_TRY(sweep(tar, at));
    return std::optional<Member>();
  }
  const char kind = block[156];
  // Links, devices and folders have no bytes, whatever their size field says. Nor has a file of the
  // oldest tars whose name is a folder's.
  member.data = (kind < '1' || kind > '6') && !(kind == '\0' && member.name.ends_with('/'));
  if (kind == 'x' || kind == 'g') {
    FLATBED_ASSIGN(const bool odd, renames_or_resizes(file, member));
    member.usual = !odd;
  } else {
    member.usual = kind == '0' || kind == '\0' || kind == '5';
  }
  if (!member.data && member.nbytes != 0) member.usual = false;
  if (!member.usual)
    log.container(member.name, at, "a tar member that renames, resizes or links others");
  return std::optional(std::move(member));
}

}  // namespace

bool is_tar_block(std::span<const std::byte> head) {
  constexpr std::size_t kSum = 148;
  if (head.size() < kBlock) return false;
  const std::string_view block = as_text(head.first(kBlock));
  const std::uint64_t stated = number_field(block.substr(kSum, 8));
  std::int64_t plain = 8 * ' ', with_sign = 8 * ' ';
  for (std::size_t i = 0; i < block.size(); ++i) {
    if (i >= kSum && i < kSum + 8) continue;
    plain += static_cast<unsigned char>(block[i]);
    with_sign += static_cast<signed char>(block[i]);
  }
  return stated == static_cast<std::uint64_t>(plain) ||
         stated == static_cast<std::uint64_t>(with_sign);
}

std::string scan_tar_file(const ByteSource& file, ScanLog& log, unsigned depth) {
  log.add({.severity = ScanVerdict::unknown,
           .kind = ScanKind::container,
           .text = "torch.load reads tars with an unpickler that allows everything, and refuses "
                   "them with weights_only=True"});
  const Tar tar{file, log, depth, find_storages(file, log)};
  std::uint64_t at = 0;
  bool swept = false;
  for (std::size_t count = 0; count < kMaxMembers && !log.cancelled(); ++count) {
    Result<std::optional<Member>> member = read_member(tar, at);
    Result<void> scanned;
    if (member && *member) {
      scanned = scan_member(tar, **member);
      if (scanned && !(*member)->usual && !swept) scanned = sweep(tar, at + kBlock);
      swept = swept || !(*member)->usual;
    }
    if (!member || !scanned) {
      log.container("", at, !member ? member.error().message : scanned.error().message);
      break;
    }
    if (!*member) break;
    const std::uint64_t nbytes = (*member)->data ? (*member)->nbytes : 0;
    at = (*member)->begin + nbytes + (kBlock - nbytes % kBlock) % kBlock;
  }
  return "a tar archive";
}

}  // namespace flatbed::pth
