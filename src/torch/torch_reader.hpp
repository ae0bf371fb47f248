// TorchReader: the bytes of a PyTorch file's tensors, contiguous and little endian, however they
// are stored. Borrows the file and its description, which must outlive it. read() is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "archive/inflate.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/reread.hpp"
#include "torch/torch_file.hpp"

namespace flatbed::pth {

// Where bytes come from: read_at() or reread_at() of the file.
enum class ReadsOfSource : std::uint8_t { first, again };

class TorchReader {
 public:
  TorchReader(const ByteSource& file, const TorchFile& torch) : file_(file), torch_(torch) {}

  // Fills `out` from byte `offset` of the tensor's contiguous contents. The caller has checked the
  // range. A deflated record that is read again is inflated from its beginning, unless that is
  // where the last such read ended. Errors: those of File::read_at, zip_deflate_malformed.
  [[nodiscard]] Result<void> read(const TorchTensor& tensor, std::uint64_t offset,
                                  std::span<std::byte> out,
                                  ReadsOfSource reads = ReadsOfSource::first);

 private:
  // What is read of a storage.
  struct StorageRange {
    std::uint32_t storage;
    std::uint64_t offset;
    ReadsOfSource reads;
  };
  struct Inflater {
    std::uint32_t storage;
    std::unique_ptr<RereadSource> again;  // that it reads; null: the file
    std::uint64_t reread_to;              // where the last read again ended, or kNowhere
    InflateReader reader;
  };

  [[nodiscard]] Result<void> read_elements(const TorchTensor& tensor, std::uint64_t first,
                                           std::span<std::byte> out, ReadsOfSource reads);
  [[nodiscard]] Result<void> read_storage(const StorageRange& range, std::span<std::byte> out);
  [[nodiscard]] Result<void> inflate(const StorageRange& range, std::span<std::byte> out);
  [[nodiscard]] Result<Inflater> new_inflater(const StorageRange& range) const;

  static constexpr std::uint64_t kNowhere = UINT64_MAX;
  static constexpr std::size_t kMaxInflaters = 4;  // each keeps some MiB of resumable states

  const ByteSource& file_;
  const TorchFile& torch_;
  std::mutex mutex_;                 // guards inflaters_ and their use
  std::vector<Inflater> inflaters_;  // most recently used first
};

}  // namespace flatbed::pth
