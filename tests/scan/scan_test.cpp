// scan(): files of every kind, and zips that readers read in different ways.
#include "flatbed/scan.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "support/expect_error.hpp"
#include "support/legacy_builder.hpp"
#include "support/scan_bytes.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

using test::build_tar;
using test::build_zip;
using test::find;
using test::le;
using test::legacy_stream;
using test::says;
using test::scan_bytes;
using test::show;
using test::TempDir;
using test::torch_items;
using test::torch_zip;
using test::verdict_of;
using test::write_file;
using test::ZipItem;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;
using namespace std::string_literals;

constexpr auto kPlain = ScanVerdict::plain;
constexpr auto kUnknown = ScanVerdict::unknown;
constexpr auto kDangerous = ScanVerdict::dangerous;

const string kPayload =
    "\x80\x02"
    "cos\nsystem\nX\x02\x00\x00\x00id\x85R."s;

// A zip whose data.pkl is the payload, after a change to the entry that holds it.
string hostile(const std::function<void(ZipItem&)>& change) {
  std::vector<ZipItem> items = torch_items({.pickle = kPayload});
  change(items[0]);
  return build_zip(items);
}

// The scan sees the payload and what hides it from other readers.
void expect_seen(const string& bytes, std::string_view words) {
  const ScanReport report = scan_bytes(bytes);
  EXPECT_EQ(report.verdict, kDangerous) << words << "\n" << show(report);
  EXPECT_TRUE(says(report, ScanKind::container, words)) << words << "\n" << show(report);
}

TEST(ScanZip, TakesWhatTorchWritesForPlain) {
  const ScanReport report = scan_bytes(torch_zip());
  EXPECT_EQ(report.verdict, kPlain) << show(report);
  EXPECT_EQ(report.files[0].what, "a zip of torch.save");
  EXPECT_EQ(report.files[0].pickles, 1u);
  const ScanFinding* called = find(report, ScanKind::called, "torch._utils._rebuild_tensor_v2");
  ASSERT_NE(called, nullptr);
  EXPECT_EQ(called->record, "archive/data.pkl");
}

TEST(ScanZip, SeesThePickle) {
  const ScanReport report = scan_bytes(torch_zip({.pickle = kPayload}));
  EXPECT_EQ(report.verdict, kDangerous);
  EXPECT_EQ(find(report, ScanKind::container), nullptr) << show(report);
}

TEST(ScanZip, SeesPastFlagsAtWhichScannersStop) {
  for (const int flag : {0x1, 0x20, 0x40, 0x2000}) {
    const auto flags = static_cast<std::uint16_t>(0x0808 | flag);
    expect_seen(hostile([&](ZipItem& item) { item.local.flags = flags; }), "its local header");
    expect_seen(hostile([&](ZipItem& item) { item.central.flags = flags; }), "flags 0x");
  }
}

TEST(ScanZip, SeesPastAnotherNameInEitherHeader) {
  const auto other = [](ZipItem& item) { item.local.name = "archive/other.xyz"; };
  expect_seen(hostile(other), "has the name 'archive/other.xyz'");
  expect_seen(hostile([](ZipItem& item) { item.central.name = "archive/version.x"; }),
              "has the name 'archive/data.pkl'");
}

TEST(ScanZip, JudgesTheSameBytesByEachOfTheirNames) {
  // The first bytes do not look like a pickle; the name in the local header does.
  const string late = string(5000, '(') + "cos\nsystem\n(S'id'\ntR.";
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "archive/notes.txt", .data = late});
  EXPECT_EQ(verdict_of(build_zip(items)), kPlain);
  items.back().local.name = "archive/notes.pkl";
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
}

TEST(ScanZip, InflatesToEachOfTheSizesThatAreStated) {
  std::vector<ZipItem> items = torch_items();
  items[0] = test::deflated_item("archive/data.pkl", finish("N") + kPayload);
  items[0].zeros = false;
  items[0].local.nbytes = static_cast<std::uint32_t>(*items[0].nbytes);
  items[0].nbytes = 4;
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
}

