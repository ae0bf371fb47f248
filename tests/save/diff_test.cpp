// diff(): names, dtypes, shapes, bytes and structure; digests stand for data where both have them.
#include "flatbed/diff.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "cast/cast_avx2.hpp"
#include "flatbed/save.hpp"
#include "save/diff_tree.hpp"
#include "save/diff_values.hpp"
#include "save/value_lanes.hpp"
#include "support/expect_error.hpp"
#include "support/fault_io.hpp"
#include "support/pickle_asm.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

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

// Gathering 256 KiB at a time would read 2,048 places for each chunk.
TEST(Diff, ReadsStridedTensorsInLargePiecesOnBothSides) {
  namespace pickle = test::pickle;
  constexpr std::int64_t kSide = 2048;
  const std::string count = pickle::integer(kSide * kSide);
  const TempDir dir;
  std::string data(kSide * kSide * 4, '\1');
  const auto open = [&](const char* file) {
    const std::string tensor = pickle::tensor({.storage = pickle::storage({.count = count}),
                                               .sizes = pickle::counts({kSide, kSide}),
                                               .strides = pickle::counts({1, kSide})});
    write_file(dir / file,
               test::torch_zip({.pickle = pickle::finish(pickle::dict({pickle::text("w"), tensor})),
                                .storages = {{"0", data}}}));
    return Checkpoint::open(dir / file).value();
  };
  const Checkpoint a = open("a.pth");
  data.back() = '\2';
  const Checkpoint b = open("b.pth");
  const test::FaultIo faults;
  const DiffReport report = diff(a, b).value();
  EXPECT_EQ(rows_of(report), (std::vector<Row>{{"w", TensorChange::bytes, 1, 63}}));
  EXPECT_LT(faults.count(test::IoCall::read), 20'000U);
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

// ---- values -------------------------------------------------------------------------------------

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

ValueDifference values_of(Dtype dtype_a, const std::string& a, Dtype dtype_b,
                          const std::string& b) {
  ValueSums sums;
  add_values({dtype_a, dtype_b, as_bytes(a), as_bytes(b), 0}, sums);
  return sums.result();
}

// More than a block of pairs, so that whole blocks and the rest are both seen.
TEST(DiffValues, FindTheWorstElementWhereverItIs) {
  constexpr std::size_t kCount = 5000;
  for (const std::size_t worst : {0UL, 17UL, 2047UL, 2048UL, 4999UL}) {
    std::vector<float> a(kCount, 2.0F), b(kCount, 2.0F);
    b[worst] = 6.0F;
    b[worst == 100 ? 101 : 100] = 1.5F;
    const ValueDifference found = values_of(Dtype::f32, bytes_of(a), Dtype::f32, bytes_of(b));
    EXPECT_EQ(found.worst, worst);
    EXPECT_EQ(found.max_abs, 4.0);
    EXPECT_NEAR(found.max_rel, 4.0 / 6.0, 1e-6);
    EXPECT_EQ(found.different, 2U);
    EXPECT_NEAR(found.mean_abs, 4.5 / kCount, 1e-9);
  }
}

// Of each way to sum a block, whatever this processor has.
TEST(DiffValues, EveryKernelFindsTheSame) {
  std::mt19937 random(1);
  std::normal_distribution<float> values;
  std::vector<float> a(kValueBlock), b(kValueBlock);
  for (int round = 0; round < 100; ++round) {
    for (float& value : a) value = values(random);
    b = a;
    for (std::size_t i = 0; i < b.size(); i += 3) b[i] = i % 2 == 0 ? values(random) : -0.0F;
    for (std::size_t i = 0; i < b.size(); i += 5) a[i] = b[i] = 0.0F;
    a[1] = 1e-40F;  // subnormal
    const std::string unaligned_a = 'x' + bytes_of(a), unaligned_b = 'x' + bytes_of(b);
    const LaneSums<float> plain =
        sum_floats(as_bytes(unaligned_a).data() + 1, as_bytes(unaligned_b).data() + 1);
    EXPECT_GT(plain.different, 0U);
    if (!has_avx2()) continue;
    const LaneSums<float> fast =
        sum_floats_avx2(as_bytes(unaligned_a).data() + 1, as_bytes(unaligned_b).data() + 1);
    EXPECT_EQ(std::tuple(fast.most, fast.most_rel, fast.different),
              std::tuple(plain.most, plain.most_rel, plain.different));
    EXPECT_NEAR(fast.sum, plain.sum, plain.sum * 1e-12);
  }
}

TEST(DiffValues, NaNAndInfinityAreCountedApart) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  std::vector<float> a(2048, 1.0F), b(2048, 1.0F);
  a[0] = b[0] = kNaN;  // the same
  a[1] = kNaN;
  a[2] = b[2] = kInf;  // the same
  b[3] = 1.25F;
  ValueDifference found = values_of(Dtype::f32, bytes_of(a), Dtype::f32, bytes_of(b));
  EXPECT_EQ(std::tuple(found.nans_a, found.nans_b, found.different), std::tuple(2U, 1U, 2U));
  EXPECT_EQ(found.max_abs, 0.25);
  EXPECT_EQ(found.worst, 3U);
  b[2] = -kInf;
  found = values_of(Dtype::f32, bytes_of(a), Dtype::f32, bytes_of(b));
  EXPECT_EQ(found.max_abs, std::numeric_limits<double>::infinity());
  EXPECT_EQ(found.max_rel, 1.0);
  EXPECT_EQ(found.worst, 2U);
}

// In a whole block and in the rest.
TEST(DiffValues, RelativeDistancesOfTheSmallestAndTheLargestNumbersAreFinite) {
  for (const std::size_t count : {1UL, 2048UL}) {
    const std::vector<float> small(count, 1e-40F), zero(count, 0.0F);
    EXPECT_EQ(values_of(Dtype::f32, bytes_of(small), Dtype::f32, bytes_of(zero)).max_rel, 1.0);
    const std::vector<double> most(count, 1.7e308), least(count, -1.7e308);
    const ValueDifference found =
        values_of(Dtype::f64, bytes_of(most), Dtype::f64, bytes_of(least));
    EXPECT_EQ(found.max_rel, 2.0);
    EXPECT_EQ(found.max_abs, std::numeric_limits<double>::infinity());
  }
}

TEST(DiffValues, CompareAcrossDtypes) {
  const std::string f32 = bytes_of<float>({1.0F, -3.0F}), f64 = bytes_of<double>({1.0, -3.5});
  const std::string i64 = bytes_of<std::int64_t>({1, -3}),
                    bf16 = bytes_of<std::uint16_t>({0x3F80, 0xC040});
  EXPECT_EQ(values_of(Dtype::f32, f32, Dtype::f64, f64).max_abs, 0.5);
  EXPECT_EQ(values_of(Dtype::i64, i64, Dtype::f64, f64).max_abs, 0.5);
  EXPECT_EQ(values_of(Dtype::f32, f32, Dtype::bf16, bf16).different, 0U);
  EXPECT_EQ(values_of(Dtype::i64, i64, Dtype::bf16, bf16).different, 0U);
  EXPECT_FALSE(has_values(Dtype::c64, Dtype::c64));
  EXPECT_FALSE(has_values(Dtype::f4, Dtype::f32));
  EXPECT_FALSE(has_values(Dtype::f32, Dtype::f8_e8m0));
}

TEST(Diff, GivesValuesOfWhatDiffersAndReadsNothingElse) {
  const TempDir dir;
  const std::string x = bytes_of<float>({1.0F, 2.0F}), y = bytes_of<float>({1.0F, 4.0F});
  const Checkpoint a = saved(dir / "a", {{"same", x, {2}, Dtype::f32}, {"w", x, {2}, Dtype::f32}});
  const Checkpoint b = saved(dir / "b", {{"same", x, {2}, Dtype::f32}, {"w", y, {2}, Dtype::f32}});
  const DiffReport report = diff(a, b, {.values = true}).value();
  ASSERT_EQ(report.tensors.size(), 1U);
  ASSERT_TRUE(report.tensors[0].values);
  EXPECT_EQ(report.tensors[0].values->max_abs, 2.0);
  EXPECT_EQ(report.tensors[0].chunks, 1U);
  EXPECT_EQ(report.bytes_read, 16U);
  EXPECT_FALSE(diff(a, b).value().tensors[0].values);
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
  EXPECT_OK(compare_trees(a.root(), b.root(), report));
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
  EXPECT_EQ(places(a, b), (std::vector<std::string>{"-+epoch", "-old", "-+lr.1", "+lr.2", "+new"}));
}

TEST(DiffTree, KindsCountNotOnlyTexts) {
  ValueTree a, b;
  a.set_root(dict_of(a, {{"n", a.add_integer(1)}, {"s", a.add_string("x")}}));
  b.set_root(dict_of(b, {{"n", b.add_real(1.0)}, {"s", b.add_bytes("x")}}));
  EXPECT_EQ(places(a, b), (std::vector<std::string>{"-+n", "-+s"}));
}

// {1: .., "1": .., nan: .., nan: ..}: in Python all four are different keys.
TEST(DiffTree, KeysOfTheSameTextArePairedByKindAndOrder) {
  ValueTree a, b;
  for (ValueTree* tree : {&a, &b}) {
    const NodeId dict = tree->add_dict();
    const double nan = std::numeric_limits<double>::quiet_NaN();
    tree->set_item(dict, tree->add_integer(1), tree->add_integer(10));
    tree->set_item(dict, tree->add_string("1"), tree->add_integer(11));
    tree->set_item(dict, tree->add_real(nan), tree->add_integer(12));
    tree->set_item(dict, tree->add_real(nan), tree->add_integer(tree == &a ? 13 : 14));
    tree->set_root(dict);
  }
  EXPECT_EQ(places(a, a), std::vector<std::string>{});
  EXPECT_EQ(places(a, b), (std::vector<std::string>{"-+nan"}));
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

// Lists of one item that form a ring.
ValueTree ring_of(std::size_t count) {
  ValueTree tree;
  std::vector<NodeId> lists;
  for (std::size_t i = 0; i < count; ++i) lists.push_back(tree.add_list());
  for (std::size_t i = 0; i < count; ++i) {
    const std::vector<NodeId> next{lists[(i + 1) % count]};
    tree.append_all(lists[i], next);
  }
  tree.set_root(lists[0]);
  return tree;
}

// Rings of 10,007 and 10,009 lists have 100 million pairs.
TEST(DiffTree, RefusesCyclesOfTooManyPairs) {
  DiffReport report;
  const ValueTree a = ring_of(10'007), b = ring_of(10'009);
  EXPECT_ERROR(compare_trees(a.root(), b.root(), report), limit_exceeded);
  EXPECT_OK(compare_trees(a.root(), ring_of(3).root(), report));
  EXPECT_TRUE(report.tree.empty());
}

// Each list holds the next one and a number.
TEST(DiffTree, ThePathsOfDeepDifferencesAreLimited) {
  constexpr std::size_t kDepth = 100'000;
  ValueTree a, b;
  for (ValueTree* tree : {&a, &b}) {
    NodeId inner = tree->add_list();
    for (std::size_t i = 0; i < kDepth; ++i)
      inner = list_of(*tree, {inner, tree->add_integer(tree == &a ? 1 : 2)});
    tree->set_root(inner);
  }
  DiffReport report;
  EXPECT_OK(compare_trees(a.root(), b.root(), report));
  EXPECT_FALSE(report.tree_complete);
  std::uint64_t nbytes = 0;
  for (const TreeDifference& place : report.tree) nbytes += place.path.size();
  EXPECT_LE(nbytes, kMaxTreePathNbytes);
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
  EXPECT_OK(compare_trees(a.root(), b.root(), report));
  EXPECT_EQ(report.tree.size(), kMaxTreeDifferences);
  EXPECT_FALSE(report.tree_complete);
}

}  // namespace
}  // namespace flatbed
