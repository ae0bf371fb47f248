#include "load/load_schedule.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <unordered_map>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/far_source.hpp"
#include "io/file_error.hpp"
#include "io/page_cache.hpp"
#include "load/load_units.hpp"
#include "load/rank_borders.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;

// Files of which less is needed, or in smaller places, gain nothing from O_DIRECT.
constexpr std::uint64_t kMinDirectNbytes = 8 << 20;
constexpr std::uint64_t kMinDirectSpan = 128 << 10;
constexpr std::uint64_t kMinDirectInPlace = 64 << 10;
// If this share of a file is in the page cache, it is read from there.
constexpr double kWarm = 0.5;
// Holes: the share of what a source prefers to read, and the least where disks are asked.
constexpr std::uint64_t kHoleShare = 64;
constexpr std::uint64_t kColdHole = 16 << 10;
constexpr std::uint64_t kDirectHole = 32 << 10;
// A span of which this share is needed is read as a whole.
constexpr double kNearlyAll = 0.875;
// The size of one read of a tensor that is gathered or inflated: larger reads have longer runs.
constexpr std::uint64_t kContentsNbytes = 16 << 20;

// Between the runs of a tensor that is converted as it is read, in bytes of the file: such a hole
// costs more than a read of its own for each run, unless the source takes long to answer. Where
// chunks are checked, none is needed twice.
constexpr std::uint64_t kContentsHole = 16 << 10;
constexpr std::uint64_t kCheckedContentsHole = 2 * kChunkBytes;

// The bytes of a file that a transfer needs: those that are delivered, and the rest of their
// chunks.
struct Want {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint32_t file = 0;
  std::uint32_t transfer = 0;
};

// Neighbouring wants of one file that are read as one.
struct Span {
  std::size_t first = 0;  // index into the wants
  std::size_t last = 0;   // after them
  std::uint64_t end = 0;
  bool all_host = true;
  bool sparse = false;
};

// The wants of all groups are in one vector, group after group, and so are the spans and contents.
struct GroupRange {
  std::uint32_t group = 0;
  std::size_t last_want = 0;      // after its wants
  std::size_t last_contents = 0;  // after its transfers that are read by contents
  std::size_t last_span = 0;      // after its spans
};

class Scheduler {
 public:
  Scheduler(const LoadPlanState& plan, const ScheduleOptions& options)
      : plan_(plan), options_(options) {}

  Schedule run();

 private:
  [[nodiscard]] std::vector<std::vector<std::uint32_t>> transfers_of_groups() const;
  void collect(std::uint32_t number);
  void add_want(std::uint32_t number, std::uint64_t begin, std::uint64_t end);
  void choose_holes();
  [[nodiscard]] bool is_cold(const ScheduledFile& file) const;
  void join_wants(std::size_t first, std::size_t last);
  [[nodiscard]] bool joins(const Span& span, const Want& want, bool sparse) const;
  void finish_span(Span& span);
  void choose_io();
  void cut_span(const Span& span, std::uint32_t group);
  [[nodiscard]] std::uint64_t needed_from(std::uint64_t at, const Span& span,
                                          std::size_t next) const;
  [[nodiscard]] std::uint64_t border_before(std::uint64_t cut, std::uint64_t begin);
  void add_job(Job& job, const Span& span);
  [[nodiscard]] Part part_of(const Want& want, std::uint64_t begin, std::uint64_t end) const;
  void add_contents(std::uint32_t number, std::uint32_t group);
  [[nodiscard]] bool passes_over_holes(const Transfer& transfer) const;
  [[nodiscard]] std::uint64_t cut_before(std::uint64_t limit) const;
  [[nodiscard]] JobKind kind_of(const Job& job, const Span& span) const;
  [[nodiscard]] const std::byte* place_of(const Job& job) const;
  std::uint32_t file_index(const Transfer& transfer);
  std::uint32_t file_index(const ByteSource& file);
  [[nodiscard]] const Transfer& transfer_of(const Want& want) const {
    return plan_.transfers[want.transfer];
  }
  [[nodiscard]] bool is_checked(const Transfer& transfer) const {
    return options_.verify && !transfer.tensor->digests.empty();
  }
  [[nodiscard]] bool is_joint() const noexcept { return options_.rank_of != nullptr; }
  // Whether it has holes that are not to be read.
  [[nodiscard]] bool is_sparse(const Want& want) const {
    const Transfer& transfer = transfer_of(want);
    return transfer.hole_nbytes() > out_.files[want.file].max_hole_nbytes && !is_checked(transfer);
  }

