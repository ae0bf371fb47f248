// check_json(): a strict checker of JSON's grammar, without a value tree. It exists beside the
// parser because parsers change: simdjson 4 accepts a byte order mark that simdjson 3 refused, and
// reports other errors for the same text. What a file may hold, and which error it gets, must not
// depend on that, so the first fault of a text that the parser refused is found here. It reads a
// byte at a time, and so is slower than the parser. A pure function, thread-safe.
#pragma once

#include <functional>
#include <string_view>

#include "base/json.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Whether a real that has JSON's form is finite in binary64: the parser knows how to round.
using RealCheck = std::function<bool(std::string_view real)>;

// Succeeds for one JSON value in strict UTF-8 with white space around it (spec J1 to J4) that opens
// at most rules.max_depth arrays and objects at once (J6). Otherwise returns the first fault in the
// order of the text; only text that is not UTF-8 goes before all others.
[[nodiscard]] Result<void> check_json(std::string_view text, const JsonRules& rules,
                                      const RealCheck& is_finite);

}  // namespace flatbed
