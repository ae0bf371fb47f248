// scan_script_code(): reads what the classes in a code record of a TorchScript archive state about
// their attributes.
//
//   class Linear(Module):
//     __parameters__ = ["weight", "bias", ]
//     __buffers__ = []
//     weight : Tensor
//     def forward(self, ...
//
// It is a scanner, not a parser. It knows strings, comments, brackets and indents, reads the heads
// of classes and these two lists, and skips everything else. Time and memory are linear in the
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
  bool lists_buffers = false;                    // torch has not always written this list
  bool makes_state = false;                      // its method __getstate__ makes the pickled state
  std::vector<std::string> parameters, buffers;  // sorted
};

// Classes in the order of the text. nullopt if brackets or strings do not close, or if a list holds
// something other than strings.
[[nodiscard]] std::optional<std::vector<ScriptClass>> scan_script_code(std::string_view text);

}  // namespace flatbed::pth
