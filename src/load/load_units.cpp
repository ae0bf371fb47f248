#include "load/load_units.hpp"

#include <algorithm>

namespace flatbed {

using safetensors::kChunkBytes;

void Units::begin(const Job& job) {
  parts_ = std::span(schedule_.parts).subspan(job.first_part, job.parts);
  part_ = 0;
  done_ = 0;
  run_ = 0;
  sparse_ = job.sparse;
  overlapping_ = false;
  reads_.assign(1, {job.begin, job.begin + job.nbytes});
  if (!sparse_) return;
  list_runs(job);
  list_reads(schedule_.files[job.file].max_hole_nbytes);
}

void Units::list_runs(const Job& job) {
  runs_.clear();
  for (const Part& part : parts_) {
    const Transfer& transfer = plan_.transfers[part.transfer];
    const std::uint64_t offset = transfer.tensor->where.offset;
    for (std::uint64_t at = part.begin; at < part.end;) {
      const std::uint64_t begin = offset + transfer.needed_from(at - offset);
      if (begin >= part.end) break;
      const std::uint64_t end = std::min(part.end, offset + transfer.run_end(begin - offset));
      runs_.push_back({.begin = begin, .end = end, .transfer = &transfer});
      at = end;
    }
  }
  if (job.parts == 1) return;
  std::ranges::stable_sort(runs_, {}, &Unit::begin);
}

void Units::list_reads(std::uint64_t max_hole_nbytes) {
  reads_.clear();
  for (const Unit& run : runs_) {
    const bool joins = !reads_.empty() && (run.begin <= reads_.back().end ||
                                           run.begin - reads_.back().end <= max_hole_nbytes);
    if (!joins) {
      reads_.push_back({run.begin, run.end});
      continue;
    }
    overlapping_ |= run.begin < reads_.back().end;
    reads_.back().end = std::max(reads_.back().end, run.end);
  }
}

std::uint64_t Units::read_nbytes() const noexcept {
  std::uint64_t nbytes = 0;
  for (const FileRange& read : reads_) nbytes += read.nbytes();
  return nbytes;
}

std::optional<Unit> Units::peek() const {
  if (sparse_) return run_ == runs_.size() ? std::nullopt : std::optional(runs_[run_]);
  if (part_ == parts_.size()) return std::nullopt;
  const Part& part = parts_[part_];
  const Transfer& transfer = plan_.transfers[part.transfer];
  const bool checked = verify_ && !transfer.tensor->digests.empty();
  Unit unit{part.begin + done_, part.end, &transfer, checked, done_ == 0};
  // A part begins at a chunk, and ends at the end of a chunk or of its tensor.
  if (checked) unit.end = std::min(unit.end, unit.begin + kChunkBytes);
  return unit;
}

void Units::take(const Unit& unit) {
  if (sparse_) {
    ++run_;
    return;
  }
  done_ += unit.nbytes();
  if (unit.end != parts_[part_].end) return;
  ++part_;
  done_ = 0;
}

}  // namespace flatbed
