#include "load/load_slots.hpp"

#include <algorithm>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

// How soon a thread that waits notices what wakes nobody: that the load has stopped, or that
// another thread has given its device up.
constexpr std::chrono::nanoseconds kLook = std::chrono::milliseconds(10);

// As nanoseconds of a clock. A year is as good as forever, and fits.
std::uint64_t limit_ns(std::chrono::milliseconds timeout) {
  constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365);
  const std::chrono::nanoseconds limit = std::clamp(timeout, timeout.zero(), kLongest);
  return static_cast<std::uint64_t>(limit.count());
}

}  // namespace

std::optional<std::uint32_t> LoadSlots::take(StageTimes& times) {
  while (!options_.stop.stopped()) {
    if (const std::optional<std::uint32_t> slot = slots_.try_take()) return slot;
    if (stage_more(times)) continue;
    if (wait_for_oldest(times)) continue;
    if (slots_.all_abandoned()) {
      options_.stop.fail(make_error(ErrorCode::budget_too_small,
                                    "all staging memory is left to devices that did not finish "
                                    "copying from it"));
      break;
    }
    // Other threads are filling all slots, or other loads hold them.
    const StageTimer timer(options_.hooks, times, Stage::slots);
    options_.hooks.wait_for_slot ? options_.hooks.wait_for_slot(kLook) : slots_.wait(kLook);
  }
  return std::nullopt;
}

std::optional<std::uint32_t> LoadSlots::try_take(StageTimes& times) {
  while (!options_.stop.stopped()) {
    if (const std::optional<std::uint32_t> slot = slots_.try_take()) return slot;
    if (!stage_more(times)) break;
  }
  return std::nullopt;
}

// Returns false if there is no slot left to make.
bool LoadSlots::stage_more(StageTimes& times) {
  const StageTimer timer(options_.hooks, times, Stage::slots);
  Result<bool> more = slots_.stage_more();
  if (more) return *more;
  options_.stop.fail(std::move(more).error());
  return true;
}

void LoadSlots::copying(std::uint32_t slot, const Job& job, std::vector<DeviceTicket> tickets) {
  if (tickets.empty()) return slots_.give_back(slot);
  const std::lock_guard lock(mutex_);
  copying_.push_back({slot, &job, std::move(tickets)});
}

void LoadSlots::doubtful(std::uint32_t slot) {
  const std::lock_guard lock(mutex_);
  doubtful_.push_back(slot);
}

void LoadSlots::finish(StageTimes& times) {
  while (wait_for_oldest(times)) {
  }
}

bool LoadSlots::wait_for_oldest(StageTimes& times) {
  Copying oldest;
  {
    const std::lock_guard lock(mutex_);
    if (copying_.empty()) return false;
    oldest = std::move(copying_.front());
    copying_.pop_front();
  }
  const StageTimer timer(options_.hooks, times, Stage::link);
  bool all_done = true;
  for (const DeviceTicket& ticket : oldest.tickets) {
    if (Result<void> done = wait(ticket); !done) {
      options_.stop.fail(
          in_job(options_.plan, options_.schedule, *oldest.job, std::move(done).error()));
      all_done = false;
    }
  }
  all_done ? slots_.give_back(oldest.slot) : doubtful(oldest.slot);
  return true;
}

Result<void> LoadSlots::wait(const DeviceTicket& ticket) {
  Device& device = *options_.plan.devices[ticket.device];
  const std::uint64_t begin = options_.hooks.now_ns();
  const std::uint64_t limit = limit_ns(options_.timeout);
  for (std::uint64_t left = is_hung(ticket.device) ? 0 : limit;;) {
    const auto most = std::min(kLook, std::chrono::nanoseconds(left));
    FLATBED_ASSIGN(const bool done, options_.hooks.wait
                                        ? options_.hooks.wait(device, ticket.ticket, most)
                                        : device.wait(ticket.ticket, most));
    if (done) return {};
    left = limit - std::min(options_.hooks.now_ns() - begin, limit);
    if (left == 0) give_up(ticket.device);
    if (is_hung(ticket.device)) break;
  }
  device.forget(ticket.ticket);
  return make_error(ErrorCode::device_timeout, device.name(), ": copies were not complete after ",
                    options_.timeout.count(), " ms");
}

bool LoadSlots::is_hung(std::uint32_t device) {
  const std::lock_guard lock(mutex_);
  return hung_[device];
}

void LoadSlots::give_up(std::uint32_t device) {
  const std::lock_guard lock(mutex_);
  hung_[device] = true;
}

void LoadSlots::settle(StageTimes& times) {
  if (doubtful_.empty()) return;
  const StageTimer timer(options_.hooks, times, Stage::link);
  bool all_drained = true;
  for (std::uint32_t device = 1; device < options_.plan.devices.size(); ++device) {
    all_drained &= drain(device);
  }
  for (const std::uint32_t slot : doubtful_) {
    all_drained ? slots_.give_back(slot) : slots_.abandon(slot);
  }
  doubtful_.clear();
}

void LoadSlots::abandon_doubtful() {
  for (const std::uint32_t slot : doubtful_) slots_.abandon(slot);
  doubtful_.clear();
}

// Whether everything that was queued to the device is complete. A thread that could not enter it
// before has to, even so.
bool LoadSlots::drain(std::uint32_t device) {
  if (!options_.plan.devices[device]->enter_thread()) return false;
  const Result<Ticket> fence = options_.plan.devices[device]->fence();
  return fence && wait({device, *fence});
}

}  // namespace flatbed
