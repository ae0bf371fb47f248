// LoadPeers: what a load of several ranks adds to a load (src/ranks/). The plan's devices include
// the other ranks, to which copies go as to any device; what they have read for this rank is
// delivered by threads of the load.
//
// Members are called from the load's threads as each says.
#pragma once

#include "load/load_job.hpp"

namespace flatbed {

class LoadPeers {
 public:
  LoadPeers() = default;
  LoadPeers(const LoadPeers&) = delete;
  LoadPeers& operator=(const LoadPeers&) = delete;

  // The jobs of this rank. Called once.
  [[nodiscard]] virtual Schedule schedule() = 0;
  // Called once before the threads begin; `work` lives until they have ended.
  [[nodiscard]] virtual Result<void> begin(const LoadWork& work) = 0;
  // The number of threads that call deliver(), each with its number and once. They stop with the
  // load, and have entered the devices.
  [[nodiscard]] virtual unsigned deliverers() const noexcept = 0;
  virtual void deliver(unsigned number, StageTimes& times) = 0;
  // On the thread that called load(), again and again until all threads have ended: does what can
  // be done without waiting, and pauses for a moment.
  virtual void work() = 0;

 protected:
  ~LoadPeers() = default;
};

// load() of jobs that `peers` has, for a plan whose destinations have been checked. Slots have
// options.slot_nbytes.
[[nodiscard]] Result<LoadReport> load_with_peers(const LoadPlanState& plan,
                                                 const LoadOptions& options, LoadPeers& peers);

}  // namespace flatbed
