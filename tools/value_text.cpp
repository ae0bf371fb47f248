#include "value_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "element_text.hpp"
#include "format_text.hpp"
#include "python_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kLineColumns = 72;  // a container with longer items gets its own lines
constexpr std::size_t kStringLimit = 80;  // code points of a string that are shown
constexpr std::size_t kBytesLimit = 16;   // bytes of a `bytes` object that are shown
constexpr int kInlineDepth = 3;           // containers within containers on one line

bool is_leaf(Kind kind) {
  return kind != Kind::list && kind != Kind::tuple && kind != Kind::dict && kind != Kind::object &&
         kind != Kind::tensor && kind != Kind::array;
}

std::string tensor_node_text(Value value, std::span<const TensorInfo> tensors) {
  const std::optional<std::uint32_t> index = value.tensor();
  std::string text = index && *index < tensors.size() ? tensor_text(tensors[*index]) : "not loaded";
  if (value.kind() == Kind::array) return fmt::format("{} numpy {}", text, safe_text(value.text()));
  const TensorAttributes& attributes = value.attributes();
  if (!attributes.dtype.empty()) text += fmt::format(" as {}", safe_text(attributes.dtype));
  if (attributes.parameter) text += " parameter";
  if (attributes.requires_grad) text += " requires_grad";
  if (!attributes.device.empty()) text += fmt::format(" {}", safe_text(attributes.device));
  if (attributes.shape) text += fmt::format(" {}", shape_text(*attributes.shape));
  if (attributes.quantizer != kNoNode) {
    const Value quantizer = value.node(attributes.quantizer);
    if (quantizer.kind() == Kind::tuple && quantizer.size() != 0 &&
        quantizer.item(0).kind() == Kind::global)
      text += fmt::format(" {}", safe_text(quantizer.item(0).qualname()));
  }
  if (attributes.state != kNoNode) text += " with Python attributes";
  return text;
}

std::string bytes_text(Value value, std::span<const TensorInfo> tensors) {
  if (const std::optional<std::uint32_t> index = value.tensor()) {
    const std::uint64_t nbytes = *index < tensors.size() ? tensors[*index].nbytes : 0;
    return fmt::format("bytes ({})", number_text(nbytes));
  }
  const std::string_view bytes = value.text();
  std::string out = "b'";
  for (const char byte : bytes.substr(0, kBytesLimit)) {
    fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(byte));
  }
  if (bytes.size() <= kBytesLimit) return out + "'";
  return fmt::format("{}…' ({} bytes)", out, number_text(bytes.size()));
}

std::string big_integer_text(std::string_view hex) {
  const bool negative = hex.starts_with('-');
  return fmt::format("{}0x{}", negative ? "-" : "", hex.substr(negative ? 1 : 0));
}

std::string leaf_text(Value value, std::span<const TensorInfo> tensors) {
  switch (value.kind()) {
    case Kind::boolean:
      return value.as_bool().value_or(false) ? "True" : "False";
    case Kind::integer:
      return fmt::format("{}", value.as_int().value_or(0));
    case Kind::big_integer:
      return big_integer_text(value.text());
    case Kind::real:
      return real_text(value.as_real().value_or(0));
    case Kind::string:
      return quoted_text(value.text(), kStringLimit);
    case Kind::bytes:
      return bytes_text(value, tensors);
    case Kind::global:
      return short_name(value);
    case Kind::scalar:
      return scalar_text(value.text(), value.raw());
    case Kind::tensor:
    case Kind::array:
      return tensor_node_text(value, tensors);
    default:
      return "None";
  }
}

std::optional<std::string> small_text(Value value, const TextContext& context, int depth);

std::string key_text(Value key);

// "1, 2, 3" if all items are leaves or small containers of leaves. A long run of leaves is cut and
// its count added.
std::optional<std::string> items_text(Value list, const TextContext& context, int depth) {
  std::string out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Value item = list.item(i);
    if (columns(out) > kLineColumns) {
      for (std::size_t rest = i; rest < list.size(); ++rest) {
        if (!is_leaf(list.item(rest).kind())) return std::nullopt;
      }
      return out + fmt::format(", … {} in all", number_text(list.size()));
    }
    const std::optional<std::string> text = small_text(item, context, depth + 1);
    if (!text) return std::nullopt;
    out += (i == 0 ? "" : ", ") + *text;
  }
  return out;
}

std::optional<std::string> pairs_text(Value dict, const TextContext& context, int depth);

