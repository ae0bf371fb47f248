// A deflated record, read forwards and in jumps: both give the same bytes, or the record is
// refused.
//
//   u16 size that is claimed, u8 distance of kept states, then the deflated bytes
#include <algorithm>
#include <vector>

#include "archive/inflate.hpp"
#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"

namespace flatbed::fuzz {

namespace {

Result<std::vector<std::byte>> read_all(const ByteSource& file, const pth::DeflatedRecord& record) {
  FLATBED_ASSIGN(pth::InflateReader reader, pth::InflateReader::open(file, record));
  std::vector<std::byte> out(record.nbytes);
  FLATBED_TRY(reader.read(0, out));
  return out;
}

}  // namespace

void inflate(std::string_view bytes) {
  constexpr std::size_t kHead = 3;
  if (bytes.size() < kHead) return;
  const MemorySource file = source_of(bytes);
  const std::uint64_t claimed = load_le16(as_bytes(bytes).data());
  const std::uint64_t interval = 64 + static_cast<unsigned char>(bytes[2]);
  const pth::DeflatedRecord record{kHead, bytes.size() - kHead, claimed};
  const Result<std::vector<std::byte>> whole = read_all(file, record);
  if (!whole) return check_error(whole.error());

  Result<pth::InflateReader> reader = pth::InflateReader::open(file, record, interval);
  require(reader.has_value(), "a record that was read opens again");
  std::vector<std::byte> part;
  for (std::uint64_t i = 0; i < 6; ++i) {  // to and fro
    const std::uint64_t begin = claimed * ((i * 5) % 6) / 6;
    part.resize(static_cast<std::size_t>(std::min<std::uint64_t>(claimed - begin, 100)));
    require(reader->read(begin, part).has_value(), "parts of what was read are read");
    require(
        std::equal(part.begin(), part.end(), whole->begin() + static_cast<std::ptrdiff_t>(begin)),
        "parts are the same in any order");
  }
}

}  // namespace flatbed::fuzz
