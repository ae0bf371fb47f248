// The keys of dicts and the items of sets, as they will be once converted: each must stay hashable,
// and no two may become equal. Otherwise torch would lose one, or could not load the file.
#include <bit>
#include <cmath>
#include <complex>
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
#include "value/numpy_scalar.hpp"

namespace flatbed::pth {

namespace {

constexpr std::size_t kMaxKeyText = 1 << 20;  // of one key: tuples may share items many times
constexpr std::size_t kMaxKeyDepth = 64;

// Python's ints, bools and floats are equal if their values are.
void append_real_key(std::string& out, double value) {
  constexpr double kBound = 9223372036854775808.0;  // 2^63
  if (std::isfinite(value) && value == std::trunc(value) && std::fabs(value) < kBound) {
    out += str_cat("i", static_cast<std::int64_t>(value), ";");
    return;
  }
  out += str_cat("r", hex16(std::bit_cast<std::uint64_t>(value)), ";");
}

void append_big_key(std::string& out, std::uint64_t value) {
  if (value <= INT64_MAX) {
    out += str_cat("i", value, ";");
  } else {
    out += str_cat("x", hex(value), ";");
  }
}

void append_text_key(std::string& out, char kind, std::string_view text) {
  out += kind;
  out += str_cat(text.size(), ":", text);
}

void append_scalar_key(std::string& out, const ScalarValue& value) {
  if (const auto* boolean = std::get_if<bool>(&value)) {
    out += *boolean ? "i1;" : "i0;";
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    out += str_cat("i", *integer, ";");
  } else if (const auto* big = std::get_if<std::uint64_t>(&value)) {
    append_big_key(out, *big);
  } else if (const auto* real = std::get_if<double>(&value)) {
    append_real_key(out, *real);
  } else if (const auto* complex = std::get_if<std::complex<double>>(&value)) {
    append_real_key(out, complex->real());
    if (complex->imag() != 0) append_real_key(out += "j", complex->imag());
  } else if (const auto* text = std::get_if<UnicodeText>(&value)) {
    append_text_key(out, 's', text->wtf8);
  } else if (const auto* bytes = std::get_if<std::string>(&value)) {
    append_text_key(out, 'b', *bytes);
  }
}

bool is_nan(const ScalarValue& value) {
  const auto* real = std::get_if<double>(&value);
  return real != nullptr && std::isnan(*real);
}

// Key `index` of a dict or an object, or item `index` of a set's list.
Value key_of(Value container, std::size_t index) {
  const bool pairs = container.kind() == Kind::dict || container.kind() == Kind::object;
  return pairs ? container.key(index) : container.item(index);
}

bool is_named(Value global, std::string_view module, std::string_view name) {
  return global.kind() == Kind::global && global.text() == module && global.qualname() == name;
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
  switch (key.kind()) {
    case Kind::none:
      out += "N;";
      return {};
    case Kind::boolean:
      out += *key.as_bool() ? "i1;" : "i0;";
      return {};
    case Kind::integer:
      out += str_cat("i", *key.as_int(), ";");
      return {};
    case Kind::big_integer:
      out += str_cat("x", key.text(), ";");
      return {};
    case Kind::real:
      if (std::isnan(*key.as_real())) break;
      append_real_key(out, *key.as_real());
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
    case Kind::scalar: {
      const std::optional<ScalarValue> value = scalar_value(key.text(), key.raw());
      if (!value || is_nan(*value)) break;
      append_scalar_key(out, *value);
      return {};
    }
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
      return unhashable(key.kind() == Kind::list   ? "a list"
                        : key.kind() == Kind::dict ? "a dict"
                                                   : "a numpy array");
    case Kind::tensor:
      break;
  }
  out += str_cat("o", key.id(), ";");  // equal to nothing but itself
  return {};
}

Result<void> TreePickler::append_object_key(std::string& out, Value key, std::size_t depth) const {
  if (is_unhashable(key)) {
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
  const bool made_by_name = key.is_bare_call() && key.callable().kind() == Kind::global;
  if (!made_by_name || !allows_object(key)) {
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

// Tuples may share what is in them, and then take far more text than the tree has nodes.
Result<void> TreePickler::take_key_room(Value key, std::size_t nbytes) {
  if (key.kind() != Kind::tuple && key.kind() != Kind::object) return {};
  if (nbytes > key_room_)
    return fail(ErrorCode::limit_exceeded, "keys that are too long together to check");
  key_room_ -= nbytes;
  return {};
}

// The keys of a dict or of an object, or the items of a set's list.
Result<void> TreePickler::check_keys(Value container) {
  if (options_.unsafe_objects == UnsafeObjects::keep) return {};
  const std::size_t size = container.size();
  const auto all = [&](Kind kind) {
    for (std::size_t i = 0; i < size; ++i) {
      if (key_of(container, i).kind() != kind) return false;
    }
    return true;
  };
  // The reader refused equal ones.
  if (size == 0 || all(Kind::string) || all(Kind::integer)) return {};
  std::vector<std::string> keys(size);
  NameIndex seen(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    const Value key = key_of(container, i);
    FLATBED_TRY(append_key(keys[i], key, 0));
    FLATBED_TRY(take_key_room(key, keys[i].size()));
    const auto first =
        seen.insert(keys[i], i, [&](std::uint32_t n) { return std::string_view(keys[n]); });
    if (!first) continue;
    return fail(ErrorCode::weights_only_refused,
                container.kind() == Kind::list ? "items " : "keys ", *first, " (",
                key_name(key_of(container, *first)), ") and ", i, " (", key_name(key),
                ") would become equal, and one of them would be lost");
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