TEST(ScanZip, SeesPastAWrongCrc) {
  expect_seen(hostile([](ZipItem& item) { item.central.crc = 1; }), "its CRC is 0x");
  EXPECT_EQ(find(scan_bytes(torch_zip()), ScanKind::container), nullptr);
}

TEST(ScanZip, SeesPastSizesAndMethodsThatDisagree) {
  expect_seen(hostile([](ZipItem& item) {
                item.zeros = false;
                item.local.nbytes = 3;
              }),
              "its local header states");
  expect_seen(hostile([](ZipItem& item) { item.local.method = 8; }), "has method 8");
  expect_seen(hostile([](ZipItem& item) { item.central.nbytes = 3; }), "two different sizes");
}

TEST(ScanZip, SeesTwoEntriesOfOneName) {
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "archive/data.pkl", .data = kPayload});
  expect_seen(build_zip(items), "another entry has the same name");
  items.back().name = "archive/DATA.pkl";
  expect_seen(build_zip(items), "another entry has the same name");
  items.back().name = "other/data.pkl";
  expect_seen(build_zip(items), "2 records are called data.pkl");
}

TEST(ScanZip, SeesPicklesThatAreCalledSomethingElse) {
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "archive/data/7", .data = kPayload});
  const ScanReport hidden = scan_bytes(build_zip(items));
  EXPECT_EQ(hidden.verdict, kDangerous) << show(hidden);
  EXPECT_NE(find(hidden, ScanKind::hidden), nullptr) << show(hidden);
  items.back().data = "cos\nsystem\n(S'id'\ntR.";
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
  items.back().data = string(64, '\x80');
  EXPECT_EQ(verdict_of(build_zip(items)), kPlain);
  items.back() = {.name = "archive/extra.pkl", .data = "\x80\x02N\xff"s};
  EXPECT_EQ(verdict_of(build_zip(items)), kUnknown);
}

TEST(ScanZip, SeesPicklesBehindThePickle) {
  const ScanReport report = scan_bytes(torch_zip({.pickle = finish("N") + kPayload}));
  EXPECT_EQ(report.verdict, kDangerous);
  EXPECT_TRUE(says(report, ScanKind::trailing, "another pickle"));
  EXPECT_EQ(verdict_of(torch_zip({.pickle = finish("N") + "xyz"})), kUnknown);
}

TEST(ScanZip, LooksIntoDeflatedRecords) {
  std::vector<ZipItem> items = torch_items();
  items[0] = test::deflated_item("archive/data.pkl", kPayload);
  items[0].central.crc = static_cast<std::uint32_t>(crc32(
      0, reinterpret_cast<const Bytef*>(kPayload.data()), static_cast<uInt>(kPayload.size())));
  const ScanReport report = scan_bytes(build_zip(items));
  EXPECT_EQ(report.verdict, kDangerous);
  EXPECT_EQ(find(report, ScanKind::container), nullptr) << show(report);
  // A wrong size is detected only at the end, after the payload.
  items[0].nbytes = kPayload.size() + 1;
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
  items[0].nbytes = 0x02000000;  // more than any stream of its size gives
  EXPECT_EQ(verdict_of(build_zip(items)), kDangerous);
  items[0].nbytes = kPayload.size();
  items[0].data.replace(items[0].data.size() - 3, 3, "\xff\xff\xff");  // the stream breaks
  EXPECT_NE(verdict_of(build_zip(items)), kPlain);
  items[0].method = 12;
  expect_seen(build_zip({items[0], {.name = "archive/x.pkl", .data = kPayload}}), "method 12");
}

TEST(ScanZip, InflatesNoBomb) {
  // 40 MB of MARKs in 40 KB, in front of the payload: not looked at so far, and said.
  std::vector<ZipItem> items = torch_items();
  items[0] = test::deflated_item("archive/data.pkl", string(40'000'000, '(') + kPayload);
  const ScanReport report = scan_bytes(build_zip(items));
  EXPECT_EQ(report.verdict, kUnknown);
  EXPECT_NE(find(report, ScanKind::unseen), nullptr) << show(report);
}

