// Compares load() of a whole file into touched memory with the minimum that reading it takes:
// threads that pread pieces to their places. The bare loop uses the piece size, and for a cold file
// also the thread count, that is fastest here. So does the bare loop that verifies: each thread
// reads a piece into a buffer that stays in the cache, hashes it there, and stores it to its place
// past the cache.
//
//   bench_load warm FILE ROUNDS [THREADS]   seconds of load() verified, unverified, the bare loop,
//                                           the bare loop that verifies
//   bench_load cast FILE ROUNDS [THREADS]   seconds of load() verified, with casts to BF16, and of
//                                           the first again
//   bench_load cold FILE ROUNDS [THREADS]   seconds and processor seconds of load() verified,
//                                           the same into memory laid out unlike the file, and of a
//                                           bare loop past the page cache (O_DIRECT)
//
// Prints one line about itself, then one for each round. The order alternates between rounds.
#if defined(__x86_64__)
#include <emmintrin.h>
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <array>
#include <atomic>
#include <functional>
#include <string_view>
#include <thread>

#include "load_common.hpp"
#include "stopwatch.hpp"

namespace {

using bench::DataRange;
using bench::fail;
using bench::OwnedMemory;
using bench::Placement;

struct LoopShape {
  unsigned threads = 2;
  std::uint64_t piece_nbytes = 0;
};

// Of a bare loop: reads to the places, or reads into a buffer, hashes and stores.
enum class Way { in_place, bounce };

// Both are multiples of a page. A line at a time: one store at a time is slower than the memory.
// Where no such stores are known, it is memcpy().
void store_past_cache(std::byte* to, const std::byte* from, std::uint64_t nbytes) {
#if defined(__x86_64__)
  for (std::uint64_t i = 0; i < nbytes; i += 4 * sizeof(__m128i)) {
    const auto* const source = reinterpret_cast<const __m128i*>(from + i);
    auto* const line = reinterpret_cast<__m128i*>(to + i);
    const __m128i first = _mm_load_si128(source);
    const __m128i second = _mm_load_si128(source + 1);
    const __m128i third = _mm_load_si128(source + 2);
    const __m128i fourth = _mm_load_si128(source + 3);
    _mm_stream_si128(line, first);
    _mm_stream_si128(line + 1, second);
    _mm_stream_si128(line + 2, third);
    _mm_stream_si128(line + 3, fourth);
  }
  _mm_sfence();
#else
  std::memcpy(to, from, nbytes);
#endif
}

// Owns the descriptor. Reads a range of a file to the start of the memory.
class BareLoop {
 public:
  BareLoop(const char* path, DataRange data, const OwnedMemory& memory, int flags,
           Way way = Way::in_place)
      : descriptor_(open(path, O_RDONLY | O_CLOEXEC | flags)),
        data_(data),
        memory_(memory),
        way_(way) {
    if (descriptor_ < 0) fail(std::string(path) + ": cannot open it in this mode");
  }
  BareLoop(const BareLoop&) = delete;
  BareLoop& operator=(const BareLoop&) = delete;
  ~BareLoop() { close(descriptor_); }

  void run(const LoopShape& shape) {
    next_ = data_.begin;
    std::vector<std::jthread> others;
    for (unsigned i = 1; i < shape.threads; ++i) {
      others.emplace_back([this, &shape] { take_pieces(shape.piece_nbytes); });
    }
    take_pieces(shape.piece_nbytes);
  }

  // The shape with the fastest of `tries` runs, with `prepare` before each run.
  LoopShape find_best(const std::vector<LoopShape>& shapes, int tries,
                      const std::function<void()>& prepare) {
    LoopShape best;
    double best_seconds = 1e9;
    for (const LoopShape& shape : shapes) {
      for (int i = 0; i < tries; ++i) {
        prepare();
        const double seconds = bench::time_seconds([&] { run(shape); });
        if (seconds < best_seconds) best = shape;
        best_seconds = std::min(best_seconds, seconds);
      }
    }
    return best;
  }

