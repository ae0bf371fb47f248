// check_plan_tree(): trees that no file may have, each beside one that it may.
#include "flatbed/check_plan.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

#include "base/bytes.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/save_torch.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

// A plan of one tensor "w", U8 [4], whose root is a dict.
struct Example {
  Example() {
    plan.items.push_back({"w", Dtype::u8, {4}, as_bytes(std::string_view("xxxx"))});
    root = tree.add_dict();
    tree.set_root(root);
  }
  void set(NodeId key, NodeId item) { tree.set_item(root, key, item); }

  SavePlan plan;
  ValueTree& tree = plan.tree;
  NodeId root;
};

TEST(CheckPlan, TakesWhatFilesMayHave) {
  Example example;
  example.set(example.tree.add_string("w"), example.tree.add_tensor(0, {}));
  example.set(example.tree.add_integer(1), example.root);  // a cycle
  EXPECT_OK(check_plan_tree(example.plan));
  EXPECT_OK(check_plan_tree(SavePlan()));
}

TEST(CheckPlan, TensorsAreItemsOfThePlan) {
  for (const bool in_state : {false, true}) {
    Example example;
    TensorAttributes attributes;
    if (in_state) attributes.state = example.tree.add_tensor(1, {});
    example.set(example.tree.add_string("w"),
                example.tree.add_tensor(in_state ? 0 : 1, attributes));
    EXPECT_ERROR(check_plan_tree(example.plan), tree_unknown_tensor);
    const test::TempDir dir;
    EXPECT_ERROR(save(dir / "a", example.plan), tree_unknown_tensor);
    EXPECT_ERROR(save_set(dir / "b", example.plan), tree_unknown_tensor);
    EXPECT_ERROR(save_torch(dir / "c", example.plan), tree_unknown_tensor);
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  }
}

TEST(CheckPlan, WhatTheRootDoesNotReachDoesNotCount) {
  Example example;
  example.tree.add_tensor(7, {});
  EXPECT_OK(check_plan_tree(example.plan));
}

TEST(CheckPlan, KeysAreDistinctAndNoLists) {
  Example example;
  example.set(example.tree.add_string("k"), example.tree.add_none());
  EXPECT_OK(check_plan_tree(example.plan));
  example.set(example.tree.add_string("k"), example.tree.add_none());
  EXPECT_ERROR(check_plan_tree(example.plan), tree_duplicate_key);
  Example other;
  other.set(other.tree.add_list(), other.tree.add_none());
  EXPECT_ERROR(check_plan_tree(other.plan), tree_malformed_key);
}

TEST(CheckPlan, TextsAreUtf8) {
  Example example;
  example.set(example.tree.add_string("k"), example.tree.add_string("\xff"));
  EXPECT_FALSE(check_plan_tree(example.plan));
}

TEST(CheckPlan, AttributesFitTheTensor) {
  Example example;
  TensorAttributes attributes;
  attributes.dtype = "complex128";
  example.set(example.tree.add_string("w"), example.tree.add_tensor(0, attributes));
  EXPECT_ERROR(check_plan_tree(example.plan), tree_unknown_attribute);
}

}  // namespace
}  // namespace flatbed