TEST(ScanZip, SeesEntriesThatNoDirectoryLists) {
  std::vector<ZipItem> items = torch_items();
  items.insert(items.begin() + 1,
               {.name = "archive/data.pkl", .data = kPayload, .zeros = false, .listed = false});
  expect_seen(build_zip(items), "an entry that the directory does not list");
}

TEST(ScanZip, SeesWhatStandsAroundTheZip) {
  const string zip = torch_zip();
  EXPECT_TRUE(says(scan_bytes(zip + "junk"), ScanKind::container, "4 bytes after the end"));
  EXPECT_EQ(verdict_of(zip + "junk"), kUnknown);
  EXPECT_EQ(verdict_of("junk" + zip), kUnknown);
  EXPECT_EQ(verdict_of(build_zip(torch_items(), {.comment = "a comment"})), kPlain);
  const ScanReport between = scan_bytes(build_zip(torch_items(), {.before_end = "12345678"}));
  EXPECT_EQ(between.verdict, kUnknown) << show(between);
}

TEST(ScanZip, SeesEachOfSeveralEndRecords) {
  // Two zips in sequence: readers from the end see the second alone, its offsets as they
  // stand are the first's.
  const string both = torch_zip() + torch_zip({.pickle = kPayload});
  const ScanReport report = scan_bytes(both);
  EXPECT_EQ(report.verdict, kDangerous) << show(report);
  EXPECT_NE(find(report, ScanKind::container), nullptr);
  const ScanReport other = scan_bytes(torch_zip({.pickle = kPayload}) + torch_zip());
  EXPECT_EQ(other.verdict, kDangerous) << show(other);
  // A zip64 record that points elsewhere than the end record.
  const ScanReport lead =
      scan_bytes(build_zip(torch_items(), {.directory_nbytes64 = 46, .directory_offset64 = 0}));
  EXPECT_EQ(lead.verdict, kUnknown) << show(lead);
}

// Stream readers find the end of the data by the descriptor after it.
TEST(ScanZip, HoldsDescriptorsAgainstTheDirectory) {
  const string data = torch_items()[0].data;
  const auto with = [](const string& descriptor) {
    std::vector<ZipItem> items = torch_items();
    items[0].descriptor = descriptor;
    return build_zip(items);
  };
  const string signature = "PK\7\x08", crc = le(test::crc_of(data), 4);
  const string size = le(data.size(), 4), wide = le(data.size(), 8);
  for (const string& form : {signature + crc + size + size, crc + size + size,
                             signature + crc + wide + wide, crc + wide + wide})
    EXPECT_EQ(verdict_of(with(form)), kPlain) << form.size();
  const string other = le(data.size() + 1, 4);
  for (const string& form :
       {signature + le(0, 4) + size + size, signature + crc + other + size,
        signature + crc + size + other, signature + crc + le(data.size() + 1, 8) + wide,
        le(0, 4) + size + size, crc + wide + le(data.size() + 1, 8), string(16, '\0')}) {
    const ScanReport report = scan_bytes(with(form));
    EXPECT_EQ(report.verdict, kUnknown) << show(report);
    EXPECT_TRUE(says(report, ScanKind::container, "its descriptor disagrees")) << show(report);
  }
  EXPECT_TRUE(says(scan_bytes(with("")), ScanKind::container, "no descriptor follows"));
  const ScanReport more = scan_bytes(with(signature + crc + size + size + "12345"));
  EXPECT_TRUE(says(more, ScanKind::container, "5 bytes belong to no entry")) << show(more);
  EXPECT_FALSE(says(more, ScanKind::container, "descriptor")) << show(more);
}

TEST(ScanZip, SeesEntriesThatShareBytes) {
  std::vector<ZipItem> items = torch_items();
  items[1].central.offset = 0;
  EXPECT_TRUE(says(scan_bytes(build_zip(items)), ScanKind::container, "overlaps something else"));
}

