// Statement: what a checkpoint says about its place in a series: the value of flatbed.series
// (spec Q2). Plain data and pure functions, thread-safe.
//
//   1/<XXH3 of the rest, 16 hex digits>/{"sequence":7,"step":3000,"score":0.25,
//   "metric":"val_loss","mode":"min","parent":"<16 hex digits>","saved_at":1764390000123,"epoch":3}
//
// The text has one form only: no other order, spaces, escapes or digits. So a reader need not say
// what an unusual one means. Its own digest shows damage before the header was read whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "flatbed/result.hpp"
#include "flatbed/series.hpp"

namespace flatbed {

inline constexpr std::uint64_t kMaxSequence = (std::uint64_t{1} << 53) - 1;  // and step
inline constexpr std::size_t kMaxMetricNbytes = 256;
inline constexpr std::size_t kMaxStatementNbytes = 3072;

struct Statement {
  std::uint64_t sequence = 1;
  std::uint64_t step = 0;
  std::optional<double> score = {};        // only with a metric
  std::optional<std::string> metric = {};  // UTF-8, 1 to 256 bytes
  ScoreMode mode = ScoreMode::min;         // means nothing without a metric
  std::optional<std::string> parent = {};  // 16 hex digits
  std::int64_t saved_at = 0;               // ms since 1970; its magnitude is below 2^53
  std::optional<std::int64_t> epoch = {};  // likewise
};

// Errors: invalid_argument, for what no statement can say.
[[nodiscard]] Result<std::string> encode_statement(const Statement& statement);

// Errors: series_malformed.
[[nodiscard]] Result<Statement> parse_statement(std::string_view value);

}  // namespace flatbed
