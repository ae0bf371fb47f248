// BytesSource: bytes that a test builds, as a source that owns them. Thread-safe.
#pragma once

#include <string>
#include <utility>

#include "base/bytes.hpp"
#include "io/memory_source.hpp"

namespace flatbed::test {

class BytesSource : public ByteSource {
 public:
  explicit BytesSource(std::string bytes, std::string label = "bytes")
      : bytes_(std::move(bytes)), source_(as_bytes(bytes_), std::move(label)) {}

  [[nodiscard]] std::string_view label() const noexcept override { return source_.label(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return source_.size(); }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset,
                                     std::span<std::byte> out) const override {
    return source_.read_at(offset, out);
  }
  [[nodiscard]] std::span<const std::byte> memory() const noexcept override {
    return source_.memory();
  }

 private:
  std::string bytes_;
  MemorySource source_;
};

}  // namespace flatbed::test
