// Checkpoint::select(): subtrees with new names, prefixes of flat files, globs, and selections of
// selections.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "support/expect_error.hpp"
#include "support/module_builder.hpp"
#include "support/read_checkpoint.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::bytes_of;
using test::names_of;
using test::TempDir;
using Names = std::vector<std::string>;
using Aliased = std::vector<std::pair<std::string, std::string>>;

SaveItem item(std::string_view name) {
  return {std::string(name), Dtype::u8, {name.size()}, as_bytes(name)};  // its bytes are its name
}

Checkpoint saved(const TempDir& dir, const SavePlan& plan) {
  static_cast<void>(save(dir / "a", plan, {.sync = false}).value());
  return Checkpoint::open(dir / "a").value();
}

// {"model": {"a": T, "b": T, "tied": a}, "opt": [T], "epoch": 3}, "model.tied" an alias.
Checkpoint with_tree(const TempDir& dir) {
  SavePlan plan;
  for (const std::string_view name : {"model.a", "model.b", "opt.0"})
    plan.items.push_back(item(name));
  plan.aliases.push_back({"model.tied", "model.a"});
  plan.metadata = {{"format", "pt"}, {"note", "of the whole"}};
  ValueTree& tree = plan.tree;
  const NodeId model = tree.add_dict();
  const NodeId shared = tree.add_tensor(0, {});
  tree.set_item(model, tree.add_string("a"), shared);
  tree.set_item(model, tree.add_string("b"), tree.add_tensor(1, {}));
  tree.set_item(model, tree.add_string("tied"), shared);
  const NodeId opt = tree.add_list();
  tree.append(opt, tree.add_tensor(2, {}));
  const NodeId root = tree.add_dict();
  tree.set_item(root, tree.add_string("model"), model);
  tree.set_item(root, tree.add_string("opt"), opt);
  tree.set_item(root, tree.add_string("epoch"), tree.add_integer(3));
  tree.set_root(root);
  return saved(dir, plan);
}

// The same names and the alias without a structure.
Checkpoint flat(const TempDir& dir) {
  SavePlan plan;
  for (const std::string_view name : {"model.a", "model.b", "opt.0"})
    plan.items.push_back(item(name));
  plan.aliases = {{"model.tied", "model.a"}, {"head.x", "model.a"}, {"head.y", "model.a"}};
  return saved(dir, plan);
}

// {"model": Net(fc=Linear(w, b), again=fc, pos not persistent), "epoch": 3}, or the model alone.
Checkpoint with_model(const TempDir& dir, bool alone = false) {
  SavePlan plan;
  for (const std::string_view name : {"w", "b", "pos"}) plan.items.push_back(item(name));
  ValueTree& tree = plan.tree;
  TensorAttributes parameter;
  parameter.parameter = parameter.requires_grad = true;
  const NodeId weight = tree.add_tensor(0, parameter);
  const NodeId fc =
      test::module(tree, {.parameters = {{"w", weight}, {"b", tree.add_tensor(1, parameter)}}});
  const NodeId list = tree.add_list();
  tree.append(list, weight);
  const NodeId model = test::module(tree, {.buffers = {{"pos", tree.add_tensor(2, {})}},
                                           .children = {{"fc", fc}, {"again", fc}},
                                           .not_persistent = {"pos"},
                                           .after = {{"flat", list}}});
  tree.set_root(alone ? model
                      : test::named_dict(tree, {{"model", model}, {"epoch", tree.add_integer(3)}}));
  return saved(dir, plan);
}

Aliased aliases_of(const Checkpoint& checkpoint) {
  Aliased out;
  for (const Alias& alias : checkpoint.aliases()) out.emplace_back(alias.name, alias.target);
  return out;
}

TEST(Select, OfNothingIsTheCheckpointItself) {
  const TempDir dir;
  const Checkpoint whole = with_tree(dir);
  const auto selected = whole.select({});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), names_of(whole));
  EXPECT_EQ(selected->metadata().size(), whole.metadata().size());
}

TEST(Select, ASubtreeNamesItsTensorsAnew) {
  const TempDir dir;
  const auto selected = with_tree(dir).select({.path = "model", .include = {}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), (Names{"a", "b"}));
  EXPECT_EQ(aliases_of(*selected), (Aliased{{"tied", "a"}}));
  EXPECT_EQ(bytes_of(*selected, "a"), "model.a");
  EXPECT_EQ(bytes_of(*selected, "tied"), "model.a");
  EXPECT_EQ(bytes_of(*selected, "b"), "model.b");
  EXPECT_EQ(selected->find("model.a"), nullptr);
}

