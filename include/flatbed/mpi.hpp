// flatbed::mpi: an MPI communicator as a Collective (collective.hpp).
//
//   MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
//   FLATBED_ASSIGN(const auto ranks, mpi_collective(MPI_COMM_WORLD));
//   FLATBED_ASSIGN(const JointReport report, load_together(plan, *ranks));
//
// The program initializes MPI, with MPI_THREAD_FUNNELED at least, and finalizes it after the
// Collective has ended. MPI is called on the thread that calls the Collective and on no other:
// with MPI_THREAD_FUNNELED that is the one that initialized MPI, with MPI_THREAD_SERIALIZED any
// thread while no other is inside MPI.
//
// It works on a duplicate of the communicator, which it owns, so that its messages meet no others.
// What MPI does when a process dies is MPI's own affair: `mpirun` usually ends all of them. If the
// others live on, the deadlines notice. After collective_timeout MPI may still be using memory that
// was left to the Collective: then keep it until MPI is finalized or the program ends.
//
// Ranks of one node share memory of MPI (MPI_Win_allocate_shared), in which load_together() has
// ready what one of them has read. MPI frees such memory only together with all ranks, so each
// Collective that shares keeps its memory until MPI is finalized: make one, and use it again.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>

#include "flatbed/collective.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

struct MpiOptions {
  // Memory that each rank shares with those of its node; rounded up to whole pages. load_together()
  // uses as much as half of LoadOptions::staging_nbytes. All of it is taken at once. Where a rank
  // asks for 0, the memory of all ranks of the node would take more than half of what is free in
  // /dev/shm, or the kernel is older than 5.14, ranks of one node send messages as all others do.
  // Jobs of flatbed take it one after the other, by a lock on the folder: one that waits for longer
  // than some seconds goes without. Other programs that fill /dev/shm meanwhile can make MPI hang.
  std::uint64_t shared_nbytes = 32 << 20;
};

// Collective: every rank of `communicator`, an intracommunicator, calls it, and it returns on all.
// All ranks must have the same version of flatbed: with an older one on some of them it may hang.
// Errors: collective_failed (MPI's errors; MPI is not initialized, or not for this thread).
[[nodiscard]] FLATBED_EXPORT Result<std::unique_ptr<Collective>> mpi_collective(
    MPI_Comm communicator, const MpiOptions& options = {});

}  // namespace flatbed
