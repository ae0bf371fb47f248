// Storages and tensors: what pickles state about them, right and wrong.
#include "torch/torch_tensors.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "support/pickle_asm.hpp"
#include "support/show.hpp"

namespace flatbed::pth {
namespace {

using namespace test::pickle;  // NOLINT: the assembler's words are the subject here
using std::string;
using namespace std::string_literals;  // NOLINT: pickles hold NULs
using Counts = std::vector<std::int64_t>;

string v3(const string& dtype, Tensor t = {}, const string& count = integer(1000)) {
  t.storage = storage({.type = global("torch.storage", "UntypedStorage"), .count = count});
  t.function = global("torch._utils", "_rebuild_tensor_v3");
  t.metadata = global("torch", dtype);
  return tensor(t);
}

string shape_of(const TorchFile& file, const TorchTensor& tensor) {
  return shape_text(file.dims.data() + tensor.dims + 2 * std::size_t{tensor.rank},
                    tensor.stored_rank);
}

// "F32 [2,3]" of the single tensor, with what its node says beside.
string stored_as(const string& body) {
  const auto file = unpickle(finish(body));
  if (!file) return string(name(file.error().code));
  return str_cat(name(file->tensors[0].dtype), " ", shape_of(*file, file->tensors[0]),
                 show(file->tree.root()).substr(2));
}

TEST(TorchTensors, ReadsADenseTensor) {
  const auto file = unpickle(finish(tensor()));
  ASSERT_OK(file);
  ASSERT_EQ(file->storages.size(), 1u);
  EXPECT_EQ(file->storages[0].key, "0");
  EXPECT_EQ(file->storages[0].nbytes, 24u);
  EXPECT_EQ(file->storages[0].swap_unit, 1u);
  ASSERT_EQ(file->tensors.size(), 1u);
  const TorchTensor& tensor = file->tensors[0];
  EXPECT_EQ(tensor.storage, 0u);
  EXPECT_EQ(tensor.dtype, Dtype::f32);
  EXPECT_EQ(tensor.element_nbytes, 4u);
  EXPECT_EQ(tensor.nbytes, 24u);
  EXPECT_EQ(tensor.offset, 0u);
  EXPECT_TRUE(tensor.contiguous);
  EXPECT_EQ(shape_text(&file->dims[tensor.dims], 2), "[2,3]");
  EXPECT_EQ(shape_text(&file->dims[tensor.dims + 2], 2), "[3,1]");
  EXPECT_EQ(show(file->tree.root()), "T0");
}

TEST(TorchTensors, ReadsEveryRebuildFunction) {
  EXPECT_EQ(shown(tensor({.requires_grad = "",
                          .hooks = "",
                          .function = global("torch._utils", "_rebuild_tensor")})),
            "T0");
  EXPECT_EQ(shown(tensor({.metadata = "}"})), "T0");
  EXPECT_EQ(shown(tensor({.metadata = "N"})), "T0");
  EXPECT_EQ(shown(tensor({.requires_grad = "\x88", .hooks = "N"})), "T0 grad");
  EXPECT_EQ(shown(tensor({.hooks = "}"})), "T0");
  EXPECT_EQ(shown(v3("float8_e4m3fn")), "T0");
  EXPECT_EQ(shown(v3("float8_e4m3fn", {})), "T0");
  const string parameter = global("torch._utils", "_rebuild_parameter");
  EXPECT_EQ(shown(call(parameter, test::pickle::tuple({tensor(), "\x88", ordered_dict()}))),
            "T0 parameter grad");
  const string with_state = global("torch._utils", "_rebuild_parameter_with_state");
  EXPECT_EQ(shown(call(with_state, test::pickle::tuple({tensor(), "\x89", ordered_dict(), "}"}))),
            "T0 parameter");
}

TEST(TorchTensors, ReadsTensorsWithPythonAttributes) {
  const auto from_type = [](const char* module, const string& type, const string& function,
                            const string& inner, const string& state) {
    return call(global(module, "_rebuild_from_type_v2"),
                test::pickle::tuple({function, type, inner, state}));
  };
  const string function = global("torch._utils", "_rebuild_tensor_v2");
  const string inner = test::pickle::tuple(
      {storage(), integer(0), counts({2}), counts({1}), "\x89", ordered_dict()});
  const string state = dict({text("name"), text("w")});
  const string plain = global("torch", "Tensor");
  const string parameter = global("torch.nn.parameter", "Parameter");
  for (const char* module : {"torch._tensor", "torch.tensor"}) {
    const auto file = unpickle(finish(from_type(module, plain, function, inner, state)));
    ASSERT_OK(file);
    ASSERT_EQ(file->tree.root().kind(), Kind::tensor);
    EXPECT_EQ(show(file->tree.value(file->tree.root().attributes().state)), "{'name': 'w'}");
  }
  EXPECT_EQ(shown(from_type("torch._tensor", parameter, function, inner, "N")), "T0 parameter");
  EXPECT_EQ(shown(from_type("torch._tensor", plain, function, inner, "N")), "T0");
  EXPECT_EQ(shown(from_type("torch._tensor", global("my", "Sub"), function, inner, state)),
            "torch._tensor._rebuild_from_type_v2(torch._utils._rebuild_tensor_v2, my.Sub, (T0), "
            "{'name': 'w'})")
      << "a subclass";
  EXPECT_EQ(
      shown(from_type("torch._tensor", call(global("my", "make"), ")"), function, inner, "N")),
      "torch._tensor._rebuild_from_type_v2(torch._utils._rebuild_tensor_v2, my.make(), (T0), "
      "None)");
  EXPECT_EQ(shown(from_type("torch._tensor", plain, function, "N", "N")), "rebuild_malformed");
  EXPECT_EQ(shown(from_type("torch._tensor", "N", function, inner, "N")), "rebuild_malformed");
  // A function that is not torch's dense ones stays a call, with plain tensors inside.
  EXPECT_EQ(shown(from_type("torch._tensor", global("my", "Sub"), global("my", "make"),
                            test::pickle::tuple({tensor()}), "N")),
            "torch._tensor._rebuild_from_type_v2(my.make, my.Sub, (T0), None)");
}

TEST(TorchTensors, OtherCallsAroundTensorsStayCalls) {
  const string sparse = global("torch._utils", "_rebuild_sparse_tensor");
  EXPECT_EQ(shown(call(sparse, test::pickle::tuple({global("torch", "sparse_coo"),
                                                    test::pickle::tuple({tensor(), tensor()})}))),
            "torch._utils._rebuild_sparse_tensor(torch.sparse_coo, (T0, T0))");
  const string parameter = global("torch._utils", "_rebuild_parameter");
  EXPECT_EQ(
      shown(call(parameter, test::pickle::tuple({call(sparse, ")"), "\x88", ordered_dict()}))),
      "torch._utils._rebuild_parameter(torch._utils._rebuild_sparse_tensor(), True, "
      "collections.OrderedDict())");
}

TEST(TorchTensors, KnowsEveryDtypeOfAStorage) {
  const auto typed = [](const char* type) {
    return stored_as(tensor({.storage = storage({.type = global("torch", type)})}));
  };
  EXPECT_EQ(typed("DoubleStorage"), "F64 [2,3]");
  EXPECT_EQ(typed("FloatStorage"), "F32 [2,3]");
  EXPECT_EQ(typed("HalfStorage"), "F16 [2,3]");
  EXPECT_EQ(typed("BFloat16Storage"), "BF16 [2,3]");
  EXPECT_EQ(typed("LongStorage"), "I64 [2,3]");
  EXPECT_EQ(typed("IntStorage"), "I32 [2,3]");
  EXPECT_EQ(typed("ShortStorage"), "I16 [2,3]");
  EXPECT_EQ(typed("CharStorage"), "I8 [2,3]");
  EXPECT_EQ(typed("ByteStorage"), "U8 [2,3]");
  EXPECT_EQ(typed("BoolStorage"), "BOOL [2,3]");
  EXPECT_EQ(typed("ComplexFloatStorage"), "C64 [2,3]");
  EXPECT_EQ(typed("ComplexDoubleStorage"), "F64 [2,3,2] complex128");
  EXPECT_EQ(typed("UntypedStorage"), "U8 [2,3]") << "bytes";
  for (const char* quantized :
       {"QInt8Storage", "QUInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage"})
    EXPECT_EQ(typed(quantized), "rebuild_malformed") << "their tensors have a quantizer";
  EXPECT_EQ(stored_as(tensor({.storage = storage({.type = global("torch.cuda", "FloatStorage")})})),
            "F32 [2,3]");
}

TEST(TorchTensors, KnowsEveryDtypeByName) {
  const std::vector<std::pair<const char*, const char*>> rows = {
      {"float64", "F64 [2,3]"},
      {"float32", "F32 [2,3]"},
      {"bool", "BOOL [2,3]"},
      {"complex64", "C64 [2,3]"},
      {"complex128", "F64 [2,3,2] complex128"},
      {"complex32", "F16 [2,3,2] complex32"},
      {"bcomplex32", "BF16 [2,3,2] bcomplex32"},
      {"uint16", "U16 [2,3]"},
      {"uint32", "U32 [2,3]"},
      {"uint64", "U64 [2,3]"},
      {"float8_e4m3fn", "F8_E4M3 [2,3]"},
      {"float8_e5m2", "F8_E5M2 [2,3]"},
      {"float8_e4m3fnuz", "F8_E4M3FNUZ [2,3]"},
      {"float8_e5m2fnuz", "F8_E5M2FNUZ [2,3]"},
      {"float8_e8m0fnu", "F8_E8M0 [2,3]"},
      {"float4_e2m1fn_x2", "F4 [2,6]"},
      {"bits8", "U8 [2,3] bits8"},
      {"bits1x8", "U8 [2,3] bits1x8"},
      {"bits2x4", "U8 [2,3] bits2x4"},
      {"bits4x2", "U8 [2,3] bits4x2"},
      {"bits16", "U16 [2,3] bits16"},
      {"int1", "I8 [2,3] int1"},
      {"int7", "I8 [2,3] int7"},
      {"uint1", "U8 [2,3] uint1"},
      {"uint7", "U8 [2,3] uint7"},
      {"qint8", "torch_unsupported"},
      {"float128", "torch_unsupported"}};
  for (const auto& [dtype, wanted] : rows) EXPECT_EQ(stored_as(v3(dtype)), wanted) << dtype;
  EXPECT_EQ(stored_as(v3("float4_e2m1fn_x2", {.sizes = counts({}), .strides = counts({})})),
            "U8 [] float4_e2m1fn_x2");
  EXPECT_EQ(shown(tensor({.storage = storage(),
                          .metadata = text("float32"),
                          .function = global("torch._utils", "_rebuild_tensor_v3")})),
            "rebuild_malformed");
}

TEST(TorchTensors, SeesWhichViewsAreContiguous) {
  struct Row {
    Counts sizes, strides;
    std::int64_t offset;
    bool contiguous;
  };
  const std::vector<Row> rows = {{{}, {}, 5, true},
                                 {{6}, {1}, 0, true},
                                 {{3}, {2}, 0, false},
                                 {{2, 3}, {3, 1}, 0, true},
                                 {{3, 2}, {1, 3}, 0, false},
                                 {{1, 6}, {7, 1}, 0, true},
                                 {{6, 1}, {1, 9}, 0, true},
                                 {{2, 3}, {0, 1}, 0, false},
                                 {{2, 2}, {1, 1}, 0, false},
                                 {{0, 3}, {99, 77}, 0, true},
                                 {{0}, {1}, 6, true},
                                 {{3}, {1}, 3, true},
                                 {{1}, {0}, 5, true},
                                 {{1, 1, 1}, {5, 5, 5}, 2, true},
                                 {{2, 1, 3}, {3, 3, 1}, 0, true}};
  for (const Row& row : rows) {
    const auto file = unpickle(finish(tensor({.offset = integer(row.offset),
                                              .sizes = counts(row.sizes),
                                              .strides = counts(row.strides)})));
    ASSERT_OK(file);
    EXPECT_EQ(file->tensors[0].contiguous, row.contiguous) << show(file->tree.root());
    EXPECT_EQ(file->tree.root().attributes().stride.has_value(), !row.contiguous);
    EXPECT_EQ(file->tensors[0].offset, static_cast<std::uint64_t>(row.offset));
  }
}

TEST(TorchTensors, ViewsStayInTheirStorage) {
  struct Row {
    Counts sizes, strides;
    std::int64_t offset;
    const char* wanted;
  };
  constexpr std::int64_t kBig = INT64_MAX;
  const std::vector<Row> rows = {
      {{2, 3}, {3, 1}, 1, "tensor_out_of_storage"},
      {{7}, {1}, 0, "tensor_out_of_storage"},
      {{2}, {6}, 0, "tensor_out_of_storage"},
      {{2}, {5}, 0, "T0 stride[5]"},
      {{}, {}, 6, "tensor_out_of_storage"},
      {{}, {}, kBig, "tensor_out_of_storage"},
      {{2}, {kBig}, 0, "tensor_out_of_storage"},
      {{3}, {kBig}, 2, "size_overflow"},
      {{3, 3}, {kBig, kBig}, 0, "size_overflow"},
      {{kBig, kBig}, {0, 0}, 0, "size_overflow"},
      {{kBig}, {0}, 0, "size_overflow"},             // four times as many bytes
      {{1LL << 62, 4}, {0, 0}, 0, "size_overflow"},  // elements wrap to 0
      {{4194305, 4194305, 211106198978564}, {0, 0, 0}, 0, "size_overflow"},  // and to 4
      {{0, 1LL << 62, 4}, {1, 1, 1}, 0, "size_overflow"},  // a 0 hides no overflow
      {{1LL << 62, 0, 4}, {1, 1, 1}, 0, "size_overflow"},
      {{0}, {1}, kBig, "T0"},                 // nothing is read
      {{1LL << 40}, {0}, 0, "T0 stride[0]"},  // legal in torch; writing it out meets a limit
  };
  for (const Row& row : rows)
    EXPECT_EQ(shown(tensor({.offset = integer(row.offset),
                            .sizes = counts(row.sizes),
                            .strides = counts(row.strides)})),
              row.wanted);
}

TEST(TorchTensors, RefusesMalformedArguments) {
  const auto refused = [](const Tensor& t) { EXPECT_EQ(shown(tensor(t)), "rebuild_malformed"); };
  refused({.storage = "N"});
  refused({.storage = "C\1a"});
  refused({.offset = integer(-1)});
  refused({.offset = "F1.0\n"});
  refused({.offset = "\x88"});
  refused({.sizes = counts({-1, 3})});
  refused({.sizes = counts({2})});
  refused({.sizes = "]"});
  refused({.sizes = "N"});
  refused({.sizes = test::pickle::tuple({"\x88", integer(3)})});
  refused({.sizes = test::pickle::tuple({text("2"), integer(3)})});
  refused({.strides = counts({3, -1})});
  refused({.strides = counts({3})});
  refused({.sizes = counts(Counts(65, 1)), .strides = counts(Counts(65, 1))});
  refused({.requires_grad = "K\1"});
  refused({.hooks = "]"});
  refused({.metadata = "]"});
  refused({.metadata = dict({text("conj"), "K\1"})});
  refused({.metadata = dict({text("conj"), "\x88"})});  // of a real dtype
  refused({.hooks = ""});
  refused({.metadata = "}}"});
  EXPECT_EQ(shown(tensor({.sizes = counts(Counts(64, 1)), .strides = counts(Counts(64, 1))})),
            "T0");
  EXPECT_EQ(shown(tensor({.metadata = dict({text("backend"), "\x88"})})), "torch_unsupported");
  const string parameter = global("torch._utils", "_rebuild_parameter");
  for (const string& arguments :
       {test::pickle::tuple({"N", "\x88", ordered_dict()}), test::pickle::tuple({tensor(), "\x88"}),
        test::pickle::tuple({storage(), "\x88", ordered_dict()}),
        test::pickle::tuple({tensor(), "K\1", ordered_dict()})})
    EXPECT_EQ(shown(call(parameter, arguments)), "rebuild_malformed");
}

TEST(TorchTensors, TakesTorchSizeForATuple) {
  EXPECT_EQ(shown(tensor({.sizes = call(global("torch", "Size"), counts({2, 3}) + "\x85")})), "T0");
}

TEST(TorchTensors, KeepsConjugateAndNegative) {
  const Storage complex{.type = global("torch", "ComplexFloatStorage")};
  const auto file = unpickle(
      finish(tensor({.storage = storage(complex), .metadata = dict({text("conj"), "\x88"})})));
  ASSERT_OK(file);
  EXPECT_TRUE(file->tensors[0].conjugate);
  EXPECT_FALSE(file->tensors[0].negate);
  const auto negative =
      unpickle(finish(tensor({.metadata = dict({text("neg"), "\x88", text("conj"), "\x89"})})));
  ASSERT_OK(negative);
  EXPECT_TRUE(negative->tensors[0].negate);
  EXPECT_EQ(shown(tensor({.storage = storage({.type = global("torch", "BoolStorage")}),
                          .metadata = dict({text("neg"), "\x88"})})),
            "rebuild_malformed");
}

TEST(TorchTensors, TakesWhatAPluginMakesForATensor) {
  const string npu = global("torch_npu.utils.storage", "_rebuild_npu_tensor");
  EXPECT_EQ(shown(tensor({.metadata = integer(0), .function = npu})), "T0");
  // Not the arguments that are known: stays a call.
  EXPECT_NE(shown(tensor({.sizes = text("x"), .function = npu})), "T0");
  EXPECT_NE(shown(tensor({.sizes = text("x"), .function = npu})), "rebuild_malformed");
  EXPECT_NE(shown(tensor({.function = global("other", "_rebuild_npu_tensor")})), "T0");
}

TEST(TorchTensors, KeepsTheDevice) {
  EXPECT_EQ(shown(tensor({.storage = storage({.location = text("cuda:1")})})), "T0 cuda:1");
  EXPECT_EQ(shown(tensor({.storage = storage({.location = text("cpu")})})), "T0");
}

TEST(TorchTensors, EqualViewsAreOneTensor) {
  EXPECT_EQ(shown(test::pickle::list({tensor(), tensor()})), "[T0, T0]");
  EXPECT_EQ(shown(test::pickle::list({tensor(), tensor({.requires_grad = "\x88"})})),
            "[T0, T0 grad]");
  EXPECT_EQ(
      shown(test::pickle::list({tensor(), tensor({.sizes = counts({6}), .strides = counts({1})})})),
      "[T0, T1]");
  EXPECT_EQ(shown(test::pickle::list(
                {tensor({.sizes = counts({1}), .strides = counts({1})}),
                 tensor({.offset = integer(1), .sizes = counts({1}), .strides = counts({1})})})),
            "[T0, T1]");
  EXPECT_EQ(
      shown(test::pickle::list({tensor(), tensor({.metadata = dict({text("neg"), "\x88"})})})),
      "[T0, T1]");
  EXPECT_EQ(shown(test::pickle::list({tensor(), tensor({.storage = storage({.key = text("1")})})})),
            "[T0, T1]");
  // Empty tensors share nothing.
  const string empty = tensor({.sizes = counts({0}), .strides = counts({1})});
  EXPECT_EQ(shown(test::pickle::list({empty, empty})), "[T0, T1]");
  // Two nodes all the same: they are two Python objects.
  const auto file = unpickle(finish(test::pickle::list({tensor(), tensor()})));
  EXPECT_NE(file->tree.root().item(0).id(), file->tree.root().item(1).id());
}

TEST(TorchTensors, OneStorageHasOneDescription) {
  const auto both = [](const Storage& a, const Storage& b, const string& sizes = counts({1})) {
    return shown(test::pickle::list(
        {tensor({.storage = storage(a), .sizes = sizes, .strides = counts({1})}),
         tensor({.storage = storage(b), .sizes = sizes, .strides = counts({1})})}));
  };
  const string untyped = global("torch.storage", "UntypedStorage");
  EXPECT_EQ(both({}, {}), "[T0, T0]");
  EXPECT_EQ(both({}, {.count = integer(7)}), "storage_conflict");
  EXPECT_EQ(both({}, {.type = global("torch", "IntStorage")}), "storage_conflict");
  EXPECT_EQ(both({}, {.type = global("torch.cuda", "FloatStorage")}), "[T0, T0]");
  EXPECT_EQ(both({}, {.type = untyped, .count = integer(24)}), "[T0, T1]");
  EXPECT_EQ(both({.type = untyped, .count = integer(24)}, {}), "[T0, T1]");
  EXPECT_EQ(both({}, {.type = untyped, .count = integer(6)}), "storage_conflict");
  EXPECT_EQ(both({.key = text("00")}, {.type = global("torch", "IntStorage")}), "[T0, T1]")
      << "other keys";
}

TEST(TorchTensors, PersistentIdsAreStorages) {
  const auto of = [](const Storage& s) {
    return shown(tensor({.storage = storage(s), .sizes = counts({1}), .strides = counts({1})}));
  };
  const string malformed = "persistent_id_malformed";
  EXPECT_EQ(of({}), "T0");
  for (const string& type : {global("torch", "NoStorage"), global("my", "FloatStorage"),
                             global("torch.storage", "TypedStorage"), global("torch", "float32"),
                             text("FloatStorage"), string("N")})
    EXPECT_EQ(of({.type = type}), malformed);
  for (const string& key :
       {integer(0), string("N"), text(""), text("../0"), text("0/1"), text("/")})
    EXPECT_EQ(of({.key = key}), malformed);
  EXPECT_EQ(of({.key = text(string(10'000, 'k'))}), "T0");
  EXPECT_EQ(of({.location = "N"}), malformed);
  EXPECT_EQ(of({.location = text("cuda:999999")}), "T0 cuda:999999");
  for (const string& count : {integer(-1), string("F1.5\n"), string("\x88"), text("4"),
                              string("\x8a\x09") + string(8, '\0') + "\1"})
    EXPECT_EQ(of({.count = count}), malformed);
  EXPECT_EQ(of({.count = integer(0x4000000000000001)}), "size_overflow") << "times 4 wraps to 4";
  for (const char* id : {"N", "]", ")", "K\1", "(NNNNNt"})
    EXPECT_EQ(shown(string(id) + "Q"), malformed) << id;
  EXPECT_EQ(shown(test::pickle::tuple({text("module"), global("torch", "FloatStorage"), text("0"),
                                       text("cpu"), integer(6)}) +
                  "Q"),
            malformed);
  EXPECT_EQ(shown("Pstorage\n"), malformed) << "PERSID: a text";
}

TEST(TorchTensors, StoragesAreValues) {
  EXPECT_EQ(shown(storage()), "torch.FloatStorage(T0)");
  EXPECT_EQ(shown(storage({.location = text("cuda:1")})), "torch.FloatStorage(T0 cuda:1)");
  EXPECT_EQ(shown(storage({.type = global("torch.cuda", "FloatStorage")})),
            "torch.FloatStorage(T0)");
  EXPECT_EQ(shown(storage({.type = global("torch.storage", "_UntypedStorage")})),
            "torch.storage.UntypedStorage(T0)");
  EXPECT_EQ(shown(storage({.type = global("torch", "ComplexDoubleStorage")})),
            "torch.ComplexDoubleStorage(T0 complex128)");
  EXPECT_EQ(shown(storage({.type = global("torch", "QInt8Storage")})), "torch.QInt8Storage(T0)");
  EXPECT_EQ(shown(dict({text("s"), storage()})), "{'s': torch.FloatStorage(T0)}");
  EXPECT_EQ(shown(call(global("my", "wrap"), storage() + "\x85")),
            "my.wrap(torch.FloatStorage(T0))");
  EXPECT_EQ(shown(storage() + "0N"), "None") << "discarded";
  const auto file = unpickle(finish(storage({.count = integer(5)})));
  ASSERT_OK(file);
  ASSERT_EQ(file->tensors.size(), 1u);
  EXPECT_EQ(file->tensors[0].dtype, Dtype::f32);
  EXPECT_EQ(shape_of(*file, file->tensors[0]), "[5]");
  EXPECT_EQ(file->tensors[0].nbytes, 20u);
}

TEST(TorchTensors, AStorageIsOneObject) {
  // With a tensor that sees part of it, and one that sees all of it.
  const auto file = unpickle(finish(test::pickle::list(
      {storage(), storage(), tensor(), tensor({.sizes = counts({6}), .strides = counts({1})}),
       storage({.key = text("1")}), storage({.location = text("cuda:0")})})));
  ASSERT_OK(file);
  const Value root = file->tree.root();
  EXPECT_EQ(root.item(0).id(), root.item(1).id());
  EXPECT_EQ(show(root),
            "[torch.FloatStorage(T1), torch.FloatStorage(T1), T0, T1, torch.FloatStorage(T2), "
            "torch.FloatStorage(T1 cuda:0)]");
}

struct Quantized {
  string type = "QInt8Storage";
  string count = integer(6);
  string offset = integer(0);
  string sizes = counts({2, 3});
  string strides = counts({3, 1});
  string quantizer = test::pickle::tuple(
      {global("torch", "per_tensor_affine"), "G\x3f\xe0" + string(6, '\0'), integer(3)});
  string requires_grad = "\x89";
};
string quantized_arguments(const Quantized& q) {
  return test::pickle::tuple({storage({.type = global("torch", q.type), .count = q.count}),
                              q.offset, q.sizes, q.strides, q.quantizer, q.requires_grad,
                              ordered_dict()});
}
string quantized(const Quantized& q = {}) {
  return call(global("torch._utils", "_rebuild_qtensor"), quantized_arguments(q));
}
string channels(const string& scales, const string& zero_points, const string& axis) {
  return test::pickle::tuple({global("torch", "per_channel_affine"), scales, zero_points, axis});
}

TEST(TorchTensors, ReadsQuantizedTensors) {
  EXPECT_EQ(stored_as(quantized()), "I8 [2,3] qint8 quant(torch.per_tensor_affine, 0.500000, 3)");
  EXPECT_EQ(stored_as(quantized({.type = "QUInt8Storage"})).substr(0, 15), "U8 [2,3] quint8");
  EXPECT_EQ(stored_as(quantized({.type = "QInt32Storage"})).substr(0, 16), "I32 [2,3] qint32");
  EXPECT_EQ(
      stored_as(quantized({.sizes = counts({3, 2}), .strides = counts({1, 3})})).substr(0, 26),
      "I8 [3,2] qint8 stride[1,3]");
  const string scales = tensor({.storage = storage({.key = text("s")})});
  const auto file =
      unpickle(finish(quantized({.quantizer = channels(scales, scales, integer(1))})));
  ASSERT_OK(file);
  EXPECT_EQ(file->tensors.size(), 2u) << "the scales are reached";
  EXPECT_EQ(show(file->tree.root()), "T1 qint8 quant(torch.per_channel_affine, T0, T0, 1)");
  EXPECT_EQ(shown(quantized({.quantizer = channels("]", "]", integer(0))})),
            "T0 qint8 quant(torch.per_channel_affine, [], [], 0)");
  EXPECT_EQ(shown(call(global("torch._utils", "_rebuild_parameter"),
                       test::pickle::tuple({quantized(), "\x89", ordered_dict()}))),
            "T0 parameter qint8 quant(torch.per_tensor_affine, 0.500000, 3)");
  const string subclass =
      call(global("torch._tensor", "_rebuild_from_type_v2"),
           test::pickle::tuple({global("torch._utils", "_rebuild_qtensor"), global("my", "Sub"),
                                quantized_arguments({}), "N"}));
  EXPECT_EQ(shown(subclass),
            "torch._tensor._rebuild_from_type_v2(torch._utils._rebuild_qtensor, my.Sub, "
            "(T0 qint8 quant(torch.per_tensor_affine, 0.500000, 3)), None)");
}

TEST(TorchTensors, SubByteTensorsAreTheirBytes) {
  const auto packed = [](const char* type, const string& count, Counts sizes, Counts strides) {
    return stored_as(quantized(
        {.type = type, .count = count, .sizes = counts(sizes), .strides = counts(strides)}));
  };
  const string quantizer = " quant(torch.per_tensor_affine, 0.500000, 3)";
  // Each row begins with a byte of its own.
  EXPECT_EQ(packed("QUInt4x2Storage", integer(9), {3, 5}, {5, 1}),
            "U8 [9] quint4x2 shape[3,5]" + quantizer);
  EXPECT_EQ(packed("QUInt2x4Storage", integer(6), {3, 5}, {5, 1}),
            "U8 [6] quint2x4 shape[3,5]" + quantizer);
  EXPECT_EQ(packed("QUInt4x2Storage", integer(1), {}, {}), "U8 [1] quint4x2 shape[]" + quantizer);
  EXPECT_EQ(packed("QUInt4x2Storage", integer(0), {0, 5}, {5, 1}),
            "U8 [0] quint4x2 shape[0,5]" + quantizer);
  EXPECT_EQ(packed("QUInt4x2Storage", integer(8), {3, 5}, {5, 1}), "tensor_out_of_storage");
  EXPECT_EQ(packed("QUInt4x2Storage", integer(9), {1LL << 62, 0, 5}, {0, 5, 1}), "size_overflow");
  // Views stay calls, with the storage.
  const string view = quantized({.type = "QUInt4x2Storage",
                                 .count = integer(9),
                                 .sizes = counts({5, 3}),
                                 .strides = counts({1, 5})});
  EXPECT_EQ(shown(view).substr(0, 60),
            "torch._utils._rebuild_qtensor(torch.QUInt4x2Storage(T0), 0, ");
  EXPECT_EQ(shown(quantized({.type = "QUInt4x2Storage", .offset = integer(1)})).substr(0, 29),
            "torch._utils._rebuild_qtensor");
}

TEST(TorchTensors, RefusesMalformedQuantizers) {
  const auto refused = [](const Quantized& q) {
    EXPECT_EQ(shown(quantized(q)), "rebuild_malformed");
  };
  const string scheme = global("torch", "per_tensor_affine");
  for (const string& quantizer :
       {string("N"), string(")"), test::pickle::tuple({scheme, "K\1"}),
        test::pickle::tuple({scheme, "N", "K\1"}), test::pickle::tuple({scheme, "K\1", "N"}),
        test::pickle::tuple({global("my", "per_tensor_affine"), "K\1", "K\1"}),
        test::pickle::tuple({global("torch", "strided"), "K\1", "K\1"}),
        test::pickle::tuple({scheme, "]", "]", "K\0"s}), channels("N", "]", integer(0)),
        channels("]", "N", integer(0)), channels("]", "]", integer(2)),
        channels("]", "]", integer(-1)), channels("]", "]", "N")})
    refused({.quantizer = quantizer});
  refused({.type = "CharStorage"});
  refused({.requires_grad = "N"});
  refused({.sizes = counts({2})});
  EXPECT_EQ(shown(quantized({.count = integer(5)})), "tensor_out_of_storage");
  EXPECT_EQ(shown(call(global("torch._utils", "_rebuild_qtensor"), ")")), "rebuild_malformed");
}

TEST(TorchTensors, UnreachedTensorsAreDropped) {
  const auto file =
      unpickle(finish(tensor({.storage = storage({.key = text("a")})}) + "0B" + test::le(2000, 4) +
                      string(2000, 'x') + "0" + tensor({.storage = storage({.key = text("b")})})));
  ASSERT_OK(file);
  ASSERT_EQ(file->tensors.size(), 1u);
  EXPECT_EQ(file->storages[file->tensors[0].storage].key, "b");
  EXPECT_EQ(show(file->tree.root()), "T0");
}

TEST(TorchTensors, DroppedHooksAreReported) {
  const auto file = unpickle(finish(tensor({.hooks = dict({"K\1", global("my", "hook")})})));
  ASSERT_OK(file);
  ASSERT_EQ(file->notes.size(), 1u);
  EXPECT_EQ(file->notes[0], "dropped the backward hooks of 1 tensor, because hooks are code");
}

TEST(TorchTensors, BigEndianStoragesAreSwappedByTheirDtype) {
  const auto unit = [](const char* type) {
    const auto file = unpickle(
        finish(tensor({.storage = storage({.type = global("torch", type)})})), ByteOrder::big);
    return file ? static_cast<int>(file->storages[0].swap_unit) : -1;
  };
  EXPECT_EQ(unit("FloatStorage"), 4);
  EXPECT_EQ(unit("DoubleStorage"), 8);
  EXPECT_EQ(unit("HalfStorage"), 2);
  EXPECT_EQ(unit("ByteStorage"), 1);
  EXPECT_EQ(unit("ComplexFloatStorage"), 4) << "each part of a complex number";
  EXPECT_EQ(unit("ComplexDoubleStorage"), 8);
  const auto big = [](const string& body) {
    const auto file = unpickle(finish(body), ByteOrder::big);
    return file ? show(file->tree.root()) : string(name(file.error().code));
  };
  EXPECT_EQ(big(v3("float8_e4m3fn")), "T0") << "single bytes have no order";
  EXPECT_EQ(big(v3("uint16")), "torch_unsupported") << "torch itself reads these wrong";
  EXPECT_EQ(big(test::pickle::list({v3("float8_e4m3fn", {}, integer(24)), tensor()})),
            "torch_unsupported");
}

}  // namespace
}  // namespace flatbed::pth
