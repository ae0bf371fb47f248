// The fake of a whole process, described by a text such as
// "devices=2,schedule=random,seed=7,fail=EventRecord:3:once,fail=:40:forever:700".
//
//   devices, seed, piece, not_ready, pinned_limit, device_limit    numbers
//   schedule                                   lazy, eager, random or threads
//   register, guard, protect, last_first, backtraces, track, move  0 or 1
//   fail=CALL:NTH[:once|forever|at_completion|sticky|not_ready[:CODE]]
//   driver=VERSION                             of CUDA, such as 12040
//   missing=NAME                               a function that the driver does not have
//   init=CODE, retain=CODE                     what cuInit and cuDevicePrimaryCtxRetain return
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "support/fake_cuda.hpp"

namespace flatbed::fake_cuda {

struct Config {
  FakeCudaOptions options;
  std::vector<Injection> injections;  // their names are views of the text
  int driver_version = 13000;
  std::vector<std::string_view> missing;  // views of the text
  int init_status = 0;
  int retain_status = 0;
  std::vector<std::string> mistakes;  // in the text, in sentences
};

[[nodiscard]] Config parse_config(std::string_view text);

}  // namespace flatbed::fake_cuda
