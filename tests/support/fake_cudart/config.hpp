// The fake of a whole process, described by a text such as
// "devices=2,schedule=random,seed=7,fail=EventRecord:3:once,fail=:40:forever:700".
//
//   devices, seed, piece, not_ready, pinned_limit, device_limit    numbers
//   schedule                                   lazy, eager, random or threads
//   register, guard, protect, last_first, backtraces, track, move  0 or 1
//   fail=CALL:NTH[:once|forever|at_completion|sticky|not_ready[:CODE]]
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "support/fake_cuda.hpp"

namespace flatbed::fake_cuda {

struct Config {
  FakeCudaOptions options;
  std::vector<Injection> injections;  // their names are views of the text
  std::vector<std::string> mistakes;  // in the text, in sentences
};

[[nodiscard]] Config parse_config(std::string_view text);

}  // namespace flatbed::fake_cuda
