// ScanBytes: the bytes of a record, fetched from its start as far as a scan needs them. Where data
// is missing (the file ends, does not inflate, or the record is too long to hold), the scan stops
// and records a finding instead of failing. Owns its buffer; borrows the file or the memory.
// Move-only, not thread-safe.
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

// Pickles are held whole. A pickle of a million tensors has 200 MB.
inline constexpr std::uint64_t kMaxScanBytes = 1ULL << 30;
// torch does not deflate pickles; one that was zipped again deflates to about a tenth. A record can
// claim a thousand times its size, so at most this much of it is read, or 64 times its size.
inline constexpr std::uint64_t kFreeScanBytes = 16 << 20;
inline constexpr std::uint64_t kMaxScanRatio = 64;

class ScanBytes {
 public:
  explicit ScanBytes(std::span<const std::byte> memory)
      : size_(memory.size()), memory_(memory), have_(memory) {}
  // `nbytes` bytes from `begin` on, which must lie in the file.
  ScanBytes(const ByteSource& file, std::uint64_t begin, std::uint64_t nbytes)
      : file_(&file), begin_(begin), size_(nbytes) {}
  // The bytes of a deflated record.
  ScanBytes(const ByteSource& file, const DeflatedRecord& record);

  // The size that the container states.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  // The number of bytes that the file has of it.
  [[nodiscard]] std::uint64_t stored_nbytes() const noexcept {
    return inflater_ ? record_.stored_nbytes : size_;
  }
  // The maximum number of bytes that are read.
  [[nodiscard]] std::uint64_t limit() const noexcept;
  // The bytes fetched so far.
  [[nodiscard]] std::span<const std::byte> have() const noexcept { return have_; }
  // Fetches more, up to `wanted` bytes in all or what is available. Returns false if nothing came.
  bool fetch(std::uint64_t wanted);
  // What follows the first `begin` bytes, of which there are at most size(). Unless the bytes come
  // straight from the file, it borrows what this object fetched, which is then everything.
  [[nodiscard]] ScanBytes rest(std::uint64_t begin);
  // Why fewer than size() bytes are available; empty if nothing is wrong.
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
