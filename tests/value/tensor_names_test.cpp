// name_tensors(): the components of spec N1 and N2, the collisions of N3, the aliases of A1, and
// modules of N5, and trees that are deep or share much.
#include "value/tensor_names.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "support/cpu_time.hpp"
#include "support/expect_error.hpp"
#include "support/module_builder.hpp"

namespace flatbed {
namespace {

using Ids = std::vector<NodeId>;
using Names = std::vector<std::string>;

NodeId dict(ValueTree& tree, const Ids& pairs) {
  const NodeId id = tree.add_dict();
  tree.set_items(id, pairs);
  return id;
}

NodeId list(ValueTree& tree, const Ids& items) {
  const NodeId id = tree.add_list();
  tree.append_all(id, items);
  return id;
}

struct Named {
  Names names;
  std::vector<std::uint32_t> order;
  std::vector<Alias> aliases;
  Names uninitialized;
  std::uint64_t uninitialized_count = 0;
};

Named names_of(ValueTree& tree, NodeId root) {
  tree.set_root(root);
  TensorNames found = name_tensors(tree).value();
  Named named{{},
              std::move(found.order),
              std::move(found.aliases),
              std::move(found.uninitialized),
              found.uninitialized_count};
  for (std::size_t i = 0; i < found.names.size(); ++i) named.names.emplace_back(found.names[i]);
  return named;
}

// The names of tensors 0, 1, 2... under these keys of one dict, in order.
Names names_under(ValueTree& tree, const Ids& keys) {
  Ids pairs;
  for (std::uint32_t i = 0; i < keys.size(); ++i) {
    pairs.push_back(keys[i]);
    pairs.push_back(tree.add_tensor(i, {}));
  }
  return names_of(tree, dict(tree, pairs)).names;
}

std::vector<std::pair<std::string, std::string>> pairs_of(const std::vector<Alias>& aliases) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Alias& alias : aliases) out.emplace_back(alias.name, alias.target);
  return out;
}
using Aliased = std::vector<std::pair<std::string, std::string>>;

TEST(TensorNames, OfAStateDictAreItsKeys) {
  ValueTree tree;
  EXPECT_EQ(names_under(tree, {tree.add_string("fc.weight"), tree.add_string("")}),
            (Names{"fc.weight", ""}));
}

TEST(TensorNames, JoinKeysAndIndicesWithDots) {
  ValueTree tree;
  const NodeId inner =
      list(tree, {tree.add_integer(1), tree.add_tuple(Ids{tree.add_tensor(0, {})})});
  const auto names = names_of(tree, dict(tree, {tree.add_string("state"), inner}));
  EXPECT_EQ(names.names, Names{"state.1.0"});
  EXPECT_EQ(names.order, std::vector<std::uint32_t>{0});
}

TEST(TensorNames, OfATensorAloneIsTensor) {
  ValueTree tree;
  EXPECT_EQ(names_of(tree, tree.add_tensor(0, {})).names, Names{"tensor"});
}

TEST(TensorNames, OfNoTensorsAreNone) {
  ValueTree tree;
  EXPECT_TRUE(name_tensors(tree)->names.empty());
  EXPECT_TRUE(names_of(tree, dict(tree, {})).names.empty());
}

TEST(TensorNames, WriteKeysOfEveryKind) {
  ValueTree tree;
  EXPECT_EQ(
      names_under(tree, {tree.add_integer(-3), tree.add_boolean(true), tree.add_boolean(false),
                         tree.add_none(), tree.add_big_integer("-10000000000000000"),
                         tree.add_real(1.5), tree.add_bytes("b"), tree.add_tuple({}),
                         tree.add_global("torch", "float32"), tree.add_string("a\xED\xA0\x80")}),
      (Names{"-3", "True", "False", "None", "-18446744073709551616", "1.5", "b", "7", "8",
             "a\xEF\xBF\xBD"}));
}

