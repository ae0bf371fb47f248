#include "series/statement.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "base/ascii.hpp"
#include "base/bytes.hpp"
#include "base/json.hpp"
#include "base/json_write.hpp"
#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "io/digest.hpp"

namespace flatbed {

namespace {

constexpr std::string_view kVersion = "1/";
constexpr std::size_t kDigits = 16;
constexpr JsonRules kRules{ErrorCode::series_malformed, ErrorCode::series_malformed,
                           ErrorCode::series_malformed, ErrorCode::series_malformed, 1};
constexpr std::string_view kNan = "nan";
constexpr std::string_view kInfinity = "inf";
constexpr std::string_view kMinusInfinity = "-inf";

template <typename... Parts>
Error malformed(const Parts&... parts) {
  return make_error(ErrorCode::series_malformed, "flatbed.series: ", parts...);
}

bool is_digest(std::string_view text) noexcept { return text.size() == kDigits && is_hex(text); }

bool is_exact(std::int64_t value) noexcept {
  constexpr auto kMost = static_cast<std::int64_t>(kMaxSequence);
  return value >= -kMost && value <= kMost;
}

// What is wrong with the numbers and texts, or nothing.
std::string_view fault_of(const Statement& statement) {
  if (statement.sequence == 0 || statement.sequence > kMaxSequence)
    return "the sequence number is not in 1 to 2^53 - 1";
  if (statement.step > kMaxSequence) return "the step is 2^53 or more";
  if (statement.score && !statement.metric) return "there is a score and no metric";
  if (statement.metric) {
    if (statement.metric->empty() || statement.metric->size() > kMaxMetricNbytes)
      return "the metric's name does not have 1 to 256 bytes";
    if (!is_utf8(*statement.metric)) return "the metric's name is not UTF-8";
  }
  if (statement.parent && !is_digest(*statement.parent)) return "parent is not 16 hex digits";
  if (!is_exact(statement.saved_at)) return "saved_at is 2^53 or more";
  if (statement.epoch && !is_exact(*statement.epoch)) return "epoch is 2^53 or more";
  return {};
}

void append_score(std::string& out, double score) {
  if (std::isnan(score)) return append_json_string(out, kNan);
  if (std::isinf(score)) return append_json_string(out, score > 0 ? kInfinity : kMinusInfinity);
  append_json_real(out, score);
}

void append_text(std::string& out, const std::optional<std::string>& text) {
  if (!text) {
    out += "null";
    return;
  }
  append_json_string(out, *text);
}

std::string json_of(const Statement& statement) {
  std::string out =
      str_cat("{\"sequence\":", statement.sequence, ",\"step\":", statement.step, ",\"score\":");
  if (statement.score) {
    append_score(out, *statement.score);
  } else {
    out += "null";
  }
  out += ",\"metric\":";
  append_text(out, statement.metric);
  out += ",\"mode\":";
  append_text(out,
              statement.metric ? std::optional(std::string(name(statement.mode))) : std::nullopt);
  out += ",\"parent\":";
  append_text(out, statement.parent);
  out += str_cat(",\"saved_at\":", statement.saved_at,
                 ",\"epoch\":", statement.epoch ? str_cat(*statement.epoch) : "null", "}");
  return out;
}

std::string sum_of(std::string_view json) { return hex16(xxh3(as_bytes(json))); }

Result<double> read_score(JsonValue value) {
  if (const std::optional<double> real = value.as_real()) return *real;
  constexpr double kMost = std::numeric_limits<double>::infinity();
  if (value.text() == kNan) return std::numeric_limits<double>::quiet_NaN();
  if (value.text() == kInfinity) return kMost;
  if (value.text() == kMinusInfinity) return -kMost;
  return malformed("the score is not a real number");
}

Result<std::optional<std::string>> read_text(JsonValue value, std::string_view member) {
  if (value.is_null()) return std::optional<std::string>();
  if (value.is_string()) return std::optional(std::string(value.text()));
  return malformed(member, " is neither a string nor null");
}

Result<std::uint64_t> read_unsigned(JsonValue value, std::string_view member) {
  if (const std::optional<std::uint64_t> number = value.as_unsigned()) return *number;
  return malformed(member, " is not an integer in [0, 2^53)");
}

Result<std::int64_t> read_signed(JsonValue value, std::string_view member) {
  if (const std::optional<std::int64_t> number = value.as_signed()) return *number;
  return malformed(member, " is not an integer whose magnitude is below 2^53");
}

constexpr std::array<std::string_view, 8> kMembers{"sequence", "step",   "score",    "metric",
                                                   "mode",     "parent", "saved_at", "epoch"};

Result<void> read_member(std::string_view member, JsonValue value, Statement& statement) {
  if (member == "sequence") {
    FLATBED_ASSIGN(statement.sequence, read_unsigned(value, member));
  } else if (member == "step") {
    FLATBED_ASSIGN(statement.step, read_unsigned(value, member));
  } else if (member == "score" && !value.is_null()) {
    FLATBED_ASSIGN(statement.score, read_score(value));
  } else if (member == "metric") {
    FLATBED_ASSIGN(statement.metric, read_text(value, member));
  } else if (member == "mode" && value.text() == name(ScoreMode::max)) {
    statement.mode = ScoreMode::max;  // any other text is found when all is encoded again
  } else if (member == "parent") {
    FLATBED_ASSIGN(statement.parent, read_text(value, member));
  } else if (member == "saved_at") {
    FLATBED_ASSIGN(statement.saved_at, read_signed(value, member));
  } else if (member == "epoch" && !value.is_null()) {
    FLATBED_ASSIGN(statement.epoch, read_signed(value, member));
  }
  return {};
}

Result<Statement> read_object(JsonValue root) {
  if (!root.is_object()) return malformed("is not a JSON object");
  Statement statement;
  std::size_t at = 0;
  for (JsonValue key = root.first(); !key.at_end();) {
    const JsonValue value = key.member();
    if (at == kMembers.size() || key.text() != kMembers[at]) {
      return malformed("found the member ", quoted(key.text()), ", expected ",
                       at == kMembers.size() ? "no more" : quoted(kMembers[at]));
    }
    FLATBED_TRY(read_member(kMembers[at++], value, statement));
    key = value.next();
  }
  if (at != kMembers.size()) return malformed("has no member ", quoted(kMembers[at]));
  return statement;
}

}  // namespace

std::string_view name(ScoreMode mode) noexcept { return mode == ScoreMode::max ? "max" : "min"; }

Result<std::string> encode_statement(const Statement& statement) {
  const std::string_view fault = fault_of(statement);
  if (!fault.empty()) return make_error(ErrorCode::invalid_argument, fault);
  const std::string json = json_of(statement);
  return str_cat(kVersion, sum_of(json), '/', json);
}

Result<Statement> parse_statement(std::string_view value) {
  if (value.size() > kMaxStatementNbytes) {
    return malformed("is too long: found ", value.size(), " bytes, the limit is ",
                     kMaxStatementNbytes);
  }
  constexpr std::size_t kJson = kVersion.size() + kDigits + 1;
  if (!value.starts_with(kVersion)) return malformed("is not of version 1");
  if (value.size() < kJson || value[kJson - 1] != '/')
    return malformed("is not 1/<16 digits>/<JSON>");
  const std::string_view sum = value.substr(kVersion.size(), kDigits);
  const std::string_view json = value.substr(kJson);
  if (const std::string expected = sum_of(json); sum != expected) {
    return malformed("does not match its digest: found ", quoted(sum), ", expected ", expected,
                     "; the header was damaged or changed");
  }
  FLATBED_ASSIGN(const JsonDocument document, JsonDocument::parse_copy(json, kRules));
  FLATBED_ASSIGN(Statement statement, read_object(document.root()));
  if (const std::string_view fault = fault_of(statement); !fault.empty()) return malformed(fault);
  // Also finds a mode without a metric, numbers and strings in another form, and spaces.
  if (json_of(statement) != json)
    return malformed("is not in the only form that its members can have");
  return statement;
}

}  // namespace flatbed
