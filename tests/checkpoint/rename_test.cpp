// Checkpoint::rename(): views with other names, everything that works on them, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/key_map.hpp"
#include "flatbed/load.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/verify.hpp"
#include "support/expect_message.hpp"
#include "support/read_checkpoint.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::bytes_of;
using test::expect_error;
using test::names_of;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;
using Aliased = std::vector<std::pair<std::string, std::string>>;

SaveItem item(std::string_view name) {
  return {std::string(name), Dtype::u8, {name.size()}, as_bytes(name)};  // its bytes are its name
}

Checkpoint saved(const TempDir& dir, const SavePlan& plan, std::string_view file = "a") {
  static_cast<void>(save(dir / file, plan, {.sync = false}).value());
  return Checkpoint::open(dir / file).value();
}

// Tensors module.a, module.b and opt.0; module.tied is an alias of module.a.
SavePlan plan() {
  SavePlan plan;
  for (const std::string_view name : {"module.a", "module.b", "opt.0"})
    plan.items.push_back(item(name));
  plan.aliases.push_back({"module.tied", "module.a"});
  plan.metadata = {{"format", "pt"}, {"note", "of the names"}};
  return plan;
}

KeyMap rules(std::string_view text) { return KeyMap::parse(text, "rules").value(); }

Checkpoint renamed(const Checkpoint& checkpoint, std::string_view text) {
  return checkpoint.rename(rules(text)).value();
}

Aliased aliases_of(const Checkpoint& checkpoint) {
  Aliased out;
  for (const Alias& alias : checkpoint.aliases()) out.emplace_back(alias.name, alias.target);
  return out;
}

TEST(Rename, GivesTensorsAndAliasesNewNamesInTheSameOrder) {
  const TempDir dir;
  const Checkpoint view = renamed(saved(dir, plan()), "strip-prefix module.\nopt.*=state{1}");
  EXPECT_EQ(names_of(view), (Names{"a", "b", "state0"}));
  EXPECT_EQ(aliases_of(view), (Aliased{{"tied", "a"}}));
  EXPECT_EQ(bytes_of(view, "state0"), "opt.0");
  EXPECT_EQ(view.find("tied"), &view.tensors()[0]);
  EXPECT_EQ(view.find("module.a"), nullptr);
  EXPECT_EQ(view.metadata().size(), 1u);
}

TEST(Rename, WithoutRulesIsTheSameCheckpoint) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir, plan());
  const Checkpoint same = checkpoint.rename(KeyMap()).value();
  EXPECT_EQ(CheckpointAccess::identity(same), CheckpointAccess::identity(checkpoint));
}

TEST(Rename, MakesAFlatStateDictOfTheNewNames) {
  const TempDir dir;
  SavePlan nested = plan();
  ValueTree& tree = nested.tree;
  const NodeId root = tree.add_dict();
  tree.set_item(root, tree.add_string("epoch"), tree.add_integer(3));
  tree.set_item(root, tree.add_string("list"), tree.add_tensor(0, {}));
  tree.set_item(root, tree.add_string("b"), tree.add_tensor(1, {}));
  tree.set_item(root, tree.add_string("c"), tree.add_tensor(2, {}));
  tree.set_root(root);
  nested.aliases.clear();
  const Checkpoint checkpoint = saved(dir, nested);
  ASSERT_TRUE(checkpoint.has_tree());
  const Checkpoint view = renamed(checkpoint, "*=x.{1}");
  EXPECT_FALSE(view.has_tree());
  const Value made = view.tree().value();
  ASSERT_EQ(made.size(), view.tensors().size());
  EXPECT_EQ(made.key(0).text(), view.tensors()[0].name);
  EXPECT_TRUE(view.tensors()[0].name.starts_with("x."));
}

TEST(Rename, ServesEverythingThatACheckpointDoes) {
  const TempDir dir;
  const Checkpoint view = renamed(saved(dir, plan()), "strip-prefix module.");
  const TensorInfo b = view.tensor("b").value();
  EXPECT_EQ(as_text(view.view(b).value().bytes), "module.b");
  std::array<std::byte, 8> memory{};
  LoadPlan loads;
  ASSERT_OK(loads.add(view, "tied", {.data = memory.data(), .capacity = memory.size()}));
  ASSERT_OK(load(loads));
  EXPECT_EQ(as_text(memory), "module.a");
  EXPECT_EQ(verify(view).value().chunks_checked, 3u);
  const Checkpoint again = saved(dir, make_plan(view).value(), "b");
  EXPECT_EQ(names_of(again), names_of(view));
  EXPECT_EQ(aliases_of(again), aliases_of(view));
  EXPECT_EQ(bytes_of(again, "b"), "module.b");
  EXPECT_EQ(again.seal(), SealState::sealed);
}

TEST(Rename, ComposesWithSelectAndItself) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir, plan());
  const Checkpoint part = checkpoint.select({.path = {}, .include = {"module.*"}}).value();
  const Checkpoint twice = renamed(renamed(part, "strip-prefix module."), "*=m/{1}");
  EXPECT_EQ(names_of(twice), (Names{"m/a", "m/b"}));
  EXPECT_EQ(aliases_of(twice), (Aliased{{"m/tied", "m/a"}}));
  const Checkpoint one = twice.select({.path = {}, .include = {"*/b"}}).value();
  EXPECT_EQ(bytes_of(one, "m/b"), "module.b");
}

TEST(Rename, KeepsTheViewsFilesOpen) {
  const TempDir dir;
  const Checkpoint view = [&] {
    const Checkpoint checkpoint = saved(dir, plan());
    return renamed(checkpoint, "module.a=a");
  }();
  EXPECT_EQ(names_of(view), (Names{"a", "module.b", "opt.0"}));
  EXPECT_EQ(bytes_of(view, "module.b"), "module.b");
}

