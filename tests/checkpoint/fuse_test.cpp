// Rules of a KeyMap that join and split tensors: what they make, in which order, and what is
// refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/key_map.hpp"
#include "flatbed/save.hpp"
#include "support/expect_message.hpp"
#include "support/load_model.hpp"
#include "support/read_checkpoint.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::bytes_of;
using test::expect_error;
using test::ModelTensor;
using test::names_of;
using test::TempDir;
using Names = std::vector<std::string>;
using Shape = std::vector<std::uint64_t>;

constexpr std::string_view kJoin =
    "layers.{1}.qkv = cat(layers.*.q, layers.*.k, layers.*.v, dim=0)\n";

// The bytes of tensors joined along `dim`, worked out row by row.
std::string joined(const std::vector<ModelTensor>& tensors, std::size_t dim) {
  std::uint64_t rows = 1;
  for (std::size_t i = 0; i < dim; ++i) rows *= tensors[0].shape[i];
  std::string out;
  for (std::uint64_t row = 0; row < rows; ++row) {
    for (const ModelTensor& tensor : tensors) {
      const std::size_t nbytes = tensor.bytes.size() / rows;
      out += tensor.bytes.substr(row * nbytes, nbytes);
    }
  }
  return out;
}

class Fuse : public testing::Test {
 protected:
  Checkpoint write(std::vector<ModelTensor> tensors, std::vector<Alias> aliases = {}) {
    test::fill(tensors);
    model_ = std::move(tensors);
    SavePlan plan;
    for (const ModelTensor& tensor : model_)
      plan.items.push_back({tensor.name, tensor.dtype, tensor.shape, as_bytes(tensor.bytes)});
    plan.aliases = std::move(aliases);
    const auto path = dir_ / str_cat("m", number_++, ".safetensors");
    EXPECT_OK(save(path, plan, {.sync = false}));
    return Checkpoint::open(path).value();
  }

  // Two layers with grouped-query attention, and others between and beside them.
  Checkpoint write_layers() {
    std::vector<ModelTensor> tensors{{"embed", Dtype::f32, {5, 4}}};
    for (const std::string layer : {"layers.0.", "layers.1."}) {
      tensors.push_back({layer + "k", Dtype::f32, {2, 4}});
      tensors.push_back({layer + "norm", Dtype::f32, {4}});
      tensors.push_back({layer + "q", Dtype::f32, {8, 4}});
      tensors.push_back({layer + "v", Dtype::f32, {2, 4}});
    }
    return write(std::move(tensors));
  }

  [[nodiscard]] const ModelTensor& of(std::string_view name) const {
    return *std::ranges::find(model_, name, &ModelTensor::name);
  }

  TempDir dir_;
  std::vector<ModelTensor> model_;  // as written last
  int number_ = 0;
};

Result<Checkpoint> renamed(const Checkpoint& checkpoint, std::string_view rules) {
  const Result<KeyMap> map = KeyMap::parse(rules, "rules");
  if (!map) return map.error();
  return checkpoint.rename(*map);
}

Shape shape_of(const Checkpoint& checkpoint, std::string_view name) {
  const ShapeView shape = checkpoint.tensor(name).value().shape;
  return {shape.begin(), shape.end()};
}

TEST_F(Fuse, JoinsEachGroupInTheOrderOfTheRule) {
  const Checkpoint model = write_layers();
  const Checkpoint view = renamed(model, kJoin).value();
  for (const std::string layer : {"layers.0.", "layers.1."}) {
    EXPECT_EQ(shape_of(view, layer + "qkv"), (Shape{12, 4}));
    EXPECT_EQ(bytes_of(view, layer + "qkv"),
              of(layer + "q").bytes + of(layer + "k").bytes + of(layer + "v").bytes);
  }
  EXPECT_EQ(bytes_of(view, "embed"), of("embed").bytes);
}

