// JsonDocument: one parsed JSON text, and JsonValue, a thin cursor over it. Parsing is simdjson's
// (DOM); json.cpp is the only file that includes it. The cursor walks simdjson's tape, whose layout
// is documented and stable:
// clang-format off
//
//   tape word = tag << 56 | payload      strings: u32 length, then the bytes
//     { [    payload: low 32 bits = index after the matching } ],
//            next 24 bits = number of members (saturating)
//     "      payload: offset into the strings
//     l u d  the next word holds the int64, uint64 or double
//     t f n } ]
//
// clang-format on
// A JsonDocument owns tape and strings, so the texts it hands out live as long as it does; the
// input may go away. Move-only. Const members are thread-safe. Duplicate keys are kept: rejecting
// them is the caller's rule.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"

namespace flatbed {

class JsonValue {
 public:
  JsonValue(const std::uint64_t* tape, const std::uint8_t* strings, std::size_t index)
      : tape_(tape), strings_(strings), index_(index) {}

  [[nodiscard]] bool is_object() const noexcept { return tag() == '{'; }
  [[nodiscard]] bool is_array() const noexcept { return tag() == '['; }
  [[nodiscard]] bool is_string() const noexcept { return tag() == '"'; }
  [[nodiscard]] bool is_null() const noexcept { return tag() == 'n'; }
  [[nodiscard]] std::optional<bool> as_bool() const noexcept {
    if (tag() != 't' && tag() != 'f') return std::nullopt;
    return tag() == 't';
  }
  // An integer literal in [0, 2^64).
  [[nodiscard]] std::optional<std::uint64_t> as_unsigned() const noexcept {
    const std::uint64_t value = tape_[index_ + 1];
    if (tag() == 'u' || (tag() == 'l' && value >> 63 == 0)) return value;
    return std::nullopt;
  }
  // An integer literal in [-2^63, 2^63).
  [[nodiscard]] std::optional<std::int64_t> as_signed() const noexcept {
    if (tag() != 'l') return std::nullopt;
    return static_cast<std::int64_t>(tape_[index_ + 1]);
  }
  // A literal with fraction or exponent; always finite.
  [[nodiscard]] std::optional<double> as_real() const noexcept {
    if (tag() != 'd') return std::nullopt;
    return std::bit_cast<double>(tape_[index_ + 1]);
  }
  // The decoded string; empty when this is none.
  [[nodiscard]] std::string_view text() const noexcept {
    if (!is_string()) return {};
    const std::uint8_t* at = strings_ + payload();
    std::uint32_t length = 0;
    std::memcpy(&length, at, sizeof length);
    return {reinterpret_cast<const char*>(at + sizeof length), length};
  }

  // Iteration: for (JsonValue v = array.first(); !v.at_end(); v = v.next()). In objects keys and
  // values alternate; member() is next() for a key.
  [[nodiscard]] JsonValue first() const noexcept { return {tape_, strings_, index_ + 1}; }
  [[nodiscard]] JsonValue next() const noexcept { return {tape_, strings_, index_ + width()}; }
  [[nodiscard]] JsonValue member() const noexcept { return {tape_, strings_, index_ + 1}; }
  [[nodiscard]] bool at_end() const noexcept { return tag() == '}' || tag() == ']'; }

  // The number of items of an array or members of an object, at most 2^24 - 1: for reserving only.
  [[nodiscard]] std::size_t size_hint() const noexcept { return (payload() >> 32) & 0xFFFFFF; }
  // The number of items of an array.
  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t size = size_hint();
    if (size < 0xFFFFFF) return size;
    size = 0;
    for (JsonValue item = first(); !item.at_end(); item = item.next()) ++size;
    return size;
  }
  // Levels of arrays and objects in this value, itself included; 0 for scalars. Linear in the
  // value.
  [[nodiscard]] std::size_t depth() const noexcept;

 private:
  [[nodiscard]] char tag() const noexcept { return static_cast<char>(tape_[index_] >> 56); }
  [[nodiscard]] std::uint64_t payload() const noexcept {
    return tape_[index_] & 0x00FFFFFFFFFFFFFF;
  }
  [[nodiscard]] std::size_t width() const noexcept {
    if (is_object() || is_array()) return (payload() & 0xFFFFFFFF) - index_;
    return tag() == 'l' || tag() == 'u' || tag() == 'd' ? 2 : 1;
  }

  const std::uint64_t* tape_;
  const std::uint8_t* strings_;
  std::size_t index_;
};

// Which code each kind of failure gets from the caller's table.
struct JsonRules {
  ErrorCode not_utf8;
  ErrorCode not_json;
  ErrorCode number_range;  // an integer outside [-2^63, 2^64) or a number beyond binary64
  ErrorCode too_deep;
  // parse() lets an empty array or object pass one level below; the others do not.
  std::size_t max_depth;
};

// Told of each large block before it is first touched, e.g. to ask for huge pages.
using MemoryAdvice = void (*)(void* memory, std::size_t nbytes);

class JsonScratch;

// Where a document gets its memory.
struct JsonMemory {
  MemoryAdvice advise = nullptr;
  JsonScratch* scratch = nullptr;  // null: all of it is new
};

class JsonDocument {
 public:
  // simdjson reads up to this many bytes behind the text; they must be readable, their values do
  // not matter.
  static constexpr std::size_t kPadding = 64;

  // Parses bytes.first(bytes.size() - kPadding). At most 4 GiB. White space around the value is
  // accepted; nothing else is.
  [[nodiscard]] static Result<JsonDocument> parse(std::span<const std::byte> padded,
                                                  const JsonRules& rules,
                                                  const JsonMemory& memory = {});
  // The same, but the depth is checked exactly.
  [[nodiscard]] static Result<JsonDocument> parse_exactly(std::span<const std::byte> padded,
                                                          const JsonRules& rules,
                                                          const JsonMemory& memory = {});
  // The same for a text without padding, which is copied.
  [[nodiscard]] static Result<JsonDocument> parse_copy(std::string_view text,
                                                       const JsonRules& rules);

  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;
  ~JsonDocument();

  [[nodiscard]] JsonValue root() const noexcept { return {tape_, strings_, 1}; }

  // Frees all but the strings, most of the memory: texts stay valid, and JsonValues do not.
  void keep_texts_only() noexcept;
  // Leaves all memory to the next document: neither texts nor JsonValues stay valid.
  void recycle(JsonScratch& scratch) noexcept;

 private:
  friend class JsonScratch;
  struct Parser;
  explicit JsonDocument(std::unique_ptr<Parser> parser);
  [[nodiscard]] static Result<JsonDocument> parse_to_depth(std::span<const std::byte> padded,
                                                           const JsonRules& rules,
                                                           const JsonMemory& memory,
                                                           std::size_t max_depth);
  std::unique_ptr<Parser> parser_;
  const std::uint64_t* tape_ = nullptr;
  const std::uint8_t* strings_ = nullptr;
};

// The memory of documents that were recycled, for files that are read one after the other: fresh
// memory takes a page fault for every 4 KiB. Owns it. Not thread-safe.
class JsonScratch {
 public:
  JsonScratch() noexcept;
  JsonScratch(const JsonScratch&) = delete;
  JsonScratch& operator=(const JsonScratch&) = delete;
  ~JsonScratch();

 private:
  friend class JsonDocument;
  std::unique_ptr<JsonDocument::Parser> parser_;
};

// The places of integer literals `-0` in a JSON text, outside strings: simdjson reads them as 0,
// the formats refuse them.
[[nodiscard]] std::vector<std::size_t> find_negative_zeros(std::string_view json);

}  // namespace flatbed
