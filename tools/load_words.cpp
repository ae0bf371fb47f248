#include "load_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxThreadCounts = 16;
constexpr int kMaxOrdinal = 1023;

// Parses all of `text` as a number; nullopt for signs, blanks and overflow.
template <typename T>
std::optional<T> parse_number(std::string_view text) {
  T value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || text.empty() || text[0] == '-') return std::nullopt;
  return value;
}

Error unlike(std::string_view word, std::string_view expected) {
  return {ErrorCode::invalid_argument,
          fmt::format("{}: expected {}", quoted_text(word, 80), expected)};
}

}  // namespace

std::string device_text(DeviceName device) {
  return device.is_host() ? "host" : fmt::format("cuda:{}", device.ordinal);
}

Result<DeviceName> parse_device(std::string_view word) {
  constexpr std::string_view kCuda = "cuda:";
  if (word == "host") return DeviceName{};
  if (word.starts_with(kCuda)) {
    const std::optional<int> ordinal = parse_number<int>(word.substr(kCuda.size()));
    if (ordinal && *ordinal <= kMaxOrdinal) return DeviceName{*ordinal};
  }
  return unlike(word, "a device, \"host\" or \"cuda:N\"");
}

Result<DeviceMapping> parse_mapping(std::string_view word) {
  const std::size_t sign = word.find('=');
  if (sign == std::string_view::npos || sign == 0) {
    return unlike(word, "FROM=TO, such as cuda:1=cuda:0");
  }
  FLATBED_ASSIGN(const DeviceName to, parse_device(word.substr(sign + 1)));
  return DeviceMapping{std::string(word.substr(0, sign)), to};
}

Result<SliceChoice> parse_slice(std::string_view word) {
  const std::size_t colon = word.find(':');
  const std::size_t slash = word.find('/');
  if (colon == std::string_view::npos || slash == std::string_view::npos || slash < colon) {
    return unlike(word, "DIM:RANK/N, such as 0:3/8");
  }
  const auto dim = parse_number<std::size_t>(word.substr(0, colon));
  const auto rank = parse_number<std::uint64_t>(word.substr(colon + 1, slash - colon - 1));
  const auto count = parse_number<std::uint64_t>(word.substr(slash + 1));
  if (!dim || !rank || !count) return unlike(word, "DIM:RANK/N, such as 0:3/8");
  if (*rank >= *count) {
    return Error{ErrorCode::invalid_argument,
                 fmt::format("{}: RANK must be less than N", quoted_text(word, 80))};
  }
  return SliceChoice{*dim, *rank, *count};
}

Result<IoMode> parse_io(std::string_view word) {
  if (word == "auto") return IoMode::automatic;
  if (word == "pread") return IoMode::buffered;
  if (word == "direct") return IoMode::direct;
  return unlike(word, "\"auto\", \"pread\" or \"direct\"");
}

Result<std::uint64_t> parse_nbytes(std::string_view word) {
  struct Unit {
    std::string_view name;
    unsigned shift;
  };
  constexpr std::array kUnits{Unit{"", 0},   Unit{"B", 0},    Unit{"K", 10}, Unit{"KiB", 10},
                              Unit{"M", 20}, Unit{"MiB", 20}, Unit{"G", 30}, Unit{"GiB", 30}};
  const std::size_t digits = std::min(word.find_first_not_of("0123456789"), word.size());
  const auto number = parse_number<std::uint64_t>(word.substr(0, digits));
  const auto* unit = std::find_if(kUnits.begin(), kUnits.end(),
                                  [&](const Unit& row) { return row.name == word.substr(digits); });
  if (!number || *number == 0 || unit == kUnits.end() ||
      *number > ~std::uint64_t{0} >> 1 >> unit->shift) {
    return unlike(word, "a size in bytes, such as 65536, 512K or 64MiB");
  }
  return *number << unit->shift;
}

Result<std::vector<unsigned>> parse_threads(std::string_view word) {
  constexpr std::string_view kExpected = "thread counts from 1 to 64, such as 1,2,4";
  std::vector<unsigned> counts;
  for (std::string_view rest = word; counts.size() < kMaxThreadCounts;) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const auto count = parse_number<unsigned>(rest.substr(0, comma));
    if (!count || *count == 0 || *count > kMaxThreads) return unlike(word, kExpected);
    counts.push_back(*count);
    if (comma == rest.size()) return counts;
    rest.remove_prefix(comma + 1);
  }
  return unlike(word, fmt::format("at most {} {}", kMaxThreadCounts, kExpected));
}

}  // namespace flatbed::tool
