// What torch's C++ pickler writes in its own way, as values.
#include "torch/script_pickle.hpp"

#include <gtest/gtest.h>

#include <string>

#include "support/expect_error.hpp"
#include "support/pickle_asm.hpp"
#include "support/show.hpp"

namespace flatbed::pth {
namespace {

using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;

// The pickle "protocol 2, body, STOP" of a TorchScript archive.
Result<TorchFile> unpickle_script(const string& body, ByteOrder order = ByteOrder::little) {
  TorchFile out;
  out.layout = TorchLayout::script;
  TorchObjects objects(out, order);
  const string pickle = finish(body);
  Unpickler unpickler(as_bytes(pickle), out.tree, objects);
  FLATBED_ASSIGN(const NodeId root, unpickler.run());
  out.tree.set_root(root);
  FLATBED_TRY(objects.finish());
  return out;
}

string shown_script(const string& body) {
  const Result<TorchFile> file = unpickle_script(body);
  return file ? show(file->tree.root()) : string(name(file.error().code));
}

string jit(const string& function, const string& arguments) {
  return call(global("torch.jit._pickle", function), arguments);
}

TEST(ScriptPickle, TypedListsAreLists) {
  for (const char* builder :
       {"build_intlist", "build_tensorlist", "build_doublelist", "build_boollist"})
    EXPECT_EQ(shown_script(jit(builder, "(](K\1K\2et")), "[1, 2]") << builder;
  EXPECT_EQ(shown_script(jit("build_intlist", "(](et")), "[]");
  EXPECT_EQ(shown_script(jit("restore_type_tag",
                             "}(" + text("a") + "K\1u" + text("Dict[str, int]") + "\x86")),
            "{'a': 1}");
}

TEST(ScriptPickle, OtherCallsStayInert) {
  EXPECT_EQ(shown_script(jit("build_tensor_from_id", "(K\5t")),
            "torch.jit._pickle.build_tensor_from_id(5)");
  EXPECT_EQ(shown_script(jit("build_intlist", "(K\5t")), "torch.jit._pickle.build_intlist(5)");
  EXPECT_EQ(shown_script(jit("build_intlist", "(](e](et")),
            "torch.jit._pickle.build_intlist([], [])");
  EXPECT_EQ(shown_script(jit("restore_type_tag", "(K\5t")),
            "torch.jit._pickle.restore_type_tag(5)");
  EXPECT_EQ(shown_script(jit("other", "(K\5t")), "torch.jit._pickle.other(5)");
  EXPECT_EQ(shown(jit("build_intlist", "(](K\1et")), "torch.jit._pickle.build_intlist([1])")
      << "in a pickle of Python's it is a call like any other";
}

TEST(ScriptPickle, AnEnumsValueStandsInNoTuple) {
  EXPECT_EQ(shown_script(call(global("__torch__", "Color"), "K\1")), "__torch__.Color(1)");
  EXPECT_EQ(shown_script(call(global("__torch__.a", "Color"), text("r"))),
            "__torch__.a.Color('r')");
  EXPECT_EQ(shown_script(call(global("__torch__", "Color"), "(K\1t")), "__torch__.Color(1)");
  EXPECT_EQ(shown_script(call(global("__torch__x", "Color"), "K\1")), "pickle_type");
  EXPECT_EQ(shown_script(call(global("os", "system"), text("r"))), "pickle_type");
  EXPECT_EQ(shown(call(global("__torch__", "Color"), "K\1")), "pickle_type");
}

TEST(ScriptPickle, StoragesAreMemoized) {
  const string first = storage() + "q\7";
  const auto file =
      unpickle_script(tuple({tensor({.storage = first}), tensor({.storage = "h\7",
                                                                 .offset = integer(3),
                                                                 .sizes = counts({3}),
                                                                 .strides = counts({1})})}));
  ASSERT_OK(file);
  EXPECT_EQ(file->storages.size(), 1u);
  EXPECT_EQ(file->tensors.size(), 2u);
}

string sparse(const string& arguments) {
  return call(global("torch._utils", "_rebuild_sparse_tensor"), "(" + arguments + "t");
}

TEST(ScriptPickle, SparseTensorsHavePythonsForm) {
  const string coo = "K\1" + counts({2, 3}) + "\x89" + tensor() + tensor();
  EXPECT_EQ(
      shown_script(sparse(coo + ordered_dict())),
      shown(sparse(global("torch", "sparse_coo") + tuple({tensor(), tensor(), counts({2, 3})}))));
  const string csr = "K\2" + counts({2, 3}) + "\x89" + tensor() + tensor() + tensor();
  EXPECT_EQ(shown_script(sparse(csr + ordered_dict())),
            shown(sparse(global("torch", "sparse_csr") +
                         tuple({tensor(), tensor(), tensor(), counts({2, 3})}))));
  for (const string& other :
       {"K\1" + counts({2, 3}) + "\x88" + tensor() + tensor() + ordered_dict(),  // requires_grad
        "K\2" + counts({2, 3}) + "\x89" + tensor() + tensor() + ordered_dict(), string("K\1N"),
        "K\1" + counts({2, 3}) + "\x89NN" + ordered_dict()})
    EXPECT_TRUE(shown_script(sparse(other)).starts_with("torch._utils._rebuild_sparse_tensor("));
}

TEST(ScriptPickle, EveryDtypeHasAStorage) {
  const auto dtype_of = [](const string& type) {
    const auto file =
        unpickle_script(tensor({.storage = storage({.type = global("torch", type)})}));
    return file ? string(name(file->tensors[0].dtype)) : string(name(file.error().code));
  };
  EXPECT_EQ(dtype_of("FloatStorage"), "F32");
  EXPECT_EQ(dtype_of("Float8_e4m3fnStorage"), "F8_E4M3");
  EXPECT_EQ(dtype_of("UInt16Storage"), "U16");
  EXPECT_EQ(dtype_of("BComplex32Storage"), "BF16");
  EXPECT_EQ(dtype_of("Float4_e2m1fn_x2Storage"), "F4");
  EXPECT_EQ(dtype_of("Float9Storage"), "persistent_id_malformed");
  EXPECT_EQ(shown(tensor({.storage = storage({.type = global("torch", "UInt16Storage")})})),
            "persistent_id_malformed")
      << "Python has no such class";
}

TEST(ScriptPickle, AStorageThatPythonHasNoClassForIsBytes) {
  EXPECT_EQ(shown_script(storage({.type = global("torch", "UInt16Storage")})),
            "torch.storage.UntypedStorage(T0)");
}

TEST(ScriptPickle, BigEndianStoragesSwapByTheirDtype) {
  const auto unit = [](const string& type) {
    const auto file = unpickle_script(tensor({.storage = storage({.type = global("torch", type)})}),
                                      ByteOrder::big);
    return file ? int{static_cast<int>(file->storages[0].swap_unit)} : 0;
  };
  EXPECT_EQ(unit("UInt16Storage"), 2);
  EXPECT_EQ(unit("UInt64Storage"), 8);
  EXPECT_EQ(unit("ComplexHalfStorage"), 2);
  EXPECT_EQ(unit("Float8_e5m2Storage"), 1);
}

}  // namespace
}  // namespace flatbed::pth
