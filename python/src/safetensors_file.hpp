// SafetensorsFile: a safetensors file as flatbed.safetensors hands out its tensors: in place, once
// their chunks have matched their digests, or read into memory of their own and hashed on the way.
//
// Knows nothing of Python: call its members without the GIL. Thread-safe. What it hands out
// outlives it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/private_view.hpp"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"
#include "verified_chunks.hpp"

namespace flatbed::python {

// Bytes that may be written, and what keeps them.
struct Memory {
  std::shared_ptr<const void> owner;
  std::span<std::byte> bytes;
};

// A part of a tensor, and where it is read to.
struct FilePart {
  std::uint32_t tensor;
  std::uint64_t offset;
  std::span<std::byte> out;
};

class SafetensorsFile {
 public:
  // Opens `path`, which must be a safetensors file. With Verify::yes a broken seal is an error, and
  // `known` says what has been verified before. Errors: those of Checkpoint::open();
  // not_a_regular_file (a folder), unsupported_format (another format).
  [[nodiscard]] static Result<SafetensorsFile> open(const std::filesystem::path& path,
                                                    Verify verify, VerifiedFiles& known);
  // The file in `bytes`, which it borrows.
  [[nodiscard]] static Result<SafetensorsFile> open_memory(std::span<const std::byte> bytes,
                                                           Verify verify);

  [[nodiscard]] const Checkpoint& checkpoint() const noexcept { return checkpoint_; }
  // The tensor's number, by its own name: aliases do not count.
  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view name) const;

  // Compares the chunks under bytes [begin, end) of the tensor with their digests, unless that was
  // done before; nothing without a seal. Errors: chunk_corrupt, chunk_rewritten, those of reading.
  [[nodiscard]] Result<void> check(std::uint32_t tensor, std::uint64_t begin, std::uint64_t end,
                                   const ProgressCallback& progress) const;
  // Every chunk of the file.
  [[nodiscard]] Result<void> check_all(const ProgressCallback& progress) const;

  // The bytes in place, unchecked: check() comes first, and changes that come later are not seen.
  // A tensor that is not aligned in the file is read, and checked.
  [[nodiscard]] Result<Memory> view(std::uint32_t tensor) const;

  // Bytes [begin, begin + nbytes) of the tensor in memory of their own, hashed on the way.
  [[nodiscard]] Result<Memory> read(std::uint32_t tensor, std::uint64_t begin, std::uint64_t nbytes,
                                    const ProgressCallback& progress) const;
  // Every tensor into its own memory of outputs, which have its size, in the order of the file.
  [[nodiscard]] Result<void> read_into(std::span<const std::span<std::byte>> outputs,
                                       const ProgressCallback& progress) const;
  // All tensors, each in memory of its own, in the order of the file.
  [[nodiscard]] Result<std::vector<Memory>> read_all(const ProgressCallback& progress) const;

 private:
  SafetensorsFile(Checkpoint checkpoint, Verify verify, std::shared_ptr<Crew> crew);

  [[nodiscard]] std::uint64_t count_chunks();
  [[nodiscard]] Result<void> check_chunks(std::uint32_t tensor, std::uint64_t first,
                                          std::uint64_t end, std::span<std::byte> scratch) const;
  [[nodiscard]] Result<void> read_parts(const std::vector<FilePart>& parts,
                                        const ProgressCallback& progress) const;
  [[nodiscard]] Result<void> explain(std::uint32_t tensor, std::uint64_t begin) const;

  Checkpoint checkpoint_;
  PrivateViews views_;
  Verify verify_;
  std::shared_ptr<Crew> crew_;
  // For each tensor the number of its first chunk, and then that of all; empty without digests.
  std::vector<std::uint64_t> first_chunks_;
  std::shared_ptr<VerifiedChunks> verified_;
};

}  // namespace flatbed::python
