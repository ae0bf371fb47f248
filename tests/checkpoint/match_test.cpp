// match(): lists in both meanings, prefixes that explain what is missing, and expectations as JSON.
#include "flatbed/match.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_torch.hpp"
#include "support/cpu_time.hpp"
#include "support/expect_message.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;
using Shape = std::vector<std::uint64_t>;

constexpr std::array<std::byte, 64> kZeros{};

SaveItem item(std::string_view name, Shape shape = {2}, Dtype dtype = Dtype::f32) {
  std::uint64_t nbytes = bits(dtype) / 8;
  for (const std::uint64_t size : shape) nbytes *= size;
  return {std::string(name), dtype, std::move(shape), std::span(kZeros).first(nbytes)};
}

SavePlan plan_of(const Names& names) {
  SavePlan plan;
  for (const std::string& name : names) plan.items.push_back(item(name));
  return plan;
}

Checkpoint saved(const TempDir& dir, const SavePlan& plan) {
  static_cast<void>(save(dir / "a.safetensors", plan, {.sync = false}).value());
  return Checkpoint::open(dir / "a.safetensors").value();
}

// A PyTorch file; a plan without a tree becomes a dict of its names.
Checkpoint saved_torch(const TempDir& dir, const SavePlan& plan) {
  SaveTorchOptions options;
  options.file.sync = false;
  static_cast<void>(save_torch(dir / "a.pth", plan, options).value());
  return Checkpoint::open(dir / "a.pth").value();
}

std::vector<Expected> expect(const Names& names) {
  std::vector<Expected> out;
  for (const std::string& name : names) out.push_back({name, Shape{2}, Dtype::f32});
  return out;
}

constexpr MatchOptions kTorch{.meaning = MatchMeaning::torch};

TEST(Match, ListsWhatIsMissingAndUnexpectedInTheOrderOfEachSide) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir, plan_of({"z", "b", "y", "a"}));
  const auto expected = expect({"q", "a", "p", "b"});
  const MatchReport report = match(checkpoint, expected).value();
  EXPECT_EQ(report.missing_keys, (Names{"q", "p"}));
  EXPECT_EQ(report.unexpected_keys, (Names{"z", "y"}));
  ASSERT_EQ(report.matched.size(), 2u);
  EXPECT_EQ(report.matched[0].expected, 1u);
  EXPECT_EQ(checkpoint.tensors()[report.matched[0].tensor].name, "a");
  EXPECT_FALSE(report.complete());
  EXPECT_TRUE(report.partial());
}

TEST(Match, IsCompleteIfAllMatch) {
  const TempDir dir;
  const MatchReport report = match(saved(dir, plan_of({"a", "b"})), expect({"b", "a"})).value();
  EXPECT_TRUE(report.complete());
  EXPECT_TRUE(report.partial());
  EXPECT_FALSE(report.suggested);
  EXPECT_TRUE(match(saved(dir, {}), {}).value().complete());
  EXPECT_FALSE(match(saved(dir, {}), {}).value().partial());
}

TEST(Match, ReportsAnotherShapeWithBothSides) {
  const TempDir dir;
  SavePlan plan;
  plan.items = {item("a", {3}), item("b", {1, 2})};
  const MatchReport report = match(saved(dir, plan), expect({"a", "b"})).value();
  ASSERT_EQ(report.mismatched.size(), 2u);
  EXPECT_EQ(report.mismatched[0].name, "a");
  EXPECT_EQ(report.mismatched[0].shape, Shape{3});
  EXPECT_EQ(report.mismatched[0].expected_shape, Shape{2});
  EXPECT_TRUE(report.matched.empty());
  EXPECT_TRUE(report.missing_keys.empty());
  EXPECT_TRUE(report.unexpected_keys.empty());
  EXPECT_FALSE(report.complete());
  EXPECT_FALSE(report.partial());
}

TEST(Match, IgnoresOtherSizesIfAsked) {
  const TempDir dir;
  SavePlan plan;
  plan.items = {item("a", {3}), item("b")};
  const Checkpoint checkpoint = saved(dir, plan);
  const MatchReport report =
      match(checkpoint, expect({"a", "b"}), {.ignore_mismatched_sizes = true}).value();
  ASSERT_EQ(report.mismatched.size(), 1u);
  EXPECT_TRUE(report.mismatched[0].ignored);
  EXPECT_TRUE(report.complete());
  EXPECT_TRUE(report.partial());
}