// np.int64(2) is the key 2: as an index of its pair it would take the name of another key.
TEST(TensorNames, WriteNumpyScalarsAsTheValuesThatTheyEqual) {
  ValueTree tree;
  const auto scalar = [&](const char* type, const std::string& raw) {
    return tree.add_scalar(type, raw);
  };
  EXPECT_EQ(names_under(tree, {scalar("<i8", std::string("\2\0\0\0\0\0\0\0", 8)),
                               scalar("<i8", std::string(8, '\0')), tree.add_integer(1),
                               scalar(">u2", std::string("\1\0", 2)), scalar("|b1", "\1"),
                               scalar("<U2", std::string("k\0\0\0\0\0\0\0", 8)),
                               scalar("|S2", std::string("s\0", 2)),
                               scalar("<f8", std::string("\0\0\0\0\0\0\xe0\x3f", 8))}),
            (Names{"2", "0", "1", "256", "True", "k", "s", "0.5"}));
}

TEST(TensorNames, WriteTheIndexForKeysWithoutAText) {
  ValueTree tree;
  EXPECT_EQ(
      names_under(tree, {tree.add_bytes("\xff"), tree.add_scalar("<M8[D]", std::string(8, '\0')),
                         tree.add_tuple(Ids{tree.add_integer(7)})}),
      (Names{"0", "1", "2"}));
}

TEST(TensorNames, LeaveOutTheTupleOfAttributesAndSlots) {
  ValueTree tree;
  const auto made = [&](const Ids& state) {
    const NodeId object = tree.add_object(tree.add_global("m", "Point"), tree.add_tuple({}));
    tree.set_state(object, tree.add_tuple(state));
    return object;
  };
  const auto dict_of = [&](std::uint32_t tensor) {
    return dict(tree, {tree.add_string("w"), tree.add_tensor(tensor, {})});
  };
  const NodeId slots = made({tree.add_none(), dict_of(0)});
  const NodeId pair = made({tree.add_integer(1), dict_of(1)});
  EXPECT_EQ(
      names_of(tree, dict(tree, {tree.add_string("a"), slots, tree.add_string("b"), pair})).names,
      (Names{"a.w", "b.1.w"}));
}

// torch._tensor._rebuild_from_type_v2(function, class, arguments, state)
TEST(TensorNames, OfASubclassAreThoseOfItsPlace) {
  ValueTree tree;
  const auto subclass = [&](NodeId arguments, NodeId state) {
    const Ids parts{tree.add_global("torch._utils", "f"), tree.add_global("m", "Tensor"), arguments,
                    state};
    return tree.add_object(tree.add_global("torch._tensor", "_rebuild_from_type_v2"),
                           tree.add_tuple(parts));
  };
  const NodeId plain = subclass(tree.add_tuple(Ids{tree.add_tensor(0, {})}), tree.add_none());
  const NodeId state = dict(tree, {tree.add_string("_local_tensor"), tree.add_tensor(1, {})});
  const NodeId distributed = subclass(tree.add_tuple({}), state);
  const NodeId parts = dict(tree, {tree.add_string("scale"), tree.add_tensor(2, {})});
  const NodeId quantized = subclass(tree.add_tuple({}), parts);
  const NodeId parameter = tree.add_object(
      tree.add_global("torch._utils", "_rebuild_parameter"),
      tree.add_tuple(Ids{subclass(tree.add_tuple(Ids{tree.add_tensor(3, {})}), tree.add_none()),
                         tree.add_boolean(true), tree.add_none()}));
  EXPECT_EQ(
      names_of(tree, dict(tree, {tree.add_string("a"), plain, tree.add_string("b"), distributed,
                                 tree.add_string("c"), quantized, tree.add_string("d"), parameter}))
          .names,
      (Names{"a", "b", "c.scale", "d"}));
}

