#include "module_tree.hpp"

#include <algorithm>
#include <unordered_map>

#include "totals.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kMaxModules = 32;  // above a tensor

std::string_view file_name(const FileInfo& file) {
  const std::string_view path = file.path.native();
  return path.substr(path.rfind('/') + 1);
}

class Builder {
 public:
  Builder(const Checkpoint& checkpoint, MapLevel first) : checkpoint_(checkpoint), first_(first) {
    tree_.nodes.emplace_back();
    modules_.resize(first == MapLevel::shard ? checkpoint.files().size() : 1);
    shards_.resize(modules_.size());
  }

  ModuleTree build() {
    for (const TensorInfo& tensor : checkpoint_.tensors()) {
      if (tensor.nbytes == 0) {
        ++tree_.empty;
      } else {
        add(tensor);
      }
    }
    for (ModuleNode& node : tree_.nodes) {
      std::ranges::stable_sort(node.children, std::ranges::greater(),
                               [&](std::uint32_t child) { return tree_.nodes[child].weight; });
    }
    return std::move(tree_);
  }

 private:
  void add(const TensorInfo& tensor) {
    std::uint32_t parent = 0;
    std::size_t set = 0;
    if (first_ == MapLevel::shard) {
      set = tensor.where.file;
      parent = shard_node(set);
    }
    const std::string_view name = tensor.name;
    std::size_t begin = 0;
    for (std::size_t modules = 0; modules < kMaxModules; ++modules) {
      const std::size_t dot = name.find('.', begin);
      if (dot == std::string_view::npos) break;
      const auto [place, is_new] = modules_[set].try_emplace(name.substr(0, dot), 0);
      if (is_new) place->second = append(parent, name.substr(0, dot), begin);
      parent = place->second;
      begin = dot + 1;
    }
    const std::uint32_t leaf = append(parent, name, begin);
    tree_.nodes[leaf].tensor = tensor.index;
    count(leaf, tensor);
  }

  std::uint32_t shard_node(std::size_t file) {
    if (!shards_[file]) shards_[file] = append(0, file_name(checkpoint_.files()[file]), 0);
    return *shards_[file];
  }

  std::uint32_t append(std::uint32_t parent, std::string_view path, std::size_t label) {
    const auto index = static_cast<std::uint32_t>(tree_.nodes.size());
    tree_.nodes[parent].children.push_back(index);
    ModuleNode node;
    node.path = path;
    node.label = path.substr(label);
    node.parent = parent;
    tree_.nodes.push_back(std::move(node));
    return index;
  }

  // Adds the tensor to its node and all above.
  void count(std::uint32_t index, const TensorInfo& tensor) {
    const std::uint64_t parameters = element_count(tensor.shape);
    while (true) {
      ModuleNode& node = tree_.nodes[index];
      ++node.tensors;
      add_up(node.parameters, parameters);
      add_up(node.nbytes, tensor.nbytes);
      node.weight += static_cast<double>(tensor.nbytes);
      if (index == 0) return;
      index = node.parent;
    }
  }

  const Checkpoint& checkpoint_;
  MapLevel first_;
  ModuleTree tree_;
  std::vector<std::unordered_map<std::string_view, std::uint32_t>> modules_;  // by path, per shard
  std::vector<std::optional<std::uint32_t>> shards_;
};

}  // namespace

ModuleTree module_tree(const Checkpoint& checkpoint, MapLevel first) {
  return Builder(checkpoint, first).build();
}

}  // namespace flatbed::tool