TEST(Match, TakesAnotherDtypeUnlessItMustBeExact) {
  const TempDir dir;
  SavePlan plan;
  plan.items = {item("a", {2}, Dtype::bf16)};
  const Checkpoint checkpoint = saved(dir, plan);
  EXPECT_TRUE(match(checkpoint, expect({"a"})).value().complete());
  const MatchReport exact = match(checkpoint, expect({"a"}),
                                  {.dtypes = DtypePolicy::exact, .ignore_mismatched_sizes = true})
                                .value();
  ASSERT_EQ(exact.mismatched.size(), 1u);
  EXPECT_EQ(exact.mismatched[0].dtype, Dtype::bf16);
  EXPECT_EQ(exact.mismatched[0].expected_dtype, Dtype::f32);
  EXPECT_FALSE(exact.mismatched[0].ignored);
  EXPECT_FALSE(exact.complete());
}

TEST(Match, UnsetShapeAndDtypeMeanAny) {
  const TempDir dir;
  const std::vector<Expected> any{{"a"}};
  EXPECT_TRUE(
      match(saved(dir, plan_of({"a"})), any, {.dtypes = DtypePolicy::exact}).value().complete());
}

TEST(Match, RefusesTwoEqualNames) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir, plan_of({"a"}));
  expect_error(match(checkpoint, expect({"a", "a"})), ErrorCode::invalid_argument,
               "two expected tensors are called 'a'");
  std::vector<Expected> tied = expect({"a", "b"});
  tied[0].other_names = {"b"};
  expect_error(match(checkpoint, tied), ErrorCode::invalid_argument, "called 'b'");
}

TEST(Match, AliasesResolve) {
  const TempDir dir;
  SavePlan plan = plan_of({"embed", "x"});
  plan.aliases = {{"head", "embed"}};
  const Checkpoint checkpoint = saved(dir, plan);
  EXPECT_TRUE(match(checkpoint, expect({"embed", "head", "x"})).value().complete());
  EXPECT_TRUE(match(checkpoint, expect({"head", "x"})).value().complete());
  EXPECT_TRUE(match(checkpoint, expect({"embed", "x"})).value().complete());
}

TEST(Match, OfTiedExpectedNamesOneIsEnough) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir, plan_of({"head"}));
  std::vector<Expected> tied = expect({"embed"});
  tied[0].other_names = {"head"};
  EXPECT_TRUE(match(checkpoint, tied).value().complete());
  const MatchReport torch = match(checkpoint, tied, kTorch).value();
  EXPECT_EQ(torch.missing_keys, Names{"embed"});
  EXPECT_EQ(torch.matched.size(), 1u);
}

TEST(MatchTorch, AliasesAreKeysOfPyTorchFilesOnly) {
  const TempDir dir;
  SavePlan plan = plan_of({"embed"});
  plan.aliases = {{"head", "embed"}};
  const MatchReport of_safetensors =
      match(saved(dir, plan), expect({"embed", "head"}), kTorch).value();
  EXPECT_EQ(of_safetensors.missing_keys, Names{"head"});
  const Checkpoint torch = saved_torch(dir, plan);
  ASSERT_EQ(torch.aliases().size(), 1u);
  EXPECT_TRUE(match(torch, expect({"embed", "head"}), kTorch).value().complete());
  EXPECT_EQ(match(torch, expect({"embed"}), kTorch).value().unexpected_keys, Names{"head"});
}

TEST(MatchTorch, ATensorOfShapeOneFitsAScalar) {
  const TempDir dir;
  SavePlan plan;
  plan.items = {item("one", {1}), item("three", {3}), item("none", {0}), item("matrix", {1, 1})};
  const Checkpoint checkpoint = saved(dir, plan);
  std::vector<Expected> scalars;
  for (const char* name : {"one", "three", "none", "matrix"}) scalars.push_back({name, Shape{}});
  EXPECT_EQ(match(checkpoint, scalars).value().mismatched.size(), 4u);
  const MatchReport report = match(checkpoint, scalars, kTorch).value();
  ASSERT_EQ(report.matched.size(), 1u);
  EXPECT_EQ(report.matched[0].expected, 0u);
  EXPECT_EQ(report.mismatched.size(), 3u);
}

