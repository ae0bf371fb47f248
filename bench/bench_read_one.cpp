// Opens a checkpoint and reads one tensor of it into memory of its own, for measuring a fresh
// process. Prints: seconds, peak memory in KiB, bytes read from the file.
// Usage: bench_read_one FILE NAME
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "stopwatch.hpp"

namespace {

flatbed::Result<void> read_one(const char* path, const char* name) {
  FLATBED_ASSIGN(const flatbed::Checkpoint checkpoint, flatbed::Checkpoint::open(path));
  FLATBED_ASSIGN(const flatbed::TensorInfo tensor, checkpoint.tensor(name));
  std::vector<std::byte> bytes(tensor.nbytes);
  return checkpoint.read(tensor, 0, bytes);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  // That number is itself read from a file, whose roughly 100 bytes count too.
  const std::uint64_t before = bench::bytes_read();
  flatbed::Result<void> result;
  const double seconds = bench::time_seconds([&] { result = read_one(argv[1], argv[2]); });
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    return 1;
  }
  const std::uint64_t after = bench::bytes_read();
  std::printf("%.9f %" PRIu64 " %" PRIu64 "\n", seconds, bench::peak_kib(), after - before);
  return 0;
}
