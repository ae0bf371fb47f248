// How many data races the thread sanitizer reported so far in this program; 0 without it. Tests
// that bring races about say so with ExpectRaces, in all others a race is a failure.
#pragma once

#include "support/sanitizers.hpp"

namespace flatbed {

inline constexpr bool kSeesRaces = FLATBED_THREAD_SANITIZER;

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
