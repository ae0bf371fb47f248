#include "pth/torch_objects.hpp"

#include <array>
#include <string>

#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "pth/pickle_literal.hpp"
#include "pth/tree_check.hpp"

namespace flatbed::pth {

namespace {

// 'latin1', 'utf-8': the codecs by which pickles of protocols 0 to 2 spell bytes.
bool is_latin1(std::string_view codec) {
  return codec == "latin1" || codec == "latin-1" || codec == "iso-8859-1";
}
bool is_utf8_codec(std::string_view codec) { return codec == "utf-8" || codec == "utf8"; }

bool rebuilds_tensor(Meaning meaning) {
  return meaning == Meaning::rebuild_tensor || meaning == Meaning::rebuild_tensor_v2 ||
         meaning == Meaning::rebuild_tensor_v3;
}

// The number of arguments of a Parameter's rebuild function; 0: it is none.
std::size_t parameter_arguments(Meaning meaning) {
  return meaning == Meaning::rebuild_parameter              ? 3
         : meaning == Meaning::rebuild_parameter_with_state ? 4
                                                            : 0;
}

std::string full_name(Value global) { return str_cat(global.text(), ".", global.qualname()); }

}  // namespace

NodeId TorchObjects::add_global(std::string_view module, std::string_view qualname) {
  return globals_.add(tree_, module, qualname);
}

NodeId TorchObjects::add_bytes(std::string_view bytes) {
  if (bytes.size() <= kLongBytes) return tree_.add_bytes(bytes);
  TorchTensor tensor;
  tensor.held = static_cast<std::uint32_t>(file_.held.size());
  tensor.rank = 1;
  tensor.stored_rank = 1;
  tensor.dims = file_.dims.size();
  tensor.nbytes = bytes.size();
  file_.held.emplace_back(bytes);
  file_.dims.insert(file_.dims.end(), {bytes.size(), 1, bytes.size()});
  file_.tensors.push_back(tensor);
  return tree_.add_bytes_in_tensor(static_cast<std::uint32_t>(file_.tensors.size() - 1));
}

NodeId TorchObjects::add_object(std::string_view module, std::string_view qualname,
                                std::span<const NodeId> arguments) {
  const NodeId callable = add_global(module, qualname);
  return tree_.add_object(callable, tree_.add_tuple(arguments));
}

NodeId TorchObjects::add_bytearray(std::string_view bytes) {
  return add_object("builtins", "bytearray", std::array{add_bytes(bytes)});
}

NodeId TorchObjects::add_frozenset(std::span<const NodeId> items) {
  const NodeId list = tree_.add_list();
  tree_.append_all(list, items);
  return add_object("builtins", "frozenset", std::array{list});
}

// A set that a call made may share its list with others, so ADDITEMS must not reach it: only these
// sets are of this class node.
NodeId TorchObjects::add_set() {
  if (open_set_class_ == kNoNode) open_set_class_ = tree_.add_global("builtins", "set");
  const NodeId list = tree_.add_list();
  return tree_.add_object(open_set_class_, tree_.add_tuple(std::array{list}));
}

std::optional<NodeId> TorchObjects::set_items(NodeId set) const {
  const Value value = tree_.value(set);
  if (value.kind() != Kind::object || value.callable().id() != open_set_class_) return std::nullopt;
  return value.arguments().item(0).id();
}

Result<NodeId> TorchObjects::call(NodeId callable, NodeId arguments) {
  const Value function = tree_.value(callable);
  const Value tuple = tree_.value(arguments);
  if (function.kind() != Kind::global && function.kind() != Kind::object)
    return make_error(ErrorCode::pickle_type, "what is called is neither a global nor an object");
  if (tuple.kind() != Kind::tuple)
    return make_error(ErrorCode::pickle_type, "the arguments of a call are no tuple");

  const Meaning meaning = globals_.find(callable).meaning;
  const auto in_call = [&](Result<NodeId> result) -> Result<NodeId> {
    if (result) return result;
    return with_context(full_name(function), std::move(result).error());
  };
  if (rebuilds_tensor(meaning)) return in_call(tensors_.rebuild(meaning, tuple));
  if (const std::size_t count = parameter_arguments(meaning); count != 0)
    return in_call(parameter(callable, tuple, count));
  std::optional<NodeId> canonical;
  switch (meaning) {
    case Meaning::rebuild_from_type:
      return in_call(from_type(callable, tuple));
    case Meaning::rebuild_qtensor:
      return make_error(ErrorCode::torch_unsupported, full_name(function),
                        ": quantized tensors are not read");
    case Meaning::ordered_dict:
      canonical = ordered_dict(callable, tuple);
      break;
    case Meaning::set:
    case Meaning::frozenset:
      canonical = set_of(callable, tuple);
      break;
    case Meaning::bytes:
      if (tuple.size() == 0) canonical = tree_.add_bytes({});
      break;
    case Meaning::bytearray:
      canonical = bytearray_of(tuple);
      break;
    case Meaning::encode:
      canonical = encoded(tuple);
      break;
    case Meaning::get_layout:
      canonical = layout_named(tuple);
      break;
    default:
      break;
  }
  return canonical ? *canonical : tree_.add_object(callable, arguments);
}

// Python 2 passes the items, as a list of lists of two.
std::optional<NodeId> TorchObjects::ordered_dict(NodeId callable, Value arguments) {
  if (arguments.size() != 1 || arguments.item(0).kind() != Kind::list) return std::nullopt;
  const Value items = arguments.item(0);
  std::vector<NodeId> pairs;
  pairs.reserve(items.size() * 2);
  for (std::size_t i = 0; i < items.size(); ++i) {
    const Value pair = items.item(i);
    const bool sequence = pair.kind() == Kind::list || pair.kind() == Kind::tuple;
    if (!sequence || pair.size() != 2) return std::nullopt;
    pairs.push_back(pair.item(0).id());
    pairs.push_back(pair.item(1).id());
  }
  const NodeId dict = tree_.add_object(callable, tree_.add_tuple({}));
  tree_.set_items(dict, pairs);
  return dict;
}

// set() and set of a tuple in the form that set of a list has.
std::optional<NodeId> TorchObjects::set_of(NodeId callable, Value arguments) {
  const bool of_tuple = arguments.size() == 1 && arguments.item(0).kind() == Kind::tuple;
  if (arguments.size() != 0 && !of_tuple) return std::nullopt;
  std::vector<NodeId> items;
  for (std::size_t i = 0; of_tuple && i < arguments.item(0).size(); ++i)
    items.push_back(arguments.item(0).item(i).id());
  const NodeId list = tree_.add_list();
  tree_.append_all(list, items);
  return tree_.add_object(callable, tree_.add_tuple(std::array{list}));
}

// bytearray() and bytearray(text, codec) in the form that bytearray(bytes) has.
std::optional<NodeId> TorchObjects::bytearray_of(Value arguments) {
  if (arguments.size() == 0) return add_bytearray({});
  const std::optional<NodeId> bytes = encoded(arguments);
  if (!bytes) return std::nullopt;
  return add_object("builtins", "bytearray", std::array{*bytes});
}

// The bytes that (text, codec) stand for.
std::optional<NodeId> TorchObjects::encoded(Value arguments) {
  if (arguments.size() != 2 || arguments.item(0).kind() != Kind::string ||
      arguments.item(1).kind() != Kind::string)
    return std::nullopt;
  const std::string_view text = arguments.item(0).text();
  const std::string_view codec = arguments.item(1).text();
  std::string bytes;
  if (is_latin1(codec))
    return to_latin1(text, bytes) ? std::optional(add_bytes(bytes)) : std::nullopt;
  if (!is_utf8_codec(codec) || !is_utf8(text)) return std::nullopt;
  bytes = text;  // the tree's texts move when one is added
  return add_bytes(bytes);
}

// _get_layout('torch.strided') is the object torch.strided.
std::optional<NodeId> TorchObjects::layout_named(Value arguments) {
  constexpr std::string_view kModule = "torch.";
  if (arguments.size() != 1 || arguments.item(0).kind() != Kind::string) return std::nullopt;
  const std::string name(arguments.item(0).text());
  if (!name.starts_with(kModule)) return std::nullopt;
  return add_global("torch", std::string_view(name).substr(kModule.size()));
}

// A Parameter of a tensor. One of another object, such as a sparse tensor, stays a call.
Result<NodeId> TorchObjects::parameter(NodeId callable, Value arguments, std::size_t count) {
  if (arguments.size() != count)
    return make_error(ErrorCode::rebuild_malformed, arguments.size(), " arguments, wanted ", count);
  const Value data = arguments.item(0);
  if (data.kind() == Kind::object) return tree_.add_object(callable, arguments.id());
  if (data.kind() != Kind::tensor)
    return make_error(ErrorCode::rebuild_malformed, "the data are no tensor");
  return tensors_.rebuild_parameter(data, arguments);
}

// (function, class, arguments, state): a tensor with Python attributes, or of a subclass.
Result<NodeId> TorchObjects::from_type(NodeId callable, Value arguments) {
  if (arguments.size() != 4)
    return make_error(ErrorCode::rebuild_malformed, arguments.size(), " arguments, wanted 4");
  const Value function = arguments.item(0);
  const Value type = arguments.item(1);
  const Value inner = arguments.item(2);
  const Meaning meaning = globals_.find(function.id()).meaning;
  if (meaning == Meaning::rebuild_qtensor)
    return make_error(ErrorCode::torch_unsupported, "quantized tensors are not read");
  const std::size_t parameter_count = parameter_arguments(meaning);
  if (!rebuilds_tensor(meaning) && parameter_count == 0)
    return tree_.add_object(callable, arguments.id());

  if (inner.kind() != Kind::tuple || type.kind() != Kind::global)
    return make_error(ErrorCode::rebuild_malformed, "wanted (function, class, tuple, state)");
  const Meaning type_meaning = globals_.find(type.id()).meaning;
  if (type_meaning != Meaning::tensor_class && type_meaning != Meaning::parameter_class)
    return make_error(ErrorCode::torch_unsupported, "tensors of the subclass ",
                      quoted(full_name(type)), " are not read");
  FLATBED_ASSIGN(const NodeId result, rebuilds_tensor(meaning)
                                          ? tensors_.rebuild(meaning, inner)
                                          : parameter(function.id(), inner, parameter_count));
  if (tree_.value(result).kind() != Kind::tensor) return tree_.add_object(callable, arguments.id());
  const bool has_state = arguments.item(3).kind() != Kind::none;
  if (!has_state && type_meaning == Meaning::tensor_class) return result;
  TensorAttributes& attributes = tree_.edit_attributes(result);
  attributes.parameter = attributes.parameter || type_meaning == Meaning::parameter_class;
  if (has_state) attributes.state = arguments.item(3).id();
  return result;
}

Result<void> TorchObjects::finish() {
  FLATBED_ASSIGN(const std::vector<bool> reached, check_tree(tree_, file_.tensors.size()));
  drop_unreached(reached);
  if (tensors_.dropped_hooks() != 0)
    file_.notes.push_back(str_cat("backward hooks of ", tensors_.dropped_hooks(),
                                  " tensors are dropped: they are code"));
  return {};
}

// A pickle may build what it then discards.
void TorchObjects::drop_unreached(const std::vector<bool>& reached) {
  std::vector<std::uint32_t> numbers(reached.size());
  std::uint32_t kept = 0;
  for (std::size_t i = 0; i < reached.size(); ++i) {
    numbers[i] = kept;
    if (!reached[i] && file_.tensors[i].storage == kNoStorage)
      file_.held[file_.tensors[i].held] = {};
    if (reached[i]) file_.tensors[kept++] = file_.tensors[i];
  }
  if (kept == reached.size()) return;
  file_.tensors.resize(kept);
  for (NodeId id = 0; id < tree_.size(); ++id) {
    const std::optional<std::uint32_t> tensor = tree_.value(id).tensor();
    if (tensor && *tensor < reached.size() && reached[*tensor])
      tree_.set_tensor(id, numbers[*tensor]);
  }
}

}  // namespace flatbed::pth
