// check_json(): the first fault of a JSON text and where it is; and that the parser, of whatever
// version, accepts the same texts. The codes of kRules only tell the four kinds apart.
#include "base/json_check.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <string>

#include "support/expect_error.hpp"

namespace flatbed {
namespace {

using namespace std::literals;

constexpr JsonRules kRules{ErrorCode::header_not_utf8, ErrorCode::tree_not_json,
                           ErrorCode::tree_malformed_number, ErrorCode::tree_too_deep, 4};

Result<void> check(std::string_view text) {
  return check_json(text, kRules, [](std::string_view real) {
    return std::isfinite(std::strtod(std::string(real).c_str(), nullptr));
  });
}

std::string message(std::string_view text) {
  const Result<void> checked = check(text);
  return checked ? "" : checked.error().message;
}

TEST(JsonCheck, AcceptsEveryKindOfValue) {
  for (const std::string_view text :
       {"1", "\"\"", "null", " true ", "[]", "{}", "[ ]", "{ }", "[{},[]]", "\t[false\r,\n-0.5e+7]",
        "{\"a\" : {\"\" : [ 0 , -1 ]} , \"a\":2}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE9B\"",
        "[18446744073709551615,-9223372036854775808,-0,0.0,1E5,1e-400]", "[[[[]]]]"}) {
    EXPECT_OK(check(text)) << text;
  }
}

TEST(JsonCheck, SaysWhereTheFaultIs) {
  EXPECT_EQ(message("{\"a\" 1}"), "the JSON text is malformed at byte 5: found '1', expected ':'");
  EXPECT_EQ(message("[1,]"), "the JSON text is malformed at byte 3: found ']', expected a value");
  EXPECT_EQ(message("[1 "),
            "the JSON text is malformed at byte 3: found its end, expected ',' or ']'");
  EXPECT_EQ(message("1 2"),
            "the JSON text is malformed at byte 2: found '2', expected nothing more");
  EXPECT_EQ(message("\xEF\xBB\xBF[]"), "the JSON text begins with a byte order mark");
  EXPECT_EQ(message("[]\0\0"sv),
            "the JSON text is padded with NUL bytes from byte 2 on, expected spaces");
  EXPECT_EQ(message("\"\\ud83d\\u0041\""),
            "the JSON text is malformed before byte 13: half of a surrogate pair is escaped");
}

TEST(JsonCheck, ReportsTheFirstFault) {
  EXPECT_ERROR(check("[01, 99999999999999999999]"), tree_not_json);
  EXPECT_ERROR(check("[99999999999999999999, 01]"), tree_malformed_number);
  EXPECT_ERROR(check("[x, [[[[]]]]]"), tree_not_json);
  EXPECT_ERROR(check("[[[[[]]]], \"x"), tree_too_deep);
  EXPECT_ERROR(check("[[[[[\"x"), tree_too_deep);
  EXPECT_ERROR(check("x\xFF"), header_not_utf8);
}

// One to three changes of bytes that mean something to JSON.
std::string mutated(std::string text, std::mt19937& random) {
  constexpr std::string_view kBytes =
      "{}[]:,\"\\ \t\n\r\f/0123456789-+.eExXuUdD8tfnNIrasl'#_\0\x1F\x7F"
      "\xEF\xBB\xBF\xC3\xA9\xED\xA0\xFF"sv;
  for (std::size_t changes = 1 + random() % 3; changes > 0; --changes) {
    const std::size_t at = random() % (text.size() + 1);
    const char byte = kBytes[random() % kBytes.size()];
    if (const std::size_t kind = random() % 3; kind == 0 || at == text.size()) {
      text.insert(at, 1, byte);
    } else if (kind == 1) {
      text[at] = byte;
    } else {
      text.erase(at, 1);
    }
  }
  return text;
}

// What a newer parser accepts beyond the rules shows here first.
TEST(JsonCheck, AgreesWithTheParserOnTextsThatAreSlightlyWrong) {
  std::mt19937 random(20261128);
  for (const std::string_view text :
       {R"({"w":{"dtype":"F32","shape":[2,0],"data_offsets":[0,16]},"__metadata__":null})",
        R"([1,-2,0.5,-1.25e-3,1E+30,18446744073709551615,-9223372036854775808,1e308])",
        R"( ["\u00e9\ud83d\ude9b\"\\\/\b\f\n\r\t","é",true,false,null, {"a" : {}} ] )", "-0",
        "true", R"("text")", "1.5e300"}) {
    for (int i = 0; i < 4000; ++i) {
      const std::string wrong = mutated(std::string(text), random);
      EXPECT_EQ(JsonDocument::parse_copy(wrong, kRules).has_value(), check(wrong).has_value())
          << wrong;
    }
  }
}

}  // namespace
}  // namespace flatbed
