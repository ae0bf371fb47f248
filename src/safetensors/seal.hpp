// The seal (spec S1 to S7, C1 to C3): computes its two digests, and judges the one that a file or
// its sidecar carries. Works on plain structs that borrow their strings; it reads neither files nor
// tensor data. Pure functions, thread-safe.
//
// A sealed file begins with
//   bytes 0..7    u64 N, the length of the JSON text that follows
//   bytes 8..35   {"__metadata__":{"flatbed":"
//   bytes 36..51  header digest: of bytes 0..7+N, these sixteen taken as '0'
//   bytes 52..    /1/ and 16 digits: content digest: of names, dtypes, shapes and flatbed.* pairs
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/dtype.hpp"
#include "flatbed/error.hpp"
#include "flatbed/seal_state.hpp"
#include "flatbed/tensor.hpp"

namespace flatbed::safetensors {

inline constexpr std::uint64_t kChunkBytes = 262'144;    // bytes that one data digest covers
inline constexpr std::size_t kDigestDigits = 16;         // of every digest in hex
inline constexpr std::size_t kHeaderDigestOffset = 36;   // in the file
inline constexpr std::size_t kContentDigestOffset = 55;  // in the file, after "<header>/1/"
inline constexpr std::uint64_t kMaxSidecarBytes = 100'000'000;
inline constexpr std::string_view kSidecarSuffix = ".flatbed.json";
inline constexpr std::string_view kSealKey = "flatbed";
inline constexpr std::string_view kDigestsKey = "flatbed.digests";
inline constexpr std::string_view kSeriesKey = "flatbed.series";
inline constexpr std::string_view kSealEnvelope = "{\"__metadata__\":{\"flatbed\":\"";

// Key and value of one decoded `__metadata__` member, or of a sidecar's.
using MetadataPair = std::pair<std::string_view, std::string_view>;

// What the seal covers of one tensor: everything but its offset.
struct SealTensor {
  std::string_view name;
  Dtype dtype = Dtype::u8;
  ShapeView shape;
  std::uint64_t nbytes = 0;
};

struct SealVerdict {
  SealState state = SealState::unsealed;
  std::optional<ErrorCode> error;  // the cause, if broken
  std::string note;                // one sentence of explanation, if broken, annotated or newer
  std::string content;             // if sealed or annotated: the content digest, 16 hex digits
  // If sealed or annotated: the hex digests of each tensor's chunks, in the order in which the
  // tensors were given. They borrow the value of flatbed.digests.
  std::vector<std::string_view> digests;
};

// Whether this key belongs to the seal (S1): `flatbed` or `flatbed.*`.
[[nodiscard]] bool is_seal_key(std::string_view key) noexcept;

// The number of chunks in a tensor of this size.
[[nodiscard]] constexpr std::uint64_t chunk_count(std::uint64_t nbytes) noexcept {
  return nbytes / kChunkBytes + (nbytes % kChunkBytes != 0 ? 1 : 0);
}

// The tensors' indices in name order, which is ascending by the bytes of the names.
[[nodiscard]] std::vector<std::uint32_t> name_order(std::span<const SealTensor> tensors);

// The place of each tensor's digests in the value of flatbed.digests.
struct DigestSlots {
  std::vector<std::uint64_t> begin;  // for each tensor, in the given order, in digits
  std::uint64_t size = 0;            // of the whole value
};
[[nodiscard]] DigestSlots digest_slots(std::span<const SealTensor> tensors,
                                       std::span<const std::uint32_t> order);

// S4. `order` is name_order(tensors). `metadata` may be in any order; only its flatbed.* pairs
// count.
[[nodiscard]] std::uint64_t content_digest(std::span<const SealTensor> tensors,
                                           std::span<const std::uint32_t> order,
                                           std::span<const MetadataPair> metadata);

// S2. `header` is bytes 0..7+N of the file, at least 52. Its digits at 36..51 count as '0'.
[[nodiscard]] std::uint64_t header_digest(std::span<const std::byte> header);

// Judges the seal inside a file that obeys the container's rules (rows 2 to 8 of S6). `header` is
// bytes 0..7+N.
[[nodiscard]] SealVerdict judge_seal(std::span<const std::byte> header,
                                     std::span<const MetadataPair> metadata,
                                     std::span<const SealTensor> tensors);

// Judges the pairs of a sidecar whose file has no flatbed keys (C1 to C3). The caller reports a
// sidecar that is not a JSON object of strings (sidecar_malformed).
[[nodiscard]] SealVerdict judge_sidecar(std::span<const std::byte> header,
                                        std::span<const MetadataPair> sidecar,
                                        std::span<const SealTensor> tensors);

}  // namespace flatbed::safetensors
