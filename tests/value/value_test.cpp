// ValueTree and Value: what is added is what is read, and what a value does not have is None.
#include "flatbed/value.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <iterator>
#include <optional>
#include <ranges>
#include <string>
#include <thread>
#include <utility>
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

TEST(Value, IsNoneWhereItsKindHasNoSuchPart) {
  ValueTree tree;
  const Value number = tree.value(tree.add_integer(1));
  const Value tuple = tree.value(tree.add_tuple(Ids{number.id()}));
  const NodeId dict_id = tree.add_dict();
  tree.set_item(dict_id, number.id(), tuple.id());
  const Value dict = tree.value(dict_id);
  for (const Value value : {number, tuple, dict, tree.root()}) {
    EXPECT_EQ(value.callable().kind(), Kind::none);
    EXPECT_EQ(value.arguments().kind(), Kind::none);
    EXPECT_EQ(value.appended(0).kind(), Kind::none);
  }
  EXPECT_EQ(tuple.key(0).kind(), Kind::none);
  EXPECT_EQ(number.key(0).kind(), Kind::none);
  EXPECT_EQ(number.item(0).kind(), Kind::none);
  EXPECT_EQ(tree.root().item(0).kind(), Kind::none);
}

TEST(Value, IsNoneBeyondTheLastPart) {
  ValueTree tree;
  const NodeId one = tree.add_integer(1);
  const Value tuple = tree.value(tree.add_tuple(Ids{one}));
  const NodeId dict = tree.add_dict();
  tree.set_item(dict, one, one);
  const NodeId object = tree.add_object(tree.add_global("m", "f"), tree.add_tuple({}));
  tree.append(object, one);
  EXPECT_EQ(tuple.item(1).kind(), Kind::none);
  EXPECT_EQ(tuple.item(~std::size_t{0}).kind(), Kind::none);
  EXPECT_EQ(tree.value(dict).key(1).kind(), Kind::none);
  EXPECT_EQ(tree.value(dict).item(~std::size_t{0} / 2 + 1).kind(), Kind::none);
  EXPECT_EQ(tree.value(object).key(0).kind(), Kind::none);
  EXPECT_EQ(tree.value(object).appended(1).kind(), Kind::none);
}

TEST(Value, ItemsAreARange) {
  ValueTree tree;
  const NodeId list = tree.add_list();
  for (const std::int64_t number : {3, 4, 5}) tree.append(list, tree.add_integer(number));
  std::int64_t sum = 0;
  for (const Value item : tree.value(list).items()) sum = sum * 10 + *item.as_int();
  EXPECT_EQ(sum, 345);
  EXPECT_EQ(tree.value(list).items().size(), 3u);
  EXPECT_TRUE(tree.value(list).pairs().empty());
  EXPECT_TRUE(tree.value(tree.add_none()).items().empty());
}

TEST(Value, PairsAreARange) {
  ValueTree tree;
  const NodeId dict = tree.add_dict();
  const NodeId object = tree.add_object(tree.add_global("m", "f"), tree.add_tuple({}));
  for (const NodeId owner : {dict, object}) {
    tree.set_item(owner, tree.add_string("a"), tree.add_integer(1));
    tree.set_item(owner, tree.add_string("b"), tree.add_integer(2));
    std::string keys;
    std::int64_t items = 0;
    for (const auto [key, item] : tree.value(owner).pairs()) {
      keys += key.text();
      items = items * 10 + *item.as_int();
    }
    EXPECT_EQ(keys, "ab");
    EXPECT_EQ(items, 12);
    // Items are the values of the pairs.
    std::int64_t values = 0;
    for (const Value item : tree.value(owner).items()) values = values * 10 + *item.as_int();
    EXPECT_EQ(values, 12);
  }
}

TEST(Value, RangesServeStandardAlgorithms) {
  static_assert(std::forward_iterator<ValueRange<Value>::Iterator>);
  static_assert(std::ranges::forward_range<ValueRange<ValuePair>>);
  ValueTree tree;
  const NodeId list = tree.add_list();
  for (const std::int64_t number : {3, 4}) tree.append(list, tree.add_integer(number));
  const auto is_four = [](Value item) { return item.as_int() == 4; };
  EXPECT_EQ(std::ranges::count_if(tree.value(list).items(), is_four), 1);
}

