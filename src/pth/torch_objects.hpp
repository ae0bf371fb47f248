// TorchObjects: what the globals, calls and persistent ids of a torch pickle mean, without
// importing or calling anything.
//
// The few calls that describe tensors become tensors of a TorchFile; those that only spell Python
// values (bytes, sets, ordered dicts) get one canonical form; every other call stays an inert
// object node. Borrows the TorchFile that it fills. For one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "flatbed/result.hpp"
#include "flatbed/value.hpp"
#include "pth/torch_file.hpp"
#include "pth/torch_globals.hpp"
#include "pth/torch_tensors.hpp"

namespace flatbed::pth {

class TorchObjects {
 public:
  // `expected`: about how many storages there will be.
  TorchObjects(TorchFile& file, ByteOrder order, std::size_t expected = 0)
      : file_(file), tree_(file.tree), tensors_(file, globals_, order, expected) {}
  TorchObjects(const TorchObjects&) = delete;
  TorchObjects& operator=(const TorchObjects&) = delete;

  // Python values in their canonical form. Long bytes become a tensor of their own.
  NodeId add_global(std::string_view module, std::string_view qualname);
  NodeId add_bytes(std::string_view bytes);
  NodeId add_bytearray(std::string_view bytes);
  NodeId add_set();  // empty; set_items() fills it
  NodeId add_frozenset(std::span<const NodeId> items);

  // The list that holds the items of a set made by add_set(); nothing for all other nodes.
  [[nodiscard]] std::optional<NodeId> set_items(NodeId set) const;

  // callable(*arguments). Errors: pickle_type (callable is neither global nor object, or arguments
  // no tuple), rebuild_malformed, tensor_out_of_storage, size_overflow, torch_unsupported.
  [[nodiscard]] Result<NodeId> call(NodeId callable, NodeId arguments);

  // Errors: persistent_id_malformed, storage_conflict, size_overflow, torch_unsupported.
  [[nodiscard]] Result<NodeId> persistent(NodeId id) { return tensors_.persistent(id); }

  // Once the tree has its root: checks it and drops tensors that it does not reach.
  // Errors: torch_unsupported (a storage used as a value), pickle_duplicate_key.
  [[nodiscard]] Result<void> finish();

 private:
  NodeId add_object(std::string_view module, std::string_view qualname,
                    std::span<const NodeId> arguments);
  // Each of these gives nothing where the arguments have no canonical form: then the call stays as
  // it is.
  std::optional<NodeId> ordered_dict(NodeId callable, Value arguments);
  std::optional<NodeId> set_of(NodeId callable, Value arguments);
  std::optional<NodeId> bytearray_of(Value arguments);
  std::optional<NodeId> encoded(Value arguments);
  std::optional<NodeId> layout_named(Value arguments);
  [[nodiscard]] Result<NodeId> parameter(NodeId callable, Value arguments, std::size_t count);
  [[nodiscard]] Result<NodeId> from_type(NodeId callable, Value arguments);
  void drop_unreached(const std::vector<bool>& reached);

  TorchFile& file_;
  ValueTree& tree_;
  TorchGlobals globals_;
  TorchTensors tensors_;
  NodeId open_set_class_ = kNoNode;  // builtins.set, a node of its own for the sets of add_set()
};

}  // namespace flatbed::pth