TEST(Select, ASubtreeKeepsItsStructure) {
  const TempDir dir;
  const auto selected = with_tree(dir).select({.path = "model", .include = {}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_TRUE(selected->has_tree());
  const Value root = selected->tree().value();
  ASSERT_EQ(root.size(), 3u);
  EXPECT_EQ(root.at("b")->tensor(), selected->find("b")->index);
  EXPECT_EQ(root.at("a")->id(), root.at("tied")->id());
}

TEST(Select, ASubtreeKeepsOnlyTheFormatOfTheMetadata) {
  const TempDir dir;
  const Checkpoint whole = with_tree(dir);
  const auto selected = whole.select({.path = "opt", .include = {}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), Names{"0"});
  ASSERT_EQ(selected->metadata().size(), 1u);
  EXPECT_EQ(selected->metadata()[0].first, "format");
}

TEST(Select, ASingleTensorIsCalledTensor) {
  const TempDir dir;
  const auto selected = with_tree(dir).select({.path = "model.b", .include = {}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), Names{"tensor"});
  EXPECT_EQ(bytes_of(*selected, "tensor"), "model.b");
}

TEST(Select, SaysThatAPathIsNotThere) {
  const TempDir dir;
  const Checkpoint whole = with_tree(dir);
  const auto missing = whole.select({.path = "modle", .include = {}, .exclude = {}});
  EXPECT_ERROR(missing, path_not_found);
  EXPECT_NE(missing.error().message.find("'model'"), std::string::npos);
}

TEST(Select, SaysThatNoTensorIsLeft) {
  const TempDir dir;
  const Checkpoint whole = with_tree(dir);
  EXPECT_ERROR(whole.select({.path = "epoch", .include = {}, .exclude = {}}), tensor_not_found);
  EXPECT_ERROR(whole.select({.path = {}, .include = {"x*"}, .exclude = {}}), tensor_not_found);
  EXPECT_ERROR(whole.select({.path = {}, .include = {}, .exclude = {"*"}}), tensor_not_found);
}

TEST(Select, APathIsAPrefixWhereNoStructureIs) {
  const TempDir dir;
  const auto selected = flat(dir).select({.path = "model", .include = {}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), (Names{"a", "b"}));
  EXPECT_EQ(aliases_of(*selected), (Aliased{{"tied", "a"}}));
  EXPECT_EQ(bytes_of(*selected, "tied"), "model.a");
  EXPECT_FALSE(selected->has_tree());
  EXPECT_EQ(selected->tree()->size(), 3u);
}

TEST(Select, APrefixEndsAtADot) {
  const TempDir dir;
  const Checkpoint whole = flat(dir);
  EXPECT_ERROR(whole.select({.path = "mod", .include = {}, .exclude = {}}), path_not_found);
  EXPECT_ERROR(whole.select({.path = "model.a", .include = {}, .exclude = {}}), path_not_found);
}

// Of what is shared only other names were selected: the first of them becomes the tensor.
TEST(Select, KeepsATensorThatIsOnlySelectedByItsAliases) {
  const TempDir dir;
  const Checkpoint whole = flat(dir);
  const auto prefix = whole.select({.path = "head", .include = {}, .exclude = {}});
  ASSERT_OK(prefix);
  EXPECT_EQ(names_of(*prefix), Names{"x"});
  EXPECT_EQ(aliases_of(*prefix), (Aliased{{"y", "x"}}));
  EXPECT_EQ(bytes_of(*prefix, "y"), "model.a");
  const auto globs = whole.select({.path = {}, .include = {"*.tied", "opt.*"}, .exclude = {}});
  ASSERT_OK(globs);
  EXPECT_EQ(names_of(*globs), (Names{"opt.0", "model.tied"}));
  EXPECT_TRUE(globs->aliases().empty());
  EXPECT_EQ(bytes_of(*globs, "model.tied"), "model.a");
}

TEST(Select, GlobsGiveAFlatResult) {
  const TempDir dir;
  const auto selected =
      with_tree(dir).select({.path = {}, .include = {"*.a", "opt*"}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), (Names{"model.a", "opt.0"}));
  EXPECT_FALSE(selected->has_tree());
  EXPECT_TRUE(selected->aliases().empty());
  EXPECT_EQ(selected->tree()->size(), 2u);
}

TEST(Select, ExclusionWins) {
  const TempDir dir;
  const auto selected =
      with_tree(dir).select({.path = {}, .include = {"model.*"}, .exclude = {"*.b", "*.tied"}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), Names{"model.a"});
  EXPECT_TRUE(selected->aliases().empty());
}

TEST(Select, GlobsApplyToTheNamesBelowAPath) {
  const TempDir dir;
  const auto selected =
      with_tree(dir).select({.path = "model", .include = {"[ab]"}, .exclude = {"a"}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), Names{"b"});
  EXPECT_EQ(bytes_of(*selected, "b"), "model.b");
}

TEST(Select, CanBeRepeated) {
  const TempDir dir;
  const auto first = with_tree(dir).select({.path = "model", .include = {}, .exclude = {}});
  ASSERT_OK(first);
  const auto second = first->select({.path = {}, .include = {"b", "tied"}, .exclude = {}});
  ASSERT_OK(second);
  EXPECT_EQ(names_of(*second), (Names{"b", "tied"}));
  EXPECT_EQ(bytes_of(*second, "b"), "model.b");
  EXPECT_EQ(bytes_of(*second, "tied"), "model.a");
  const auto third = second->select({.path = {}, .include = {"t*"}, .exclude = {}});
  ASSERT_OK(third);
  EXPECT_EQ(bytes_of(*third, "tied"), "model.a");
}

TEST(Select, AModuleByItsStateDict) {
  const TempDir dir;
  const auto selected = with_model(dir).select({.path = "model", .state_dict = true});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), (Names{"fc.w", "fc.b"}));
  EXPECT_EQ(aliases_of(*selected), (Aliased{{"again.w", "fc.w"}, {"again.b", "fc.b"}}));
  EXPECT_EQ(bytes_of(*selected, "again.b"), "b");
  const Value root = selected->tree().value();
  EXPECT_EQ(root.callable().qualname(), "OrderedDict");
  ASSERT_EQ(root.size(), 4u);
  EXPECT_EQ(root.key(2).text(), "again.w");
  EXPECT_FALSE(root.item(0).attributes().parameter);
}

