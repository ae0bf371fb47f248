// Compressed files, texts and code: what a scan makes of files that are no checkpoint themselves.
#include "scan/content_scan.hpp"

#include <gtest/gtest.h>

#include <string>

#include "support/bytes_source.hpp"
#include "support/legacy_builder.hpp"
#include "support/scan_bytes.hpp"
#include "support/scan_payload.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using std::string;
using test::find;
using test::le;
using test::packed;
using test::payload;
using test::says;
using test::scan_bytes;
using test::show;
using test::TempDir;
using test::torch_zip;
using test::verdict_of;
using test::write_file;
using namespace std::string_literals;

constexpr auto kPlain = ScanVerdict::plain;
constexpr auto kUnknown = ScanVerdict::unknown;
constexpr auto kDangerous = ScanVerdict::dangerous;

ScanReport scan_named(const string& name, const string& bytes) {
  const TempDir folder;
  write_file(folder / name, bytes);
  Result<ScanReport> report = scan(folder / name);
  EXPECT_TRUE(report.has_value());
  return report ? *std::move(report) : ScanReport{};
}

TEST(ContentScan, FollowsCompressedFiles) {
  const ScanReport plain = scan_bytes(packed(torch_zip()));
  EXPECT_EQ(plain.verdict, kPlain) << show(plain);
  EXPECT_EQ(plain.files[0].what, "a gzip file that holds a zip of torch.save");
  const ScanReport hostile = scan_bytes(packed(payload()));
  EXPECT_EQ(hostile.verdict, kDangerous);
  EXPECT_EQ(find(hostile, ScanKind::called, "os.system")->record, "[gzip]");
  // joblib writes zlib streams.
  EXPECT_EQ(verdict_of(packed(payload(), 15)), kDangerous);
  EXPECT_EQ(verdict_of(packed(packed(torch_zip({.pickle = payload()})))), kDangerous);
}

TEST(ContentScan, SaysWhatOfACompressedFileItCannotSee) {
  const string whole = packed(torch_zip());
  EXPECT_EQ(verdict_of(whole.substr(0, whole.size() - 9)), kUnknown);
  EXPECT_TRUE(says(scan_bytes(whole + "more"), ScanKind::trailing, "4 bytes after"));
  EXPECT_EQ(verdict_of("BZh91AY&SY"), kUnknown);
  EXPECT_EQ(verdict_of("7z\xbc\xaf\x27\x1c\0\4"s), kUnknown);
  string nested = payload();
  for (int depth = 0; depth < 6; ++depth) nested = packed(nested);
  EXPECT_TRUE(says(scan_bytes(nested), ScanKind::unseen, "nested this deeply"));
}

TEST(ContentScan, UnpacksNoBomb) {
  const ScanReport report = scan_bytes(packed(string(40'000'000, '\0') + payload()));
  EXPECT_EQ(report.verdict, kUnknown);
  EXPECT_TRUE(says(report, ScanKind::unseen, "unpacks to more than the 33554432 bytes"));
}

TEST(ContentScan, SeesThatJoblibPutsArraysBetweenOpcodes) {
  const string wrapper = test::pickle::global("joblib.numpy_pickle", "NumpyArrayWrapper");
  const string object = "\x80\4" + wrapper + ")\x81}b" + string(64, '\x93') + payload();
  const ScanReport report = scan_bytes(object);
  EXPECT_EQ(report.verdict, kUnknown) << show(report);
  EXPECT_TRUE(says(report, ScanKind::unseen, "joblib")) << show(report);
}

TEST(ContentScan, TakesAHeaderForNoPickle) {
  // The header's length begins with "(c": a pickle loader would import what reaches to a newline.
  const string padding(0x6328 - 60, ' ');
  const string header =
      R"({"w":{"dtype":"U8","shape":[20],"data_offsets":[0,20]}})" + padding + string(6, ' ');
  ASSERT_EQ(header.size() / 256, 0x63u);
  const string data = "os\nsystem\nos\nsystem\n";
  const ScanReport report = scan_bytes(le(0x6328, 8) + header.substr(0, 0x6328) + data);
  EXPECT_EQ(report.verdict, kPlain) << show(report);
}

TEST(ContentScan, TakesTextsAndImagesBesideAModelForPlain) {
  for (const auto& [name, bytes, what] : {std::tuple("README.md", "# A model\n", "a text"),
                                          {"merges.txt", "a b\n", "a text"},
                                          {"x.png", "\x89PNG\r\n\x1a\n\x01", "an image"},
                                          {"config.json", "{}", "a JSON text"},
                                          {".gitkeep", "", "an empty file"}}) {
    const ScanReport report = scan_named(name, bytes);
    EXPECT_EQ(report.verdict, kPlain) << name << "\n" << show(report);
    EXPECT_EQ(report.files[0].what, what);
  }
  EXPECT_EQ(scan_named("model.bin", "# A model\n").verdict, kUnknown);
  EXPECT_EQ(scan_named("model.dat", "\1\2\3 and so on, and so on").verdict, kUnknown);
  EXPECT_EQ(scan_named("notes.txt", payload()).verdict, kDangerous);
}

TEST(ContentScan, KnowsTokenizersOfSentencePiece) {
  const string pieces = "\x0a\x0e\x0a\5<unk>\x15\0\0\0\0\x18\2\x0a\x04\x0a\2ab\x12\x01\0"s;
  EXPECT_EQ(scan_named("tokenizer.model", pieces).verdict, kPlain);
  EXPECT_EQ(scan_named("tokenizer.model", pieces + "\x0a").verdict, kUnknown);
  EXPECT_EQ(scan_named("tokenizer.model", pieces + payload()).verdict, kUnknown);
}

TEST(ContentScan, NamesCode) {
  for (const char* name : {"modeling_x.py", "x.so", "x.pyc"}) {
    const ScanReport report = scan_named(name, "import os\n");
    EXPECT_EQ(report.verdict, kUnknown) << name;
    EXPECT_NE(find(report, ScanKind::code), nullptr) << show(report);
  }
  EXPECT_EQ(scan_named("a.yaml", "a: !!python/object/apply:os.system ['id']").verdict, kUnknown);
  EXPECT_EQ(scan_named("a.yaml", "a: b").verdict, kPlain);
}

}  // namespace
}  // namespace flatbed
