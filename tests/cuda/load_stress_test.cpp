// Random loads from a seed, thousands of them where the thread sanitizer watches. The environment
// may say how many (FLATBED_STRESS_SEEDS), and with which seed they begin (FLATBED_STRESS_FIRST).
#include "support/load_stress.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/str_cat.hpp"
#include "support/sanitizers.hpp"

namespace flatbed {
namespace {

using test::StressCounts;
using test::StressModels;

constexpr std::uint64_t kSeeds = FLATBED_THREAD_SANITIZER ? 10'000 : 800;
constexpr std::uint64_t kParts = 8;  // tests, which may run at once

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* const value = std::getenv(name);
  return value == nullptr ? otherwise : std::stoull(value);
}

class LoadStress : public testing::TestWithParam<std::uint64_t> {};

TEST_P(LoadStress, IsSurvivedWhateverTheSeed) {
  const std::uint64_t part = from_environment("FLATBED_STRESS_SEEDS", kSeeds) / kParts;
  const std::uint64_t first = from_environment("FLATBED_STRESS_FIRST", 1) + GetParam() * part;
  const StressModels models;
  StressCounts counts;
  for (std::uint64_t seed = first; seed < first + part; ++seed) {
    test::run_load_stress(models, counts, seed);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  std::printf("load stress, seeds %s: %s\n", str_cat(first, " to ", first + part - 1).c_str(),
              str_cat(counts.loads.load(), " loads, ", counts.complete.load(), " complete, ",
                      counts.cancelled.load(), " cancelled, ", counts.failed.load(),
                      " failed by injected faults")
                  .c_str());
}

INSTANTIATE_TEST_SUITE_P(Parts, LoadStress, testing::Range(std::uint64_t{0}, kParts));

}  // namespace
}  // namespace flatbed
