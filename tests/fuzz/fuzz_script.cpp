// The text of a code record of a TorchScript archive.
#include <algorithm>

#include "fuzz/check.hpp"
#include "fuzz/targets.hpp"
#include "torch/script_code.hpp"

namespace flatbed::fuzz {

void script(std::string_view bytes) {
  const auto classes = pth::scan_script_code(bytes);
  if (!classes) return;
  for (const pth::ScriptClass& one : *classes) {
    require(std::ranges::is_sorted(one.parameters), "parameters are sorted");
    require(std::ranges::is_sorted(one.buffers), "buffers are sorted");
    require(bytes.find(one.name) != std::string_view::npos, "a class stands in the text");
  }
}

}  // namespace flatbed::fuzz
