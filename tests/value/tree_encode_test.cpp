// encode_tree(): the text of each kind of node, what cannot be written, and that whatever can be
// written is read back as the same structure.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/str_cat.hpp"
#include "support/expect_error.hpp"
#include "value/tree_json.hpp"

namespace flatbed {
namespace {

using Ids = std::vector<NodeId>;

const std::vector<std::string> kNames = {"a", "b", "c\"d"};

// The text of a tree whose root is `id`.
Result<std::string> encode(ValueTree& tree, NodeId id) {
  tree.set_root(id);
  return encode_tree(tree, kNames);
}

// All tensors are U8 [4].
const TensorInfo* find_tensor(std::string_view name) {
  static constexpr std::array<std::uint64_t, 1> kShape{4};
  static const std::vector<TensorInfo> tensors = [] {
    std::vector<TensorInfo> out(kNames.size());
    for (std::uint32_t i = 0; i < out.size(); ++i) {
      out[i].name = kNames[i];
      out[i].shape = kShape;
      out[i].index = i;
    }
    return out;
  }();
  for (const TensorInfo& tensor : tensors) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// That the text is read, and gives the same text again.
void expect_round_trip(const std::string& text) {
  const auto decoded = decode_tree(text, find_tensor);
  ASSERT_OK(decoded) << text.substr(0, 500);
  const auto again = encode_tree(*decoded, kNames);
  ASSERT_OK(again);
  EXPECT_EQ(*again, text);
}

TEST(TreeEncode, WritesScalars) {
  ValueTree tree;
  EXPECT_EQ(*encode(tree, tree.add_none()), "null");
  EXPECT_EQ(*encode(tree, tree.add_boolean(true)), "true");
  EXPECT_EQ(*encode(tree, tree.add_boolean(false)), "false");
  EXPECT_EQ(*encode(tree, tree.add_string("a\"\n")), R"("a\"\n")");
  EXPECT_EQ(*encode(tree, tree.add_bytes(std::string_view("\0\xFF", 2))), R"(["bytes","00ff"])");
  EXPECT_EQ(*encode_tree(ValueTree(), kNames), "null");
}

TEST(TreeEncode, WritesIntsAsNumbersBelowTwoToThe53) {
  ValueTree tree;
  const std::pair<std::int64_t, std::string_view> cases[] = {
      {0, "0"},
      {-1, "-1"},
      {9007199254740991, "9007199254740991"},
      {-9007199254740991, "-9007199254740991"},
      {9007199254740992, R"(["int","20000000000000"])"},
      {-9007199254740992, R"(["int","-20000000000000"])"},
      {INT64_MAX, R"(["int","7fffffffffffffff"])"},
      {INT64_MIN, R"(["int","-8000000000000000"])"},
  };
  for (const auto& [number, text] : cases) EXPECT_EQ(*encode(tree, tree.add_integer(number)), text);
  EXPECT_EQ(*encode(tree, tree.add_big_integer("-123456789abcdef01")),
            R"(["int","-123456789abcdef01"])");
}

TEST(TreeEncode, WritesFloatsAsPythonDoes) {
  ValueTree tree;
  const std::pair<double, std::string_view> cases[] = {
      {0.1, "0.1"},
      {1.0, "1.0"},
      {-0.0, "-0.0"},
      {1e22, "1e+22"},
      {100000.0, "100000.0"},
      {1e-4, "0.0001"},
      {1e-5, "1e-05"},
      {1234567.0, "1234567.0"},
      {1.5e-7, "1.5e-07"},
      {5e-324, "5e-324"},
      {1.7976931348623157e308, "1.7976931348623157e+308"},
      {std::numeric_limits<double>::infinity(), R"(["float","7ff0000000000000"])"},
      {-std::numeric_limits<double>::infinity(), R"(["float","fff0000000000000"])"},
      {std::bit_cast<double>(0x7ff8000000000001), R"(["float","7ff8000000000001"])"},
  };
  for (const auto& [number, text] : cases) EXPECT_EQ(*encode(tree, tree.add_real(number)), text);
}

TEST(TreeEncode, WritesFloatsThatReadBackBitForBit) {
  std::mt19937_64 random(1);
  ValueTree tree;
  const NodeId list = tree.add_list();
  for (int i = 0; i < 20'000; ++i)
    tree.append(list, tree.add_real(std::bit_cast<double>(random())));
  const auto text = encode(tree, list);
  ASSERT_OK(text);
  const auto decoded = decode_tree(*text, find_tensor);
  ASSERT_OK(decoded);
  for (std::size_t i = 0; i < 20'000; ++i) {
    ASSERT_EQ(std::bit_cast<std::uint64_t>(*decoded->root().item(i).as_real()),
              std::bit_cast<std::uint64_t>(*tree.root().item(i).as_real()));
  }
}

TEST(TreeEncode, WritesTextsWithSurrogatesInHex) {
  ValueTree tree;
  EXPECT_EQ(*encode(tree, tree.add_string("a\xED\xA0\x80")), R"(["str","61eda080"])");
  EXPECT_EQ(*encode(tree, tree.add_string("\xF0\x9F\x9A\x9B")), "\"\xF0\x9F\x9A\x9B\"");
}

TEST(TreeEncode, WritesContainers) {
  ValueTree tree;
  const NodeId list = tree.add_list();
  EXPECT_EQ(*encode(tree, list), R"(["list"])");
  tree.append_all(list, Ids{tree.add_integer(1), tree.add_tuple({}), tree.add_dict()});
  EXPECT_EQ(*encode(tree, list), R"(["list",1,["tuple"],["dict"]])");
  const NodeId dict = tree.add_dict();
  tree.set_item(dict, tree.add_tuple(Ids{tree.add_integer(0)}), list);
  EXPECT_EQ(*encode(tree, dict), R"(["dict",["tuple",0],["list",1,["tuple"],["dict"]]])");
}

TEST(TreeEncode, WritesTheShortestFormOfAnObject) {
  ValueTree tree;
  const auto object = [&] {
    return tree.add_object(tree.add_global("m", "f"), tree.add_tuple(Ids{tree.add_integer(1)}));
  };
  const NodeId call = object();
  EXPECT_EQ(*encode(tree, call), R"(["object",["global","m","f"],["tuple",1]])");
  const NodeId appended = object();
  tree.append_all(appended, Ids{tree.add_integer(2), tree.add_integer(3)});
  EXPECT_EQ(*encode(tree, appended), R"(["object",["global","m","f"],["tuple",1],[2,3],[]])");
  const NodeId pairs = object();
  tree.set_items(pairs, Ids{tree.add_string("k"), tree.add_none()});
  EXPECT_EQ(*encode(tree, pairs), R"(["object",["global","m","f"],["tuple",1],[],["k",null]])");
  const NodeId state = object();
  tree.set_state(state, tree.add_none());
  EXPECT_EQ(*encode(tree, state), R"(["object",["global","m","f"],["tuple",1],[],[],null])");
}

TEST(TreeEncode, WritesTensors) {
  ValueTree tree;
  EXPECT_EQ(*encode(tree, tree.add_tensor(2, {})), R"(["tensor","c\"d"])");
  EXPECT_EQ(*encode(tree, tree.add_array(0, "|u1")), R"(["array","a","|u1"])");
  EXPECT_EQ(*encode(tree, tree.add_scalar("<i2", "\1\2")), R"(["scalar","<i2","0102"])");
  EXPECT_EQ(*encode(tree, tree.add_bytes_in_tensor(1)), R"(["bytes",["tensor","b"]])");
}

TEST(TreeEncode, WritesAttributesInTheOrderOfTheSpecification) {
  ValueTree tree;
  TensorAttributes attributes;
  attributes.requires_grad = attributes.parameter = true;
  attributes.device = "cuda:0";
  attributes.stride = {1, 2};
  attributes.dtype = "quint4x2";
  attributes.shape = std::vector<std::uint64_t>{};
  attributes.quantizer = tree.add_tuple({});
  attributes.state = tree.add_dict();
  EXPECT_EQ(*encode(tree, tree.add_tensor(0, attributes)),
            R"(["tensor","a",{"grad":true,"param":true,"device":"cuda:0","stride":[1,2],)"
            R"("dtype":"quint4x2","shape":[],"quant":["tuple"],"state":["dict"]}])");
}

TEST(TreeEncode, MarksWhatIsReachedTwice) {
  ValueTree tree;
  const NodeId shared = tree.add_list();
  const NodeId other = tree.add_dict();
  const NodeId root = tree.add_list();
  tree.append_all(root, Ids{other, shared, other, shared, shared});
  EXPECT_EQ(*encode(tree, root),
            R"(["list",["id",0,["dict"]],["id",1,["list"]],["ref",0],["ref",1],["ref",1]])");
}

TEST(TreeEncode, NeverMarksEmptyTuplesAndScalars) {
  ValueTree tree;
  const NodeId empty = tree.add_tuple({});
  const NodeId text = tree.add_string("s");
  const NodeId scalar = tree.add_scalar("|u1", "\1");
  const NodeId root = tree.add_list();
  tree.append_all(root, Ids{empty, empty, text, text, scalar, scalar});
  EXPECT_EQ(*encode(tree, root),
            R"(["list",["tuple"],["tuple"],"s","s",["scalar","|u1","01"],["scalar","|u1","01"]])");
}

TEST(TreeEncode, WritesSharedArgumentsInFull) {
  ValueTree tree;
  const NodeId inner = tree.add_list();
  const NodeId arguments = tree.add_tuple(Ids{inner, tree.add_integer(7)});
  const NodeId callable = tree.add_global("m", "f");
  const NodeId root = tree.add_list();
  tree.append_all(root, Ids{tree.add_object(callable, arguments),
                            tree.add_object(callable, arguments), arguments});
  const auto text = encode(tree, root);
  ASSERT_OK(text);
  EXPECT_EQ(*text, R"(["list",["object",["global","m","f"],["tuple",["id",0,["list"]],7]],)"
                   R"(["object",["global","m","f"],["tuple",["ref",0],7]],["tuple",["ref",0],7]])");
  expect_round_trip(*text);
}

TEST(TreeEncode, ClosesCyclesOfListsDictsAndObjects) {
  ValueTree tree;
  const NodeId list = tree.add_list();
  const NodeId object = tree.add_object(tree.add_global("m", "f"), tree.add_tuple({}));
  tree.append_all(list, Ids{list, object});
  tree.append(object, object);
  tree.set_state(object, list);
  const auto text = encode(tree, list);
  ASSERT_OK(text);
  EXPECT_EQ(*text, R"(["id",0,["list",["ref",0],["id",1,["object",["global","m","f"],["tuple"],)"
                   R"([["ref",1]],[],["ref",0]]]]])");
  expect_round_trip(*text);
}

TEST(TreeEncode, RefusesATupleThatContainsItself) {
  ValueTree tree;
  const NodeId tuple = tree.add_tuple({});
  const NodeId list = tree.add_list();
  tree.append(list, tuple);
  tree.set_tuple(tuple, Ids{list});
  const NodeId root = tree.add_dict();
  tree.set_item(root, tree.add_string("deep"), tuple);
  const auto text = encode(tree, root);
  EXPECT_ERROR(text, tree_not_representable);
  EXPECT_EQ(text.error().message, "the tree: at 'deep', at 0, at 0: a tuple that contains itself");
  // The twin: the same cycle entered at the list can be built.
  EXPECT_EQ(*encode(tree, list), R"(["id",0,["list",["tuple",["ref",0]]]])");
}

TEST(TreeEncode, RefusesACallWithinItsOwnArguments) {
  ValueTree tree;
  const NodeId list = tree.add_list();
  const NodeId object = tree.add_object(tree.add_global("m", "f"), tree.add_tuple(Ids{list}));
  tree.append(list, object);
  const auto text = encode(tree, object);
  EXPECT_ERROR(text, tree_not_representable);
  EXPECT_NE(text.error().message.find("a call that contains itself"), std::string::npos);
}

TEST(TreeEncode, RefusesATensorWithinItsOwnAttributes) {
  ValueTree tree;
  const NodeId tensor = tree.add_tensor(0, {});
  const NodeId state = tree.add_dict();
  tree.set_item(state, tree.add_string("self"), tensor);
  tree.edit_attributes(tensor).state = state;
  EXPECT_ERROR(encode(tree, tensor), tree_not_representable);
}

// `node` in `levels` lists.
NodeId nested(ValueTree& tree, std::size_t levels, NodeId node) {
  for (std::size_t i = 0; i < levels; ++i) {
    const NodeId list = tree.add_list();
    tree.append(list, node);
    node = list;
  }
  return node;
}

TEST(TreeEncode, WritesNoTreeThatReadersRefuseAsTooDeep) {
  ValueTree tree;
  TensorAttributes strided;
  strided.stride = {1};
  TensorAttributes stated;
  stated.state = tree.add_dict();
  TensorAttributes gradient;
  gradient.requires_grad = true;
  const NodeId call = tree.add_object(tree.add_global("m", "f"), tree.add_tuple({}));
  const NodeId appended = tree.add_object(tree.add_global("m", "f"), tree.add_tuple({}));
  tree.append(appended, tree.add_list());
  const std::pair<NodeId, std::size_t> nodes[] = {
      {tree.add_integer(1), 0},
      {tree.add_list(), 1},
      {tree.add_big_integer("123456789abcdef01"), 1},
      {tree.add_integer(std::int64_t{1} << 60), 1},
      {tree.add_real(std::numeric_limits<double>::quiet_NaN()), 1},
      {tree.add_string("\xED\xA0\x80"), 1},
      {tree.add_bytes_in_tensor(0), 2},
      {tree.add_tensor(0, {}), 1},
      {tree.add_tensor(0, gradient), 2},
      {tree.add_tensor(0, strided), 3},
      {tree.add_tensor(0, stated), 3},
      {call, 2},
      {appended, 3},
  };
  for (const auto& [node, levels] : nodes) {
    const auto deepest = encode(tree, nested(tree, 512 - levels, node));
    ASSERT_OK(deepest) << levels;
    expect_round_trip(*deepest);
    const auto deeper = encode(tree, nested(tree, 513 - levels, node));
    ASSERT_TRUE(test::has_error(deeper, ErrorCode::tree_not_representable)) << levels;
    EXPECT_NE(deeper.error().message.find("nests more than 512 levels"), std::string::npos);
  }
}

TEST(TreeEncode, CountsAReferenceAsALevel) {
  ValueTree tree;
  const NodeId shared = tree.add_list();
  const auto with_ref = [&](std::size_t levels) {
    const NodeId root = tree.add_list();
    tree.append(root, shared);
    tree.append(root, nested(tree, levels, shared));
    return encode(tree, root);
  };
  const auto deepest = with_ref(510);
  ASSERT_OK(deepest);
  expect_round_trip(*deepest);
  EXPECT_ERROR(with_ref(511), tree_not_representable);
}

TEST(TreeEncode, RefusesNestingWithoutRecursingIntoIt) {
  ValueTree tree;
  EXPECT_ERROR(encode(tree, nested(tree, 1'000'000, tree.add_list())), tree_not_representable);
}

TEST(TreeEncode, IsLinearInTheGraph) {
  ValueTree tree;
  NodeId node = tree.add_list();
  for (int i = 0; i < 60; ++i) {
    const NodeId twice = tree.add_list();
    tree.append_all(twice, Ids{node, node});
    node = twice;
  }
  const auto text = encode(tree, node);
  ASSERT_OK(text);
  EXPECT_LT(text->size(), 3000u);
  expect_round_trip(*text);
}

TEST(TreeEncode, RefusesATextLongerThanAnyHeader) {
  ValueTree tree;
  Ids numbers(20'000, tree.add_integer(1));
  const NodeId arguments = tree.add_tuple(numbers);
  const NodeId root = tree.add_list();
  for (int i = 0; i < 10'000; ++i)
    tree.append(root, tree.add_object(tree.add_global("m", "f"), arguments));
  EXPECT_ERROR(encode(tree, root), header_over_limit);
}

TEST(TreeEncode, WritesAliasesInOrder) {
  const std::vector<Alias> aliases = {{"head", "a"}, {"x\"", "b"}};
  EXPECT_EQ(encode_aliases(aliases), R"({"head":"a","x\"":"b"})");
  EXPECT_EQ(encode_aliases({}), "{}");
}

// A random graph of all kinds, with sharing and with cycles of any form.
class Graph {
 public:
  explicit Graph(std::uint64_t seed) : random_(seed) {}

  ValueTree make() {
    for (int i = 0; i < 6; ++i) add_scalars();
    for (int i = 0; i < 25; ++i) add_container();
    // Cycles: earlier containers get later nodes.
    for (int i = 0; i < 6; ++i) {
      const NodeId id = lists_[below(lists_.size())];
      tree_.append(id, any());
    }
    tree_.set_root(any_of(lists_));
    return std::move(tree_);
  }

 private:
  std::size_t below(std::size_t bound) { return random_() % bound; }
  NodeId any_of(const Ids& ids) { return ids[below(ids.size())]; }
  NodeId any() { return any_of(all_); }

  void add_scalars() {
    const std::string text(below(3), static_cast<char>('a' + below(26)));
    TensorAttributes attributes;
    attributes.requires_grad = below(2) == 0;
    if (below(2) == 0) attributes.state = all_.empty() ? tree_.add_none() : any();
    for (const NodeId id :
         {tree_.add_none(), tree_.add_boolean(below(2) == 0),
          tree_.add_integer(static_cast<std::int64_t>(random_())),
          tree_.add_real(std::bit_cast<double>(random_())), tree_.add_string(text),
          tree_.add_string(text + "\xED\xB0\x80"), tree_.add_bytes(text),
          tree_.add_bytes_in_tensor(1), tree_.add_global("m", "f"), tree_.add_array(2, "|u1"),
          tree_.add_scalar("|V2", "ab"), tree_.add_big_integer("-ffffffffffffffffff"),
          tree_.add_tensor(static_cast<std::uint32_t>(below(3)), attributes)}) {
      all_.push_back(id);
    }
  }

  NodeId tuple() {
    Ids items(below(4));
    for (NodeId& item : items) item = any();
    return tree_.add_tuple(items);
  }

  // Keys are distinct strs, and now and then something else that may be a key.
  void set_pairs(NodeId id) {
    const std::size_t count = below(4);
    for (std::size_t i = 0; i < count; ++i) {
      const NodeId key = below(4) == 0 ? tree_.add_tuple({}) : tree_.add_string(str_cat("k", i));
      tree_.set_item(id, key, any());
    }
  }

  void add_container() {
    NodeId id = kNoNode;
    switch (below(4)) {
      case 0:
        lists_.push_back(id = tree_.add_list());
        break;
      case 1:
        id = tree_.add_dict();
        set_pairs(id);
        break;
      case 2:
        id = tuple();
        break;
      default:
        lists_.push_back(id = tree_.add_object(any(), tuple()));
        set_pairs(id);
        if (below(2) == 0) tree_.set_state(id, any());
    }
    if (lists_.empty()) lists_.push_back(tree_.add_list());
    for (std::size_t i = below(4); i > 0; --i) tree_.append(any_of(lists_), any());
    all_.push_back(id);
  }

  std::mt19937_64 random_;
  ValueTree tree_;
  Ids all_;
  Ids lists_;  // and objects
};

TEST(TreeEncode, WritesRandomGraphsThatReadBackTheSame) {
  int written = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    const ValueTree tree = Graph(seed).make();
    const auto text = encode_tree(tree, kNames);
    if (!text) {
      EXPECT_ERROR(text, tree_not_representable) << seed;
      continue;
    }
    ++written;
    expect_round_trip(*text);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(written, 300);
}

TEST(TreeEncode, WritesTextsUpToALimit) {
  ValueTree tree;
  const NodeId shared = tree.add_list();
  tree.append_all(shared, std::array{tree.add_integer(1), tree.add_string("\"")});
  const NodeId root = tree.add_list();
  tree.append_all(root, std::array{shared, shared});
  tree.set_root(root);
  const std::string text = R"(["list",["id",0,["list",1,"\""]],["ref",0]])";
  EXPECT_EQ(encode_tree(tree, kNames, 100).value(), text);
  // The limit is checked before each node, so the last node may pass it.
  EXPECT_ERROR(encode_tree(tree, kNames, 20), header_over_limit);
}

}  // namespace
}  // namespace flatbed