TEST(TensorNames, WriteIntKeysOfManyDigits) {
  ValueTree tree;
  std::string power = "1" + std::string(40, '0');  // 16^40
  EXPECT_EQ(names_under(tree, {tree.add_big_integer(power)}),
            Names{"1461501637330902918203684832716283019655932542976"});
  tree.set_root(
      dict(tree, {tree.add_big_integer(std::string(100'000, 'f')), tree.add_tensor(0, {})}));
  EXPECT_ERROR(name_tensors(tree), limit_exceeded);
}

TEST(TensorNames, OfTensorsInKeysSayKey) {
  ValueTree tree;
  const NodeId key = tree.add_tuple(Ids{tree.add_tensor(0, {}), tree.add_integer(1)});
  const NodeId root = dict(tree, {tree.add_string("a"), tree.add_none(), key,
                                  tree.add_tensor(1, {}), tree.add_tensor(2, {}), tree.add_none()});
  EXPECT_EQ(names_of(tree, root).names, (Names{"1.key.0", "1", "2.key"}));
}

TEST(TensorNames, WalkTheFivePartsOfAnObjectInOrder) {
  ValueTree tree;
  const auto tensor = [&](std::uint32_t number) { return tree.add_tensor(number, {}); };
  const NodeId object =
      tree.add_object(list(tree, {tensor(0)}), tree.add_tuple(Ids{tree.add_none(), tensor(1)}));
  tree.append_all(object, Ids{tensor(2)});
  tree.set_item(object, tree.add_string("p"), tensor(3));
  tree.set_state(object, dict(tree, {tree.add_string("s"), tensor(4)}));
  const auto names = names_of(tree, dict(tree, {tree.add_string("o"), object}));
  EXPECT_EQ(names.names, (Names{"o.0", "o.1", "o.0~1", "o.p", "o.s"}));
  EXPECT_EQ(names.order, (std::vector<std::uint32_t>{0, 1, 2, 3, 4}));
}

TEST(TensorNames, WalkIntoAttributes) {
  ValueTree tree;
  TensorAttributes attributes;
  attributes.quantizer = tree.add_tuple(Ids{tree.add_tensor(1, {})});
  attributes.state = dict(tree, {tree.add_string("mask"), tree.add_tensor(2, {})});
  const NodeId tensor = tree.add_tensor(0, attributes);
  EXPECT_EQ(names_of(tree, dict(tree, {tree.add_string("w"), tensor})).names,
            (Names{"w", "w.0", "w.mask"}));
}

TEST(TensorNames, NameArraysAndBytesToo) {
  ValueTree tree;
  const NodeId root = list(tree, {tree.add_array(0, "<f4"), tree.add_bytes_in_tensor(1),
                                  tree.add_bytes("abc"), tree.add_tensor(2, {})});
  EXPECT_EQ(names_of(tree, root).names, (Names{"0", "1", "3"}));
}

TEST(TensorNames, ThatCollideGetASuffix) {
  ValueTree tree;
  const auto tensor = [&](std::uint32_t number) { return tree.add_tensor(number, {}); };
  const NodeId root =
      dict(tree, {tree.add_string("a"), dict(tree, {tree.add_string("b"), tensor(0)}),
                  tree.add_string("a.b"), tensor(1), tree.add_string("a.b~1"), tensor(2),
                  tree.add_string("a.b~2"), tensor(3), tree.add_integer(1), tensor(4),
                  tree.add_string("1"), tensor(5)});
  EXPECT_EQ(names_of(tree, root).names, (Names{"a.b", "a.b~1", "a.b~1~1", "a.b~2", "1", "1~1"}));
}

TEST(TensorNames, TakeTheFirstSuffixThatIsFree) {
  ValueTree tree;
  const NodeId root =
      dict(tree, {tree.add_string("x~1"), tree.add_tensor(0, {}), tree.add_string("x"),
                  tree.add_tensor(1, {}), tree.add_string("x"), tree.add_tensor(2, {})});
  EXPECT_EQ(names_of(tree, root).names, (Names{"x~1", "x", "x~2"}));
}

TEST(TensorNames, AreNeverMetadata) {
  ValueTree tree;
  EXPECT_EQ(names_under(tree, {tree.add_string("__metadata__"), tree.add_string("__metadata__~1")}),
            (Names{"__metadata__~1", "__metadata__~1~1"}));
}

TEST(TensorNames, OfOneTensorInTwoPlacesAreANameAndAnAlias) {
  ValueTree tree;
  const NodeId node = tree.add_tensor(0, {});
  const NodeId root = dict(tree, {tree.add_string("embed"), node, tree.add_string("head"), node,
                                  tree.add_string("again"), tree.add_tensor(0, {})});
  const auto names = names_of(tree, root);
  EXPECT_EQ(names.names, Names{"embed"});
  EXPECT_EQ(pairs_of(names.aliases), (Aliased{{"head", "embed"}, {"again", "embed"}}));
}

TEST(TensorNames, NeverWalkAContainerTwice) {
  ValueTree tree;
  const NodeId shared = dict(tree, {tree.add_string("w"), tree.add_tensor(0, {})});
  const auto names =
      names_of(tree, dict(tree, {tree.add_string("a"), shared, tree.add_string("b"), shared}));
  EXPECT_EQ(names.names, Names{"a.w"});
  EXPECT_TRUE(names.aliases.empty());
}

TEST(TensorNames, GiveArraysAndBytesNoAliases) {
  ValueTree tree;
  const auto names =
      names_of(tree, list(tree, {tree.add_array(0, "|u1"), tree.add_array(0, "|u1"),
                                 tree.add_bytes_in_tensor(1), tree.add_bytes_in_tensor(1)}));
  EXPECT_EQ(names.names, (Names{"0", "2"}));
  EXPECT_TRUE(names.aliases.empty());
}

TEST(TensorNames, OfAliasesCollideToo) {
  ValueTree tree;
  const NodeId node = tree.add_tensor(0, {});
  const NodeId root = dict(tree, {tree.add_string("a"), node, tree.add_string("b"),
                                  dict(tree, {tree.add_string("c"), node}), tree.add_string("b.c"),
                                  tree.add_tensor(1, {})});
  const auto names = names_of(tree, root);
  EXPECT_EQ(names.names, (Names{"a", "b.c~1"}));
  EXPECT_EQ(pairs_of(names.aliases), (Aliased{{"b.c", "a"}}));
  EXPECT_EQ(names.order, (std::vector<std::uint32_t>{0, 1}));
}

TEST(TensorNames, AreOnlyForWhatTheRootReaches) {
  ValueTree tree;
  tree.add_tensor(0, {});
  const auto names = names_of(tree, list(tree, {tree.add_tensor(3, {})}));
  EXPECT_EQ(names.names, Names{"0"});
  EXPECT_EQ(names.order, std::vector<std::uint32_t>{3});
}

TEST(TensorNames, EndInCycles) {
  ValueTree tree;
  const NodeId root = tree.add_list();
  tree.append_all(root, Ids{root, tree.add_tensor(0, {}), root});
  EXPECT_EQ(names_of(tree, root).names, Names{"1"});
}

TEST(TensorNames, AreFoundByTheirIndexAndAliasesBehindThem) {
  ValueTree tree;
  const NodeId first = tree.add_tensor(0, {});
  const NodeId second = tree.add_tensor(1, {});
  const Ids pairs{tree.add_string("a"), first, tree.add_string("b"), first,
                  tree.add_string("c"), second};
  tree.set_root(dict(tree, pairs));
  const TensorNames found = name_tensors(tree).value();
  const auto number_of = [&](std::string_view name) {
    return found.index.find(name, [&](std::uint32_t n) {
      return n < 2 ? found.names[n] : std::string_view(found.aliases[n - 2].name);
    });
  };
  EXPECT_EQ(found.index.size(), 3u);
  EXPECT_EQ(number_of("a"), 0u);
  EXPECT_EQ(number_of("c"), 1u);
  EXPECT_EQ(number_of("b"), 2u);
  EXPECT_EQ(number_of("d"), std::nullopt);
}

TEST(TensorNames, OfSiblingsBelowALongPathShareIt) {
  ValueTree tree;
  const NodeId inner = dict(tree, {tree.add_string("x"), tree.add_tensor(0, {}),
                                   tree.add_string(""), tree.add_tensor(1, {})});
  const NodeId other = dict(tree, {tree.add_string("y"), tree.add_tensor(2, {})});
  const NodeId middle = dict(tree, {tree.add_string("left"), inner, tree.add_string("l"), other});
  const NodeId root =
      dict(tree, {tree.add_string(""), middle, tree.add_string("top"), tree.add_tensor(3, {})});
  EXPECT_EQ(names_of(tree, root).names, (Names{".left.x", ".left.", ".l.y", "top"}));
}

TEST(TensorNames, OfAVeryDeepTreeNeedNoStack) {
  constexpr std::size_t kLevels = 1'000'000;
  ValueTree tree;
  NodeId node = tree.add_tensor(0, {});
  for (std::size_t i = 0; i < kLevels; ++i) node = list(tree, {node});
  const auto names = names_of(tree, node);
  ASSERT_EQ(names.names.size(), 1u);
  EXPECT_EQ(names.names[0].size(), 2 * kLevels - 1);
}

TEST(TensorNames, OfAGraphWithManyPathsAreLinear) {
  ValueTree tree;
  NodeId node = list(tree, {tree.add_tensor(0, {})});
  for (int i = 0; i < 100'000; ++i) node = list(tree, {node, node});
  const auto start = test::cpu_time();
  EXPECT_EQ(names_of(tree, node).names.size(), 1u);
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(5));
}

// An arguments tuple is written with each of its calls, and so walked with each: 16 million
// children here, none of which is kept.
TEST(TensorNames, SharedArgumentsNeedNoMemory) {
  ValueTree tree;
  Ids lists(4000);
  for (NodeId& id : lists) id = tree.add_list();
  const NodeId arguments = tree.add_tuple(lists);
  NodeId node = tree.add_tensor(0, {});
  for (int i = 0; i < 4000; ++i) {
    node = tree.add_object(node, arguments);
    tree.append(lists[0], node);
  }
  EXPECT_EQ(names_of(tree, node).names, Names{"tensor"});
}

// Each object adds a level, but nothing to the names.
TEST(TensorNames, BelowManyCallsAreLinear) {
  ValueTree tree;
  Ids tensors(50'000);
  for (std::uint32_t i = 0; i < tensors.size(); ++i) tensors[i] = tree.add_tensor(i, {});
  NodeId node = list(tree, tensors);
  const NodeId empty = tree.add_tuple({});
  for (int i = 0; i < 50'000; ++i) node = tree.add_object(node, empty);
  const auto start = test::cpu_time();
  EXPECT_EQ(names_of(tree, node).names.size(), 50'000u);
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(5));
}

TEST(TensorNames, OfMoreEntriesThanAnyHeaderHoldsAreRefused) {
  ValueTree tree;
  const NodeId arguments = tree.add_tuple(Ids(20'000, tree.add_none()));
  const NodeId root = tree.add_list();
  for (int i = 0; i < 3'000; ++i) tree.append(root, tree.add_object(tree.add_none(), arguments));
  tree.set_root(root);
  EXPECT_ERROR(name_tensors(tree), limit_exceeded);
}

TEST(TensorNames, ManyCollisionsAreLinear) {
  ValueTree tree;
  const NodeId root = tree.add_dict();
  for (std::uint32_t i = 0; i < 20'000; ++i)
    tree.set_item(root, tree.add_string("x"), tree.add_tensor(i, {}));
  const auto start = test::cpu_time();
  EXPECT_EQ(names_of(tree, root).names.back(), "x~19999");
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(5));
}

TEST(TensorNames, OfAModuleAreThoseOfItsStateDict) {
  ValueTree tree;
  const NodeId weight = tree.add_tensor(0, {});
  const NodeId lstm = test::module(tree, {.parameters = {{"weight_ih", weight}},
                                          .before = {{"_flat_weights", list(tree, {weight})}}});
  const NodeId model = test::module(tree, {.parameters = {{"scale", tree.add_tensor(1, {})}},
                                           .buffers = {{"mean", tree.add_tensor(2, {})}},
                                           .children = {{"lstm", lstm}, {"again", lstm}},
                                           .before = {{"cache", tree.add_tensor(3, {})}}});
  const auto names = names_of(tree, test::named_dict(tree, {{"model", model}}));
  EXPECT_EQ(names.names,
            (Names{"model.scale", "model.mean", "model.lstm.weight_ih", "model.cache"}));
  EXPECT_EQ(pairs_of(names.aliases),
            (Aliased{{"model.lstm._flat_weights.0", "model.lstm.weight_ih"}}));
}

// `fc` is reached through a list of its sibling before it is through _modules.
TEST(TensorNames, OfAModuleComeFromItsChildrenFirst) {
  ValueTree tree;
  const NodeId fc = test::module(tree, {.parameters = {{"w", tree.add_tensor(0, {})}}});
  const NodeId first = test::module(tree, {.before = {{"others", list(tree, {fc})}}});
  const NodeId model = test::module(tree, {.children = {{"first", first}, {"fc", fc}}});
  const auto names = names_of(tree, model);
  EXPECT_EQ(names.names, Names{"fc.w"});
  EXPECT_TRUE(names.aliases.empty());
}

TEST(TensorNames, OfAModuleWithSlotsAreTheSame) {
  ValueTree tree;
  const NodeId slots = test::named_dict(tree, {{"s", tree.add_tensor(1, {})}});
  const NodeId parts[] = {
      test::module_attributes(tree, {.parameters = {{"w", tree.add_tensor(0, {})}}}), slots};
  const NodeId model = test::instance(tree, "Net", tree.add_tuple(parts));
  EXPECT_EQ(names_of(tree, model).names, (Names{"w", "s"}));
}

TEST(TensorNames, OfModulesInACycleEnd) {
  ValueTree tree;
  const NodeId children = tree.add_dict();
  const NodeId attributes = test::named_dict(
      tree, {{"_parameters", test::named_dict(tree, {{"w", tree.add_tensor(0, {})}})},
             {"_buffers", tree.add_dict()},
             {"_modules", children}});
  const NodeId model = test::instance(tree, "Net", attributes);
  tree.set_item(children, tree.add_string("self"), model);
  tree.set_item(children, tree.add_string("odd"), tree.add_tensor(1, {}));
  EXPECT_EQ(names_of(tree, model).names, (Names{"w", "odd"}));
}

TEST(TensorNames, OfNestedModulesNeedNoStackAndAreLinear) {
  ValueTree tree;
  NodeId node = test::module(tree, {.parameters = {{"w", tree.add_tensor(0, {})}}});
  for (int i = 0; i < 50'000; ++i)
    node = test::module(tree, {.children = {{"a", node}, {"b", node}}});
  const auto start = test::cpu_time();
  EXPECT_EQ(names_of(tree, node).names.size(), 1u);
  EXPECT_LT(test::cpu_time() - start, std::chrono::seconds(5));
}

// spec/writer.py names tensors, too.
TEST(TensorNames, AreThoseOfTheSpecificationsWriter) {
  std::size_t compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FLATBED_SPEC_VECTORS_DIR "/valid")) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("tree-") || name.starts_with("tree-text-") ||
        entry.path().extension() != ".safetensors")
      continue;
    const Checkpoint checkpoint = Checkpoint::open(entry.path()).value();
    if (checkpoint.tensors().empty()) continue;
    ASSERT_TRUE(checkpoint.tree()) << name;
    const auto names = name_tensors(CheckpointAccess::copy_tree(checkpoint).value()).value();
    for (std::size_t i = 0; i < names.names.size(); ++i)
      EXPECT_EQ(names.names[i], checkpoint.tensors()[names.order[i]].name) << name;
    Aliased stored;
    for (const Alias& alias : checkpoint.aliases()) stored.emplace_back(alias.name, alias.target);
    EXPECT_EQ(pairs_of(names.aliases), stored) << name;
    ++compared;
  }
  EXPECT_GT(compared, 10u);
}

// Each name is short, their prefixes are not: 20,000 names of 10 kB.
TEST(TensorNames, LongerThanAnyHeaderAreRefused) {
  ValueTree tree;
  const NodeId inner = tree.add_list();
  for (std::uint32_t i = 0; i < 20'000; ++i) tree.append(inner, tree.add_tensor(i, {}));
  tree.set_root(dict(tree, {tree.add_string(std::string(10'000, 'x')), inner}));
  EXPECT_ERROR(name_tensors(tree), limit_exceeded);
}

TEST(TensorNames, SayWhichParametersOfLazyModulesHaveNoValues) {
  ValueTree tree;
  const auto lazy = [&](std::string_view type) {
    const NodeId requires_grad = tree.add_boolean(true);
    return tree.add_object(tree.add_global("torch.nn.parameter", type),
                           tree.add_tuple(Ids{requires_grad}));
  };
  const NodeId shared = lazy("UninitializedParameter");
  const NodeId inner = test::module(tree, {.parameters = {{"w", shared}, {"b", lazy("Parameter")}},
                                           .buffers = {{"mean", lazy("UninitializedBuffer")}}});
  const NodeId net =
      test::module(tree, {.parameters = {{"p", shared}}, .children = {{"0", inner}}});
  const auto names = names_of(tree, net);
  EXPECT_TRUE(names.names.empty());
  EXPECT_EQ(names.uninitialized, (Names{"p", "0.mean"}));
  EXPECT_EQ(names.uninitialized_count, 2u);
}

TEST(TensorNames, OfParametersWithoutValuesCountLikeOthers) {
  ValueTree tree;
  const auto below_long_keys = [&](NodeId node) {
    const NodeId key = tree.add_string(std::string(1'000'000, 'k'));
    for (int i = 0; i < 60; ++i) node = dict(tree, {key, node});
    tree.set_root(node);
    return name_tensors(tree);
  };
  const auto lazy = [&] {
    return tree.add_object(tree.add_global("torch.nn.parameter", "UninitializedParameter"),
                           tree.add_tuple(Ids{tree.add_boolean(true)}));
  };
  EXPECT_OK(below_long_keys(list(tree, {lazy()})));
  EXPECT_ERROR(below_long_keys(list(tree, {lazy(), lazy()})), limit_exceeded);
}

// As torch's state_dict() calls them: at the root, and where a part of a model was compiled.
TEST(TensorNames, InACompiledModuleAreBelowItsName) {
  ValueTree tree;
  const NodeId cache = list(tree, {tree.add_tensor(2, {})});
  const NodeId inside = test::module(
      tree, {.parameters = {{"w", tree.add_tensor(1, {})}}, .after = {{"cache", cache}}});
  EXPECT_EQ(names_of(tree, test::compiled(tree, inside)).names,
            (Names{"_orig_mod.w", "_orig_mod.cache.0"}));
  const NodeId first = test::compiled(tree, test::compiled(tree, inside));
  const NodeId net =
      test::module(tree, {.parameters = {{"p", tree.add_tensor(0, {})}},
                          .children = {{"a", first}, {"b", first}},
                          .before = {{"early", list(tree, {tree.add_tensor(3, {}), first})}}});
  const auto names = names_of(tree, dict(tree, {tree.add_string("model"), net}));
  EXPECT_EQ(names.names, (Names{"model.p", "model.a._orig_mod._orig_mod.w", "model.early.0",
                                "model.early.1._orig_mod._orig_mod.cache.0"}));
}

}  // namespace
}  // namespace flatbed