 private:
  // Pieces are whole. The file's last bytes come with a short read, and the memory has room for the
  // full length.
  void take_pieces(std::uint64_t piece_nbytes) {
    const std::unique_ptr<OwnedMemory> bounce =
        way_ == Way::bounce ? std::make_unique<OwnedMemory>(piece_nbytes) : nullptr;
    std::uint64_t sum = 0;
    for (;;) {
      const std::uint64_t at = next_.fetch_add(piece_nbytes);
      if (at >= data_.end) break;
      const std::uint64_t wanted = std::min(piece_nbytes, data_.end - at);
      const std::uint64_t asked = (wanted + bench::kPage - 1) / bench::kPage * bench::kPage;
      std::byte* const place = memory_.data() + (at - data_.begin);
      std::byte* const to = bounce ? bounce->data() : place;
      if (pread(descriptor_, to, asked, static_cast<off_t>(at)) < static_cast<ssize_t>(wanted)) {
        fail("short read");
      }
      if (!bounce) continue;
      sum += XXH3_64bits(to, wanted);
      store_past_cache(place, to, asked);
    }
    sum_ += sum;
  }

  int descriptor_;
  DataRange data_;
  const OwnedMemory& memory_;
  Way way_;
  std::atomic<std::uint64_t> next_ = 0;
  std::atomic<std::uint64_t> sum_ = 0;  // written, so that no compiler removes the hashing
};

flatbed::LoadReport load_all(const flatbed::LoadPlan& plan, const flatbed::LoadOptions& options) {
  return bench::take(flatbed::load(plan, options));
}

void print_warm(const char* path, int rounds, unsigned threads) {
  const auto model = bench::take(flatbed::Checkpoint::open(path));
  if (model.seal() != flatbed::SealState::sealed) fail(std::string(path) + ": not sealed");
  const DataRange data = bench::find_data(model);
  const OwnedMemory memory(bench::count_memory(model, Placement::as_in_file));
  const flatbed::LoadPlan plan = bench::make_plan(model, memory, Placement::as_in_file);

  BareLoop loop(path, data, memory, 0);
  BareLoop bounce(path, data, memory, 0, Way::bounce);
  std::vector<LoopShape> shapes;
  for (std::uint64_t kib = 64; kib <= 8192; kib *= 2) shapes.push_back({threads, kib << 10});
  const LoopShape best = loop.find_best(shapes, 3, [] {});
  const LoopShape best_bounce = bounce.find_best(shapes, 3, [] {});

  const std::array<std::function<void()>, 4> contenders = {
      [&] { load_all(plan, {.threads = threads}); },
      [&] { load_all(plan, {.verify = flatbed::Verify::no, .threads = threads}); },
      [&] { loop.run(best); }, [&] { bounce.run(best_bounce); }};
  std::printf("%llu bytes, %u threads, bare loop in pieces of %llu KiB, verifying %llu KiB\n",
              static_cast<unsigned long long>(data.nbytes()), threads,
              static_cast<unsigned long long>(best.piece_nbytes >> 10),
              static_cast<unsigned long long>(best_bounce.piece_nbytes >> 10));
  for (int i = -1; i < rounds; ++i) {
    std::array<double, 4> seconds{};
    for (std::size_t k = 0; k < 4; ++k) {
      const std::size_t turn = i % 2 == 0 ? k : 3 - k;
      seconds[turn] = bench::time_seconds(contenders[turn]);
    }
    if (i < 0) continue;
    std::printf("%.9f %.9f %.9f %.9f\n", seconds[0], seconds[1], seconds[2], seconds[3]);
  }
}

void print_cast(const char* path, int rounds, unsigned threads) {
  const auto model = bench::take(flatbed::Checkpoint::open(path));
  if (model.seal() != flatbed::SealState::sealed) fail(std::string(path) + ": not sealed");
  const auto cast = bench::take(model.cast({.to = flatbed::Dtype::bf16}));
  const OwnedMemory memory(bench::count_memory(model, Placement::as_in_file));
  const flatbed::LoadPlan plan = bench::make_plan(model, memory, Placement::as_in_file);
  const flatbed::LoadPlan cast_plan = bench::make_plan(cast, memory, Placement::as_in_file);
  const flatbed::LoadReport report = load_all(cast_plan, {.threads = threads});
  std::printf("%llu bytes, %u threads, %llu tensors cast, %llu bytes verified\n",
              static_cast<unsigned long long>(bench::find_data(model).nbytes()), report.threads,
              static_cast<unsigned long long>(report.casts.tensors),
              static_cast<unsigned long long>(report.bytes_verified));
  const std::array<std::function<void()>, 3> contenders = {
      [&] { load_all(plan, {.threads = threads}); },
      [&] { load_all(cast_plan, {.threads = threads}); },
      [&] { load_all(plan, {.threads = threads}); }};
  for (int i = -1; i < rounds; ++i) {
    std::array<double, 3> seconds{};
    for (std::size_t k = 0; k < 3; ++k) {
      const std::size_t turn = i % 2 == 0 ? k : 2 - k;
      seconds[turn] = bench::time_seconds(contenders[turn]);
    }
    if (i >= 0) std::printf("%.9f %.9f %.9f\n", seconds[0], seconds[1], seconds[2]);
  }
}

void print_cold(const char* path, int rounds, unsigned threads) {
  const auto model = bench::take(flatbed::Checkpoint::open(path));
  if (model.seal() != flatbed::SealState::sealed) fail(std::string(path) + ": not sealed");
  const DataRange data = bench::find_data(model);
  const OwnedMemory memory(std::max(bench::count_memory(model, Placement::as_in_file),
                                    bench::count_memory(model, Placement::apart)));
  const flatbed::LoadPlan plan = bench::make_plan(model, memory, Placement::as_in_file);
  const flatbed::LoadPlan apart = bench::make_plan(model, memory, Placement::apart);

  const bench::ColdFile file(path);
  BareLoop loop(path, data, memory, O_DIRECT);
  std::vector<LoopShape> shapes;
  for (const unsigned readers : {1U, 2U, 4U}) {
    for (std::uint64_t mib = 2; mib <= 16; mib *= 2) shapes.push_back({readers, mib << 20});
  }
  const LoopShape best = loop.find_best(shapes, 2, [&] { file.evict(); });

  const flatbed::LoadReport warm_up = (file.evict(), load_all(plan, {.threads = threads}));
  std::printf("%llu bytes, load() with %u threads, %s; bare loop with %u in pieces of %llu MiB\n",
              static_cast<unsigned long long>(data.nbytes()), warm_up.threads,
              warm_up.files_direct == 1 ? "with O_DIRECT" : "THROUGH THE PAGE CACHE", best.threads,
              static_cast<unsigned long long>(best.piece_nbytes >> 20));
  const std::array<std::function<void()>, 3> contenders = {
      [&] { load_all(plan, {.threads = threads}); }, [&] { load_all(apart, {.threads = threads}); },
      [&] { loop.run(best); }};
  for (int i = -1; i < rounds; ++i) {
    std::array<double, 3> seconds{};
    std::array<double, 3> processor{};
    for (std::size_t k = 0; k < 3; ++k) {
      const std::size_t turn = i % 2 == 0 ? k : 2 - k;
      file.evict();
      const double before = bench::processor_seconds();
      seconds[turn] = bench::time_seconds(contenders[turn]);
      processor[turn] = bench::processor_seconds() - before;
    }
    if (i < 0) continue;
    for (std::size_t k = 0; k < 3; ++k) std::printf("%.9f %.6f ", seconds[k], processor[k]);
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 3 ? argv[1] : "";
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 0;
  const auto threads = static_cast<unsigned>(argc > 4 ? std::max(std::atoi(argv[4]), 0) : 0);
  if (what == "warm") {
    print_warm(argv[2], rounds, threads == 0 ? 2 : threads);
  } else if (what == "cast") {
    print_cast(argv[2], rounds, threads == 0 ? 2 : threads);
  } else if (what == "cold") {
    print_cold(argv[2], rounds, threads);
  } else {
    fail("usage: bench_load warm|cast|cold FILE ROUNDS [THREADS]");
  }
  return 0;
}
