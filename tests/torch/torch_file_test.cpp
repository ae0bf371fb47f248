// read_torch_zip(): the records of a file, from hand-made zips and from files that torch wrote.
#include "torch/torch_file.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/checked.hpp"
#include "io/file.hpp"
#include "support/expect_error.hpp"
#include "support/show.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed::pth {
namespace {

using test::build_zip;
using test::torch_items;
using test::torch_zip;
using test::TorchZip;
using test::ZipItem;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;

TEST(TorchZip, ReadsAStorageInPlace) {
  const string bytes = torch_zip();
  const auto file = read_zip(bytes);
  ASSERT_OK(file);
  ASSERT_EQ(file->storages.size(), 1u);
  const TorchStorage& storage = file->storages[0];
  EXPECT_EQ(bytes.substr(storage.stored_offset, storage.stored_nbytes), string(24, '\1'));
  EXPECT_EQ(storage.stored_offset % 64, 0u);
  EXPECT_FALSE(storage.deflated);
  EXPECT_TRUE(file->notes.empty());
}

TEST(TorchZip, ReadsDeflatedRecords) {
  const string data(24, '\2');
  const auto file = read_zip(
      build_zip({test::deflated_item("m/data.pkl", finish(tensor())),
                 test::deflated_item("m/data/0", data), test::deflated_item("m/version", "3\n")}));
  ASSERT_OK(file);
  EXPECT_TRUE(file->storages[0].deflated);
  EXPECT_EQ(file->storages[0].nbytes, 24u);
  EXPECT_EQ(file->storages[0].stored_nbytes, test::deflated(data).size());
}

TEST(TorchZip, DeflatedPicklesAreBounded) {
  const auto nones = [](std::size_t count) {
    return read_zip(build_zip({test::deflated_item("m/data.pkl", "(" + string(count, 'N') + "t."),
                               test::deflated_item("m/version", "3\n")}));
  };
  EXPECT_OK(nones(15'000'000));
  EXPECT_ERROR(nones(17'000'000), limit_exceeded);
}

TEST(TorchZip, ReadsAnyFolderName) {
  for (const char* folder : {"archive", "model.v1", "\xe5\x90\x8d", "A B"})
    EXPECT_OK(read_zip(torch_zip({.folder = folder})));
}

// torch takes the file's name, in the encoding of its system, and calls it UTF-8.
TEST(TorchZip, ReadsAFolderNameOfAnotherEncoding) {
  for (const string folder : {"caf\xe9", "\xc4\xa3\xd0\xcd", "\x95\x5c"}) {
    std::vector<ZipItem> items = torch_items({.folder = folder});
    for (ZipItem& item : items) item.flags |= 0x0800;
    EXPECT_OK(read_zip(build_zip(items))) << folder;
  }
  for (const string folder : {"a\\b", "\xe5\x90\x8d\\"})
    EXPECT_ERROR(read_zip(torch_zip({.folder = folder})), zip_name_refused);
}

TEST(TorchZip, RecordsHaveTheStoragesSize) {
  const auto sized = [](std::size_t nbytes) {
    return read_zip(torch_zip({.storages = {{"0", string(nbytes, 'x')}}}));
  };
  EXPECT_OK(sized(24));
  EXPECT_ERROR(sized(23), storage_size_mismatch);
  EXPECT_ERROR(sized(25), storage_size_mismatch);
  EXPECT_ERROR(sized(0), storage_size_mismatch);
  EXPECT_ERROR(read_zip(torch_zip({.storages = {}})), storage_missing);
  EXPECT_ERROR(read_zip(torch_zip({.storages = {{"1", string(24, 'x')}}})), storage_missing);
  EXPECT_ERROR(read_zip(torch_zip({.storages = {{"00", string(24, 'x')}}})), storage_missing);
}

TEST(TorchZip, AnEmptyStorageMayLackItsRecord) {
  const string empty = finish(tensor(
      {.storage = storage({.count = integer(0)}), .sizes = counts({0}), .strides = counts({1})}));
  EXPECT_OK(read_zip(torch_zip({.pickle = empty, .storages = {}})));
  EXPECT_OK(read_zip(torch_zip({.pickle = empty, .storages = {{"0", ""}}})));
}

TEST(TorchZip, VersionIsOneToTen) {
  for (const char* version : {"1", "3", "3\n", "10\n"})
    EXPECT_OK(read_zip(torch_zip({.version = version}))) << version;
  for (const char* version : {"0", "11", "99", "", "\n", "x", "3.0", "-3", " 3", "3\n\n",
                              "10000000000000000000000000000"})
    EXPECT_ERROR(read_zip(torch_zip({.version = version})), torch_version_unsupported) << version;
  EXPECT_ERROR(read_zip(torch_zip({.version = {}})), zip_record_missing);
  EXPECT_ERROR(read_zip(torch_zip({.version = string(100, '3')})), limit_exceeded);
  std::vector<ZipItem> items = torch_items({.version = {}});
  items.push_back({.name = "archive/.data/version", .data = "7\n"});
  EXPECT_OK(read_zip(build_zip(items)));
}

TEST(TorchZip, ByteOrderIsLittleOrBig) {
  EXPECT_OK(read_zip(torch_zip({.byteorder = {}})));
  const auto big = read_zip(torch_zip({.byteorder = "big"}));
  ASSERT_OK(big);
  EXPECT_EQ(big->storages[0].swap_unit, 4u);
  for (const char* order : {"", "Little", "little\n", "native"})
    EXPECT_ERROR(read_zip(torch_zip({.byteorder = order})), byteorder_unknown) << order;
}

TEST(TorchZip, AllRecordsAreInOneFolder) {
  std::vector<ZipItem> items = torch_items();
  items.push_back({.name = "__MACOSX/archive/._data.pkl", .data = "x"});
  const auto file = read_zip(build_zip(items));
  ASSERT_OK(file);
  ASSERT_EQ(file->notes.size(), 1u);
  EXPECT_EQ(file->notes[0], "ignored 1 zip entry in __MACOSX");

  items.back().name = "other/data.pkl";
  EXPECT_ERROR(read_zip(build_zip(items)), zip_prefix_refused);
  items.back().name = "top";
  EXPECT_ERROR(read_zip(build_zip(items)), zip_prefix_refused);
  items.back().name = "archiver/x";
  EXPECT_ERROR(read_zip(build_zip(items)), zip_prefix_refused);
  items.insert(items.begin(), {.name = "first/x", .data = ""});
  EXPECT_ERROR(read_zip(build_zip(items)), zip_prefix_refused)
      << "torch takes the folder of the first entry";
  EXPECT_ERROR(read_zip(build_zip(
                   {{.name = "data.pkl", .data = finish("N")}, {.name = "version", .data = "3"}})),
               zip_prefix_refused);
}

TEST(TorchZip, OtherZipsAreNamed) {
  const auto message = [](const std::vector<ZipItem>& items) {
    const auto result = read_zip(build_zip(items));
    return result ? "read"
                  : str_cat(name(result.error().code), ": ", result.error().message.substr(0, 26));
  };
  EXPECT_EQ(message({{.name = "m/model.json", .data = "{}"}, {.name = "m/tensors/0", .data = ""}}),
            "unsupported_layout: a TorchScript archive of t");
  EXPECT_EQ(message({{.name = "m/constants.pkl", .data = "x"}}),
            "unsupported_layout: a TorchScript archive with");
  EXPECT_EQ(message({{.name = "p/.data/extern_modules", .data = ""}}),
            "unsupported_layout: a torch.package archive, w");
  EXPECT_EQ(message({{.name = "m/archive_format", .data = "pt2"}}),
            "unsupported_layout: a torch.export archive (.p");
  EXPECT_EQ(message({{.name = "arr_0.npy", .data = "x"}}),
            "unsupported_layout: a NumPy .npz archive");
  EXPECT_EQ(message({{.name = "word/document.xml", .data = "x"}}),
            "unsupported_layout: a zip file that torch.save");
}

TEST(TorchZip, BytesAfterAnEndAreReported) {
  const auto after_zip = read_zip(build_zip(torch_items(), {.after = "xx"}));
  ASSERT_OK(after_zip);
  EXPECT_EQ(after_zip->notes, std::vector<string>{"ignored 2 bytes after the end of the zip"});
  const auto after_stop = read_zip(torch_zip({.pickle = finish(tensor()) + finish("N")}));
  ASSERT_OK(after_stop);
  EXPECT_EQ(after_stop->notes,
            std::vector<string>{"ignored 4 bytes after the end of data.pkl's pickle"});
}

TEST(TorchZip, MessagesNameTheRecord) {
  const auto result = read_zip(torch_zip({.pickle = "\x80\x02]K\1K\2s."}));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message,
            "'archive/data.pkl': byte 7: SETITEM: the target is a list, expected a dict");
}

