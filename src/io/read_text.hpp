// read_text(): the whole of a file as a text, unless it is too large. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "flatbed/byte_source.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct TextLimit {
  std::uint64_t nbytes = 0;
  std::string_view what;  // begins the error: "the index"
  ErrorCode code = ErrorCode::limit_exceeded;
};

// Nothing is allocated for a file beyond the limit. Errors: limit.code, those of read_at().
[[nodiscard]] Result<std::string> read_text(const ByteSource& file, const TextLimit& limit);

}  // namespace flatbed
