// How many data races the thread sanitizer reported so far in this program; 0 without it. Tests
// that bring races about say so with ExpectRaces, in all others a race is a failure.
#pragma once

#include "support/fake_cuda_tsan.hpp"

namespace flatbed {

#ifdef FLATBED_FAKE_CUDA_TSAN
inline constexpr bool kSeesRaces = true;
#else
inline constexpr bool kSeesRaces = false;
#endif

[[nodiscard]] int race_count();

// While it exists, races are expected: the test is about them.
class ExpectRaces {
 public:
  ExpectRaces();
  ExpectRaces(const ExpectRaces&) = delete;
  ExpectRaces& operator=(const ExpectRaces&) = delete;
  ~ExpectRaces();

  [[nodiscard]] int count() const { return race_count() - before_; }

 private:
  int before_;
};

}  // namespace flatbed