TEST(TorchZip, NoPrefixAndNoFlippedBitDoesHarm) {
  const string good = torch_zip();
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(read_zip(good.substr(0, size))) << size;
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    const auto file = read_zip(bad);
    for (const TorchStorage& storage : file ? file->storages : LargeVector<TorchStorage>())
      EXPECT_TRUE(in_bounds(storage.stored_offset, storage.stored_nbytes, bad.size())) << bit;
  }
}

// Files of other projects and of torch itself, if they exist next to the checkout.
TEST(TorchZip, ReadsRealFiles) {
  const std::filesystem::path shared = FLATBED_SHARED_DIR;
  if (shared.empty() || !std::filesystem::exists(shared / "fixtures"))
    GTEST_SKIP() << "shared fixtures absent";
  int count = 0;
  for (const char* folder : {"fixtures", "models"}) {
    for (const auto& entry : std::filesystem::directory_iterator(shared / folder)) {
      const string name = entry.path().filename();
      if (entry.path().extension() == ".json" || entry.path().extension() == ".md") continue;
      const File file = File::open(entry.path()).value();
      if (test::read_file(entry.path()).substr(0, 4) != "PK\3\4") continue;  // the legacy layouts
      const auto result = read_torch_zip(file);
      ++count;
      if (name == "dtypes-torch1.13.0a0.pth") {
        EXPECT_ERROR(result, unsupported_layout) << name;
      } else {
        EXPECT_OK(result) << name;
      }
    }
  }
  EXPECT_GT(count, 40);
}

}  // namespace
}  // namespace flatbed::pth
