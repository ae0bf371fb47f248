// state_dict(): what the state_dict() of a pickled module holds, and what it says it leaves out.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "flatbed/torch_module.hpp"
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
using test::named_dict;
using test::named_ordered;
using test::names_of;
using test::state_of;
using test::tensor;
using Names = std::vector<std::string>;

TEST(StateDict, HasParametersThenBuffersThenChildren) {
  ValueTree tree;
  const NodeId child = module(tree, {.parameters = {{"w", tensor(tree, 0)}}});
  const NodeId root = module(tree, {.parameters = {{"p", tensor(tree, 1)}, {"q", tree.add_none()}},
                                    .buffers = {{"b", tensor(tree, 2)}},
                                    .children = {{"fc", child}, {"none", tree.add_none()}}});
  const StateDict weights = state_of(tree, root).value();
  EXPECT_EQ(names_of(weights), (Names{"p", "b", "fc.w"}));
  EXPECT_EQ(weights.entries[2].value.tensor(), 0u);
  EXPECT_TRUE(weights.notes.empty());
}

// As torch's own state_dict() of what torch.compile(model) returned, or of a part that was
// compiled.
TEST(StateDict, OfACompiledModuleHasThatOfTheModuleInside) {
  ValueTree tree;
  const NodeId fc = module(tree, {.parameters = {{"w", tensor(tree, 0)}}});
  const NodeId net = module(tree, {.parameters = {{"p", tensor(tree, 1)}},
                                   .children = {{"fc", compiled(tree, fc)}, {"again", fc}}});
  const Names inside{"p", "fc._orig_mod.w", "again.w"};
  EXPECT_EQ(names_of(state_of(tree, net).value()), inside);
  const StateDict weights = state_of(tree, compiled(tree, compiled(tree, net))).value();
  EXPECT_EQ(names_of(weights), (Names{"_orig_mod._orig_mod.p", "_orig_mod._orig_mod.fc._orig_mod.w",
                                      "_orig_mod._orig_mod.again.w"}));
  EXPECT_TRUE(weights.notes.empty());
}

TEST(StateDict, SaysSoOfACompiledObjectThatIsNoModule) {
  ValueTree tree;
  const NodeId id = compiled(tree, instance(tree, "Other", tree.add_dict()));
  const StateDict weights = state_of(tree, id).value();
  EXPECT_TRUE(weights.entries.empty());
  ASSERT_EQ(weights.notes.size(), 1u);
  EXPECT_NE(weights.notes[0].find("'_orig_mod' is not a readable module"), std::string::npos)
      << weights.notes[0];
}

TEST(StateDict, OfACompiledModuleThatContainsItselfIsRefused) {
  ValueTree tree;
  const NodeId arguments = tree.add_tuple({});
  const NodeId id =
      tree.add_object(tree.add_global("torch._dynamo.eval_frame", "OptimizedModule"), arguments);
  tree.set_tuple(arguments, std::vector<NodeId>{id});
  EXPECT_ERROR(state_of(tree, id), tree_not_representable);
}

TEST(StateDict, LeavesOutBuffersThatAreNotPersistent) {
  ValueTree tree;
  const NodeId root =
      module(tree, {.parameters = {{"mask", tensor(tree, 0)}},
                    .buffers = {{"mean", tensor(tree, 1)}, {"pos", tensor(tree, 2)}},
                    .not_persistent = {"pos", "other"}});
  const StateDict weights = state_of(tree, root).value();
  EXPECT_EQ(names_of(weights), (Names{"mask", "mean"}));
  EXPECT_EQ(weights.not_persistent, 1u);
}

// Up to torch 1.5 there was no such set.
TEST(StateDict, KeepsAllBuffersWhereNothingSaysOtherwise) {
  ValueTree tree;
  const NodeId buffers = named_ordered(tree, {{"b", tensor(tree, 0)}});
  const NodeId root =
      instance(tree, "Net", attributes_without(tree, "_buffers", {{"_buffers", buffers}}));
  EXPECT_EQ(names_of(state_of(tree, root).value()), Names{"b"});
}

TEST(StateDict, NamesASharedModuleAndTensorEverywhere) {
  ValueTree tree;
  const NodeId weight = tensor(tree, 0);
  const NodeId shared = module(tree, {.parameters = {{"w", weight}}});
  const NodeId root =
      module(tree, {.parameters = {{"tied", weight}}, .children = {{"a", shared}, {"b", shared}}});
  EXPECT_EQ(names_of(state_of(tree, root).value()), (Names{"tied", "a.w", "b.w"}));
}

