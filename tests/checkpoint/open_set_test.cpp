// Sharded sets: what the vectors of the specification cannot hold, which are links, directories,
// sets of PyTorch files, and what a set looks like once it is open.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "flatbed/verify.hpp"
#include "support/expect_error.hpp"
#include "support/expect_message.hpp"
#include "support/legacy_builder.hpp"
#include "support/read_checkpoint.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
namespace pickle = test::pickle;
using test::bytes_of;
using test::expect_error;
using test::names_of;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

constexpr const char* kFirst = "m-00001-of-00002.safetensors";
constexpr const char* kSecond = "m-00002-of-00002.safetensors";
constexpr const char* kIndex = "m.safetensors.index.json";

// Saves U8 tensors whose bytes are their names; returns the content digest.
std::string save_shard(const fs::path& path, const Names& names) {
  SavePlan plan;
  for (const std::string& name : names)
    plan.items.push_back({name, Dtype::u8, {name.size()}, as_bytes(name)});
  return save(path, plan, {.sync = false}).value().content;
}

// The text of an index: tensor, file, tensor, file...
std::string index_of(const Names& pairs, std::string_view metadata = "{}") {
  std::string map;
  for (std::size_t i = 0; i < pairs.size(); i += 2)
    map += str_cat(i == 0 ? "" : ",", "\"", pairs[i], "\":\"", pairs[i + 1], "\"");
  return str_cat("{\"metadata\":", metadata, ",\"weight_map\":{", map, "}}");
}

// Two shards: "b" and "c", then "a".
void write_set(const TempDir& dir) {
  save_shard(dir / kFirst, {"b", "c"});
  save_shard(dir / kSecond, {"a"});
  write_file(dir / kIndex, index_of({"a", kSecond, "b", kFirst, "c", kFirst}));
}

TEST(OpenSet, HasTheTensorsOfItsFilesInOrder) {
  const TempDir dir;
  write_set(dir);
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(names_of(*set), (Names{"b", "c", "a"}));
  ASSERT_EQ(set->files().size(), 2u);
  EXPECT_EQ(set->files()[0].path, dir / kFirst);
  EXPECT_EQ(set->find("a")->where.file, 1u);
  EXPECT_EQ(set->seal(), SealState::sealed);
  EXPECT_EQ(set->layout(), Layout::safetensors);
  for (const std::string name : {"a", "b", "c"}) EXPECT_EQ(bytes_of(*set, name), name);
}

TEST(OpenSet, ViewsAndVerifiesEveryFile) {
  const TempDir dir;
  write_set(dir);
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  for (const TensorInfo& tensor : set->tensors())
    EXPECT_EQ(as_text(set->view(tensor)->bytes), tensor.name);
  const auto report = verify(*set);
  ASSERT_OK(report);
  EXPECT_EQ(report->chunks_checked, 3u);
  EXPECT_TRUE(report->damaged.empty());
}

TEST(OpenSet, CountsStoragesThroughAllFiles) {
  const TempDir dir;
  write_set(dir);
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_NE(set->find("a")->storage, set->find("b")->storage);
  EXPECT_NE(set->find("a")->storage, set->find("c")->storage);
}

TEST(OpenSet, TakesTheDirectoryOfTheIndex) {
  const TempDir dir;
  write_set(dir);
  const auto set = Checkpoint::open(dir.path());
  ASSERT_OK(set);
  EXPECT_EQ(set->tensors().size(), 3u);
}

TEST(OpenSet, TakesTheOnlyFileOfADirectory) {
  const TempDir dir;
  save_shard(dir / "model.safetensors", {"x"});
  write_file(dir / ".hidden.safetensors", "not read");
  write_file(dir / "config.json", "{}");
  const auto opened = Checkpoint::open(dir.path());
  ASSERT_OK(opened);
  EXPECT_EQ(names_of(*opened), Names{"x"});
}

