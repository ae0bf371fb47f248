// Checkpoint::open() of a SourceFolder: sets, sidecars and the choice among names, in a folder of
// memory that can fail.
#include "flatbed/source_folder.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "flatbed/scan.hpp"
#include "support/expect_error.hpp"
#include "support/expect_message.hpp"
#include "support/meeting.hpp"
#include "support/memory_folder.hpp"
#include "support/read_checkpoint.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::bytes_of;
using test::expect_error;
using test::MemoryFolder;
using test::names_of;
using test::read_file;
using test::TempDir;
using Names = std::vector<std::string>;

constexpr const char* kFirst = "m-00001-of-00002.safetensors";
constexpr const char* kSecond = "m-00002-of-00002.safetensors";
constexpr const char* kIndex = "m.safetensors.index.json";

// A sealed file of U8 tensors whose bytes are their names.
std::string shard_of(const Names& names) {
  const TempDir dir;
  SavePlan plan;
  for (const std::string& name : names)
    plan.items.push_back({name, Dtype::u8, {name.size()}, as_bytes(name)});
  static_cast<void>(save(dir / "a.safetensors", plan, {.sync = false}).value());
  return read_file(dir / "a.safetensors");
}

std::shared_ptr<MemoryFolder> set_folder() {
  auto folder = std::make_shared<MemoryFolder>();
  folder->files[kFirst] = shard_of({"b", "c"});
  folder->files[kSecond] = shard_of({"a"});
  folder->files[kIndex] = str_cat(R"({"weight_map":{"a":")", kSecond, R"(","b":")", kFirst,
                                  R"(","c":")", kFirst, R"("}})");
  return folder;
}

