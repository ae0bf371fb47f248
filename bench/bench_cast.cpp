// Compares the speed of casts with that of memcpy on the same input: from the processor's cache for
// small sizes, from memory for the largest. Rates count the bytes of the input.
//
// Run it with --benchmark_enable_random_interleaving=true --benchmark_repetitions=15: the clock and
// the neighbours of a machine change within seconds.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>

#include "cast/cast_kernel.hpp"

namespace {

using flatbed::CastStores;
using flatbed::Dtype;

// Memory in pages of 2 MiB where the kernel has them, every page touched.
class Block {
 public:
  explicit Block(std::size_t nbytes)
      : nbytes_(nbytes + kHugePage),
        memory_(
            mmap(nullptr, nbytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) std::abort();
    madvise(memory_, nbytes_, MADV_HUGEPAGE);
    std::memset(memory_, 0, nbytes_);
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { munmap(memory_, nbytes_); }
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_); }

 private:
  static constexpr std::size_t kHugePage = 2 << 20;
  std::size_t nbytes_;
  void* memory_;
};

// Weights as models have them, in any dtype.
void fill(std::byte* at, std::size_t nbytes, Dtype dtype) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02F);
  float values[4096];
  for (float& value : values) value = normal(random);
  std::byte some[sizeof values * 2];
  flatbed::CastCounts counts;
  const flatbed::CastKernel kernel = flatbed::cast_kernel(Dtype::f32, dtype);
  const auto* const bytes = reinterpret_cast<const std::byte*>(values);
  if (kernel == nullptr) {
    std::memcpy(some, bytes, sizeof values);
  } else {
    kernel(bytes, some, 4096, counts);
  }
  const std::size_t size = 4096 * bits(dtype) / 8;
  for (std::size_t i = 0; i < nbytes; i += size)
    std::memcpy(at + i, some, std::min(size, nbytes - i));
}

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void copy(benchmark::State& state) {
  const auto nbytes = static_cast<std::size_t>(state.range(0));
  const Block from(nbytes);
  const Block to(nbytes);
  fill(from.data(), nbytes, Dtype::f32);
  for ([[maybe_unused]] auto _ : state) {
    std::memcpy(to.data(), from.data(), nbytes);
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

template <Dtype kFrom, Dtype kTo, CastStores kStores>
void cast(benchmark::State& state) {
  const auto nbytes = static_cast<std::size_t>(state.range(0));
  const std::size_t count = nbytes * 8 / bits(kFrom);
  const Block from(nbytes);
  const Block to(count * bits(kTo) / 8);
  fill(from.data(), nbytes, kFrom);
  const flatbed::CastKernel kernel = flatbed::cast_kernel(kFrom, kTo, kStores);
  flatbed::CastCounts counts;
  for ([[maybe_unused]] auto _ : state) {
    kernel(from.data(), to.data(), count, counts);
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

// A chunk, the size of one read, and more than any cache holds.
void sizes(benchmark::internal::Benchmark* benchmark) {
  for (const std::int64_t nbytes : {256 << 10, 1 << 20, 256 << 20}) benchmark->Arg(nbytes);
}
void chunk(benchmark::internal::Benchmark* benchmark) { benchmark->Arg(256 << 10); }

constexpr auto kUsual = CastStores::usual;
constexpr auto kStreaming = CastStores::streaming;
BENCHMARK(copy)->Apply(sizes);
BENCHMARK(cast<Dtype::f32, Dtype::bf16, kUsual>)->Name("f32_to_bf16")->Apply(sizes);
BENCHMARK(cast<Dtype::f32, Dtype::bf16, kStreaming>)->Name("f32_to_bf16_streaming")->Apply(sizes);
BENCHMARK(cast<Dtype::f32, Dtype::f16, kUsual>)->Name("f32_to_f16")->Apply(sizes);
BENCHMARK(cast<Dtype::f32, Dtype::f16, kStreaming>)->Name("f32_to_f16_streaming")->Apply(sizes);
BENCHMARK(cast<Dtype::bf16, Dtype::f32, kUsual>)->Name("bf16_to_f32")->Apply(chunk);
BENCHMARK(cast<Dtype::f16, Dtype::f32, kUsual>)->Name("f16_to_f32")->Apply(chunk);
BENCHMARK(cast<Dtype::f64, Dtype::f32, kUsual>)->Name("f64_to_f32")->Apply(chunk);
BENCHMARK(cast<Dtype::f32, Dtype::f64, kUsual>)->Name("f32_to_f64")->Apply(chunk);
BENCHMARK(cast<Dtype::f32, Dtype::f8_e4m3, kUsual>)->Name("f32_to_f8_e4m3")->Apply(chunk);
BENCHMARK(cast<Dtype::f8_e4m3, Dtype::bf16, kUsual>)->Name("f8_e4m3_to_bf16")->Apply(chunk);

}  // namespace

BENCHMARK_MAIN();
