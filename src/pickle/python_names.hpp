// The Python 2 names of modules and classes that Python 3 renamed. Picklers of protocols 0 to 2
// write the old names, whatever Python they run in.
#pragma once

#include <string_view>
#include <utility>

namespace flatbed::pth {

struct PythonName {
  std::string_view module;
  std::string_view name;
  bool operator==(const PythonName&) const = default;
};

// Whether a text may name a module, class or function: WTF-8, not empty, no control characters.
// This allows more than identifiers, but less than a line of a pickle could hold.
[[nodiscard]] bool is_python_name(std::string_view name) noexcept;

// Python 3's name for `old`, a name in an old pickle.
[[nodiscard]] PythonName python3_name(PythonName old) noexcept;

// The name that a pickle of protocol 2 gives to Python 3's `name`; inverse of python3_name().
[[nodiscard]] PythonName python2_name(PythonName name) noexcept;

}  // namespace flatbed::pth
