#include "load/load_schedule.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <unordered_map>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/file_error.hpp"
#include "io/page_cache.hpp"

namespace flatbed {

namespace {

using safetensors::kChunkBytes;

// Files of which less is needed, or in smaller places, gain nothing from O_DIRECT.
constexpr std::uint64_t kMinDirectNbytes = 8 << 20;
constexpr std::uint64_t kMinDirectSpan = 128 << 10;
constexpr std::uint64_t kMinDirectInPlace = 64 << 10;
// If this share of a file is in the page cache, it is read from there.
constexpr double kWarm = 0.5;
// The size of one read of a tensor that is gathered or inflated: larger reads have longer runs.
constexpr std::uint64_t kContentsNbytes = 16 << 20;

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
};

// The wants of all groups are in one vector, group after group, and so are the spans and contents.
struct GroupRange {
  std::uint32_t group = 0;
  std::size_t last_span = 0;      // after its spans
  std::size_t last_contents = 0;  // after its transfers that are read by contents
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
  void join_wants(std::size_t first);
  void choose_io();
  void cut_span(const Span& span, std::uint32_t group);
  void add_job(Job& job, const Span& span);
  void add_contents(std::uint32_t number, std::uint32_t group);
  [[nodiscard]] std::uint64_t cut_before(std::uint64_t limit) const;
  [[nodiscard]] JobKind kind_of(const Job& job, const Span& span) const;
  std::uint32_t file_index(const Transfer& transfer);
  std::uint32_t file_index(const ByteSource& file);
  [[nodiscard]] const Transfer& transfer_of(const Want& want) const {
    return plan_.transfers[want.transfer];
  }
  [[nodiscard]] bool is_checked(const Transfer& transfer) const {
    return options_.verify && !transfer.tensor->digests.empty();
  }

