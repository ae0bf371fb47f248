// Trees that the caller builds, in flatbed.h.
#include "base/str_cat.hpp"
#include "c/guard.hpp"
#include "c/values.hpp"

namespace flatbed::c {

namespace {

constexpr std::size_t kMaxValues = kNoNode - 1;

// Adds one value with `make`, which takes the tree and returns its number.
template <typename Make>
Result<void> add(flatbed_tree* tree, flatbed_value* out, Make make) {
  FLATBED_TRY(check(tree, "tree"));
  if (out == nullptr) return null_argument("out");
  if (tree->tree.size() >= kMaxValues) {
    return make_error(ErrorCode::limit_exceeded, "a tree holds at most ", kMaxValues, " values");
  }
  FLATBED_ASSIGN(const NodeId id, make(tree->tree));
  *out = to_c(tree, id);
  return {};
}

Result<NodeId> own_id(const flatbed_tree* tree, flatbed_value value, std::string_view parameter) {
  if (value.tree == tree && value.id < tree->tree.size()) return value.id;
  return make_error(ErrorCode::invalid_argument, "argument '", parameter,
                    "': found a value of another tree, expected one of 'tree'");
}

Result<NodeId> own_container(const flatbed_tree* tree, flatbed_value value, Kind kind,
                             std::string_view parameter) {
  FLATBED_ASSIGN(const NodeId id, own_id(tree, value, parameter));
  if (tree->tree.value(id).kind() == kind) return id;
  return make_error(ErrorCode::invalid_argument, "argument '", parameter,
                    "': found a value of another kind, expected a ", parameter);
}

}  // namespace

}  // namespace flatbed::c

using flatbed::Kind;
using flatbed::NodeId;
using flatbed::Result;
using flatbed::ValueTree;
using flatbed::c::check;
using flatbed::c::guarded;
using flatbed::c::own_container;
using flatbed::c::own_id;

int32_t flatbed_tree_new(flatbed_tree** out, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(flatbed::c::clear_out(out));
    *out = std::make_unique<flatbed_tree>().release();
    return {};
  });
}

int32_t flatbed_tree_add_none(flatbed_tree* tree, flatbed_value* out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out,
                           [](ValueTree& to) -> Result<NodeId> { return to.add_none(); });
  });
}

int32_t flatbed_tree_add_bool(flatbed_tree* tree, uint32_t value, flatbed_value* out,
                              flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out, [&](ValueTree& to) -> Result<NodeId> {
      FLATBED_ASSIGN(const bool read, flatbed::c::read_flag(value, "value"));
      return to.add_boolean(read);
    });
  });
}

int32_t flatbed_tree_add_int(flatbed_tree* tree, int64_t value, flatbed_value* out,
                             flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out,
                           [&](ValueTree& to) -> Result<NodeId> { return to.add_integer(value); });
  });
}

int32_t flatbed_tree_add_real(flatbed_tree* tree, double value, flatbed_value* out,
                              flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out,
                           [&](ValueTree& to) -> Result<NodeId> { return to.add_real(value); });
  });
}

int32_t flatbed_tree_add_string(flatbed_tree* tree, flatbed_string text, flatbed_value* out,
                                flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out, [&](ValueTree& to) -> Result<NodeId> {
      FLATBED_ASSIGN(const std::string_view read, flatbed::c::read_string(text, "text"));
      return to.add_string(read);
    });
  });
}

int32_t flatbed_tree_add_bytes(flatbed_tree* tree, flatbed_string bytes, flatbed_value* out,
                               flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out, [&](ValueTree& to) -> Result<NodeId> {
      FLATBED_ASSIGN(const std::string_view read, flatbed::c::read_string(bytes, "bytes"));
      return to.add_bytes(read);
    });
  });
}

int32_t flatbed_tree_add_list(flatbed_tree* tree, flatbed_value* out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out,
                           [](ValueTree& to) -> Result<NodeId> { return to.add_list(); });
  });
}

int32_t flatbed_tree_add_tuple(flatbed_tree* tree, const flatbed_value* items, uint64_t count,
                               flatbed_value* out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out, [&](ValueTree& to) -> Result<NodeId> {
      FLATBED_TRY(flatbed::c::check_bytes(items, count, "items"));
      std::vector<NodeId> ids;
      for (const flatbed_value& item : std::span(items, count)) {
        FLATBED_ASSIGN(ids.emplace_back(), own_id(tree, item, "items"));
      }
      return to.add_tuple(ids);
    });
  });
}

int32_t flatbed_tree_add_dict(flatbed_tree* tree, flatbed_value* out, flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out,
                           [](ValueTree& to) -> Result<NodeId> { return to.add_dict(); });
  });
}

int32_t flatbed_tree_add_tensor(flatbed_tree* tree, uint64_t tensor, flatbed_value* out,
                                flatbed_error* error) {
  return guarded(error, [&]() {
    return flatbed::c::add(tree, out, [&](ValueTree& to) -> Result<NodeId> {
      if (tensor > UINT32_MAX) return flatbed::c::index_error(tensor, UINT32_MAX, "tensor");
      return to.add_tensor(static_cast<uint32_t>(tensor), {});
    });
  });
}

int32_t flatbed_tree_append(flatbed_tree* tree, flatbed_value list, flatbed_value item,
                            flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(tree, "tree"));
    FLATBED_ASSIGN(const NodeId to, own_container(tree, list, Kind::list, "list"));
    FLATBED_ASSIGN(const NodeId id, own_id(tree, item, "item"));
    tree->tree.append(to, id);
    return {};
  });
}

int32_t flatbed_tree_set_item(flatbed_tree* tree, flatbed_value dict, flatbed_value key,
                              flatbed_value item, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(tree, "tree"));
    FLATBED_ASSIGN(const NodeId to, own_container(tree, dict, Kind::dict, "dict"));
    FLATBED_ASSIGN(const NodeId key_id, own_id(tree, key, "key"));
    FLATBED_ASSIGN(const NodeId id, own_id(tree, item, "item"));
    tree->tree.set_item(to, key_id, id);
    return {};
  });
}

int32_t flatbed_tree_set_root(flatbed_tree* tree, flatbed_value root, flatbed_error* error) {
  return guarded(error, [&]() -> Result<void> {
    FLATBED_TRY(check(tree, "tree"));
    FLATBED_ASSIGN(const NodeId id, own_id(tree, root, "root"));
    tree->tree.set_root(id);
    return {};
  });
}
