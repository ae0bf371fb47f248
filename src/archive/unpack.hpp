// Unpacker: the contents of a compressed file, from its start. gzip and zlib through zlib; xz and
// lzma through liblzma, if the build has it. Members that follow each other are one content, as in
// gunzip. Owns its buffers. Borrows the file, which must outlive it. Move-only, not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed::pth {

// The first four can be unpacked, the others only recognized.
enum class Packing : std::uint8_t { gzip, zlib, xz, lzma, bzip2, zstd, lz4, seven_zip, rar };

[[nodiscard]] std::string_view name(Packing packing) noexcept;  // "gzip"

// The packing that the first bytes of a file state; nullopt for anything else.
[[nodiscard]] std::optional<Packing> find_packing(std::span<const std::byte> head) noexcept;

class Unpacker {
 public:
  // Errors: unsupported_format (this build cannot unpack it), resource_exhausted.
  [[nodiscard]] static Result<Unpacker> open(const ByteSource& file, Packing packing);

  Unpacker(Unpacker&&) noexcept;
  Unpacker& operator=(Unpacker&&) noexcept;
  ~Unpacker();

  // Fills the beginning of `out`, which is not empty, and returns how many bytes that are. 0 is the
  // end of the contents. Errors: unsupported_format (damaged or cut off), resource_exhausted (an xz
  // file that needs more than 80 MiB to be unpacked), and those of File::read_at.
  [[nodiscard]] Result<std::size_t> read(std::span<std::byte> out);

  // Bytes of the file after its last member, once read() has returned 0. Zeros do not count.
  [[nodiscard]] std::uint64_t trailing_nbytes() const noexcept;

  // One for each packing; what they share is in unpack.cpp.
  struct State;

 private:
  explicit Unpacker(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace flatbed::pth
