// diff(): names, dtypes, shapes, bytes and structure; digests stand for data where both have them.
#include "flatbed/diff.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/save.hpp"
#include "save/diff_tree.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;

constexpr std::size_t kChunk = 262'144;

struct Named {
  std::string name;
  std::string bytes;
  std::vector<std::uint64_t> shape;
  Dtype dtype = Dtype::u8;
};

Checkpoint saved(const std::filesystem::path& path, const std::vector<Named>& tensors,
                 bool seal = true) {
  SavePlan plan;
  for (const Named& tensor : tensors)
    plan.items.push_back({tensor.name, tensor.dtype, tensor.shape, as_bytes(tensor.bytes)});
  EXPECT_TRUE(save(path, plan, {.seal = seal}));
  return Checkpoint::open(path).value();
}

using Row = std::tuple<std::string, TensorChange, std::uint64_t, std::uint64_t>;

std::vector<Row> rows_of(const DiffReport& report) {
  std::vector<Row> rows;
  for (const TensorDifference& tensor : report.tensors)
    rows.emplace_back(tensor.name, tensor.change, tensor.chunks, tensor.first_chunk);
  return rows;
}

TEST(Diff, NamesEveryKindOfChangeInTheOrderOfTheFirstAndThenOfTheSecond) {
  const TempDir dir;
  const Checkpoint a = saved(dir / "a", {{"gone", "abcd", {4}},
                                         {"same", "abcd", {4}},
                                         {"wide", "abcd", {4}},
                                         {"long", "abcd", {4}},
                                         {"data", "abcd", {4}}});
  const Checkpoint b = saved(dir / "b", {{"new", "abcd", {4}},
                                         {"same", "abcd", {4}},
                                         {"wide", "abcd", {4}, Dtype::i8},
                                         {"long", "abcd", {2, 2}},
                                         {"data", "abce", {4}}});
  const DiffReport report = diff(a, b).value();
  EXPECT_EQ(rows_of(report), (std::vector<Row>{{"gone", TensorChange::removed, 0, 0},
                                               {"wide", TensorChange::dtype, 0, 0},
                                               {"long", TensorChange::shape, 0, 0},
                                               {"data", TensorChange::bytes, 1, 0},
                                               {"new", TensorChange::added, 0, 0}}));
  EXPECT_EQ(report.equal_tensors, 1U);
  EXPECT_FALSE(report.same());
  EXPECT_FALSE(report.tensors[0].b);
  EXPECT_FALSE(report.tensors[4].a);
}

// Each pair of seals finds the same chunks, and reads only what has no digests.
TEST(Diff, ReadsOnlyDataWithoutDigests) {
  const TempDir dir;
  std::string before(4 * kChunk + 5, 'x');
  std::string after = before;
  after[kChunk] = 'y';
  after.back() = 'y';
  for (const bool seal_a : {false, true}) {
    for (const bool seal_b : {false, true}) {
      const Checkpoint a = saved(dir / "a", {{"w", before, {before.size()}}}, seal_a);
      const Checkpoint b = saved(dir / "b", {{"w", after, {after.size()}}}, seal_b);
      const DiffReport report = diff(a, b).value();
      EXPECT_EQ(rows_of(report), (std::vector<Row>{{"w", TensorChange::bytes, 2, 1}}));
      EXPECT_EQ(report.bytes_read, before.size() * ((seal_a ? 0U : 1U) + (seal_b ? 0U : 1U)));
    }
  }
}

TEST(Diff, AnAliasCountsAsATensorOfItsName) {
  const TempDir dir;
  SavePlan tied;
  tied.items.push_back({"embed", Dtype::u8, {2}, as_bytes("ab")});
  tied.aliases.push_back({"head", "embed"});
  ASSERT_OK(save(dir / "a", tied));
  const Checkpoint a = Checkpoint::open(dir / "a").value();
  const Checkpoint b = saved(dir / "b", {{"embed", "ab", {2}}, {"head", "ab", {2}}});
  EXPECT_TRUE(diff(a, b).value().same());
  const Checkpoint c = saved(dir / "c", {{"embed", "ab", {2}}, {"head", "ac", {2}}});
  EXPECT_EQ(rows_of(diff(c, a).value()), (std::vector<Row>{{"head", TensorChange::bytes, 1, 0}}));
}

