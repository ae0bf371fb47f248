// write_pickle(): the bytes of protocol 2, by hand; what is shared, refused, converted and kept.
#include "torch/pickle_writer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "pickle/pickle_output.hpp"
#include "pickle/python_names.hpp"
#include "support/expect_error.hpp"
#include "support/module_builder.hpp"
#include "support/pickle_asm.hpp"
#include "value/numpy_scalar.hpp"

namespace flatbed::pth {
namespace {

using std::string;
using test::le;
using test::pickle::text;

template <std::size_t size>
string bytes(const char (&text)[size]) {
  return string(text, size - 1);
}

// A tree under construction, and the pickle that it becomes.
struct Pickled {
  ValueTree tree;
  std::vector<std::vector<std::uint64_t>> shapes;
  std::vector<StoredTensor> tensors;
  string content = "abcd";  // of every tensor
  UnsafeObjects unsafe = UnsafeObjects::refuse;
  bool keep_device = false;

  Result<TorchPickle> write(NodeId root) {
    tree.set_root(root);
    return write_pickle(
        tree, tensors,
        {unsafe, keep_device, [this](std::uint32_t) -> Result<string> { return content; }});
  }
  // Without PROTO and STOP; or the error.
  string body(NodeId root) {
    const Result<TorchPickle> pickle = write(root);
    if (!pickle) return pickle.error().message;
    const string& all = pickle->bytes;
    if (!all.starts_with("\x80\x02") || !all.ends_with('.')) return "no protocol 2 pickle";
    return all.substr(2, all.size() - 3);
  }
  std::uint32_t add_stored(Dtype dtype, std::vector<std::uint64_t> shape) {
    shapes.reserve(16);  // the spans below point into it
    shapes.push_back(std::move(shape));
    std::uint64_t nbytes = bits(dtype) / 8;
    for (const std::uint64_t size : shapes.back()) nbytes *= size;
    tensors.push_back({dtype, shapes.back(), nbytes});
    return static_cast<std::uint32_t>(tensors.size() - 1);
  }
  NodeId tuple(std::vector<NodeId> items) { return tree.add_tuple(items); }
};

string literal(const std::function<NodeId(ValueTree&)>& add) {
  Pickled pickled;
  return pickled.body(add(pickled.tree));
}
string integer(std::int64_t value) {
  return literal([=](ValueTree& tree) { return tree.add_integer(value); });
}
string big(const char* hex) {
  return literal([=](ValueTree& tree) { return tree.add_big_integer(hex); });
}

TEST(PickleWriter, WritesLiterals) {
  EXPECT_EQ(literal([](ValueTree& tree) { return tree.add_none(); }), "N");
  EXPECT_EQ(literal([](ValueTree& tree) { return tree.add_boolean(true); }), "\x88");
  EXPECT_EQ(literal([](ValueTree& tree) { return tree.add_boolean(false); }), "\x89");
  EXPECT_EQ(literal([](ValueTree& tree) { return tree.add_real(1.5); }),
            bytes("G\x3f\xf8\0\0\0\0\0\0"));
  EXPECT_EQ(literal([](ValueTree& tree) { return tree.add_string("a\xed\xa0\x80"); }),
            text("a\xed\xa0\x80"));
  EXPECT_EQ(integer(0), bytes("K\0"));
  EXPECT_EQ(integer(255), "K\xff");
  EXPECT_EQ(integer(256), bytes("M\0\1"));
  EXPECT_EQ(integer(65536), bytes("J\0\0\1\0"));
  EXPECT_EQ(integer(-1), "J\xff\xff\xff\xff");
  EXPECT_EQ(integer(-2147483648), bytes("J\0\0\0\x80"));
  EXPECT_EQ(integer(2147483648), bytes("\x8a\5\0\0\0\x80\0"));
  EXPECT_EQ(integer(-2147483649), bytes("\x8a\5\xff\xff\xff\x7f\xff"));
  EXPECT_EQ(integer(INT64_MIN), bytes("\x8a\x08\0\0\0\0\0\0\0\x80"));
}

TEST(PickleWriter, WritesIntsOfUpTo255Bytes) {
  EXPECT_EQ(big("10000000000000000"), "\x8a\x09" + string(8, '\0') + "\1");
  EXPECT_EQ(big("-10000000000000000"), "\x8a\x09" + string(8, '\0') + "\xff");
  EXPECT_EQ(big("8000000000000000"), "\x8a\x09" + string(7, '\0') + bytes("\x80\0"));
  EXPECT_EQ(big("-8000000000000000"), "\x8a\x08" + string(7, '\0') + "\x80");
  const string most = "7f" + string(508, 'f');
  EXPECT_EQ(big(most.c_str()).substr(0, 2), "\x8a\xff");

  Pickled pickled;
  const NodeId over = pickled.tree.add_big_integer("80" + string(508, 'f'));
  EXPECT_ERROR(pickled.write(over), weights_only_refused);
  pickled.unsafe = UnsafeObjects::keep;
  EXPECT_EQ(pickled.body(over).substr(0, 5), "\x8b" + le(256, 4));
}

TEST(PickleWriter, WritesBytesAsLatin1) {
  const string encode = "c_codecs\nencode\nq";
  EXPECT_EQ(literal([](ValueTree& tree) { return tree.add_bytes("a\xff"); }),
            encode + bytes("\0") + text("a\u00ff") + text("latin1") + "q\1\x86R");
  EXPECT_EQ(literal([](ValueTree& tree) { return tree.add_bytes(""); }),
            encode + bytes("\0") + text("") + text("latin1") + "q\1\x86R");
  Pickled pickled;
  pickled.content = string("\0x", 2);
  const NodeId node = pickled.tree.add_bytes_in_tensor(pickled.add_stored(Dtype::u8, {2}));
  EXPECT_EQ(pickled.body(node),
            encode + bytes("\0") + text(pickled.content) + text("latin1") + "q\1\x86R");
  EXPECT_TRUE(pickled.write(node)->storages.empty());
}

TEST(PickleWriter, WritesContainers) {
  Pickled p;
  ValueTree& tree = p.tree;
  const NodeId one = tree.add_integer(1);
  const NodeId list = tree.add_list();
  EXPECT_EQ(p.body(list), "]");
  tree.append(list, one);
  EXPECT_EQ(p.body(list), "]K\1a");
  tree.append(list, one);
  EXPECT_EQ(p.body(list), "](K\1K\1e");
  EXPECT_EQ(p.body(p.tuple({})), ")");
  EXPECT_EQ(p.body(p.tuple({one})), "K\1\x85");
  EXPECT_EQ(p.body(p.tuple({one, one, one})), "K\1K\1K\1\x87");
  EXPECT_EQ(p.body(p.tuple({one, one, one, one})), "(K\1K\1K\1K\1t");
  const NodeId dict = tree.add_dict();
  EXPECT_EQ(p.body(dict), "}");
  tree.set_item(dict, one, tree.add_none());
  EXPECT_EQ(p.body(dict), "}K\1Ns");
  tree.set_item(dict, tree.add_none(), one);
  EXPECT_EQ(p.body(dict), "}(K\1NNK\1u");
}

TEST(PickleWriter, AddsItemsInBatchesOf1000) {
  Pickled p;
  const NodeId none = p.tree.add_none();
  const NodeId list = p.tree.add_list();
  for (int i = 0; i < 1000; ++i) p.tree.append(list, none);
  EXPECT_EQ(p.body(list), "](" + string(1000, 'N') + "e");
  p.tree.append(list, none);
  EXPECT_EQ(p.body(list), "](" + string(1000, 'N') + "e(Ne");
}

TEST(PickleWriter, WritesWhatIsSharedOnce) {
  Pickled p;
  const NodeId inner = p.tree.add_list();
  const NodeId outer = p.tree.add_list();
  p.tree.append(outer, inner);
  p.tree.append(outer, inner);
  EXPECT_EQ(p.body(outer), bytes("](]q\0h\0e"));
  const NodeId pair = p.tuple({inner, inner});
  EXPECT_EQ(p.body(p.tuple({pair, pair})), bytes("]q\0h\0\x86q\1h\1\x86"));
}

TEST(PickleWriter, WritesContainersThatContainThemselves) {
  Pickled p;
  const NodeId list = p.tree.add_list();
  p.tree.append(list, p.tuple({list}));
  EXPECT_EQ(p.body(list), bytes("]q\0h\0\x85"
                                "a"));
  const NodeId dict = p.tree.add_dict();
  p.tree.set_item(dict, p.tree.add_none(), dict);
  EXPECT_EQ(p.body(dict), bytes("}q\0Nh\0s"));
}

TEST(PickleWriter, RefusesATupleThatContainsItselfWithItsPath) {
  Pickled p;
  const NodeId list = p.tree.add_list();
  const NodeId tuple = p.tuple({list});
  p.tree.append(list, tuple);
  const NodeId root = p.tree.add_dict();
  p.tree.set_item(root, p.tree.add_string("t"), tuple);
  EXPECT_ERROR(p.write(root), tree_not_representable);
  EXPECT_EQ(p.body(root), "at 't', 0, 0: a tuple that contains itself");
}

TEST(PickleWriter, DepthHasNoLimit) {
  constexpr int kDepth = 1'000'000;
  Pickled p;
  NodeId node = p.tree.add_list();
  for (int i = 1; i < kDepth; ++i) {
    const NodeId outer = p.tree.add_list();
    p.tree.append(outer, node);
    node = outer;
  }
  EXPECT_EQ(p.body(node), string(kDepth, ']') + string(kDepth - 1, 'a'));
  const NodeId refused = p.tree.add_global("os", "system");
  NodeId deep = refused;
  for (int i = 0; i < 1000; ++i) deep = p.tuple({deep});
  EXPECT_LT(p.body(deep).size(), 300u);
}

TEST(PickleWriter, WritesTensorsOfTypedStorages) {
  Pickled p;
  const NodeId node = p.tree.add_tensor(p.add_stored(Dtype::f32, {2, 3}), {});
  EXPECT_EQ(p.body(node), bytes("ctorch._utils\n_rebuild_tensor_v2\nq\0((X\7\0\0\0storageq\1"
                                "ctorch\nFloatStorage\nq\2X\1\0\0\0"
                                "0X\3\0\0\0cpuq\3K\6tQ"
                                "K\0K\2K\3\x86K\3K\1\x86\x89"
                                "ccollections\nOrderedDict\nq\4)RtR"));
  EXPECT_EQ(p.write(node)->storages, std::vector<std::uint32_t>{0});
}

TEST(PickleWriter, WritesDtypesWithoutAStorageClassByTheirBytes) {
  Pickled p;
  const NodeId node = p.tree.add_tensor(p.add_stored(Dtype::u16, {3}), {});
  EXPECT_EQ(p.body(node), bytes("ctorch._utils\n_rebuild_tensor_v3\nq\0((X\7\0\0\0storageq\1"
                                "ctorch.storage\nUntypedStorage\nq\2X\1\0\0\0"
                                "0X\3\0\0\0cpuq\3K\6tQ"
                                "K\0K\3\x85K\1\x85\x89"
                                "ccollections\nOrderedDict\nq\4)R"
                                "ctorch\nuint16\nq\5tR"));
}

TEST(PickleWriter, TensorsOfOneNameShareARecordAndOneTensorIsOneObject) {
  Pickled p;
  const std::uint32_t stored = p.add_stored(Dtype::f32, {1});
  const NodeId first = p.tree.add_tensor(stored, {});
  const NodeId second = p.tree.add_tensor(stored, {});
  const Result<TorchPickle> two = p.write(p.tuple({first, second}));
  ASSERT_OK(two);
  EXPECT_EQ(two->storages.size(), 1u);
  EXPECT_EQ(p.body(p.tuple({first, first})), p.body(first) + bytes("q\5h\5\x86"));
}

TEST(PickleWriter, TwoStorageClassesOnOneTensorGetTwoRecords) {
  Pickled p;
  const std::uint32_t stored = p.add_stored(Dtype::u8, {4});
  TensorAttributes quantized;
  quantized.dtype = "quint8";
  quantized.quantizer = p.tuple({p.tree.add_global("torch", "per_tensor_affine"),
                                 p.tree.add_real(0.5), p.tree.add_integer(3)});
  TensorAttributes raw;
  raw.dtype = "bits8";  // bytes: shares with either
  const Result<TorchPickle> pickle =
      p.write(p.tuple({p.tree.add_tensor(stored, {}), p.tree.add_tensor(stored, quantized),
                       p.tree.add_tensor(stored, raw), p.tree.add_tensor(stored, {})}));
  ASSERT_OK(pickle);
  EXPECT_EQ(pickle->storages, (std::vector<std::uint32_t>{0, 0}));
}

TEST(PickleWriter, WritesParametersAndAttributes) {
  Pickled p;
  const std::uint32_t stored = p.add_stored(Dtype::f32, {});
  TensorAttributes attributes;
  attributes.parameter = true;
  attributes.requires_grad = true;
  const string inner = bytes(
      "ctorch._utils\n_rebuild_tensor_v2\nq\1((X\7\0\0\0storageq\2ctorch\nFloatStorage\nq\3"
      "X\1\0\0\0"
      "0X\3\0\0\0cpuq\4K\1tQK\0))\x89"
      "ccollections\nOrderedDict\nq\5)Rt");
  EXPECT_EQ(p.body(p.tree.add_tensor(stored, attributes)),
            bytes("ctorch._utils\n_rebuild_parameter\nq\0(") + inner + bytes("R\x88h\5)RtR"));
  attributes.state = p.tree.add_dict();
  EXPECT_EQ(
      p.body(p.tree.add_tensor(stored, attributes)),
      bytes("ctorch._utils\n_rebuild_parameter_with_state\nq\0(") + inner + bytes("R\x88h\5)R}tR"));
  attributes.parameter = false;
  const string with_state = p.body(p.tree.add_tensor(stored, attributes));
  EXPECT_TRUE(
      with_state.starts_with(bytes("ctorch._tensor\n_rebuild_from_type_v2\nq\0(ctorch._utils\n"
                                   "_rebuild_tensor_v2\nq\1ctorch\nTensor\nq\2((")));
  EXPECT_TRUE(with_state.ends_with(bytes(")Rt}tR")));
}

TEST(PickleWriter, PutsTensorsOnTheCpuUnlessTheDeviceIsKept) {
  Pickled p;
  TensorAttributes attributes;
  attributes.device = "cuda:1";
  const NodeId node = p.tree.add_tensor(p.add_stored(Dtype::f32, {1}), attributes);
  EXPECT_NE(p.body(node).find(text("cpu")), string::npos);
  p.keep_device = true;
  EXPECT_NE(p.body(node).find(text("cuda:1")), string::npos);
}

TEST(PickleWriter, RefusesTensorsThatTorchHasNot) {
  Pickled p;
  EXPECT_ERROR(p.write(p.tree.add_tensor(p.add_stored(Dtype::f6_e2m3, {4}), {})), not_in_torch);
  TensorAttributes attributes;
  attributes.dtype = "float99";
  EXPECT_ERROR(p.write(p.tree.add_tensor(p.add_stored(Dtype::u8, {4}), attributes)), not_in_torch);
  attributes.dtype = "quint8";
  EXPECT_ERROR(p.write(p.tree.add_tensor(1, attributes)), not_in_torch);
  EXPECT_ERROR(p.write(p.tree.add_tensor(p.add_stored(Dtype::i8, {0, 1ULL << 40, 1ULL << 40}), {})),
               not_in_torch);
  EXPECT_ERROR(p.write(p.tree.add_global("torch", "a\nb")), not_in_torch);
  // Names that no pickle may hold.
  EXPECT_ERROR(p.write(p.tree.add_global("torch", string("a\0b", 3))), not_in_torch);
  EXPECT_ERROR(p.write(p.tree.add_global("os\rsystem", "a")), not_in_torch);
  EXPECT_ERROR(p.write(p.tree.add_global("torch", ".a")), not_in_torch);
}

TEST(PickleWriter, WritesObjectsThatWeightsOnlyAllows) {
  Pickled p;
  ValueTree& tree = p.tree;
  const NodeId ordered =
      tree.add_object(tree.add_global("collections", "OrderedDict"), p.tuple({}));
  tree.set_item(ordered, tree.add_integer(1), tree.add_integer(2));
  const NodeId state = tree.add_dict();
  tree.set_state(ordered, state);
  EXPECT_EQ(p.body(ordered), bytes("ccollections\nOrderedDict\nq\0)RK\1K\2s}b"));
  const NodeId items = tree.add_list();
  EXPECT_EQ(p.body(tree.add_object(tree.add_global("builtins", "set"), p.tuple({items}))),
            bytes("c__builtin__\nset\nq\0]\x85R"));
  EXPECT_EQ(p.body(tree.add_global("torch", "strided")),
            bytes("ctorch.serialization\n_get_layout\nq\0X\x0d\0\0\0torch.stridedq\1\x85R"));
  EXPECT_EQ(p.body(tree.add_global("torch", "bfloat16")), bytes("ctorch\nbfloat16\nq\0"));
}

// What torch notes of the dimensions of jagged tensors: of 2.6 a dict, of 2.14 a list.
TEST(PickleWriter, WritesRangesOfDimensionsWithAnyState) {
  Pickled p;
  const auto instance = [&](std::string_view module, NodeId state) {
    const NodeId type = p.tree.add_global(module, "_DimRange");
    const NodeId made =
        p.tree.add_object(p.tree.add_global("copyreg", "__newobj__"), p.tuple({type}));
    p.tree.set_state(made, state);
    return made;
  };
  const string made = "ctorch._dynamo.decorators\n_DimRange\nq";
  for (const NodeId state : {p.tree.add_dict(), p.tree.add_list()}) {
    const string body = p.body(instance("torch._dynamo.decorators", state));
    EXPECT_TRUE(body.starts_with(made)) << body;
    EXPECT_TRUE(body.ends_with("b")) << body;
    EXPECT_ERROR(p.write(instance("m", state)), weights_only_refused);
  }
  const NodeId by_call =
      p.tree.add_object(p.tree.add_global("torch._dynamo.decorators", "_DimRange"), p.tuple({}));
  EXPECT_ERROR(p.write(by_call), weights_only_refused);
}

// One object of each kind that weights_only refuses, and its conversion.
struct Refused {
  Pickled p;
  NodeId text(std::string_view value) { return p.tree.add_string(value); }
  NodeId call(std::string_view module, std::string_view name, std::vector<NodeId> arguments) {
    const NodeId tuple = p.tuple(std::move(arguments));
    return p.tree.add_object(p.tree.add_global(module, name), tuple);
  }
  NodeId in_dict(NodeId node) {
    const NodeId root = p.tree.add_dict();
    p.tree.set_item(root, text("x"), node);
    return root;
  }
  void expect(NodeId node, const string& converted, const string& report) {
    p.unsafe = UnsafeObjects::refuse;
    EXPECT_ERROR(p.write(in_dict(node)), weights_only_refused);
    EXPECT_TRUE(p.body(in_dict(node)).starts_with("at 'x': ")) << p.body(in_dict(node));
    p.unsafe = UnsafeObjects::convert;
    EXPECT_EQ(p.body(node), converted);
    const Result<TorchPickle> pickle = p.write(in_dict(node));
    ASSERT_OK(pickle);
    EXPECT_EQ(pickle->conversions, std::vector<string>{report + ": at 'x'"});
  }
};

TEST(PickleWriter, ConvertsObjectsThatWeightsOnlyRefuses) {
  Refused r;
  ValueTree& tree = r.p.tree;
  r.expect(r.call("builtins", "frozenset", {tree.add_list()}),
           bytes("c__builtin__\nset\nq\0]\x85R"), "builtins.frozenset became set");
  r.expect(r.call("pathlib", "PosixPath", {r.text("/"), r.text("a"), r.text("b")}),
           flatbed::test::pickle::text("/a/b"), "pathlib.PosixPath became str");
  r.expect(r.call("pathlib._local", "WindowsPath", {r.text("C:\\"), r.text("b")}),
           flatbed::test::pickle::text("C:\\b"), "pathlib._local.WindowsPath became str");
  const NodeId space = r.call("copyreg", "__newobj__", {tree.add_global("argparse", "Namespace")});
  const NodeId state = tree.add_dict();
  tree.set_item(state, tree.add_integer(1), tree.add_integer(2));
  tree.set_state(space, state);
  r.expect(space, "}K\1K\2s", "argparse.Namespace became dict");
  const NodeId defaults =
      r.call("collections", "defaultdict", {tree.add_global("builtins", "list")});
  r.expect(defaults, "}", "collections.defaultdict became dict");
  const NodeId deque = r.call("collections", "deque", {});
  tree.append(deque, tree.add_none());
  r.expect(deque, "]Na", "collections.deque became list");
  const NodeId mine = r.call("mine", "Dict", {});
  tree.set_item(mine, tree.add_integer(1), tree.add_integer(2));
  r.expect(mine, "}K\1K\2s", "mine.Dict became dict");
}

// A dict with these keys, or the error of writing it.
struct Keyed {
  Refused r;
  ValueTree& tree = r.p.tree;

