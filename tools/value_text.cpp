#include "value_text.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "element_text.hpp"
#include "format_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::size_t kLineColumns = 72;  // a container whose items need more gets lines of its own
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
      return class_name(value);
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

// "1, 2, 3" when all items are leaves or small containers of leaves. A long run of leaves is cut
// with its count.
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

std::optional<std::string> small_object_text(Value object, const TextContext& context, int depth) {
  if (object.size() != 0 || object.appended_size() != 0 || object.state()) return std::nullopt;
  const std::optional<std::string> arguments = items_text(object.arguments(), context, depth);
  if (!arguments || columns(*arguments) > kLineColumns) return std::nullopt;
  return fmt::format("{}({})", class_name(object), *arguments);
}

// "lr: 0.1, nesterov: False" when the pairs fit a line.
std::optional<std::string> pairs_text(Value dict, const TextContext& context, int depth) {
  std::string out;
  for (std::size_t i = 0; i < dict.size(); ++i) {
    if (!is_leaf(dict.key(i).kind())) return std::nullopt;  // keys begin a recursion of their own
    const std::optional<std::string> text = small_text(dict.item(i), context, depth + 1);
    if (!text) return std::nullopt;
    out += fmt::format("{}{}: {}", i == 0 ? "" : ", ", key_text(dict.key(i)), *text);
    if (columns(out) > kLineColumns) return std::nullopt;
  }
  return out;
}

// Recursion ends at kInlineDepth.
std::optional<std::string> small_text(Value value, const TextContext& context, int depth) {
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

// A str key without quotes where nothing else could look the same.
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
    for (std::size_t i = 0; i < arguments.size(); ++i) {
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
  return held == 0 ? class_name(container) : fmt::format("{} ({})", class_name(container), held);
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

}  // namespace flatbed::tool