// Of those in the file, which may be in another order than the rule.
TEST_F(Fuse, AJoinedTensorTakesThePlaceOfItsFirstPart) {
  const Checkpoint model = write_layers();
  for (const std::string_view rule : {"layers.{1}.x = cat(layers.*.q, layers.*.k, layers.*.v)",
                                      "layers.{1}.x = cat(layers.*.v, layers.*.q, layers.*.k)"}) {
    Names expected;
    for (const std::string& name : names_of(model)) {
      const bool part = name.ends_with(".q") || name.ends_with(".k") || name.ends_with(".v");
      const std::string listed = part ? name.substr(0, 9) + "x" : name;
      if (std::ranges::find(expected, listed) == expected.end()) expected.push_back(listed);
    }
    const Checkpoint view = renamed(model, rule).value();
    EXPECT_EQ(names_of(view), expected);
    EXPECT_EQ(view.find("layers.0.q"), nullptr);
  }
}

TEST_F(Fuse, AJoinedTensorIsComputedOfItsParts) {
  const Checkpoint view = renamed(write_layers(), kJoin).value();
  const TensorInfo tensor = view.tensor("layers.0.qkv").value();
  EXPECT_EQ(tensor.stored, Stored::computed);
  EXPECT_TRUE(tensor.digests.empty());
  EXPECT_FALSE(tensor.cast);
  EXPECT_ERROR(view.view(tensor), not_viewable);
  ASSERT_EQ(tensor.joined.size(), 1U);
  EXPECT_EQ(tensor.joined[0].dim, 0U);
  EXPECT_TRUE(std::ranges::equal(tensor.joined_along(0), Shape{8, 2, 2}));
  EXPECT_TRUE(tensor.joined_along(1).empty());
  EXPECT_TRUE(view.find("embed")->joined.empty());
}

TEST_F(Fuse, JoinsAlongAnyDimension) {
  for (const std::int64_t dim : {0, 1, 2, -1, -2, -3}) {
    const auto at = static_cast<std::size_t>(dim < 0 ? dim + 3 : dim);
    Shape shape{3, 4, 5};
    std::vector<ModelTensor> tensors;
    for (const std::uint64_t size : {2U, 1U, 7U}) {
      shape[at] = size;
      tensors.push_back({str_cat("t", size), Dtype::bf16, shape});
    }
    const Checkpoint model = write(tensors);
    KeyMap map;
    ASSERT_OK(map.cat("all", {"t2", "t1", "t7"}, dim));
    const Checkpoint view = model.rename(map).value();
    shape[at] = 10;
    EXPECT_EQ(shape_of(view, "all"), shape);
    const std::string expected = joined({of("t2"), of("t1"), of("t7")}, at);
    EXPECT_EQ(bytes_of(view, "all"), expected);
    // Any range, also one that begins and ends within a run.
    for (std::size_t begin = 0; begin < expected.size(); begin += 7) {
      for (std::size_t nbytes = 0; begin + nbytes <= expected.size(); nbytes += 13) {
        std::string out(nbytes, '?');
        ASSERT_OK(view.read(*view.find("all"), begin, std::as_writable_bytes(std::span(out))));
        ASSERT_EQ(out, expected.substr(begin, nbytes)) << dim << " " << begin << " " << nbytes;
      }
    }
  }
}

TEST_F(Fuse, SplitsWhatWasJoined) {
  const Checkpoint model = write({{"a", Dtype::f32, {2}},
                                  {"l.0.qkv", Dtype::f16, {12, 4}},
                                  {"l.1.qkv", Dtype::f16, {12, 4}},
                                  {"z", Dtype::f32, {2}}});
  const Checkpoint view =
      renamed(model, "l.{1}.q, l.{1}.k, l.{1}.v = split(l.*.qkv, 8, 2, 2, dim=0)").value();
  for (const std::string layer : {"l.0.", "l.1."}) {
    const ModelTensor& whole = of(layer + "qkv");
    EXPECT_EQ(shape_of(view, layer + "k"), (Shape{2, 4}));
    EXPECT_EQ(bytes_of(view, layer + "q"), test::slice_of(whole, 0, 0, 8));
    EXPECT_EQ(bytes_of(view, layer + "k"), test::slice_of(whole, 0, 8, 10));
    EXPECT_EQ(bytes_of(view, layer + "v"), test::slice_of(whole, 0, 10, 12));
    EXPECT_EQ(view.find(layer + "k")->stored, Stored::computed);
    EXPECT_TRUE(view.find(layer + "k")->joined.empty());
  }
  Names expected;
  for (const std::string& name : names_of(model)) {
    if (!name.ends_with("qkv")) {
      expected.push_back(name);
      continue;
    }
    for (const char* part : {"q", "k", "v"}) expected.push_back(name.substr(0, 4) + part);
  }
  EXPECT_EQ(names_of(view), expected);
}

