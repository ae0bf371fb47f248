// TorchModule: what counts as a pickled module, and what it has.
#include "flatbed/torch_module.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "support/expect_error.hpp"
#include "support/module_builder.hpp"

namespace flatbed {
namespace {

using test::attributes_without;
using test::compiled;
using test::instance;
using test::module;
using test::module_attributes;
using test::Named;
using test::names_of;
using test::state_of;
using test::tensor;
using Names = std::vector<std::string>;

TEST(TorchModule, IsAnObjectWithThreeDicts) {
  ValueTree tree;
  EXPECT_TRUE(TorchModule::of(tree.value(instance(tree, "Net", attributes_without(tree, "")))));
  for (const std::string_view name : {"_parameters", "_buffers", "_modules"}) {
    const NodeId list = tree.add_list();
    EXPECT_FALSE(
        TorchModule::of(tree.value(instance(tree, "Net", attributes_without(tree, name)))));
    EXPECT_FALSE(TorchModule::of(
        tree.value(instance(tree, "Net", attributes_without(tree, name, {{name, list}})))));
  }
  EXPECT_FALSE(TorchModule::of(tree.value(attributes_without(tree, ""))));
  EXPECT_FALSE(TorchModule::of(tree.value(tree.add_none())));
}

TEST(TorchModule, HasAClassAndParts) {
  ValueTree tree;
  const NodeId id = module(tree, {.parameters = {{"w", tensor(tree, 0)}}}, "Linear");
  const TorchModule linear = TorchModule::of(tree.value(id)).value();
  EXPECT_EQ(linear.type().qualname(), "Linear");
  EXPECT_EQ(linear.parameters().size(), 1u);
  EXPECT_EQ(linear.children().size(), 0u);
  EXPECT_EQ(linear.find("training")->as_bool(), true);
  EXPECT_FALSE(linear.find("stride"));
}

// Classes with __slots__ have the state (dict, slots).
TEST(TorchModule, MayHaveSlots) {
  ValueTree tree;
  const NodeId parts[] = {module_attributes(tree, {.parameters = {{"w", tensor(tree, 0)}}}),
                          tree.add_dict()};
  const NodeId id = instance(tree, "Net", tree.add_tuple(parts));
  EXPECT_EQ(names_of(state_of(tree, id).value()), Names{"w"});
}

TEST(TorchModule, MayBeAGraphOfTorchFx) {
  ValueTree tree;
  const auto traced = [&](std::string_view from) {
    const NodeId arguments[] = {module_attributes(tree, {.parameters = {{"w", tensor(tree, 0)}}}),
                                tree.add_none()};
    return tree.add_object(tree.add_global(from, "reduce_graph_module"), tree.add_tuple(arguments));
  };
  EXPECT_EQ(names_of(state_of(tree, traced("torch.fx.graph_module")).value()), Names{"w"});
  EXPECT_FALSE(TorchModule::of(tree.value(traced("other"))));
}

TEST(TorchModule, MayBeWhatTorchCompileMade) {
  ValueTree tree;
  const NodeId inside = module(tree, {.parameters = {{"w", tensor(tree, 0)}}}, "Linear");
  const TorchModule outside = TorchModule::of(tree.value(compiled(tree, inside))).value();
  EXPECT_EQ(outside.type().qualname(), "OptimizedModule");
  EXPECT_EQ(outside.wrapped()->id(), inside);
  EXPECT_EQ(outside.parameters().size() + outside.buffers().size() + outside.children().size(), 0u);
  EXPECT_FALSE(outside.find("training"));
  EXPECT_FALSE(TorchModule::of(tree.value(inside))->wrapped());
}

TEST(TorchModule, IsNoCallOfOtherFormThatTorchCompileDoesNotMake) {
  ValueTree tree;
  const NodeId inside = module(tree, {});
  const NodeId with_state = compiled(tree, inside);
  tree.set_state(with_state, tree.add_dict());
  EXPECT_FALSE(TorchModule::of(tree.value(with_state)));
  EXPECT_FALSE(TorchModule::of(tree.value(compiled(tree, tree.add_list()))));
  const NodeId type = tree.add_global("torch._dynamo.eval_frame", "OptimizedModule");
  EXPECT_FALSE(TorchModule::of(tree.value(tree.add_object(type, tree.add_tuple({})))));
  const NodeId other[] = {inside};
  EXPECT_FALSE(TorchModule::of(
      tree.value(tree.add_object(tree.add_global("m", "OptimizedModule"), tree.add_tuple(other)))));
}

// An object with a long dict that many share must not cost its length each time.
TEST(TorchModule, IsKnownByItsFirstAttributes) {
  ValueTree tree;
  for (const std::size_t before : {253u, 254u}) {
    Named many;
    const std::vector<std::string> names(before, "x");
    for (const std::string& name : names) many.emplace_back(name, tree.add_none());
    const NodeId id = instance(tree, "Net", attributes_without(tree, "", many));
    EXPECT_EQ(TorchModule::of(tree.value(id)).has_value(), before == 253u) << before;
  }
}

}  // namespace
}  // namespace flatbed
