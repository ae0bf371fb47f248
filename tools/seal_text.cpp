#include "seal_text.hpp"

#include <utility>

namespace flatbed::tool {
namespace {

bool is_of_seal(ErrorCode error) noexcept {
  switch (error) {
    case ErrorCode::seal_malformed:
    case ErrorCode::seal_header_mismatch:
    case ErrorCode::seal_content_mismatch:
    case ErrorCode::seal_digests_malformed:
    case ErrorCode::chunk_corrupt:
    case ErrorCode::chunk_rewritten:
    case ErrorCode::sidecar_malformed:
    case ErrorCode::shard_mixed_set:
      return true;
    default:
      return false;
  }
}

}  // namespace

OpenOptions open_options(bool ignore_seal) {
  return {.check_seal = ignore_seal ? CheckSeal::off : CheckSeal::if_sealed};
}

Error with_way_out(Error error) {
  if (is_of_seal(error.code))
    error.message += "; use --ignore-seal to read it as if it were not sealed";
  return error;
}

// Damage that leaves valid JSON with sizes that fit the file is rare.
bool looks_rewritten(ErrorCode error) noexcept {
  return error == ErrorCode::seal_malformed || error == ErrorCode::seal_content_mismatch ||
         error == ErrorCode::seal_digests_malformed || error == ErrorCode::shard_mixed_set;
}

// Damage touches few chunks and no header; training changes nearly all of a tensor's.
bool looks_rewritten(const Checkpoint& checkpoint, const VerifyReport& report) {
  if (report.damaged.empty()) return false;
  std::uint64_t whole = 0;
  for (const DamagedRange& range : report.damaged) {
    if (checkpoint.files()[range.file].seal == SealState::annotated) return true;
    const TensorInfo& tensor = checkpoint.tensors()[range.tensor];
    if (range.begin == 0 && range.end == tensor.nbytes) ++whole;
  }
  return whole > 1 && whole == report.damaged.size();
}

}  // namespace flatbed::tool
