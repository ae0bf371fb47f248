// TorchReader: the bytes of a PyTorch file's tensors, contiguous and little endian, however they
// are stored. Borrows the file and its description, which must outlive it. read() is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "archive/inflate.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "torch/torch_file.hpp"

namespace flatbed::pth {

class TorchReader {
 public:
  TorchReader(const ByteSource& file, const TorchFile& torch) : file_(file), torch_(torch) {}

  // Fills `out` from byte `offset` of the tensor's contiguous contents. The caller has checked the
  // range. Errors: those of File::read_at, zip_deflate_malformed.
  [[nodiscard]] Result<void> read(const TorchTensor& tensor, std::uint64_t offset,
                                  std::span<std::byte> out);

 private:
  [[nodiscard]] Result<void> read_elements(const TorchTensor& tensor, std::uint64_t first,
                                           std::span<std::byte> out);
  [[nodiscard]] Result<void> read_storage(std::uint32_t storage, std::uint64_t offset,
                                          std::span<std::byte> out);
  [[nodiscard]] Result<void> inflate(std::uint32_t storage, std::uint64_t offset,
                                     std::span<std::byte> out);

  struct Inflater {
    std::uint32_t storage;
    InflateReader reader;
  };

  static constexpr std::size_t kMaxInflaters = 4;  // each keeps some MiB of resumable states

  const ByteSource& file_;
  const TorchFile& torch_;
  std::mutex mutex_;                 // guards inflaters_ and their use
  std::vector<Inflater> inflaters_;  // most recently used first
};

}  // namespace flatbed::pth