const Names kNorm{"bn.weight", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"};

TEST(MatchTorch, ForgivesBatchesThatAnOldModuleDidNotTrack) {
  const TempDir dir;
  const Checkpoint old = saved(dir, plan_of({"bn.weight", "bn.running_mean", "bn.running_var"}));
  const MatchReport report = match(old, expect(kNorm), kTorch).value();
  EXPECT_TRUE(report.complete());
  EXPECT_EQ(report.forgiven, Names{"bn.num_batches_tracked"});
  EXPECT_EQ(match(old, expect(kNorm)).value().missing_keys, Names{"bn.num_batches_tracked"});
  // A buffer of this name that is not a normalization's.
  EXPECT_EQ(match(old, expect({"num_batches_tracked"}), kTorch).value().missing_keys,
            Names{"num_batches_tracked"});
}

// A state dict whose _metadata states `version` for the module bn, and a key without a tensor.
SavePlan versioned(std::int64_t version) {
  SavePlan plan = plan_of({"bn.weight", "bn.running_mean", "bn.running_var"});
  ValueTree& tree = plan.tree;
  const auto ordered = [&] {
    return tree.add_object(tree.add_global("collections", "OrderedDict"), tree.add_tuple({}));
  };
  const NodeId root = ordered();
  for (std::uint32_t i = 0; i < plan.items.size(); ++i)
    tree.set_item(root, tree.add_string(plan.items[i].name), tree.add_tensor(i, {}));
  tree.set_item(root, tree.add_string("bn._extra_state"), tree.add_integer(7));
  const NodeId of_module = tree.add_dict();
  tree.set_item(of_module, tree.add_string("version"), tree.add_integer(version));
  const NodeId metadata = ordered();
  tree.set_item(metadata, tree.add_string("bn"), of_module);
  const NodeId state = tree.add_dict();
  tree.set_item(state, tree.add_string("_metadata"), metadata);
  tree.set_state(root, state);
  tree.set_root(root);
  return plan;
}

TEST(MatchTorch, ReadsTheVersionOfModules) {
  const TempDir dir;
  const MatchReport old = match(saved_torch(dir, versioned(1)), expect(kNorm), kTorch).value();
  EXPECT_EQ(old.forgiven, Names{"bn.num_batches_tracked"});
  EXPECT_TRUE(old.missing_keys.empty());
  const MatchReport recent = match(saved_torch(dir, versioned(2)), expect(kNorm), kTorch).value();
  EXPECT_TRUE(recent.forgiven.empty());
  EXPECT_EQ(recent.missing_keys, Names{"bn.num_batches_tracked"});
}

TEST(MatchTorch, KeysWithoutTensorsAreUnexpected) {
  const TempDir dir;
  const Checkpoint checkpoint = saved_torch(dir, versioned(2));
  EXPECT_EQ(match(checkpoint, expect(kNorm), kTorch).value().unexpected_keys,
            Names{"bn._extra_state"});
  EXPECT_TRUE(match(checkpoint, expect(kNorm)).value().unexpected_keys.empty());
}

TEST(MatchTorch, ADictIsAKeyUnlessTensorsAreInIt) {
  const TempDir dir;
  SavePlan plan = plan_of({"a.w", "b"});
  ValueTree& tree = plan.tree;
  const NodeId root = tree.add_dict();
  const NodeId with_tensor = tree.add_dict();
  tree.set_item(with_tensor, tree.add_string("w"), tree.add_tensor(0, {}));
  const NodeId numbers = tree.add_dict();
  tree.set_item(numbers, tree.add_string("lr"), tree.add_integer(1));
  tree.set_item(root, tree.add_string("a"), with_tensor);
  tree.set_item(root, tree.add_string("b"), tree.add_tensor(1, {}));
  tree.set_item(root, tree.add_string("settings"), numbers);
  tree.set_item(root, tree.add_string("none"), tree.add_dict());
  tree.set_root(root);
  EXPECT_EQ(match(saved_torch(dir, plan), expect({"a.w", "b"}), kTorch).value().unexpected_keys,
            (Names{"settings", "none"}));
}

// What match() suggests where the names are these.
std::optional<PrefixRule> suggested(const Names& names, const Names& expected) {
  const TempDir dir;
  return match(saved(dir, plan_of(names)), expect(expected)).value().suggested;
}

TEST(MatchRule, SuggestsToStripAPrefix) {
  const auto rule = suggested({"module.a", "module.b"}, {"a", "b"});
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->strip, "module.");
  EXPECT_EQ(rule->add, "");
  EXPECT_EQ(rule->matches_before, 0u);
  EXPECT_EQ(rule->matches, 2u);
  EXPECT_EQ(rule->reason, "every name begins with 'module.': 2 of 2 match without it");
}

