// The cost of a load besides its bytes: plans and loads many small tensors, each into a place of
// its own, and compares with reading their bytes bare, with as many threads, in pieces of 256 KiB.
//
//   bench_load_small FILE ROUNDS      one line about itself, then the seconds of each round: all
//                                     add(), check(), load(), the bare read
#include <atomic>
#include <thread>

#include "load_common.hpp"
#include "stopwatch.hpp"

namespace {

constexpr std::uint64_t kPieceNbytes = 256 << 10;

// Reads the range to the start of `memory`.
void read_bare(int descriptor, bench::DataRange data, const bench::OwnedMemory& memory,
               unsigned threads) {
  std::atomic<std::uint64_t> next = data.begin;
  const auto take_pieces = [&] {
    for (std::uint64_t at = next.fetch_add(kPieceNbytes); at < data.end;
         at = next.fetch_add(kPieceNbytes)) {
      const std::uint64_t nbytes = std::min(kPieceNbytes, data.end - at);
      const ssize_t got =
          pread(descriptor, memory.data() + (at - data.begin), nbytes, static_cast<off_t>(at));
      if (got != static_cast<ssize_t>(nbytes)) bench::fail("short read");
    }
  };
  std::vector<std::jthread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(take_pieces);
  take_pieces();
}

void print_rounds(const char* path, int rounds) {
  const auto model = bench::take(flatbed::Checkpoint::open(path));
  if (model.seal() != flatbed::SealState::sealed) bench::fail(std::string(path) + ": not sealed");
  const bench::DataRange data = bench::find_data(model);
  const bench::OwnedMemory memory(bench::count_memory(model, bench::Placement::apart));
  const bench::OwnedMemory bare_memory(data.nbytes());
  const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) bench::fail(std::string(path) + ": cannot open");

  for (int i = -1; i < rounds; ++i) {
    flatbed::LoadPlan plan;
    flatbed::LoadReport report;
    const double add = bench::time_seconds(
        [&] { plan = bench::make_plan(model, memory, bench::Placement::apart); });
    const double check = bench::time_seconds([&] { bench::take(plan.check()); });
    double bare = 0;
    const auto time_bare = [&] {
      bare = bench::time_seconds([&] { read_bare(descriptor, data, bare_memory, 2); });
    };
    if (i % 2 == 0) time_bare();
    const double load =
        bench::time_seconds([&] { report = bench::take(flatbed::load(plan, {.threads = 2})); });
    if (i % 2 != 0) time_bare();
    if (report.bytes_verified < report.bytes_wanted) bench::fail("not all was verified");
    if (i < 0) {
      std::printf("%zu tensors, %llu bytes, 2 threads, verified\n", model.tensors().size(),
                  static_cast<unsigned long long>(report.bytes_wanted));
    } else {
      std::printf("%.9f %.9f %.9f %.9f\n", add, check, load, bare);
    }
  }
  close(descriptor);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) bench::fail("usage: bench_load_small FILE ROUNDS");
  print_rounds(argv[1], std::atoi(argv[2]));
  return 0;
}
