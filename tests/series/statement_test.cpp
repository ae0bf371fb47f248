// Statements: the one form that each has, and what is refused. Hostile texts get a right digest, so
// that it is their form that is refused.
#include "series/statement.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "io/digest.hpp"
#include "support/expect_error.hpp"

namespace flatbed {
namespace {

constexpr const char* kJson =
    R"({"sequence":7,"step":3000,"score":0.25,"metric":"val_loss","mode":"min",)"
    R"("parent":"00112233aabbccdd","saved_at":1764390000123,"epoch":3})";

std::string sealed(std::string_view json) {
  return str_cat("1/", hex16(xxh3(as_bytes(json))), "/", json);
}

// kJson with `from` in it replaced.
std::string changed(std::string_view from, std::string_view to) {
  std::string json = kJson;
  const std::size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return sealed(json.replace(at, from.size(), to));
}

Statement example() {
  return {.sequence = 7,
          .step = 3000,
          .score = 0.25,
          .metric = "val_loss",
          .parent = "00112233aabbccdd",
          .saved_at = 1764390000123,
          .epoch = 3};
}

std::string encoded(const Statement& statement) {
  Result<std::string> text = encode_statement(statement);
  EXPECT_OK(text);
  return text ? *std::move(text) : std::string();
}

TEST(Statement, IsWrittenAsSpecified) {
  EXPECT_EQ(encoded(example()), sealed(kJson));
  EXPECT_EQ(encoded({}), sealed(R"({"sequence":1,"step":0,"score":null,"metric":null,"mode":null,)"
                                R"("parent":null,"saved_at":0,"epoch":null})"));
}

TEST(Statement, IsReadAsWritten) {
  const Result<Statement> read = parse_statement(sealed(kJson));
  ASSERT_OK(read);
  EXPECT_EQ(read->sequence, 7U);
  EXPECT_EQ(read->step, 3000U);
  EXPECT_EQ(read->score, 0.25);
  EXPECT_EQ(read->metric, "val_loss");
  EXPECT_EQ(read->mode, ScoreMode::min);
  EXPECT_EQ(read->parent, "00112233aabbccdd");
  EXPECT_EQ(read->saved_at, 1764390000123);
  EXPECT_EQ(read->epoch, 3);
}

TEST(Statement, ScoresOfEveryKindComeBack) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double score :
       {0.0, 1.0, -1.5, 1e-5, 1e16, 0.1, 5e-324, 1.7976931348623157e308, kInfinity, -kInfinity}) {
    Statement statement = example();
    statement.score = score;
    const Result<Statement> read = parse_statement(encoded(statement));
    ASSERT_OK(read);
    EXPECT_EQ(read->score, score);
  }
  Statement statement = example();
  statement.score = -std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(encoded(statement), changed("0.25", "\"nan\""));
  EXPECT_TRUE(std::isnan(*parse_statement(encoded(statement))->score));
  statement.score = -0.0;
  EXPECT_EQ(encoded(statement), changed("0.25", "-0.0"));
  EXPECT_TRUE(std::signbit(*parse_statement(encoded(statement))->score));
}

TEST(Statement, MetricsOfEveryByteComeBack) {
  for (const std::string& metric :
       {std::string("a\0b", 3), std::string(R"("\/)"), std::string(256, '\x01'),
        std::string(256, '"'), std::string("\xC3\xA9\xF0\x9F\x99\x82"), std::string("\x7F")}) {
    Statement statement = example();
    statement.metric = metric;
    statement.mode = ScoreMode::max;
    const std::string text = encoded(statement);
    EXPECT_LE(text.size(), kMaxStatementNbytes);
    const Result<Statement> read = parse_statement(text);
    ASSERT_OK(read);
    EXPECT_EQ(read->metric, metric);
    EXPECT_EQ(read->mode, ScoreMode::max);
  }
}

TEST(Statement, TheLargestNumbersComeBack) {
  constexpr auto kMost = static_cast<std::int64_t>(kMaxSequence);
  Statement statement = example();
  statement.sequence = statement.step = kMaxSequence;
  statement.saved_at = -kMost;
  statement.epoch = -kMost;
  const Result<Statement> read = parse_statement(encoded(statement));
  ASSERT_OK(read);
  EXPECT_EQ(read->sequence, kMaxSequence);
  EXPECT_EQ(read->step, kMaxSequence);
  EXPECT_EQ(read->saved_at, -kMost);
  EXPECT_EQ(read->epoch, -kMost);
}

void expect_refused_by_writer(void (*change)(Statement&)) {
  Statement statement = example();
  change(statement);
  EXPECT_ERROR(encode_statement(statement), invalid_argument);
}

TEST(Statement, WriterRefusesWhatNoStatementCanSay) {
  expect_refused_by_writer([](Statement& s) { s.sequence = 0; });
  expect_refused_by_writer([](Statement& s) { s.sequence = kMaxSequence + 1; });
  expect_refused_by_writer([](Statement& s) { s.step = kMaxSequence + 1; });
  expect_refused_by_writer([](Statement& s) { s.metric = ""; });
  expect_refused_by_writer([](Statement& s) { s.metric = std::string(257, 'm'); });
  expect_refused_by_writer([](Statement& s) { s.metric = "\xFF"; });
  expect_refused_by_writer([](Statement& s) { s.metric.reset(); });  // and a score
  expect_refused_by_writer([](Statement& s) { s.parent = "0011223344556677889"; });
  expect_refused_by_writer([](Statement& s) { s.parent = "0011223344AABBCC"; });
  expect_refused_by_writer([](Statement& s) { s.saved_at = std::int64_t{1} << 53; });
  expect_refused_by_writer([](Statement& s) { s.epoch = std::int64_t{1} << 53; });
}

