#include "load/load_progress.hpp"

#include <algorithm>
#include <utility>

#include "base/str_cat.hpp"

namespace flatbed {

void LoadStop::fail(Error error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::move(error);
  stopped_ = true;
}

// The caller may reset `cancel`. A job that was left half done has still stopped the load.
bool LoadStop::stopped() noexcept {
  if (cancel_ != nullptr && *cancel_) stopped_ = true;
  return stopped_;
}

Result<void> LoadStop::result(std::uint64_t bytes_done, std::uint64_t bytes_total) {
  if (!stopped()) return {};
  const std::lock_guard lock(mutex_);
  if (error_) return *error_;
  return make_error(ErrorCode::cancelled, "interrupted at ", size_text(bytes_done), " of ",
                    size_text(bytes_total));
}

LoadGroups::LoadGroups(const LoadPlanState& plan, const Schedule& schedule, bool fences)
    : plan_(plan), order_(schedule.groups), with_fences_(fences), groups_(plan.groups.size()) {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    groups_[i].jobs_left = schedule.jobs_of_group[i];
    groups_[i].complete = schedule.jobs_of_group[i] == 0;  // only empty tensors
  }
  for (const Transfer& transfer : plan.transfers) {
    std::vector<std::uint32_t>& devices = groups_[transfer.group].devices;
    if (transfer.device == 0 || transfer.device >= plan.first_peer) continue;
    if (transfer.runs == 0) continue;
    if (std::ranges::find(devices, transfer.device) == devices.end())
      devices.push_back(transfer.device);
  }
}

Result<void> LoadGroups::job_done(const Job& job, std::uint64_t nbytes) {
  bytes_done_ += nbytes;
  // The copies of a group's other jobs were queued before their threads counted down.
  if (--groups_[job.group].jobs_left != 0) return {};
  return complete(job.group);
}

Result<void> LoadGroups::complete(std::uint32_t number) {
  State& group = groups_[number];
  std::vector<Ticket> fences;
  if (with_fences_) {
    for (const std::uint32_t device : group.devices) {
      Result<Ticket> fence = fence_with_event(*plan_.devices[device]);
      if (!fence) {
        for (std::size_t i = 0; i < fences.size(); ++i)
          plan_.devices[group.devices[i]]->forget(fences[i]);
        return with_context(str_cat("group ", plan_.groups[number].id), std::move(fence).error());
      }
      fences.push_back(*fence);
    }
  }
  const std::lock_guard lock(mutex_);
  group.fences = std::move(fences);
  group.complete = true;
  changed_.notify_one();
  return {};
}

// Without an event nobody could tell when the group has arrived.
Result<Ticket> LoadGroups::fence_with_event(Device& device) {
  FLATBED_ASSIGN(const Ticket fence, device.fence());
  if (device.native_event(fence) != nullptr) return fence;
  device.forget(fence);
  return make_error(ErrorCode::device_error, device.name(),
                    ": there is no event that streams could wait for");
}

void LoadGroups::readers_done() {
  const std::lock_guard lock(mutex_);
  readers_done_ = true;
  changed_.notify_one();
}

bool LoadGroups::turn_is_complete() const {
  return turn_ < order_.size() && groups_[order_[turn_]].complete;
}

void LoadGroups::wait(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [this] { return readers_done_ || turn_is_complete(); });
}

bool LoadGroups::finished() const {
  const std::lock_guard lock(mutex_);
  return readers_done_ && !turn_is_complete();
}

std::optional<GroupReady> LoadGroups::ready_group() {
  const std::lock_guard lock(mutex_);
  if (!turn_is_complete()) return std::nullopt;
  const State& group = groups_[order_[turn_]];
  events_.clear();
  for (std::size_t i = 0; i < group.fences.size(); ++i) {
    Device* device = plan_.devices[group.devices[i]];
    events_.push_back({device, device->native_event(group.fences[i])});
  }
  return GroupReady{plan_.groups[order_[turn_]].id, events_};
}

// Without the lock: nobody changes the fences of a group that is complete.
Result<void> LoadGroups::order_before_engine() {
  const State& group = groups_[order_[turn_]];
  for (std::size_t i = 0; i < group.fences.size(); ++i) {
    FLATBED_TRY(plan_.devices[group.devices[i]]->order_before_engine(group.fences[i]));
  }
  return {};
}

void LoadGroups::next_group() {
  const std::lock_guard lock(mutex_);
  forget_fences(groups_[order_[turn_]]);
  ++turn_;
}

void LoadGroups::forget_events() noexcept {
  const std::lock_guard lock(mutex_);
  for (State& group : groups_) forget_fences(group);
}

void LoadGroups::forget_fences(State& group) noexcept {
  for (std::size_t i = 0; i < group.fences.size(); ++i)
    plan_.devices[group.devices[i]]->forget(group.fences[i]);
  group.fences.clear();
}

}  // namespace flatbed