TEST(OpenSet, RefusesADirectoryWithTwoOrNone) {
  const TempDir dir;
  EXPECT_ERROR(Checkpoint::open(dir.path()), index_ambiguous);
  save_shard(dir / "a.safetensors", {"x"});
  EXPECT_OK(Checkpoint::open(dir.path()));
  save_shard(dir / "b.safetensors", {"x"});
  const auto two = Checkpoint::open(dir.path());
  EXPECT_ERROR(two, index_ambiguous);
  EXPECT_NE(two.error().message.find("found 2 models, expected one: 'a.safetensors', 'b.safetens"),
            std::string::npos)
      << two.error().message;
}

TEST(OpenSet, ReadsFilesBelowItsFolder) {
  const TempDir dir;
  fs::create_directories(dir / "part/two");
  save_shard(dir / kFirst, {"b"});
  save_shard(dir / "part/two/a.safetensors", {"a"});
  write_file(dir / kIndex, index_of({"a", "./part/two/a.safetensors", "b", kFirst}));
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(bytes_of(*set, "a"), "a");
  EXPECT_EQ(set->files()[1].path, dir / "part/two/a.safetensors");
}

TEST(OpenSet, TakesTwoSpellingsOfAFileAsOne) {
  const TempDir dir;
  save_shard(dir / kFirst, {"a", "b"});
  write_file(dir / kIndex, index_of({"a", kFirst, "b", str_cat("./", kFirst)}));
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(set->files().size(), 1u);
  EXPECT_EQ(set->tensors().size(), 2u);
}

TEST(OpenSet, RefusesLinkedFoldersWhereLinksAreForbidden) {
  const TempDir dir;
  fs::create_directories(dir / "real");
  save_shard(dir / "real/a.safetensors", {"a"});
  fs::create_directory_symlink("real", dir / "part");
  write_file(dir / kIndex, index_of({"a", "part/a.safetensors"}));
  EXPECT_OK(Checkpoint::open(dir / kIndex));
  EXPECT_ERROR(Checkpoint::open(dir / kIndex, {.follow_links = false}), shard_link_refused);
}

TEST(OpenSet, RefusesLinkedFoldersAtAnyDepthWhereLinksAreForbidden) {
  const TempDir dir;
  fs::create_directories(dir / "a/b/c");
  save_shard(dir / "a/b/c/t.safetensors", {"t"});
  write_file(dir / kIndex, index_of({"t", "a/b/c/t.safetensors"}));
  EXPECT_OK(Checkpoint::open(dir / kIndex, {.follow_links = false}));
  fs::rename(dir / "a/b", dir / "a/real");
  fs::create_directory_symlink("real", dir / "a/b");
  const auto refused = Checkpoint::open(dir / kIndex, {.follow_links = false});
  EXPECT_ERROR(refused, shard_link_refused);
  EXPECT_NE(refused.error().message.find((dir / "a/b").native() + "'"), std::string::npos)
      << refused.error().message;
  write_file(dir / kIndex, index_of({"t", "a/nothing/t.safetensors"}));
  EXPECT_ERROR(Checkpoint::open(dir / kIndex, {.follow_links = false}), shard_missing);
  write_file(dir / kIndex, index_of({"t", "m.safetensors.index.json/t.safetensors"}));
  EXPECT_ERROR(Checkpoint::open(dir / kIndex, {.follow_links = false}), shard_missing);
}

TEST(OpenSet, MayLieInALinkedFolderWhereLinksAreForbidden) {
  const TempDir dir;
  fs::create_directories(dir / "real");
  save_shard(dir / "real/a.safetensors", {"a"});
  write_file(dir / "real" / kIndex, index_of({"a", "a.safetensors"}));
  fs::create_directory_symlink("real", dir / "link");
  EXPECT_OK(Checkpoint::open(dir / "link" / kIndex, {.follow_links = false}));
}

TEST(OpenSet, WithATensorThatIsMissingOpensAndRefusesThatTensor) {
  const TempDir dir;
  save_shard(dir / kFirst, {"a"});
  write_file(dir / kIndex, index_of({"a", kFirst, "x", kFirst, "y", kFirst}));
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(bytes_of(*set, "a"), "a");
  EXPECT_ERROR(set->tensor("x"), shard_tensor_missing);
  EXPECT_ERROR(set->tensor("z"), tensor_not_found);
  ASSERT_EQ(set->notes().size(), 1u);
  EXPECT_EQ(set->notes()[0], str_cat("the index lists 2 tensors in '", kFirst,
                                     "' that the file does not have: first 'x'"));
}

