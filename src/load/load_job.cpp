#include "load/load_job.hpp"

#include <algorithm>
#include <utility>

#include "base/str_cat.hpp"
#include "checkpoint/checkpoint_access.hpp"
#include "io/digest.hpp"
#include "io/past_cache.hpp"
#include "io/reread.hpp"

namespace flatbed {

using safetensors::kChunkBytes;

namespace {

// Of what the processor copies, the kernel writes the first bytes of each part to their place: it
// reports memory that cannot be written, where a store would end the process.
constexpr std::size_t kTriedNbytes = 64;

}  // namespace

Result<void> JobRunner::run(const Job& job) {
  if (goes_ahead(job)) return begin_ahead(job);
  switch (job.kind) {
    case JobKind::in_place:
      return run_in_place(job);
    case JobKind::staged:
      return run_staged(job);
    case JobKind::contents:
      return run_contents(job);
    case JobKind::contents_in_place:
      return run_contents_in_place(job);
  }
  return {};
}

// The origin of a job's offsets for this tensor.
std::uint64_t JobRunner::offset_of(const Job& job, const Transfer& transfer) const {
  const bool in_file = job.kind == JobKind::in_place || job.kind == JobKind::staged;
  return in_file ? transfer.tensor->where.offset : 0;
}

Error JobRunner::in_job(const Job& job, Error error) const {
  return flatbed::in_job(work_.plan, work_.schedule, job, std::move(error));
}

// ---- straight into host memory ------------------------------------------------------------------

Result<void> JobRunner::run_in_place(const Job& job) {
  units_.begin(job);
  read_ahead(job);
  checked_to_ = job.begin;
  std::optional<LeasedPool::Pages> pages;  // once a unit was copied
  bool asked = false;
  for (const FileRange& range : units_.reads()) {
    for (std::uint64_t at = range.begin; at < range.end;) {
      if (const std::optional<Unit> unit = units_.peek(); unit && is_copied(job, *unit, at)) {
        if (!std::exchange(asked, true)) pages = lease_pages(job, at);
        if (pages) {
          FLATBED_ASSIGN(at, copy_pages(job, *unit, *pages));
          continue;
        }
        if (bounces(job, *unit, at)) {
          FLATBED_ASSIGN(at, bounce(job, *unit));
          continue;
        }
      }
      const Units::Place place = units_.place();
      const Result<std::uint64_t> end = choose_segments(job, {at, range.end});
      if (!end) return in_job(job, end.error());
      units_.go_to(place);
      Result<void> read = read_in_place(job, {at, *end});
      if (!read && work_.stop.stopped()) return {};
      if (!read) return in_job(job, std::move(read).error());
      at = *end;
      FLATBED_TRY(check_in_place(job, at, Rereads::now));
    }
  }
  FLATBED_TRY(copy_to_host());
  return work_.groups.job_done(job, job.read_nbytes);
}

// Checks the units before `end`, and collects the copies of what was read elsewhere.
Result<void> JobRunner::check_in_place(const Job& job, std::uint64_t end, Rereads rereads) {
  const StageTimer timer(work_.hooks, times_, Stage::hash);
  for (std::optional<Unit> unit = units_.peek(); unit && unit->end <= end; unit = units_.peek()) {
    std::byte* const place = place_of(job, *unit);
    std::byte* const at = place != nullptr ? place : scratch_at(job, unit->begin);
    if (unit->checked && unit->end > checked_to_) {
      const std::span<std::byte> bytes(at, static_cast<std::size_t>(unit->nbytes()));
      FLATBED_ASSIGN(const bool matches, check(*unit, bytes, nullptr, rereads));
      if (!matches) return {};
      checked_to_ = unit->end;
    }
    if (place == nullptr) add_host_copy(*unit, at);
    units_.take(*unit);
  }
  return {};
}

void JobRunner::add_host_copy(const Unit& unit, const std::byte* at) {
  const std::uint64_t offset = unit.transfer->tensor->where.offset;
  unit.transfer->append_pieces(unit.begin - offset, unit.end - offset, at, host_copies_);
}

// What was collected since.
Result<void> JobRunner::copy_to_host() {
  if (host_copies_.empty()) return {};
  const StageTimer timer(work_.hooks, times_, Stage::submit);
  FLATBED_TRY(work_.host.copy(host_copies_));
  host_copies_.clear();
  return {};
}

// The reads of a job that the disk can do at once.
void JobRunner::read_ahead(const Job& job) {
  if (!job.sparse || job.direct || !work_.schedule.files[job.file].cold) return;
  const StageTimer timer(work_.hooks, times_, Stage::read);
  work_.files[job.file].read_ahead(units_.reads());
}

// Where to read units to, from the begin of the range on: all of them, or, if they are checked, as
// many as stay in the processor's cache until then. Every unit that stays together goes to its
// place, the rest and the gaps into the scratch buffer. Returns the end of what is to be read.
Result<std::uint64_t> JobRunner::choose_segments(const Job& job, FileRange range) {
  segments_.clear();
  const auto add = [this](std::byte* at, std::uint64_t nbytes) {
    const auto size = static_cast<std::size_t>(nbytes);
    const bool joins =
        !segments_.empty() && segments_.back().data() + segments_.back().size() == at;
    if (joins) {
      segments_.back() = {segments_.back().data(), segments_.back().size() + size};
    } else {
      segments_.emplace_back(at, size);
    }
  };
  const std::uint64_t piece_nbytes = work_.schedule.files[job.file].piece_nbytes;
  std::uint64_t at = range.begin;
  const auto add_beside = [&](std::uint64_t end) -> Result<void> {
    if (end <= at) return {};
    const std::uint64_t nbytes = work_.schedule.read_nbytes;
    if (!scratch_) scratch_ = try_allocate_large(nbytes);
    if (!scratch_) {
      return make_error(ErrorCode::resource_exhausted, "no memory for ", nbytes, " bytes");
    }
    add(scratch_at(job, at), end - at);
    at = end;
    return {};
  };
  for (std::optional<Unit> unit = units_.peek(); unit && unit->begin < range.end;
       unit = units_.peek()) {
    std::byte* const place = place_of(job, *unit);
    FLATBED_TRY(add_beside(place != nullptr ? unit->begin : unit->end));
    if (place != nullptr) {
      add(place, unit->nbytes());
      at = unit->end;
    }
    units_.take(*unit);
    const bool full = unit->checked && unit->end - range.begin >= piece_nbytes;
    if (full && !job.overlapping && !job.direct) range.end = unit->end;
  }
  FLATBED_TRY(add_beside(range.end));
  return range.end;
}

// To the segments.
Result<void> JobRunner::read_in_place(const Job& job, const FileRange& range) {
  LoadFile& file = work_.files[job.file];
  if (checks_on_arrival(job)) {
    return read_checking(file, range.begin, [&](std::uint64_t arrived) {
      return check_in_place(job, arrived, Rereads::later);
    });
  }
  const StageTimer timer(work_.hooks, times_, Stage::read);
  // Only a job of a single segment gets O_DIRECT without a slot.
  const bool direct = job.direct && segments_.size() == 1;
  return direct ? file.read_within(range.begin, segments_.front())
                : file.read(range.begin, segments_);
}

// Whether units are checked while those after them are on their way: reads of megabytes over a
// network have left the processor's cache when they end.
bool JobRunner::checks_on_arrival(const Job& job) const {
  const ScheduledFile& file = work_.schedule.files[job.file];
  return work_.check_on_arrival && file.checked && !job.direct && file.piece_nbytes > kPieceNbytes;
}

// Reads to the segments, and has all units checked that end before an offset that was reached, on
// the thread that receives them: this one waits meanwhile, so what is its own may be used. A unit
// that does not match is left for later, because it cannot be read again meanwhile, and so are
// those after it. An error that comes with a stop of the load is that stop's.
template <typename Check>
Result<void> JobRunner::read_checking(LoadFile& file, std::uint64_t begin, Check check) {
  const auto spent_on_arrival = [this] {
    return times_[static_cast<std::size_t>(Stage::hash)] +
           times_[static_cast<std::size_t>(Stage::submit)];
  };
  const std::uint64_t before = spent_on_arrival();
  mismatched_ = false;
  Result<void> read;
  {
    const StageTimer timer(work_.hooks, times_, Stage::read);
    read = file.read(begin, segments_, [&](std::uint64_t nbytes) -> Result<void> {
      if (work_.stop.stopped()) return Error{ErrorCode::cancelled, "the load stops"};
      return mismatched_ ? Result<void>() : check(begin + nbytes);
    });
  }
  times_[static_cast<std::size_t>(Stage::read)] -= spent_on_arrival() - before;
  return read;
}

// Null if the unit is read elsewhere and the needed bytes are copied.
std::byte* JobRunner::place_of(const Job& job, const Unit& unit) const {
  if (job.overlapping) return nullptr;
  const std::uint64_t offset = unit.transfer->tensor->where.offset;
  return unit.transfer->place_together(unit.begin - offset, unit.end - offset);
}

std::byte* JobRunner::scratch_at(const Job& job, std::uint64_t at) const {
  return scratch_.get() + (at - job.begin);
}

// Whether the unit begins here and may be copied, although the kernel could write it to its place.
bool JobRunner::is_copied(const Job& job, const Unit& unit, std::uint64_t at) const {
  constexpr std::uint64_t kLeastNbytes = 64 << 10;  // from which the copy pays
  return unit.begin == at && !job.direct && unit.nbytes() >= kLeastNbytes &&
         work_.schedule.files[job.file].piece_nbytes <= kChunkBytes &&
         place_of(job, unit) != nullptr;
}

// Whether it is by way of the buffer.
bool JobRunner::bounces(const Job& job, const Unit& unit, std::uint64_t at) const {
  return work_.bounce && unit.checked && is_copied(job, unit, at);
}

// The pages of the job from an offset on, if they are to be read where they are.
std::optional<LeasedPool::Pages> JobRunner::lease_pages(const Job& job, std::uint64_t from) {
  constexpr std::uint64_t kLeastNbytes = 1 << 20;  // worth some calls of the kernel
  const FileRange range{from, job.begin + job.nbytes};
  const bool cold = work_.schedule.files[job.file].cold;
  if (work_.leased == nullptr || cold || job.sparse || range.nbytes() < kLeastNbytes)
    return std::nullopt;
  const StageTimer timer(work_.hooks, times_, Stage::read);
  return work_.leased->pages(work_.files[job.file].file(), range);
}

// Copies one unit out of them, in the pass that hashes it. Returns its end.
Result<std::uint64_t> JobRunner::copy_pages(const Job& job, const Unit& unit,
                                            const LeasedPool::Pages& pages) {
  LoadFile& file = work_.files[job.file];
  std::byte* const place = place_of(job, unit);
  if (unit.opens_part) {
    const StageTimer timer(work_.hooks, times_, Stage::read);
    Result<void> read = file.read(unit.begin, {place, kTriedNbytes});
    if (!read) return in_job(job, std::move(read).error());
  }
  const StageTimer timer(work_.hooks, times_, Stage::hash);
  const std::span<const std::byte> bytes = pages.bytes({unit.begin, unit.end});
  if (unit.checked) {
    Result<void> checked = compare(unit, bytes, place);
    finish_past_cache();  // before another thread is told, or copies again
    FLATBED_TRY(count_checked(unit, std::move(checked)));
  } else {
    copy_fetching(place, bytes.data(), bytes.size());
    finish_past_cache();
  }
  file.count(unit.nbytes() - (unit.opens_part ? kTriedNbytes : 0));
  units_.take(unit);
  return unit.end;
}

// Reads this unit, and those after it that also bounce, as many as the buffer has room for. Returns
// the end of what was read.
Result<std::uint64_t> JobRunner::bounce(const Job& job, const Unit& first) {
  if (!bounce_) bounce_ = try_allocate_large(kBounceNbytes + kDirectAlignment);
  if (!bounce_)
    return make_error(ErrorCode::resource_exhausted, "no memory for ", kBounceNbytes, " bytes");
  std::uint64_t end = first.begin;
  bounced_.clear();
  for (std::optional<Unit> unit = first; unit; unit = units_.peek()) {
    const bool fits = unit->end - first.begin <= kBounceNbytes;
    const bool joins = bounced_.empty() || (bounces(job, *unit, end) && !unit->opens_part);
    if (!fits || !joins) break;
    bounced_.push_back(*unit);
    end = unit->end;
    units_.take(*unit);
  }
  // Placed as in the file, because the kernel copies whole pages fastest.
  const std::span<std::byte> bytes(bounce_.get() + first.begin % kDirectAlignment,
                                   static_cast<std::size_t>(end - first.begin));
  FLATBED_TRY(read_to_bounce(job, first, bytes));
  const StageTimer timer(work_.hooks, times_, Stage::hash);
  for (const Unit& unit : bounced_) {
    const auto from = static_cast<std::size_t>(unit.begin - first.begin);
    const auto nbytes = static_cast<std::size_t>(unit.nbytes());
    FLATBED_TRY(check(unit, bytes.subspan(from, nbytes), place_of(job, unit), Rereads::now));
  }
  return end;
}

Result<void> JobRunner::read_to_bounce(const Job& job, const Unit& first,
                                       std::span<std::byte> bytes) {
  const StageTimer timer(work_.hooks, times_, Stage::read);
  LoadFile& file = work_.files[job.file];
  Result<void> read;
  if (first.opens_part) {
    std::byte* const place = place_of(job, first);
    segments_.assign({{place, kTriedNbytes}, bytes.subspan(kTriedNbytes)});
    read = file.read(first.begin, segments_);
    if (read) std::copy_n(place, kTriedNbytes, bytes.data());
  } else {
    read = file.read(first.begin, bytes);
  }
  return read ? std::move(read) : Result<void>(in_job(job, std::move(read).error()));
}

// ---- by way of a slot ---------------------------------------------------------------------------

// Slots of jobs that were begun become free when these are finished. A thread that waits for a slot
// therefore holds none: all slots might be those of threads that wait.
Result<std::optional<std::uint32_t>> JobRunner::take_slot() {
  while (ahead_ && !ahead_->empty()) {
    if (const std::optional<std::uint32_t> slot = work_.slots->try_take(times_)) return slot;
    FLATBED_TRY(finish_oldest());
  }
  return work_.slots->take(times_);
}

Result<void> JobRunner::run_staged(const Job& job) {
  FLATBED_ASSIGN(const std::optional<std::uint32_t> slot, take_slot());
  if (!slot) return {};
  // Placed as in the file, so that O_DIRECT can read whole blocks around it.
  std::byte* const at = work_.slots->data(*slot) + job.begin % kDirectAlignment;
  Result<void> read = job.sparse ? read_sparse(job, at) : read_staged(job, at);
  if (!read) {
    work_.slots->give_back(*slot);
    return read;
  }
  return deliver(job, *slot, at);
}

// Reads, checks, and copies what is the host's. Through the page cache it reads in pieces that stay
// in the processor's cache until they are hashed; with O_DIRECT it reads all at once, as disks
// prefer.
Result<void> JobRunner::read_staged(const Job& job, std::byte* at) {
  LoadFile& file = work_.files[job.file];
  const std::uint64_t piece_nbytes = work_.schedule.files[job.file].piece_nbytes;
  const std::uint64_t end = job.begin + job.nbytes;
  const bool direct = job.direct && file.direct();
  units_.begin(job);
  checked_to_ = job.begin;
  for (std::uint64_t from = job.begin; from < end && !work_.stop.stopped();) {
    const std::uint64_t to = direct ? end : std::min(end, from + piece_nbytes);
    const std::span<std::byte> out(at + (from - job.begin), static_cast<std::size_t>(to - from));
    Result<void> read = read_piece(job, from, out, at);
    if (!read && work_.stop.stopped()) return {};
    if (!read) return in_job(job, std::move(read).error());
    FLATBED_TRY(check_to(to, job, at, Rereads::now));
    from = to;
  }
  return {};
}

Result<void> JobRunner::read_piece(const Job& job, std::uint64_t from, std::span<std::byte> out,
                                   std::byte* at) {
  LoadFile& file = work_.files[job.file];
  if (checks_on_arrival(job)) {
    segments_.assign(1, out);
    return read_checking(file, from, [&](std::uint64_t arrived) {
      return check_to(arrived, job, at, Rereads::later);
    });
  }
  const StageTimer timer(work_.hooks, times_, Stage::read);
  return job.direct && file.direct() ? file.read_around(from, out) : file.read(from, out);
}

// Checks the units that end by then, of a job whose bytes lie at `at` as in the file. Those for the
// host are copied a few at a time, while they are in the processor's cache from being hashed.
Result<void> JobRunner::check_to(std::uint64_t end, const Job& job, std::byte* at,
                                 Rereads rereads) {
  const auto is_due = [&] {
    const std::optional<Unit> unit = units_.peek();
    return unit && unit->end <= end;
  };
  while (is_due()) {
    FLATBED_ASSIGN(const bool matches, check_some(end, job, at, rereads));
    FLATBED_TRY(copy_to_host());
    if (!matches) break;
  }
  return {};
}

// At least one, if any is left. False: the next one does not match, and was left for later.
Result<bool> JobRunner::check_some(std::uint64_t end, const Job& job, std::byte* at,
                                   Rereads rereads) {
  const StageTimer timer(work_.hooks, times_, Stage::hash);
  std::uint64_t nbytes = 0;
  for (std::optional<Unit> unit = units_.peek(); unit && unit->end <= end; unit = units_.peek()) {
    std::byte* const from = at + (unit->begin - job.begin);
    // What was read straight to its place is there.
    const bool to_copy = unit->transfer->device == 0 && job.kind == JobKind::staged;
    const bool is_checked = unit->checked && unit->end > checked_to_;
    std::byte* const to = to_copy && is_checked ? place_of(job, *unit) : nullptr;
    if (is_checked) {
      const std::span<std::byte> bytes(from, static_cast<std::size_t>(unit->nbytes()));
      FLATBED_ASSIGN(const bool matches, check(*unit, bytes, to, rereads));
      if (!matches) return false;
      checked_to_ = unit->end;
    }
    if (to_copy && to == nullptr) add_host_copy(*unit, from);
    units_.take(*unit);
    nbytes += unit->nbytes();
    if (nbytes >= kPieceNbytes) break;
  }
  return true;
}

// The runs lie in the slot as in the file, so that they are delivered as if the holes had been
// read. Nothing is checked.
Result<void> JobRunner::read_sparse(const Job& job, std::byte* at) {
  LoadFile& file = work_.files[job.file];
  units_.begin(job);
  read_ahead(job);
  const StageTimer timer(work_.hooks, times_, Stage::read);
  for (const FileRange& range : units_.reads()) {
    if (work_.stop.stopped()) break;
    const std::span<std::byte> out(at + (range.begin - job.begin),
                                   static_cast<std::size_t>(range.nbytes()));
    Result<void> read =
        job.direct ? file.read_around(range.begin, out) : file.read(range.begin, out);
    if (!read) return in_job(job, std::move(read).error());
  }
  return {};
}

// The host has what was checked of a job of a file.
void JobRunner::collect_pieces(const Job& job, std::byte* at) {
  const bool host_is_served = job.kind == JobKind::staged && !job.sparse;
  pieces_.resize(work_.plan.devices.size());
  for (std::vector<CopyPiece>& pieces : pieces_) pieces.clear();
  for (const Part& part : std::span(work_.schedule.parts).subspan(job.first_part, job.parts)) {
    const Transfer& transfer = work_.plan.transfers[part.transfer];
    if (transfer.device == 0 && host_is_served) continue;
    const std::uint64_t offset = offset_of(job, transfer);
    transfer.append_pieces(part.begin - offset, part.end - offset, at + (part.begin - job.begin),
                           pieces_[transfer.device]);
  }
  for (std::vector<CopyPiece>& pieces : pieces_) {
    if (pieces.empty()) continue;
    std::size_t last = 0;  // neighbours in both places become one copy
    for (std::size_t i = 1; i < pieces.size(); ++i) {
      CopyPiece& before = pieces[last];
      const CopyPiece& piece = pieces[i];
      if (before.rows == 1 && piece.rows == 1 && before.from + before.nbytes == piece.from &&
          before.to + before.nbytes == piece.to) {
        before.nbytes += piece.nbytes;
      } else {
        pieces[++last] = piece;
      }
    }
    pieces.resize(last + 1);
  }
  rows_.gather(at, pieces_);
}

// Takes over the slot. A job that a stopped load does not deliver does not count as done.
Result<void> JobRunner::deliver(const Job& job, std::uint32_t slot, std::byte* at) {
  if (work_.stop.stopped()) {
    work_.slots->give_back(slot);
    return {};
  }
  const StageTimer timer(work_.hooks, times_, Stage::submit);
  collect_pieces(job, at);
  std::vector<DeviceTicket> tickets;
  Result<void> queued = queue(tickets);
  if (queued) {
    work_.slots->copying(slot, job, std::move(tickets));
    return work_.groups.job_done(job, job.read_nbytes);
  }
  for (const DeviceTicket& ticket : tickets)
    work_.plan.devices[ticket.device]->forget(ticket.ticket);
  work_.slots->doubtful(slot);
  return in_job(job, std::move(queued).error());
}

Result<void> JobRunner::queue(std::vector<DeviceTicket>& tickets) {
  if (!pieces_[0].empty()) FLATBED_TRY(work_.host.copy(pieces_[0]));
  for (std::uint32_t device = 1; device < pieces_.size(); ++device) {
    if (pieces_[device].empty()) continue;
    FLATBED_ASSIGN(const Ticket ticket, work_.plan.devices[device]->copy(pieces_[device]));
    tickets.push_back({device, ticket});
  }
  return {};
}

// ---- past the page cache, with a queue ----------------------------------------------------------

bool JobRunner::goes_ahead(const Job& job) const {
  const bool of_file = job.kind == JobKind::in_place || job.kind == JobKind::staged;
  return ahead_ && of_file && job.direct && !job.sparse && !work_.hooks.read &&
         work_.files[job.file].direct();
}

Result<void> JobRunner::begin_ahead(const Job& job) {
  while (ahead_->is_full(job)) FLATBED_TRY(finish_oldest());
  LoadAhead::Flight flight{&job};
  if (job.kind == JobKind::staged) {
    FLATBED_ASSIGN(flight.slot, take_slot());
    if (!flight.slot) return {};
    flight.at = work_.slots->data(*flight.slot) + job.begin % kDirectAlignment;
  } else {
    // Such a job lies in memory as in the file, beginning with its first part.
    const Part& part = work_.schedule.parts[job.first_part];
    const Transfer& transfer = work_.plan.transfers[part.transfer];
    const std::uint64_t offset = transfer.tensor->where.offset;
    flight.at = transfer.place_together(part.begin - offset, part.end - offset);
  }
  ahead_->begin(flight, work_.files[job.file]);
  return {};
}

Result<void> JobRunner::finish() {
  while (ahead_ && !ahead_->empty()) FLATBED_TRY(finish_oldest());
  return {};
}

// Whatever becomes of the job, nothing writes to its place afterwards.
Result<void> JobRunner::finish_oldest() {
  const LoadAhead::Flight flight = ahead_->oldest();
  const Job& job = *flight.job;
  Result<void> read = work_.stop.stopped() ? Result<void>() : read_oldest(flight);
  {
    const StageTimer timer(work_.hooks, times_, Stage::read);
    ahead_->drop();
  }
  if (flight.slot && read) return deliver(job, *flight.slot, flight.at);
  if (flight.slot) work_.slots->give_back(*flight.slot);
  if (!read || work_.stop.stopped()) return read;
  return work_.groups.job_done(job, job.read_nbytes);
}

Result<void> JobRunner::read_oldest(const LoadAhead::Flight& flight) {
  const Job& job = *flight.job;
  const std::uint64_t end = job.begin + job.nbytes;
  units_.begin(job);
  checked_to_ = job.begin;
  for (std::uint64_t reached = job.begin; reached < end && !work_.stop.stopped();) {
    {
      const StageTimer timer(work_.hooks, times_, Stage::read);
      Result<std::uint64_t> next = ahead_->next();
      if (!next) return in_job(job, std::move(next).error());
      reached = *next;
    }
    FLATBED_TRY(check_to(reached, job, flight.at, Rereads::now));
  }
  return {};
}

// ---- tensors that do not lie in a file as they are ----------------------------------------------

Result<void> JobRunner::run_contents(const Job& job) {
  FLATBED_ASSIGN(const std::optional<std::uint32_t> slot, take_slot());
  if (!slot) return {};
  std::byte* const at = work_.slots->data(*slot);
  if (Result<void> read = read_contents(job, {at, static_cast<std::size_t>(job.nbytes)}); !read) {
    work_.slots->give_back(*slot);
    return read;
  }
  return deliver(job, *slot, at);
}

Result<void> JobRunner::run_contents_in_place(const Job& job) {
  const Part& part = work_.schedule.parts[job.first_part];
  std::byte* const place = work_.plan.transfers[part.transfer].place_together(part.begin, part.end);
  FLATBED_TRY(read_contents(job, {place, static_cast<std::size_t>(job.nbytes)}));
  return work_.groups.job_done(job, job.nbytes);
}

Result<void> JobRunner::read_contents(const Job& job, std::span<std::byte> out) {
  const StageTimer timer(work_.hooks, times_, Stage::read);
  const std::uint32_t number = work_.schedule.parts[job.first_part].transfer;
  const Transfer& transfer = work_.plan.transfers[number];
  const Checkpoint& checkpoint = work_.plan.checkpoints[transfer.checkpoint];
  ReadTally tally;
  Result<void> read;
  const std::uint64_t end = job.begin + job.nbytes;
  for (std::uint64_t at = job.begin; at < end && read;) {
    const std::uint64_t last = job.sparse ? std::min(end, transfer.run_end(at)) : end;
    const std::span<std::byte> part =
        out.subspan(static_cast<std::size_t>(at - job.begin), static_cast<std::size_t>(last - at));
    read = CheckpointAccess::read(checkpoint, *transfer.tensor, {at, part},
                                  {work_.verify, tally, work_.verify == Verify::yes});
    at = job.sparse ? transfer.needed_from(last) : last;
  }
  contents_read_ += tally.bytes_read;
  bytes_verified_ += tally.bytes_verified;
  chunks_verified_ += tally.chunks_verified;
  chunks_reread_ += tally.chunks_reread;
  if (tally.casts.total() != 0) casts_[number] += tally.casts;
  return read ? std::move(read) : Result<void>(in_job(job, std::move(read).error()));
}

// ---- digests ------------------------------------------------------------------------------------

std::uint64_t JobRunner::digest_of(std::span<const std::byte> bytes, std::byte* copy_to) const {
  if (!work_.hooks.hash) return copy_to != nullptr ? copy_and_xxh3(copy_to, bytes) : xxh3(bytes);
  if (copy_to != nullptr) copy_past_cache(copy_to, bytes.data(), bytes.size());
  return work_.hooks.hash(bytes);
}

// Whether they match their digest. Copies them too, if told where to.
Result<void> JobRunner::compare(const Unit& unit, std::span<const std::byte> bytes,
                                std::byte* copy_to) const {
  const TensorInfo& tensor = *unit.transfer->tensor;
  const std::uint64_t chunk = (unit.begin - tensor.where.offset) / kChunkBytes;
  const std::uint64_t digest = digest_of(bytes, copy_to);
  return CheckpointAccess::check_chunk(work_.plan.checkpoints[unit.transfer->checkpoint], tensor,
                                       chunk, digest);
}

// Of a unit that was compared for the last time.
Result<void> JobRunner::count_checked(const Unit& unit, Result<void> checked) {
  if (!checked) {
    const Checkpoint& checkpoint = work_.plan.checkpoints[unit.transfer->checkpoint];
    return with_context(checkpoint.files()[unit.transfer->tensor->where.file].path.native(),
                        std::move(checked).error());
  }
  bytes_verified_ += unit.nbytes();
  ++chunks_verified_;
  return {};
}

// Compares them, and copies them too, if told where to. False: they do not match, and may be read
// again later.
Result<bool> JobRunner::check(const Unit& unit, std::span<std::byte> bytes, std::byte* copy_to,
                              Rereads rereads) {
  const Checkpoint& checkpoint = work_.plan.checkpoints[unit.transfer->checkpoint];
  const ByteSource& source =
      CheckpointAccess::source(checkpoint, unit.transfer->tensor->where.file);
  Result<void> checked;
  const auto matches = [&](std::span<const std::byte> read) {
    checked = compare(unit, read, copy_to);
    return checked.has_value();
  };
  if (rereads == Rereads::later) {
    mismatched_ = !matches(bytes);
  } else {
    FLATBED_TRY(matches_or_reread({source, unit.begin, bytes}, chunks_reread_, matches));
  }
  if (copy_to != nullptr) finish_past_cache();  // before another thread is told, or copies again
  if (rereads == Rereads::later && mismatched_) return false;
  FLATBED_TRY(count_checked(unit, std::move(checked)));
  return true;
}

}  // namespace flatbed