TEST(SourceFolder, OpensTheSetOfAnIndex) {
  const auto folder = set_folder();
  const auto set = Checkpoint::open(folder, kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(names_of(*set), (Names{"b", "c", "a"}));
  ASSERT_EQ(set->files().size(), 2u);
  EXPECT_EQ(set->files()[0].path, str_cat("mem://m/", kFirst));
  EXPECT_EQ(set->seal(), SealState::sealed);
  for (const std::string name : {"a", "b", "c"}) EXPECT_EQ(bytes_of(*set, name), name);
  EXPECT_EQ(folder->opens(), 3);  // sealed files need no sidecar
}

TEST(SourceFolder, OpensASetBelowIt) {
  const auto folder = std::make_shared<MemoryFolder>();
  const auto flat = set_folder();
  for (const auto& [name, bytes] : flat->files) folder->files["sub/" + name] = bytes;
  const auto set = Checkpoint::open(folder, str_cat("sub/", kIndex));
  ASSERT_OK(set);
  EXPECT_EQ(bytes_of(*set, "a"), "a");
}

TEST(SourceFolder, ChoosesAmongItsNames) {
  const auto folder = set_folder();
  ASSERT_OK(Checkpoint::open(folder));
  folder->files.erase(kIndex);
  const auto shards = Checkpoint::open(folder);  // a complete set without an index
  ASSERT_OK(shards);
  EXPECT_EQ(names_of(*shards), (Names{"b", "c", "a"}));
  folder->files.erase(kFirst);
  expect_error(Checkpoint::open(folder), ErrorCode::shard_missing, "'mem://m/': there is no index");
  folder->files.clear();
  expect_error(Checkpoint::open(folder), ErrorCode::index_ambiguous, "'mem://m/' holds no model");
  folder->listed = false;
  expect_error(Checkpoint::open(folder), ErrorCode::unsupported_filesystem, "cannot be listed");
}

TEST(SourceFolder, FindsASidecar) {
  const TempDir dir;
  const std::string plain("\x40\0\0\0\0\0\0\0", 8);
  const std::string header = R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  const auto folder = std::make_shared<MemoryFolder>();
  const std::string file = str_cat(plain, header, std::string(64 - header.size(), ' '), "data");
  test::write_file(dir / "a.safetensors", file);
  ASSERT_OK(save_sidecar(dir / "a.safetensors"));
  folder->files["a.safetensors"] = file;
  const auto bare = Checkpoint::open(folder, "a.safetensors");
  ASSERT_OK(bare);
  EXPECT_EQ(bare->seal(), SealState::unsealed);
  folder->files["a.safetensors.flatbed.json"] = read_file(dir / "a.safetensors.flatbed.json");
  const auto sealed = Checkpoint::open(folder, "a.safetensors");
  ASSERT_OK(sealed);
  EXPECT_TRUE(sealed->files()[0].sidecar);
  EXPECT_EQ(sealed->seal(), SealState::sealed);
  // Servers that may not list what they have say so of what is not there, too.
  folder->errors["a.safetensors.flatbed.json"] = Error{ErrorCode::permission_denied, "no"};
  const auto hidden = Checkpoint::open(folder, "a.safetensors");
  ASSERT_OK(hidden);
  EXPECT_EQ(hidden->seal(), SealState::unsealed);
  ASSERT_EQ(hidden->notes().size(), 1u);
  // It is not known whether there is one.
  folder->errors["a.safetensors.flatbed.json"] = Error{ErrorCode::io_error, "the network is gone"};
  EXPECT_FALSE(Checkpoint::open(folder, "a.safetensors"));
}

TEST(SourceFolder, NamesAMissingShard) {
  const auto folder = set_folder();
  folder->files.erase(kSecond);
  expect_error(Checkpoint::open(folder, kIndex), ErrorCode::shard_missing, kSecond);
}

TEST(SourceFolder, NamesTheFirstOfSeveralFailingShards) {
  for (int i = 0; i < 20; ++i) {
    const auto folder = set_folder();
    folder->errors.emplace(kFirst, Error{ErrorCode::io_error, "first"});
    folder->errors.emplace(kSecond, Error{ErrorCode::timed_out, "second"});
    EXPECT_ERROR(Checkpoint::open(folder, kIndex), io_error);
  }
}

TEST(SourceFolder, RefusesNamesThatLeaveIt) {
  const auto folder = set_folder();
  for (const std::string name : {"../a.safetensors", "/a.safetensors", "http://x/a.safetensors"}) {
    folder->files[kIndex] = str_cat(R"({"weight_map":{"a":")", name, R"("}})");
    EXPECT_ERROR(Checkpoint::open(folder, kIndex), shard_name_refused);
  }
}

TEST(SourceFolder, RefusesContentThatDoesNotFitItsName) {
  const auto folder = set_folder();
  folder->files[kSecond] = folder->files[kIndex];
  EXPECT_ERROR(Checkpoint::open(folder, kIndex), unsupported_format);
}

TEST(SourceFolder, NoticesAFolderThatGivesNothing) {
  EXPECT_ERROR(Checkpoint::open(std::shared_ptr<const SourceFolder>()), invalid_argument);
  const auto folder = set_folder();
  folder->gives_nothing = true;
  EXPECT_ERROR(Checkpoint::open(folder, kIndex), invalid_argument);
}

TEST(SourceFolder, OpensItsShardsAtOnce) {
  const auto folder = std::make_shared<MemoryFolder>();
  std::string map;
  for (int i = 0; i < 64; ++i) {
    const std::string name = str_cat("w", i);
    folder->files[name + ".safetensors"] = shard_of({name});
    map += str_cat(i == 0 ? "" : ",", "\"", name, "\":\"", name, ".safetensors\"");
  }
  folder->files[kIndex] = str_cat(R"({"weight_map":{)", map, "}}");
  folder->meeting = std::make_shared<test::Meeting>(4);
  const auto set = Checkpoint::open(folder, kIndex);
  ASSERT_OK(set);
  EXPECT_TRUE(folder->meeting->took_place());
  EXPECT_EQ(set->tensors().size(), 64u);
  EXPECT_EQ(bytes_of(*set, "w63"), "w63");
}

TEST(SourceFolder, IsScannedWithWhatAnIndexNames) {
  const auto folder = std::make_shared<MemoryFolder>();
  folder->files["m/pytorch_model.bin.index.json"] =
      R"({"weight_map":{"a":"a.bin","b":"../b.bin"}})";
  folder->files["m/a.bin"] = "cos\nsystem\n(S'true'\ntR.";
  const auto report = scan(*folder, "m/pytorch_model.bin.index.json");
  ASSERT_OK(report);
  EXPECT_EQ(report->verdict, ScanVerdict::dangerous);
  ASSERT_EQ(report->files.size(), 2u);
  EXPECT_EQ(report->files[0].verdict, ScanVerdict::unknown);  // outside
  EXPECT_FALSE(report->files[0].scanned);
  EXPECT_EQ(report->files[1].path, "mem://m/m/a.bin");
  EXPECT_EQ(report->files[1].verdict, ScanVerdict::dangerous);
  folder->files.erase("m/a.bin");
  EXPECT_ERROR(scan(*folder, "m/pytorch_model.bin.index.json"), shard_missing);
  EXPECT_ERROR(scan(*folder, "none"), file_not_found);
  folder->files["m/a.bin"] = "cos\nsystem\n(S'true'\ntR.";
  const auto all = scan(*folder, "");
  ASSERT_OK(all);
  EXPECT_EQ(all->verdict, ScanVerdict::dangerous);
}

}  // namespace
}  // namespace flatbed
