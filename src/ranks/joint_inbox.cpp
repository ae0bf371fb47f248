#include "ranks/joint_inbox.hpp"

#include <algorithm>
#include <utility>

#include "base/str_cat.hpp"
#include "ranks/lent_places.hpp"

namespace flatbed {

namespace {

// Slots that are kept ready for messages; the others are on their way to devices.
constexpr std::size_t kMostEmpty = 4;
constexpr std::size_t kMostDrops = 8;
// How soon a delivering thread notices what wakes nobody.
constexpr std::chrono::milliseconds kLook{2};

}  // namespace

Result<void> JointInbox::begin(const LoadWork& work, const StagingOptions& staging,
                               std::chrono::milliseconds device_timeout) {
  if (threads() == 0) return {};
  const std::span<Device* const> devices = work.plan.real_devices();
  Device& device = devices.empty() ? *host_ : *devices.front();
  FLATBED_ASSIGN(pool_, StagingSlots::unstaged_pool(device, staging));
  work_.emplace(work);
  for (const ExpectedMessage& each : jobs_.expected)
    slots_needed_ += place_of(each) == nullptr ? 1 : 0;
  slots_.emplace(
      *pool_, LoadSlots::Options{work.hooks, work.stop, work.plan, work.schedule, device_timeout});
  return {};
}

// ---- the receiving thread ----------------------------------------------------------------------

Result<const ExpectedMessage*> JointInbox::expected_of(const Announced& message) {
  const auto found = jobs_.numbers.find(message.number);
  if (found == jobs_.numbers.end() || !open_[found->second]) {
    return make_error(ErrorCode::collective_failed, "rank ", message.from,
                      ": a message that nobody expects: found ", message.nbytes, " bytes");
  }
  const ExpectedMessage& expected = jobs_.expected[found->second];
  if (message.from != expected.from || message.nbytes != expected.nbytes) {
    return make_error(ErrorCode::collective_failed, "rank ", message.from,
                      ": another message than expected: found ", message.nbytes,
                      " bytes, expected ", expected.nbytes, " of rank ", expected.from);
  }
  return &expected;
}

Result<bool> JointInbox::receive(bool stopped) {
  bool any = false;
  if (stopped) {
    FLATBED_ASSIGN(any, drop());
  } else {
    while (true) {
      FLATBED_ASSIGN(const bool begun, begin_next());
      FLATBED_ASSIGN(const bool begun_lent, begin_lent());
      if (!begun && !begun_lent) break;
      any = true;
    }
  }
  FLATBED_ASSIGN(const bool returned, give_back());
  any = any || returned;
  for (std::size_t i = 0; i < receiving_.size();) {
    const Result<bool> done = link_.collective().done(receiving_[i].ticket);
    if (done && !*done) {
      ++i;
      continue;
    }
    const Filled filled = receiving_[i];
    receiving_.erase(receiving_.begin() + static_cast<std::ptrdiff_t>(i));
    if (!done) {
      if (filled.slot) slots_->abandon(*filled.slot);
      return with_context(str_cat("rank ", jobs_.expected[filled.number].from), done.error());
    }
    received_ += jobs_.expected[filled.number].nbytes;
    any = true;
    const std::lock_guard lock(mutex_);
    filled_.push_back(filled);
    changed_.notify_one();
  }
  return any;
}

// Of a load that has stopped.
Result<bool> JointInbox::drop() {
  bool any = false;
  while (link_.drops() < kMostDrops) {
    const std::optional<Incoming> message = next_ ? std::exchange(next_, {}) : link_.take_data();
    if (!message) break;
    FLATBED_TRY(link_.begin_drop(*message));
    any = true;
  }
  while (true) {
    const std::optional<RankLink::Lent> lent =
        next_lent_ ? std::exchange(next_lent_, {}) : link_.take_lent();
    if (!lent) break;
    FLATBED_TRY(link_.give_back(lent->from, lent->number));
    any = true;
  }
  const std::lock_guard lock(mutex_);
  std::erase_if(filled_, [this](const Filled& filled) {
    if (filled.lent.empty()) return false;
    if (filled.slot) slots_->give_back(*filled.slot);
    copied_.push_back(filled.number);
    return true;
  });
  return any;
}

Result<bool> JointInbox::give_back() {
  std::vector<std::uint32_t> copied;
  {
    const std::lock_guard lock(mutex_);
    copied.swap(copied_);
  }
  for (const std::uint32_t number : copied) {
    const ExpectedMessage& expected = jobs_.expected[number];
    FLATBED_TRY(link_.give_back(expected.from, expected.number));
  }
  return !copied.empty();
}

bool JointInbox::is_receiving() const {
  {
    const std::lock_guard lock(mutex_);
    if (!copied_.empty()) return true;
  }
  return std::ranges::any_of(receiving_, [this](const Filled& each) {
    return !link_.is_lost(jobs_.expected[each.number].from);
  });
}

// Begins to receive the next message that has been announced, if there is a slot for it.
Result<bool> JointInbox::begin_next() {
  if (!next_) next_ = link_.take_data();
  if (!next_) return false;
  FLATBED_ASSIGN(const ExpectedMessage* const expected,
                 expected_of({next_->from, MessageTag::unpack(next_->tag).number, next_->nbytes}));
  Filled filled;
  std::byte* const place = take_place(*expected, filled);
  if (place == nullptr) return false;
  Result<Collective::Ticket> ticket = link_.collective().receive(
      *next_, std::span(place, static_cast<std::size_t>(expected->nbytes)));
  if (!ticket) {
    if (filled.slot) slots_->give_back(*filled.slot);
    return with_context(str_cat("rank ", next_->from), std::move(ticket).error());
  }
  filled.ticket = *ticket;
  next_.reset();
  receiving_.push_back(filled);
  return true;
}

// Leaves what another rank lends to a delivering thread, if there is a slot for it.
Result<bool> JointInbox::begin_lent() {
  if (!next_lent_) next_lent_ = link_.take_lent();
  if (!next_lent_) return false;
  const auto found = jobs_.numbers.find(next_lent_->number);
  const std::uint64_t nbytes =
      found == jobs_.numbers.end() ? 0 : jobs_.expected[found->second].nbytes;
  FLATBED_ASSIGN(const ExpectedMessage* const expected,
                 expected_of({next_lent_->from, next_lent_->number, nbytes}));
  Filled filled;
  std::byte* const place = take_place(*expected, filled);
  if (place == nullptr) return false;
  Result<std::vector<CopyPiece>> pieces =
      decode_places(next_lent_->places, link_.collective().shared_memory(expected->from),
                    std::span(place, static_cast<std::size_t>(nbytes)));
  if (!pieces) {
    if (filled.slot) slots_->give_back(*filled.slot);
    return with_context(str_cat("rank ", next_lent_->from), std::move(pieces).error());
  }
  filled.lent = *std::move(pieces);
  next_lent_.reset();
  received_ += nbytes;
  const std::lock_guard lock(mutex_);
  filled_.push_back(std::move(filled));
  changed_.notify_one();
  return true;
}

std::byte* JointInbox::take_place(const ExpectedMessage& expected, Filled& filled) {
  std::byte* place = place_of(expected);
  if (place == nullptr) {
    const std::lock_guard lock(mutex_);
    if (empty_.empty()) return nullptr;
    filled.slot = empty_.front();
    empty_.pop_front();
    --slots_needed_;
    changed_.notify_one();
    place = slots_->data(*filled.slot);
  }
  filled.number = static_cast<std::uint32_t>(&expected - jobs_.expected.data());
  open_[filled.number] = false;
  return place;
}

std::byte* JointInbox::place_of(const ExpectedMessage& expected) const {
  if (!in_place_) return nullptr;
  std::byte* begin = nullptr;
  std::byte* end = nullptr;
  for (const Part& part :
       std::span(jobs_.schedule.parts).subspan(expected.job.first_part, expected.job.parts)) {
    const Transfer& transfer = work_->plan.transfers[part.transfer];
    const ContentRange range = contents_of(part, transfer);
    std::byte* const place = transfer.place(range.begin);
    const std::uint64_t nbytes = range.end - range.begin;
    const bool together =
        transfer.device == 0 && nbytes <= transfer.row_nbytes - range.begin % transfer.row_nbytes;
    if (!together || (begin != nullptr && place != end)) return nullptr;
    if (begin == nullptr) begin = place;
    end = place + nbytes;
  }
  return begin;
}

void JointInbox::end() {
  for (const Filled& filled : receiving_) {
    const bool ended = link_.collective().forget(filled.ticket);
    if (filled.slot) ended ? slots_->give_back(*filled.slot) : slots_->abandon(*filled.slot);
  }
  receiving_.clear();
  for (const Filled& filled : filled_) {
    if (filled.slot) slots_->give_back(*filled.slot);
  }
  for (const std::uint32_t slot : empty_) slots_->give_back(slot);
  filled_.clear();
  empty_.clear();
}

// ---- the delivering threads ---------------------------------------------------------------------

void JointInbox::deliver(StageTimes& times) {
  {
    const std::lock_guard lock(mutex_);
    ++delivering_;
  }
  while (const std::optional<Filled> filled = next_filled(times)) {
    if (Result<void> done = deliver_one(*filled); !done) work_->stop.fail(std::move(done).error());
  }
  slots_->finish(times);
  bool last = false;
  {
    const std::lock_guard lock(mutex_);
    last = --delivering_ == 0;
  }
  if (last) slots_->settle(times);
}

// Keeps slots ready for messages until one has arrived. Waits for a device only if that is the only
// way to another slot.
std::optional<JointInbox::Filled> JointInbox::next_filled(StageTimes& times) {
  const std::uint64_t begin = work_->hooks.now_ns();
  bool tried = false;
  while (!work_->stop.stopped()) {
    std::unique_lock lock(mutex_);
    if (!filled_.empty()) {
      Filled filled = std::move(filled_.front());
      filled_.pop_front();
      ++taken_;
      if (taken_ == jobs_.expected.size()) changed_.notify_all();
      waited_ns_ += work_->hooks.now_ns() - begin;
      return filled;
    }
    if (taken_ == jobs_.expected.size()) break;
    const bool none = empty_.empty();
    if (empty_.size() < std::min(kMostEmpty, slots_needed_) && !tried) {
      lock.unlock();
      std::optional<std::uint32_t> slot = slots_->try_take(times);
      if (!slot && none && slots_->wait_for_oldest(times)) slot = slots_->try_take(times);
      lock.lock();
      tried = !slot;
      if (slot) empty_.push_back(*slot);
      continue;
    }
    tried = false;
    changed_.wait_for(lock, kLook);
  }
  const std::lock_guard lock(mutex_);
  waited_ns_ += work_->hooks.now_ns() - begin;
  return std::nullopt;
}

Result<void> JointInbox::deliver_one(const Filled& filled) {
  const ExpectedMessage& expected = jobs_.expected[filled.number];
  if (!filled.lent.empty()) {
    FLATBED_TRY(host_->copy(filled.lent));
    const std::lock_guard lock(mutex_);
    copied_.push_back(filled.number);
  }
  if (!filled.slot) return work_->groups.job_done(expected.job, expected.nbytes);
  const LoadPlanState& plan = work_->plan;
  std::vector<std::vector<CopyPiece>> pieces(plan.devices.size());
  const std::byte* from = slots_->data(*filled.slot);
  for (const Part& part :
       std::span(jobs_.schedule.parts).subspan(expected.job.first_part, expected.job.parts)) {
    const Transfer& transfer = plan.transfers[part.transfer];
    const ContentRange range = contents_of(part, transfer);
    transfer.append_contents(range.begin, range.end - range.begin, from, pieces[transfer.device]);
    from += range.end - range.begin;
  }
  std::vector<DeviceTicket> tickets;
  Result<void> queued = queue(tickets, pieces);
  if (queued) {
    slots_->copying(*filled.slot, expected.job, std::move(tickets));
    return work_->groups.job_done(expected.job, expected.nbytes);
  }
  for (const DeviceTicket& ticket : tickets) plan.devices[ticket.device]->forget(ticket.ticket);
  slots_->doubtful(*filled.slot);
  return in_job(plan, work_->schedule, expected.job, std::move(queued).error());
}

Result<void> JointInbox::queue(std::vector<DeviceTicket>& tickets,
                               const std::vector<std::vector<CopyPiece>>& pieces) {
  if (!pieces[0].empty()) FLATBED_TRY(host_->copy(pieces[0]));
  for (std::uint32_t device = 1; device < pieces.size(); ++device) {
    if (pieces[device].empty()) continue;
    FLATBED_ASSIGN(const Ticket ticket, work_->plan.devices[device]->copy(pieces[device]));
    tickets.push_back({device, ticket});
  }
  return {};
}

double JointInbox::waited_seconds() const {
  const std::lock_guard lock(mutex_);
  return static_cast<double>(waited_ns_) * 1e-9 / kThreads;
}

}  // namespace flatbed
