// Formats objects of Python's standard library and of numpy as their constructors write them. Pure
// functions over borrowed values.
#pragma once

#include <optional>
#include <string>

#include "flatbed/value.hpp"

namespace flatbed::tool {

// Whether an object is an instance, made by copyreg, of the class that is its first argument.
[[nodiscard]] bool is_instance(Value object);

// The name of an object's class or of a global, without the module if it is a built-in.
[[nodiscard]] std::string short_name(Value object_or_global);

// "2024, 1, 2, 3, 4" from the bytes of a datetime, date or time.
[[nodiscard]] std::optional<std::string> moment_text(Value object);

// Formats paths, numpy dtypes and attributes: "PosixPath('a/b')", "dtype('<f4')",
// "torch.channels_last".
[[nodiscard]] std::optional<std::string> known_text(Value object);

}  // namespace flatbed::tool