  const LoadPlanState& plan_;
  ScheduleOptions options_;
  Schedule out_;
  std::vector<Want> wants_;
  std::vector<Span> spans_;
  std::vector<std::uint32_t> contents_;
  std::vector<std::size_t> active_;  // wants with a part in the current job
  Units units_{plan_, out_, false};  // of the current job, if it is sparse: nothing is checked
  RankBorders borders_;
  std::vector<RankBorders::Want> ranks_want_;  // of the current job
  std::unordered_map<const ByteSource*, std::uint32_t> files_;
};

Schedule Scheduler::run() {
  out_.groups = plan_.group_order();
  out_.jobs_of_group.resize(plan_.groups.size());
  wants_.reserve(plan_.transfers.size());
  const std::vector<std::vector<std::uint32_t>> transfers = transfers_of_groups();
  std::vector<GroupRange> ranges;
  for (const std::uint32_t group : out_.groups) {
    for (const std::uint32_t number : transfers[group]) collect(number);
    ranges.push_back({group, wants_.size(), contents_.size(), 0});
  }
  choose_holes();
  std::size_t first = 0;
  for (GroupRange& range : ranges) {
    join_wants(first, range.last_want);
    range.last_span = spans_.size();
    first = range.last_want;
  }
  choose_io();
  std::size_t span = 0;
  std::size_t contents = 0;
  for (const GroupRange& range : ranges) {
    const std::size_t jobs = out_.jobs.size();
    for (; span < range.last_span; ++span) cut_span(spans_[span], range.group);
    for (; contents < range.last_contents; ++contents)
      add_contents(contents_[contents], range.group);
    out_.jobs_of_group[range.group] = static_cast<std::uint32_t>(out_.jobs.size() - jobs);
  }
  return std::move(out_);
}

std::vector<std::vector<std::uint32_t>> Scheduler::transfers_of_groups() const {
  std::vector<std::vector<std::uint32_t>> out(plan_.groups.size());
  for (std::uint32_t i = 0; i < plan_.transfers.size(); ++i) {
    if (plan_.transfers[i].runs != 0) out[plan_.transfers[i].group].push_back(i);
  }
  return out;
}

std::uint32_t Scheduler::file_index(const Transfer& transfer) {
  if (transfer.file != nullptr) return file_index(*transfer.file);
  const Checkpoint& checkpoint = plan_.checkpoints[transfer.checkpoint];
  if (transfer.tensor->stored == Stored::computed) {
    // All files that it is made of, so that they are listed and checked.
    for (const SourceTensor& source : CheckpointAccess::sources(checkpoint, *transfer.tensor))
      file_index(source.place.container.source());
  }
  return file_index(CheckpointAccess::source(checkpoint, transfer.tensor->where.file));
}

std::uint32_t Scheduler::file_index(const ByteSource& file) {
  const auto [entry, added] =
      files_.try_emplace(&file, static_cast<std::uint32_t>(out_.files.size()));
  if (added) {
    const std::uint64_t most = std::max(kReadNbytes, options_.slot_nbytes);
    const auto preferred = static_cast<std::uint64_t>(file.preferred_read_nbytes());
    const std::uint64_t nbytes = std::clamp(preferred, kReadNbytes, most);
    ScheduledFile& scheduled = out_.files.emplace_back();
    scheduled.file = &file;
    scheduled.begin = file.size();
    scheduled.read_nbytes = nbytes;
    if (is_far(file)) scheduled.piece_nbytes = nbytes;
    scheduled.max_hole_nbytes = hole_limit(scheduled, options_.io);
    out_.read_nbytes = std::max(out_.read_nbytes, nbytes);
  }
  return entry->second;
}

