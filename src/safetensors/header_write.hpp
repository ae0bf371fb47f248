// Writing headers (spec L1 to L9, S5): chooses where each tensor's bytes go, and builds bytes
// 0..7+N of the new file.
//
//   u64 N
//   {"__metadata__":{"flatbed":"<header>/1/<content>","flatbed.digests":"...",...},
//   "name":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},...}
//   spaces, so that 8 + N is a multiple of 4096
//
// A sealed header is built with '0' for every digit of its digests. Data is hashed while it is
// written, and each chunk's digits go to their slot. At the end seal_header() fills in the two
// digests that cover the rest. Plain data and pure functions. Different slots of one NewHeader may
// be filled from different threads; otherwise it is not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "safetensors/seal.hpp"

namespace flatbed::safetensors {

// How a header is laid out. `reference` is what the safetensors library writes, instead of L1, L2,
// L4 and L7: tensors by dtype, descending in the order of Dtype, then by name; no "format" that was
// not given; 8 + N is a multiple of 8.
enum class HeaderLayout : std::uint8_t { flatbed, reference };

struct HeaderOptions {
  bool seal = true;
  bool allow_large = false;  // allow a header above 25,000,000 bytes
  HeaderLayout layout = HeaderLayout::flatbed;
  bool empty_metadata = false;  // `reference` only: write __metadata__ also if it has no pairs
};

struct NewHeader {
  std::string bytes;                      // 0..7+N
  std::vector<std::uint32_t> file_order;  // tensor numbers, in the order of their bytes
  std::vector<std::uint32_t> name_order;  // tensor numbers, in name order
  std::vector<std::uint64_t> offsets;     // for each tensor, in the file
  DigestSlots digests;                    // if sealed: within the value of flatbed.digests
  std::size_t digests_begin = 0;          // offset of that value in `bytes`
  std::uint64_t file_nbytes = 0;
};

// `tensors` are in source order. `metadata` is in any order and must not contain `flatbed`,
// `flatbed.digests` or duplicates; "format" is added if it is missing. Errors: invalid_argument (a
// name or key that is not UTF-8, the name `__metadata__`, a dimension of 2^53 or more, a seal in
// the reference's layout), name_collision, limit_exceeded (2^53 bytes of data), header_over_limit.
[[nodiscard]] Result<NewHeader> build_header(std::span<const SealTensor> tensors,
                                             std::span<const MetadataPair> metadata,
                                             const HeaderOptions& options);

// The longest header that these options allow, in bytes without the length field.
[[nodiscard]] std::size_t max_header_nbytes(const HeaderOptions& options) noexcept;

// Writes the digest of a tensor's chunk into its slot.
void put_digest(NewHeader& header, std::uint32_t tensor, std::uint64_t chunk,
                std::uint64_t digest) noexcept;

// Call after all slots are filled, with the arguments of build_header(). Computes and inserts the
// content digest and the header digest. Returns the digits of the content digest.
std::string seal_header(NewHeader& header, std::span<const SealTensor> tensors,
                        std::span<const MetadataPair> metadata);

}  // namespace flatbed::safetensors
