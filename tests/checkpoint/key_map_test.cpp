// KeyMap: each kind of rule, rules as text, and what is refused.
#include "flatbed/key_map.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <string_view>

#include "base/str_cat.hpp"
#include "support/cpu_time.hpp"
#include "support/expect_message.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;

// What one rule makes of a name.
std::string mapped(std::string_view rule, std::string_view name) {
  return KeyMap::parse_rule(rule).value().map(name).value();
}

void expect_refused(std::string_view rule, std::string_view message) {
  expect_error(KeyMap::parse_rule(rule), ErrorCode::invalid_argument, message);
}

TEST(KeyMap, PutsCapturesIntoTheNewName) {
  EXPECT_EQ(mapped("h.*.attn.*=layers.{1}.attention.{2}", "h.12.attn.q.weight"),
            "layers.12.attention.q.weight");
  EXPECT_EQ(mapped("*.?.[ab]={3}{2}{1}", "x.1.b"), "b1x");
  EXPECT_EQ(mapped("*={1}.{1}", "w"), "w.w");
  EXPECT_EQ(mapped("a=b", "a"), "b");
}

TEST(KeyMap, LeavesOtherNames) {
  EXPECT_EQ(mapped("a=b", "aa"), "aa");
  EXPECT_EQ(mapped("h.*=x.{1}", ""), "");
  EXPECT_EQ(mapped("strip-prefix module.", "modules.a"), "modules.a");
}

TEST(KeyMap, StripsAndAddsPrefixes) {
  EXPECT_EQ(mapped("strip-prefix module.", "module.module.a"), "module.a");
  EXPECT_EQ(mapped("add-prefix model.", "a"), "model.a");
  EXPECT_EQ(mapped(" add-prefix\t a=b. ", "c"), "a=b.c");
}

TEST(KeyMap, DoubledBracesAreBraces) {
  EXPECT_EQ(mapped("*={{{1}}}", "a"), "{a}");
  EXPECT_EQ(mapped("a={{1}}", "a"), "{1}");
}

TEST(KeyMap, TheFirstFreeEqualsSignEndsOld) {
  EXPECT_EQ(mapped("a=b=c", "a"), "b=c");
  EXPECT_EQ(mapped("a\\=b=c", "a=b"), "c");
  EXPECT_EQ(mapped("a[=]b=c", "a=b"), "c");
  EXPECT_EQ(mapped("a\\\\[=]b=c", "a\\=b"), "c");
  EXPECT_EQ(mapped("a\\[=c", "a["), "c");
  EXPECT_EQ(mapped("a[=c", "a["), "c");
}

TEST(KeyMap, BlanksAroundOldAndNewDoNotCount) {
  EXPECT_EQ(mapped("  a  =\tb ", "a"), "b");
  EXPECT_EQ(mapped("a b=c", "a b"), "c");
}

TEST(KeyMap, RulesRunInOrderAndOnceEach) {
  const KeyMap map = KeyMap::parse("a=b\nb=c\na=d\n*={1}x", "rules").value();
  EXPECT_EQ(map.size(), 4u);
  EXPECT_EQ(map.map("a").value(), "cx");
  EXPECT_EQ(map.map("b").value(), "cx");
  EXPECT_EQ(map.map("z").value(), "zx");
}

TEST(KeyMap, ChangesOfEitherEndReachLaterRules) {
  const KeyMap map =
      KeyMap::parse("strip-prefix abcdefghi.\nlong_prefix.*=z.{1}\n*.weight={1}.w\nz.*.w=done",
                    "rules")
          .value();
  EXPECT_EQ(map.map("abcdefghi.long_prefix.a.weight").value(), "done");
}

TEST(KeyMap, CallsBack) {
  KeyMap map;
  ASSERT_TRUE(map.add_callback([](std::string_view name) -> Result<std::string> {
    if (name == "bad") return Error{ErrorCode::cancelled, "no"};
    return str_cat(name, "!");
  }));
  ASSERT_TRUE(map.add_prefix("p."));
  EXPECT_EQ(map.map("a").value(), "p.a!");
  expect_error(map.map("bad"), ErrorCode::cancelled, "no");
  expect_error(map.add_callback({}), ErrorCode::invalid_argument, "a rename callback is empty");
}

TEST(KeyMap, AppendsAlsoItself) {
  KeyMap map = KeyMap::parse_rule("*={1}a").value();
  ASSERT_TRUE(map.append(map));
  EXPECT_EQ(map.map("x").value(), "xaa");
}

TEST(KeyMap, ReadsLinesWithCommentsOfAnyFile) {
  const KeyMap map = KeyMap::parse(
                         "\xEF\xBB\xBF# names of old\r\n\r\n  a=b  # first\r\n\t# none\n"
                         "c#=d#\nstrip-prefix x.#y  #\n",
                         "rules")
                         .value();
  EXPECT_EQ(map.size(), 3u);
  EXPECT_EQ(map.map("a").value(), "b");
  EXPECT_EQ(map.map("c#").value(), "d#");
  EXPECT_EQ(map.map("x.#yz").value(), "z");
  EXPECT_TRUE(KeyMap::parse("", "rules").value().empty());
  EXPECT_TRUE(KeyMap::parse("#", "rules").value().empty());
}

TEST(KeyMap, ReadsFiles) {
  const TempDir dir;
  write_file(dir / "rules.txt", "a=b\n*={2}\n");
  expect_error(KeyMap::read(dir / "rules.txt"), ErrorCode::invalid_argument,
               "rules.txt:2: rename rule '*={2}': NEW refers to what no wildcard of OLD matches: "
               "found '{2}', expected {1}");
  write_file(dir / "rules.txt", "a=b");
  EXPECT_EQ(KeyMap::read(dir / "rules.txt").value().map("a").value(), "b");
  expect_error(KeyMap::read(dir / "none"), ErrorCode::file_not_found, "none");
  expect_error(KeyMap::read(dir.path()), ErrorCode::not_a_regular_file, "");
}

