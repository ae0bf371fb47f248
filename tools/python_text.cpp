#include "python_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "format_text.hpp"
#include "value_text.hpp"

namespace flatbed::tool {
namespace {

constexpr std::array<std::string_view, 9> kPlainModules{"builtins", "collections", "datetime",
                                                        "argparse", "pathlib",     "pathlib._local",
                                                        "decimal",  "fractions",   "uuid"};
constexpr std::size_t kTextLimit = 200;  // code points of a path that are printed

bool is_call_of(Value object, std::string_view module, std::string_view name) {
  const Value callable = object.callable();
  return callable.kind() == Kind::global && callable.text() == module &&
         callable.qualname() == name;
}

// PosixPath('/', 'a', 'b') is the path /a/b; newer Pythons write it as one part.
std::optional<std::string> path_object_text(Value object) {
  const Value callable = object.callable();
  if (callable.kind() != Kind::global || !callable.text().starts_with("pathlib") ||
      !object.is_bare_call())
    return std::nullopt;
  std::string path;
  const Value parts = object.arguments();
  for (std::size_t i = 0; i < parts.size() && path.size() < 4 * kTextLimit; ++i) {
    if (parts.item(i).kind() != Kind::string) return std::nullopt;
    if (i > 0 && !path.ends_with('/')) path += '/';
    path += parts.item(i).text();
  }
  return fmt::format("{}({})", short_name(object), quoted_text(path, kTextLimit));
}

// A dtype without fields: its name, with the byte order from its state.
std::optional<std::string> dtype_object_text(Value object) {
  if (!is_call_of(object, "numpy", "dtype") || object.arguments().size() == 0) return std::nullopt;
  const Value name = object.arguments().item(0);
  const std::optional<Value> state = object.state();
  if (name.kind() != Kind::string || !state || state->kind() != Kind::tuple || state->size() != 8)
    return std::nullopt;
  for (std::size_t i = 2; i < 5; ++i) {
    if (state->item(i).kind() != Kind::none) return std::nullopt;
  }
  const std::string_view order = state->item(1).text() == "|" ? "" : state->item(1).text();
  return fmt::format("dtype({})", quoted_text(fmt::format("{}{}", order, name.text()), kTextLimit));
}

// getattr(torch, 'channels_last') is how pickle names some constants and enum members.
std::optional<std::string> attribute_text(Value object) {
  const Value arguments = object.arguments();
  if (!is_call_of(object, "builtins", "getattr") || arguments.size() != 2 ||
      !object.is_bare_call() || arguments.item(0).kind() != Kind::global ||
      arguments.item(1).kind() != Kind::string)
    return std::nullopt;
  const std::string owner = short_name(arguments.item(0));
  return fmt::format("{}.{}", owner == "torch._utils.torch" ? "torch" : owner,
                     safe_text(arguments.item(1).text()));
}

}  // namespace

bool is_instance(Value object) {
  const Value callable = object.callable();
  return callable.kind() == Kind::global && callable.text() == "copyreg" &&
         object.arguments().size() > 0 && object.arguments().item(0).kind() == Kind::global;
}

std::string short_name(Value value) {
  Value named = value.kind() == Kind::object ? value.callable() : value;
  if (value.kind() == Kind::object && is_instance(value)) named = value.arguments().item(0);
  const bool plain = named.kind() == Kind::global &&
                     std::ranges::find(kPlainModules, named.text()) != kPlainModules.end();
  return plain ? safe_text(named.qualname()) : class_name(value);
}

std::optional<std::string> moment_text(Value object) {
  const Value callable = object.callable();
  const Value arguments = object.arguments();
  if (callable.kind() != Kind::global || callable.text() != "datetime" || arguments.size() == 0 ||
      arguments.item(0).kind() != Kind::bytes)
    return std::nullopt;
  const std::string_view raw = arguments.item(0).text();
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(raw[i]); };
  std::string out;
  std::size_t at = 0;
  const bool date = raw.size() == 4 || raw.size() == 10;
  if (date) {
    // The highest bit of the month is the `fold` attribute, which tells two equal local times
    // apart.
    out = fmt::format("{}, {}, {}", byte(0) << 8 | byte(1), byte(2) & 0x7F, byte(3));
    at = 4;
  }
  if (raw.size() == 4) return out;
  if (raw.size() != 10 && raw.size() != 6) return std::nullopt;
  out += fmt::format("{}{}, {}", date ? ", " : "", byte(at) & (date ? 0xFF : 0x7F), byte(at + 1));
  const int micro = byte(at + 3) << 16 | byte(at + 4) << 8 | byte(at + 5);
  if (byte(at + 2) != 0 || micro != 0) out += fmt::format(", {}", byte(at + 2));
  if (micro != 0) out += fmt::format(", {}", micro);
  return out;
}

std::optional<std::string> known_text(Value object) {
  if (auto text = path_object_text(object)) return text;
  if (auto text = dtype_object_text(object)) return text;
  return attribute_text(object);
}

}  // namespace flatbed::tool
