// OutputFile: the file that already has an output's name, for a comparison with what would be
// written there. choose_samples(): which of its chunks are compared. Thread-safe when const.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "flatbed/save_compare.hpp"
#include "save/pieces.hpp"

namespace flatbed {

class OutputFile {
 public:
  // No file: `state` is complete, either absent or different (a link that leads nowhere, a file
  // that cannot be opened). Errors: not_a_regular_file.
  [[nodiscard]] static Result<std::optional<OutputFile>> open(const std::filesystem::path& path,
                                                              OutputState& state);

  // A file that is open.
  explicit OutputFile(std::shared_ptr<const ByteSource> file) : file_(std::move(file)) {}

  [[nodiscard]] std::uint64_t size() const noexcept { return file_->size(); }
  // Errors: those of File::read_at.
  [[nodiscard]] Result<std::string> read(std::uint64_t offset, std::uint64_t nbytes) const;
  // Whether the bytes at `offset` are `expected`. Reads at most a chunk at once.
  [[nodiscard]] Result<bool> holds(std::uint64_t offset, std::span<const std::byte> expected) const;
  [[nodiscard]] Result<void> check_unchanged() const { return file_->check_unchanged(); }

 private:
  std::shared_ptr<const ByteSource> file_;
};

// The whole chunks, or all, of a tensor in an output.
struct Sample {
  std::uint32_t place = 0;  // index into the places
  std::uint64_t first_chunk = 0;
  std::uint64_t offset = 0;  // in the file
  std::uint64_t nbytes = 0;
};

inline constexpr std::uint64_t kMaxSampledChunks = 256;

// `places` are where the tensors are, in any order; Run::tensor says in which order the source has
// them. The samples ascend by offset. If not all data is compared, half of them are spread over the
// tensors, so that small ones are seen too, and half over the bytes.
[[nodiscard]] std::vector<Sample> choose_samples(std::span<const Run> places, CompareData data);

// The error that ends a comparison. Only for the comparisons, which turn it into an OutputState.
[[nodiscard]] inline Error difference(std::string what) {
  return Error{ErrorCode::file_exists, std::move(what)};
}
// "tensor 'w': bytes [0,262144) differ"
[[nodiscard]] Error data_difference(std::string_view tensor, std::uint64_t begin,
                                    std::uint64_t nbytes);

// Whether the file holds this text, and nothing else. Errors: those of reading it.
[[nodiscard]] Result<OutputState> compare_text(const OutputFile& file, std::string_view text);

// The state that a finished comparison found. Errors: those of `compared` that are no difference.
[[nodiscard]] Result<OutputState> conclude(const OutputFile& file, const Result<void>& compared);

}  // namespace flatbed
