// read_text(), read_padded(): the whole of a file as a text, unless it is too large. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"
#include "io/large_allocator.hpp"

namespace flatbed {

struct TextLimit {
  std::uint64_t nbytes = 0;
  std::string_view what;  // begins the error: "the index"
  ErrorCode code = ErrorCode::limit_exceeded;
};

// Nothing is allocated for a file beyond the limit. Errors: limit.code, those of read_at().
[[nodiscard]] Result<std::string> read_text(const ByteSource& file, const TextLimit& limit);
// The same, followed by `padding` zero bytes.
[[nodiscard]] Result<ByteBuffer> read_padded(const ByteSource& file, const TextLimit& limit,
                                             std::size_t padding);

}  // namespace flatbed