TEST(ScanZip, SeesEntriesOutsideTheFolder) {
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "elsewhere/notes.txt", .data = "hello"});
  EXPECT_TRUE(says(scan_bytes(build_zip(items)), ScanKind::container, "outside the folder"));
  items.back().name = "__MACOSX/notes.txt";
  EXPECT_EQ(verdict_of(build_zip(items)), kPlain);
  items.back().name = "archive/../notes.txt";
  EXPECT_TRUE(says(scan_bytes(build_zip(items)), ScanKind::container, "the meaning of its name"));
}

TEST(ScanZip, ScansWhatIsLeftOfADamagedZip) {
  const string zip = torch_zip({.pickle = kPayload});
  for (std::size_t size = 160; size < zip.size(); size += 7)
    EXPECT_EQ(verdict_of(zip.substr(0, size)), kDangerous) << size;
  const string plain = torch_zip();
  for (std::size_t size = 4; size < plain.size(); size += 5)
    EXPECT_EQ(verdict_of(plain.substr(0, size)), kUnknown) << size;
}

TEST(ScanZip, NamesArchivesThatHoldCode) {
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "archive/constants.pkl", .data = finish(")")});
  items.push_back({.name = "archive/code/__torch__.py", .data = "class A(Module): pass"});
  const ScanReport report = scan_bytes(build_zip(items));
  EXPECT_EQ(report.verdict, kUnknown);
  EXPECT_NE(find(report, ScanKind::torchscript), nullptr);
  EXPECT_EQ(report.files[0].what, "a TorchScript archive");
  EXPECT_EQ(verdict_of(build_zip({{.name = "a/b.npy", .data = "x"}})), kUnknown);
}

TEST(ScanLegacy, SeesAllFivePickles) {
  EXPECT_EQ(verdict_of(legacy_stream()), kPlain) << show(scan_bytes(legacy_stream()));
  EXPECT_EQ(scan_bytes(legacy_stream()).files[0].pickles, 5u);
  EXPECT_EQ(verdict_of(legacy_stream({.machine = kPayload})), kDangerous);
  EXPECT_EQ(verdict_of(legacy_stream({.object = kPayload, .storages = {}})), kDangerous);
  EXPECT_EQ(verdict_of(legacy_stream({.keys = kPayload})), kDangerous);
}

TEST(ScanLegacy, SeesAMagicThatIsComputed) {
  // The number is what eval returns: readers that look for the bytes take the file for no PyTorch
  // file.
  const string magic =
      finish(call(global("builtins", "eval"), tuple({text("0x1950a86a20f9469cfc6c")})));
  const ScanReport report = scan_bytes(legacy_stream({.magic = magic}));
  EXPECT_EQ(report.verdict, kDangerous);
  EXPECT_NE(find(report, ScanKind::called, "builtins.eval"), nullptr);
}

TEST(ScanLegacy, SeesWhatFollowsTheStorages) {
  EXPECT_TRUE(says(scan_bytes(legacy_stream() + "12345"), ScanKind::trailing, "5 bytes after"));
  const ScanReport cut = scan_bytes(legacy_stream().substr(0, legacy_stream().size() - 1));
  EXPECT_EQ(cut.verdict, kUnknown);
}

TEST(ScanTar, IsNeverPlainAndSeesEveryMember) {
  EXPECT_EQ(verdict_of(test::torch_tar()), kUnknown);
  for (string test::TorchTar::*part : {&test::TorchTar::machine, &test::TorchTar::object,
                                       &test::TorchTar::tensors, &test::TorchTar::storages}) {
    test::TorchTar tar = test::torch_tar_parts();
    tar.*part += kPayload;
    EXPECT_EQ(verdict_of(test::torch_tar(tar)), kDangerous);
  }
  EXPECT_EQ(verdict_of(build_tar({{.name = "innocent", .data = "xx" + kPayload}})), kDangerous);
  // Python needs no "ustar".
  EXPECT_EQ(verdict_of(build_tar({{.name = "pickle", .data = kPayload, .magic = string(8, '\0')}})),
            kDangerous);
}

