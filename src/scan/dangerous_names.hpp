// The consequences of importing or calling a name: the one table of names that run commands or
// code, or reach files, processes, the network or attributes of other modules. A list can only hold
// what is known. A name that torch.load(weights_only=True) does not allow and this table does not
// have is unknown, never plain. Pure functions, thread-safe.
#pragma once

#include <string_view>

#include "flatbed/scan_finding.hpp"

namespace flatbed::pth {

struct NameJudgement {
  ScanVerdict severity = ScanVerdict::unknown;
  std::string_view reason = "code of a package";  // static
};

// Judges a name as Python 3 spells it. A dotted qualname is an attribute of an attribute, as
// pickles of protocol 4 may request.
[[nodiscard]] NameJudgement judge_name(std::string_view module, std::string_view qualname);

// Judges a name as a pickle of this protocol spells it: protocols 0 to 2 use the names of Python 2.
[[nodiscard]] NameJudgement judge_spelling(std::string_view module, std::string_view qualname,
                                           unsigned protocol);

// Whether an attribute of this name leads from any object to other code: "__globals__", "os".
[[nodiscard]] bool leads_anywhere(std::string_view attribute);

}  // namespace flatbed::pth
