// SafetensorsContainer: which seal counts, and what it vouches for.
#include "safetensors/safetensors_container.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>

#include "base/bytes.hpp"
#include "flatbed/save.hpp"
#include "io/file.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed::safetensors {
namespace {

using test::TempDir;

// One tensor "a", with an alias, sealed or not.
void write(const std::filesystem::path& path, bool seal) {
  SavePlan plan;
  plan.items.push_back({"a", Dtype::u8, {1}, as_bytes("x")});
  plan.aliases.push_back({"b", "a"});
  static_cast<void>(save(path, plan, {.seal = seal, .sync = false}).value());
}

Result<std::unique_ptr<Container>> open(const std::filesystem::path& path,
                                        const ContainerOptions& options = {}) {
  FLATBED_ASSIGN(File file, File::open(path));
  return SafetensorsContainer::open(std::make_shared<const File>(std::move(file)), options);
}

TEST(SafetensorsContainer, TakesAliasesAsTextFromASealAndFromMetadataWithout) {
  const TempDir dir;
  write(dir / "sealed", true);
  write(dir / "bare", false);
  const ContainerContents sealed = open(dir / "sealed").value()->take_contents();
  EXPECT_EQ(sealed.info.seal, SealState::sealed);
  EXPECT_TRUE(sealed.aliases_text.has_value());
  EXPECT_TRUE(sealed.aliases.empty());
  EXPECT_EQ(sealed.storages, 1u);
  const ContainerContents bare = open(dir / "bare").value()->take_contents();
  EXPECT_EQ(bare.info.seal, SealState::unsealed);
  EXPECT_FALSE(bare.aliases_text.has_value());
}

// Only the pattern of the reference library: other texts that equal a name are texts.
TEST(SafetensorsContainer, TakesForeignMetadataForAnAliasOnlyIfTheLastComponentIsTheSame) {
  const TempDir dir;
  SavePlan plan;
  for (const char* name : {"a.weight", "b"})
    plan.items.push_back({name, Dtype::u8, {1}, as_bytes(std::string_view("x"))});
  plan.metadata = {{"lm_head.weight", "a.weight"},
                   {"weight", "a.weight"},
                   {"author", "b"},
                   {"b.weight", "b"},
                   {"b", "a.weight"},
                   {"format", "pt"}};
  static_cast<void>(save(dir / "a", plan, {.seal = false, .sync = false}).value());
  const ContainerContents contents = open(dir / "a").value()->take_contents();
  ASSERT_EQ(contents.aliases.size(), 2u);
  EXPECT_EQ(contents.aliases[0].name, "lm_head.weight");
  EXPECT_EQ(contents.aliases[1].name, "weight");
}

TEST(SafetensorsContainer, LooksForASidecarWhereItIsToldTo) {
  const TempDir dir;
  write(dir / "a", false);
  static_cast<void>(save_sidecar(dir / "a", {.sync = false}).value());
  EXPECT_EQ(open(dir / "a").value()->take_contents().info.seal, SealState::unsealed);
  const ContainerContents contents = open(dir / "a", {.path = dir / "a"}).value()->take_contents();
  EXPECT_EQ(contents.info.seal, SealState::sealed);
  EXPECT_TRUE(contents.info.sidecar);
}

TEST(SafetensorsContainer, FindsNoSidecarWhoseNameWouldBeTooLong) {
  const TempDir dir;
  const std::string name(250, 'n');
  write(dir / "a", false);
  std::filesystem::rename(dir / "a", dir / name);
  EXPECT_OK(open(dir / name, {.path = dir / name}));
}

TEST(SafetensorsContainer, RequiresASealWhereThatIsDemanded) {
  const TempDir dir;
  write(dir / "sealed", true);
  write(dir / "bare", false);
  EXPECT_OK(open(dir / "sealed", {.check_seal = CheckSeal::required, .path = {}}));
  EXPECT_ERROR(open(dir / "bare", {.check_seal = CheckSeal::required, .path = {}}), not_sealed);
}

TEST(SafetensorsContainer, ReadsTheBytesThatASidecarVouchesFor) {
  const TempDir dir;
  write(dir / "a", false);
  const auto container = open(dir / "a");
  ASSERT_OK(container);
  const std::string bytes = test::read_file(dir / "a");
  const auto header = (*container)->read_raw_header();
  ASSERT_OK(header);
  EXPECT_EQ(as_text(*header), bytes.substr(0, bytes.size() - 1));
}

}  // namespace
}  // namespace flatbed::safetensors