TEST(MatchRule, SuggestsToAddAPrefix) {
  const auto rule = suggested({"x.a", "x.b"}, {"enc.x.a", "enc.x.b", "other"});
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->strip, "");
  EXPECT_EQ(rule->add, "enc.");
  const auto all = suggested({"a", "b"}, {"top.enc.a", "top.enc.b"});
  ASSERT_TRUE(all);
  EXPECT_EQ(all->add, "top.enc.");
  EXPECT_EQ(all->reason,
            "every missing name begins with 'top.enc.': 2 of 2 match with it in front");
}

TEST(MatchRule, SuggestsToReplaceOnePrefixByAnother) {
  const auto rule = suggested({"net.a.w", "net.b.w"}, {"model.a.w", "model.b.w"});
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->strip, "net.");
  EXPECT_EQ(rule->add, "model.");
  EXPECT_EQ(rule->reason,
            "every name begins with 'net.' and every missing name begins with 'model.': "
            "2 of 2 match if the one replaces the other");
}

TEST(MatchRule, FindsReadyPrefixesAmongOtherNames) {
  const auto rule = suggested({"model.a", "model.b", "opt.x"}, {"a", "b"});
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->strip, "model.");
  EXPECT_EQ(rule->reason, "2 of 3 names begin with 'model.': 2 of 2 match without it");
  EXPECT_EQ(suggested({"module._orig_mod.a", "module._orig_mod.b"}, {"a", "b"})->strip,
            "module._orig_mod.");
}

TEST(MatchRule, FindsFewNamesAmongMany) {
  Names names;
  for (int i = 0; i < 5'000; ++i) names.push_back(str_cat("optimizer.state.", i));
  for (int i = 0; i < 3; ++i) names.push_back(str_cat("model.", i));
  const auto rule = suggested(names, {"0", "1", "2", "head"});
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->strip, "model.");
  EXPECT_EQ(rule->matches, 3u);
}

TEST(MatchRule, SuggestsNothingThatDoesNotHelp) {
  EXPECT_FALSE(suggested({"module.a", "module.b"}, {"c", "d"}));
  EXPECT_FALSE(suggested({"a"}, {"a", "b"}));
  EXPECT_FALSE(suggested({}, {"a"}));
  // Llama's own names begin with model.
  EXPECT_FALSE(suggested({"model.a", "model.b", "lm_head"}, {"model.a", "model.b", "lm_head"}));
  // Two tensors would get one name.
  EXPECT_FALSE(suggested({"module.a", "a.x", "module.a.x"}, {"a.x", "q", "r", "s"}));
}

TEST(MatchRule, AppliesReadySetsIfAsked) {
  const TempDir dir;
  const Checkpoint checkpoint = saved(dir, plan_of({"module.a", "module.b", "module.c"}));
  const MatchReport report = match(checkpoint, expect({"b", "a"}), {.ready_sets = true}).value();
  ASSERT_TRUE(report.applied);
  EXPECT_EQ(report.applied->strip, "module.");
  EXPECT_EQ(report.unexpected_keys, Names{"c"});
  ASSERT_EQ(report.matched.size(), 2u);
  EXPECT_EQ(checkpoint.tensors()[report.matched[0].tensor].name, "module.b");
}

TEST(MatchRule, AppliesNeitherWhatIsNotReadyNorWhatDoesNotHelp) {
  const TempDir dir;
  const MatchReport other =
      match(saved(dir, plan_of({"net.a", "net.b"})), expect({"a", "b"}), {.ready_sets = true})
          .value();
  EXPECT_FALSE(other.applied);
  EXPECT_EQ(other.suggested->strip, "net.");
  const Names llama{"model.a", "model.b", "lm_head"};
  const MatchReport same =
      match(saved(dir, plan_of(llama)), expect(llama), {.ready_sets = true}).value();
  EXPECT_FALSE(same.applied);
  EXPECT_TRUE(same.complete());
}

TEST(Match, NamesTheNearestOfAFewMissing) {
  const TempDir dir;
  const MatchReport report = match(saved(dir, plan_of({"a.w", "layer.0.attn.weight", "b.w"})),
                                   expect({"a.w", "layer.0.attention.weight", "b.w", "zz"}))
                                 .value();
  ASSERT_EQ(report.near_names.size(), 1u);
  EXPECT_EQ(report.near_names[0].missing, "layer.0.attention.weight");
  EXPECT_EQ(report.near_names[0].near, "layer.0.attn.weight");
}