// Joins `count` values: "1, 2".
template <typename At>
std::optional<std::string> run_text(std::size_t count, At at, const TextContext& context,
                                    int depth) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    const std::optional<std::string> text = small_text(at(i), context, depth + 1);
    if (!text) return std::nullopt;
    out += (i == 0 ? "" : ", ") + *text;
    if (columns(out) > kLineColumns) return std::nullopt;
  }
  return out;
}

// The attributes of an object: "lr=0.001, name='x'".
std::optional<std::string> state_text(Value state, const TextContext& context, int depth) {
  if (state.kind() != Kind::dict || (context.shared && context.shared(state.id())))
    return std::nullopt;
  std::string out;
  for (std::size_t i = 0; i < state.size(); ++i) {
    const Value key = state.key(i);
    const std::optional<std::string> text = small_text(state.item(i), context, depth + 1);
    if (key.kind() != Kind::string || !text) return std::nullopt;
    out += fmt::format("{}{}={}", i == 0 ? "" : ", ", key_text(key), *text);
    if (columns(out) > kLineColumns) return std::nullopt;
  }
  return out;
}

// Sets: "{1, 2}" and "frozenset({1})".
std::optional<std::string> set_text(Value object, const TextContext& context, int depth) {
  const std::string name = short_name(object);
  if ((name != "set" && name != "frozenset") || object.arguments().size() != 1 ||
      object.arguments().item(0).kind() != Kind::list)
    return std::nullopt;
  const Value list = object.arguments().item(0);
  if (context.shared && context.shared(list.id())) return std::nullopt;
  if (list.size() == 0) return name + "()";
  const std::optional<std::string> items = items_text(list, context, depth);
  if (!items) return std::nullopt;
  return name == "set" ? fmt::format("{{{}}}", *items) : fmt::format("frozenset({{{}}})", *items);
}

// An object as Python writes it: Class(arguments, [items], {pairs}, attribute=value).
std::optional<std::string> small_object_text(Value object, const TextContext& context, int depth) {
  if (std::optional<std::string> text = known_text(object)) return text;
  const Value arguments = object.arguments();
  std::vector<std::optional<std::string>> parts;
  if (object.size() == 0 && object.appended_size() == 0 && !object.state()) {
    if (std::optional<std::string> text = set_text(object, context, depth)) return text;
  }
  std::size_t first = is_instance(object) ? 1 : 0;
  if (const std::optional<std::string> moment = moment_text(object)) {
    parts.push_back(moment);
    first = 1;
  }
  if (arguments.size() > first) {
    parts.push_back(run_text(
        arguments.size() - first, [&](std::size_t i) { return arguments.item(first + i); }, context,
        depth));
  }
  if (object.appended_size() != 0) {
    const auto items = run_text(
        object.appended_size(), [&](std::size_t i) { return object.appended(i); }, context, depth);
    parts.push_back(items ? std::optional("[" + *items + "]") : std::nullopt);
  }
  if (object.size() != 0) {
    const std::optional<std::string> pairs = pairs_text(object, context, depth);
    parts.push_back(pairs ? std::optional("{" + *pairs + "}") : std::nullopt);
  }
  if (const std::optional<Value> state = object.state())
    parts.push_back(state_text(*state, context, depth));
  std::string out;
  for (const std::optional<std::string>& part : parts) {
    if (!part) return std::nullopt;
    if (!part->empty()) out += (out.empty() ? "" : ", ") + *part;
  }
  if (columns(out) > kLineColumns) return std::nullopt;
  return fmt::format("{}({})", short_name(object), out);
}

// "lr: 0.1, nesterov: False" if the pairs fit on a line.
std::optional<std::string> pairs_text(Value dict, const TextContext& context, int depth) {
  std::string out;
  for (std::size_t i = 0; i < dict.size(); ++i) {
    if (!is_leaf(dict.key(i).kind())) return std::nullopt;  // keys start a recursion of their own
    const std::optional<std::string> text = small_text(dict.item(i), context, depth + 1);
    if (!text) return std::nullopt;
    out += fmt::format("{}{}: {}", i == 0 ? "" : ", ", key_text(dict.key(i)), *text);
    if (columns(out) > kLineColumns) return std::nullopt;
  }
  return out;
}

