// A member is a block of 512 bytes, then its contents, filled up to whole blocks:
//
//     0  name, 100 bytes
//   124  size, 12 bytes: octal digits; or 0x80 and a big-endian number (GNU)
//   148  sum of all bytes of the block, these eight taken for blanks: octal digits
//   156  kind: '0' or NUL a file, '5' a folder, 'x' and 'g' pax records about what follows
//   257  "ustar"
//   345  prefix of the name, 155 bytes (ustar; GNU has other things there)
//
// A block of zeros ends the archive. Torch wrote with Python's tarfile, whose pax records hold
// times of modification; records that change a member's name or size are refused, as are links.
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
constexpr std::size_t kMaxHeaders = 4 * kMaxTarMembers;  // with folders and pax records

struct TarHeader {
  std::string name;
  std::uint64_t nbytes = 0;
  char kind = '0';
};

Error malformed(std::uint64_t at, const std::string& what) {
  return make_error(ErrorCode::tar_malformed, "tar header at byte ", at, ": ", what);
}

// The text up to a NUL.
std::string_view text_field(std::string_view block, std::size_t at, std::size_t size) {
  const std::string_view field = block.substr(at, size);
  return field.substr(0, std::min(field.find('\0'), field.size()));
}

// Octal digits, perhaps between blanks.
std::optional<std::uint64_t> octal_field(std::string_view block, std::size_t at, std::size_t size) {
  std::string_view field = text_field(block, at, size);
  while (field.starts_with(' ')) field.remove_prefix(1);
  while (field.ends_with(' ')) field.remove_suffix(1);
  std::uint64_t value = 0;
  for (const char c : field) {
    if (c < '0' || c > '7') return std::nullopt;
    value = value * 8 + static_cast<std::uint64_t>(c - '0');  // at most 12 digits: 36 bits
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
  if (block.substr(257, 5) != "ustar") return malformed(at, "it has no 'ustar'");
  const std::optional<std::uint64_t> sum = octal_field(block, 148, 8);
  if (sum != sum_of(block))
    return malformed(at, str_cat("its bytes add up to ", sum_of(block), ", it says ",
                                 sum ? str_cat(*sum) : "no number"));
  const std::optional<std::uint64_t> nbytes = size_field(block);
  if (!nbytes) return malformed(at, "its size is no number");
  TarHeader header;
  header.name = text_field(block, 0, 100);
  header.nbytes = *nbytes;
  header.kind = block[156] == '\0' ? '0' : block[156];
  const bool posix = block[262] == '\0';
  const std::string_view prefix = posix ? text_field(block, 345, 155) : std::string_view();
  if (!prefix.empty()) header.name = str_cat(prefix, "/", header.name);
  return header;
}

// Pax records, "<length> <key>=<value>\n", about times and the like alone.
Result<void> check_pax(const ByteSource& file, std::uint64_t at, std::uint64_t nbytes) {
  if (nbytes > kMaxPax) return malformed(at, "its pax records are too long");
  std::string records(static_cast<std::size_t>(nbytes), '\0');
  FLATBED_TRY(file.read_at(at + kBlock, std::as_writable_bytes(std::span(records))));
  for (const std::string_view key : {" path=", " size=", " linkpath=", " GNU.sparse"}) {
    if (records.find(key) != std::string::npos)
      return malformed(at, str_cat("its pax records have", key, ", which torch does not write"));
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
      return malformed(at, "the file ends before the block of zeros that ends an archive");
    FLATBED_TRY(file.read_at(at, buffer));
    if (block.find_first_not_of('\0') == block.npos) return archive;
    FLATBED_ASSIGN(const TarHeader header, parse_header(block, at));
    const std::uint64_t left = file.size() - at - kBlock;
    const std::uint64_t padding = (kBlock - header.nbytes % kBlock) % kBlock;
    if (header.nbytes > left || padding > left - header.nbytes)
      return malformed(at, str_cat(quoted(header.name), " has ", header.nbytes, " bytes, ", left,
                                   " are left in the file"));
    if (headers == kMaxHeaders || archive.members_.size() == kMaxTarMembers)
      return make_error(ErrorCode::unsupported_layout,
                        "a tar archive of many files, not of torch.save: unpack it");
    if (header.kind == 'x' || header.kind == 'g') {
      FLATBED_TRY(check_pax(file, at, header.nbytes));
    } else if (header.kind == '0') {
      if (archive.find(header.name) != nullptr)
        return malformed(at, str_cat("a second member ", quoted(header.name)));
      archive.members_.push_back({header.name, at + kBlock, header.nbytes});
    } else if (header.kind != '5') {
      return malformed(
          at, str_cat(quoted(header.name), " is of kind ",
                      quoted(std::string_view(&header.kind, 1)), ", wanted a file or folder"));
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
