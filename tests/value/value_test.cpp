// ValueTree and Value: values read back as they were added, and at() finds them by path.
#include "flatbed/value.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "support/expect_error.hpp"

namespace flatbed {
namespace {

using Ids = std::vector<NodeId>;

TEST(ValueTree, KeepsScalars) {
  ValueTree tree;
  EXPECT_EQ(tree.value(tree.add_none()).kind(), Kind::none);
  EXPECT_EQ(tree.value(tree.add_boolean(true)).as_bool(), true);
  EXPECT_EQ(tree.value(tree.add_boolean(false)).as_bool(), false);
  EXPECT_EQ(tree.value(tree.add_integer(INT64_MIN)).as_int(), INT64_MIN);
  EXPECT_EQ(tree.value(tree.add_real(-0.5)).as_real(), -0.5);
  EXPECT_EQ(tree.value(tree.add_big_integer("-1f")).text(), "-1f");
  EXPECT_EQ(tree.value(tree.add_string(std::string_view("a\0b", 3))).text(),
            std::string_view("a\0b", 3));
  EXPECT_EQ(tree.value(tree.add_bytes("\xFF")).text(), "\xFF");
}

TEST(ValueTree, KeepsPairsOfTexts) {
  ValueTree tree;
  const Value global = tree.value(tree.add_global("torch.optim", "Adam.step"));
  const Value scalar = tree.value(tree.add_scalar("<f4", "abcd"));
  const Value array = tree.value(tree.add_array(7, ">i4"));
  EXPECT_EQ(global.text(), "torch.optim");
  EXPECT_EQ(global.qualname(), "Adam.step");
  EXPECT_EQ(scalar.text(), "<f4");
  EXPECT_EQ(scalar.raw(), "abcd");
  EXPECT_EQ(array.text(), ">i4");
  EXPECT_EQ(array.tensor(), 7u);
}

TEST(ValueTree, AnswersOnlyForTheRightKind) {
  ValueTree tree;
  const Value text = tree.value(tree.add_string("1"));
  EXPECT_FALSE(text.as_bool());
  EXPECT_FALSE(text.as_int());
  EXPECT_FALSE(text.as_real());
  EXPECT_FALSE(text.tensor());
  EXPECT_FALSE(text.state());
  EXPECT_EQ(text.qualname(), "");
  EXPECT_EQ(text.raw(), "");
  EXPECT_EQ(text.size(), 0u);
  EXPECT_EQ(text.appended_size(), 0u);
  EXPECT_EQ(text.attributes(), TensorAttributes{});
  EXPECT_FALSE(tree.value(tree.add_boolean(true)).as_int());
  EXPECT_EQ(tree.value(tree.add_integer(2)).as_real(), 2.0);
  EXPECT_EQ(tree.value(tree.add_none()).text(), "");
}

TEST(ValueTree, WithoutARootIsNone) {
  const ValueTree tree;
  EXPECT_EQ(tree.root().kind(), Kind::none);
  EXPECT_EQ(tree.root().id(), kNoNode);
  EXPECT_EQ(tree.size(), 0u);
}

TEST(ValueTree, GrowsManyContainersAtOnce) {
  ValueTree tree;
  Ids lists;
  for (int i = 0; i < 50; ++i) lists.push_back(tree.add_list());
  for (std::int64_t round = 0; round < 200; ++round) {
    for (const NodeId list : lists) tree.append(list, tree.add_integer(round * 1000 + list));
  }
  for (const NodeId list : lists) {
    ASSERT_EQ(tree.value(list).size(), 200u);
    for (std::size_t i = 0; i < 200; ++i) {
      ASSERT_EQ(tree.value(list).item(i).as_int(), static_cast<std::int64_t>(i * 1000 + list));
    }
  }
}

TEST(ValueTree, KeepsPairsInOrderWithEqualKeys) {
  ValueTree tree;
  const NodeId dict = tree.add_dict();
  tree.set_item(dict, tree.add_string("b"), tree.add_integer(1));
  tree.set_item(dict, tree.add_string("a"), tree.add_integer(2));
  tree.set_item(dict, tree.add_string("b"), tree.add_integer(3));
  const Value value = tree.value(dict);
  ASSERT_EQ(value.size(), 3u);
  EXPECT_EQ(value.key(0).text(), "b");
  EXPECT_EQ(value.key(1).text(), "a");
  EXPECT_EQ(value.item(2).as_int(), 3);
}

TEST(ValueTree, KeepsTheFivePartsOfAnObject) {
  ValueTree tree;
  const NodeId callable = tree.add_global("m", "f");
  const NodeId arguments = tree.add_tuple(Ids{tree.add_integer(1)});
  const NodeId object = tree.add_object(callable, arguments);
  EXPECT_FALSE(tree.value(object).state());
  tree.append_all(object, Ids{tree.add_integer(2), tree.add_integer(3)});
  tree.set_item(object, tree.add_string("k"), tree.add_integer(4));
  tree.set_state(object, tree.add_none());
  const Value value = tree.value(object);
  EXPECT_EQ(value.callable().qualname(), "f");
  EXPECT_EQ(value.arguments().item(0).as_int(), 1);
  EXPECT_EQ(value.appended_size(), 2u);
  EXPECT_EQ(value.appended(1).as_int(), 3);
  EXPECT_EQ(value.size(), 1u);
  EXPECT_EQ(value.key(0).text(), "k");
  EXPECT_EQ(value.item(0).as_int(), 4);
  ASSERT_TRUE(value.state());  // None, which is a state
  EXPECT_EQ(value.state()->kind(), Kind::none);
}

TEST(ValueTree, FillsATupleLater) {
  ValueTree tree;
  const NodeId tuple = tree.add_tuple({});
  const NodeId list = tree.add_list();
  tree.append(list, tuple);
  tree.set_tuple(tuple, Ids{list});
  EXPECT_EQ(tree.value(tuple).item(0).item(0).id(), tuple);
}

TEST(ValueTree, KeepsAttributesOfTensors) {
  ValueTree tree;
  const Value plain = tree.value(tree.add_tensor(1, {}));
  TensorAttributes attributes;
  attributes.parameter = true;
  attributes.stride = {1, 2};
  const NodeId tensor = tree.add_tensor(2, attributes);
  EXPECT_EQ(plain.attributes(), TensorAttributes{});
  EXPECT_EQ(tree.value(tensor).attributes(), attributes);
  EXPECT_EQ(tree.value(tensor).tensor(), 2u);
}

TEST(ValueTree, EditsTheAttributesOfOneTensorAlone) {
  ValueTree tree;
  const NodeId first = tree.add_tensor(0, {});
  const NodeId second = tree.add_tensor(1, {});
  tree.edit_attributes(first).device = "cuda:0";
  tree.edit_attributes(first).requires_grad = true;
  EXPECT_EQ(tree.value(first).attributes().device, "cuda:0");
  EXPECT_TRUE(tree.value(first).attributes().requires_grad);
  EXPECT_EQ(tree.value(second).attributes(), TensorAttributes{});
}

TEST(ValueTree, EditsWhatOthersWereAddedWithForOneTensorAlone) {
  ValueTree tree;
  TensorAttributes gradient;
  gradient.requires_grad = true;
  const NodeId first = tree.add_tensor(0, gradient);
  const NodeId second = tree.add_tensor(1, gradient);
  tree.edit_attributes(first).device = "cuda:0";
  const NodeId third = tree.add_tensor(2, tree.value(first).attributes());
  tree.edit_attributes(first).device = "cuda:1";
  EXPECT_EQ(tree.value(first).attributes().device, "cuda:1");
  EXPECT_EQ(tree.value(second).attributes(), gradient);
  EXPECT_EQ(tree.value(third).attributes().device, "cuda:0");
}

TEST(ValueTree, GivesChildrenByNumber) {
  ValueTree tree;
  const NodeId one = tree.add_integer(1);
  const NodeId list = tree.add_list();
  tree.append_all(list, Ids{one, one});
  const NodeId object = tree.add_object(tree.add_global("m", "f"), tree.add_tuple({}));
  EXPECT_TRUE(tree.value(object).is_bare_call());
  EXPECT_TRUE(tree.value(object).children().empty());
  tree.set_item(object, one, list);
  EXPECT_FALSE(tree.value(object).is_bare_call());
  const std::span<const NodeId> pairs = tree.value(object).children();
  EXPECT_EQ(Ids(pairs.begin(), pairs.end()), (Ids{one, list}));
  EXPECT_EQ(tree.value(list).children().size(), 2u);
  EXPECT_TRUE(tree.value(one).children().empty());
}

TEST(ValueTree, RenumbersEveryKindOfTensor) {
  ValueTree tree;
  const Value tensor = tree.value(tree.add_tensor(0, {}));
  const Value array = tree.value(tree.add_array(1, "<f4"));
  const Value bytes = tree.value(tree.add_bytes_in_tensor(2));
  const Value plain = tree.value(tree.add_bytes("abc"));
  tree.renumber_tensors(std::vector<std::uint32_t>{2, 0, 1});
  EXPECT_EQ(tensor.tensor(), 2u);
  EXPECT_EQ(array.tensor(), 0u);
  EXPECT_EQ(bytes.tensor(), 1u);
  EXPECT_EQ(bytes.text(), "");
  EXPECT_EQ(plain.tensor(), std::nullopt);
  EXPECT_EQ(plain.text(), "abc");
}

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

TEST(ValueTree, AnObjectBecomesWhatAnotherNodeIs) {
  ValueTree tree;
  const NodeId made = tree.add_object(tree.add_global("m", "make"), tree.add_tuple({}));
  const NodeId list = tree.add_list();
  tree.append(list, made);
  tree.set_root(list);
  tree.become(made, tree.add_array(7, "<f4"));
  const Value item = tree.root().item(0);
  EXPECT_EQ(item.id(), made);
  EXPECT_EQ(item.kind(), Kind::array);
  EXPECT_EQ(item.tensor(), 7u);
  EXPECT_EQ(item.text(), "<f4");
  tree.set_tensor(made, 3);
  EXPECT_EQ(item.tensor(), 3u);
}

}  // namespace
}  // namespace flatbed
