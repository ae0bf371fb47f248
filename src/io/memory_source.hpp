// MemorySource: bytes in memory as a ByteSource. Borrows them. Thread-safe while nobody writes to
// them.
#pragma once

#include <string>
#include <utility>

#include "flatbed/byte_source.hpp"

namespace flatbed {

class MemorySource final : public ByteSource {
 public:
  MemorySource(std::span<const std::byte> bytes, std::string label)
      : bytes_(bytes), label_(std::move(label)) {}

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return bytes_.size(); }
  // Errors: invalid_argument (outside the bytes).
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
  [[nodiscard]] std::span<const std::byte> memory() const noexcept override { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
  std::string label_;
};

}  // namespace flatbed
