// decode_tree() and decode_aliases(): what each node becomes, where an error says it is, and the
// limits. The codes of all malformed trees are tested by the vectors of the specification.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/str_cat.hpp"
#include "support/cpu_time.hpp"
#include "support/expect_error.hpp"
#include "value/tree_json.hpp"

namespace flatbed {
namespace {

// The tensors of every test: w F32 [2,3], b U8 [4], z F64 [5,2], e F32 [].
const TensorInfo* find_tensor(std::string_view name) {
  static constexpr std::array<std::uint64_t, 2> kMatrix{2, 3};
  static constexpr std::array<std::uint64_t, 1> kBytes{4};
  static constexpr std::array<std::uint64_t, 2> kPairs{5, 2};
  const auto tensor = [](std::string_view called, Dtype dtype, ShapeView shape,
                         std::uint32_t index) {
    TensorInfo info;
    info.name = called;
    info.dtype = dtype;
    info.shape = shape;
    info.index = index;
    return info;
  };
  static const std::array tensors{
      tensor("w", Dtype::f32, kMatrix, 10), tensor("b", Dtype::u8, kBytes, 11),
      tensor("z", Dtype::f64, kPairs, 12), tensor("e", Dtype::f32, {}, 13)};
  for (const TensorInfo& candidate : tensors) {
    if (candidate.name == name) return &candidate;
  }
  return nullptr;
}

Result<ValueTree> decode(std::string_view json) { return decode_tree(json, find_tensor); }

// `inner` in `levels` lists.
std::string nested(std::size_t levels, const std::string& inner) {
  std::string out;
  for (std::size_t i = 0; i < levels; ++i) out += "[\"list\",";
  return out + inner + std::string(levels, ']');
}

TEST(TreeDecode, ReadsScalars) {
  const auto tree = decode(R"(["list",null,true,false,-7,0.5,"t",["float","7ff8000000000001"]])");
  ASSERT_OK(tree);
  const Value root = tree->root();
  EXPECT_EQ(root.item(0).kind(), Kind::none);
  EXPECT_EQ(root.item(1).as_bool(), true);
  EXPECT_EQ(root.item(2).as_bool(), false);
  EXPECT_EQ(root.item(3).as_int(), -7);
  EXPECT_EQ(root.item(4).kind(), Kind::real);
  EXPECT_EQ(root.item(4).as_real(), 0.5);
  EXPECT_EQ(root.item(5).text(), "t");
  EXPECT_EQ(std::bit_cast<std::uint64_t>(*root.item(6).as_real()), 0x7ff8000000000001u);
}

TEST(TreeDecode, TakesAScalarAsTheWholeTree) {
  EXPECT_EQ(decode(" 3 ")->root().as_int(), 3);
  EXPECT_EQ(decode("\"s\"")->root().text(), "s");
  EXPECT_EQ(decode("null")->root().kind(), Kind::none);
}

TEST(TreeDecode, TellsFloatsFromInts) {
  const auto tree = decode(R"(["list",1.0,1e0,1,-0.0,9007199254740992.0])");
  ASSERT_OK(tree);
  EXPECT_EQ(tree->root().item(0).kind(), Kind::real);
  EXPECT_EQ(tree->root().item(1).kind(), Kind::real);
  EXPECT_EQ(tree->root().item(2).kind(), Kind::integer);
  EXPECT_TRUE(std::signbit(*tree->root().item(3).as_real()));
  EXPECT_EQ(tree->root().item(4).as_real(), 9007199254740992.0);
}

TEST(TreeDecode, ReadsIntsOfEverySize) {
  const auto tree = decode(
      R"(["list",9007199254740991,["int","20000000000000"],["int","7fffffffffffffff"],)"
      R"(["int","-8000000000000000"],["int","8000000000000000"],["int","-8000000000000001"],)"
      R"(["int","123456789abcdef01234"]])");
  ASSERT_OK(tree);
  const Value root = tree->root();
  EXPECT_EQ(root.item(0).as_int(), 9007199254740991);
  EXPECT_EQ(root.item(1).as_int(), 9007199254740992);
  EXPECT_EQ(root.item(2).as_int(), INT64_MAX);
  EXPECT_EQ(root.item(3).as_int(), INT64_MIN);
  EXPECT_EQ(root.item(4).kind(), Kind::big_integer);
  EXPECT_EQ(root.item(4).text(), "8000000000000000");
  EXPECT_EQ(root.item(5).text(), "-8000000000000001");
  EXPECT_EQ(root.item(6).text(), "123456789abcdef01234");
}

TEST(TreeDecode, ReadsTextsThatAreNoJsonStrings) {
  const auto tree = decode(R"(["list",["str","61eda080"],["bytes","00ff"],["bytes",""]])");
  ASSERT_OK(tree);
  EXPECT_EQ(tree->root().item(0).kind(), Kind::string);
  EXPECT_EQ(tree->root().item(0).text(), "a\xED\xA0\x80");
  EXPECT_EQ(tree->root().item(1).text(), std::string_view("\0\xFF", 2));
  EXPECT_EQ(tree->root().item(2).kind(), Kind::bytes);
  EXPECT_EQ(tree->root().item(2).tensor(), std::nullopt);
}

TEST(TreeDecode, ReadsContainers) {
  const auto tree = decode(R"(["dict","l",["list",1,2],"t",["tuple"],5,["dict"]])");
  ASSERT_OK(tree);
  const Value root = tree->root();
  EXPECT_EQ(root.at("l")->item(1).as_int(), 2);
  EXPECT_EQ(root.at("t")->kind(), Kind::tuple);
  EXPECT_EQ(root.at("t")->size(), 0u);
  EXPECT_EQ(root.at("5")->kind(), Kind::dict);
}

TEST(TreeDecode, ReadsTheFormsOfAnObject) {
  const auto tree = decode(R"(["list",["object",["global","m","f"],["tuple",1]],)"
                           R"(["object",["global","m","f"],["tuple"],[2,3],["k",4]],)"
                           R"(["object",["global","m","f"],["tuple"],[],[],null]])");
  ASSERT_OK(tree);
  const Value first = tree->root().item(0);
  EXPECT_EQ(first.callable().text(), "m");
  EXPECT_EQ(first.arguments().item(0).as_int(), 1);
  EXPECT_FALSE(first.state());
  const Value second = tree->root().item(1);
  EXPECT_EQ(second.appended(1).as_int(), 3);
  EXPECT_EQ(second.key(0).text(), "k");
  EXPECT_EQ(second.item(0).as_int(), 4);
  EXPECT_FALSE(second.state());
  ASSERT_TRUE(tree->root().item(2).state());
  EXPECT_EQ(tree->root().item(2).state()->kind(), Kind::none);
}

TEST(TreeDecode, ReadsTensorsWithTheNumbersOfTheFile) {
  const auto tree = decode(R"(["list",["tensor","w"],["array","w","<f4"],["bytes",["tensor","b"]],)"
                           R"(["scalar","<i2","0102"]])");
  ASSERT_OK(tree);
  EXPECT_EQ(tree->root().item(0).tensor(), 10u);
  EXPECT_EQ(tree->root().item(0).attributes(), TensorAttributes{});
  EXPECT_EQ(tree->root().item(1).tensor(), 10u);
  EXPECT_EQ(tree->root().item(1).text(), "<f4");
  EXPECT_EQ(tree->root().item(2).tensor(), 11u);
  EXPECT_EQ(tree->root().item(2).kind(), Kind::bytes);
  EXPECT_EQ(tree->root().item(3).raw(), "\1\2");
}

TEST(TreeDecode, ReadsEveryAttribute) {
  const auto tree =
      decode(R"(["tensor","z",{"grad":true,"param":true,"device":"cuda:1","stride":[7],)"
             R"("dtype":"complex128","quant":["tuple",1],"state":["dict","k",2]}])");
  ASSERT_OK(tree);
  const TensorAttributes& attributes = tree->root().attributes();
  EXPECT_TRUE(attributes.requires_grad);
  EXPECT_TRUE(attributes.parameter);
  EXPECT_EQ(attributes.device, "cuda:1");
  EXPECT_EQ(attributes.stride, std::vector<std::uint64_t>{7});
  EXPECT_EQ(attributes.dtype, "complex128");
  EXPECT_EQ(tree->value(attributes.quantizer).item(0).as_int(), 1);
  EXPECT_EQ(tree->value(attributes.state).at("k")->as_int(), 2);
}

TEST(TreeDecode, KeepsAnOwnShape) {
  const auto tree = decode(R"(["tensor","b",{"dtype":"quint4x2","shape":[2,4]}])");
  ASSERT_OK(tree);
  EXPECT_EQ(tree->root().attributes().shape, (std::vector<std::uint64_t>{2, 4}));
}

TEST(TreeDecode, GivesOneNodeToAllRefs) {
  const auto tree = decode(R"(["list",["id",0,["tuple",1]],["ref",0],["tuple",1]])");
  ASSERT_OK(tree);
  EXPECT_EQ(tree->root().item(0).id(), tree->root().item(1).id());
  EXPECT_NE(tree->root().item(0).id(), tree->root().item(2).id());
}

TEST(TreeDecode, ClosesCycles) {
  const auto tree =
      decode(R"(["id",0,["dict","me",["ref",0],"o",["id",1,["object",["global","m","f"],["tuple"],)"
             R"([["ref",1]],[],["ref",0]]]]])");
  ASSERT_OK(tree);
  const Value root = tree->root();
  EXPECT_EQ(root.at("me.me.me")->id(), root.id());
  EXPECT_EQ(root.at("o")->appended(0).id(), root.at("o")->id());
  EXPECT_EQ(root.at("o")->state()->id(), root.id());
}

TEST(TreeDecode, LetsATupleHoldAListThatHoldsIt) {
  const auto tree = decode(R"(["id",0,["list",["id",1,["tuple",["ref",0]]],["ref",1]]])");
  ASSERT_OK(tree);
  EXPECT_EQ(tree->root().item(0).item(0).id(), tree->root().id());
  EXPECT_EQ(tree->root().item(1).id(), tree->root().item(0).id());
}

TEST(TreeDecode, SaysWhereTheErrorIs) {
  const auto tree = decode(R"(["dict","a",["list",1,["object",["global","m","f"],["tuple",)"
                           R"(["list",["what"]]]]]])");
  EXPECT_ERROR(tree, tree_unknown_tag);
  EXPECT_EQ(tree.error().message, "flatbed.tree: /2/2/2/1/1: unknown tag 'what'");
}

TEST(TreeDecode, ReadsTheDeepestTreeAndNoDeeperOne) {
  EXPECT_OK(decode(nested(512, "1")));
  EXPECT_ERROR(decode(nested(513, "1")), tree_too_deep);
  EXPECT_OK(decode(nested(511, "[\"list\"]")));
  EXPECT_ERROR(decode(nested(512, "[\"list\"]")), tree_too_deep);
  EXPECT_ERROR(decode(nested(100'000, "1")), tree_too_deep);
}

// An array or object counts as a level wherever it is, even if it is empty.
TEST(TreeDecode, CountsEveryArrayAndObjectAsALevel) {
  const std::pair<std::string, std::size_t> nodes[] = {
      {R"(["float","7ff8000000000000"])", 1},
      {R"(["id",0,["list"]])", 2},
      {R"(["bytes",["tensor","b"]])", 2},
      {R"(["tensor","w",{}])", 2},
      {R"(["tensor","e",{"stride":[]}])", 3},
      {R"(["tensor","w",{"stride":[1,1]}])", 3},
      {R"(["tensor","w",{"state":["dict"]}])", 3},
      {R"(["object",["global","m","f"],["tuple"],[],[]])", 2},
      {R"(["object",["global","m","f"],["tuple"],[["list"]],[]])", 3},
  };
  for (const auto& [node, levels] : nodes) {
    EXPECT_OK(decode(nested(512 - levels, node))) << node;
    EXPECT_ERROR(decode(nested(513 - levels, node)), tree_too_deep) << node;
  }
}

// 2^60 paths in 61 lists: reading must not expand them.
TEST(TreeDecode, IsLinearInTheText) {
  std::string json = "[\"list\",[\"id\",0,[\"list\"]]";
  for (int i = 0; i < 60; ++i)
    json += str_cat(",[\"id\",", i + 1, ",[\"list\",[\"ref\",", i, "],[\"ref\",", i, "]]]");
  const auto tree = decode(json + "]");
  ASSERT_OK(tree);
  EXPECT_LT(tree->size(), 200u);
}

TEST(TreeDecode, FindsEqualKeysAmongMany) {
  std::string json = "[\"dict\"";
  for (int i = 0; i < 100'000; ++i) json += str_cat(",\"k", i, "\",", i);
  const auto start = test::cpu_time();
  EXPECT_OK(decode(json + "]"));
  EXPECT_ERROR(decode(json + ",\"k0\",1]"), tree_duplicate_key);
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(10));
}

TEST(TreeDecode, TellsKeysOfDifferentKindsApart) {
  const auto tree = decode(R"(["dict",1,"a","1","b",1.0,"c",true,"d",null,"e","None","f"])");
  ASSERT_OK(tree);
  EXPECT_EQ(tree->root().size(), 6u);
}

TEST(Aliases, AreReadInOrder) {
  const auto aliases = decode_aliases(R"({"head":"w","a":"w","":"b"})", find_tensor);
  ASSERT_OK(aliases);
  ASSERT_EQ(aliases->size(), 3u);
  EXPECT_EQ((*aliases)[0].name, "head");
  EXPECT_EQ((*aliases)[0].target, "w");
  EXPECT_EQ((*aliases)[2].name, "");
  EXPECT_EQ((*aliases)[2].target, "b");
}

TEST(Aliases, MayBeNone) { EXPECT_TRUE(decode_aliases("{}", find_tensor)->empty()); }

TEST(Aliases, AreRefusedAsAWhole) {
  for (const std::string_view json :
       {R"({"h":"w","h":"w"})", R"({"w":"b"})", R"({"h":"nothing"})", R"({"h":"h"})", R"({"h":1})",
        "[]", "\"x\"", "{", "", R"({"h":[[[[[[[[[1]]]]]]]]]})"}) {
    EXPECT_ERROR(decode_aliases(json, find_tensor), aliases_malformed) << json;
  }
}

}  // namespace
}  // namespace flatbed
