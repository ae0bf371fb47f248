// FilePart: a range of a file as a ByteSource of its own, for files in archives. Borrows the file.
// Thread-safe as the file is.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "flatbed/byte_source.hpp"
#include "io/source_range.hpp"

namespace flatbed::pth {

class FilePart final : public ByteSource {
 public:
  // `nbytes` bytes from `begin` on, which must lie in the file.
  FilePart(const ByteSource& file, std::uint64_t begin, std::uint64_t nbytes)
      : file_(file), begin_(begin), nbytes_(nbytes) {}

  [[nodiscard]] std::string_view label() const noexcept override { return file_.label(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return nbytes_; }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    FLATBED_TRY(check_range(*this, offset, out.size()));
    return file_.read_at(begin_ + offset, out);
  }

 private:
  const ByteSource& file_;
  std::uint64_t begin_;
  std::uint64_t nbytes_;
};

}  // namespace flatbed::pth
