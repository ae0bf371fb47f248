// flatbed-mpi: the command-line tool under mpirun, for `convert --list` by many ranks. With one
// rank it is the tool without MPI.
#include <mpi.h>

#include <cstdio>
#include <memory>

#include "flatbed/mpi.hpp"
#include "interrupt.hpp"
#include "output.hpp"
#include "tool.hpp"

namespace {

using flatbed::Collective;
using flatbed::Result;
using flatbed::tool::ExitCode;

ExitCode run(int argc, char** argv) {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size == 1) return flatbed::tool::run_tool(argc, argv);
  const Result<std::unique_ptr<Collective>> ranks =
      flatbed::mpi_collective(MPI_COMM_WORLD, {.shared_nbytes = 0});
  if (!ranks) {
    flatbed::tool::print_error(ranks.error());
    return ExitCode::failure;
  }
  // What all of them would say alike, such as --help, is said once.
  if ((*ranks)->rank() != 0 && std::freopen("/dev/null", "w", stdout) == nullptr)
    return ExitCode::failure;
  return flatbed::tool::run_tool(argc, argv, ranks->get());
}

}  // namespace

int main(int argc, char** argv) {
  int provided = 0;
  if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
    return static_cast<int>(ExitCode::failure);
  const ExitCode code = run(argc, argv);
  // With a rank that is gone, MPI_Finalize would wait for it.
  flatbed::tool::die_if_interrupted();
  if (code == ExitCode::failure) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  MPI_Finalize();
  return static_cast<int>(code);
}
