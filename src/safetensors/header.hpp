// Header: a parsed and fully checked safetensors header.
// clang-format off
//
//   offset  size    field
//   0       8       N, u64 little endian
//   8       N       JSON object: {"__metadata__": {...},
//                   "<name>": {"dtype", "shape", "data_offsets"}, ...}
//   8 + N   rest    data buffer; data_offsets count from here and cover it without gap or overlap
//
// clang-format on
// read_header() applies the rules R1 to R22 of spec/FORMAT.md in the spec's order, with one small
// function and one error code each. Owns the header's bytes, and owns or shares everything that its
// views point to. Move-only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/dims_pool.hpp"
#include "base/json.hpp"
#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "flatbed/tensor.hpp"
#include "io/container.hpp"
#include "io/large_allocator.hpp"
#include "io/name_index.hpp"

namespace flatbed::safetensors {

inline constexpr std::uint64_t kMaxHeader = 100'000'000;
inline constexpr std::size_t kMaxDepth = 127;

using TensorList = LargeVector<TensorInfo>;

struct Header {
  JsonDocument json;  // owns the texts of the members below, and has nothing else left
  std::shared_ptr<const TextPool> texts;  // of a set: owns them instead
  ByteBuffer bytes;          // the file's bytes 0 .. 8 + N, and padding; nothing points into it
  std::uint64_t nbytes = 0;  // 8 + N, the offset of the data
  std::vector<std::pair<std::string_view, std::string_view>> metadata;  // in file order
  TensorList tensors;  // in (begin, end, name) order; digests empty, file 0
  NameIndex names;     // into tensors
  DimsPool dims;

  [[nodiscard]] std::span<const std::byte> raw() const noexcept {
    return std::span(bytes).first(nbytes);
  }
};

// `set`: of the files that are opened with this one.
[[nodiscard]] Result<Header> read_header(const ByteSource& file, SetMemory* set = nullptr);

}  // namespace flatbed::safetensors