TEST(OpenSet, ReadsAnIndexOfAVariant) {
  const TempDir dir;
  save_shard(dir / "m.fp16-00001-of-00001.safetensors", {"a"});
  write_file(dir / "m.safetensors.index.fp16.json",
             index_of({"a", "m.fp16-00001-of-00001.safetensors"}, "null"));
  EXPECT_OK(Checkpoint::open(dir / "m.safetensors.index.fp16.json"));
  EXPECT_OK(Checkpoint::open(dir.path()));
}

TEST(OpenSet, NotesTensorsThatTheIndexDoesNotList) {
  const TempDir dir;
  write_set(dir);
  write_file(dir / kIndex, index_of({"a", kSecond, "c", kFirst}));
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(names_of(*set), (Names{"c", "a"}));
  EXPECT_EQ(bytes_of(*set, "c"), "c");
  ASSERT_EQ(set->notes().size(), 1u);
  EXPECT_EQ(set->notes()[0],
            str_cat("'", kFirst, "': ignored 1 tensor that the index does not list"));
}

TEST(OpenSet, TakesATensorFromTheFileThatTheIndexNames) {
  const TempDir dir;
  save_shard(dir / kFirst, {"a", "b"});
  save_shard(dir / kSecond, {"a"});
  write_file(dir / kIndex, index_of({"a", kSecond, "b", kFirst}));
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(set->find("a")->where.file, 1u);
}

TEST(OpenSet, FollowsLinksUnlessItMayNot) {
  const TempDir dir;
  write_set(dir);
  fs::create_directory(dir / "blobs");
  fs::rename(dir / kSecond, dir / "blobs/0a1b");
  fs::create_symlink("blobs/0a1b", dir / kSecond);
  const auto followed = Checkpoint::open(dir / kIndex);
  ASSERT_OK(followed);
  EXPECT_EQ(bytes_of(*followed, "a"), "a");
  const auto refused = Checkpoint::open(dir / kIndex, {.follow_links = false});
  EXPECT_ERROR(refused, shard_link_refused);
  EXPECT_NE(refused.error().message.find(kSecond), std::string::npos);
}

TEST(OpenSet, WithoutLinksOpensWhenLinksAreForbidden) {
  const TempDir dir;
  write_set(dir);
  EXPECT_OK(Checkpoint::open(dir / kIndex, {.follow_links = false}));
}

TEST(OpenSet, RefusesLinksToNothingToADirectoryAndToThemselves) {
  const TempDir dir;
  write_set(dir);
  fs::remove(dir / kSecond);
  fs::create_symlink("nothing", dir / kSecond);
  EXPECT_ERROR(Checkpoint::open(dir / kIndex), shard_missing);
  fs::remove(dir / kSecond);
  fs::create_directory_symlink(".", dir / kSecond);
  EXPECT_ERROR(Checkpoint::open(dir / kIndex), not_a_regular_file);
  fs::remove(dir / kSecond);
  fs::create_symlink(kSecond, dir / kSecond);
  EXPECT_ERROR(Checkpoint::open(dir / kIndex), not_a_regular_file);
}

TEST(OpenSet, ChecksTheContentsThatTheIndexRecords) {
  const TempDir dir;
  const std::string first = save_shard(dir / kFirst, {"b"});
  const std::string second = save_shard(dir / kSecond, {"a"});
  const Names map = {"a", kSecond, "b", kFirst};
  const auto recorded = [&](std::string_view value) {
    write_file(dir / kIndex, index_of(map, str_cat("{\"flatbed.shards\":\"", value, "\"}")));
    return Checkpoint::open(dir / kIndex);
  };
  EXPECT_OK(recorded("1/" + first + second));
  EXPECT_ERROR(recorded("1/" + second + first), shard_mixed_set);
  EXPECT_ERROR(recorded("1/" + first), shard_mixed_set);
  EXPECT_ERROR(recorded("1/"), shard_mixed_set);
  const auto newer = recorded("2/whatever");
  ASSERT_OK(newer);
  EXPECT_EQ(newer->notes().size(), 1u);
}

