// make_plan(): what of a checkpoint goes into its own file, and what is refused.
#include "flatbed/save_plan.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace pickle = test::pickle;
using test::le;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

// An unsealed file as other programs write it: tensors "b" and "a", the alias "tied.a" of "a", and
// metadata.
Checkpoint foreign(const TempDir& dir) {
  const std::string header = R"({"__metadata__":{"tied.a":"a","format":"pt","note":"x"},)"
                             R"("a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},)"
                             R"("b":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]}})";
  write_file(dir / "a", le(header.size(), 8) + header + "bAA");
  return Checkpoint::open(dir / "a").value();
}

// One tensor of these sizes and strides over 24 stored bytes.
Checkpoint torch_view(const TempDir& dir, const std::string& sizes, const std::string& strides) {
  write_file(dir / "a.pth",
             test::torch_zip(
                 {.pickle = pickle::finish(pickle::tensor({.sizes = sizes, .strides = strides}))}));
  return Checkpoint::open(dir / "a.pth").value();
}

Names names_of(const SavePlan& plan) {
  Names out;
  for (const SaveItem& item : plan.items) out.push_back(item.name);
  return out;
}

TEST(MakePlan, TakesTensorsInTheOrderOfTheSource) {
  const TempDir dir;
  const auto plan = make_plan(foreign(dir));
  ASSERT_OK(plan);
  EXPECT_EQ(names_of(*plan), (Names{"b", "a"}));
  EXPECT_EQ(plan->items[1].dtype, Dtype::u8);
  EXPECT_EQ(plan->items[1].shape, std::vector<std::uint64_t>{2});
  EXPECT_EQ(std::get<TensorRef>(plan->items[1].from).tensor, 1u);
}

TEST(MakePlan, RecordsNoStructureThatTheSourceDidNotRecord) {
  const TempDir dir;
  EXPECT_EQ(make_plan(foreign(dir))->tree.size(), 0u);
}

TEST(MakePlan, CopiesTheMetadataOfTheWholeFile) {
  const TempDir dir;
  EXPECT_EQ(make_plan(foreign(dir))->metadata,
            (Pairs{{"tied.a", "a"}, {"format", "pt"}, {"note", "x"}}));
}