TEST(Diff, ComparesASelection) {
  const TempDir dir;
  const Checkpoint a = saved(dir / "a", {{"v", "1", {1}}, {"w", "1", {1}}});
  const Checkpoint b = saved(dir / "b", {{"v", "2", {1}}, {"w", "1", {1}}});
  const Selection w{.include = {"w"}};
  EXPECT_TRUE(diff(a.select(w).value(), b.select(w).value()).value().same());
  EXPECT_EQ(diff(a, b.select(w).value()).value().tensors[0].change, TensorChange::removed);
}

TEST(Diff, AFileThatChangesMeanwhileIsAnError) {
  const TempDir dir;
  const Checkpoint a = saved(dir / "a", {{"w", "1", {1}}}, false);
  const Checkpoint b = saved(dir / "b", {{"w", "1", {1}}}, false);
  write_file(dir / "b", read_file(dir / "b") + "more");
  EXPECT_ERROR(diff(a, b), file_changed);
}

TEST(Diff, IsCancelled) {
  const TempDir dir;
  const Checkpoint a = saved(dir / "a", {{"w", "1", {1}}}, false);
  const std::atomic<bool> cancel = true;
  EXPECT_ERROR(diff(a, a, {.cancel = &cancel}), cancelled);
}

// ---- trees --------------------------------------------------------------------------------------

NodeId dict_of(ValueTree& tree, const std::vector<std::pair<std::string, NodeId>>& pairs) {
  const NodeId dict = tree.add_dict();
  for (const auto& [key, item] : pairs) tree.set_item(dict, tree.add_string(key), item);
  return dict;
}

NodeId list_of(ValueTree& tree, const std::vector<NodeId>& items) {
  const NodeId list = tree.add_list();
  tree.append_all(list, items);
  return list;
}

std::vector<std::string> places(const ValueTree& a, const ValueTree& b) {
  DiffReport report;
  compare_trees(a.root(), b.root(), report);
  std::vector<std::string> out;
  for (const TreeDifference& place : report.tree)
    out.push_back((place.a ? "-" : "") + std::string(place.b ? "+" : "") + place.path);
  return out;
}

TEST(DiffTree, NamesThePlacesWhoseValuesDiffer) {
  ValueTree a, b;
  a.set_root(dict_of(a, {{"epoch", a.add_integer(3)},
                         {"old", a.add_none()},
                         {"lr", list_of(a, {a.add_real(0.1), a.add_real(0.2)})},
                         {"nan", a.add_real(std::numeric_limits<double>::quiet_NaN())}}));
  b.set_root(dict_of(b, {{"nan", b.add_real(std::numeric_limits<double>::quiet_NaN())},
                         {"lr", list_of(b, {b.add_real(0.1), b.add_real(0.3), b.add_none()})},
                         {"new", b.add_none()},
                         {"epoch", b.add_integer(7)}}));
  EXPECT_EQ(places(a, b), (std::vector<std::string>{"-old", "+new", "-+epoch", "+lr.2", "-+lr.1"}));
}

TEST(DiffTree, KindsCountNotOnlyTexts) {
  ValueTree a, b;
  a.set_root(dict_of(a, {{"n", a.add_integer(1)}, {"s", a.add_string("x")}}));
  b.set_root(dict_of(b, {{"n", b.add_real(1.0)}, {"s", b.add_bytes("x")}}));
  EXPECT_EQ(places(a, b), (std::vector<std::string>{"-+n", "-+s"}));
}

TEST(DiffTree, EndsOnTreesWithCycles) {
  ValueTree a, b;
  for (ValueTree* tree : {&a, &b}) {
    const NodeId dict = tree->add_dict();
    tree->set_item(dict, tree->add_string("self"), dict);
    tree->set_item(dict, tree->add_string("step"), tree->add_integer(tree == &a ? 1 : 2));
    tree->set_root(dict);
  }
  EXPECT_EQ(places(a, b), (std::vector<std::string>{"-+step"}));
}

TEST(DiffTree, ListsNoMoreThanItsLimit) {
  ValueTree a, b;
  std::vector<NodeId> ones, twos;
  for (std::size_t i = 0; i <= kMaxTreeDifferences; ++i) {
    ones.push_back(a.add_integer(1));
    twos.push_back(b.add_integer(2));
  }
  a.set_root(list_of(a, ones));
  b.set_root(list_of(b, twos));
  DiffReport report;
  compare_trees(a.root(), b.root(), report);
  EXPECT_EQ(report.tree.size(), kMaxTreeDifferences);
  EXPECT_FALSE(report.tree_complete);
}

}  // namespace
}  // namespace flatbed
