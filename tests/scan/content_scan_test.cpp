// Compressed files, texts and code: how a scan judges files that are not checkpoints.
#include "scan/content_scan.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "archive/unpack.hpp"
#include "base/bytes.hpp"
#include "io/memory_source.hpp"
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
  EXPECT_TRUE(says(scan_bytes(nested), ScanKind::unseen, "nested more than 4 levels deep"));
}

// A first block of a tar that begins with `head`, and a tar's members after it.
string tar_that_begins_with(const string& head) {
  string block = head + string(512 - head.size(), '\0');
  std::uint64_t sum = 0;
  block.replace(148, 8, string(8, ' '));
  for (const char c : block) sum += static_cast<unsigned char>(c);
  block.replace(148, 8, test::octal(sum, 6) + " ");
  return block + test::build_tar({{.name = "pickle", .data = payload()}});
}

TEST(ContentScan, SeesATarInAnArrayAndInACompressedFile) {
  // torch.load takes a tar by the checksum of its first block alone.
  const string header = "{'descr': '|i1', 'fortran_order': False, 'shape': (4000,), }\n";
  const ScanReport array =
      scan_bytes(tar_that_begins_with("\x93NUMPY\1\0"s + le(header.size(), 2) + header));
  EXPECT_EQ(array.verdict, kDangerous) << show(array);
  EXPECT_TRUE(says(array, ScanKind::container, "a tar that is also a NumPy array file"));
  // A field of gzip's header holds the tar.
  const string begin = "\x1f\x8b\x08\4\0\0\0\0\0\3"s;
  const std::size_t nbytes = tar_that_begins_with(begin).size() - begin.size() - 2;
  const string text = "hello";
  const string whole = tar_that_begins_with(begin + le(nbytes, 2)) + test::deflated(text) +
                       le(test::crc_of(text), 4) + le(text.size(), 4);
  const ScanReport gzip = scan_bytes(whole);
  EXPECT_EQ(gzip.verdict, kDangerous) << show(gzip);
  EXPECT_NE(find(gzip, ScanKind::called, "os.system"), nullptr);
}

TEST(ContentScan, GoesByMoreThanTheFirstBytesOfACompressedFile) {
  EXPECT_EQ(scan_named("a.txt", "x^2 + y^2 = z^2 holds\n").files[0].what, "a text");
  EXPECT_EQ(scan_named("a.txt", "x^2 + y^2 = z^2 holds\n").verdict, kPlain);
  EXPECT_EQ(scan_named("a.txt", "BZhang wrote this\n").verdict, kPlain);
  EXPECT_EQ(scan_named("a.txt", "]\n").verdict, kPlain);
  // The bytes of a short text, then a pickle.
  EXPECT_EQ(
      scan_named("a.txt", "BZh\0\0"s + string(0x685a, 'a') + "0" + payload().substr(2)).verdict,
      kDangerous);
  // "x^" and a stored block of zlib, whose bytes are letters but for its header.
  const string stored = "x^\1"s + le(payload().size(), 2) + le(~payload().size(), 2) + payload();
  EXPECT_EQ(scan_bytes(stored).verdict, kDangerous);
  // All letters: the block's header is '@', its size 0x2020.
  const string call = "cos\nsystem\n(S'id'\ntR.";
  const string letters = "x^@  \xDF\xDF" + call + string(0x2020 - call.size(), ' ') + "\n";
  const ScanReport text = scan_named("a.txt", letters);
  EXPECT_EQ(text.verdict, kDangerous) << show(text);
  EXPECT_EQ(text.files[0].what, "a text");
}

TEST(ContentScan, UnpacksNoBomb) {
  // JSON takes more memory to parse than to hold.
  const string json = R"({"weight_map":0,"a":[)" + string(9 << 20, ' ') + "]}";
  const ScanReport inner = scan_bytes(packed(json));
  EXPECT_EQ(inner.verdict, kUnknown);
  EXPECT_TRUE(says(inner, ScanKind::unseen, "in another file is not parsed")) << show(inner);
  EXPECT_EQ(verdict_of(packed(R"({"a":[)" + string(9 << 20, ' ') + "]}")), kPlain);
  EXPECT_EQ(scan_bytes(json).verdict, kUnknown);
  EXPECT_FALSE(says(scan_bytes(json), ScanKind::unseen, "is not parsed"));
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

// joblib goes by the first bytes, and takes both for compressed pickles.
TEST(ContentScan, UnpacksWhatIsAnotherKindOfFileToo) {
  // The length of a safetensors header, and its brace, are the beginning of a gzip file.
  string header = "\x1f\x8b\x08\0\0\0\0\0{\""s + test::deflated(payload());
  header.resize(8 + 0x088b1f, ' ');
  const ScanReport gzip = scan_named("model.safetensors", header);
  EXPECT_EQ(gzip.verdict, kDangerous) << show(gzip);
  ASSERT_NE(find(gzip, ScanKind::called, "os.system"), nullptr);
  EXPECT_EQ(find(gzip, ScanKind::called, "os.system")->record, "[gzip]");
  // INT, whose line is the compressed data, and STOP after it.
  const string lzma = "I\0\0\1\0"s + string(8, '\xff') +
                      "\000\100\000\210\312\144\312\305\033\111\152\112\103\234\163\005\341"
                      "\230\022\210\265\307\122\174\357\007\352\123\377\377\364\066\100\000"s;
  const MemorySource source(as_bytes(lzma), "a.pkl");
  if (!pth::Unpacker::open(source, pth::Packing::lzma)) GTEST_SKIP() << "this build has no liblzma";
  const ScanReport both = scan_named("a.pkl", lzma + "\n.");
  EXPECT_EQ(both.verdict, kDangerous) << show(both);
  EXPECT_EQ(both.files[0].what, "a pickle");
}

// A header of 376 bytes begins like a zlib stream.
TEST(ContentScan, TakesNoLengthOfAHeaderForCompressedData) {
  std::mt19937 random(1);
  for (int i = 0; i < 1'000; ++i) {
    string text = "{\"__metadata__\":{\"a\":\"";
    for (auto letters = random() % 300; letters > 0; --letters)
      text += static_cast<char>('a' + random() % 26);
    text += "\"}}";
    text.resize(376, ' ');
    const ScanReport report = scan_named("model.safetensors", le(text.size(), 8) + text);
    ASSERT_EQ(report.verdict, kPlain) << text << show(report);
  }
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
