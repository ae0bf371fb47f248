// CallerSource: a file that a C caller reads, as a ByteSource. Owns the caller's context, which it
// closes, once own() was called. Thread-safe as the caller's functions are.
#pragma once

#include <memory>
#include <string>

#include "c/arguments.hpp"
#include "flatbed/byte_source.hpp"

namespace flatbed::c {

class CallerSource final : public ByteSource {
 public:
  [[nodiscard]] static Result<std::shared_ptr<CallerSource>> make(const flatbed_reader* given);

  CallerSource(const flatbed_reader& reader, std::string label)
      : reader_(reader), label_(std::move(label)) {}
  ~CallerSource() override {
    if (owned_ && reader_.close != nullptr) reader_.close(reader_.context);
  }

  // From now on the context is closed with this object: the open succeeded.
  void own() noexcept { owned_ = true; }

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return reader_.nbytes; }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
  [[nodiscard]] Result<void> check_unchanged() const override;
  [[nodiscard]] std::size_t preferred_read_nbytes() const noexcept override;

 private:
  flatbed_reader reader_;
  std::string label_;
  bool owned_ = false;
};

}  // namespace flatbed::c
