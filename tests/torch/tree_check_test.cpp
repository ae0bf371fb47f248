// check_keys() and check_tree(): equal keys, keys that cannot be hashed, and what the root reaches.
#include "torch/tree_check.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "torch/torch_tensors.hpp"

namespace flatbed::pth {
namespace {

using std::string;

constexpr std::size_t kFew = 2;    // compared with each other
constexpr std::size_t kMany = 40;  // sorted, or in a table

// A dict of two keys and others; "" or the message of its check.
struct Keys {
  ValueTree tree;

  string check(NodeId first, NodeId second, std::size_t size) {
    const NodeId dict = tree.add_dict();
    const NodeId none = tree.add_none();
    tree.set_item(dict, first, none);
    for (std::size_t i = 2; i < size; ++i)
      tree.set_item(dict, tree.add_string("other" + std::to_string(i)), none);
    tree.set_item(dict, second, none);
    const Result<void> checked = check_keys(tree.value(dict));
    if (checked) return {};
    EXPECT_EQ(checked.error().code, ErrorCode::pickle_duplicate_key);
    return checked.error().message;
  }
  bool equal(NodeId first, NodeId second) {
    const bool among_few = !check(first, second, kFew).empty();
    EXPECT_EQ(!check(first, second, kMany).empty(), among_few);
    return among_few;
  }
};

TEST(TreeCheck, NamesTheKeyThatIsThereTwice) {
  Keys k;
  for (const std::size_t size : {kFew, kMany}) {
    EXPECT_EQ(k.check(k.tree.add_string("a"), k.tree.add_string("a"), size),
              "a dict has the key 'a' twice");
    EXPECT_EQ(k.check(k.tree.add_integer(-7), k.tree.add_integer(-7), size),
              "a dict has the key -7 twice");
    EXPECT_EQ(k.check(k.tree.add_none(), k.tree.add_none(), size), "a dict has the key None twice");
    EXPECT_EQ(k.check(k.tree.add_bytes("a"), k.tree.add_bytes("a"), size),
              "a dict has the key a number or bytes twice");
  }
}

TEST(TreeCheck, FindsNumbersThatAreEqual) {
  Keys k;
  const NodeId one = k.tree.add_integer(1);
  EXPECT_TRUE(k.equal(one, k.tree.add_boolean(true)));
  EXPECT_TRUE(k.equal(one, k.tree.add_real(1)));
  EXPECT_TRUE(k.equal(one, k.tree.add_scalar("|i1", "\1")));
  EXPECT_TRUE(k.equal(k.tree.add_integer(0), k.tree.add_real(-0.0)));
  EXPECT_TRUE(k.equal(k.tree.add_integer(INT64_MIN), k.tree.add_real(-std::ldexp(1, 63))));
  EXPECT_TRUE(
      k.equal(k.tree.add_big_integer("8000000000000000"), k.tree.add_real(std::ldexp(1, 63))));
  EXPECT_TRUE(
      k.equal(k.tree.add_big_integer("400000000000000000"), k.tree.add_real(std::ldexp(1, 70))));
  EXPECT_TRUE(k.equal(k.tree.add_real(0.5), k.tree.add_real(0.5)));
}

TEST(TreeCheck, LeavesKeysThatDiffer) {
  Keys k;
  const NodeId one = k.tree.add_integer(1);
  const NodeId text = k.tree.add_string("a");
  const NodeId nan = k.tree.add_real(std::nan(""));
  const NodeId tuple = k.tree.add_tuple(std::array{one});
  EXPECT_FALSE(k.equal(one, k.tree.add_real(1.5)));
  EXPECT_FALSE(k.equal(one, k.tree.add_string("1")));
  EXPECT_FALSE(k.equal(text, k.tree.add_string("A")));
  EXPECT_FALSE(k.equal(text, k.tree.add_bytes("a")));
  EXPECT_FALSE(k.equal(nan, nan));
  EXPECT_FALSE(k.equal(k.tree.add_none(), k.tree.add_boolean(false)));
  EXPECT_FALSE(k.equal(k.tree.add_integer(INT64_MAX), k.tree.add_real(std::ldexp(1, 63))));
  EXPECT_FALSE(k.equal(tuple, tuple));  // not compared
  EXPECT_FALSE(k.equal(k.tree.add_bytes_in_tensor(0), k.tree.add_bytes_in_tensor(0)));
}

TEST(TreeCheck, RefusesAnArrayAsAKey) {
  ValueTree tree;
  const NodeId array = tree.add_array(0, "<f4");
  const NodeId as_value = tree.add_dict();
  tree.set_item(as_value, tree.add_string("a"), array);
  EXPECT_OK(check_keys(tree.value(as_value)));
  const NodeId as_key = tree.add_dict();
  tree.set_item(as_key, array, tree.add_none());
  EXPECT_ERROR(check_keys(tree.value(as_key)), pickle_type);
}

// Tensors 0 to 7, each in another part of an object or a tensor; the root does not reach 8.
TEST(TreeCheck, ReachesEveryPart) {
  ValueTree tree;
  const NodeId maker = tree.add_object(tree.add_global("m", "make"),
                                       tree.add_tuple(std::array{tree.add_tensor(0, {})}));
  const NodeId object = tree.add_object(maker, tree.add_tuple(std::array{tree.add_tensor(1, {})}));
  tree.append(object, tree.add_tensor(2, {}));
  tree.set_item(object, tree.add_bytes_in_tensor(3), tree.add_array(4, "<f4"));
  TensorAttributes attributes;
  attributes.quantizer = tree.add_tuple(std::array{tree.add_tensor(6, {})});
  const NodeId tensor = tree.add_tensor(5, attributes);
  TensorAttributes with_state;
  with_state.state = tree.add_list();
  tree.append(with_state.state, tree.add_tensor(7, {}));
  tree.append(with_state.state, object);  // a cycle
  const NodeId state = tree.add_list();
  tree.append_all(state, std::array{tensor, tree.add_tensor(5, with_state)});
  tree.set_state(object, state);
  tree.set_root(object);
  tree.add_tensor(8, {});
  const Result<Reached> reached = check_tree(tree, 9);
  ASSERT_OK(reached);
  std::vector<bool> expected(9, true);
  expected[8] = false;
  EXPECT_EQ(reached->tensors, expected);
  EXPECT_TRUE(reached->storages.empty());
}

TEST(TreeCheck, ListsStoragesThatAreValues) {
  ValueTree tree;
  const NodeId storage = tree.add_bytes_in_tensor(kStorageFlag | 3);
  const NodeId root = tree.add_list();
  tree.append_all(root, std::array{storage, storage, tree.add_tensor(0, {})});
  tree.set_root(root);
  const Result<Reached> reached = check_tree(tree, 1);
  ASSERT_OK(reached);
  EXPECT_EQ(reached->storages, std::vector<NodeId>{storage});
  EXPECT_EQ(reached->tensors, std::vector<bool>{true});
}

TEST(TreeCheck, ChecksWhatTheRootReachesAndNothingElse) {
  ValueTree tree;
  const NodeId key = tree.add_string("a");
  const NodeId object = tree.add_object(tree.add_global("m", "f"), tree.add_tuple({}));
  const NodeId dict = tree.add_dict();
  for (const NodeId keyed : {object, dict}) tree.set_items(keyed, std::array{key, key, key, key});
  tree.set_root(tree.add_list());
  EXPECT_OK(check_tree(tree, 0));
  tree.set_root(tree.add_tuple(std::array{object}));
  EXPECT_ERROR(check_tree(tree, 0), pickle_duplicate_key);
  tree.set_root(tree.add_tuple(std::array{tree.add_tuple(std::array{dict})}));
  EXPECT_ERROR(check_tree(tree, 0), pickle_duplicate_key);
}

}  // namespace
}  // namespace flatbed::pth
