#include "load_sources.hpp"

#include <algorithm>
#include <optional>

#include "open_input.hpp"
#include "renames.hpp"
#include "seal_text.hpp"

namespace flatbed::tool {
namespace {

// Pushes everything that a value refers to, including keys: any of it can lead to a tensor.
void push_children(Value value, std::vector<Value>& stack) {
  const Kind kind = value.kind();
  const bool pairs = kind == Kind::dict || kind == Kind::object;
  for (std::size_t i = 0; i < value.size(); ++i) {
    stack.push_back(value.item(i));
    if (pairs) stack.push_back(value.key(i));
  }
  if (kind == Kind::tensor) {
    const TensorAttributes& attributes = value.attributes();
    for (const NodeId id : {attributes.quantizer, attributes.state}) {
      if (id != kNoNode) stack.push_back(value.node(id));
    }
  }
  if (kind != Kind::object) return;
  stack.push_back(value.callable());
  stack.push_back(value.arguments());
  for (std::size_t i = 0; i < value.appended_size(); ++i) stack.push_back(value.appended(i));
  if (const std::optional<Value> state = value.state()) stack.push_back(*state);
}

// The device of each tensor according to the tree. The tree may be a graph with cycles, so each
// node is visited once. If a tensor occurs more than once, the first device found for it counts.
std::vector<std::string> tree_devices(Value root, std::size_t tensors) {
  std::vector<std::string> devices(tensors, "cpu");
  std::vector<bool> seen;
  std::vector<Value> stack{root};
  while (!stack.empty()) {
    const Value value = stack.back();
    stack.pop_back();
    if (value.id() == kNoNode) continue;
    if (value.id() >= seen.size()) seen.resize(value.id() + std::size_t{1} + seen.size());
    if (seen[value.id()]) continue;
    seen[value.id()] = true;
    if (value.kind() == Kind::tensor) {
      const std::optional<std::uint32_t> tensor = value.tensor();
      const std::string& device = value.attributes().device;
      if (tensor && !device.empty() && devices[*tensor] == "cpu") devices[*tensor] = device;
    }
    push_children(value, stack);
  }
  return devices;
}

// The device of each storage. Renamed tensors keep their storage, and a joined one has that of its
// first part.
std::vector<std::string> storage_devices(const Checkpoint& checkpoint,
                                         const std::vector<std::string>& of_tensors) {
  std::uint32_t count = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) count = std::max(count, tensor.storage + 1);
  std::vector<std::string> devices(count, "cpu");
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (devices[tensor.storage] == "cpu") devices[tensor.storage] = of_tensors[tensor.index];
  }
  return devices;
}

Result<LoadSource> open_source(const std::filesystem::path& path,
                               const LoadCommandOptions& options) {
  FLATBED_ASSIGN(Checkpoint chosen,
                 open_input(path, open_options(options.verify == Verify::no), options.remote));
  if (!options.select.empty()) {
    FLATBED_ASSIGN(chosen, chosen.select({.path = options.select, .state_dict = true}));
  }
  // Globs produce a flat state dict, which has no devices, so the devices are looked up first.
  const Checkpoint whole = chosen;
  if (!options.include.empty() || !options.exclude.empty()) {
    FLATBED_ASSIGN(chosen, chosen.select({"", options.include, options.exclude}));
  }
  FLATBED_ASSIGN(const Checkpoint named, renamed(chosen, options.renames));
  FLATBED_ASSIGN(Checkpoint cast, cast_chosen(named, options.cast));
  LoadSource source{path, std::move(cast), {}};
  if (options.map.empty()) return source;
  FLATBED_ASSIGN(const Value root, whole.tree());
  const std::vector<std::string> devices =
      storage_devices(whole, tree_devices(root, whole.tensors().size()));
  for (const TensorInfo& tensor : source.checkpoint.tensors())
    source.homes.push_back(devices[tensor.storage]);
  return source;
}

}  // namespace

Result<std::vector<LoadSource>> open_sources(const LoadCommandOptions& options) {
  std::vector<LoadSource> sources;
  for (const std::filesystem::path& path : options.paths) {
    Result<LoadSource> source = open_source(path, options);
    if (!source) return about(path, source.error());
    sources.push_back(*std::move(source));
  }
  return sources;
}

}  // namespace flatbed::tool