  const LoadPlanState& plan_;
  ScheduleOptions options_;
  Schedule out_;
  std::vector<Want> wants_;
  std::vector<Span> spans_;
  std::vector<std::uint32_t> contents_;
  std::vector<std::size_t> active_;  // wants with a part in the current job
  std::unordered_map<const ByteSource*, std::uint32_t> files_;
};

Schedule Scheduler::run() {
  out_.groups = plan_.group_order();
  out_.jobs_of_group.resize(plan_.groups.size());
  wants_.reserve(plan_.transfers.size());
  const std::vector<std::vector<std::uint32_t>> transfers = transfers_of_groups();
  std::vector<GroupRange> ranges;
  for (const std::uint32_t group : out_.groups) {
    const std::size_t first = wants_.size();
    for (const std::uint32_t number : transfers[group]) collect(number);
    join_wants(first);
    ranges.push_back({group, spans_.size(), contents_.size()});
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
    out_.files.push_back({&file, false, file.size(), 0, 0, 0, nbytes});
    out_.read_nbytes = std::max(out_.read_nbytes, nbytes);
  }
  return entry->second;
}

void Scheduler::collect(std::uint32_t number) {
  const Transfer& transfer = plan_.transfers[number];
  out_.bytes_wanted += transfer.nbytes();
  if (!lies_in_file(*transfer.tensor)) {
    contents_.push_back(number);
  } else if (transfer.run_pitch - transfer.run_nbytes <= kMaxHoleNbytes) {
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
  if (!wants_.empty() && wants_.back().transfer == number && begin <= wants_.back().end) {
    wants_.back().end = end;
    return;
  }
  wants_.push_back({begin, end, file_index(transfer), number});
}

void Scheduler::join_wants(std::size_t first) {
  const auto place = [](const Want& want) {
    return std::tie(want.file, want.begin, want.end, want.transfer);
  };
  const auto first_want = wants_.begin() + static_cast<std::ptrdiff_t>(first);
  const auto before = [&](const Want& a, const Want& b) { return place(a) < place(b); };
  if (!std::is_sorted(first_want, wants_.end(), before))
    std::sort(first_want, wants_.end(), before);
  const std::size_t first_span = spans_.size();
  for (std::size_t i = first; i < wants_.size(); ++i) {
    const Want& want = wants_[i];
    const bool is_host = transfer_of(want).device == 0;
    Span* last = spans_.size() == first_span ? nullptr : &spans_.back();
    if (last == nullptr || wants_[last->first].file != want.file ||
        (want.begin > last->end && want.begin - last->end > kMaxHoleNbytes)) {
      spans_.push_back({i, i + 1, want.end, is_host});
      continue;
    }
    last->last = i + 1;
    last->end = std::max(last->end, want.end);
    last->all_host &= is_host;
  }
  for (std::size_t i = first_span; i < spans_.size(); ++i) {
    const std::uint64_t begin = wants_[spans_[i].first].begin;
    ScheduledFile& file = out_.files[wants_[spans_[i].first].file];
    file.begin = std::min(file.begin, begin);
    file.end = std::max(file.end, spans_[i].end);
    file.nbytes += spans_[i].end - begin;
    ++file.span_count;
  }
}

void Scheduler::choose_io() {
  for (ScheduledFile& file : out_.files) {
    if (options_.io == IoMode::direct) file.direct = file.nbytes != 0;
    if (options_.io != IoMode::automatic || file.nbytes < kMinDirectNbytes ||
        file.nbytes / file.span_count < kMinDirectSpan) {
      continue;
    }
    const std::optional<double> cached =
        cached_fraction(*file.file, file.begin, file.end - file.begin);
    file.direct = cached && *cached < kWarm;
  }
}

void Scheduler::cut_span(const Span& span, std::uint32_t group) {
  const std::uint32_t file = wants_[span.first].file;
  const bool by_slots = out_.files[file].direct || !span.all_host;
  const std::uint64_t room = by_slots ? options_.slot_nbytes : out_.files[file].read_nbytes;
  std::uint64_t at = wants_[span.first].begin;
  std::size_t next = span.first;  // the first want without a part in any job
  active_.clear();
  while (!active_.empty() || next < span.last) {
    if (active_.empty()) at = wants_[next].begin;  // the gap between jobs is not read
    // Slots hold what O_DIRECT reads, which begins at a multiple of its alignment.
    const std::uint64_t limit = at - at % kDirectAlignment + room;
    while (next < span.last && wants_[next].begin < limit) active_.push_back(next++);
    const std::uint64_t cut = cut_before(limit);
    while (!active_.empty() && wants_[active_.back()].begin >= cut) {
      active_.pop_back();
      --next;
    }
    Job job;
    job.begin = at;
    job.nbytes = cut - at;
    job.file = file;
    job.group = group;
    add_job(job, span);
    at = job.begin + job.nbytes;
    std::erase_if(active_, [&](std::size_t i) { return wants_[i].end <= at; });
  }
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

// Takes the parts of the active wants, and ends the job with the last of them.
void Scheduler::add_job(Job& job, const Span& span) {
  const std::uint64_t limit = job.begin + job.nbytes;
  job.first_part = static_cast<std::uint32_t>(out_.parts.size());
  job.parts = static_cast<std::uint32_t>(active_.size());
  std::uint64_t reached = job.begin;
  for (const std::size_t i : active_) {
    const Want& want = wants_[i];
    const Part part{std::max(job.begin, want.begin), std::min(limit, want.end), want.transfer};
    job.overlapping |= part.begin < reached;
    reached = std::max(reached, part.end);
    out_.parts.push_back(part);
  }
  job.nbytes = reached - job.begin;
  job.kind = kind_of(job, span);
  out_.bytes_to_read += job.nbytes;
  out_.slot_jobs += job.kind == JobKind::staged ? 1 : 0;
  out_.jobs.push_back(job);
}

JobKind Scheduler::kind_of(const Job& job, const Span& span) const {
  if (!span.all_host) return JobKind::staged;
  if (!out_.files[job.file].direct) return JobKind::in_place;
  // With O_DIRECT the disk writes to memory itself, if both ends have the same alignment.
  const Part& part = out_.parts[job.first_part];
  const Transfer& transfer = plan_.transfers[part.transfer];
  const std::uint64_t offset = transfer.tensor->where.offset;
  const bool alone = job.parts == 1 && job.nbytes >= kMinDirectInPlace;
  const std::byte* place =
      alone ? transfer.place_together(part.begin - offset, part.end - offset) : nullptr;
  const bool aligned =
      place != nullptr &&
      (reinterpret_cast<std::uintptr_t>(place) - part.begin) % kDirectAlignment == 0;
  return aligned ? JobKind::in_place : JobKind::staged;
}

void Scheduler::add_contents(std::uint32_t number, std::uint32_t group) {
  const Transfer& transfer = plan_.transfers[number];
  const bool in_place = transfer.device == 0 && transfer.runs == 1 && transfer.packed();
  const std::uint64_t room = in_place ? kContentsNbytes : options_.slot_nbytes;
  const std::uint64_t end = transfer.source_end();
  const std::uint32_t file = file_index(transfer);
  for (std::uint64_t at = transfer.source; at < end;) {
    Job job;
    job.begin = at;
    job.nbytes = std::min(room, end - at);
    job.file = file;
    job.group = group;
    job.first_part = static_cast<std::uint32_t>(out_.parts.size());
    job.parts = 1;
    job.kind = in_place ? JobKind::contents_in_place : JobKind::contents;
    at += job.nbytes;
    out_.parts.push_back({job.begin, at, number});
    out_.bytes_to_read += job.nbytes;
    out_.slot_jobs += in_place ? 0 : 1;
    out_.jobs.push_back(job);
  }
}

}  // namespace

Schedule make_schedule(const LoadPlanState& plan, const ScheduleOptions& options) {
  return Scheduler(plan, options).run();
}

Error in_job(const LoadPlanState& plan, const Schedule& schedule, const Job& job, Error error) {
  const Transfer& transfer = plan.transfers[schedule.parts[job.first_part].transfer];
  const std::string place =
      str_cat("tensor ", quoted(transfer.tensor->name), job.parts > 1 ? " and others" : "", ": ",
              lies_in_file(*transfer.tensor) ? "file offset " : "byte ", job.begin);
  return in_file(path_of(plan, transfer), place, std::move(error));
}

}  // namespace flatbed
