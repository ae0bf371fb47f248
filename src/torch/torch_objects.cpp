#include "torch/torch_objects.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <string>
#include <system_error>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "base/utf8.hpp"
#include "pickle/pickle_literal.hpp"
#include "pickle/pickle_stream.hpp"
#include "torch/legacy_stream.hpp"
#include "torch/script_pickle.hpp"
#include "torch/tree_check.hpp"
#include "torch/weights_only.hpp"

namespace flatbed::pth {

namespace {

// 'latin1', 'utf-8': the codecs that pickles of protocols 0 to 2 use for bytes.
bool is_latin1(std::string_view codec) {
  return codec == "latin1" || codec == "latin-1" || codec == "iso-8859-1";
}
bool is_utf8_codec(std::string_view codec) { return codec == "utf-8" || codec == "utf8"; }

bool rebuilds_tensor(Meaning meaning) {
  return meaning == Meaning::rebuild_tensor || meaning == Meaning::rebuild_tensor_v2 ||
         meaning == Meaning::rebuild_tensor_v3;
}

// The number of arguments of a Parameter's rebuild function; 0 for any other function.
std::size_t parameter_arguments(Meaning meaning) {
  return meaning == Meaning::rebuild_parameter              ? 3
         : meaning == Meaning::rebuild_parameter_with_state ? 4
                                                            : 0;
}

// ('module', class, file, source)
bool is_module_id(Value id) {
  return id.kind() == Kind::tuple && id.size() == 4 && id.item(0).kind() == Kind::string &&
         id.item(0).text() == "module";
}

bool makes_dense(Meaning meaning) {
  return rebuilds_tensor(meaning) || parameter_arguments(meaning) != 0 ||
         meaning == Meaning::rebuild_qtensor || meaning == Meaning::rebuild_device_tensor ||
         meaning == Meaning::rebuild_plugin_tensor;
}

Result<void> check_call(Value function, Value arguments) {
  if (function.kind() != Kind::global && function.kind() != Kind::object)
    return make_error(ErrorCode::pickle_type, "what is called is neither a global nor an object");
  if (arguments.kind() != Kind::tuple)
    return make_error(ErrorCode::pickle_type, "the arguments of a call are not a tuple");
  return {};
}

std::string full_name(Value global) { return str_cat(global.text(), ".", global.qualname()); }

}  // namespace

NodeId TorchObjects::add_global(std::string_view module, std::string_view qualname) {
  const NodeId node = globals_.add(tree_, module, qualname);
  if (globals_.find(node).meaning == Meaning::ordered_dict) ordered_dict_class_ = node;
  return node;
}

NodeId TorchObjects::add_bytes(std::string_view bytes) {
  if (bytes.size() > kLongBytes) return add_long_bytes(bytes);
  const std::optional<std::uint64_t> place = source_offset(bytes);
  const NodeId node = tree_.add_bytes(bytes);
  if (place) places_.emplace_back(node, *place);
  return node;
}

// Makes a tensor of the bytes where they are, or of a copy if they are not in the file in this
// form.
NodeId TorchObjects::add_long_bytes(std::string_view bytes) {
  TorchTensor tensor;
  if (const std::optional<std::uint64_t> place = source_offset(bytes)) {
    TorchStorage storage;
    storage.nbytes = storage.stored_nbytes = bytes.size();
    storage.held = source_.held;
    storage.stored_offset = source_.offset + *place;
    tensor.storage = tensors_.add_placed(std::move(storage));
  } else {
    tensor.held = static_cast<std::uint32_t>(file_.held.size());
    file_.held.emplace_back(bytes);
  }
  tensor.rank = 1;
  tensor.stored_rank = 1;
  tensor.dims = file_.dims.size();
  tensor.nbytes = bytes.size();
  file_.dims.insert(file_.dims.end(), {bytes.size(), 1, bytes.size()});
  file_.tensors.push_back(tensor);
  return tree_.add_bytes_in_tensor(static_cast<std::uint32_t>(file_.tensors.size() - 1));
}

// The place of these bytes in the pickle itself; nullopt for bytes that were decoded.
std::optional<std::uint64_t> TorchObjects::source_offset(std::string_view bytes) const {
  const std::string_view source = as_text(source_.bytes);
  const std::less_equal<const char*> not_after;
  const bool inside = !bytes.empty() && not_after(source.data(), bytes.data()) &&
                      not_after(bytes.data() + bytes.size(), source.data() + source.size());
  if (!inside) return std::nullopt;
  return static_cast<std::uint64_t>(bytes.data() - source.data());
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

// A set made by a call may share its list with others, so ADDITEMS must not reach it. Sets with
// this class node never do.
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
  const Meaning meaning = globals_.find(callable).meaning;
  if (globals_.pickler() == Pickler::script && meaning == Meaning::none) {
    const std::optional<NodeId> value = script_value(tree_, function, tuple);
    if (value) return *value;
  }
  FLATBED_TRY(check_call(function, tuple));
  const auto in_call = [&]<typename T>(Result<T> result) -> Result<T> {
    if (result) return result;
    return with_context(full_name(function), std::move(result).error());
  };
  if (makes_dense(meaning)) {
    FLATBED_ASSIGN(const std::optional<NodeId> made, dense(callable, tuple));
    return *made;
  }
  std::optional<NodeId> canonical;
  switch (meaning) {
    case Meaning::rebuild_from_type:
      return in_call(from_type(callable, tuple));
    case Meaning::numpy_frombuffer:
    case Meaning::numpy_scalar: {
      FLATBED_ASSIGN(canonical, in_call(numpy_.call(meaning, tuple)));
      break;
    }
    case Meaning::typed_tensor_class:
      if (tuple.size() == 0) break;  // BUILD sets the contents
      return in_call(typed_tensor(globals_.find(callable), tuple));
    case Meaning::load_from_bytes:
      return in_call(load_from_bytes(tuple));
    case Meaning::parameter_class:
    case Meaning::variable_class:
      canonical = variable(meaning, tuple);
      break;
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

// Python 2 passes the items as a list of lists of two.
std::optional<NodeId> TorchObjects::ordered_dict(NodeId callable, Value arguments) {
  if (arguments.size() != 1 || arguments.item(0).kind() != Kind::list) return std::nullopt;
  const Value items = arguments.item(0);
  if (!take_copies(items.size())) return std::nullopt;
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

// Gives set() and set(tuple) the form of set(list).
std::optional<NodeId> TorchObjects::set_of(NodeId callable, Value arguments) {
  const bool of_tuple = arguments.size() == 1 && arguments.item(0).kind() == Kind::tuple;
  if (arguments.size() != 0 && !of_tuple) return std::nullopt;
  if (of_tuple && !take_copies(arguments.item(0).size())) return std::nullopt;
  std::vector<NodeId> items;
  for (std::size_t i = 0; of_tuple && i < arguments.item(0).size(); ++i)
    items.push_back(arguments.item(0).item(i).id());
  const NodeId list = tree_.add_list();
  tree_.append_all(list, items);
  return tree_.add_object(callable, tree_.add_tuple(std::array{list}));
}

// Gives bytearray() and bytearray(text, codec) the form of bytearray(bytes).
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
  // The same text, decoded again and again.
  if (text.size() > decodable_nbytes_) return std::nullopt;
  decodable_nbytes_ -= text.size();
  std::string bytes;
  if (is_latin1(codec))
    return to_latin1(text, bytes) ? std::optional(add_bytes(bytes)) : std::nullopt;
  if (!is_utf8_codec(codec) || !is_utf8(text)) return std::nullopt;
  bytes = text;  // copied, because the tree's texts move when one is added
  return add_bytes(bytes);
}

// _get_layout('torch.strided') is the object torch.strided.
std::optional<NodeId> TorchObjects::layout_named(Value arguments) {
  constexpr std::string_view kModule = "torch.";
  if (arguments.size() != 1 || arguments.item(0).kind() != Kind::string) return std::nullopt;
  const std::string name(arguments.item(0).text());
  if (!name.starts_with(kModule)) return std::nullopt;
  const std::string_view layout = std::string_view(name).substr(kModule.size());
  return is_layout("torch", layout) ? std::optional(add_global("torch", layout)) : std::nullopt;
}

Result<NodeId> TorchObjects::quantized(NodeId callable, Value arguments) {
  FLATBED_ASSIGN(const std::optional<NodeId> made, tensors_.rebuild_quantized(arguments));
  return made ? *made : tree_.add_object(callable, arguments.id());
}

// A Parameter of a tensor. One of another object, such as a sparse tensor, stays a call.
Result<NodeId> TorchObjects::parameter(NodeId callable, Value arguments, std::size_t count) {
  if (arguments.size() != count)
    return make_error(ErrorCode::rebuild_malformed, "wrong number of arguments: found ",
                      arguments.size(), ", expected ", count);
  const Value data = arguments.item(0);
  if (data.kind() == Kind::object) return tree_.add_object(callable, arguments.id());
  if (data.kind() != Kind::tensor)
    return make_error(ErrorCode::rebuild_malformed, "the data is not a tensor");
  return tensors_.rebuild_parameter(data, arguments);
}

// Handles a call of a function that makes one dense tensor. nullopt if `function` is another one.
Result<std::optional<NodeId>> TorchObjects::dense(NodeId function, Value arguments) {
  const Meaning meaning = globals_.find(function).meaning;
  Result<NodeId> made = kNoNode;
  if (rebuilds_tensor(meaning)) {
    made = tensors_.rebuild(meaning, arguments);
  } else if (const std::size_t count = parameter_arguments(meaning); count != 0) {
    made = parameter(function, arguments, count);
  } else if (meaning == Meaning::rebuild_qtensor) {
    made = quantized(function, arguments);
  } else if (meaning == Meaning::rebuild_device_tensor) {
    const std::optional<NodeId> tensor = device_tensor(arguments);
    made = tensor ? *tensor : tree_.add_object(function, arguments.id());
  } else if (meaning == Meaning::rebuild_plugin_tensor) {
    const std::optional<NodeId> tensor = plugin_tensor(arguments);
    made = tensor ? *tensor : tree_.add_object(function, arguments.id());
  } else {
    return std::optional<NodeId>();
  }
  if (!made) return with_context(full_name(tree_.value(function)), std::move(made).error());
  return std::optional(*made);
}

// (function, class, arguments, state): a tensor with Python attributes, or of a subclass. For a
// subclass it stays a call whose argument is the tensor that the function makes.
Result<NodeId> TorchObjects::from_type(NodeId callable, Value arguments) {
  if (arguments.size() != 4)
    return make_error(ErrorCode::rebuild_malformed, "wrong number of arguments: found ",
                      arguments.size(), ", expected 4");
  const Value function = arguments.item(0);
  const Value type = arguments.item(1);
  const Value inner = arguments.item(2);
  const Value state = arguments.item(3);
  if (!makes_dense(globals_.find(function.id()).meaning))
    return tree_.add_object(callable, arguments.id());
  if (inner.kind() != Kind::tuple || (type.kind() != Kind::global && type.kind() != Kind::object))
    return make_error(ErrorCode::rebuild_malformed, "expected (function, class, tuple, state)");
  FLATBED_ASSIGN(const std::optional<NodeId> result, dense(function.id(), inner));
  if (tree_.value(*result).kind() != Kind::tensor)
    return tree_.add_object(callable, arguments.id());

  const Meaning type_meaning = globals_.find(type.id()).meaning;
  if (type_meaning != Meaning::tensor_class && type_meaning != Meaning::parameter_class) {
    const NodeId of_tensor = tree_.add_tuple(std::array{*result});
    const std::array parts{function.id(), type.id(), of_tensor, state.id()};
    return tree_.add_object(callable, tree_.add_tuple(parts));
  }
  const bool has_state = state.kind() != Kind::none;
  if (!has_state && type_meaning == Meaning::tensor_class) return *result;
  TensorAttributes& attributes = tree_.edit_attributes(*result);
  attributes.parameter = attributes.parameter || type_meaning == Meaning::parameter_class;
  if (has_state) attributes.state = state.id();
  return *result;
}

void TorchObjects::begin_pickle(std::uint64_t nbytes) {
  decodable_nbytes_ += nbytes;
  copies_ += nbytes;
  if (nested_streams_ == 0) max_nested_nbytes_ += nbytes * kMaxNestedRatio;
}

bool TorchObjects::take_copies(std::size_t count) {
  if (count > copies_) return false;
  copies_ -= count;
  return true;
}

Result<NodeId> TorchObjects::persistent(NodeId id) {
  const Value value = tree_.value(id);
  switch (source_.ids) {
    case PersistentIds::zip:
      return tensors_.persistent(id);
    case PersistentIds::legacy:
      if (is_module_id(value)) return module_class(value, 1);
      return tensors_.persistent(id, PersistentIds::legacy);
    case PersistentIds::tar:
      return tar_object(value);
    case PersistentIds::none:
      break;
  }
  return make_error(ErrorCode::persistent_id_malformed,
                    "a persistent id in a plain pickle: only torch.save writes them");
}

// (class, file, source): the class of a whole module, with its source code.
Result<NodeId> TorchObjects::module_class(Value id, std::size_t first) {
  const Value type = id.item(first);
  if (type.kind() != Kind::global)
    return make_error(ErrorCode::persistent_id_malformed,
                      "persistent id: its class is not a global");
  if (id.item(first + 2).kind() == Kind::string && !id.item(first + 2).text().empty())
    ++dropped_sources_;
  return type.id();
}

Result<NodeId> TorchObjects::tar_object(Value id) {
  if (id.kind() == Kind::tuple && id.size() == 3) return module_class(id, 0);
  const std::string_view text = id.text();
  std::int64_t key = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), key);
  if (id.kind() != Kind::string || error != std::errc{} || end != text.data() + text.size())
    return make_error(ErrorCode::persistent_id_malformed,
                      "persistent id: expected the decimal number of a tensor or storage");
  const std::optional<NodeId> found = find_tar_object(key);
  if (!found)
    return make_error(ErrorCode::persistent_id_malformed, "persistent id: ", key,
                      " is not a tensor or storage of the archive");
  return *found;
}

bool TorchObjects::name_tar_object(std::int64_t key, NodeId node) {
  return tar_objects_.try_emplace(key, node).second;
}

std::optional<NodeId> TorchObjects::find_tar_object(std::int64_t key) const {
  const auto found = tar_objects_.find(key);
  return found == tar_objects_.end() ? std::nullopt : std::optional(found->second);
}

// torch.FloatTensor(storage, offset, sizes, strides)
Result<NodeId> TorchObjects::typed_tensor(TorchGlobal type, Value arguments) {
  FLATBED_ASSIGN(const NodeId made, tensors_.rebuild(Meaning::rebuild_tensor, arguments));
  if (tensors_.torch_dtype(arguments.item(0)) == type.dtype) return made;
  return make_error(ErrorCode::rebuild_malformed, "a tensor class of torch.",
                    kTorchDtypes[type.dtype].name, " with a storage of another dtype");
}

// Handles Parameter(data[, requires_grad]) and Variable(data[, requires_grad, volatile]) of a
// tensor.
std::optional<NodeId> TorchObjects::variable(Meaning type, Value arguments) {
  const std::size_t count = arguments.size();
  if (count == 0 || count > 3 || arguments.item(0).kind() != Kind::tensor) return std::nullopt;
  const bool parameter = type == Meaning::parameter_class;
  const std::optional<bool> wanted =
      count == 1 ? std::optional(parameter) : arguments.item(1).as_bool();
  if (!wanted) return std::nullopt;
  TensorAttributes attributes = arguments.item(0).attributes();
  attributes.parameter = attributes.parameter || parameter;
  attributes.requires_grad = *wanted;
  return tree_.add_tensor(*arguments.item(0).tensor(), attributes);
}

// The state of an array, or of one of these:
//   torch.FloatTensor          (storage, offset, sizes, strides)
//   a Parameter or Variable    (requires_grad, volatile, hooks), or if it was made of nothing
//                              (data, gradient, hooks, requires_grad, volatile)
Result<bool> TorchObjects::build(NodeId target, NodeId state_node) {
  const Value state = tree_.value(state_node);
  const Value value = tree_.value(target);
  if (state.kind() != Kind::tuple) return false;
  FLATBED_ASSIGN(const bool array, numpy_.build(value, state));
  if (array) return true;
  if (value.kind() == Kind::tensor) return build_variable(target, state);
  if (value.kind() != Kind::object) return false;
  Value type = value.callable();
  Value arguments = value.arguments();
  const bool by_new = type.kind() == Kind::global && type.text() == "copyreg" &&
                      type.qualname() == "__newobj__" && arguments.size() != 0;
  if (by_new) type = arguments.item(0);
  if (arguments.size() != (by_new ? 1U : 0U)) return false;
  const TorchGlobal global = globals_.find(type.id());
  if (global.meaning == Meaning::typed_tensor_class) {
    FLATBED_ASSIGN(const NodeId made, typed_tensor(global, state));
    tree_.become(target, made);
    return true;
  }
  const bool variable_class =
      global.meaning == Meaning::parameter_class || global.meaning == Meaning::variable_class;
  if (!variable_class || state.size() != 5) return false;
  const NodeId data[] = {state.item(0).id(), state.item(3).id()};
  FLATBED_TRY(tensors_.read_hooks(state.item(2)));
  const std::optional<NodeId> made = variable(global.meaning, tree_.value(tree_.add_tuple(data)));
  if (!made)
    return make_error(ErrorCode::rebuild_malformed,
                      "expected (data, gradient, hooks, requires_grad, volatile)");
  tree_.become(target, *made);
  return true;
}

Result<bool> TorchObjects::build_variable(NodeId target, Value state) {
  if (state.size() != 3 || !state.item(0).as_bool()) return false;
  const bool requires_grad = *state.item(0).as_bool();
  FLATBED_TRY(tensors_.read_hooks(state.item(2)));
  tree_.edit_attributes(target).requires_grad = requires_grad;
  return true;
}

// Reads the bytes that torch.save wrote, a stream within the pickle: a storage or any other value.
Result<NodeId> TorchObjects::load_from_bytes(Value arguments) {
  const bool is_bytes = arguments.size() == 1 && arguments.item(0).kind() == Kind::bytes;
  if (!is_bytes || (arguments.item(0).tensor().value_or(0) & kStorageFlag) != 0)
    return make_error(ErrorCode::rebuild_malformed, "expected one bytes object");
  if (nested_streams_ == kMaxNestedStreams)
    return make_error(ErrorCode::pickle_limit, "streams are nested too deeply: the limit is ",
                      kMaxNestedStreams, " levels");
  const PickleSource bytes = find_bytes(arguments.item(0));
  const PickleSource outer = source_;
  const std::size_t places = places_.size();
  StorageKeys keys = tensors_.exchange_keys(StorageKeys());
  ++nested_streams_;
  PickleStream stream(bytes.bytes, bytes.held, bytes.offset);
  Result<NodeId> root = read_legacy_stream(stream, *this);
  --nested_streams_;
  tensors_.exchange_keys(std::move(keys));
  places_.resize(places);
  source_ = outer;
  nested_nbytes_ += stream.pickled_nbytes();
  if (nested_nbytes_ > max_nested_nbytes_)
    return make_error(ErrorCode::pickle_limit,
                      "nested pickles are too large together: the limit is ", max_nested_nbytes_,
                      " bytes, ", kMaxNestedRatio, " times the size of the outer pickle");
  return root;
}

// The bytes of a bytes object, where they will stay.
PickleSource TorchObjects::find_bytes(Value bytes) {
  if (!bytes.tensor()) {
    const auto place =
        std::lower_bound(places_.begin(), places_.end(), std::pair(bytes.id(), std::uint64_t{0}));
    if (place != places_.end() && place->first == bytes.id())
      return {PersistentIds::legacy,
              source_.bytes.subspan(static_cast<std::size_t>(place->second), bytes.text().size()),
              source_.held, source_.offset + place->second};
    nested_nbytes_ += bytes.text().size();
    file_.held.emplace_back(bytes.text());
    return {PersistentIds::legacy, as_bytes(file_.held.back()),
            static_cast<std::uint32_t>(file_.held.size() - 1), 0};
  }
  const TorchTensor& tensor = file_.tensors[*bytes.tensor()];
  if (tensor.storage == kNoStorage)
    return {PersistentIds::legacy, as_bytes(file_.held[tensor.held]), tensor.held, 0};
  const TorchStorage& storage = file_.storages[tensor.storage];
  if (storage.held != kNotHeld)
    return {PersistentIds::legacy, held_bytes(file_, tensor), storage.held, storage.stored_offset};
  // They are in the file, and so in this pickle: what nested streams hand out is in their own
  // bytes.
  const auto begin = static_cast<std::size_t>(storage.stored_offset - source_.offset);
  return {PersistentIds::legacy,
          source_.bytes.subspan(begin, static_cast<std::size_t>(storage.nbytes)), storage.held,
          storage.stored_offset};
}

Result<void> TorchObjects::finish() {
  FLATBED_ASSIGN(Reached reached, check_tree(tree_, file_.tensors.size()));
  for (const NodeId storage : reached.storages) keep_storage(storage, reached.tensors);
  drop_unreached(reached.tensors);
  if (tensors_.dropped_hooks() != 0)
    file_.notes.push_back(str_cat("dropped the backward hooks of ",
                                  counted(tensors_.dropped_hooks(), "tensor"),
                                  ", because hooks are code"));
  if (dropped_sources_ != 0)
    file_.notes.push_back(str_cat("dropped the Python source of ",
                                  counted(dropped_sources_, "module class", "module classes")));
  return {};
}

// A storage as a value becomes a call of its class with a tensor of all its elements.
void TorchObjects::keep_storage(NodeId storage, std::vector<bool>& reached) {
  const std::uint8_t dtype = tensors_.torch_dtype(tree_.value(storage));
  const NodeId tensor = tensors_.whole_storage(tree_.value(storage));
  // Only a hostile TorchScript archive has a dtype for which Python has no storage class.
  const NodeId value = dtype == kNoTorchDtype || kTorchDtypes[dtype].storage.empty()
                           ? add_object("torch.storage", "UntypedStorage", std::array{tensor})
                           : add_object("torch", kTorchDtypes[dtype].storage, std::array{tensor});
  tree_.become(storage, value);
  reached.resize(file_.tensors.size());
  reached[*tree_.value(tensor).tensor()] = true;
}

// A pickle may build objects and then discard them.
void TorchObjects::drop_unreached(const std::vector<bool>& reached) {
  std::vector<std::uint32_t> numbers(reached.size());
  std::uint32_t kept = 0;
  // Bytes are still needed if a reached tensor is made of them (an array of a bytes object may have
  // several), or if a storage is in them (a stream within the pickle).
  std::vector<bool> needed(file_.held.size());
  for (const TorchStorage& storage : file_.storages) {
    if (storage.held != kNotHeld) needed[storage.held] = true;
  }
  for (std::size_t i = 0; i < reached.size(); ++i) {
    numbers[i] = kept;
    if (!reached[i]) continue;
    file_.tensors[kept++] = file_.tensors[i];
    if (file_.tensors[i].storage == kNoStorage) needed[file_.tensors[i].held] = true;
  }
  for (std::size_t i = 0; i < needed.size(); ++i) {
    if (!needed[i]) file_.held[i] = {};
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