TEST(ValueTree, CopiesAreIndependent) {
  ValueTree tree;
  const NodeId list = tree.add_list();
  tree.append(list, tree.add_string("one"));
  tree.set_root(list);
  ValueTree copy = tree;
  copy.append(list, copy.add_string("two"));
  EXPECT_EQ(tree.root().size(), 1u);
  ASSERT_EQ(copy.root().size(), 2u);
  EXPECT_EQ(copy.root().item(0).text(), "one");
  EXPECT_EQ(copy.root().item(1).text(), "two");
  copy = tree;
  EXPECT_EQ(copy.root().size(), 1u);
}

TEST(ValueTree, MovesWithAllItsNodes) {
  ValueTree tree;
  const NodeId list = tree.add_list();
  TensorAttributes attributes;
  attributes.device = "cuda:0";
  tree.append(list, tree.add_tensor(3, attributes));
  tree.set_root(list);
  ValueTree moved = std::move(tree);
  EXPECT_EQ(moved.root().item(0).attributes().device, "cuda:0");
  moved.append(list, moved.add_string("more"));
  tree = std::move(moved);
  EXPECT_EQ(tree.root().size(), 2u);
  EXPECT_EQ(tree.root().item(1).text(), "more");
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

// Copies share what they hold until one of them changes.
TEST(ValueTree, ACopyDoesNotChangeWithTheOriginal) {
  ValueTree tree;
  const NodeId root = tree.add_dict();
  tree.set_item(root, tree.add_string("a"), tree.add_tensor(0, {}));
  tree.set_root(root);
  ValueTree copy = tree;
  const std::size_t nodes = copy.size();
  tree.set_item(root, tree.add_string("b"), tree.add_integer(2));
  tree.edit_attributes(tree.root().item(0).id()).parameter = true;
  tree.renumber_tensors(std::array<std::uint32_t, 1>{7});
  EXPECT_EQ(copy.size(), nodes);
  EXPECT_EQ(copy.root().size(), 1u);
  EXPECT_FALSE(copy.root().item(0).attributes().parameter);
  EXPECT_EQ(copy.root().item(0).tensor(), 0u);
  copy.set_item(root, copy.add_string("c"), copy.add_none());
  EXPECT_EQ(tree.root().size(), 2u);
  EXPECT_EQ(tree.root().key(1).text(), "b");
  EXPECT_EQ(tree.root().item(0).tensor(), 7u);
}

// The change may come at any time after the copy was made, also while it is dropped. The flag is
// relaxed so that it adds no order.
TEST(ValueTree, ThreadsMayDropACopyWhileTheOriginalChanges) {
  ValueTree tree;
  const NodeId root = tree.add_list();
  tree.set_root(root);
  for (std::int64_t round = 0; round < 200; ++round) {
    tree.append(root, tree.add_integer(round));
    std::atomic<bool> dropped = false;
    std::thread reader([copy = ValueTree(tree), round, &dropped]() mutable {
      const Value items = copy.root();
      EXPECT_EQ(items.size(), static_cast<std::size_t>(round + 1));
      EXPECT_EQ(items.item(items.size() - 1).as_int(), round);
      copy = ValueTree();
      dropped.store(true, std::memory_order_relaxed);
    });
    while (round % 2 == 0 && !dropped.load(std::memory_order_relaxed)) std::this_thread::yield();
    tree.edit_attributes(tree.add_tensor(0, {})).parameter = true;
    tree.renumber_tensors(std::array<std::uint32_t, 1>{0});
    reader.join();
  }
  EXPECT_EQ(tree.root().size(), 200u);
}

TEST(ValueTree, ThreadsMayCopyOneTree) {
  ValueTree tree;
  tree.set_root(tree.add_list());
  const auto change_copy = [&] {
    ValueTree copy = tree;
    copy.append(copy.root().id(), copy.add_none());
    EXPECT_EQ(copy.root().size(), 1u);
  };
  std::thread other(change_copy);
  change_copy();
  other.join();
  EXPECT_EQ(tree.root().size(), 0u);
}

TEST(ValueTree, TakesTheAttributesOfItsOwnTensorsWhenItWasCopied) {
  ValueTree tree;
  TensorAttributes attributes;
  attributes.device = "a device with a long name";
  const NodeId first = tree.add_tensor(0, attributes);
  { const ValueTree copy = tree; }
  const NodeId second = tree.add_tensor(1, tree.value(first).attributes());
  EXPECT_EQ(tree.value(second).attributes().device, "a device with a long name");
}

TEST(ValueTree, ACopyOutlivesTheOriginal) {
  std::optional<ValueTree> tree(std::in_place);
  tree->set_root(tree->add_string("kept"));
  const ValueTree copy = *tree;
  tree.reset();
  EXPECT_EQ(copy.root().text(), "kept");
}

}  // namespace
}  // namespace flatbed