void Scheduler::collect(std::uint32_t number) {
  const Transfer& transfer = plan_.transfers[number];
  out_.bytes_wanted += transfer.nbytes();
  if (!lies_in_file(*transfer.tensor)) {
    contents_.push_back(number);
  } else if (!is_checked(transfer) || transfer.hole_nbytes() < kChunkBytes) {
    add_want(number, transfer.source, transfer.source_end());
  } else {
    for (std::uint64_t run = 0; run < transfer.runs; ++run) {
      const std::uint64_t begin = transfer.source + run * transfer.run_pitch;
      add_want(number, begin, begin + transfer.run_nbytes);
    }
  }
}

// Widens to whole chunks if they are checked, and joins with the previous run if they meet.
void Scheduler::add_want(std::uint32_t number, std::uint64_t begin, std::uint64_t end) {
  const Transfer& transfer = plan_.transfers[number];
  const TensorInfo& tensor = *transfer.tensor;
  if (is_checked(transfer)) {
    begin -= begin % kChunkBytes;
    const std::uint64_t missing = (kChunkBytes - end % kChunkBytes) % kChunkBytes;
    end += std::min(missing, tensor.nbytes - end);
  }
  begin += tensor.where.offset;
  end += tensor.where.offset;
  const std::uint32_t file = file_index(transfer);
  if (is_checked(transfer)) out_.files[file].checked = true;
  if (!wants_.empty() && wants_.back().transfer == number && begin <= wants_.back().end) {
    wants_.back().end = end;
    return;
  }
  wants_.push_back({begin, end, file, number});
}

// Before wants are joined, for which it decides. A file's `nbytes` and `span_count` are those of
// its wants here.
void Scheduler::choose_holes() {
  std::vector<bool> has_holes(out_.files.size());
  for (const Want& want : wants_) {
    ScheduledFile& file = out_.files[want.file];
    file.begin = std::min(file.begin, want.begin);
    file.end = std::max(file.end, want.end);
    file.nbytes += want.end - want.begin;
    if (is_sparse(want)) has_holes[want.file] = true;
  }
  for (std::size_t i = 0; i < out_.files.size(); ++i) {
    ScheduledFile& file = out_.files[i];
    const bool may_be_direct = options_.io == IoMode::automatic && file.nbytes >= kMinDirectNbytes;
    if (options_.io != IoMode::direct && (may_be_direct || has_holes[i])) {
      file.cold = is_cold(file);
    }
    file.max_hole_nbytes = hole_limit(file, options_.io);
    file.nbytes = 0;
  }
}

bool Scheduler::is_cold(const ScheduledFile& file) const {
  if (options_.is_cold) return options_.is_cold(*file.file);
  const std::optional<double> cached =
      cached_fraction(*file.file, file.begin, file.end - file.begin);
  return cached && *cached < kWarm;
}

void Scheduler::join_wants(std::size_t first, std::size_t last_want) {
  const auto place = [](const Want& want) {
    return std::tie(want.file, want.begin, want.end, want.transfer);
  };
  const auto begin = wants_.begin() + static_cast<std::ptrdiff_t>(first);
  const auto end = wants_.begin() + static_cast<std::ptrdiff_t>(last_want);
  const auto before = [&](const Want& a, const Want& b) { return place(a) < place(b); };
  if (!std::is_sorted(begin, end, before)) std::sort(begin, end, before);
  const std::size_t first_span = spans_.size();
  for (std::size_t i = first; i < last_want; ++i) {
    const Want& want = wants_[i];
    const bool is_host = transfer_of(want).device == 0;
    const bool sparse = is_sparse(want);
    Span* last = spans_.size() == first_span ? nullptr : &spans_.back();
    if (last == nullptr || !joins(*last, want, sparse)) {
      spans_.push_back({i, i + 1, want.end, is_host, sparse});
      continue;
    }
    last->last = i + 1;
    last->end = std::max(last->end, want.end);
    last->all_host &= is_host;
    last->sparse |= sparse;
  }
  for (std::size_t i = first_span; i < spans_.size(); ++i) finish_span(spans_[i]);
}

