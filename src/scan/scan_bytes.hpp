// ScanBytes: the bytes of a record, fetched from its front as far as a scan needs them. What cannot
// be had (the file ends, does not inflate, or the record is too long to be held) is an end that is
// said, not an error. Owns its buffer; borrows the file or the memory. Move-only; for one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "archive/inflate.hpp"
#include "flatbed/byte_source.hpp"
#include "io/large_allocator.hpp"

namespace flatbed::pth {

// Pickles are held whole. Those of a million tensors have 200 MB.
inline constexpr std::uint64_t kMaxScanBytes = 1ULL << 30;
// torch deflates no pickle; what is zipped anew becomes a tenth or so. A record can claim a
// thousand times its size: of such a one no more is looked at than this, or than 64 times its size.
inline constexpr std::uint64_t kFreeScanBytes = 16 << 20;
inline constexpr std::uint64_t kMaxScanRatio = 64;

class ScanBytes {
 public:
  explicit ScanBytes(std::span<const std::byte> memory)
      : size_(memory.size()), memory_(memory), have_(memory) {}
  // `nbytes` from `begin` on, which the file has.
  ScanBytes(const ByteSource& file, std::uint64_t begin, std::uint64_t nbytes)
      : file_(&file), begin_(begin), size_(nbytes) {}
  // Of a deflated record.
  ScanBytes(const ByteSource& file, const DeflatedRecord& record);

  // As the container says.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  // At most so many are looked at.
  [[nodiscard]] std::uint64_t limit() const noexcept;
  // The first bytes: those that were fetched.
  [[nodiscard]] std::span<const std::byte> have() const noexcept { return have_; }
  // Fetches more: `wanted` bytes in all, or what there is. False: nothing came.
  bool fetch(std::uint64_t wanted);
  // Why no more than have() can be had, though size() says so; empty: nothing is wrong.
  [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }

 private:
  bool read_file(std::uint64_t wanted);
  bool inflate(std::uint64_t wanted);
  void inflate_rest(std::uint64_t end);
  bool stop(const Error& error);

  const ByteSource* file_ = nullptr;
  std::uint64_t begin_ = 0;
  std::uint64_t size_ = 0;
  std::span<const std::byte> memory_;
  DeflatedRecord record_;
  std::optional<InflateReader> inflater_;
  ByteBuffer buffer_;
  std::span<const std::byte> have_;
  std::string trouble_;
};

}  // namespace flatbed::pth
