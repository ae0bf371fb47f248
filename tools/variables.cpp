#include "variables.hpp"

#include <cstdlib>
#include <utility>

namespace flatbed::tool {

Variables process_variables() {
  return [](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return std::string(value);
  };
}

std::optional<std::string> first_of(const Variables& variables,
                                    std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (std::optional<std::string> value = variables(name)) return value;
  }
  return std::nullopt;
}

std::filesystem::path below_home(const Variables& variables, std::string path) {
  const bool at_home = path == "~" || path.starts_with("~/");
  if (!at_home) return path;
  return std::filesystem::path(variables("HOME").value_or("/") + path.substr(1));
}

}  // namespace flatbed::tool
