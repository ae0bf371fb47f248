#include "archive/zip_entry.hpp"

#include <algorithm>

#include "base/str_cat.hpp"

namespace flatbed::pth {

bool ZipRecords::state_crcs() const noexcept {
  return std::ranges::any_of(entries, [](const ZipEntry& entry) { return entry.crc != 0; });
}

std::string crc_text(std::uint32_t found, std::uint32_t stated) {
  return str_cat("CRC-32 does not match: found 0x", hex(found), ", expected 0x", hex(stated));
}

namespace zip {

Result<std::optional<std::span<const std::byte>>> find_extra(std::span<const std::byte> extra,
                                                             std::uint16_t id) {
  std::optional<std::span<const std::byte>> found;
  while (!extra.empty()) {
    if (extra.size() < 4 || load_le16(extra.data() + 2) > extra.size() - 4)
      return make_error(ErrorCode::zip_directory_malformed,
                        "the extra fields do not fill their length");
    const std::size_t nbytes = load_le16(extra.data() + 2);
    if (load_le16(extra.data()) == id) {
      if (found)
        return make_error(ErrorCode::zip_directory_malformed, "extra field 0x", hex(id),
                          " appears twice");
      found = extra.subspan(4, nbytes);
    }
    extra = extra.subspan(4 + nbytes);
  }
  return found;
}

}  // namespace zip

}  // namespace flatbed::pth
