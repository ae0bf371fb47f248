#include "checkpoint/cast_sums.hpp"

#include <utility>

namespace flatbed {

namespace {

constexpr std::size_t kMaxOverflows = 1'000;

}  // namespace

void CastSums::add(std::uint32_t number, const CastCounts& counts) {
  if (counts.total() == 0) return;
  const std::lock_guard lock(mutex_);
  counts_[number] += counts;
}

CastReport CastSums::report(std::uint64_t tensors, const Describe& describe) const {
  CastReport report;
  report.tensors = tensors;
  report.overflowed = counts_.size();
  for (const auto& [number, counts] : counts_) {
    report.counts += counts;
    if (report.overflows.size() == kMaxOverflows) continue;
    CastOverflow overflow = describe(number);
    overflow.counts = counts;
    report.overflows.push_back(std::move(overflow));
  }
  return report;
}

}  // namespace flatbed