// Sparse wants are kept apart from others, which are read in another way.
bool Scheduler::joins(const Span& span, const Want& want, bool sparse) const {
  if (wants_[span.first].file != want.file) return false;
  if (want.begin < span.end) return true;
  return sparse == span.sparse && want.begin - span.end <= out_.files[want.file].max_hole_nbytes;
}

void Scheduler::finish_span(Span& span) {
  const std::uint64_t nbytes = span.end - wants_[span.first].begin;
  if (span.sparse) {
    std::uint64_t needed = 0;
    for (std::size_t i = span.first; i < span.last; ++i) {
      const Transfer& transfer = transfer_of(wants_[i]);
      needed += is_checked(transfer) ? nbytes : transfer.nbytes();
    }
    span.sparse = static_cast<double>(needed) < kNearlyAll * static_cast<double>(nbytes);
  }
  if (span.sparse) return;
  ScheduledFile& file = out_.files[wants_[span.first].file];
  file.nbytes += nbytes;
  ++file.span_count;
}

void Scheduler::choose_io() {
  for (ScheduledFile& file : out_.files) {
    if (options_.io == IoMode::direct) file.direct = file.end > file.begin;
    if (options_.io != IoMode::automatic || file.nbytes < kMinDirectNbytes) continue;
    file.direct = file.cold && file.nbytes / file.span_count >= kMinDirectSpan;
  }
}

void Scheduler::cut_span(const Span& span, std::uint32_t group) {
  const std::uint32_t file = wants_[span.first].file;
  const bool direct = out_.files[file].direct && (!span.sparse || options_.io == IoMode::direct);
  const bool by_slots = direct || !span.all_host || is_joint();
  const std::uint64_t room = by_slots ? options_.slot_nbytes : out_.files[file].read_nbytes;
  std::uint64_t at = wants_[span.first].begin;
  std::size_t next = span.first;  // the first want without a part in any job
  active_.clear();
  while (!active_.empty() || next < span.last) {
    at = needed_from(at, span, next);  // a gap between jobs is not read
    // Slots hold what O_DIRECT reads, which begins at a multiple of its alignment.
    const std::uint64_t limit = at - at % kDirectAlignment + room;
    while (next < span.last && wants_[next].begin < limit) active_.push_back(next++);
    const std::uint64_t most = cut_before(limit);
    const std::uint64_t cut = is_joint() ? border_before(most, at) : most;
    while (!active_.empty() && wants_[active_.back()].begin >= cut) {
      active_.pop_back();
      --next;
    }
    Job job;
    job.begin = at;
    job.nbytes = cut - at;
    job.file = file;
    job.group = group;
    job.sparse = span.sparse;
    job.direct = direct;
    add_job(job, span);
    at = job.begin + job.nbytes;
    std::erase_if(active_, [&](std::size_t i) { return wants_[i].end <= at; });
  }
}

// The first byte from `at` on that is needed. `next` is the first want that is not active.
std::uint64_t Scheduler::needed_from(std::uint64_t at, const Span& span, std::size_t next) const {
  if (!span.sparse) return active_.empty() ? wants_[next].begin : at;
  std::uint64_t needed = next < span.last ? wants_[next].begin : span.end;
  for (const std::size_t i : active_) {
    const std::uint64_t offset = transfer_of(wants_[i]).tensor->where.offset;
    needed = std::min(needed, offset + transfer_of(wants_[i]).needed_from(at - offset));
  }
  return needed;
}