TEST(ScanTar, ReadsNumbersAsPythonDoes) {
  // tarfile takes whatever int(text, 8) takes.
  const auto sum_of = [](const string& block) {
    std::uint64_t sum = 8 * ' ';
    for (std::size_t i = 0; i < 512; ++i)
      sum += i >= 148 && i < 156 ? 0 : static_cast<unsigned char>(block[i]);
    return sum;
  };
  string tar = build_tar({{.name = "pickle", .data = kPayload, .magic = string(8, '\0')}});
  const string digits = test::octal(sum_of(tar), 5);
  for (const string& sum : {"+" + digits + "\0"s, "0o" + digits, " \t" + digits,
                            digits.substr(0, 2) + "_" + digits.substr(2) + " "s}) {
    tar.replace(148, 8, (sum + "\0\0\0"s).substr(0, 8));
    EXPECT_EQ(verdict_of(tar), kDangerous) << sum;
  }
  tar.replace(148, 8, "nothing ");
  EXPECT_NE(scan_bytes(tar).files[0].what, "a tar archive");
}

TEST(ScanTar, FollowsHeadersWherePythonFindsThem) {
  // A folder has no bytes, whatever its size field says. The next header follows its own.
  string tar = build_tar({{.name = "folder/", .kind = '5', .size = test::octal(1024, 11)},
                          {.name = "pickle", .data = "(S'id'\nios\nsystem\n."}});
  EXPECT_EQ(verdict_of(tar), kDangerous);
  // A size in pax records moves the next header, so pickles are searched for everywhere.
  tar = build_tar({{.name = "pax", .data = "13 size=4096\n", .kind = 'x'},
                   {.name = "notes", .data = string(1500, 'x') + kPayload}});
  EXPECT_EQ(verdict_of(tar), kDangerous);
  tar = build_tar({{.name = "notes", .data = "x"}, {.name = "pickle", .data = kPayload}});
  EXPECT_EQ(verdict_of(tar.substr(0, 1536 + kPayload.size() - 1)), kDangerous);
}

TEST(ScanFile, TakesFilesWithoutPicklesForWhatTheyAre) {
  const string header = R"({"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  const string safetensors = le(header.size(), 8) + header + "ab";
  EXPECT_EQ(verdict_of(safetensors), kPlain);
  EXPECT_EQ(scan_bytes(safetensors).files[0].what, "a safetensors file");
  EXPECT_EQ(verdict_of(safetensors.substr(0, 20)), kUnknown);
  EXPECT_EQ(verdict_of(""), kUnknown);
  EXPECT_EQ(verdict_of("\x1f\x8b\x08 and so on"), kUnknown);
  EXPECT_EQ(verdict_of("hello, this is text"), kUnknown);
  EXPECT_EQ(verdict_of(R"({"a": 1})"), kPlain);
}

TEST(ScanFile, SeesFilesThatAreTwoThings) {
  const ScanReport behind = scan_bytes(legacy_stream() + torch_zip({.pickle = kPayload}));
  EXPECT_EQ(behind.verdict, kDangerous) << show(behind);
  EXPECT_TRUE(says(behind, ScanKind::container, "ends like a zip")) << show(behind);
  // A tar header with a pickle in its name.
  string tar = build_tar({{.name = "cos\nsystem\n(S'id'\ntR.", .data = "x"}});
  EXPECT_EQ(verdict_of(tar), kDangerous);
}

TEST(ScanSet, ScansEveryShardAndEveryFileOfADirectory) {
  const TempDir folder;
  write_file(folder / "a.bin", torch_zip());
  write_file(folder / "b.bin", torch_zip({.pickle = kPayload}));
  write_file(folder / "rng_state.pth", torch_zip());
  write_file(folder / "README.md", "text");
  write_file(folder / "m.bin.index.json", R"({"weight_map":{"w":"a.bin","v":"b.bin"}})");
  const Result<ScanReport> set = scan(folder / "m.bin.index.json");
  ASSERT_OK(set);
  EXPECT_EQ(set->verdict, kDangerous);
  ASSERT_EQ(set->files.size(), 2u);
  EXPECT_EQ(set->files[0].verdict, kPlain);
  EXPECT_EQ(set->files[1].verdict, kDangerous);
  EXPECT_EQ(set->findings[0].file, 1u);
  EXPECT_EQ(set->findings[0].severity, kDangerous);
  const Result<ScanReport> all = scan(folder.path());
  ASSERT_OK(all);
  EXPECT_EQ(all->files.size(), 5u);
  write_file(folder / "x.bin.index.json", R"({"weight_map":{"w":"c.bin"}})");
  EXPECT_ERROR(scan(folder / "x.bin.index.json"), shard_missing);
  EXPECT_ERROR(scan(folder / "none"), file_not_found);
}

