// TorchReader: the bytes of a PyTorch file's tensors, contiguous and little endian, however they
// are stored. Borrows the file and its description, which must outlive it. read() is thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
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
  // range. A deflated record that is read again is inflated from its beginning, once in a call,
  // unless the range begins where the last such call ended. Errors: those of File::read_at,
  // zip_deflate_malformed.
  [[nodiscard]] Result<void> read(const TorchTensor& tensor, std::uint64_t offset,
                                  std::span<std::byte> out,
                                  ReadsOfSource reads = ReadsOfSource::first);

 private:
  struct Inflater {
    std::uint32_t storage;
    std::unique_ptr<RereadSource> again;  // that it reads; null: the file
    std::uint64_t reread_to;              // where the last call that read again ended
    InflateReader reader;
  };
  // One call of read().
  struct Call {
    ReadsOfSource reads;
    std::optional<Inflater> again;  // what its rereads of a deflated record inflate with
  };
  // What is read of a storage.
  struct StorageRange {
    std::uint32_t storage;
    std::uint64_t offset;
  };

  [[nodiscard]] Result<void> read_bytes(const TorchTensor& tensor, std::uint64_t offset,
                                        std::span<std::byte> out, Call& call);
  [[nodiscard]] Result<void> read_elements(const TorchTensor& tensor, std::uint64_t first,
                                           std::span<std::byte> out, Call& call);
  [[nodiscard]] Result<void> read_storage(const StorageRange& range, std::span<std::byte> out,
                                          Call& call);
  [[nodiscard]] Result<void> inflate(const StorageRange& range, std::span<std::byte> out);
  [[nodiscard]] Result<void> inflate_again(const StorageRange& range, std::span<std::byte> out,
                                           Call& call);
  [[nodiscard]] Result<Inflater> new_inflater(std::uint32_t storage, ReadsOfSource reads) const;
  [[nodiscard]] std::optional<Inflater> take_inflater(std::uint32_t storage);
  void keep_inflater(Inflater inflater);

  static constexpr std::size_t kMaxInflaters = 4;  // each keeps some MiB of resumable states

  const ByteSource& file_;
  const TorchFile& torch_;
  std::mutex mutex_;  // guards inflaters_, and is held while a read that is no reread inflates
  std::vector<Inflater> inflaters_;  // at most one of a storage; most recently used first
};

}  // namespace flatbed::pth
