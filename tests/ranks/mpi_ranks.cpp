// One rank of an MPI job, for test_mpi.py: what it is to do are its arguments.
//
//   messages             every rank gathers, and rank 0 deals out numbers
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "flatbed/mpi.hpp"

namespace flatbed::test {
namespace {

using namespace std::chrono_literals;

int fail(const Error& error) {
  std::fprintf(stderr, "%s: %s\n", std::string(name(error.code)).c_str(), error.message.c_str());
  return 1;
}

Result<void> talk(Collective& ranks) {
  const std::string mine(10 + ranks.rank() * 50'000, static_cast<char>('a' + ranks.rank()));
  FLATBED_ASSIGN(const auto all, all_gather(ranks, as_bytes(mine), 30s));
  for (std::uint32_t i = 0; i < ranks.size(); ++i) {
    if (as_text(all[i]) != std::string(10 + i * 50'000, static_cast<char>('a' + i)))
      return Error{ErrorCode::internal_error, "other bytes were gathered"};
  }
  if (ranks.rank() != 0) {
    FLATBED_TRY(send_message(ranks, {.to = 0, .tag = 1}, as_bytes(mine), 30s));
    FLATBED_ASSIGN(const Message answer, next_message(ranks, 30s));
    if (as_text(answer.bytes) != mine) return Error{ErrorCode::internal_error, "other bytes"};
  }
  for (std::uint32_t i = 1; ranks.rank() == 0 && i < ranks.size(); ++i) {
    FLATBED_ASSIGN(const Message question, next_message(ranks, 30s));
    FLATBED_TRY(send_message(ranks, {.to = question.from, .tag = 2}, question.bytes, 30s));
  }
  FLATBED_ASSIGN(const auto nodes, all_gather(ranks, {}, 30s));
  for (std::uint32_t i = 0; i < ranks.size(); ++i)
    if (ranks.node(i) != 0) return Error{ErrorCode::internal_error, "not one node"};
  return {};
}

int run(int count, char** arguments) {
  const std::string_view what = count > 1 ? arguments[1] : "";
  const Result<std::unique_ptr<Collective>> ranks = mpi_collective(MPI_COMM_WORLD);
  if (!ranks) return fail(ranks.error());
  Result<void> done =
      what == "messages" ? talk(**ranks) : Error{ErrorCode::invalid_argument, "an unknown task"};
  if (!done) return fail(done.error());
  std::printf("rank %u of %u\n", (*ranks)->rank(), (*ranks)->size());
  return 0;
}

}  // namespace
}  // namespace flatbed::test

int main(int count, char** arguments) {
  int level = 0;
  if (MPI_Init_thread(&count, &arguments, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS) return 2;
  const int status = flatbed::test::run(count, arguments);
  MPI_Finalize();
  return status;
}
