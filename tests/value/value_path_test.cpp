// Value::at(): which value a dotted path leads to, and what an error says is there.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "flatbed/value.hpp"
#include "support/expect_error.hpp"
#include "support/module_builder.hpp"

namespace flatbed {
namespace {

using Ids = std::vector<NodeId>;
using test::compiled;
using test::module;
using test::named_dict;
using test::tensor;

// {"a": {"b": [10, (20,)]}, "a.b": 30, 7: 40, True: 50, None: 60, "": {"": 70}, "x": 80}
ValueTree example() {
  ValueTree tree;
  const auto dict = [&](const Ids& pairs) {
    const NodeId id = tree.add_dict();
    tree.set_items(id, pairs);
    return id;
  };
  const auto text = [&](std::string_view value) { return tree.add_string(value); };
  const auto number = [&](std::int64_t value) { return tree.add_integer(value); };
  const NodeId list = tree.add_list();
  tree.append_all(list, Ids{number(10), tree.add_tuple(Ids{number(20)})});
  tree.set_root(dict({text("a"), dict({text("b"), list}), text("a.b"), number(30), number(7),
                      number(40), tree.add_boolean(true), number(50), tree.add_none(), number(60),
                      text(""), dict({text(""), number(70)}), text("x"), number(80)}));
  return tree;
}

TEST(ValueAt, FindsKeysAndIndices) {
  const ValueTree tree = example();
  EXPECT_EQ(tree.root().at("x")->as_int(), 80);
  EXPECT_EQ(tree.root().at("7")->as_int(), 40);
  EXPECT_EQ(tree.root().at("True")->as_int(), 50);
  EXPECT_EQ(tree.root().at("None")->as_int(), 60);
  EXPECT_EQ(tree.root().at("a")->at("b.0")->as_int(), 10);
  EXPECT_EQ(tree.root().at("a")->at("b.1.0")->as_int(), 20);
}

TEST(ValueAt, OfNothingIsTheValueItself) {
  const ValueTree tree = example();
  EXPECT_EQ(tree.root().at("")->id(), tree.root().id());
}

TEST(ValueAt, PrefersTheLongestKey) {
  const ValueTree tree = example();
  EXPECT_EQ(tree.root().at("a.b")->as_int(), 30);
  EXPECT_ERROR(tree.root().at("a.b.0"), path_not_found);
}

TEST(ValueAt, FindsEmptyKeys) {
  const ValueTree tree = example();
  EXPECT_EQ(tree.root().at(".")->as_int(), 70);
  EXPECT_ERROR(tree.root().at("a."), path_not_found);
  EXPECT_ERROR(tree.root().at("x."), path_not_found);
}

TEST(ValueAt, SaysWhatIsMissingAndWhatIsThere) {
  const ValueTree tree = example();
  const auto missing = tree.root().at("a.c.d");
  EXPECT_ERROR(missing, path_not_found);
  EXPECT_EQ(missing.error().message, "nothing at 'c' of 'a', which has keys 'b'");
  const auto items = tree.root().at("a")->at("b.2");
  EXPECT_ERROR(items, path_not_found);
  EXPECT_EQ(items.error().message, "nothing at '2' of 'b', which has 2 items");
  EXPECT_EQ(tree.root().at("x.y").error().message,
            "nothing at 'y' of 'x', which has nothing below it");
  EXPECT_EQ(tree.root().at("z").error().message,
            "nothing at 'z' of the root, which has keys 'a', 'a.b', '7', 'True', 'None', '', 'x'");
}

TEST(ValueAt, SuggestsAKeyThatBeginsAlike) {
  ValueTree tree;
  const NodeId root = tree.add_dict();
  tree.set_item(root, tree.add_string("state_dict"), tree.add_none());
  tree.set_item(root, tree.add_string("stages"), tree.add_none());
  tree.set_root(root);
  EXPECT_EQ(tree.root().at("state-dict").error().message,
            "nothing at 'state-dict' of the root, which has keys 'state_dict', 'stages'; did you "
            "mean 'state_dict'?");
  EXPECT_EQ(tree.root().at("weights").error().message,
            "nothing at 'weights' of the root, which has keys 'state_dict', 'stages'");
}

TEST(ValueAt, RefusesWhatIsNoIndex) {
  const ValueTree tree = example();
  const Value list = *tree.root().at("a")->at("b");
  for (const std::string_view path : {"-1", "2", "0x", "1 ", "99999999999999999999999", "one"}) {
    EXPECT_ERROR(list.at(path), path_not_found) << path;
  }
}

TEST(ValueAt, SearchesPairsItemsAndStateOfAnObject) {
  ValueTree tree;
  const NodeId object = tree.add_object(tree.add_global("m", "C"), tree.add_tuple({}));
  tree.append(object, tree.add_integer(1));
  tree.set_item(object, tree.add_string("pair"), tree.add_integer(2));
  const NodeId state = tree.add_dict();
  tree.set_item(state, tree.add_string("lr"), tree.add_integer(3));
  tree.set_item(state, tree.add_string("pair"), tree.add_integer(4));
  tree.set_state(object, state);
  const Value value = tree.value(object);
  EXPECT_EQ(value.at("0")->as_int(), 1);
  EXPECT_EQ(value.at("pair")->as_int(), 2);
  EXPECT_EQ(value.at("lr")->as_int(), 3);
  EXPECT_ERROR(value.at("1"), path_not_found);
}

TEST(ValueAt, FollowsACycleAsFarAsThePathGoes) {
  ValueTree tree;
  const NodeId dict = tree.add_dict();
  tree.set_item(dict, tree.add_string("me"), dict);
  std::string path = "me";
  for (int i = 0; i < 1000; ++i) path += ".me";
  EXPECT_EQ(tree.value(dict).at(path)->id(), dict);
  EXPECT_ERROR(tree.value(dict).at(path + ".you"), path_not_found);
}

TEST(ValueAt, GoesThroughCompiledModulesByName) {
  ValueTree tree;
  const NodeId weight = tensor(tree, 0);
  const NodeId inside = module(tree, {.parameters = {{"weight", weight}}});
  const Value top = tree.value(compiled(tree, inside));
  EXPECT_EQ(top.at("_orig_mod")->id(), inside);
  EXPECT_EQ(top.at("_orig_mod.weight")->id(), weight);
  const auto missing = top.at("weight");
  EXPECT_ERROR(missing, path_not_found);
  EXPECT_NE(missing.error().message.find("'_orig_mod'"), std::string::npos)
      << missing.error().message;
}

TEST(ValueAt, GoesThroughModulesByName) {
  ValueTree tree;
  const NodeId weight = tensor(tree, 0);
  const NodeId child = module(tree, {.parameters = {{"weight", weight}}});
  const NodeId flat = tree.add_list();
  tree.append(flat, weight);
  const NodeId root = module(tree, {.buffers = {{"mean", tensor(tree, 1)}},
                                    .children = {{"conv1", child}},
                                    .after = {{"_flat", flat}}});
  const Value top = tree.value(named_dict(tree, {{"model", root}}));
  EXPECT_EQ(top.at("model.conv1")->id(), child);
  EXPECT_EQ(top.at("model.conv1.weight")->id(), weight);
  EXPECT_EQ(top.at("model.mean")->tensor(), 1u);
  EXPECT_EQ(top.at("model._modules.conv1._parameters.weight")->id(), weight);
  EXPECT_EQ(top.at("model._flat.0")->id(), weight);
  const auto missing = top.at("model.conv2");
  EXPECT_ERROR(missing, path_not_found);
  EXPECT_NE(missing.error().message.find("'conv1'"), std::string::npos) << missing.error().message;
}

}  // namespace
}  // namespace flatbed