TEST(Statement, RefusesTheWrongEnvelope) {
  const std::string good = sealed(kJson);
  ASSERT_OK(parse_statement(good));
  EXPECT_ERROR(parse_statement(""), series_malformed);
  EXPECT_ERROR(parse_statement("1/"), series_malformed);
  EXPECT_ERROR(parse_statement(good.substr(0, 18)), series_malformed);
  EXPECT_ERROR(parse_statement(good.substr(0, 19)), series_malformed);
  EXPECT_ERROR(parse_statement("2" + good.substr(1)), series_malformed);
  EXPECT_ERROR(parse_statement(" " + good), series_malformed);
  EXPECT_ERROR(parse_statement(good + " "), series_malformed);
  EXPECT_ERROR(parse_statement(sealed("")), series_malformed);
  EXPECT_ERROR(parse_statement(sealed("[]")), series_malformed);
  EXPECT_ERROR(parse_statement(sealed("7")), series_malformed);
  EXPECT_ERROR(parse_statement(sealed(std::string(kMaxStatementNbytes, ' '))), series_malformed);
}

TEST(Statement, RefusesEveryDamagedByte) {
  const std::string good = sealed(kJson);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const char flip : {'\x01', '\x20', '\x40'}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ flip);
      EXPECT_ERROR(parse_statement(bad), series_malformed);
    }
  }
}

TEST(Statement, RefusesOtherMembers) {
  EXPECT_ERROR(parse_statement(changed(R"("step":3000,)", "")), series_malformed);
  EXPECT_ERROR(parse_statement(changed(R"(,"epoch":3)", "")), series_malformed);
  EXPECT_ERROR(parse_statement(changed(R"("step":3000,)", R"("step":3000,"step":3000,)")),
               series_malformed);
  EXPECT_ERROR(parse_statement(changed(R"("epoch":3)", R"("epoch":3,"more":1)")), series_malformed);
  EXPECT_ERROR(
      parse_statement(changed(R"("sequence":7,"step":3000)", R"("step":3000,"sequence":7)")),
      series_malformed);
  EXPECT_ERROR(parse_statement(changed(R"("epoch":3)", R"("epoch":[3])")), series_malformed);
}

TEST(Statement, RefusesValuesOutOfRange) {
  const std::pair<const char*, const char*> cases[] = {
      {":7,", ":0,"},
      {":7,", ":-7,"},
      {":7,", ":7.0,"},
      {":7,", ":9007199254740992,"},
      {":7,", ":18446744073709551616,"},
      {":7,", ":\"7\","},
      {":7,", ":null,"},
      {":3000,", ":-1,"},
      {":3000,", ":9007199254740992,"},
      {":3000,", ":1e400,"},
      {"0.25", "1"},
      {"0.25", "1e400"},
      {"0.25", "\"NaN\""},
      {"0.25", "\"0.25\""},
      {"0.25", "true"},
      {"\"val_loss\"", "\"\""},
      {"\"val_loss\"", "7"},
      {"\"val_loss\"", "null"},
      {"\"min\"", "\"minimum\""},
      {"\"min\"", "\"MIN\""},
      {"\"min\"", "null"},
      {"\"00112233aabbccdd\"", "\"\""},
      {"\"00112233aabbccdd\"", "\"00112233AABBCCDD\""},
      {"\"00112233aabbccdd\"", "0"},
      {"1764390000123", "9007199254740992"},
      {"1764390000123", "null"},
      {"\"epoch\":3", "\"epoch\":9007199254740992"},
      {"\"epoch\":3", "\"epoch\":3.0"},
  };
  for (const auto& [from, to] : cases)
    EXPECT_ERROR(parse_statement(changed(from, to)), series_malformed) << from << " -> " << to;
  EXPECT_ERROR(parse_statement(changed("val_loss", std::string(257, 'm'))), series_malformed);
  EXPECT_OK(parse_statement(changed("val_loss", std::string(256, 'm'))));
}

TEST(Statement, RefusesEveryOtherForm) {
  const std::pair<const char*, const char*> cases[] = {
      {":7,", ": 7,"},
      {":7,", ":07,"},
      {":3000,", ":-0,"},
      {":3000,", ":3e3,"},
      {"0.25", "0.250"},
      {"0.25", "2.5e-01"},
      {"0.25", "-0"},
      {"0.25", "1E5"},
      {"val_loss", "val\\u005floss"},
      {"val_loss", "val\\/loss"},
      {"\"epoch\":3", "\"epoch\":-0"},
  };
  for (const auto& [from, to] : cases)
    EXPECT_ERROR(parse_statement(changed(from, to)), series_malformed) << from << " -> " << to;
}

}  // namespace
}  // namespace flatbed