TEST(Rename, RenamesSets) {
  const TempDir dir;
  SavePlan first;
  first.items = {item("x.a")};
  SavePlan second;
  second.items = {item("x.b")};
  static_cast<void>(saved(dir, first, "1.safetensors"));
  static_cast<void>(saved(dir, second, "2.safetensors"));
  write_file(dir / "model.safetensors.index.json",
             R"({"weight_map": {"x.a": "1.safetensors", "x.b": "2.safetensors",
                 "x.none": "2.safetensors"}})");
  const Checkpoint set = Checkpoint::open(dir / "model.safetensors.index.json").value();
  const Checkpoint view = renamed(set, "x.*={1}");
  EXPECT_EQ(names_of(view), (Names{"a", "b"}));
  EXPECT_EQ(bytes_of(view, "b"), "x.b");
  EXPECT_ERROR(view.tensor("none"), shard_tensor_missing);
  EXPECT_ERROR(verify(view), shard_tensor_missing);
}

TEST(Rename, StillSaysThatAliasesCannotBeLookedUp) {
  const std::filesystem::path vectors = FLATBED_SPEC_VECTORS_DIR;
  const Checkpoint checkpoint =
      Checkpoint::open(vectors / "invalid/A2-aliases-array.safetensors").value();
  EXPECT_ERROR(checkpoint.tensor("none"), aliases_malformed);
  const Checkpoint view = renamed(checkpoint, "w=v");
  EXPECT_ERROR(view.tensor("none"), aliases_malformed);
}

TEST(Rename, RefusesARuleThatMatchesNothing) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir, plan());
  expect_error(checkpoint.rename(rules("a=b\n")), ErrorCode::tensor_not_found,
               "rules:1: rename rule 'a=b' matches no name");
  expect_error(checkpoint.rename(rules("strip-prefix module.\nmodule.a=b")),
               ErrorCode::tensor_not_found, "rules:2: rename rule 'module.a=b' matches no name");
  EXPECT_OK(checkpoint.rename(rules("module.tied=b")));
  KeyMap ready;
  ASSERT_OK(ready.strip_prefix("model.", Unmatched::allow));
  EXPECT_EQ(names_of(checkpoint.rename(ready).value()), names_of(checkpoint));
}

TEST(Rename, RefusesTwoNamesThatBecomeOne) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir, plan());
  expect_error(checkpoint.rename(rules("module.?=x")), ErrorCode::name_collision,
               "renaming makes two names one: 'module.a' and 'module.b' both become 'x'");
  expect_error(checkpoint.rename(rules("module.a=opt.0")), ErrorCode::name_collision,
               "'module.a' and 'opt.0' both become 'opt.0'");
  expect_error(checkpoint.rename(rules("module.tied=module.b")), ErrorCode::name_collision,
               "'module.b' and 'module.tied' both become 'module.b'");
}

TEST(Rename, SwapsNames) {
  const TempDir dir;
  KeyMap swap;
  ASSERT_OK(swap.add_callback([](std::string_view name) -> Result<std::string> {
    if (name == "module.a") return std::string("module.b");
    return std::string(name == "module.b" ? "module.a" : name);
  }));
  const Checkpoint view = saved(dir, plan()).rename(swap).value();
  EXPECT_EQ(bytes_of(view, "module.a"), "module.b");
  EXPECT_EQ(bytes_of(view, "module.b"), "module.a");
}

TEST(Rename, RefusesANameThatBecomesEmpty) {
  const TempDir dir;
  expect_error(saved(dir, plan()).rename(rules("strip-prefix module.b")),
               ErrorCode::invalid_argument, "makes the name 'module.b' empty");
}

TEST(Rename, BoundsTheSizeOfAllNames) {
  const TempDir dir;
  SavePlan many;
  std::vector<std::string> names;
  for (int i = 0; i < 200; ++i) names.push_back(str_cat("t", i));
  for (const std::string& name : names) many.items.push_back(item(name));
  const Checkpoint checkpoint = saved(dir, many);
  KeyMap map;
  ASSERT_OK(map.add_prefix(std::string(KeyMap::kMaxNameNbytes - 10, 'p')));
  expect_error(checkpoint.rename(map), ErrorCode::limit_exceeded,
               "the new names have more than 100000000 bytes together");
}

TEST(Rename, BoundsTheSizeOfTheNamesThatAnIndexListsInVain) {
  const TempDir dir;
  SavePlan one;
  one.items = {item("a")};
  static_cast<void>(saved(dir, one, "1.safetensors"));
  std::string index = R"({"weight_map": {"a": "1.safetensors")";
  for (int i = 0; i < 200; ++i) index += str_cat(", \"none", i, R"(": "1.safetensors")");
  write_file(dir / "model.safetensors.index.json", index + "}}");
  const Checkpoint set = Checkpoint::open(dir / "model.safetensors.index.json").value();
  KeyMap map;
  ASSERT_OK(map.add_prefix(std::string(KeyMap::kMaxNameNbytes - 10, 'p')));
  EXPECT_ERROR(set.rename(map), limit_exceeded);
}

TEST(Rename, TakesLongAndOddNames) {
  const TempDir dir;
  const std::string longest(10'000, 'n');
  const std::string odd("a\0\n\x1b[31m\xC3\xA9", 10);
  SavePlan some;
  some.items = {item(longest), item(odd)};
  const Checkpoint view = renamed(saved(dir, some), "*={1}.w");
  EXPECT_EQ(bytes_of(view, longest + ".w"), longest);
  EXPECT_EQ(bytes_of(view, odd + ".w"), odd);
}

}  // namespace
}  // namespace flatbed
