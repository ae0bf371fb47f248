// scan_script_code(): what the classes in a code record of a TorchScript archive say of their
// attributes.
//
//   class Linear(Module):
//     __parameters__ = ["weight", "bias", ]
//     __buffers__ = []
//     weight : Tensor
//     def forward(self, ...
//
// A scanner, not a parser: it knows strings, comments, brackets and indents, and reads the heads of
// classes and these two lists. Everything else is passed over. Time and memory are linear in the
// text. A pure function.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flatbed::pth {

struct ScriptClass {
  std::string name;
  bool module = false;                           // class NAME(Module)
  bool lists_buffers = false;                    // torch has not always written that list
  bool makes_state = false;                      // its method __getstate__ makes what is pickled
  std::vector<std::string> parameters, buffers;  // sorted
};

// Classes in the order of the text. Nothing: brackets or strings that do not close, or lists of
// something other than strings.
[[nodiscard]] std::optional<std::vector<ScriptClass>> scan_script_code(std::string_view text);

}  // namespace flatbed::pth
