// The keys of dicts and the items of sets, as they will be once converted: each must stay hashable,
// and no two may be or become equal. Otherwise torch would lose one, or could not load the file.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/str_cat.hpp"
#include "io/name_index.hpp"
#include "torch/tree_pickler.hpp"
#include "torch/weights_only.hpp"
#include "value/key_text.hpp"
#include "value/number_key.hpp"
#include "value/numpy_scalar.hpp"

namespace flatbed::pth {

namespace {

constexpr std::size_t kMaxKeyText = 1 << 20;  // of one key: tuples may share items many times
constexpr std::size_t kMaxKeyDepth = 64;

void append_number(std::string& out, const NumberKey& number) {
  constexpr std::string_view kForms = "iurx";  // one letter for each form
  out += kForms[static_cast<std::size_t>(number.form)];
  out += str_cat(number.bits, number.hex);
  if (number.imaginary != 0) out += str_cat("j", number.imaginary);
  out += ';';
}

void append_text_key(std::string& out, char kind, std::string_view text) {
  out += kind;
  out += str_cat(text.size(), ":", text);
}

// A numpy scalar that is a text or bytes equals Python's. Returns false for others.
bool append_scalar_text(std::string& out, Value scalar) {
  const std::optional<ScalarValue> value = scalar_value(scalar.text(), scalar.raw());
  if (!value) return false;
  const auto* text = std::get_if<UnicodeText>(&*value);
  const auto* bytes = std::get_if<std::string>(&*value);
  if (text != nullptr) append_text_key(out, 's', text->wtf8);
  if (bytes != nullptr) append_text_key(out, 'b', *bytes);
  return text != nullptr || bytes != nullptr;
}

bool is_named(Value global, std::string_view module, std::string_view name) {
  return global.kind() == Kind::global && global.text() == module && global.qualname() == name;
}

// Appends the keys that a call takes from its argument: the items of a set or a Counter, and the
// first of each pair that makes an OrderedDict in Python 2's form.
void append_made_keys(std::vector<Value>& keys, Value argument, bool from_pairs) {
  const auto is_sequence = [](Value value) {
    return value.kind() == Kind::list || value.kind() == Kind::tuple;
  };
  const auto add = [&](Value item) {
    const bool pair = from_pairs && is_sequence(item) && item.size() == 2;
    keys.push_back(pair ? item.item(0) : item);
  };
  if (is_sequence(argument)) std::ranges::for_each(argument.items(), add);
  for (const auto [key, item] : argument.pairs()) keys.push_back(key);
  for (std::size_t i = 0; i < argument.appended_size(); ++i) add(argument.appended(i));
}

// Whether two results of this callable are equal if its arguments are.
bool is_equal_by_value(Value callable) {
  return is_named(callable, "torch", "Size") || is_named(callable, "torch", "device") ||
         is_named(callable, "builtins", "complex") || is_named(callable, "_codecs", "encode") ||
         is_named(callable, "torch.serialization", "_get_layout");
}

// Whether a key may become another value when its objects are converted. A complex number does not.
bool may_be_converted(Value key) {
  return key.kind() == Kind::tuple || (key.kind() == Kind::object && !number_key(key));
}

bool is_unhashable(Value object) {
  const Value made = class_of(object);
  if (made.kind() != Kind::global) return false;
  const std::string_view name = made.qualname();
  if (made.text() == "builtins")
    return name == "set" || name == "frozenset" || name == "bytearray" || name == "dict" ||
           name == "list";
  if (made.text() == "collections")
    return name == "OrderedDict" || name == "Counter" || name == "defaultdict" || name == "deque";
  return is_named(made, "argparse", "Namespace") || is_named(made, "types", "SimpleNamespace") ||
         object.size() != 0 || TorchModule::of(object).has_value();
}

}  // namespace

bool TreePickler::is_set(Value object) {
  const Value made = object.callable();
  return (is_named(made, "builtins", "set") || is_named(made, "builtins", "frozenset")) &&
         object.arguments().size() == 1;
}

// Appends a text that is the same for keys that will be equal in Python.
Result<void> TreePickler::append_key(std::string& out, Value key, std::size_t depth) const {
  if (out.size() > kMaxKeyText || depth > kMaxKeyDepth)
    return fail(ErrorCode::limit_exceeded, "a key that is nested too deeply or too long to check");
  if (const std::optional<NumberKey> number = number_key(key)) {
    append_number(out, *number);
    return {};
  }
  switch (key.kind()) {
    case Kind::none:
      out += "N;";
      return {};
    case Kind::string:
      append_text_key(out, 's', key.text());
      return {};
    case Kind::bytes:
      if (!key.tensor()) append_text_key(out, 'b', key.text());
      if (key.tensor()) out += str_cat("B", *key.tensor(), ";");
      return {};
    case Kind::global:
      append_text_key(out, 'g', key.text());
      append_text_key(out, '.', key.qualname());
      return {};
    case Kind::scalar:
      if (append_scalar_text(out, key)) return {};
      break;
    case Kind::tuple:
      out += str_cat("t", key.size(), "(");
      for (const Value item : key.items()) FLATBED_TRY(append_key(out, item, depth + 1));
      out += ')';
      return {};
    case Kind::object:
      return append_object_key(out, key, depth);
    case Kind::list:
    case Kind::dict:
    case Kind::array:
      if (keeps()) break;
      return unhashable(key.kind() == Kind::list   ? "a list"
                        : key.kind() == Kind::dict ? "a dict"
                                                   : "a numpy array");
    default:  // tensors and NaNs
      break;
  }
  out += str_cat("o", key.id(), ";");  // equal to nothing but itself
  return {};
}

Result<void> TreePickler::append_object_key(std::string& out, Value key, std::size_t depth) const {
  const bool hashable = !is_unhashable(key);
  if (!hashable && !keeps()) {
    const Value made = class_of(key);
    return unhashable(TorchModule::of(key) ? str_cat("whole model ", full_name(made))
                                           : full_name(made));
  }
  if (options_.unsafe_objects == UnsafeObjects::convert) {
    if (const std::optional<std::string> path = path_text(key)) {
      append_text_key(out, 's', *path);
      return {};
    }
  }
  if (!hashable || !key.is_bare_call() || !is_equal_by_value(key.callable())) {
    out += str_cat("o", key.id(), ";");
    return {};
  }
  const Value arguments = key.arguments();
  // torch.Size is a tuple.
  if (is_named(key.callable(), "torch", "Size") && arguments.size() == 1)
    return append_key(out, arguments.item(0), depth + 1);
  append_text_key(out, 'c', full_name(key.callable()));
  for (const Value argument : arguments.items()) FLATBED_TRY(append_key(out, argument, depth + 1));
  out += ')';
  return {};
}

Error TreePickler::unhashable(std::string_view what) const {
  return fail(ErrorCode::weights_only_refused, what,
              " as a key of a dict or an item of a set, which torch.load(weights_only=True) "
              "cannot make");
}

// Tuples and lists may be shared, and then take far more room than the tree has nodes.
Result<void> TreePickler::take_key_room(std::size_t room) {
  if (room > key_room_)
    return fail(ErrorCode::limit_exceeded, "keys that are too long together to check");
  key_room_ -= room;
  return {};
}

// The keys of a dict or an object, or the items of a set.
Result<void> TreePickler::check_keys(Value container) {
  const bool ordered = is_named(container.callable(), "collections", "OrderedDict");
  const bool keyed =
      is_set(container) || ordered || is_named(container.callable(), "collections", "Counter");
  std::vector<Value> keys;
  if (keyed && container.arguments().size() != 0) {
    append_made_keys(keys, container.arguments().item(0), ordered);
    FLATBED_TRY(take_key_room(keys.size()));
  }
  const auto all = [&](Kind kind) {
    const auto is_kind = [kind](Value key) { return key.kind() == kind; };
    return std::ranges::all_of(keys, is_kind) &&
           std::ranges::all_of(container.pairs(), is_kind, &ValuePair::key);
  };
  // The reader refused equal keys, unless they are in an argument; equal items are no loss.
  const bool plain = keys.empty() || !ordered;
  if (plain && (all(Kind::string) || all(Kind::integer))) return {};
  for (const auto [key, item] : container.pairs()) keys.push_back(key);
  return check_all_differ(keys, is_set(container) ? "items " : "keys ");
}

Result<void> TreePickler::check_all_differ(std::span<const Value> keys, std::string_view called) {
  std::vector<std::string> texts(keys.size());
  NameIndex seen(keys.size());
  for (std::uint32_t i = 0; i < keys.size(); ++i) {
    FLATBED_TRY(append_key(texts[i], keys[i], 0));
    if (keys[i].kind() == Kind::tuple || keys[i].kind() == Kind::object)
      FLATBED_TRY(take_key_room(texts[i].size()));
    const auto first =
        seen.insert(texts[i], i, [&](std::uint32_t n) { return std::string_view(texts[n]); });
    if (!first) continue;
    const bool equal = keeps() || (!may_be_converted(keys[*first]) && !may_be_converted(keys[i]));
    return fail(equal ? ErrorCode::tree_not_representable : ErrorCode::weights_only_refused, called,
                *first, " (", key_name(keys[*first]), ") and ", i, " (", key_name(keys[i]),
                equal ? ") are equal in Python" : ") would become equal",
                ", and one of them would be lost");
  }
  return {};
}

std::string TreePickler::key_name(Value key) {
  if (key.kind() == Kind::string) return quoted(key.text());
  if (key.kind() == Kind::scalar) return str_cat("a numpy scalar of ", quoted(key.text()));
  if (const std::optional<std::string> text = key_text(key)) return *text;
  const Value made = class_of(key);
  return key.kind() == Kind::object && made.kind() == Kind::global ? full_name(made)
         : key.kind() == Kind::tuple                               ? "a tuple"
                                                                   : "an object";
}

}  // namespace flatbed::pth