// The last place up to `limit` where a job may end, which is not inside a chunk that is checked.
// Checked tensors share no bytes, so at most one of them needs to be asked. A chunk is smaller than
// any job, so the place is after the job's begin.
std::uint64_t Scheduler::cut_before(std::uint64_t limit) const {
  for (const std::size_t i : active_) {
    const Want& want = wants_[i];
    if (want.end <= limit || !is_checked(transfer_of(want))) continue;
    return limit - (limit - transfer_of(want).tensor->where.offset) % kChunkBytes;
  }
  return limit;
}

// Where ranks change, if a job from `begin` on should end there; otherwise `cut`.
std::uint64_t Scheduler::border_before(std::uint64_t cut, std::uint64_t begin) {
  ranks_want_.clear();
  for (const std::size_t i : active_) {
    const Want& want = wants_[i];
    const std::uint32_t rank = (*options_.rank_of)[want.transfer];
    const Transfer& transfer = transfer_of(want);
    ranks_want_.push_back({&transfer, rank, is_checked(transfer), {want.begin, want.end}});
  }
  // What one rank does not check may end inside a chunk that others check.
  const std::uint64_t border = cut_before(borders_.find({begin, cut}, ranks_want_));
  return border > begin ? border : cut;
}

// Takes the parts of the active wants, and ends the job with the last of them.
void Scheduler::add_job(Job& job, const Span& span) {
  const std::uint64_t limit = job.begin + job.nbytes;
  job.first_part = static_cast<std::uint32_t>(out_.parts.size());
  std::uint64_t reached = job.begin;
  for (const std::size_t i : active_) {
    const Part part = part_of(wants_[i], job.begin, limit);
    if (part.begin >= part.end) continue;
    job.overlapping |= part.begin < reached;
    reached = std::max(reached, part.end);
    out_.parts.push_back(part);
  }
  job.parts = static_cast<std::uint32_t>(out_.parts.size()) - job.first_part;
  job.nbytes = reached - job.begin;
  job.read_nbytes = job.nbytes;
  job.kind = kind_of(job, span);
  if (job.sparse) {
    units_.begin(job);
    job.read_nbytes = units_.read_nbytes();
    job.overlapping = units_.overlapping();
  }
  out_.bytes_to_read += job.read_nbytes;
  out_.slot_jobs += job.kind == JobKind::staged ? 1 : 0;
  out_.jobs.push_back(job);
}

// The share of [begin, end) in a want. Of one with holes that are not read, it begins and ends at
// needed bytes; none may be left.
Part Scheduler::part_of(const Want& want, std::uint64_t begin, std::uint64_t end) const {
  Part part{std::max(begin, want.begin), std::min(end, want.end), want.transfer};
  if (!is_sparse(want) || part.begin >= part.end) return part;
  const Transfer& transfer = transfer_of(want);
  const std::uint64_t offset = transfer.tensor->where.offset;
  part.begin = offset + transfer.needed_from(part.begin - offset);
  part.end = offset + transfer.needed_before(part.end - offset);
  return part;
}

JobKind Scheduler::kind_of(const Job& job, const Span& span) const {
  if (!span.all_host || is_joint()) return JobKind::staged;
  if (!job.direct) return JobKind::in_place;
  // With O_DIRECT the disk writes to memory itself, if both ends have the same alignment.
  const std::byte* const place = job.nbytes >= kMinDirectInPlace ? place_of(job) : nullptr;
  const bool aligned =
      place != nullptr &&
      (reinterpret_cast<std::uintptr_t>(place) - job.begin) % kDirectAlignment == 0;
  return aligned ? JobKind::in_place : JobKind::staged;
}

// The place of the job's first byte, if all parts lie in memory as in the file, without a gap.
const std::byte* Scheduler::place_of(const Job& job) const {
  const std::byte* first = nullptr;
  std::uint64_t reached = job.begin;
  for (const Part& part : std::span(out_.parts).subspan(job.first_part, job.parts)) {
    const Transfer& transfer = plan_.transfers[part.transfer];
    const std::uint64_t offset = transfer.tensor->where.offset;
    const std::byte* const place = transfer.place_together(part.begin - offset, part.end - offset);
    if (first == nullptr) first = place;
    if (place == nullptr || part.begin != reached || place != first + (part.begin - job.begin)) {
      return nullptr;
    }
    reached = part.end;
  }
  return first;
}

