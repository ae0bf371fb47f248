// Value::at(): finds a value by its dotted path.
#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "base/str_cat.hpp"
#include "flatbed/torch_module.hpp"
#include "flatbed/value.hpp"
#include "value/key_text.hpp"

namespace flatbed {

namespace {

struct Step {
  Value value;
  std::size_t consumed;  // bytes of the path, including the dot that follows
};

// Whether `key` is the whole path, or its beginning up to a dot.
bool is_step(std::string_view path, std::string_view key) {
  return path.starts_with(key) && (path.size() == key.size() || path[key.size()] == '.');
}

std::optional<Step> step_by_key(Value from, std::string_view path) {
  std::optional<Step> best;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::optional<std::string> key = key_text(from.key(i));
    if (!key || !is_step(path, *key)) continue;
    if (!best || key->size() + 1 > best->consumed) best = Step{from.item(i), key->size() + 1};
  }
  return best;
}

std::optional<std::size_t> leading_index(std::string_view path) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(path.data(), path.data() + path.size(), index);
  if (error != std::errc{}) return std::nullopt;
  const bool whole = end == path.data() + path.size() || *end == '.';
  return whole ? std::optional(index) : std::nullopt;
}

std::size_t index_length(std::string_view path) { return std::min(path.find('.'), path.size()); }

std::optional<Step> step_by_index(Value from, std::string_view path) {
  const std::optional<std::size_t> index = leading_index(path);
  const bool object = from.kind() == Kind::object;
  const std::size_t count = object ? from.appended_size() : from.size();
  if (!index || *index >= count) return std::nullopt;
  return Step{object ? from.appended(*index) : from.item(*index), index_length(path) + 1};
}

// What a module has under this name: a parameter, buffer, child or attribute.
std::optional<Step> step_into(const TorchModule& module, std::string_view path) {
  std::optional<Step> best;
  if (module.wrapped() && is_step(path, kWrappedModule))
    return Step{*module.wrapped(), kWrappedModule.size() + 1};
  for (const Value names :
       {module.parameters(), module.buffers(), module.children(), module.attributes()}) {
    const std::optional<Step> found = step_by_key(names, path);
    if (found && (!best || found->consumed > best->consumed)) best = found;
  }
  return best;
}

std::optional<Step> step(Value from, std::string_view path) {
  switch (from.kind()) {
    case Kind::dict:
      return step_by_key(from, path);
    case Kind::list:
    case Kind::tuple:
      return step_by_index(from, path);
    case Kind::object: {
      if (const std::optional<TorchModule> module = TorchModule::of(from)) {
        if (auto found = step_into(*module, path)) return found;
      }
      if (auto found = step_by_key(from, path)) return found;
      if (auto found = step_by_index(from, path)) return found;
      const std::optional<Value> state = from.state();
      return state && state->kind() == Kind::dict ? step_by_key(*state, path) : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

// What has the names below a value: of a module its children or parameters.
Value named_parts(Value value) {
  const std::optional<TorchModule> module = TorchModule::of(value);
  if (!module) return value;
  return module->children().size() != 0 ? module->children() : module->parameters();
}

// Describes what exists instead, for the error message: the first few keys or the number of items.
std::string contents(Value value) {
  if (value.kind() == Kind::list || value.kind() == Kind::tuple)
    return str_cat(value.size(), " items");
  const std::optional<TorchModule> module = TorchModule::of(value);
  if (module && module->wrapped()) return str_cat("keys ", quoted(kWrappedModule));
  value = named_parts(value);
  std::string keys;
  for (std::size_t i = 0; i < value.size() && i < 8; ++i) {
    const std::optional<std::string> key = key_text(value.key(i));
    keys += str_cat(i == 0 ? "" : ", ", key ? quoted(*key) : "...");
  }
  if (value.size() > 8) keys += ", ...";
  return keys.empty() ? "nothing below it" : str_cat("keys ", keys);
}

// The key that begins like `name`, for at least half of it; empty if there is none.
std::string similar_key(Value value, std::string_view name) {
  value = named_parts(value);
  if (value.kind() != Kind::dict && value.kind() != Kind::object) return {};
  std::string best;
  std::size_t most = (name.size() + 1) / 2;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::optional<std::string> key = key_text(value.key(i));
    if (!key) continue;
    const auto differ = std::mismatch(key->begin(), key->end(), name.begin(), name.end());
    const auto common = static_cast<std::size_t>(differ.second - name.begin());
    if (common < most || common == 0) continue;
    most = common + 1;
    best = *key;
  }
  return best;
}

Error nothing_at(std::string_view name, std::string_view parent, Value value) {
  const std::string similar = similar_key(value, name);
  return make_error(ErrorCode::path_not_found, "nothing at ", quoted(name),
                    parent.empty() ? " of the root" : str_cat(" of ", quoted(parent)),
                    ", which has ", contents(value),
                    similar.empty() ? "" : str_cat("; did you mean ", quoted(similar), "?"));
}

}  // namespace

Result<Value> Value::at(std::string_view path) const {
  Value here = *this;
  std::string_view rest = path;
  while (!rest.empty()) {
    const std::optional<Step> next = step(here, rest);
    if (!next) {
      const std::string_view done = path.substr(0, path.size() - rest.size());
      return nothing_at(rest.substr(0, index_length(rest)),
                        done.substr(0, done.empty() ? 0 : done.size() - 1), here);
    }
    here = next->value;
    if (next->consumed > rest.size()) return here;
    rest.remove_prefix(next->consumed);
    // "a." asks for the empty key below "a".
    if (rest.empty()) {
      const std::optional<Step> empty_key = step(here, rest);
      if (!empty_key)
        return make_error(ErrorCode::path_not_found, "nothing after the last dot of ",
                          quoted(path));
      return empty_key->value;
    }
  }
  return here;
}

}  // namespace flatbed
