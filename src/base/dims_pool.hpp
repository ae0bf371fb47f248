// DimsPool: storage for shapes, in blocks that never move, so that a ShapeView stays valid as long
// as the pool exists. Owns the blocks. Move-only; not thread-safe while it grows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace flatbed {

class DimsPool {
 public:
  // Returns uninitialized room for `rank` dimensions.
  [[nodiscard]] std::span<std::uint64_t> add(std::size_t rank) {
    if (rank > left_) {
      left_ = std::max(rank, kBlock);
      blocks_.push_back(std::make_unique_for_overwrite<std::uint64_t[]>(left_));
      next_ = blocks_.back().get();
    }
    const std::span<std::uint64_t> dims(next_, rank);
    next_ += rank;
    left_ -= rank;
    return dims;
  }

 private:
  static constexpr std::size_t kBlock = 16384;
  std::vector<std::unique_ptr<std::uint64_t[]>> blocks_;
  std::uint64_t* next_ = nullptr;
  std::size_t left_ = 0;
};

}  // namespace flatbed