TEST(KeyMap, RefusesMalformedRules) {
  expect_refused("", "expected OLD=NEW, strip-prefix PREFIX or add-prefix PREFIX");
  expect_refused("abc", "rename rule 'abc': found no =");
  expect_refused("=b", "OLD is empty");
  expect_refused("a=", "NEW is empty");
  expect_refused("strip-prefix", "the prefix is empty");
  expect_refused("add-prefix  ", "the prefix is empty");
  expect_refused("a={1}", "found '{1}', expected none, because OLD has no wildcard; {{ is a brace");
  expect_refused("*.*={3}", "found '{3}', expected {1} to {2}");
  expect_refused("*={0}", "found '{0}', expected {1}");
  expect_refused("*={}", "found '{}', expected {1}");
  expect_refused("*={one}", "found '{one}', expected {1}");
  expect_refused("*={-1}", "found '{-1}'");
  expect_refused("*={99999999999999999999}", "expected {1}");
  expect_refused("*={\n}", "found '{\\x0a}'");
  expect_refused("*={1", "NEW has a { without a }");
  expect_refused("*=1}", "NEW has a } without a {");
}

TEST(KeyMap, RefusesEmptyPrefixes) {
  KeyMap map;
  expect_error(map.strip_prefix(""), ErrorCode::invalid_argument, "the prefix is empty");
  expect_error(map.add_prefix(""), ErrorCode::invalid_argument, "the prefix is empty");
  EXPECT_TRUE(map.empty());
}

TEST(KeyMap, RefusesANameThatBecomesEmpty) {
  const KeyMap map = KeyMap::parse("a=b\nstrip-prefix module.", "r.txt").value();
  expect_error(map.map("module."), ErrorCode::invalid_argument,
               "r.txt:2: rename rule 'strip-prefix module.' makes the name 'module.' empty");
  expect_error(KeyMap::parse_rule("x*={1}").value().map("x"), ErrorCode::invalid_argument,
               "rename rule 'x*={1}' makes the name 'x' empty");
}

TEST(KeyMap, RefusesToCutACharacter) {
  expect_error(KeyMap::parse_rule("?*={2}").value().map("\xC3\xA9"), ErrorCode::invalid_argument,
               "which is not UTF-8");
  EXPECT_EQ(mapped("?*={1}{2}", "\xC3\xA9"), "\xC3\xA9");
}

TEST(KeyMap, RefusesTextThatIsNotUtf8) {
  expect_error(KeyMap::parse("a=b\n\xFF=c", "r"), ErrorCode::invalid_argument,
               "r:2: the line is not UTF-8: found '\\xff=c'");
}

TEST(KeyMap, KeepsNulAndControlCharacters) {
  EXPECT_EQ(mapped(std::string_view("a\0b=c\0d", 7), std::string_view("a\0b", 3)),
            std::string("c\0d", 3));
}

// Whatever the text is, it is refused with a place, or its rules can be used.
TEST(KeyMap, TakesAnyText) {
  std::mt19937 random(12);
  constexpr std::string_view kAlphabet = "ab.*?[]{}12=\\#\n -!\xC3\xA9";
  std::size_t parsed = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string text(random() % 24, '\0');
    for (char& c : text) c = kAlphabet[random() % kAlphabet.size()];
    const Result<KeyMap> map = KeyMap::parse(text, "r");
    if (!map) {
      ASSERT_EQ(map.error().code, ErrorCode::invalid_argument) << text;
      ASSERT_TRUE(map.error().message.starts_with("r:")) << map.error().message;
      continue;
    }
    parsed += map->size();
    const Result<std::string> mapped = map->map("a.b1");
    ASSERT_TRUE(!mapped || !mapped->empty()) << text;
  }
  EXPECT_GT(parsed, 100u);
}

TEST(KeyMap, BoundsTheSizeOfNames) {
  std::string rules;
  for (int i = 0; i < 1000; ++i) rules += "*={1}{1}\n";
  const KeyMap map = KeyMap::parse(rules, "r").value();
  expect_error(map.map("w"), ErrorCode::limit_exceeded,
               "r:21: rename rule '*={1}{1}' makes too long a name");
}

TEST(KeyMap, ReadsUnclosedBracketsInTimeInProportionToTheirNumber) {
  const std::string brackets(4 << 20, '[');
  const auto start = test::cpu_time();
  EXPECT_EQ(mapped(brackets + "=a", "b"), "b");
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(10));
}

TEST(KeyMap, BoundsTheNumberOfRules) {
  std::string rules;
  for (std::size_t i = 0; i < KeyMap::kMaxRules; ++i) rules += "a=b\n";
  KeyMap map = KeyMap::parse(rules, "r").value();
  expect_error(map.add_prefix("x"), ErrorCode::limit_exceeded,
               "too many rename rules: found 10001, the limit is 10000");
  expect_error(map.append(map), ErrorCode::limit_exceeded, "found 20000, the limit is 10000");
  expect_error(KeyMap::parse(rules + "a=b", "r"), ErrorCode::limit_exceeded, "r:10001: ");
  expect_error(KeyMap::parse(std::string(KeyMap::kMaxTextNbytes + 1, '\n'), "r"),
               ErrorCode::limit_exceeded, "r: too many bytes of rename rules");
}

}  // namespace
}  // namespace flatbed