TEST_F(Fuse, SplitsAlongAnInnerDimension) {
  const Checkpoint model = write({{"w", Dtype::f32, {3, 10, 2}}});
  const Checkpoint view = renamed(model, "a, b, c = split(w, 1, 0, 9, dim=-2)").value();
  EXPECT_EQ(bytes_of(view, "a"), test::slice_of(of("w"), 1, 0, 1));
  EXPECT_EQ(shape_of(view, "b"), (Shape{3, 0, 2}));
  EXPECT_EQ(bytes_of(view, "b"), "");
  EXPECT_EQ(bytes_of(view, "c"), test::slice_of(of("w"), 1, 1, 10));
}

TEST_F(Fuse, SplittingAJoinGivesTheStoredTensorsBack) {
  const Checkpoint model = write_layers();
  const Checkpoint view =
      renamed(
          model,
          str_cat(kJoin, "layers.{1}.q, layers.{1}.k, layers.{1}.v = split(layers.*.qkv, 8, 2, 2)"))
          .value();
  for (const std::string part : {"q", "k", "v"}) {
    const TensorInfo tensor = view.tensor("layers.1." + part).value();
    EXPECT_EQ(tensor.stored, Stored::plain);
    EXPECT_FALSE(tensor.digests.empty());
    EXPECT_EQ(bytes_of(view, tensor.name), of(tensor.name).bytes);
  }
}

TEST_F(Fuse, CutsAJoinAnywhere) {
  const Checkpoint model = write({{"a", Dtype::u8, {5, 3}}, {"b", Dtype::u8, {4, 3}}});
  const Checkpoint view =
      renamed(model, "ab = cat(a, b)\nx, y, z = split(ab, 2, 5, 2)\nyz = cat(z, y)").value();
  const std::string all = of("a").bytes + of("b").bytes;
  EXPECT_EQ(bytes_of(view, "x"), all.substr(0, 6));
  EXPECT_EQ(bytes_of(view, "yz"), all.substr(21) + all.substr(6, 15));
  EXPECT_TRUE(view.find("x")->joined.empty());
  EXPECT_TRUE(std::ranges::equal(view.find("yz")->joined_along(0), Shape{2, 3, 2}));
}

TEST_F(Fuse, RulesSeeWhatEarlierOnesMade) {
  const Checkpoint model = write_layers();
  // The last rule matches nothing: what it names was joined before.
  EXPECT_ERROR(renamed(model,
                       "kv.{1} = cat(layers.*.k, layers.*.v)\n"
                       "all.{1} = cat(layers.*.q, kv.*)\nkv.*=none.{1}\n"),
               tensor_not_found);
  const Checkpoint all = renamed(model,
                                 "kv.{1} = cat(layers.*.k, layers.*.v)\n"
                                 "all.{1} = cat(layers.*.q, kv.*)\nall.*=x.{1}\n")
                             .value();
  EXPECT_EQ(bytes_of(all, "x.1"),
            of("layers.1.q").bytes + of("layers.1.k").bytes + of("layers.1.v").bytes);
  EXPECT_TRUE(std::ranges::equal(all.find("x.1")->joined_along(0), Shape{8, 2, 2}));
}

