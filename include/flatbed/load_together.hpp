// load_together(): load() for the ranks of a job that want parts of the same files. Every byte is
// read from storage, and verified, by one rank, and goes to the others that want it.
//
//   LoadPlan plan;  // of this rank's slices, as for load()
//   FLATBED_TRY(plan.add(model, "w", {.data = memory, .capacity = nbytes}, {.slice = {0, 4, 8}}));
//   FLATBED_ASSIGN(const JointReport report, load_together(plan, ranks));
//
// Each rank brings its own plan. Together they are divided into jobs of whole chunks, and the jobs
// are dealt out by their bytes. A rank reads its jobs and hashes them; then exactly the bytes that
// each rank asked for go there, while the next job is read:
//
//   file     |--- 0 ---|--- 1 ---|--- 2 ---|--- 3 ---|      columns: rank 0 wants a, rank 1 wants b
//   rank 0   read      |         read      |                a -> its memory     b -> rank 1
//   rank 1   |         read      |         read             b -> its memory     a -> rank 0
//
// A rank that wants much of a job, or is on the node of those that do, reads it, if it has not read
// its share yet. A file that only some ranks have opened is read by those. Tensors that do not lie
// plainly in their file (strided, compressed, cast, joined) are loaded by each rank that wants them
// as load() does.
//
// Before anything is read the ranks compare what they are about to do. Files of the same name must
// be the same: of equal size, header and, if they are sealed, digests. The contents of files that
// are not sealed are not compared, so a plan must not have two of them with one name, size and
// header, from two folders. All ranks check alike, and none begins if one cannot.
//
// Where the Collective has memory that ranks of one node share (Collective::shared_memory()), a
// rank reads into it, for at most half of `staging_nbytes`, and those of its node copy from there:
// no message carries the bytes. A rank that loads to a device, or brings a pool, sends messages.
//
// If one rank fails, is cancelled or dies, the load ends on every rank: within the deadline, and
// with an error that names the rank. A rank returns success when all have said that they are done.
//
// Groups become ready in the order of each rank's own plan if every rank loads a tensor in the same
// place of its order; otherwise all of them at the end.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "flatbed/collective.hpp"
#include "flatbed/export.hpp"
#include "flatbed/load.hpp"
#include "flatbed/progress.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct JointOptions {
  // For this rank, as for load(). `verify` and `io` must be the same on all ranks, and all use the
  // smallest slots of any of them. Half of `staging_nbytes` holds what is read, unless `pool` does,
  // a quarter what other ranks send, and a quarter what does not lie together and is packed before
  // it is sent. What is read lies in memory that ranks share instead, as long as that has two slots
  // for each thread; then no other staging memory is made for it, even if half of `staging_nbytes`
  // is more. `device_timeout` is at least twice the deadline.
  LoadOptions load = {};
  // How long another rank may be silent, or all ranks together without getting any further, before
  // the load fails (collective_timeout). Callbacks must take less.
  std::chrono::milliseconds deadline{60'000};
  // Whether messages whose bytes are contiguous in host memory are received there, and not in
  // staging memory first. If a rank is lost while it sends one (collective_timeout), a transport
  // that cannot take the receive back may write there for as long as the Collective exists.
  bool receive_in_place = true;
  // Like load.progress, of all ranks together, as far as this one has heard.
  ProgressCallback progress_of_all = {};
};

// What one rank did.
struct RankReport {
  std::uint64_t bytes_wanted = 0;
  std::uint64_t bytes_read = 0;         // from storage
  std::uint64_t bytes_sent = 0;         // of tensors, to other ranks
  std::uint64_t bytes_sent_across = 0;  // of these, to ranks of other nodes (Collective::node())
  std::uint64_t bytes_lent = 0;         // of these, in memory that ranks of one node share
  std::uint64_t bytes_received = 0;     // of tensors, from other ranks
  double seconds = 0;                   // of the whole load
  double waited_seconds = 0;            // without anything to deliver, for what others read
};

struct JointReport {
  LoadReport load;                // of this rank; bytes_read are those that it read itself
  std::vector<RankReport> ranks;  // by rank; the same on all
};

// Blocking; every rank calls it. Calls the collective on this thread, and callbacks too. With one
// rank it is load(). Errors: those of load(); collective_mismatch (plans that do not fit together,
// on all ranks); collective_timeout; collective_failed; collective_ended, which names the rank that
// failed and its error; limit_exceeded (more than 4096 ranks, or 64 TiB for one of them).
[[nodiscard]] FLATBED_EXPORT Result<JointReport> load_together(const LoadPlan& plan,
                                                               Collective& collective,
                                                               const JointOptions& options = {});

}  // namespace flatbed
