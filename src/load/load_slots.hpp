// LoadSlots: the slots of a staging pool in use by one load. It knows which slots devices are still
// copying from, and waits for those. Borrows everything; thread-safe.
//
// A slot goes from the pool to a thread that fills it, to the devices that copy it, and back, once
// every copy is known to be done. If a device cannot tell, because queueing or querying failed, the
// slot is doubtful: settle() asks the device for a fence after everything that was queued, and
// returns the slot or abandons it.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "load/load_plan.hpp"
#include "load/load_progress.hpp"
#include "load/staging_pool.hpp"

namespace flatbed {

struct DeviceTicket {
  std::uint32_t device = 0;  // index into the plan's
  Ticket ticket = 0;
};

class LoadSlots {
 public:
  struct Options {
    const LoadHooks& hooks;
    LoadStop& stop;
    const LoadPlanState& plan;
    const Schedule& schedule;
    std::chrono::milliseconds timeout;
  };
  LoadSlots(StagingPool& pool, const Options& options)
      : slots_(pool), options_(options), hung_(options.plan.devices.size()) {}

  // Returns a slot to fill: a free one, or one that this thread makes, or one that it waits for.
  // nullopt once the load has stopped.
  [[nodiscard]] std::optional<std::uint32_t> take(StageTimes& times);
  // The same, but waits for nobody: nullopt also if all slots are in use.
  [[nodiscard]] std::optional<std::uint32_t> try_take(StageTimes& times);
  [[nodiscard]] std::byte* data(std::uint32_t slot) const { return slots_.data(slot); }

  void give_back(std::uint32_t slot) const { slots_.give_back(slot); }
  // For a slot that something may write for ever.
  void abandon(std::uint32_t slot) const { slots_.abandon(slot); }
  // Call when the slot's bytes, of `job`, are being copied: it returns to the pool when all tickets
  // are done, or at once if there are none.
  void copying(std::uint32_t slot, const Job& job, std::vector<DeviceTicket> tickets);
  // Call when something may be copying the slot, and no ticket tells when that ends.
  void doubtful(std::uint32_t slot);

  // Waits for the slot that has been copied for the longest. Returns false if none is being copied.
  [[nodiscard]] bool wait_for_oldest(StageTimes& times);
  // Waits for everything that is being copied. Every reading thread calls it last.
  void finish(StageTimes& times);
  // Call after the last thread's finish(), on a thread that is not the engine's: decides about
  // doubtful slots.
  void settle(StageTimes& times);
  // The same where there is no such thread: abandons them.
  void abandon_doubtful();

 private:
  struct Copying {
    std::uint32_t slot = 0;
    const Job* job = nullptr;
    std::vector<DeviceTicket> tickets;
  };
  [[nodiscard]] bool stage_more(StageTimes& times);
  [[nodiscard]] Result<void> wait(const DeviceTicket& ticket);
  [[nodiscard]] bool is_hung(std::uint32_t device);
  void give_up(std::uint32_t device);
  [[nodiscard]] bool drain(std::uint32_t device);

  StagingSlots slots_;
  Options options_;
  std::mutex mutex_;  // guards what follows
  std::deque<Copying> copying_;
  std::vector<std::uint32_t> doubtful_;
  std::vector<bool> hung_;  // for each device: it timed out once and is not waited for again
};

}  // namespace flatbed