TEST_F(Fuse, NestsAlongSeveralDimensions) {
  const Checkpoint model = write({{"a", Dtype::u8, {2, 3}},
                                  {"b", Dtype::u8, {2, 3}},
                                  {"c", Dtype::u8, {4, 2}},
                                  {"d", Dtype::u8, {4, 2}}});
  const Checkpoint view = renamed(model,
                                  "ab = cat(a, b, dim=0)\ncd = cat(c, d, dim=1)\n"
                                  "x, y = split(cd, 1, 3, dim=1)\ne = cat(y, x, dim=1)\n")
                              .value();
  const ModelTensor cd{"cd", Dtype::u8, {4, 4}, joined({of("c"), of("d")}, 1)};
  const ModelTensor y{"y", Dtype::u8, {4, 3}, test::slice_of(cd, 1, 1, 4)};
  const ModelTensor x{"x", Dtype::u8, {4, 1}, test::slice_of(cd, 1, 0, 1)};
  EXPECT_EQ(bytes_of(view, "e"), joined({y, x}, 1));
  // What is joined along dimension 1 is not cut along dimension 0 as its neighbour is.
  expect_error(renamed(model, "ab = cat(a, b, dim=0)\nabc = cat(ab, c, dim=1)"),
               ErrorCode::invalid_argument,
               "'abc': the parts are joined in different ways along dimension 0");
  const Checkpoint both =
      renamed(model,
              "ab = cat(a, b, dim=0)\nt, u = split(ab, 1, 2, dim=1)\n"
              "c1, c2 = split(c, 2, 2)\nd1, d2 = split(d, 2, 2)\n"
              "e1 = cat(c1, d1, dim=1)\ne2 = cat(c2, d2, dim=1)\ne = cat(e1, e2, dim=0)\n"
              "f = cat(u, e, dim=1)")
          .value();
  const ModelTensor ab{"ab", Dtype::u8, {4, 3}, of("a").bytes + of("b").bytes};
  const ModelTensor u{"u", Dtype::u8, {4, 2}, test::slice_of(ab, 1, 1, 3)};
  EXPECT_EQ(bytes_of(both, "f"), joined({u, cd}, 1));
  EXPECT_TRUE(std::ranges::equal(both.find("f")->joined_along(0), Shape{2, 2}));
  EXPECT_TRUE(std::ranges::equal(both.find("f")->joined_along(1), Shape{2, 2, 2}));
}

TEST_F(Fuse, BoundsTheNesting) {
  const Checkpoint model = write({{"t", Dtype::u8, {64, 64}}});
  // Each round cuts along one dimension what was cut along the other.
  std::string rules;
  for (std::size_t i = 0; i < KeyMap::kMaxFusionDepth + 1; ++i) {
    rules += str_cat("t, r", i, " = split(t, ", 63 - i / 2, ", 1, dim=", i % 2, ")\n");
    if (i + 1 == KeyMap::kMaxFusionDepth) {
      const Checkpoint view = renamed(model, rules).value();
      EXPECT_EQ(bytes_of(view, "t").size(), 48U * 48U);
      EXPECT_EQ(bytes_of(view, "t").substr(48, 48), of("t").bytes.substr(64, 48));
    }
  }
  expect_error(renamed(model, rules), ErrorCode::limit_exceeded, "more than 32 steps");
}