  Keyed() { r.p.unsafe = UnsafeObjects::convert; }
  NodeId path(const char* part) { return r.call("pathlib", "PosixPath", {r.text(part)}); }
  NodeId frozenset() { return r.call("builtins", "frozenset", {tree.add_list()}); }
  string error(const std::vector<NodeId>& keys) {
    const NodeId dict = tree.add_dict();
    for (const NodeId key : keys) tree.set_item(dict, key, tree.add_none());
    const Result<TorchPickle> pickle = r.p.write(dict);
    return pickle ? string() : pickle.error().message;
  }
};

TEST(PickleWriter, RefusesKeysThatBecomeEqual) {
  Keyed k;
  EXPECT_EQ(k.error({k.path("a"), k.path("b"), k.r.text("c")}), "");
  EXPECT_EQ(
      k.error({k.path("a"), k.r.text("a")}),
      "at the root: keys 0 (pathlib.PosixPath) and 1 ('a') would become equal, and one of them "
      "would be lost");
  EXPECT_NE(k.error({k.path("a"), k.r.call("pathlib", "PurePosixPath", {k.r.text("a")})}), "");
  EXPECT_NE(k.error({k.r.p.tuple({k.path("a")}), k.r.p.tuple({k.r.text("a")})}), "");
  EXPECT_EQ(k.error({k.r.p.tuple({k.path("a")}), k.r.p.tuple({k.r.text("a"), k.r.text("b")})}), "");
  EXPECT_NE(k.error({k.tree.add_integer(1), k.tree.add_boolean(true)}), "");
  EXPECT_NE(k.error({k.tree.add_integer(1), k.tree.add_real(1.0)}), "");
  EXPECT_NE(k.error({k.tree.add_scalar("|i1", "\1"), k.tree.add_integer(1)}), "");
  EXPECT_NE(k.error({k.tree.add_scalar("<U1", string("a\0\0\0", 4)), k.r.text("a")})
                .find("equal in Python"),
            string::npos);
  EXPECT_EQ(k.error({k.tree.add_string("1"), k.tree.add_integer(1), k.tree.add_bytes("1")}), "");
  EXPECT_EQ(k.error({k.tree.add_real(std::nan("")), k.tree.add_real(std::nan(""))}), "");
  EXPECT_NE(k.error({k.r.call("torch", "Size", {k.r.p.tuple({k.tree.add_integer(2)})}),
                     k.r.p.tuple({k.tree.add_integer(2)})}),
            "");
}

// A namespace's attributes and a call's argument have keys, too.
TEST(PickleWriter, RefusesKeysThatBecomeEqualWhereverTheyAre) {
  Keyed k;
  const auto attributes = [&](NodeId key, NodeId other) {
    const NodeId space =
        k.r.call("copyreg", "__newobj__", {k.tree.add_global("argparse", "Namespace")});
    const NodeId state = k.tree.add_dict();
    k.tree.set_items(state, std::vector{key, k.tree.add_none(), other, k.tree.add_none()});
    k.tree.set_state(space, state);
    return space;
  };
  EXPECT_OK(k.r.p.write(attributes(k.path("a"), k.path("b"))));
  EXPECT_ERROR(k.r.p.write(attributes(k.path("a"), k.r.text("a"))), weights_only_refused);
  EXPECT_ERROR(k.r.p.write(attributes(k.frozenset(), k.r.text("a"))), weights_only_refused);

  const auto ordered = [&](NodeId key, NodeId other) {
    const NodeId pairs = k.tree.add_list();
    k.tree.append(pairs, k.r.p.tuple({key, k.tree.add_integer(1)}));
    k.tree.append(pairs, k.r.p.tuple({other, k.tree.add_integer(2)}));
    return k.r.call("collections", "OrderedDict", {pairs});
  };
  EXPECT_OK(k.r.p.write(ordered(k.path("a"), k.path("b"))));
  EXPECT_ERROR(k.r.p.write(ordered(k.path("a"), k.r.text("a"))), weights_only_refused);
  EXPECT_ERROR(k.r.p.write(ordered(k.r.text("a"), k.r.text("a"))), tree_not_representable);
  const NodeId both = ordered(k.path("a"), k.path("b"));
  k.tree.set_item(both, k.r.text("b"), k.tree.add_none());
  EXPECT_ERROR(k.r.p.write(both), weights_only_refused);

  const auto set_of_deque = [&](NodeId item, NodeId other) {
    const NodeId deque = k.r.call("collections", "deque", {});
    k.tree.append_all(deque, std::vector{item, other});
    return k.r.call("builtins", "set", {deque});
  };
  EXPECT_OK(k.r.p.write(set_of_deque(k.path("a"), k.path("b"))));
  EXPECT_ERROR(k.r.p.write(set_of_deque(k.path("a"), k.r.text("a"))), weights_only_refused);
}

TEST(PickleWriter, RefusesNumbersThatAreEqualAsKeys) {
  Keyed k;
  ValueTree& tree = k.tree;
  const auto two_to = [](int power) { return std::ldexp(1.0, power); };
  EXPECT_NE(k.error({tree.add_integer(INT64_MIN), tree.add_real(-two_to(63))}), "");
  EXPECT_NE(k.error({tree.add_big_integer("8000000000000000"), tree.add_real(two_to(63))}), "");
  EXPECT_NE(k.error({tree.add_big_integer("400000000000000000"), tree.add_real(two_to(70))}), "");
  EXPECT_NE(k.error({tree.add_scalar("<u8", string(8, '\xff')),
                     tree.add_big_integer("ffffffffffffffff")}),
            "");
  EXPECT_EQ(
      k.error({tree.add_integer(1), tree.add_boolean(true)}),
      "at the root: keys 0 (1) and 1 (True) are equal in Python, and one of them would be lost");
  EXPECT_EQ(k.error({tree.add_integer(INT64_MAX), tree.add_real(two_to(63))}), "");
  EXPECT_EQ(k.error({tree.add_big_integer("400000000000000001"), tree.add_real(two_to(70))}), "");
}

// Objects that stay what they are may be keys, but equal keys are equal.
TEST(PickleWriter, RefusesEqualKeysOfObjectsThatAreKept) {
  Keyed k;
  k.r.p.unsafe = UnsafeObjects::keep;
  const NodeId one = k.tree.add_integer(1);
  const NodeId size = k.r.call("torch", "Size", {k.r.p.tuple({one})});
  EXPECT_NE(k.error({one, k.tree.add_real(1)}), "");
  EXPECT_NE(k.error({one, k.tree.add_scalar("|i1", "\1")}), "");
  EXPECT_NE(k.error({size, k.r.p.tuple({one})}), "");
  EXPECT_EQ(k.error({k.path("a"), k.r.text("a")}), "");
  EXPECT_EQ(k.error({k.frozenset(), k.frozenset()}), "");
  EXPECT_EQ(k.error({k.r.call("mine", "Key", {}), k.r.call("mine", "Key", {})}), "");
  const NodeId equal = k.tree.add_dict();
  k.tree.set_items(equal, std::vector{one, one, k.tree.add_real(1), one});
  EXPECT_ERROR(k.r.p.write(equal), tree_not_representable);
}

// A list may be shared by many calls.
TEST(PickleWriter, BoundsTheCostOfCheckingSharedItems) {
  Keyed k;
  const NodeId items = k.tree.add_list();
  for (int i = 0; i < 10'000; ++i) k.tree.append(items, k.tree.add_integer(i));
  const auto sets = [&](int count) {
    const NodeId all = k.tree.add_list();
    for (int i = 0; i < count; ++i) k.tree.append(all, k.r.call("builtins", "set", {items}));
    return all;
  };
  EXPECT_OK(k.r.p.write(sets(100)));
  EXPECT_ERROR(k.r.p.write(sets(5'000)), limit_exceeded);
}

TEST(PickleWriter, RefusesKeysThatTorchCannotHash) {
  Keyed k;
  EXPECT_EQ(k.error({k.frozenset()}),
            "at the root: builtins.frozenset as a key of a dict or an item of a set, which "
            "torch.load(weights_only=True) cannot make");
  EXPECT_NE(k.error({k.r.p.tuple({k.frozenset()})}), "");
  EXPECT_NE(k.error({k.r.call("argparse", "Namespace", {})}), "");
  EXPECT_NE(k.error({k.r.call("collections", "OrderedDict", {})}), "");
  EXPECT_NE(k.error({k.r.p.tuple({k.tree.add_list()})}), "");
  const NodeId mine = k.r.call("mine", "Dict", {});
  k.tree.set_item(mine, k.tree.add_integer(1), k.tree.add_integer(2));
  EXPECT_NE(k.error({mine}), "");
  k.r.p.unsafe = UnsafeObjects::keep;
  EXPECT_EQ(k.error({k.frozenset()}), "");
}

TEST(PickleWriter, ChecksTheItemsOfSetsLikeKeys) {
  Keyed k;
  const auto set_of = [&](const std::vector<NodeId>& items) {
    const NodeId list = k.tree.add_list();
    k.tree.append_all(list, items);
    return k.r.call("builtins", "set", {list});
  };
  EXPECT_OK(k.r.p.write(set_of({k.path("a"), k.path("b")})));
  EXPECT_ERROR(k.r.p.write(set_of({k.path("a"), k.r.text("a")})), weights_only_refused);
  EXPECT_ERROR(k.r.p.write(set_of({k.frozenset()})), weights_only_refused);
}

TEST(PickleWriter, BoundsTheCostOfCheckingAKey) {
  Keyed k;
  NodeId shared = k.r.p.tuple({k.tree.add_integer(1)});
  for (int i = 0; i < 60; ++i) shared = k.r.p.tuple({shared, shared});
  const NodeId dict = k.tree.add_dict();
  k.tree.set_item(dict, shared, k.tree.add_none());
  EXPECT_ERROR(k.r.p.write(dict), limit_exceeded);
}

// Each of the 100 keys is short enough, but they take 50 MB together.
TEST(PickleWriter, BoundsTheCostOfCheckingManyKeys) {
  Keyed k;
  NodeId shared = k.r.p.tuple({k.tree.add_integer(1)});
  for (int i = 0; i < 15; ++i) shared = k.r.p.tuple({shared, shared});
  const NodeId dict = k.tree.add_dict();
  for (int i = 0; i < 100; ++i)
    k.tree.set_item(dict, k.r.p.tuple({k.tree.add_integer(i), shared}), k.tree.add_none());
  EXPECT_ERROR(k.r.p.write(dict), limit_exceeded);
}

// Where a conversion leaves something out, there must be no tensor in it.
TEST(PickleWriter, RefusesToDropTensors) {
  Keyed k;
  const NodeId tensor = k.tree.add_tensor(k.r.p.add_stored(Dtype::f32, {1}), {});
  const auto with_state = [&](NodeId object, NodeId value) {
    k.tree.set_state(object, test::named_dict(k.tree, {{"w", value}}));
    return object;
  };
  const auto with_pair = [&](NodeId object) {
    k.tree.set_item(object, k.tree.add_integer(1), k.tree.add_integer(2));
    return object;
  };
  const NodeId type = k.tree.add_global("argparse", "Namespace");
  const auto refused_with = [&](const std::function<NodeId(NodeId)>& make) {
    EXPECT_OK(k.r.p.write(make(k.tree.add_none())));
    const Result<TorchPickle> pickle = k.r.p.write(make(tensor));
    return !pickle && pickle.error().code == ErrorCode::weights_only_refused;
  };
  EXPECT_TRUE(refused_with(
      [&](NodeId value) { return with_state(with_pair(k.r.call("mine", "Dict", {})), value); }));
  EXPECT_TRUE(
      refused_with([&](NodeId value) { return with_pair(k.r.call("mine", "Dict", {value})); }));
  EXPECT_TRUE(refused_with([&](NodeId value) {
    return k.r.call("collections", "defaultdict", {k.r.call("functools", "partial", {value})});
  }));
  EXPECT_TRUE(refused_with([&](NodeId value) {
    return k.r.call("copyreg", "__newobj__", {type, value});
  }));
  EXPECT_TRUE(refused_with([&](NodeId value) {
    return k.r.call("collections", "deque", {k.r.p.tuple({}), value});
  }));
}

// These would lose parts that no conversion expects.
TEST(PickleWriter, ConvertsNoObjectsWithOtherParts) {
  Keyed k;
  const auto refused = [&](NodeId object) {
    const Result<TorchPickle> pickle = k.r.p.write(object);
    return !pickle && pickle.error().code == ErrorCode::weights_only_refused;
  };
  const auto with_state = [&](NodeId object) {
    k.tree.set_state(object, k.tree.add_dict());
    return object;
  };
  EXPECT_TRUE(refused(with_state(k.path("a"))));
  EXPECT_TRUE(refused(with_state(k.frozenset())));
  EXPECT_TRUE(refused(with_state(k.r.call("collections", "deque", {}))));
  const NodeId deque = k.r.call("collections", "deque", {});
  k.tree.append(deque, k.tree.add_none());
  EXPECT_TRUE(refused(k.r.call("collections", "deque", {deque})));
  EXPECT_TRUE(refused(k.r.call("collections", "defaultdict",
                               {k.tree.add_global("builtins", "list"), k.tree.add_dict()})));
}

// A whole module is written as the OrderedDict that its state_dict() gives, also where it is
// referred to again.
TEST(PickleWriter, ConvertsModulesToTheirStateDicts) {
  Pickled model;
  const std::uint32_t number = model.add_stored(Dtype::f32, {2});
  TensorAttributes parameter;
  parameter.parameter = parameter.requires_grad = true;
  const NodeId weight = model.tree.add_tensor(number, parameter);
  const NodeId module = test::module(
      model.tree, {.parameters = {{"w", weight}}, .after = {{"flat", model.tuple({weight})}}});
  const NodeId root = test::named_dict(model.tree, {{"a", module}, {"b", module}});
  EXPECT_ERROR(model.write(root), weights_only_refused);
  EXPECT_NE(model.body(root).find("at 'a': whole model m.Net"), string::npos);
  model.unsafe = UnsafeObjects::convert;
  Pickled plain;
  plain.add_stored(Dtype::f32, {2});
  const NodeId dict = test::named_ordered(plain.tree, {{"w", plain.tree.add_tensor(0, {})}});
  EXPECT_EQ(model.body(root), plain.body(test::named_dict(plain.tree, {{"a", dict}, {"b", dict}})));
  EXPECT_EQ(model.write(root)->conversions,
            std::vector<string>{"whole model m.Net became its state dict: at 'a'"});
  EXPECT_TRUE(model.tree.value(module).state());  // the caller's tree is unchanged
}

TEST(PickleWriter, RefusesAModuleThatContainsItself) {
  Pickled model;
  model.unsafe = UnsafeObjects::convert;
  const NodeId children = model.tree.add_dict();
  const NodeId attributes = test::named_dict(model.tree, {{"_parameters", model.tree.add_dict()},
                                                          {"_buffers", model.tree.add_dict()},
                                                          {"_modules", children}});
  const NodeId module = test::instance(model.tree, "Net", attributes);
  model.tree.set_item(children, model.tree.add_string("me"), module);
  EXPECT_ERROR(model.write(module), tree_not_representable);
}

TEST(PickleWriter, WritesStoragesAsPersistentIds) {
  Pickled p;
  const auto storage = [&](const char* module, const char* type, Dtype dtype,
                           std::vector<std::uint64_t> shape) {
    const NodeId tensor = p.tree.add_tensor(p.add_stored(dtype, std::move(shape)), {});
    return p.tree.add_object(p.tree.add_global(module, type), p.tuple({tensor}));
  };
  const NodeId floats = storage("torch", "FloatStorage", Dtype::f32, {6});
  EXPECT_EQ(p.body(floats), bytes("(X\7\0\0\0storageq\0ctorch\nFloatStorage\nq\1X\1\0\0\0"
                                  "0X\3\0\0\0cpuq\2K\6tQ"));
  EXPECT_EQ(p.body(p.tuple({floats, floats})), p.body(floats) + bytes("q\3h\3\x86"));
  EXPECT_NE(p.body(storage("torch.storage", "UntypedStorage", Dtype::u8, {5})).find("K\5tQ"),
            string::npos);
  EXPECT_NE(p.body(storage("torch", "ComplexDoubleStorage", Dtype::f64, {3, 2})).find("K\3tQ"),
            string::npos);
  EXPECT_ERROR(p.write(storage("torch", "FloatStorage", Dtype::i32, {6})), not_in_torch);
  EXPECT_ERROR(p.write(storage("torch", "FloatStorage", Dtype::f32, {2, 3})), not_in_torch);
  EXPECT_ERROR(p.write(p.tree.add_object(p.tree.add_global("torch", "FloatStorage"),
                                         p.tuple({p.tree.add_integer(3)}))),
               not_in_torch);
}

TEST(PickleWriter, CountsBytesOfElementsThatShareThem) {
  Pickled p;
  TensorAttributes attributes;
  attributes.dtype = "quint4x2";
  attributes.shape = std::vector<std::uint64_t>{3, 5};
  attributes.quantizer = p.tree.add_none();
  const string body = p.body(p.tree.add_tensor(p.add_stored(Dtype::u8, {9}), attributes));
  EXPECT_TRUE(body.starts_with("ctorch._utils\n_rebuild_qtensor\n")) << body;
  EXPECT_NE(body.find("QUInt4x2Storage"), string::npos);
  EXPECT_NE(body.find(bytes("K\x09tQK\0K\3K\5\x86K\5K\1\x86N\x89")), string::npos);
  EXPECT_ERROR(p.write(p.tree.add_tensor(p.add_stored(Dtype::u8, {8}), attributes)), not_in_torch);
}

TEST(PickleWriter, WritesSubclassesOfTensors) {
  Pickled p;
  p.unsafe = UnsafeObjects::keep;
  const auto subclass = [&](TensorAttributes attributes) {
    const NodeId tensor = p.tree.add_tensor(p.add_stored(Dtype::f32, {}), attributes);
    return p.tree.add_object(
        p.tree.add_global("torch._tensor", "_rebuild_from_type_v2"),
        p.tuple({p.tree.add_global("torch._utils", "_rebuild_tensor_v2"),
                 p.tree.add_global("mine", "Tensor"), p.tuple({tensor}), p.tree.add_dict()}));
  };
  EXPECT_EQ(p.body(subclass({})),
            bytes("ctorch._tensor\n_rebuild_from_type_v2\nq\0(ctorch._utils\n_rebuild_tensor_v2\n"
                  "q\1cmine\nTensor\nq\2((X\7\0\0\0storageq\3ctorch\nFloatStorage\nq\4X\1\0\0\0"
                  "0X\3\0\0\0cpuq\5K\1tQK\0))\x89"
                  "ccollections\nOrderedDict\nq\6)Rt}tR"));
  TensorAttributes parameter;
  parameter.parameter = true;
  EXPECT_ERROR(p.write(subclass(parameter)), not_in_torch);
  p.unsafe = UnsafeObjects::refuse;
  EXPECT_ERROR(p.write(subclass({})), weights_only_refused);
}

TEST(PickleWriter, ConvertsNumpyValues) {
  Refused r;
  ValueTree& tree = r.p.tree;
  r.expect(tree.add_scalar("<f8", string("\0\0\0\0\0\0\xe0\x3f", 8)),
           bytes("G\x3f\xe0\0\0\0\0\0\0"), "a numpy scalar became float");
  r.expect(tree.add_scalar(">i2", "\xff\xfe"), "J\xfe\xff\xff\xff", "a numpy scalar became int");
  r.expect(tree.add_scalar("|b1", "\1"), "\x88", "a numpy scalar became bool");
  r.expect(tree.add_scalar("<u8", string(8, '\xff')), "\x8a\x09" + string(8, '\xff') + bytes("\0"),
           "a numpy scalar became int");
  r.expect(tree.add_scalar("<U2", string("a\0\0\0\0\0\0\0", 8)), text("a"),
           "a numpy scalar became str");
  const NodeId array = tree.add_array(r.p.add_stored(Dtype::i32, {3}), "<i4");
  r.p.unsafe = UnsafeObjects::convert;
  EXPECT_NE(r.p.body(array).find("IntStorage"), string::npos);
  EXPECT_EQ(r.p.write(array)->conversions,
            std::vector<string>{"numpy.ndarray became torch.Tensor: at the root"});
  EXPECT_ERROR(r.p.write(tree.add_array(r.p.add_stored(Dtype::u8, {3, 8}), "<U2")),
               weights_only_refused);
  EXPECT_ERROR(r.p.write(tree.add_scalar("<M8[ns]", string(8, '\0'))), weights_only_refused);
}

TEST(PickleWriter, KeepsObjectsAsTheyAreWhenAllowed) {
  Refused r;
  ValueTree& tree = r.p.tree;
  r.p.unsafe = UnsafeObjects::keep;
  const NodeId space = r.call("copyreg", "__newobj__", {tree.add_global("argparse", "Namespace")});
  tree.set_state(space, tree.add_dict());
  EXPECT_EQ(r.p.body(space), bytes("cargparse\nNamespace\nq\0)\x81}b"));
  EXPECT_EQ(r.p.body(tree.add_global("a", "B.C")),
            bytes("c__builtin__\ngetattr\nq\0ca\nB\nq\1") + text("C") + "\x86R");
  r.p.content = string("\1\0", 2);
  const NodeId array = tree.add_array(r.p.add_stored(Dtype::i16, {1}), ">i2");
  EXPECT_NE(r.p.body(array).find(text(string("\0\1", 2))), string::npos);
  EXPECT_TRUE(r.p.body(tree.add_scalar("<f4", string(4, '\0')))
                  .starts_with("cnumpy.core.multiarray\nscalar\n"));
  EXPECT_NE(r.p.body(tree.add_scalar("<U2", string(8, '\0'))).find("NNNK\x08K\4K\x08tb"),
            string::npos);
  EXPECT_NE(r.p.body(tree.add_scalar("|S3", string(3, '\0'))).find(bytes("NNNK\3K\1K\0tb")),
            string::npos);
  const string date = r.p.body(tree.add_scalar("<M8[25s]", string(8, '\0')));
  EXPECT_NE(date.find(text("M8")), string::npos);
  EXPECT_NE(date.find(text("s")), string::npos);
  EXPECT_NE(date.find(bytes("K\x19K\1K\1t\x86tb")), string::npos);
  for (const char* typestr : {"<M8[]", "<M8[0s]", "<M8[s", "<f8[s]", "|O8", "f8"})
    EXPECT_ERROR(r.p.write(tree.add_scalar(typestr, string(8, '\0'))), not_in_torch) << typestr;
}

TEST(PickleWriter, AsksForNoContentsThatAreTooLongForAPickle) {
  Pickled p;
  p.unsafe = UnsafeObjects::keep;
  const std::uint64_t nbytes = std::uint64_t{1} << 31;
  const NodeId array = p.tree.add_array(p.add_stored(Dtype::u8, {nbytes}), "|u1");
  p.tree.set_root(array);
  bool asked = false;
  const auto contents = [&](std::uint32_t) -> Result<string> {
    asked = true;
    return string();
  };
  EXPECT_ERROR(write_pickle(p.tree, p.tensors, {p.unsafe, false, contents}), limit_exceeded);
  EXPECT_FALSE(asked);
}

TEST(PickleWriter, RefusesArraysWhoseTensorDoesNotFitTheirType) {
  Pickled p;
  p.unsafe = UnsafeObjects::keep;
  EXPECT_ERROR(p.write(p.tree.add_array(p.add_stored(Dtype::u8, {}), "|S1")), not_in_torch);
  EXPECT_ERROR(p.write(p.tree.add_array(p.add_stored(Dtype::f64, {}), "<c16")), not_in_torch);
  EXPECT_OK(p.write(p.tree.add_array(p.add_stored(Dtype::u8, {4, 1}), "|S1")));
}

TEST(PickleWriter, NamesOfPython2LeadBack) {
  EXPECT_EQ(python2_name({"builtins", "set"}), (PythonName{"__builtin__", "set"}));
  EXPECT_EQ(python2_name({"builtins", "int"}), (PythonName{"__builtin__", "long"}));
  EXPECT_EQ(python2_name({"copyreg", "_reconstructor"}),
            (PythonName{"copy_reg", "_reconstructor"}));
  EXPECT_EQ(python2_name({"collections", "OrderedDict"}),
            (PythonName{"collections", "OrderedDict"}));
  for (const PythonName name :
       {PythonName{"builtins", "range"}, PythonName{"dbm", "open"},
        PythonName{"functools", "reduce"}, PythonName{"collections", "UserDict"},
        PythonName{"io", "StringIO"}}) {
    EXPECT_EQ(python3_name(python2_name(name)), name) << name.module << "." << name.name;
  }
}

}  // namespace
}  // namespace flatbed::pth