void Scheduler::add_contents(std::uint32_t number, std::uint32_t group) {
  const Transfer& transfer = plan_.transfers[number];
  const bool in_place = transfer.device == 0 && transfer.runs == 1 && transfer.packed();
  const std::uint64_t room = in_place ? kContentsNbytes : options_.slot_nbytes;
  const std::uint64_t end = transfer.source_end();
  const std::uint32_t file = file_index(transfer);
  const bool sparse = passes_over_holes(transfer);
  for (std::uint64_t at = transfer.source; at < end;) {
    Job job;
    job.begin = sparse ? transfer.needed_from(at) : at;
    // Cut at multiples of the room, where a chunk begins in most cases, which is then needed once.
    const std::uint64_t last = job.begin + std::min(room - job.begin % room, end - job.begin);
    job.nbytes = (sparse ? transfer.needed_before(last) : last) - job.begin;
    at = job.begin + job.nbytes;
    job.read_nbytes =
        sparse ? transfer.contents_before(at) - transfer.contents_before(job.begin) : job.nbytes;
    job.sparse = sparse;
    job.file = file;
    job.group = group;
    job.first_part = static_cast<std::uint32_t>(out_.parts.size());
    job.parts = 1;
    job.kind = in_place ? JobKind::contents_in_place : JobKind::contents;
    out_.parts.push_back({job.begin, at, number});
    out_.bytes_to_read += job.read_nbytes;
    out_.slot_jobs += in_place ? 0 : 1;
    out_.jobs.push_back(job);
  }
}

// Strided tensors are gathered fastest in large ranges, and inflated ones are read from their start
// on, holes or not.
bool Scheduler::passes_over_holes(const Transfer& transfer) const {
  const TensorInfo& tensor = *transfer.tensor;
  const Checkpoint& checkpoint = plan_.checkpoints[transfer.checkpoint];
  if (transfer.runs < 2 || CheckpointAccess::gathers(checkpoint, tensor)) return false;
  const auto needs = [&](const SourceTensor& source) {
    if (source.info.stored == Stored::deflated) return false;
    const bool checked = options_.verify && !source.info.digests.empty();
    const std::uint64_t hole =
        transfer.hole_nbytes() / bits(tensor.dtype) * bits(source.info.dtype);
    const ScheduledFile& file = out_.files[files_.at(&source.place.container.source())];
    return hole >= std::max(checked ? kCheckedContentsHole : kContentsHole, file.max_hole_nbytes);
  };
  return std::ranges::all_of(CheckpointAccess::sources(checkpoint, tensor), needs);
}

}  // namespace

std::uint64_t hole_limit(const ScheduledFile& file, IoMode io) noexcept {
  const auto preferred = static_cast<std::uint64_t>(file.file->preferred_read_nbytes());
  const std::uint64_t least = io == IoMode::direct ? kDirectHole : file.cold ? kColdHole : 0;
  return std::min(std::max(preferred / kHoleShare, least), file.read_nbytes);
}

Schedule make_schedule(const LoadPlanState& plan, const ScheduleOptions& options) {
  return Scheduler(plan, options).run();
}

Error in_job(const LoadPlanState& plan, const Schedule& schedule, const Job& job, Error error) {
  const Transfer& transfer = plan.transfers[schedule.parts[job.first_part].transfer];
  const std::string place =
      str_cat(tensor_text(plan, transfer), job.parts > 1 ? " and others" : "", ": ",
              lies_in_file(*transfer.tensor) ? "file offset " : "byte ", job.begin);
  return in_file(path_of(plan, transfer), place, std::move(error));
}

}  // namespace flatbed
