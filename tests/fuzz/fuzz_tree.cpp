// The JSON of flatbed.tree: a tree that was read can be written and read again.
#include <array>
#include <string>

#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"
#include "value/tree_json.hpp"

namespace flatbed::fuzz {

namespace {

constexpr std::array<std::uint64_t, 1> kShape{8};

std::array<TensorInfo, 3> make_tensors() {
  std::array<TensorInfo, 3> tensors;
  constexpr std::array kNames{"a", "b", "w"};
  constexpr std::array kDtypes{Dtype::f32, Dtype::u8, Dtype::i64};
  for (std::uint32_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = kNames[i];
    tensors[i].dtype = kDtypes[i];
    tensors[i].shape = kShape;
    tensors[i].nbytes = 8 * bits(kDtypes[i]) / 8;
    tensors[i].index = i;
  }
  return tensors;
}

}  // namespace

void tree(std::string_view bytes) {
  static const std::array<TensorInfo, 3> kTensors = make_tensors();
  static const std::array<std::string, 3> kNames{"a", "b", "w"};
  const auto by_name = [](std::string_view name) -> const TensorInfo* {
    for (const TensorInfo& tensor : kTensors) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  };
  const Result<ValueTree> first = decode_tree(bytes, by_name);
  if (!first) return check_error(first.error());
  const Result<std::string> json = encode_tree(*first, kNames);
  if (!json) return check_error(json.error());
  const Result<ValueTree> second = decode_tree(*json, by_name);
  if (!second) std::fprintf(stderr, "%s\n%s\n", second.error().message.c_str(), json->c_str());
  require(second.has_value(), "a tree's own JSON is read");
  const Result<std::string> twice = encode_tree(*second, kNames);
  require(twice && *twice == *json, "what is read is what was written");
}

}  // namespace flatbed::fuzz
