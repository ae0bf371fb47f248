// Objects that weights_only refuses: the error that names them, and their conversions.
#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "base/str_cat.hpp"
#include "torch/tree_pickler.hpp"
#include "torch/weights_only.hpp"

namespace flatbed::pth {

namespace {

std::string object_name(Value object) {
  const Value made = class_of(object);
  return made.kind() == Kind::global ? full_name(made) : "an object made by the result of a call";
}

bool is_class(Value object, std::string_view module, std::string_view name) {
  const Value made = class_of(object);
  return made.kind() == Kind::global && made.text() == module && made.qualname() == name;
}

}  // namespace

Error TreePickler::refused(std::string_view what) const {
  return fail(ErrorCode::weights_only_refused, what,
              ", which torch.load(weights_only=True) refuses");
}

void TreePickler::report(std::string_view from, std::string_view to) {
  Conversion& conversion = conversions_[str_cat(from, " became ", to)];
  if (conversion.times++ == 0) conversion.first = place();
}

Result<void> TreePickler::convert(Value value) {
  if (const std::optional<TorchModule> module = TorchModule::of(value)) {
    if (editable_ != nullptr) return convert_module(*module);
    return refused(str_cat("whole model ", object_name(value), " (not its state dict)"));
  }
  if (options_.unsafe_objects == UnsafeObjects::convert) {
    using Convert = Result<bool> (TreePickler::*)(Value);
    constexpr std::array<Convert, 5> kConversions{
        &TreePickler::convert_set, &TreePickler::convert_namespace, &TreePickler::convert_path,
        &TreePickler::convert_deque, &TreePickler::convert_mapping};
    for (const Convert conversion : kConversions) {
      FLATBED_ASSIGN(const bool converted, (this->*conversion)(value));
      if (converted) return {};
    }
  }
  return refused(object_name(value));
}

// The module becomes the OrderedDict of its state, here and wherever it is referred to.
Result<void> TreePickler::convert_module(const TorchModule& module) {
  const NodeId id = module.object().id();
  Result<StateDict> weights = state_dict(module);
  if (!weights) return with_context(place(), std::move(weights).error());
  report(str_cat("whole model ", object_name(module.object())), "its state dict");
  std::ranges::move(weights->notes, std::back_inserter(notes_));
  editable_->become(id, add_state_dict(*editable_, *weights));
  visits_.resize(tree_.size(), 1);
  memo_.resize(tree_.size(), kUnseen);
  push_object(tree_.value(id));
  return {};
}

// Writes frozenset([...]) as set([...]).
Result<bool> TreePickler::convert_set(Value value) {
  if (!is_set(value) || !value.is_bare_call()) return false;
  report("builtins.frozenset", "set");
  out_.global("builtins", "set");
  push({{.what = Do::emit, .op = Op::reduce}, {.what = Do::remember, .node = value.id()}});
  tuple_from(value.arguments(), 0);
  return true;
}

// An object that consists only of attributes becomes a dict of them.
Result<bool> TreePickler::convert_namespace(Value value) {
  if (!is_class(value, "argparse", "Namespace") && !is_class(value, "types", "SimpleNamespace"))
    return false;
  const std::optional<Value> state = value.state();
  if (value.size() != 0 || value.appended_size() != 0 || (state && state->kind() != Kind::dict))
    return false;
  FLATBED_TRY(leave_out(value, value.arguments(), "arguments"));
  if (state) FLATBED_TRY(check_keys(*state));
  report(object_name(value), "dict");
  out_.op(Op::empty_dict);
  remember(value.id());
  if (state) push({{.what = Do::pairs, .node = state->id()}});
  return true;
}

// The parts of a path, joined; nullopt for any other object.
std::optional<std::string> TreePickler::path_text(Value value) {
  const Value made = class_of(value);
  const bool path = made.kind() == Kind::global &&
                    (made.text() == "pathlib" || made.text() == "pathlib._local") &&
                    made.qualname().ends_with("Path");
  if (!path || !value.is_bare_call()) return std::nullopt;
  const char separator = made.qualname().find("Windows") != std::string_view::npos ? '\\' : '/';
  std::string text;
  for (std::size_t i = 0; i < value.arguments().size(); ++i) {
    const Value part = value.arguments().item(i);
    if (part.kind() != Kind::string) return std::nullopt;
    // The first part of an absolute path ends in a separator of its own.
    if (!text.empty() && text.back() != separator) text += separator;
    text += part.text();
  }
  return text.empty() ? "." : text;
}

Result<bool> TreePickler::convert_path(Value value) {
  const std::optional<std::string> text = path_text(value);
  if (!text) return false;
  report(object_name(value), "str");
  out_.text(*text);
  remember(value.id());
  return true;
}

// deque(items, maxlen). Pickling gives no items here.
Result<bool> TreePickler::convert_deque(Value value) {
  if (!is_class(value, "collections", "deque") || value.size() != 0 || value.state()) return false;
  const Value arguments = value.arguments();
  const Value items = arguments.item(0);
  const bool sequence = items.kind() == Kind::list || items.kind() == Kind::tuple;
  if (arguments.size() != 0 && (!sequence || items.size() != 0)) return false;
  FLATBED_TRY(leave_out(value, arguments, "arguments"));
  report("collections.deque", "list");
  out_.op(Op::empty_list);
  remember(value.id());
  push({{.what = Do::appended, .node = value.id()}});
  return true;
}

// Whether a tensor, or bytes or an array that are stored as one, can be reached. No node is
// searched twice: a tensor that is found ends the writing with an error.
bool TreePickler::finds_tensors(Value value) {
  without_tensors_.resize(tree_.size());
  std::vector<NodeId> pending{value.id()};
  while (!pending.empty()) {
    const NodeId id = pending.back();
    pending.pop_back();
    if (id == kNoNode || without_tensors_[id]) continue;
    if (tree_.value(id).tensor()) return true;
    without_tensors_[id] = true;
    count_children(tree_.value(id), pending);
  }
  return false;
}

// What a conversion does not write must hold no tensors.
Result<void> TreePickler::leave_out(Value object, Value part, std::string_view what) {
  if (!finds_tensors(part)) return {};
  return refused(str_cat(object_name(object), ", whose ", what, " hold tensors"));
}

// defaultdict, and subclasses of dict and OrderedDict: becomes their pairs.
Result<bool> TreePickler::convert_mapping(Value value) {
  const bool known = is_class(value, "collections", "defaultdict") ||
                     is_class(value, "collections", "OrderedDict");
  if (value.appended_size() != 0 || (!known && value.size() == 0)) return false;
  // What stands after the factory or the class would make pairs.
  if (known && value.arguments().size() > 1) return false;
  const std::optional<Value> state = value.state();
  FLATBED_TRY(leave_out(value, value.arguments(), "arguments"));
  if (state) FLATBED_TRY(leave_out(value, *state, "attributes"));
  report(object_name(value), state ? "dict, without its attributes" : "dict");
  out_.op(Op::empty_dict);
  remember(value.id());
  push({{.what = Do::pairs, .node = value.id()}});
  return true;
}

}  // namespace flatbed::pth
