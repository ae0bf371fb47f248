// CastSums: the values that casts could not represent, added up by tensor while the tensors are
// read, for CastReport. add() is thread-safe; report() is called when all reads have ended.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "flatbed/cast.hpp"

namespace flatbed {

class CastSums {
 public:
  // `number` is the caller's for the tensor; numbers are reported in ascending order.
  void add(std::uint32_t number, const CastCounts& counts);

  // The name and the new dtype of a tensor; the counts are left out.
  using Describe = std::function<CastOverflow(std::uint32_t number)>;
  [[nodiscard]] CastReport report(std::uint64_t tensors, const Describe& describe) const;

 private:
  std::mutex mutex_;
  std::map<std::uint32_t, CastCounts> counts_;  // of tensors with any
};

}  // namespace flatbed