TEST_F(Fuse, JoinsStepByStepWithoutALimitOnTheSteps) {
  std::vector<ModelTensor> tensors;
  std::string rules;
  for (int i = 0; i < 2'000; ++i) {
    tensors.push_back({str_cat("t", i), Dtype::u8, {1}});
    if (i != 0) rules += str_cat("t0 = cat(t0, t", i, ")\n");
  }
  const Checkpoint view = renamed(write(tensors), rules).value();
  std::string expected;
  for (const ModelTensor& tensor : model_) expected += tensor.bytes;
  EXPECT_EQ(bytes_of(view, "t0"), expected);
  EXPECT_EQ(view.find("t0")->joined_along(0).size(), 2'000U);
}

// ---- aliases ------------------------------------------------------------------------------------

TEST_F(Fuse, AnAliasOfAPartBecomesATensor) {
  const Checkpoint model =
      write({{"k", Dtype::u8, {2}}, {"q", Dtype::u8, {3}}, {"v", Dtype::u8, {2}}},
            {{"other", "q"}, {"third", "q"}});
  const Checkpoint view = renamed(model, "qkv = cat(q, k, v)").value();
  EXPECT_EQ(names_of(view), (Names{"qkv", "other"}));
  ASSERT_EQ(view.aliases().size(), 1U);
  EXPECT_EQ(view.aliases()[0].name, "third");
  EXPECT_EQ(view.aliases()[0].target, "other");
  EXPECT_EQ(bytes_of(view, "third"), of("q").bytes);
  EXPECT_EQ(view.find("other")->stored, Stored::plain);
}

TEST_F(Fuse, AliasesAreParts) {
  const Checkpoint model =
      write({{"a.q", Dtype::u8, {3}}, {"a.k", Dtype::u8, {2}}}, {{"b.q", "a.q"}, {"b.k", "a.k"}});
  const Checkpoint view = renamed(model, "{1}.qk = cat(*.q, *.k)").value();
  EXPECT_EQ(names_of(view), (Names{"a.qk"}));  // both layers are the same tensors
  ASSERT_EQ(view.aliases().size(), 1U);
  EXPECT_EQ(view.aliases()[0].name, "b.qk");
  EXPECT_EQ(bytes_of(view, "b.qk"), of("a.q").bytes + of("a.k").bytes);
  const Checkpoint parts = renamed(model, "x, y = split(b.q, 1, 2)").value();
  EXPECT_EQ(bytes_of(parts, "y"), of("a.q").bytes.substr(1));
  EXPECT_EQ(bytes_of(parts, "a.q"), of("a.q").bytes);
}

TEST_F(Fuse, MakesAFlatStateDict) {
  const Checkpoint view = renamed(write_layers(), kJoin).value();
  const Value root = view.tree().value();
  ASSERT_EQ(root.size(), view.tensors().size());
  for (std::size_t i = 0; i < root.size(); ++i)
    EXPECT_EQ(root.key(i).text(), view.tensors()[i].name);
}

// A name as a glob that matches nothing else.
std::string literal(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (std::string_view("*?[\\").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// Torch's own files: byte-swapped, compressed, strided, of every dtype and every layout.
TEST(FuseTorch, SplitsAndJoinsTensorsHoweverTheyAreStored) {
  std::vector<bool> seen(static_cast<std::size_t>(Stored::computed) + 1);
  std::size_t joins = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           std::filesystem::path(FLATBED_FIXTURES_DIR) / "torch2")) {
    const Result<Checkpoint> opened = Checkpoint::open(entry.path());
    if (!opened) continue;
    for (const TensorInfo& tensor : opened->tensors()) {
      for (std::size_t dim = 0; dim < tensor.shape.size(); ++dim) {
        const std::uint64_t size = tensor.shape[dim];
        if (size < 2 || tensor.nbytes > 100'000 || bits(tensor.dtype) < 8) continue;
        // Split in two, and joined again the other way round.
        KeyMap map;
        const std::int64_t at = static_cast<std::int64_t>(dim);
        ASSERT_OK(map.split({"part 1", "part 2"}, literal(tensor.name), {1, size - 1}, at));
        ASSERT_OK(map.cat("turned", {"part 2", "part 1"}, at));
        const Checkpoint view = opened->rename(map).value();
        const ModelTensor whole{"",
                                tensor.dtype,
                                {tensor.shape.begin(), tensor.shape.end()},
                                bytes_of(*opened, tensor.name)};
        ModelTensor first = whole;
        ModelTensor rest = whole;
        first.shape[dim] = 1;
        first.bytes = test::slice_of(whole, dim, 0, 1);
        rest.shape[dim] = size - 1;
        rest.bytes = test::slice_of(whole, dim, 1, size);
        EXPECT_EQ(bytes_of(view, "turned"), joined({rest, first}, dim))
            << entry.path() << " " << tensor.name;
        seen[static_cast<std::size_t>(tensor.stored)] = true;
        ++joins;
      }
    }
  }
  EXPECT_GT(joins, 100U);
  for (const Stored stored :
       {Stored::plain, Stored::strided, Stored::byteswapped, Stored::deflated})
    EXPECT_TRUE(seen[static_cast<std::size_t>(stored)]) << static_cast<int>(stored);
}

// ---- what is refused ----------------------------------------------------------------------------

TEST_F(Fuse, RefusesAGroupThatIsNotComplete) {
  const Checkpoint model = write({{"l.0.q", Dtype::u8, {2}},
                                  {"l.0.k", Dtype::u8, {2}},
                                  {"l.0.v", Dtype::u8, {2}},
                                  {"l.1.q", Dtype::u8, {2}},
                                  {"l.1.v", Dtype::u8, {2}}});
  expect_error(renamed(model, "l.{1}.x = cat(l.*.q, l.*.k, l.*.v)"), ErrorCode::tensor_not_found,
               "rules:1: rename rule 'l.{1}.x = cat(l.*.q, l.*.k, l.*.v)' joins tensors that are "
               "not all there: found 'l.1.q', 'l.1.v'; missing 'l.1.k'");
  expect_error(renamed(model, "x.{2} = cat(?.0.*q, ?.0.*w)"), ErrorCode::tensor_not_found,
               "found 'l.0.q'; missing 'l.0.w'");
  expect_error(renamed(model, "x = cat(a, b)"), ErrorCode::tensor_not_found,
               "rename rule 'x = cat(a, b)' matches no name");
  expect_error(renamed(model, "x, y = split(a, 1, 1)"), ErrorCode::tensor_not_found,
               "matches no name");
}

TEST_F(Fuse, RefusesPartsThatDoNotFit) {
  const Checkpoint model = write({{"a", Dtype::f32, {2, 3}},
                                  {"b", Dtype::bf16, {2, 3}},
                                  {"c", Dtype::f32, {2, 4}},
                                  {"d", Dtype::f32, {2}},
                                  {"s", Dtype::f32, {}},
                                  {"t", Dtype::f32, {}}});
  const auto refuse = [&](std::string_view rule, std::string_view message) {
    expect_error(renamed(model, rule), ErrorCode::invalid_argument, message);
  };
  refuse("x = cat(a, b)",
         "rules:1: rename rule 'x = cat(a, b)': 'a' F32 [2,3] and 'b' BF16 [2,3] cannot be joined "
         "along dimension 0: their dtypes differ");
  refuse("x = cat(a, c)",
         "'a' F32 [2,3] and 'c' F32 [2,4] cannot be joined along dimension 0: they "
         "differ in dimension 1");
  EXPECT_OK(renamed(model, "x = cat(a, c, dim=1)"));
  refuse("x = cat(a, d)", "their numbers of dimensions differ");
  refuse("x = cat(a, c, dim=2)", "there is no dimension 2 in 'a' F32 [2,3]");
  refuse("x = cat(a, c, dim=-3)", "there is no dimension -3");
  refuse("x = cat(s, t)", "there is no dimension 0 in 's' F32 []");
  refuse("x, y = split(a, 1, 2)",
         "'a' F32 [2,3] cannot be split along dimension 0: the sizes add up to 3, expected 2");
  refuse("x, y = split(a, 1, 2, dim=-3)", "there is no dimension -3");
  refuse("x, y = split(a, 18446744073709551615, 3)", "add up to more than 2^64, expected 2");
  refuse("x = cat(a, ?)", "different numbers of wildcards: found 0 and, in '?', 1");
  refuse("x = cat(?, [a])", "'a' matches two parts, number 1 and 2");
}

TEST_F(Fuse, RefusesNamesThatBecomeOne) {
  const Checkpoint model = write(
      {{"a", Dtype::u8, {2}}, {"b", Dtype::u8, {2}}, {"c", Dtype::u8, {2}}, {"d", Dtype::u8, {2}}});
  expect_error(renamed(model, "c = cat(a, b)"), ErrorCode::name_collision,
               "renaming makes two names one: 'a' and 'c' both become 'c'");
  expect_error(renamed(model, "x, x = split(a, 1, 1)"), ErrorCode::name_collision,
               "'a' and 'a' both become 'x'");
  expect_error(renamed(model, "c=b\nx = cat(a, b)"), ErrorCode::name_collision,
               "rules:2: rename rule 'x = cat(a, b)': two tensors are called 'b'");
  EXPECT_OK(renamed(model, "a = cat(a, b)\nc, b = split(c, 1, 1)"));
}

TEST_F(Fuse, RefusesToCutBytes) {
  const Checkpoint model = write({{"a", Dtype::f4, {3, 2}}, {"b", Dtype::f4, {3, 4}}});
  EXPECT_EQ(bytes_of(renamed(model, "x = cat(a, b, dim=1)").value(), "x"),
            joined({of("a"), of("b")}, 1));
  EXPECT_EQ(bytes_of(renamed(model, "x, y = split(b, 1, 2)").value(), "x"),
            of("b").bytes.substr(0, 2));
  expect_error(renamed(model, "x, y = split(b, 1, 3, dim=1)"), ErrorCode::partial_byte,
               "rules:1: rename rule 'x, y = split(b, 1, 3, dim=1)': 'b': elements [0,1) of "
               "dimension 1 of F4 [3,4] do not fill whole bytes");
}

TEST_F(Fuse, RefusesSizesBeyondAllLimits) {
  // Tensors without bytes may have dimensions of any size.
  const std::uint64_t huge = std::uint64_t{1} << 62;
  const std::string entry =
      str_cat(R"({"dtype":"U8","shape":[0,)", huge, R"(],"data_offsets":[0,0]})");
  std::string file = str_cat(R"({"a":)", entry, R"(,"b":)", entry, "}");
  file = std::string{static_cast<char>(file.size())} + std::string(7, '\0') + file;
  const Checkpoint model = Checkpoint::open_memory(as_bytes(file), "huge").value();
  expect_error(renamed(model, "x = cat(a, b, dim=1)"), ErrorCode::size_overflow, "'x'");
  const Checkpoint view = renamed(model, "x = cat(a, b)").value();
  EXPECT_EQ(shape_of(view, "x"), (Shape{0, huge}));
  EXPECT_EQ(bytes_of(view, "x"), "");
}

TEST_F(Fuse, ANameAloneCannotBeJoined) {
  const KeyMap map = KeyMap::parse("a=b\nx = cat(b, c)\ny, z = split(w, 1, 1)", "r").value();
  EXPECT_EQ(map.map("d").value(), "d");
  expect_error(
      map.map("a"), ErrorCode::invalid_argument,
      "r:2: rename rule 'x = cat(b, c)' is about a tensor and not a name alone: found 'b'");
  expect_error(map.map("w"), ErrorCode::invalid_argument, "r:3: ");
}

// ---- rules as text ------------------------------------------------------------------------------

TEST_F(Fuse, ReadsRulesWithCommasInNames) {
  const Checkpoint model = write({{"a,1", Dtype::u8, {2}}, {"b,1", Dtype::u8, {2}}});
  for (const std::string_view rule : {"x=cat(a\\,1,b\\,1)", "x{1} = cat( a[,]1 ,b[,]1 , dim = 0 )",
                                      "x = cat(a\\,1, b\\,1, dim=0)"})
    EXPECT_OK(renamed(model, rule));
  KeyMap map;
  ASSERT_OK(map.cat("x,y", {"a,1", "b,1"}));
  EXPECT_EQ(names_of(model.rename(map).value()), Names{"x,y"});
  map = KeyMap();
  ASSERT_OK(map.split({"x,{1}", "y,{1}"}, "a,?", {1, 1}));
  EXPECT_EQ(bytes_of(model.rename(map).value(), "y,1"), of("a,1").bytes.substr(1));
  // "dim" is a name like others.
  const Checkpoint dims = write({{"dim", Dtype::u8, {2}}, {"dimension", Dtype::u8, {2}}});
  EXPECT_EQ(bytes_of(renamed(dims, "x = cat(dimension, dim)").value(), "x"),
            of("dimension").bytes + of("dim").bytes);
}

TEST(FuseRules, RefusesMalformedOnes) {
  const auto refuse = [](std::string_view rule, std::string_view message) {
    expect_error(KeyMap::parse_rule(rule), ErrorCode::invalid_argument, message);
  };
  refuse("x = cat()", "found 1 part, expected 2 to 64");
  refuse("x = cat(a)", "rename rule 'x = cat(a)': found 1 part, expected 2 to 64");
  refuse("x = cat(dim=0)", "found 0 parts, expected 2 to 64");
  refuse("x = cat(a, , b)", "OLD is empty");
  refuse("x = cat(a, b, dim=)", "the dimension is not a number: found 'dim=', expected such as");
  refuse("x = cat(a, b, dim=one)", "found 'dim=one'");
  refuse("x = cat(a, b, dim=99999999999999999999)", "the dimension is not a number");
  refuse("x = cat(a, a)", "the part 'a' appears twice");
  refuse("= cat(a, b)", "NEW is empty");
  refuse("{1} = cat(a, b)", "found '{1}', expected none");
  refuse("{2} = cat(*.a, *.b)", "found '{2}', expected {1}");
  refuse("x = cat(*.a, b)", "the parts have different numbers of wildcards");
  refuse("x = split(a, 1)", "found 1 part, expected 2 to 64");
  refuse("x, y = split(a, 1)", "found 2 names and 1 size, expected a size for each name");
  refuse("x, y = split(a, 1, -1)", "a size is not a number: found '-1'");
  refuse("x, y = split(a, 1, 1e3)", "a size is not a number: found '1e3'");
  refuse("x, y = split(a, 1, 99999999999999999999)", "a size is not a number");
  refuse("x, = split(a, 1, 1)", "NEW is empty");
  refuse("x, y = split(, 1, 1)", "OLD is empty");
  refuse("x, y = split(dim=0)", "found 2 names and 0 sizes");
  std::string many = "x = cat(a0";
  for (int i = 1; i < 65; ++i) many += str_cat(",a", i);
  refuse(many + ")", "found 65 parts, expected 2 to 64");
}

TEST(FuseRules, RefusesMalformedOnesOfACallerToo) {
  KeyMap map;
  expect_error(map.cat("x", {"a"}, 3), ErrorCode::invalid_argument,
               "rename rule 'x = cat(a, dim=3)': found 1 part");
  expect_error(map.split({"x", "y"}, "a", {1}, -1), ErrorCode::invalid_argument,
               "rename rule 'x, y = split(a, 1, dim=-1)': found 2 names and 1 size");
  expect_error(map.cat("", {"a", "b"}), ErrorCode::invalid_argument, "NEW is empty");
  EXPECT_TRUE(map.empty());
}

// Only what ends with a parenthesis, too, is no name.
TEST(FuseRules, LeavesOtherRulesAsTheyAre) {
  const auto mapped = [](std::string_view rule, std::string_view name) {
    return KeyMap::parse_rule(rule).value().map(name).value();
  };
  EXPECT_EQ(mapped("a=cat", "a"), "cat");
  EXPECT_EQ(mapped("a=cat(b", "a"), "cat(b");
  EXPECT_EQ(mapped("a=split(b).c", "a"), "split(b).c");
  EXPECT_EQ(mapped("a=concat(b)", "a"), "concat(b)");
  EXPECT_EQ(mapped("cat(*)={1}", "cat(b)"), "b");
  EXPECT_EQ(mapped("a, b=c", "a, b"), "c");
}

// Whatever the rules are, they are refused, or what they make can be read.
TEST_F(Fuse, TakesAnyRules) {
  const Checkpoint model = write({{"a", Dtype::u8, {4, 2}},
                                  {"b", Dtype::u8, {4, 2}},
                                  {"c", Dtype::f32, {2}},
                                  {"d", Dtype::u8, {4, 2}}},
                                 {{"t", "a"}});
  std::mt19937 random(7);
  const auto pick = [&](std::vector<std::string> of) { return of[random() % of.size()]; };
  const auto name = [&] { return pick({"a", "b", "c", "d", "t", "x", "?", "[ab]", "{1}", "*"}); };
  std::size_t made = 0;
  for (int i = 0; i < 30'000; ++i) {
    std::string rules;
    for (std::size_t rule = 0; rule <= random() % 4; ++rule) {
      const std::string dim = pick({"", ", dim=0", ", dim=1", ", dim=-1", ", dim=9", ", dim="});
      const std::string sizes = pick({"2, 2", "1, 1", "4, 0", "1, 3", "4, 4", "8, 0, 0", "0", ""});
      rules += pick({name() + " = cat(" + name() + ", " + name() + dim + ")",
                     name() + ", " + name() + " = split(" + name() + ", " + sizes + dim + ")",
                     name() + "=" + name()}) +
               "\n";
    }
    const Result<Checkpoint> view = renamed(model, rules);
    if (!view) continue;
    ++made;
    for (const TensorInfo& tensor : view->tensors()) {
      std::uint64_t nbytes = bits(tensor.dtype) / 8;
      for (const std::uint64_t size : tensor.shape) nbytes *= size;
      ASSERT_EQ(nbytes, tensor.nbytes) << rules;
      std::string out(tensor.nbytes, '?');
      ASSERT_OK(view->read(tensor, 0, std::as_writable_bytes(std::span(out)))) << rules;
    }
  }
  EXPECT_GT(made, 300U);
}

}  // namespace
}  // namespace flatbed
