#include "load/rank_borders.hpp"

#include <algorithm>
#include <tuple>

#include "safetensors/seal.hpp"

namespace flatbed {

using safetensors::kChunkBytes;

namespace {

// An extra job pays if it saves this many bytes of sending, and 1 % of what is still sent.
constexpr std::uint64_t kLeastSaved = 32 << 10;
constexpr std::uint64_t kLeastShare = 100;

}  // namespace

// Looks no further ahead than it has to, so that the work for all jobs is in proportion to what
// they have.
std::uint64_t RankBorders::find(Range job, std::span<const Want> wants) {
  for (std::uint64_t nbytes = kChunkBytes;; nbytes *= 2) {
    const std::uint64_t end = std::min(job.end, job.begin + nbytes);
    list_borders({job.begin, end}, wants);
    list_shares(wants);
    if (const std::optional<std::uint64_t> found = first_change()) return *found;
    if (end == job.end) return end;
  }
}

// Whoever wants most of a job reads it, and keeps that much. Two jobs keep more than one if their
// readers are different ranks.
//
// A chunk on the border of two ranks' rows belongs to one job or the other. The interval after it
// shows which, so one place before the last border is remembered.
std::optional<std::uint64_t> RankBorders::first_change() {
  Sum before;  // the place
  Sum after;
  Sum job;
  for (Sum* const sum : {&before, &after, &job}) sum->of_rank.assign(ranks_, 0);
  std::size_t place = 0;
  std::uint64_t saved_before = 0;  // by a job that ends at the place, without the last interval
  std::uint64_t all = 0;
  for (std::size_t interval = 0; interval + 1 < borders_.size(); ++interval) {
    const std::span<const Share> shares = shares_of(interval);
    std::uint64_t most_here = 0;
    for (const Share& share : shares) {
      most_here = std::max(most_here, share.nbytes);
      all += share.nbytes;
    }
    const std::uint64_t kept_at_border = job.most + most_here;
    job.add(shares);
    after.add(shares);
    const std::uint64_t kept_at_place = before.most + after.most;
    const std::uint64_t kept = std::max(kept_at_place, kept_at_border);
    if (kept - job.most > std::max(kLeastSaved, (all - kept) / kLeastShare))
      return borders_[kept_at_place == kept ? place : interval];
    const std::uint64_t saved = kept_at_place - job.most;
    if (saved > saved_before) {
      saved_before = saved;
      continue;
    }
    saved_before = 0;
    place = interval + 1;
    before = job;
    after.of_rank.assign(ranks_, 0);
    after.most = 0;
  }
  return std::nullopt;
}

void RankBorders::Sum::add(std::span<const Share> shares) {
  for (const Share& share : shares) most = std::max(most, of_rank[share.rank] += share.nbytes);
}

std::span<const RankBorders::Share> RankBorders::shares_of(std::size_t interval) const {
  return std::span(shares_).subspan(first_[interval], first_[interval + 1] - first_[interval]);
}

void RankBorders::list_borders(Range job, std::span<const Want> wants) {
  borders_.assign({job.begin, job.end});
  const auto add = [&](std::uint64_t at) {
    if (at > job.begin && at < job.end) borders_.push_back(at);
  };
  for (const Want& want : wants) {
    if (want.range.begin >= job.end) break;
    add(want.range.begin);
    add(want.range.end);
    const bool long_runs = want.transfer->runs > 1 && want.transfer->run_nbytes >= kChunkBytes;
    if (long_runs) add_runs(job, want);
  }
  std::ranges::sort(borders_);
  borders_.erase(std::unique(borders_.begin(), borders_.end()), borders_.end());
}

void RankBorders::add_runs(Range job, const Want& want) {
  const Transfer& transfer = *want.transfer;
  const TensorInfo& tensor = *transfer.tensor;
  const std::uint64_t offset = tensor.where.offset;
  const auto add = [&](std::uint64_t at) {
    if (offset + at > job.begin && offset + at < job.end) borders_.push_back(offset + at);
  };
  const auto add_around = [&](std::uint64_t at) {
    const std::uint64_t in_chunk = want.checked ? at % kChunkBytes : 0;
    add(at - in_chunk);
    if (in_chunk != 0) add(std::min(at - in_chunk + kChunkBytes, tensor.nbytes));
  };
  const std::uint64_t begin = std::max(want.range.begin, job.begin) - offset;
  const std::uint64_t end = std::min(want.range.end, job.end) - offset;
  for (std::uint64_t at = transfer.needed_from(begin); at < std::min(end, transfer.source_end());
       at = transfer.needed_from(at)) {
    add_around(at);
    at = transfer.run_end(at);
    add_around(at);
  }
}

void RankBorders::list_shares(std::span<const Want> wants) {
  shares_.clear();
  ranks_ = 0;
  for (const Want& want : wants) {
    if (want.range.begin >= borders_.back()) break;
    const std::uint64_t offset = want.transfer->tensor->where.offset;
    const std::uint64_t end = std::min(want.range.end, borders_.back());
    std::uint64_t at = std::max(want.range.begin, borders_.front());
    for (auto border = std::ranges::upper_bound(borders_, at); at < end; ++border) {
      const std::uint64_t next = std::min(end, *border);
      const std::uint64_t nbytes = want.transfer->contents_before(next - offset) -
                                   want.transfer->contents_before(at - offset);
      const auto interval = static_cast<std::size_t>(border - borders_.begin()) - 1;
      shares_.push_back({interval, want.rank, nbytes});
      at = next;
    }
    ranks_ = std::max(ranks_, want.rank + 1);
  }
  std::ranges::sort(shares_, {},
                    [](const Share& share) { return std::tuple(share.interval, share.rank); });
  // A rank may have several wants in one interval.
  std::size_t count = 0;
  for (const Share& share : shares_) {
    Share* const last = count == 0 ? nullptr : &shares_[count - 1];
    const bool joins =
        last != nullptr && last->interval == share.interval && last->rank == share.rank;
    if (joins) {
      last->nbytes += share.nbytes;
    } else {
      shares_[count++] = share;
    }
  }
  shares_.resize(count);
  first_.assign(1, 0);
  for (std::size_t i = 0; i < count; ++i)
    while (first_.size() <= shares_[i].interval) first_.push_back(i);
  first_.resize(borders_.size(), count);
}

}  // namespace flatbed