TEST(StateDict, OfAModuleThatContainsItselfIsRefused) {
  ValueTree tree;
  const NodeId children = tree.add_dict();
  const NodeId root =
      instance(tree, "Net", attributes_without(tree, "_modules", {{"_modules", children}}));
  const NodeId inner = module(tree, {.children = {{"up", root}}});
  tree.set_item(children, tree.add_string("down"), inner);
  const auto weights = state_of(tree, root);
  EXPECT_ERROR(weights, tree_not_representable);
  EXPECT_NE(weights.error().message.find("'down.up'"), std::string::npos)
      << weights.error().message;
}

// 60 levels that each hold the next twice would be 2^60 entries.
TEST(StateDict, OfModulesThatShareTooMuchIsRefused) {
  ValueTree tree;
  NodeId node = module(tree, {.parameters = {{"w", tensor(tree, 0)}}});
  const auto twice = [&](NodeId id) { return module(tree, {.children = {{"a", id}, {"b", id}}}); };
  for (int i = 0; i < 10; ++i) node = twice(node);
  EXPECT_EQ(state_of(tree, node)->entries.size(), 1024u);
  for (int i = 10; i < 60; ++i) node = twice(node);
  EXPECT_ERROR(state_of(tree, node), limit_exceeded);
}

TEST(StateDict, OfSharedModulesWithoutTensorsIsRefusedToo) {
  ValueTree tree;
  NodeId node = module(tree, {});
  for (int i = 0; i < 60; ++i) node = module(tree, {.children = {{"a", node}, {"b", node}}});
  EXPECT_ERROR(state_of(tree, node), limit_exceeded);
}

TEST(StateDict, WithNamesLongerThanAnyHeaderIsRefused) {
  ValueTree tree;
  const std::string name(1'000'000, 'x');
  NodeId node = module(tree, {.parameters = {{"w", tensor(tree, 0)}}});
  for (int i = 0; i < 200; ++i) node = module(tree, {.children = {{name, node}}});
  EXPECT_ERROR(state_of(tree, node), limit_exceeded);
}

