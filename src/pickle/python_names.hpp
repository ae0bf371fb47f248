// The names that Python 2 gave to modules and classes which Python 3 renamed. Picklers of protocols
// 0 to 2 write the old ones, whatever Python they run in.
#pragma once

#include <string_view>
#include <utility>

namespace flatbed::pth {

struct PythonName {
  std::string_view module;
  std::string_view name;
  bool operator==(const PythonName&) const = default;
};

// Whether a module, class or function can be called so: WTF-8, not empty, no control characters.
// That is more than identifiers, and less than what a line of a pickle could hold.
[[nodiscard]] bool is_python_name(std::string_view name) noexcept;

// Python 3's name for what an old pickle calls `old`.
[[nodiscard]] PythonName python3_name(PythonName old) noexcept;

// What a pickle of protocol 2 calls Python 3's `name`: python3_name() gives it back.
[[nodiscard]] PythonName python2_name(PythonName name) noexcept;

}  // namespace flatbed::pth
