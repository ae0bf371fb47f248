// PreadLoop: reads the plain tensors of a checkpoint into memory with nothing but pread(), pieces
// of 4 MiB, by several threads: what the system gives to a program that checks nothing. Owns the
// open files; run() is for one thread at a time.
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

  // `to` is where the tensor's bytes shall go. The tensor is Stored::plain.
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
