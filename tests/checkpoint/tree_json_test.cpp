// tree_of() and tree_json(): a tree without its checkpoint, and its text.
#include "flatbed/tree_json.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "flatbed/save.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

// {"model": {"w": <tensor>}, "epoch": 3}
Checkpoint example(const test::TempDir& dir) {
  static const std::string bytes(4, 'x');
  SavePlan plan;
  plan.items.push_back({"model.w", Dtype::u8, {4}, as_bytes(bytes)});
  const NodeId root = plan.tree.add_dict();
  const NodeId model = plan.tree.add_dict();
  plan.tree.set_item(model, plan.tree.add_string("w"), plan.tree.add_tensor(0, {}));
  plan.tree.set_item(root, plan.tree.add_string("model"), model);
  plan.tree.set_item(root, plan.tree.add_string("epoch"), plan.tree.add_integer(3));
  plan.tree.set_root(root);
  EXPECT_OK(save(dir / "a.safetensors", plan, {.sync = false}));
  return Checkpoint::open(dir / "a.safetensors").value();
}

TEST(CheckpointTree, OutlivesItsCheckpoint) {
  const test::TempDir dir;
  std::optional<Checkpoint> checkpoint = example(dir);
  Result<ValueTree> tree = tree_of(*checkpoint);
  checkpoint.reset();
  ASSERT_OK(tree);
  EXPECT_EQ(tree->root().at("epoch").value().as_int(), 3);
  EXPECT_EQ(tree->root().at("model.w").value().tensor(), 0u);
}

TEST(CheckpointTree, ChangesOfItDoNotReachTheCheckpoint) {
  const test::TempDir dir;
  const Checkpoint checkpoint = example(dir);
  ValueTree tree = tree_of(checkpoint).value();
  tree.set_root(tree.add_integer(1));
  EXPECT_EQ(checkpoint.tree().value().size(), 2u);
}

TEST(CheckpointTree, BeginsWhereASelectionBegins) {
  const test::TempDir dir;
  const Checkpoint model = example(dir).select({.path = "model"}).value();
  EXPECT_EQ(tree_of(model).value().root().key(0).text(), "w");
  EXPECT_EQ(tree_json(model).value(), R"(["dict","w",["tensor","w"]])");
}

TEST(CheckpointTree, IsTheTextThatFilesHave) {
  const test::TempDir dir;
  EXPECT_EQ(tree_json(example(dir)).value(),
            R"(["dict","model",["dict","w",["tensor","model.w"]],"epoch",3])");
}

}  // namespace
}  // namespace flatbed
