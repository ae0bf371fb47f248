// What HTTP requests and answers are made of. Values; the functions are pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"

namespace flatbed::remote {

enum class Method : std::uint8_t { get, head, put, post, remove };

[[nodiscard]] std::string_view name_of(Method method) noexcept;

struct Header {
  std::string name;  // in lower case
  std::string value;
};

// The beginning of an answer.
struct AnswerHead {
  int status = 0;
  std::vector<Header> headers;

  // The value of the first header of this name, in lower case; empty where there is none.
  [[nodiscard]] std::string_view find(std::string_view name) const noexcept;
};

// "bytes 0-99/1000"; the total is unknown for "/*".
struct ContentRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::optional<std::uint64_t> total;
};
[[nodiscard]] std::optional<ContentRange> parse_content_range(std::string_view value) noexcept;

// Which version of a file an answer is of. Empty members were not stated.
struct Version {
  std::string etag;  // with its quotes; begins with W/ if it is weak
  std::string last_modified;

  [[nodiscard]] static Version of(const AnswerHead& head);
  [[nodiscard]] bool strong() const { return etag.starts_with('"'); }
  // The condition that makes a server refuse other versions (412); empty where it cannot be put.
  [[nodiscard]] std::string condition() const;
  // Errors: file_changed.
  [[nodiscard]] Result<void> check(const AnswerHead& head) const;
};

// Where the body of an answer goes: into `parts`, one after the other; or, if there are none, into
// a text of up to `limit` bytes.
struct Placement {
  std::vector<std::span<std::byte>> parts;
  std::size_t limit = 0;
  bool cut = false;  // more than the limit is dropped, and no error
};

}  // namespace flatbed::remote
