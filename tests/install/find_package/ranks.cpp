// A program of MPI that uses flatbed::mpi.
#include <flatbed/mpi.hpp>

int main(int count, char** arguments) {
  int level = 0;
  MPI_Init_thread(&count, &arguments, MPI_THREAD_FUNNELED, &level);
  int status = 1;
  {
    const auto ranks = flatbed::mpi_collective(MPI_COMM_WORLD);
    if (ranks) {
      const auto all = flatbed::all_gather(**ranks, {}, std::chrono::seconds(10));
      status = all && all->size() == (*ranks)->size() ? 0 : 1;
    }
  }
  MPI_Finalize();
  return status;
}
