// --dtype and --keep of convert and load: what they cast, and what is said of values that did not
// fit. Pure functions besides cast_chosen().
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/cast.hpp"
#include "flatbed/checkpoint.hpp"
#include "json_out.hpp"

namespace flatbed::tool {

struct CastChoice {
  std::optional<Dtype> dtype;     // unset: nothing is cast
  std::vector<std::string> keep;  // globs
};

// "bf16", "F8_E4M3": a dtype that can be cast to, in either case.
[[nodiscard]] Result<Dtype> parse_cast_dtype(std::string_view word);
// "f64, f32, f16 ...", for --help and errors.
[[nodiscard]] std::string cast_dtypes_text();

// The checkpoint with the casts; itself if there are none. Errors: those of Checkpoint::cast().
[[nodiscard]] Result<Checkpoint> cast_chosen(const Checkpoint& checkpoint,
                                             const CastChoice& choice);

// Of a checkpoint that cast_chosen() returned.
[[nodiscard]] std::uint64_t count_cast(const Checkpoint& checkpoint);

// "12 values of 2 tensors do not fit F16 (12 became infinite): 'a', 'b'". Empty: all fitted.
[[nodiscard]] std::vector<std::string> cast_warnings(const CastReport& report);

// {dtype, tensors, saturated, infinite, nan, overflowed, overflows [...]}, or null without a dtype.
void write_casts_json(const CastReport& report, const CastChoice& choice, JsonWriter& json);

}  // namespace flatbed::tool
