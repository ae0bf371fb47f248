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
#pragma once

#include <mpi.h>

#include <memory>

#include "flatbed/collective.hpp"
#include "flatbed/export.hpp"
#include "flatbed/result.hpp"

namespace flatbed {

// Collective: every rank of `communicator`, an intracommunicator, calls it, and it returns on all.
// Errors: collective_failed (MPI's errors; MPI is not initialized, or not for this thread).
[[nodiscard]] FLATBED_EXPORT Result<std::unique_ptr<Collective>> mpi_collective(
    MPI_Comm communicator);

}  // namespace flatbed