TEST(StateDict, OfManyNestedModulesNeedsNoStack) {
  ValueTree tree;
  NodeId node = module(tree, {.parameters = {{"w", tensor(tree, 0)}}});
  for (int i = 0; i < 200'000; ++i) node = module(tree, {.children = {{"m", node}}});
  EXPECT_EQ(state_of(tree, node)->entries[0].name.size(), 400'001u);
}

TEST(StateDict, WithTwoEntriesOfOneNameIsRefused) {
  ValueTree tree;
  const NodeId child = module(tree, {.parameters = {{"w", tensor(tree, 0)}}});
  const NodeId root =
      module(tree, {.parameters = {{"fc.w", tensor(tree, 1)}}, .children = {{"fc", child}}});
  EXPECT_ERROR(state_of(tree, root), tree_not_representable);
}

TEST(StateDict, SaysWhatItLeavesOut) {
  ValueTree tree;
  const NodeId hook = named_dict(tree, {{"0", tree.add_none()}});
  const NodeId hooked =
      instance(tree, "Net", attributes_without(tree, "", {{"_state_dict_hooks", hook}}));
  const NodeId root =
      module(tree, {.parameters = {{"odd", tree.add_integer(3)}},
                    .children = {{"hooked", hooked}, {"other", named_dict(tree, {})}}});
  const std::vector<std::string> notes = state_of(tree, root)->notes;
  ASSERT_EQ(notes.size(), 3u);
  EXPECT_NE(notes[0].find("'odd' is not a tensor"), std::string::npos) << notes[0];
  EXPECT_NE(notes[1].find("'hooked' has _state_dict_hooks"), std::string::npos) << notes[1];
  EXPECT_NE(notes[2].find("'other' is not a readable module"), std::string::npos) << notes[2];
}

TEST(StateDict, SaysSoOfQuantizedModulesButNotEndlessly) {
  ValueTree tree;
  const std::vector<std::string> names{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
  Named children;
  for (const std::string& name : names) {
    const NodeId child = module(tree, {.after = {{"_packed_params", tree.add_none()}}});
    children.emplace_back(name, child);
  }
  const std::vector<std::string> notes =
      state_of(tree, module(tree, {.children = children}))->notes;
  ASSERT_EQ(notes.size(), 9u);
  EXPECT_NE(notes[0].find("'a' is quantized"), std::string::npos) << notes[0];
  EXPECT_NE(notes[8].find("2 more"), std::string::npos) << notes[8];
}

// What get_extra_state() or _save_to_state_dict() of a class returns is not in the file.
TEST(StateDict, NamesModulesWhoseClassAddsToIt) {
  ValueTree tree;
  const auto notes = [&](std::string_view from, std::string_view attribute = "training") {
    const NodeId arguments[] = {tree.add_global(from, "Linear")};
    const NodeId child =
        tree.add_object(tree.add_global("copyreg", "__newobj__"), tree.add_tuple(arguments));
    tree.set_state(child, module_attributes(tree, {.after = {{attribute, tree.add_none()}}}));
    return state_of(tree, module(tree, {.children = {{"fc", child}}}))->notes;
  };
  for (const std::string_view from :
       {"transformer_engine.pytorch.module.linear", "megatron.core.tensor_parallel.layers",
        "megatron.core.extensions.transformer_engine"}) {
    ASSERT_EQ(notes(from).size(), 1u) << from;
    EXPECT_NE(notes(from)[0].find("'fc' may have an extra state"), std::string::npos);
  }
  for (const std::string_view from :
       {"torch.ao.nn.quantized.modules.linear", "torch.nn.quantized.dynamic.modules.linear",
        "torch.ao.nn.intrinsic.quantized.modules.linear_relu"}) {
    ASSERT_EQ(notes(from, "scale").size(), 1u) << from;
    EXPECT_NE(notes(from, "scale")[0].find("'fc' is quantized"), std::string::npos);
    EXPECT_TRUE(notes(from).empty()) << from;
  }
  EXPECT_EQ(notes("torch.ao.nn.quantized.reference.modules.linear", "weight_qscheme").size(), 1u);
  EXPECT_EQ(notes("bitsandbytes.nn.modules").size(), 1u);
  for (const std::string_view from : {"torch.ao.nn.quantizable.modules.rnn", "megatron.core",
                                      "transformer_engineering", "torch.nn.modules.linear"})
    EXPECT_TRUE(notes(from, "scale").empty()) << from;
}

TEST(StateDict, AddedToItsTreeIsAnOrderedDictOfPlainTensors) {
  ValueTree tree;
  TensorAttributes attributes;
  attributes.parameter = attributes.requires_grad = true;
  attributes.device = "cuda:0";
  attributes.stride = std::vector<std::uint64_t>{1, 2};
  attributes.state = tree.add_dict();
  const NodeId weight = tree.add_tensor(7, attributes);
  const NodeId root = module(tree, {.parameters = {{"w", weight}, {"again", weight}}});
  const NodeId dict = add_state_dict(tree, state_of(tree, root).value());
  const Value added = tree.value(dict);
  EXPECT_EQ(added.callable().qualname(), "OrderedDict");
  ASSERT_EQ(added.size(), 2u);
  EXPECT_EQ(added.key(1).text(), "again");
  EXPECT_NE(added.item(0).id(), added.item(1).id());
  EXPECT_EQ(added.item(0).tensor(), 7u);
  attributes.parameter = attributes.requires_grad = false;
  attributes.state = kNoNode;
  EXPECT_EQ(added.item(0).attributes(), attributes);
  EXPECT_TRUE(tree.value(weight).attributes().parameter);
}

// Parameter(sparse tensor) is an object around the tensor that state_dict() returns.
TEST(StateDict, TakesATensorThatIsNotDenseOutOfItsParameter) {
  ValueTree tree;
  const NodeId sparse = tree.add_object(tree.add_global("torch._utils", "_rebuild_sparse_tensor"),
                                        tree.add_tuple({}));
  const NodeId arguments[] = {sparse, tree.add_boolean(true)};
  const NodeId parameter = tree.add_object(tree.add_global("torch._utils", "_rebuild_parameter"),
                                           tree.add_tuple(arguments));
  const StateDict weights =
      state_of(tree, module(tree, {.parameters = {{"w", parameter}}})).value();
  ASSERT_EQ(weights.entries.size(), 1u);
  EXPECT_EQ(weights.entries[0].value.id(), sparse);
}

}  // namespace
}  // namespace flatbed
