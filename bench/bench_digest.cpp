// Compares the speed of XXH3 with that of memcpy on the same bytes: from the processor's cache for
// small sizes, from memory for the largest.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "io/digest.hpp"

namespace {

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void xxh3(benchmark::State& state) {
  const std::vector<std::byte> bytes(static_cast<std::size_t>(state.range(0)), std::byte{0x5a});
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(flatbed::xxh3(bytes));
  count_bytes(state);
}

void copy(benchmark::State& state) {
  const std::vector<std::byte> from(static_cast<std::size_t>(state.range(0)), std::byte{0x5a});
  std::vector<std::byte> to(from.size());
  for ([[maybe_unused]] auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

// A small tensor, a chunk, the size of one read in verify(), and more than any cache holds.
void sizes(benchmark::internal::Benchmark* benchmark) {
  for (const std::int64_t nbytes : {4 << 10, 256 << 10, 1 << 20, 256 << 20}) benchmark->Arg(nbytes);
}

BENCHMARK(xxh3)->Apply(sizes);
BENCHMARK(copy)->Apply(sizes);

}  // namespace

BENCHMARK_MAIN();