TEST(Match, LooksForFewNearestNames) {
  const TempDir dir;
  SavePlan plan;
  std::vector<Expected> expected;
  for (int i = 0; i < 50'000; ++i) {
    plan.items.push_back(item(str_cat("layers.", i, ".attention.weight"), {0}));
    expected.push_back({str_cat("h.", i, "_attn_w")});
  }
  const Checkpoint checkpoint = saved(dir, plan);
  const auto start = test::cpu_time();
  const MatchReport report = match(checkpoint, expected).value();
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(5));
  EXPECT_EQ(report.missing_keys.size(), 50'000u);
  EXPECT_FALSE(report.suggested);
}

TEST(Expectations, OfACheckpointHaveItsAliasesAsOtherNames) {
  const TempDir dir;
  SavePlan plan = plan_of({"a", "b"});
  plan.aliases = {{"c", "b"}};
  const std::vector<Expected> expected = expectations(saved(dir, plan));
  ASSERT_EQ(expected.size(), 2u);
  EXPECT_EQ(expected[1].name, "b");
  EXPECT_EQ(expected[1].other_names, Names{"c"});
  EXPECT_EQ(expected[1].shape, Shape{2});
  EXPECT_EQ(expected[1].dtype, Dtype::f32);
}

TEST(Expectations, AreReadFromJson) {
  const auto expected = parse_expectations(R"({"a": {"shape": [8, 5], "dtype": "F32"}, "b": null,
      "c": {}, "d": {"shape": null, "dtype": null}, "\u0000e": {"shape": []}})")
                            .value();
  ASSERT_EQ(expected.size(), 5u);
  EXPECT_EQ(expected[0].name, "a");
  EXPECT_EQ(expected[0].shape, (Shape{8, 5}));
  EXPECT_EQ(expected[0].dtype, Dtype::f32);
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_FALSE(expected[i].shape);
    EXPECT_FALSE(expected[i].dtype);
  }
  EXPECT_EQ(expected[4].name, std::string("\0e", 2));
  EXPECT_EQ(expected[4].shape, Shape{});
}

TEST(Expectations, RefusesMalformedJson) {
  const auto refused = [](std::string_view json, std::string_view text) {
    expect_error(parse_expectations(json), ErrorCode::invalid_argument, text);
  };
  refused("", "");
  refused("{", "");
  refused("[]", "not a JSON object of names");
  refused("\"a\"", "not a JSON object of names");
  refused("{\"a\": 1}", "expected tensor 'a': the entry is not null or an object");
  refused("{\"a\": {\"shape\": 3}}", "the shape is not null or an array");
  refused("{\"a\": {\"shape\": [-1]}}", "the shape is not null or an array");
  refused("{\"a\": {\"shape\": [1.5]}}", "the shape is not null or an array");
  refused("{\"a\": {\"shape\": [9223372036854775808]}}", "integers in [0, 2^63)");
  refused("{\"a\": {\"dtype\": 1}}", "the dtype is not null or a text");
  refused("{\"a\": {\"dtype\": \"f32\"}}", "unknown dtype: found 'f32'");
  refused("{\"a\": {\"shpe\": []}}", "unknown member: found 'shpe', expected 'shape' or 'dtype'");
  refused("{\"a\": {\"shape\": [], \"shape\": []}}", "has 'shape' twice");
  refused("{\"a\": {}, \"a\": {}}", "expected tensor 'a': the name is there twice");
  refused("{\"a\": {\"shape\": [[1]]}}", "");
  refused(std::string(100'000, '['), "");
  refused("{\"a\xFF\": null}", "");
}

TEST(Expectations, ReadsFiles) {
  const TempDir dir;
  write_file(dir / "e.json", "{\"a\": 1}");
  expect_error(read_expectations(dir / "e.json"), ErrorCode::invalid_argument,
               str_cat((dir / "e.json").native(), ": expected tensor 'a'"));
  write_file(dir / "e.json", "{\"a\": null}");
  EXPECT_EQ(read_expectations(dir / "e.json").value().size(), 1u);
  EXPECT_ERROR(read_expectations(dir / "none"), file_not_found);
  std::filesystem::resize_file(dir / "e.json", 100'000'001);
  EXPECT_ERROR(read_expectations(dir / "e.json"), limit_exceeded);
}

}  // namespace
}  // namespace flatbed
