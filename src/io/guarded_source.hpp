// GuardedSource: wraps a ByteSource that somebody else wrote, and enforces what flatbed relies on.
// It asks for label, size and memory once, keeps reads within that size, and adds the label to each
// error. Shares the ownership of the source; as thread-safe as the source.
#pragma once

#include <memory>
#include <string>

#include "flatbed/byte_source.hpp"

namespace flatbed {

class GuardedSource final : public ByteSource {
 public:
  // Errors: invalid_argument (the source is null, or its memory differs from its size).
  [[nodiscard]] static Result<std::shared_ptr<const ByteSource>> wrap(
      std::shared_ptr<const ByteSource> source);

  explicit GuardedSource(std::shared_ptr<const ByteSource> source)
      : source_(std::move(source)),
        label_(source_->label()),
        size_(source_->size()),
        memory_(source_->memory()) {}

  [[nodiscard]] std::string_view label() const noexcept override { return label_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return size_; }
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override;
  [[nodiscard]] Result<void> read_parts(std::uint64_t offset,
                                        std::span<const std::span<std::byte>> parts) const override;
  // What the source reports never exceeds what it was asked for, never decreases, and is complete.
  [[nodiscard]] Result<void> read_with_progress(std::uint64_t offset,
                                                std::span<const std::span<std::byte>> parts,
                                                const ReadProgress& progress) const override;
  [[nodiscard]] Result<void> check_unchanged() const override;
  [[nodiscard]] std::span<const std::byte> memory() const noexcept override { return memory_; }
  [[nodiscard]] Result<DescriptorLease> descriptor() const override;
  [[nodiscard]] std::size_t preferred_read_nbytes() const noexcept override {
    return source_->preferred_read_nbytes();
  }
  [[nodiscard]] unsigned max_rereads() const noexcept override { return source_->max_rereads(); }
  [[nodiscard]] Result<void> reread_at(std::uint64_t offset,
                                       std::span<std::byte> out) const override;

 private:
  [[nodiscard]] Error named(Error error) const;

  std::shared_ptr<const ByteSource> source_;
  std::string label_;
  std::uint64_t size_;
  std::span<const std::byte> memory_;
};

}  // namespace flatbed
