// MemoryCopy: memory of its own for the bytes of a plan that lie in memory. It is kept for the next
// copy, because touching fresh pages takes several times as long as copying. Owns the memory. Not
// thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "flatbed/save_plan.hpp"
#include "io/large_allocator.hpp"

namespace flatbed {

class MemoryCopy {
 public:
  // The plan with its memory in this object, valid until the next call. What it takes from
  // checkpoints is not copied. One thread alone cannot use all of a machine's memory bandwidth.
  // nullopt: there is not so much memory.
  [[nodiscard]] std::optional<SavePlan> copy(const SavePlan& plan, unsigned threads = 1);

 private:
  [[nodiscard]] bool reserve(std::uint64_t nbytes);

  LargeBlock block_;
  std::uint64_t capacity_ = 0;
};

}  // namespace flatbed
