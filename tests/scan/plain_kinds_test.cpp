// Texts, images and code: files that no model loader runs, and files that only look like them.
#include "scan/plain_kinds.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <string>

#include "base/bytes.hpp"
#include "io/memory_source.hpp"
#include "support/scan_bytes.hpp"
#include "support/scan_payload.hpp"

namespace flatbed {
namespace {

using std::string;
using test::find;
using test::says;
using test::show;
using namespace std::string_literals;

constexpr auto kPlain = ScanVerdict::plain;
constexpr auto kUnknown = ScanVerdict::unknown;
constexpr auto kDangerous = ScanVerdict::dangerous;

// The scan of a file with this name.
ScanReport scan_named(const string& name, const string& bytes) {
  const MemorySource file(as_bytes(bytes), name);
  Result<ScanReport> report = scan(file);
  EXPECT_TRUE(report.has_value());
  return report ? *std::move(report) : ScanReport{};
}

TEST(PlainKinds, FindsEveryWayInWhichYamlNamesAPythonTag) {
  for (const char* yaml :
       {"a: !!python/object/apply:os.system ['id']\n", "[!!python/object/apply:os.system ['id']]\n",
        "{a: !!python/object/apply:os.system ['id']}\n",
        "a: !<tag:yaml.org,2002:python/object/apply:os.system> ['id']\n",
        "a: !<tag:yaml.org,2002:pyth%6fn/object/apply:os.system> ['id']\n",
        "a: !!pyth%6Fn/object/apply:os.system ['id']\n",
        "%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.system ['id']\n",
        "\xEF\xBB\xBF%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system ['id']\n",
        "# a\xC2\x85%TAG !p! tag:yaml.org,2002:python/\r---\r!p!tuple []\n"}) {
    const ScanReport report = scan_named("a.yaml", yaml);
    EXPECT_EQ(report.verdict, kUnknown) << yaml;
    EXPECT_NE(find(report, ScanKind::code), nullptr) << yaml << show(report);
  }
  // At every place in the windows of 64 KiB in which a file is read.
  for (std::size_t before = 65'400; before < 65'540; ++before)
    ASSERT_EQ(scan_named("a.yaml", string(before, 'a') + "\n- !!python/none x\n").verdict, kUnknown)
        << before;
}

TEST(PlainKinds, TakesExclamationMarksForNoTags) {
  for (const char* text :
       {"# A model\n<!-- a comment -->\nWelcome!!\n<b>Bonjour !</b>\n",
        "![License](https://img.shields.io/badge/License-Apache%202.0-blue)\n",
        "!python train.py --lr 5%\n!!pip install x\n", "{% if a %}{%- TAG -%}{{ b }}!{% endif %}\n",
        "50 %TAG\n  %TAG is a directive\n"})
    EXPECT_EQ(scan_named("README.md", text).verdict, kPlain) << text;
  for (const char* json : {R"({"vocab": {"!!python/": 1, "!<tag:yaml.org,2002:python/x>": 2}})",
                           "[\"!!python/object\", \"\x7F\", 1.5]\n"})
    EXPECT_EQ(scan_named("vocab.json", json).verdict, kPlain) << json;
}

TEST(PlainKinds, TakesNothingForJsonThatOnlyBeginsLikeIt) {
  string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  const ScanReport binary = scan_named("a.json", "{xxxxxxxxxx" + bytes);
  EXPECT_EQ(binary.verdict, kUnknown);
  EXPECT_TRUE(says(binary, ScanKind::malformed, "begins like a JSON text")) << show(binary);
  // Flow style of YAML, which nobody parses.
  EXPECT_EQ(scan_named("a.yaml", "[a, b]\n").verdict, kPlain);
}

TEST(PlainKinds, ReadsATokenizerUpToALimit) {
  const test::TempDir folder;
  test::write_file(folder / "tokenizer.model", "\x0a\x0e\x0a\5<unk>\x15\0\0\0\0\x18\2"s);
  EXPECT_EQ(scan(folder / "tokenizer.model")->verdict, kPlain);
  std::filesystem::resize_file(folder / "tokenizer.model", (64 << 20) + 1);
  EXPECT_EQ(scan(folder / "tokenizer.model")->verdict, kUnknown);
}

TEST(PlainKinds, KnowsCodeByItsNameInAnyCase) {
  for (const char* name : {"X.PY", "a.So", "a.pyc"})
    EXPECT_NE(find(scan_named(name, "import os\n"), ScanKind::code), nullptr) << name;
  EXPECT_EQ(scan_named("happy", "import os\n").verdict, kPlain);
}

// A word on each line: those that begin with 'c' import what the next lines spell, up to a word
// that is no opcode.
TEST(PlainKinds, TakesListsOfWordsForTexts) {
  for (const char* words :
       {"cat\ndog\nbird\nhorse\n", "cos\nsin\ntan\n", "car\nbus\n[UNK]\n", "cat\r\ndog\r\nbird\r\n",
        "cat\ndog\ncow\nhen\nape\nbee\n", "(in case\nof fire)\n", "cos\nsystem\npath\ngoat\nRest\n",
        "car\nbus\nIran\nRome\n", "chart\nbar\n.box\n"}) {
    const ScanReport report = scan_named("labels.txt", words);
    const bool stop = string(words).find("\n.") != string::npos;  // a pickle: it ends well
    EXPECT_EQ(report.verdict, stop ? kUnknown : kPlain) << words << show(report);
  }
  // A number of 8 bytes, and STOP: "it v2.31" is one for BINFLOAT.
  EXPECT_EQ(scan_named("notes.txt", "Git v2.31.7 Release Notes\n").verdict, kPlain);
  EXPECT_EQ(scan_named("notes.txt", "Git v2.31.cos\nsystem\n(S'id'\ntR\n").verdict, kDangerous);
  std::mt19937 random(1);
  for (int i = 0; i < 5'000; ++i) {
    string words = "c";
    for (auto letters = 20 + random() % 400; letters > 0; --letters)
      words += random() % 5 == 0 ? '\n' : static_cast<char>('a' + random() % 26);
    const ScanReport report = scan_named("labels.txt", words + "\n");
    ASSERT_EQ(report.verdict, kPlain) << words << show(report);
  }
}

TEST(PlainKinds, SeesTheCallsOfATextThatRunsAsAPickle) {
  for (const char* text :
       {"cos\nsystem\n(S'id'\ntR.", "cos\nsystem\n(S'id'\ntRand so on\n", "(S'id'\nios\nsystem\n",
        "(cos\nsystem\nS'id'\no", "cos\r\nsystem\r\n(S'id'\ntR\n"})
    EXPECT_EQ(scan_named("notes.txt", text).verdict, kDangerous) << text;
  EXPECT_EQ(scan_named("notes.txt", "cos\nsystem\n.").verdict, kDangerous);
  for (const char* change :
       {"csys\npath\n(S'/tmp'\ncos\nsep\ne, and so on", "csys\nmodules\nS'os'\ncx\ny\ns, and so on",
        "csys\nmeta_path\ncx\nFinder\na, and so on", "cx\ny\n(S'a'\nI1\ndb, and so on"})
    EXPECT_EQ(scan_named("notes.txt", change).verdict, kDangerous) << change;
  // CPython reads a line of a number up to a NUL, and takes none for 0.
  EXPECT_EQ(scan_named("notes.dat", "I\0x\n0cos\nsystem\n(S'id'\ntR."s).verdict, kDangerous);
  EXPECT_EQ(scan_named("notes.txt", "cpackage\nThing\n(tRand so on\n").verdict, kUnknown);
}

TEST(PlainKinds, TellsALimitFromTheEndOfAPickle) {
  const string call = "cos\nsystem\n(S'id'\ntR.";
  // More values than the scan holds; a loader goes on.
  const ScanReport full = scan_named("a.txt", string(2'300'000, 'N') + call);
  EXPECT_EQ(full.verdict, kUnknown);
  EXPECT_TRUE(says(full, ScanKind::unseen, "its stack or memo is larger")) << show(full);
  EXPECT_EQ(scan_named("a.txt", string(1'000, 'N') + call).verdict, kDangerous);
  EXPECT_EQ(scan_named("a.txt", string(1'000, 'N') + "\n").verdict, kPlain);
  const string joblib = "cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b" + string(64, '\x93');
  EXPECT_TRUE(says(scan_named("a.dat", joblib), ScanKind::unseen, "joblib"));
}

}  // namespace
}  // namespace flatbed
