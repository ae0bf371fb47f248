#include "cast_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kShown = 8;  // names in a warning
constexpr std::size_t kMaxNameColumns = 200;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

void write_counts(const CastCounts& counts, JsonWriter& json) {
  json.key("saturated").number(counts.saturated).key("infinite").number(counts.infinite);
  json.key("nan").number(counts.nan);
}

}  // namespace

std::string cast_dtypes_text() {
  std::string text;
  for (const Dtype dtype : kCastableDtypes) text += (text.empty() ? "" : ", ") + lower(name(dtype));
  return text;
}

Result<Dtype> parse_cast_dtype(std::string_view word) {
  for (const Dtype dtype : kCastableDtypes) {
    if (lower(name(dtype)) == lower(word)) return dtype;
  }
  return Error{ErrorCode::invalid_argument,
               fmt::format("not a dtype that tensors can be cast to: found {}, expected one of {}",
                           quoted_text(word, kMaxNameColumns), cast_dtypes_text())};
}

Result<Checkpoint> cast_chosen(const Checkpoint& checkpoint, const CastChoice& choice) {
  if (!choice.dtype) return checkpoint;
  return checkpoint.cast({.to = *choice.dtype, .keep = choice.keep});
}

std::uint64_t count_cast(const Checkpoint& checkpoint) {
  return static_cast<std::uint64_t>(std::ranges::count_if(
      checkpoint.tensors(), [](const TensorInfo& tensor) { return tensor.cast; }));
}

std::vector<std::string> cast_warnings(const CastReport& report) {
  if (report.overflows.empty()) return {};
  const CastCounts& counts = report.counts;
  std::string became;
  const auto add = [&became](std::uint64_t count, std::string_view what) {
    if (count == 0) return;
    became += fmt::format("{}{} became {}", became.empty() ? "" : ", ", number_text(count), what);
  };
  add(counts.infinite, "infinite");
  add(counts.saturated, "the largest value");
  add(counts.nan, "NaN");
  std::string names;
  const std::size_t shown = std::min(kShown, report.overflows.size());
  for (std::size_t i = 0; i < shown; ++i) {
    names += fmt::format("{}{}", i == 0 ? "" : ", ",
                         quoted_text(report.overflows[i].name, kMaxNameColumns));
  }
  if (report.overflowed > shown) names += fmt::format(" and {} more", report.overflowed - shown);
  return {fmt::format("{} of {} {} not fit {} ({}): {}", count_text(counts.total(), "value"),
                      count_text(report.overflowed, "tensor"), counts.total() == 1 ? "does" : "do",
                      name(report.overflows.front().to), became, names)};
}

void write_casts_json(const CastReport& report, const CastChoice& choice, JsonWriter& json) {
  if (!choice.dtype) {
    json.null();
    return;
  }
  json.begin_object().key("dtype").text(name(*choice.dtype));
  json.key("tensors").number(report.tensors);
  write_counts(report.counts, json);
  json.key("overflowed").number(report.overflowed).key("overflows").begin_array();
  for (const CastOverflow& overflow : report.overflows) {
    json.begin_object().named("name", overflow.name);
    write_counts(overflow.counts, json);
    json.end_object();
  }
  json.end_array().end_object();
}

}  // namespace flatbed::tool
