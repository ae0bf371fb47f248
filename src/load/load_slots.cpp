#include "load/load_slots.hpp"

#include <algorithm>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

namespace {

// Pauses between two checks of something that will happen: short at first, then longer.
class Pause {
 public:
  explicit Pause(const LoadHooks& hooks) : hooks_(hooks) {}
  void operator()() {
    hooks_.sleep_ns(nanoseconds_);
    nanoseconds_ = std::min(nanoseconds_ * 2, kLongest);
  }

 private:
  static constexpr std::uint64_t kShortest = 4'000;
  static constexpr std::uint64_t kLongest = 128'000;
  const LoadHooks& hooks_;
  std::uint64_t nanoseconds_ = kShortest;
};

}  // namespace

std::optional<std::uint32_t> LoadSlots::take(StageTimes& times) {
  Pause pause(options_.hooks);
  while (!options_.stop.stopped()) {
    if (const std::optional<std::uint32_t> slot = slots_.try_take()) return slot;
    if (wait_for_oldest(times)) continue;
    if (slots_.all_abandoned()) {
      options_.stop.fail(make_error(ErrorCode::budget_too_small,
                                    "all staging memory is left to devices that did not finish "
                                    "copying from it"));
      break;
    }
    // Other threads are filling all slots, or other loads hold them.
    const StageTimer timer(options_.hooks, times, Stage::slots);
    pause();
  }
  return std::nullopt;
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

// Returns false if nothing is being copied.
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
  // A year is as good as forever, and fits in nanoseconds.
  constexpr std::chrono::milliseconds kLongest = std::chrono::hours(24 * 365);
  const auto limit = static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::clamp(options_.timeout, std::chrono::milliseconds(0), kLongest))
          .count());
  Pause pause(options_.hooks);
  while (true) {
    FLATBED_ASSIGN(const bool done, device.done(ticket.ticket));
    if (done) return {};
    const std::uint64_t waited = options_.hooks.now_ns() - begin;
    {
      const std::lock_guard lock(mutex_);
      if (waited >= limit) hung_[ticket.device] = true;
      if (hung_[ticket.device]) break;
    }
    pause();
  }
  device.forget(ticket.ticket);
  return make_error(ErrorCode::device_timeout, device.name(), ": copies were not complete after ",
                    options_.timeout.count(), " ms");
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

// Whether everything that was queued to the device is complete.
bool LoadSlots::drain(std::uint32_t device) {
  const Result<Ticket> fence = options_.plan.devices[device]->fence();
  return fence && wait({device, *fence});
}

}  // namespace flatbed