TEST(Select, AModuleAtTheRootByItsStateDict) {
  const TempDir dir;
  const Checkpoint whole = with_model(dir, true);
  const auto selected = whole.select({.path = {}, .state_dict = true});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), (Names{"fc.w", "fc.b"}));
  const auto inner = whole.select({.path = "fc", .state_dict = true});
  ASSERT_OK(inner);
  EXPECT_EQ(names_of(*inner), (Names{"w", "b"}));
  const auto glob = whole.select({.path = {}, .include = {"*.b"}, .state_dict = true});
  ASSERT_OK(glob);
  EXPECT_EQ(names_of(*glob), Names{"fc.b"});
}

TEST(Select, AModuleAsItIsUnlessItsStateDictIsAskedFor) {
  const TempDir dir;
  const auto selected = with_model(dir).select({.path = "model", .include = {}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(names_of(*selected), (Names{"pos", "fc.w", "fc.b"}));
  EXPECT_EQ(aliases_of(*selected), (Aliased{{"flat.0", "fc.w"}}));
}

TEST(Select, WhatIsNoModuleAsItIs) {
  const TempDir dir;
  const Checkpoint whole = with_tree(dir);
  const auto all = whole.select({.path = {}, .state_dict = true});
  ASSERT_OK(all);
  EXPECT_EQ(all->metadata().size(), whole.metadata().size());
  const auto model = whole.select({.path = "model", .state_dict = true});
  ASSERT_OK(model);
  EXPECT_EQ(names_of(*model), (Names{"a", "b"}));
  const TempDir other;
  EXPECT_EQ(names_of(flat(other).select({.path = "model", .state_dict = true}).value()),
            (Names{"a", "b"}));
}

TEST(Select, SaysThatAModuleHasNoState) {
  const TempDir dir;
  SavePlan plan;
  plan.items.push_back(item("x"));
  const NodeId model = test::module(plan.tree, {.after = {{"x", plan.tree.add_tensor(0, {})}}});
  plan.tree.set_root(model);
  const auto selected = saved(dir, plan).select({.path = {}, .state_dict = true});
  EXPECT_ERROR(selected, tensor_not_found);
  EXPECT_NE(selected.error().message.find("state dict"), std::string::npos);
}

TEST(Select, ReadsAndVerifiesAsTheFileDoes) {
  const TempDir dir;
  const Checkpoint whole = with_tree(dir);
  std::string bytes = test::read_file(dir / "a");
  char& byte = bytes[whole.find("opt.0")->where.offset];
  byte = static_cast<char>(byte ^ 1);
  test::write_file(dir / "a", bytes);
  const auto selected = whole.select({.path = "opt", .include = {}, .exclude = {}});
  ASSERT_OK(selected);
  EXPECT_EQ(selected->seal(), SealState::sealed);
  std::string out(5, '\0');
  EXPECT_ERROR(selected->read(selected->tensors()[0], 0, std::as_writable_bytes(std::span(out))),
               chunk_corrupt);
}

}  // namespace
}  // namespace flatbed
