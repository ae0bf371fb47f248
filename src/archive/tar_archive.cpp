// A member is a block of 512 bytes, then its contents, filled up to whole blocks:
//
//     0  name, 100 bytes
//   124  size, 12 bytes: octal digits; or 0x80 and a big-endian number (GNU)
//   148  sum of all bytes of the block, with these eight counted as blanks: octal digits
//   156  kind: '0' or NUL a file, '5' a folder, 'x' and 'g' pax records for what follows
//   257  "ustar"
//   345  prefix of the name, 155 bytes (ustar; GNU uses this place for other things)
//
// A block of zeros ends the archive. Torch used Python's tarfile, whose pax records hold
// modification times. Records that change a member's name or size are refused, as are links.
#include "archive/tar_archive.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "base/bytes.hpp"
#include "base/checked.hpp"
#include "base/str_cat.hpp"

namespace flatbed::pth {

namespace {

constexpr std::uint64_t kBlock = 512;
constexpr std::uint64_t kMaxPax = 64 * 1024;
constexpr std::size_t kMaxHeaders = 4 * kMaxTarMembers;  // including folders and pax records

struct TarHeader {
  std::string name;
  std::uint64_t nbytes = 0;
  char kind = '0';
};

Error malformed(std::uint64_t at, const std::string& what) {
  return make_error(ErrorCode::tar_malformed, "tar header at byte ", at, ": ", what);
}

// The text before the first NUL.
std::string_view text_field(std::string_view block, std::size_t at, std::size_t size) {
  const std::string_view field = block.substr(at, size);
  return field.substr(0, std::min(field.find('\0'), field.size()));
}

// Parses octal digits, possibly between blanks.
std::optional<std::uint64_t> octal_field(std::string_view block, std::size_t at, std::size_t size) {
  std::string_view field = text_field(block, at, size);
  while (field.starts_with(' ')) field.remove_prefix(1);
  while (field.ends_with(' ')) field.remove_suffix(1);
  std::uint64_t value = 0;
  for (const char c : field) {
    if (c < '0' || c > '7') return std::nullopt;
    value = value * 8 + static_cast<std::uint64_t>(c - '0');  // at most 12 digits, so 36 bits
  }
  return field.empty() ? std::nullopt : std::optional(value);
}

std::optional<std::uint64_t> size_field(std::string_view block) {
  constexpr std::size_t kSize = 124;
  if (block[kSize] != '\x80') return octal_field(block, kSize, 12);
  std::uint64_t value = 0;
  for (std::size_t i = 1; i < 12; ++i) {
    if (value >> 55 != 0) return std::nullopt;
    value = value << 8 | static_cast<unsigned char>(block[kSize + i]);
  }
  return value;
}

std::uint64_t sum_of(std::string_view block) {
  constexpr std::size_t kSum = 148;
  std::uint64_t sum = 8 * std::uint64_t{' '};
  for (std::size_t i = 0; i < block.size(); ++i)
    sum += i >= kSum && i < kSum + 8 ? 0 : static_cast<unsigned char>(block[i]);
  return sum;
}

Result<TarHeader> parse_header(std::string_view block, std::uint64_t at) {
  if (block.substr(257, 5) != "ustar") return malformed(at, "it lacks the mark 'ustar'");
  const std::optional<std::uint64_t> sum = octal_field(block, 148, 8);
  if (sum != sum_of(block))
    return malformed(at, str_cat("wrong checksum: found ", sum_of(block), ", expected ",
                                 sum ? str_cat(*sum) : "no number"));
  const std::optional<std::uint64_t> nbytes = size_field(block);
  if (!nbytes) return malformed(at, "its size is not a number");
  TarHeader header;
  header.name = text_field(block, 0, 100);
  header.nbytes = *nbytes;
  header.kind = block[156] == '\0' ? '0' : block[156];
  const bool posix = block[262] == '\0';
  const std::string_view prefix = posix ? text_field(block, 345, 155) : std::string_view();
  if (!prefix.empty()) header.name = str_cat(prefix, "/", header.name);
  return header;
}

// Accepts pax records, "<length> <key>=<value>\n", only if they do not change the member.
Result<void> check_pax(const ByteSource& file, std::uint64_t at, std::uint64_t nbytes) {
  if (nbytes > kMaxPax)
    return malformed(at, str_cat("its pax records are too long: found ", nbytes,
                                 " bytes, expected at most ", kMaxPax));
  std::string records(static_cast<std::size_t>(nbytes), '\0');
  FLATBED_TRY(file.read_at(at + kBlock, std::as_writable_bytes(std::span(records))));
  for (const std::string_view key : {" path=", " size=", " linkpath=", " GNU.sparse"}) {
    if (records.find(key) != std::string::npos)
      return malformed(at, str_cat("unsupported pax record:", key, " is not what torch writes"));
  }
  return {};
}

}  // namespace

Result<TarArchive> TarArchive::open(const ByteSource& file) {
  TarArchive archive;
  std::array<std::byte, kBlock> buffer;
  const std::string_view block = as_text(buffer);
  std::uint64_t at = 0;
  for (std::size_t headers = 0;; ++headers) {
    if (!in_bounds(at, kBlock, file.size()))
      return malformed(
          at, "the file ends before the archive's final block of zeros (incomplete download?)");
    FLATBED_TRY(file.read_at(at, buffer));
    if (block.find_first_not_of('\0') == block.npos) return archive;
    FLATBED_ASSIGN(const TarHeader header, parse_header(block, at));
    const std::uint64_t left = file.size() - at - kBlock;
    const std::uint64_t padding = (kBlock - header.nbytes % kBlock) % kBlock;
    if (header.nbytes > left || padding > left - header.nbytes)
      return malformed(at, str_cat(quoted(header.name), " is cut off: found ", left,
                                   " bytes, expected ", header.nbytes));
    if (headers == kMaxHeaders || archive.members_.size() == kMaxTarMembers)
      return make_error(ErrorCode::unsupported_layout,
                        "a tar archive with more members than torch.save writes: unpack it first");
    if (header.kind == 'x' || header.kind == 'g') {
      FLATBED_TRY(check_pax(file, at, header.nbytes));
    } else if (header.kind == '0') {
      if (archive.find(header.name) != nullptr)
        return malformed(at, str_cat("duplicate member ", quoted(header.name)));
      archive.members_.push_back({header.name, at + kBlock, header.nbytes});
    } else if (header.kind != '5') {
      return malformed(
          at, str_cat(quoted(header.name), " has an unsupported kind: found ",
                      quoted(std::string_view(&header.kind, 1)), ", expected a file or folder"));
    }
    at += kBlock + header.nbytes + padding;
  }
}

const TarMember* TarArchive::find(std::string_view name) const {
  const auto found = std::find_if(members_.begin(), members_.end(),
                                  [&](const TarMember& member) { return member.name == name; });
  return found == members_.end() ? nullptr : &*found;
}

}  // namespace flatbed::pth
