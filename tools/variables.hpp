// Variables: environment variables, looked up by a function, so that tests can have their own.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace flatbed::tool {

// The value of a variable. nullopt: it is not set, or empty.
using Variables = std::function<std::optional<std::string>(const char* name)>;

// Those of the process.
[[nodiscard]] Variables process_variables();

// The value of the first of `names` that is set.
[[nodiscard]] std::optional<std::string> first_of(const Variables& variables,
                                                  std::initializer_list<const char*> names);

// `path` with ~ at its beginning replaced by HOME.
[[nodiscard]] std::filesystem::path below_home(const Variables& variables, std::string path);

}  // namespace flatbed::tool
