// PickleStream: bytes that hold pickles and raw numbers one after the other, of a part of a file or
// in memory. It finds where each pickle ends, which nothing says in advance, without running it.
//
// Of a file only a window is held, which grows until a pickle fits: storages that are skipped are
// never read. Borrows the file or the bytes. For one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/large_allocator.hpp"

namespace flatbed::pth {

// Instead of the number of a held text: the bytes lie in the file.
inline constexpr std::uint32_t kNotHeld = 0xFFFFFFFF;
inline constexpr std::uint64_t kMaxStreamPickle = 0xFFFFFFFE;

class PickleStream {
 public:
  // `nbytes` from `begin` on of a file, which has them.
  PickleStream(const ByteSource& file, std::uint64_t begin, std::uint64_t nbytes)
      : file_(&file), begin_(begin), nbytes_(nbytes) {}
  // Bytes that lie in TorchFile::held[held], or for kNotHeld in the file, from `begin` on.
  PickleStream(std::span<const std::byte> bytes, std::uint32_t held, std::uint64_t begin)
      : bytes_(bytes), held_(held), begin_(begin), nbytes_(bytes.size()) {}

  // The next pickle up to its STOP, valid until the next call. Errors: pickle_truncated,
  // pickle_limit, those of PickleReader and File::read_at. An opcode that is none ends it too:
  // whoever runs it will say so.
  [[nodiscard]] Result<std::span<const std::byte>> next_pickle();

  // The next `nbytes` bytes, few, valid until the next call. Errors: legacy_truncated, those of
  // File::read_at.
  [[nodiscard]] Result<std::span<const std::byte>> next_bytes(std::size_t nbytes);

  // Goes back to the first byte.
  void rewind() noexcept { position_ = 0; }

  // Errors: legacy_truncated.
  [[nodiscard]] Result<void> skip(std::uint64_t nbytes);

  [[nodiscard]] std::uint64_t remaining() const noexcept { return nbytes_ - position_; }
  [[nodiscard]] std::uint32_t held() const noexcept { return held_; }
  // Of the next byte, in the file or in the held bytes.
  [[nodiscard]] std::uint64_t offset() const noexcept { return begin_ + position_; }
  // Of all pickles that were found.
  [[nodiscard]] std::uint64_t pickled_nbytes() const noexcept { return pickled_nbytes_; }

 private:
  // The next `nbytes` bytes, or what is left. Where they are not in the window, it is filled with
  // `ahead` bytes, if that is more.
  [[nodiscard]] Result<std::span<const std::byte>> peek(std::uint64_t nbytes, std::uint64_t ahead);

  const ByteSource* file_ = nullptr;
  std::span<const std::byte> bytes_;
  std::uint32_t held_ = kNotHeld;
  std::uint64_t begin_ = 0;
  std::uint64_t nbytes_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t pickled_nbytes_ = 0;
  ByteBuffer window_;  // of the file
  std::uint64_t window_begin_ = 0;
};

}  // namespace flatbed::pth
