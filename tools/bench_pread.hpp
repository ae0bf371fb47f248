// PreadLoop: reads the plain tensors of a checkpoint into memory with pread() alone, in pieces of 4
// MiB, on several threads. It shows what the system gives a program that checks nothing. Owns the
// open files. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/result.hpp"

namespace flatbed::tool {

class PreadLoop {
 public:
  // Errors: io_error.
  [[nodiscard]] static Result<PreadLoop> open(const Checkpoint& checkpoint);
  PreadLoop(PreadLoop&& other) noexcept = default;
  PreadLoop& operator=(PreadLoop&& other) noexcept = delete;
  ~PreadLoop();

  // `to` is the destination of the tensor's bytes. The tensor must be Stored::plain.
  void add(const TensorInfo& tensor, std::byte* to);

  // Errors: io_error, file_changed, cancelled after Ctrl-C.
  [[nodiscard]] Result<void> run(unsigned threads) const;

 private:
  struct Piece {
    int file;
    std::uint64_t offset;
    std::uint64_t nbytes;
    std::byte* to;
  };
  PreadLoop() = default;
  static Result<void> read_piece(const Piece& piece);

  std::vector<int> files_;  // by index into Checkpoint::files()
  std::vector<Piece> pieces_;
};

}  // namespace flatbed::tool