// Recursion ends at kInlineDepth.
std::optional<std::string> small_text(Value value, const TextContext& context, int depth) {
  if (context.folded && depth > 0) value = config_value(value);
  const Kind kind = value.kind();
  if (is_leaf(kind)) return leaf_text(value, context.tensors);
  if (kind == Kind::tensor || kind == Kind::array || depth == kInlineDepth) return std::nullopt;
  if (depth > 0 && context.shared && context.shared(value.id())) return std::nullopt;
  if (kind == Kind::object) return small_object_text(value, context, depth);
  if (kind == Kind::dict) {
    const std::optional<std::string> pairs = pairs_text(value, context, depth);
    return pairs ? std::optional(fmt::format("{{{}}}", *pairs)) : std::nullopt;
  }
  const std::optional<std::string> items = items_text(value, context, depth);
  if (!items) return std::nullopt;
  if (kind == Kind::list) return fmt::format("[{}]", *items);
  return fmt::format("({}{})", *items, value.size() == 1 ? "," : "");
}

bool plain_key(std::string_view key) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-' || c == '/';
  };
  if (key.empty() || (key[0] >= '0' && key[0] <= '9') || key[0] == '-') return false;
  if (key == "None" || key == "True" || key == "False") return false;
  return std::all_of(key.begin(), key.end(), plain);
}

// A str key without quotes, if that cannot be mistaken for another value.
std::string key_text(Value key) {
  if (key.kind() == Kind::string && plain_key(key.text())) return std::string(key.text());
  return inline_text(key, {}).value_or(is_leaf(key.kind()) ? "" : head_text(key));
}

}  // namespace

std::vector<Entry> entries(Value container) {
  std::vector<Entry> out;
  const Kind kind = container.kind();
  if (kind == Kind::list || kind == Kind::tuple) {
    for (std::size_t i = 0; i < container.size(); ++i) {
      out.push_back({fmt::format("{}", i), container.item(i)});
    }
    return out;
  }
  if (kind == Kind::object) {
    const Value arguments = container.arguments();
    for (std::size_t i = is_instance(container) ? 1 : 0; i < arguments.size(); ++i) {
      out.push_back({fmt::format("argument {}", i), arguments.item(i)});
    }
    for (std::size_t i = 0; i < container.appended_size(); ++i) {
      out.push_back({fmt::format("{}", i), container.appended(i)});
    }
  }
  for (std::size_t i = 0; i < container.size(); ++i) {
    out.push_back({key_text(container.key(i)), container.item(i)});
  }
  if (kind == Kind::object) {
    if (const std::optional<Value> state = container.state()) out.push_back({"state", *state});
  }
  return out;
}

std::optional<std::string> inline_text(Value value, const TextContext& context) {
  if (value.kind() == Kind::tensor || value.kind() == Kind::array) {
    return leaf_text(value, context.tensors);
  }
  return small_text(value, context, 0);
}

Value config_value(Value value) {
  constexpr std::size_t kAttributes = 8;
  if (value.kind() != Kind::object || !is_instance(value)) return value;
  const std::optional<Value> state = value.state();
  if (!value.arguments().item(0).text().starts_with("omegaconf.") || !state ||
      state->kind() != Kind::dict || state->size() > kAttributes)
    return value;
  for (std::size_t i = 0; i < state->size(); ++i) {
    const std::string_view name = state->key(i).text();
    if (name == "_content" || name == "_val") return state->item(i);
  }
  return value;
}

std::string head_text(Value container) {
  switch (container.kind()) {
    case Kind::list:
      return fmt::format("list ({})", container.size());
    case Kind::tuple:
      return fmt::format("tuple ({})", container.size());
    case Kind::dict:
      return fmt::format("dict ({})", container.size());
    default:
      break;
  }
  const std::size_t held = container.size() + container.appended_size();
  return held == 0 ? short_name(container) : fmt::format("{} ({})", short_name(container), held);
}

std::string class_name(Value value) {
  if (value.kind() == Kind::global) {
    return fmt::format("{}.{}", safe_text(value.text()), safe_text(value.qualname()));
  }
  const Value callable = value.callable();
  if (callable.kind() != Kind::global) return "object";
  // copyreg's functions make an instance of the class that is their first argument.
  const Value arguments = value.arguments();
  const bool reconstructed = callable.text() == "copyreg" && arguments.size() > 0 &&
                             arguments.item(0).kind() == Kind::global;
  return class_name(reconstructed ? arguments.item(0) : callable);
}

bool is_tensor(Value value) {
  if (value.kind() == Kind::tensor) return true;
  const Value function = value.callable();
  const bool torch = function.text() == "torch._tensor" || function.text() == "torch.tensor";
  return torch && function.qualname().starts_with("_rebuild_from_type");
}

}  // namespace flatbed::tool
