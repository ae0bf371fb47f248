// Tensors that were on devices without storages, as torch before and since 2.5 writes them.
#include <gtest/gtest.h>

#include <string>

#include "support/expect_error.hpp"
#include "support/pickle_asm.hpp"
#include "support/show.hpp"
#include "torch/torch_objects.hpp"

namespace flatbed::pth {
namespace {

using test::le;
using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;
using namespace std::string_literals;  // NOLINT: pickles hold NULs
namespace pickle = test::pickle;

// An array of one dimension.
string array(const string& type, const string& order, int count, const string& contents) {
  const auto bytes = [](const string& text) { return "B" + le(text.size(), 4) + text; };
  const string dtype =
      call(global("numpy", "dtype"), pickle::tuple({text(type), "\x89", "\x88"})) +
      pickle::tuple({integer(3), text(order), "NNN", integer(-1), integer(-1), integer(0)}) + "b";
  return call(global("numpy.core.multiarray", "_reconstruct"),
              pickle::tuple({global("numpy", "ndarray"), counts({0}), bytes("b")})) +
         pickle::tuple({integer(1), counts({count}), dtype, "\x89", bytes(contents)}) + "b";
}

struct DeviceTensor {
  string data = array("f4", "<", 2, "\0\0\x80\x3f\0\0\0\x40"s);  // [1.0, 2.0]
  string dtype = "float32";
  string device = text("xla:1");
  string requires_grad = "\x89";
  string function = "_rebuild_device_tensor_from_numpy";
};
string on_device(const DeviceTensor& t = {}) {
  return call(global("torch._utils", t.function),
              pickle::tuple({t.data, global("torch", t.dtype), t.device, t.requires_grad}));
}

// "F32 [2] on xla:1" for the tensor at the root, with its bytes if they are held; or the value.
string made(const string& body) {
  const auto file = unpickle(finish(body));
  if (!file) return string(name(file.error().code));
  const Value root = file->tree.root();
  if (root.kind() != Kind::tensor) return show(root);
  EXPECT_EQ(file->tensors.size(), 1u);
  const TorchTensor& tensor = file->tensors[*root.tensor()];
  const TensorAttributes& attributes = root.attributes();
  return str_cat(name(tensor.dtype), " ", shape_text(file->dims.data() + tensor.dims, tensor.rank),
                 " on ", attributes.device.empty() ? "cpu" : attributes.device,
                 attributes.requires_grad ? " grad" : "", attributes.parameter ? " parameter" : "",
                 tensor.storage == kNoStorage ? str_cat(" ", quoted(file->held[tensor.held])) : "");
}

TEST(DeviceTensors, AreTensorsOfTheArrayThatTorchSaved) {
  const string contents = " "s + quoted("\0\0\x80\x3f\0\0\0\x40"s);
  EXPECT_EQ(made(on_device()), "F32 [2] on xla:1" + contents);
  EXPECT_EQ(made(on_device({.device = text("cpu")})), "F32 [2] on cpu" + contents);
  EXPECT_EQ(made(on_device({.requires_grad = "\x88"})), "F32 [2] on xla:1 grad" + contents);
  for (const char* function : {"_rebuild_xla_tensor", "_rebuild_mlc_tensor"})
    EXPECT_EQ(made(on_device({.function = function})), "F32 [2] on xla:1" + contents);
  EXPECT_EQ(made(on_device({.data = array("b1", "|", 2, "\0\1"s), .dtype = "bool"})),
            "BOOL [2] on xla:1 " + quoted("\0\1"s));
}

TEST(DeviceTensors, AreTheTensorThatTorchSaved) {
  const string function = "_rebuild_device_tensor_from_cpu_tensor";
  EXPECT_EQ(made(on_device({.data = tensor(), .device = text("maia:0"), .function = function})),
            "F32 [2,3] on maia:0");
  const string parameter = global("torch._utils", "_rebuild_parameter");
  EXPECT_EQ(made(call(parameter, pickle::tuple({on_device({.data = tensor(), .function = function}),
                                                "\x88", ordered_dict()}))),
            "F32 [2,3] on xla:1 grad parameter");
}

TEST(DeviceTensors, MayHavePythonAttributes) {
  const string inner = pickle::tuple({tensor(), global("torch", "float32"), text("xla:1"), "\x89"});
  const string body =
      call(global("torch._tensor", "_rebuild_from_type_v2"),
           pickle::tuple({global("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
                          global("torch", "Tensor"), inner, dict({text("name"), text("w")})}));
  const auto file = unpickle(finish(body));
  ASSERT_OK(file);
  ASSERT_EQ(file->tree.root().kind(), Kind::tensor);
  EXPECT_EQ(show(file->tree.value(file->tree.root().attributes().state)), "{'name': 'w'}");
}

// numpy has no bfloat16, so that torch saved such tensors as floats: [1.0, 2.0].
TEST(DeviceTensors, OfBfloat16AreThatAgain) {
  EXPECT_EQ(made(on_device({.dtype = "bfloat16"})),
            "BF16 [2] on xla:1 " + quoted("\x80\x3f\0\x40"s));
  const string inexact = array("f4", "<", 1, "\1\0\x80\x3f"s);
  EXPECT_EQ(
      made(on_device({.data = inexact, .dtype = "bfloat16"})),
      "torch._utils._rebuild_device_tensor_from_numpy(A0 <f4, torch.bfloat16, 'xla:1', False)")
      << "torch would round";
}

TEST(DeviceTensors, StayCallsWhereTorchWouldConvert) {
  const auto is_call = [](const DeviceTensor& tensor) {
    return made(on_device(tensor)).starts_with("torch._utils." + tensor.function + "(");
  };
  EXPECT_TRUE(is_call({.dtype = "float64"}));
  EXPECT_TRUE(is_call({.dtype = "int32"}));
  EXPECT_TRUE(is_call({.data = tensor(), .dtype = "bfloat16"}));
  EXPECT_TRUE(is_call({.data = array("S2", "|", 2, "abcd"), .dtype = "uint8"}));
  EXPECT_TRUE(is_call({.data = list({}), .dtype = "float32"}));
  EXPECT_TRUE(is_call({.dtype = "strided"}));
  EXPECT_TRUE(is_call({.device = integer(1)}));
  EXPECT_TRUE(is_call({.requires_grad = "N"}));
  EXPECT_EQ(made(call(global("torch._utils", "_rebuild_device_tensor_from_numpy"), ")")),
            "torch._utils._rebuild_device_tensor_from_numpy()");
}

// Many calls make bfloat16 of one array, as hostile pickles may. Each call counts.
TEST(DeviceTensors, OfOneArrayAreMadeWithinLimits) {
  string contents;
  for (int i = 0; i < 10'000; ++i) contents += "\0\0\x80\x3f"s;
  string body = "(" + array("f4", "<", 10'000, contents) + "q\1";
  for (int i = 0; i < 100; ++i) body += on_device({.data = "h\1", .dtype = "bfloat16"});
  const auto file = unpickle(finish(body + "t"));
  ASSERT_OK(file);
  const Value items = file->tree.root();
  EXPECT_EQ(items.item(1).kind(), Kind::tensor);
  EXPECT_EQ(items.item(100).kind(), Kind::object);
  std::size_t nbytes = 0;
  for (const string& held : file->held) nbytes += held.size();
  EXPECT_LT(nbytes, 4 * contents.size());
}

}  // namespace
}  // namespace flatbed::pth