TEST(OpenSet, TakesTheContentsOfAtMost6000Files) {
  const TempDir dir;
  const std::string content = save_shard(dir / kFirst, {"w"});
  Names map{"w", kFirst};
  std::string contents = content;
  const auto add_link = [&](int number) {
    const std::string name = str_cat(number, ".safetensors");
    fs::create_symlink(kFirst, dir / name);
    map.insert(map.end(), {str_cat("w", number), name});
    contents += content;
  };
  const auto recorded = [&] {
    write_file(dir / kIndex, index_of(map, str_cat("{\"flatbed.shards\":\"1/", contents, "\"}")));
    return Checkpoint::open(dir / kIndex);
  };
  for (int number = 2; number <= 6'000; ++number) add_link(number);
  EXPECT_OK(recorded());
  add_link(6'001);
  expect_error(recorded(), ErrorCode::shard_mixed_set,
               "flatbed.shards of too many files: found 6001, the limit is 6000");
}

TEST(OpenSet, NamesTheFileThatIsNotOfTheSet) {
  const TempDir dir;
  const std::string first = save_shard(dir / kFirst, {"b"});
  const std::string second = save_shard(dir / kSecond, {"a"});
  write_file(dir / kIndex, index_of({"a", kSecond, "b", kFirst},
                                    str_cat("{\"flatbed.shards\":\"1/", first, second, "\"}")));
  EXPECT_OK(Checkpoint::open(dir / kIndex));
  save_shard(dir / kSecond, {"a", "extra"});
  const auto mixed = Checkpoint::open(dir / kIndex);
  EXPECT_ERROR(mixed, shard_mixed_set);
  EXPECT_NE(mixed.error().message.find(kSecond), std::string::npos);
  EXPECT_OK(Checkpoint::open(dir / kIndex, {.check_seal = CheckSeal::off}));
}

TEST(OpenSet, IsSealedOnlyIfEveryShardIs) {
  const TempDir dir;
  write_set(dir);
  SavePlan plan;
  plan.items.push_back({"a", Dtype::u8, {1}, as_bytes("a")});
  ASSERT_OK(save(dir / kSecond, plan, {.seal = false, .sync = false}));
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(set->seal(), SealState::unsealed);
  EXPECT_EQ(set->files()[0].seal, SealState::sealed);
  EXPECT_ERROR(Checkpoint::open(dir / kIndex, {.check_seal = CheckSeal::required}), not_sealed);
}

TEST(OpenSet, NamesTheShardThatIsBroken) {
  const TempDir dir;
  write_set(dir);
  write_file(dir / kSecond, "\2\0\0\0\0\0\0\0{}");
  const auto set = Checkpoint::open(dir / kIndex);
  EXPECT_FALSE(set);
  EXPECT_NE(set.error().message.find(str_cat(kIndex, ": ", kSecond)), std::string::npos)
      << set.error().message;
}

TEST(OpenSet, MakesUpATreeOfAllItsTensors) {
  const TempDir dir;
  write_set(dir);
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_FALSE(set->has_tree());
  const Value root = set->tree().value();
  ASSERT_EQ(root.size(), 3u);
  EXPECT_EQ(root.at("a")->tensor(), set->find("a")->index);
}

TEST(OpenSet, CanBeSelectedFrom) {
  const TempDir dir;
  write_set(dir);
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  const auto selected = set->select({.path = {}, .include = {"[ac]"}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), (Names{"c", "a"}));
  EXPECT_EQ(bytes_of(*selected, "a"), "a");
  EXPECT_EQ(bytes_of(*selected, "c"), "c");
}

TEST(OpenSet, FindsManyTensorsOfManyFiles) {
  const TempDir dir;
  Names map;
  for (int file = 0; file < 30; ++file) {
    const std::string shard = str_cat("s", file, ".safetensors");
    Names names;
    for (int i = 0; i < 20; ++i) names.push_back(str_cat("t", i, ".", file));
    for (const std::string& name : names) map.insert(map.end(), {name, shard});
    save_shard(dir / shard, names);
  }
  write_file(dir / kIndex, index_of(map));
  const auto set = Checkpoint::open(dir / kIndex);
  ASSERT_OK(set);
  EXPECT_EQ(set->tensors().size(), 600u);
  EXPECT_EQ(bytes_of(*set, "t19.29"), "t19.29");
}

TEST(OpenSet, WithoutAnIndexListsFilesInTheOrderOfTheirNames) {
  const TempDir dir;
  for (int i = 1; i <= 10; ++i)
    save_shard(dir / str_cat("m-", i, "-of-10.safetensors"), {str_cat("t", i)});
  const auto set = Checkpoint::open(dir.path());
  ASSERT_OK(set);
  EXPECT_EQ(names_of(*set), (Names{"t1", "t10", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"}));
}

TEST(OpenSet, OfTooManyFilesIsRefusedBeforeAnyIsOpened) {
  EXPECT_ERROR(Checkpoint::open_shards(std::vector<fs::path>(10'001, "nothing")), limit_exceeded);
  EXPECT_ERROR(Checkpoint::open_shards(std::vector<fs::path>(10'000, "nothing")), file_not_found);
}

// A dict of these names, each FloatStorage "0" as a whole: the later ones are the first one again.
std::string torch_shard(const Names& names, char fill) {
  Names pairs;
  for (const std::string& name : names) {
    pairs.push_back(pickle::text(name));
    pairs.push_back(pickle::tensor());
  }
  return test::torch_zip(
      {.pickle = pickle::finish(pickle::dict(pairs)), .storages = {{"0", std::string(24, fill)}}});
}

constexpr const char* kBinIndex = "pytorch_model.bin.index.json";

TEST(OpenSetOfTorchFiles, ReadsTensorsAndAliases) {
  const TempDir dir;
  write_file(dir / "m1.bin", torch_shard({"embed", "head"}, 'x'));
  write_file(dir / "m2.bin", torch_shard({"norm"}, 'y'));
  write_file(dir / kBinIndex, index_of({"embed", "m1.bin", "head", "m1.bin", "norm", "m2.bin"}));
  const auto set = Checkpoint::open(dir.path());
  ASSERT_OK(set);
  EXPECT_EQ(set->layout(), Layout::torch_zip);
  EXPECT_EQ(names_of(*set), (Names{"embed", "norm"}));
  EXPECT_EQ(set->find("head"), set->find("embed"));
  EXPECT_EQ(bytes_of(*set, "head"), std::string(24, 'x'));
  EXPECT_EQ(bytes_of(*set, "norm"), std::string(24, 'y'));
  EXPECT_NE(set->find("embed")->storage, set->find("norm")->storage);
}

// Shards of different ages, each with keys and held bytes of its own.
TEST(OpenSetOfTorchFiles, ReadsShardsOfEveryLayout) {
  const TempDir dir;
  write_file(dir / "m1.bin",
             test::legacy_stream({.object = pickle::finish(
                                      pickle::dict({pickle::text("a"), test::legacy_tensor()}))}));
  write_file(dir / "m2.bin", torch_shard({"b"}, 'y'));
  write_file(dir / "m3.bin", test::torch_tar());
  const std::string storage =
      test::load_from_bytes(test::nested_storage({.data = std::string(24, 'z')}));
  write_file(
      dir / "m4.bin",
      pickle::finish(pickle::dict({pickle::text("d"), pickle::tensor({.storage = storage})})));
  write_file(dir / kBinIndex,
             index_of({"a", "m1.bin", "b", "m2.bin", "tensor", "m3.bin", "d", "m4.bin"}));
  const auto set = Checkpoint::open(dir.path());
  ASSERT_OK(set);
  EXPECT_EQ(set->layout(), Layout::torch_legacy);
  EXPECT_EQ(names_of(*set), (Names{"a", "b", "tensor", "d"}));
  EXPECT_EQ(bytes_of(*set, "a"), std::string(24, '\1'));
  EXPECT_EQ(bytes_of(*set, "b"), std::string(24, 'y'));
  EXPECT_EQ(bytes_of(*set, "tensor"), std::string(24, '\1'));
  EXPECT_EQ(bytes_of(*set, "d"), std::string(24, 'z'));
}

TEST(OpenSetOfTorchFiles, NeverOpensPicklesFromASafetensorsIndex) {
  const TempDir dir;
  write_file(dir / "m1.bin", torch_shard({"a"}, 'x'));
  write_file(dir / kIndex, index_of({"a", "m1.bin"}));
  EXPECT_ERROR(Checkpoint::open(dir / kIndex), shard_name_refused);
  fs::rename(dir / "m1.bin", dir / kFirst);
  write_file(dir / kIndex, index_of({"a", kFirst}));
  EXPECT_ERROR(Checkpoint::open(dir / kIndex), unsupported_format);
}

TEST(OpenSetOfTorchFiles, NeverOpensAnotherFormatFromABinIndex) {
  const TempDir dir;
  save_shard(dir / "m1.bin", {"a"});
  write_file(dir / kBinIndex, index_of({"a", "m1.bin"}));
  EXPECT_ERROR(Checkpoint::open(dir / kBinIndex), unsupported_format);
}

TEST(OpenSetOfTorchFiles, IsNotMixedWithSafetensorsWithoutAnIndex) {
  const TempDir dir;
  write_file(dir / kFirst, torch_shard({"a"}, 'x'));
  save_shard(dir / kSecond, {"b"});
  const auto mixed = Checkpoint::open(dir.path());
  EXPECT_ERROR(mixed, unsupported_format);
  EXPECT_NE(mixed.error().message.find(kFirst), std::string::npos) << mixed.error().message;
  EXPECT_OK(Checkpoint::open_shards(std::vector{dir / kFirst, dir / kSecond}));
  save_shard(dir / kFirst, {"a"});
  EXPECT_OK(Checkpoint::open(dir.path()));
}

TEST(OpenSetOfTorchFiles, WithoutAnIndexHasPicklesOnly) {
  const TempDir dir;
  write_file(dir / "m-1-of-2.bin", torch_shard({"a"}, 'x'));
  write_file(dir / "m-2-of-2.bin", torch_shard({"b"}, 'y'));
  EXPECT_OK(Checkpoint::open(dir.path()));
  save_shard(dir / "m-2-of-2.bin", {"b"});
  EXPECT_ERROR(Checkpoint::open(dir.path()), unsupported_format);
}

TEST(OpenSetOfTorchFiles, HasNoSeal) {
  const TempDir dir;
  write_file(dir / "m1.bin", torch_shard({"a"}, 'x'));
  write_file(dir / kBinIndex, index_of({"a", "m1.bin"}));
  const auto set = Checkpoint::open(dir / kBinIndex);
  ASSERT_OK(set);
  EXPECT_EQ(set->seal(), SealState::unsealed);
  EXPECT_ERROR(Checkpoint::open(dir / kBinIndex, {.check_seal = CheckSeal::required}), not_sealed);
}

// The index need not list the first name of a shared tensor.
TEST(OpenSetOfTorchFiles, ReadsATensorThatIsListedByItsAliasesAlone) {
  const TempDir dir;
  write_file(dir / "m1.bin", torch_shard({"embed", "head", "tail"}, 'x'));
  write_file(dir / kBinIndex, index_of({"tail", "m1.bin", "head", "m1.bin"}));
  const auto set = Checkpoint::open(dir / kBinIndex);
  ASSERT_OK(set);
  EXPECT_EQ(names_of(*set), Names{"head"});
  EXPECT_EQ(set->find("tail"), set->find("head"));
  EXPECT_EQ(set->find("embed"), nullptr);
  EXPECT_EQ(bytes_of(*set, "tail"), std::string(24, 'x'));
}

// Cut anywhere, an index is no index.
TEST(OpenSet, RefusesEveryPrefixOfItsIndex) {
  const TempDir dir;
  write_set(dir);
  const std::string text = test::read_file(dir / kIndex);
  ASSERT_OK(Checkpoint::open(dir / kIndex));
  for (std::size_t size = text.size(); size-- > 0;) {
    fs::resize_file(dir / kIndex, size);
    EXPECT_FALSE(Checkpoint::open(dir / kIndex)) << size;
  }
}

}  // namespace
}  // namespace flatbed
