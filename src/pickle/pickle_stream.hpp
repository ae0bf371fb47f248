// PickleStream: a sequence of pickles and raw numbers, in part of a file or in memory. Nothing
// states the size of a pickle in advance; PickleStream finds its end without running it.
//
// It holds only a window of the file, which grows until a pickle fits. Skipped storages are never
// read. Borrows the file or the bytes. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/large_allocator.hpp"

namespace flatbed::pth {

// Used in place of the number of a held text if the bytes are in the file.
inline constexpr std::uint32_t kNotHeld = 0xFFFFFFFF;
inline constexpr std::uint64_t kMaxStreamPickle = 0xFFFFFFFE;

class PickleStream {
 public:
  // `nbytes` bytes of a file from `begin` on, which must exist.
  PickleStream(const ByteSource& file, std::uint64_t begin, std::uint64_t nbytes)
      : file_(&file), begin_(begin), nbytes_(nbytes) {}
  // Bytes in TorchFile::held[held], or (for kNotHeld) in the file, from `begin` on.
  PickleStream(std::span<const std::byte> bytes, std::uint32_t held, std::uint64_t begin)
      : bytes_(bytes), held_(held), begin_(begin), nbytes_(bytes.size()) {}

  // Returns the next pickle up to its STOP, valid until the next call. Also ends at an invalid
  // opcode; the interpreter reports it. Errors: pickle_truncated, pickle_limit, and those of
  // PickleReader and File::read_at.
  [[nodiscard]] Result<std::span<const std::byte>> next_pickle();

  // Returns the next `nbytes` bytes, which should be few, valid until the next call. Errors:
  // legacy_truncated, and those of File::read_at.
  [[nodiscard]] Result<std::span<const std::byte>> next_bytes(std::size_t nbytes);

  // Goes back to the first byte.
  void rewind() noexcept { position_ = 0; }

  // Errors: legacy_truncated.
  [[nodiscard]] Result<void> skip(std::uint64_t nbytes);

  [[nodiscard]] std::uint64_t remaining() const noexcept { return nbytes_ - position_; }
  [[nodiscard]] std::uint32_t held() const noexcept { return held_; }
  // Offset of the next byte, in the file or in the held bytes.
  [[nodiscard]] std::uint64_t offset() const noexcept { return begin_ + position_; }
  // Total size of all pickles found so far, in bytes.
  [[nodiscard]] std::uint64_t pickled_nbytes() const noexcept { return pickled_nbytes_; }

 private:
  // Returns the next `nbytes` bytes, or what is left. If they are not in the window, it is refilled
  // with at least `ahead` bytes.
  [[nodiscard]] Result<std::span<const std::byte>> peek(std::uint64_t nbytes, std::uint64_t ahead);

  const ByteSource* file_ = nullptr;
  std::span<const std::byte> bytes_;
  std::uint32_t held_ = kNotHeld;
  std::uint64_t begin_ = 0;
  std::uint64_t nbytes_ = 0;
  std::uint64_t position_ = 0;
  std::uint64_t pickled_nbytes_ = 0;
  ByteBuffer window_;  // of the file's bytes
  std::uint64_t window_begin_ = 0;
};

}  // namespace flatbed::pth