TEST(ScanSet, StopsWhenCancelled) {
  const TempDir folder;
  write_file(folder / "a.pth", torch_zip());
  const std::atomic<bool> cancel = true;
  EXPECT_ERROR(scan(folder / "a.pth", {.cancel = &cancel}), cancelled);
}

TEST(ScanReport, KeepsTenThousandFindingsAndCountsAll) {
  string body;
  for (int i = 0; i < 70'000; ++i) body += global("package", "name" + std::to_string(i)) + "0";
  const ScanReport report =
      scan_bytes(finish(body + call(global("os", "system"), tuple({text("id")}))));
  EXPECT_EQ(report.verdict, kDangerous);
  EXPECT_FALSE(report.findings_complete);
  EXPECT_LE(report.findings.size(), 10'010u);
  EXPECT_EQ(report.findings[0].severity, kDangerous);
}

// What torch 2.14.1 loads of them with weights_only=True.
const std::set<string> kLoaded{"torch1/dtypes.pth",
                               "torch1/state_dict.pth",
                               "torch1/views.pth",
                               "torch2/complex_views.pth",
                               "torch2/deflated.pth",
                               "torch2/dtypes.pth",
                               "torch2/jagged.pth",
                               "torch2/legacy.pth",
                               "torch2/legacy_dtypes.pth",
                               "torch2/big_endian.pth",
                               "torch2/legacy_tied.pth",
                               "torch2/legacy_views.pth",
                               "torch2/not_dense.pth",
                               "torch2/odd_keys.pth",
                               "torch2/parameters.pth",
                               "torch2/quantized.pth",
                               "torch2/scalars.pth",
                               "torch2/shared_containers.pth",
                               "torch2/single_tensor.pth",
                               "torch2/state_dict.pth",
                               "torch2/tensor_list.pth",
                               "torch2/tied.pth",
                               "torch2/views.pth",
                               "torch2/sharded/pytorch_model-00001-of-00002.bin",
                               "torch2/sharded/pytorch_model-00002-of-00002.bin"};

TEST(ScanFixtures, ArePlainWhereTorchLoadsThemWithWeightsOnlyAndElseUnknown) {
  const std::filesystem::path root = FLATBED_FIXTURES_DIR;
  std::size_t plain = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    const std::filesystem::path& path = entry.path();
    if (path.extension() != ".pth" && path.extension() != ".bin" && path.extension() != ".pt")
      continue;
    const Result<ScanReport> report = scan(path);
    ASSERT_OK(report);
    const string name = path.lexically_relative(root).native();
    const bool loaded = kLoaded.contains(name);
    EXPECT_EQ(report->verdict, loaded ? kPlain : kUnknown) << path << "\n" << show(*report);
    plain += loaded ? 1 : 0;
  }
  EXPECT_EQ(plain, kLoaded.size());
}

TEST(ScanFixtures, RealFilesAreNotDangerous) {
  if (std::string_view(FLATBED_SHARED_DIR).empty()) GTEST_SKIP() << "no files of other projects";
  for (const char* folder : {"/models", "/fixtures"}) {
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(string(FLATBED_SHARED_DIR) + folder)) {
      if (!entry.is_regular_file()) continue;
      const Result<ScanReport> report = scan(entry.path());
      ASSERT_OK(report);
      EXPECT_NE(report->verdict, kDangerous) << entry.path() << "\n" << show(*report);
    }
  }
}

}  // namespace
}  // namespace flatbed