TEST(MakePlan, CopiesOnlyTheFormatOfASelection) {
  const TempDir dir;
  const auto selected = foreign(dir).select({.path = {}, .include = {"a"}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(make_plan(*selected)->metadata, (Pairs{{"format", "pt"}}));
}

TEST(MakePlan, NeverCopiesASeal) {
  const TempDir dir;
  static_cast<void>(save(dir / "sealed", *make_plan(foreign(dir)), {.sync = false}).value());
  const auto sealed = Checkpoint::open(dir / "sealed");
  ASSERT_OK(sealed);
  ASSERT_EQ(sealed->seal(), SealState::sealed);
  const auto plan = make_plan(*sealed);
  ASSERT_OK(plan);
  for (const auto& [key, value] : plan->metadata) EXPECT_FALSE(key.starts_with("flatbed")) << key;
  ASSERT_EQ(plan->aliases.size(), 1u);
  EXPECT_EQ(plan->aliases[0].name, "tied.a");
}

TEST(MakePlan, KeepsAliasesAsAliases) {
  const TempDir dir;
  const auto plan = make_plan(foreign(dir));
  ASSERT_OK(plan);
  ASSERT_EQ(plan->aliases.size(), 1u);
  EXPECT_EQ(plan->aliases[0].name, "tied.a");
  EXPECT_EQ(plan->aliases[0].target, "a");
}

TEST(MakePlan, ExpandsAliasesIntoTensors) {
  const TempDir dir;
  const auto plan = make_plan(foreign(dir), {.expand_aliases = true});
  ASSERT_OK(plan);
  EXPECT_TRUE(plan->aliases.empty());
  EXPECT_EQ(names_of(*plan), (Names{"b", "a", "tied.a"}));
  EXPECT_EQ(std::get<TensorRef>(plan->items[2].from).tensor, 1u);
}

// L9: a tensor was added.
TEST(MakePlan, CopiesOnlyTheFormatWhenAliasesBecameTensors) {
  const TempDir dir;
  EXPECT_EQ(make_plan(foreign(dir), {.expand_aliases = true})->metadata, (Pairs{{"format", "pt"}}));
}

TEST(MakePlan, CarriesTheTreeOfATorchFile) {
  const TempDir dir;
  const auto plan = make_plan(torch_view(dir, pickle::counts({2, 3}), pickle::counts({3, 1})));
  ASSERT_OK(plan);
  EXPECT_EQ(names_of(*plan), Names{"tensor"});
  EXPECT_EQ(plan->tree.root().kind(), Kind::tensor);
  EXPECT_EQ(plan->tree.root().tensor(), 0u);
}

TEST(MakePlan, RefusesOutputsFarLargerThanTheirSource) {
  const TempDir dir;
  const auto bomb =
      make_plan(torch_view(dir, pickle::counts({1 << 30, 1}), pickle::counts({0, 1})));
  EXPECT_ERROR(bomb, expansion_refused);
  EXPECT_NE(bomb.error().message.find("4294967296 bytes"), std::string::npos);
}

TEST(MakePlan, ExpandsWhereItIsAllowed) {
  const TempDir dir;
  const Checkpoint bomb = torch_view(dir, pickle::counts({1 << 30, 1}), pickle::counts({0, 1}));
  EXPECT_OK(make_plan(bomb, {.allow_expansion = true}));
}

TEST(MakePlan, ExpandsWhatStaysBelowAGibibyte) {
  const TempDir dir;
  EXPECT_OK(make_plan(torch_view(dir, pickle::counts({1 << 28}), pickle::counts({0}))));
  EXPECT_ERROR(make_plan(torch_view(dir, pickle::counts({(1 << 28) + 1}), pickle::counts({0}))),
               expansion_refused);
}

// Every file that was read, whatever it is called, also through views of the checkpoint.
TEST(CheckNotInput, RefusesEveryFileOfTheInput) {
  const TempDir dir;
  static_cast<void>(foreign(dir));
  std::filesystem::create_symlink(dir / "a", dir / "link");
  write_file(dir / "x.index.json", R"({"weight_map":{"a":"a.safetensors"}})");
  std::filesystem::copy(dir / "a", dir / "a.safetensors");
  const Checkpoint file = Checkpoint::open(dir / "a").value();
  const Checkpoint set = Checkpoint::open(dir / "x.index.json").value();
  const Checkpoint part = set.select({.path = {}, .include = {"a"}, .exclude = {}}).value();

  for (const char* name : {"a", "link"})
    EXPECT_ERROR(check_not_input(file, dir / name), invalid_argument);
  for (const char* name : {"a.safetensors", "x.index.json"})
    EXPECT_ERROR(check_not_input(part, dir / name), invalid_argument);
  for (const char* name : {"x.index.json", "nothing", "."})
    EXPECT_OK(check_not_input(file, dir / name));
}

TEST(CheckNotInput, RefusesTheFolderOfTheInput) {
  const TempDir dir;
  const Checkpoint file = foreign(dir);
  std::filesystem::create_directory(dir / "sub");
  std::filesystem::create_symlink("../a", dir / "sub/link");
  const Checkpoint linked = Checkpoint::open(dir / "sub/link").value();

  EXPECT_ERROR(check_not_input(file, dir.path(), WrittenAs::folder), invalid_argument);
  EXPECT_OK(check_not_input(file, dir / "sub", WrittenAs::folder));
  EXPECT_ERROR(check_not_input(linked, dir / "sub", WrittenAs::folder), invalid_argument);
  EXPECT_ERROR(check_not_input(linked, dir.path(), WrittenAs::folder), invalid_argument);
}

TEST(CheckExpansion, CountsTheBytesThatAreAskedFor) {
  const TempDir dir;
  const Checkpoint bomb = torch_view(dir, pickle::counts({1 << 30, 1}), pickle::counts({0, 1}));
  EXPECT_ERROR(check_expansion(bomb), expansion_refused);
  EXPECT_ERROR(check_expansion(bomb, (std::uint64_t{1} << 30) + 1), expansion_refused);
  EXPECT_OK(check_expansion(bomb, std::uint64_t{1} << 30));
}

}  // namespace
}  // namespace flatbed
