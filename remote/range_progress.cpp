#include "range_progress.hpp"

namespace flatbed::remote {

RangeProgress::RangeProgress(std::span<const Call> calls, const ReadProgress& progress)
    : progress_(progress) {
  ranges_.reserve(calls.size());
  for (const Call& call : calls) {
    Range& range = ranges_.emplace_back();
    for (const std::span<std::byte> part : call.range->parts) range.nbytes += part.size();
  }
}

Result<void> RangeProgress::take(std::size_t number, std::uint64_t nbytes) {
  ranges_[number].arrived = nbytes;
  while (complete_ < ranges_.size() && ranges_[complete_].arrived == ranges_[complete_].nbytes)
    complete_nbytes_ += ranges_[complete_++].nbytes;
  const bool all = complete_ == ranges_.size();
  const std::uint64_t arrived = complete_nbytes_ + (all ? 0 : ranges_[complete_].arrived);
  if (!result_ || arrived <= reported_) return result_;
  reported_ = arrived;
  result_ = progress_(arrived);
  return result_;
}

}  // namespace flatbed::remote
