// A pickle becomes a tree; a tree's JSON becomes the same tree again.
#include <string>

#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"
#include "io/name_index.hpp"
#include "torch/torch_objects.hpp"
#include "torch/unpickler.hpp"
#include "value/tensor_names.hpp"
#include "value/tree_json.hpp"

namespace flatbed::fuzz {

namespace {

constexpr std::size_t kMostJson = 1 << 20;

// Compares the tensors by name only.
std::vector<TensorInfo> named_tensors(const pth::TorchFile& file, const TensorNames& names) {
  std::vector<TensorInfo> tensors(names.names.size());
  for (std::uint32_t i = 0; i < tensors.size(); ++i) {
    const pth::TorchTensor& tensor = file.tensors[names.order[i]];
    tensors[i].name = names.names[i];
    tensors[i].index = i;
    tensors[i].dtype = tensor.dtype;
    tensors[i].nbytes = tensor.nbytes;
    tensors[i].shape = std::span(file.dims).subspan(tensor.dims + std::size_t{tensor.rank} * 2,
                                                    tensor.stored_rank);
  }
  return tensors;
}

void check_json(pth::TorchFile& file) {
  Result<TensorNames> names = name_tensors(file.tree);
  if (!names) return check_error(names.error());
  require(names->names.size() == file.tensors.size(), "every tensor that is kept has a name");
  std::vector<std::uint32_t> numbers(file.tensors.size());
  for (std::uint32_t i = 0; i < names->order.size(); ++i) numbers[names->order[i]] = i;
  file.tree.renumber_tensors(numbers);

  std::vector<std::string> texts;
  for (std::size_t i = 0; i < names->names.size(); ++i) texts.emplace_back(names->names[i]);
  const Result<std::string> json = encode_tree(file.tree, texts);
  if (!json) return check_error(json.error());
  if (json->size() > kMostJson) return;
  const std::vector<TensorInfo> tensors = named_tensors(file, *names);
  NameIndex index(tensors.size());
  const auto name_of = [&](std::uint32_t number) { return tensors[number].name; };
  for (const TensorInfo& tensor : tensors) index.insert(tensor.name, tensor.index, name_of);
  const Result<ValueTree> again = decode_tree(*json, [&](std::string_view name) {
    const auto number = index.find(name, name_of);
    return number ? &tensors[*number] : nullptr;
  });
  if (!again) std::fprintf(stderr, "%s\n%s\n", again.error().message.c_str(), json->c_str());
  require(again.has_value(), "a tree's own JSON is read");
  const Result<std::string> twice = encode_tree(*again, texts);
  if (twice && *twice != *json) std::fprintf(stderr, "%s\n%s\n", json->c_str(), twice->c_str());
  require(twice && *twice == *json, "what is read is what was written");
}

}  // namespace

void pickle(std::string_view bytes) {
  pth::TorchFile file;
  pth::TorchObjects objects(file,
                            bytes.size() % 2 == 0 ? pth::ByteOrder::little : pth::ByteOrder::big);
  objects.exchange_source({.ids = pth::PersistentIds::zip});
  pth::Unpickler unpickler(as_bytes(bytes), file.tree, objects);
  const Result<NodeId> root = unpickler.run();
  if (!root) return check_error(root.error());
  file.tree.set_root(*root);
  const Result<void> finished = objects.finish();
  if (!finished) return check_error(finished.error());
  check_json(file);
}

}  // namespace flatbed::fuzz
