// TorchGlobals: which names of a pickle mean something, and their nodes.
#include "torch/torch_globals.hpp"

#include <gtest/gtest.h>

#include <string_view>
#include <utility>

#include "torch/script_pickle.hpp"

namespace flatbed::pth {
namespace {

Meaning meaning(std::string_view module, std::string_view name) {
  return find_torch_global(module, name).meaning;
}

std::string_view dtype(std::string_view module, std::string_view name) {
  const std::uint8_t row = find_torch_global(module, name).dtype;
  return row == kNoTorchDtype ? std::string_view() : kTorchDtypes[row].name;
}

TEST(TorchGlobals, KnowTheFunctionsThatRebuildTensors) {
  EXPECT_EQ(meaning("torch._utils", "_rebuild_tensor"), Meaning::rebuild_tensor);
  EXPECT_EQ(meaning("torch._utils", "_rebuild_tensor_v2"), Meaning::rebuild_tensor_v2);
  EXPECT_EQ(meaning("torch._utils", "_rebuild_tensor_v3"), Meaning::rebuild_tensor_v3);
  EXPECT_EQ(meaning("torch._utils", "_rebuild_qtensor"), Meaning::rebuild_qtensor);
  EXPECT_EQ(meaning("torch._utils", "_rebuild_parameter"), Meaning::rebuild_parameter);
  EXPECT_EQ(meaning("torch._utils", "_rebuild_parameter_with_state"),
            Meaning::rebuild_parameter_with_state);
  for (const char* module : {"torch._tensor", "torch.tensor"}) {
    EXPECT_EQ(meaning(module, "_rebuild_from_type"), Meaning::rebuild_from_type);
    EXPECT_EQ(meaning(module, "_rebuild_from_type_v2"), Meaning::rebuild_from_type);
  }
}

TEST(TorchGlobals, KnowClassesByTheirDtype) {
  EXPECT_EQ(meaning("torch", "FloatStorage"), Meaning::storage_class);
  EXPECT_EQ(dtype("torch", "FloatStorage"), "float32");
  EXPECT_EQ(meaning("torch.cuda", "HalfStorage"), Meaning::storage_class);
  EXPECT_EQ(dtype("torch.cuda", "HalfStorage"), "float16");
  EXPECT_EQ(meaning("torch", "LongTensor"), Meaning::typed_tensor_class);
  EXPECT_EQ(dtype("torch", "LongTensor"), "int64");
  EXPECT_EQ(meaning("torch", "bfloat16"), Meaning::dtype);
  EXPECT_EQ(dtype("torch", "bfloat16"), "bfloat16");
  EXPECT_EQ(meaning("torch.cuda", "bfloat16"), Meaning::none);
  EXPECT_EQ(meaning("torch", "Tensor"), Meaning::tensor_class);
  EXPECT_EQ(dtype("torch", "Tensor"), "");
}

TEST(TorchGlobals, KnowUntypedStoragesByEachName) {
  EXPECT_EQ(meaning("torch.storage", "UntypedStorage"), Meaning::untyped_storage_class);
  EXPECT_EQ(meaning("torch.storage", "_UntypedStorage"), Meaning::untyped_storage_class);
  EXPECT_EQ(meaning("torch", "UntypedStorage"), Meaning::untyped_storage_class);
}

TEST(TorchGlobals, KnowNumpyBeforeAndAfterItsSecondVersion) {
  for (const char* module : {"numpy.core.multiarray", "numpy._core.multiarray"}) {
    EXPECT_EQ(meaning(module, "_reconstruct"), Meaning::numpy_reconstruct);
    EXPECT_EQ(meaning(module, "scalar"), Meaning::numpy_scalar);
  }
  for (const char* module : {"numpy.core.numeric", "numpy._core.numeric"})
    EXPECT_EQ(meaning(module, "_frombuffer"), Meaning::numpy_frombuffer);
}

TEST(TorchGlobals, KnowTheFunctionsOfPluginsByTheirForm) {
  EXPECT_EQ(meaning("torch_npu.utils.storage", "_rebuild_npu_tensor"),
            Meaning::rebuild_plugin_tensor);
  EXPECT_EQ(meaning("torch_npu.utils.storage", "_rebuild_npu_tensor_v2"), Meaning::none);
  EXPECT_EQ(meaning("torch_npu.utils.storage", "rebuild_npu_tensor"), Meaning::none);
  EXPECT_EQ(meaning("torch.utils", "_rebuild_npu_tensor"), Meaning::none);
  EXPECT_EQ(meaning("mine", "_rebuild_npu_tensor"), Meaning::none);
}

TEST(TorchGlobals, MatchNamesExactly) {
  for (const auto& [module, name] : {std::pair{"os", "system"},
                                     {"", ""},
                                     {"torch", "tensor"},
                                     {"Torch", "Tensor"},
                                     {"torch.", "Tensor"},
                                     {"torch", "Tensor.__reduce__"},
                                     {"torch", "FloatStorage "},
                                     {"torch.sparse", "FloatStorage"},
                                     {"torch._utils", "_rebuild_tensor_v4"},
                                     {"collections", "Counter"}})
    EXPECT_EQ(meaning(module, name), Meaning::none) << module << "." << name;
}

TEST(TorchGlobals, GiveEachNameWithAMeaningOneNode) {
  ValueTree tree;
  TorchGlobals globals;
  const NodeId ordered = globals.add(tree, "collections", "OrderedDict");
  const NodeId floats = globals.add(tree, "torch", "FloatStorage");
  EXPECT_NE(ordered, floats);
  EXPECT_EQ(globals.add(tree, "collections", "OrderedDict"), ordered);
  EXPECT_EQ(globals.add(tree, "torch", "FloatStorage"), floats);
  EXPECT_EQ(globals.find(ordered).meaning, Meaning::ordered_dict);
  EXPECT_EQ(kTorchDtypes[globals.find(floats).dtype].name, "float32");
  EXPECT_EQ(tree.value(floats).text(), "torch");
  EXPECT_EQ(tree.value(floats).qualname(), "FloatStorage");
}

TEST(TorchGlobals, GiveOtherNamesANodeEachTime) {
  ValueTree tree;
  TorchGlobals globals;
  const NodeId first = globals.add(tree, "mine", "Thing");
  EXPECT_NE(globals.add(tree, "mine", "Thing"), first);
  EXPECT_EQ(globals.find(first).meaning, Meaning::none);
  EXPECT_EQ(globals.find(kNoNode).meaning, Meaning::none);
  // A node that was added to the tree without them has no meaning.
  EXPECT_EQ(globals.find(tree.add_global("collections", "OrderedDict")).meaning, Meaning::none);
}

// torch's pickler in C++ has names for the storages of its own.
TEST(TorchGlobals, KnowMoreStoragesInScriptArchives) {
  ValueTree tree;
  constexpr std::string_view kStorage = "Float8_e5m2Storage";
  ASSERT_NE(torch_dtype_of_script_storage(kStorage), kNoTorchDtype);
  TorchGlobals python;
  EXPECT_EQ(python.find(python.add(tree, "torch", kStorage)).meaning, Meaning::none);
  TorchGlobals script(Pickler::script);
  const NodeId node = script.add(tree, "torch", kStorage);
  EXPECT_EQ(script.find(node).meaning, Meaning::storage_class);
  EXPECT_EQ(kTorchDtypes[script.find(node).dtype].name, "float8_e5m2");
  EXPECT_EQ(script.add(tree, "torch", kStorage), node);
}

}  // namespace
}  // namespace flatbed::pth
