// Compares verify() with the minimum for checking a file: threads that pread pieces into their own
// buffers and compute XXH3. The bare loop uses the fastest piece size here, and buffers of whole
// touched pages. (Pages matter: some processors copy at half speed to an address 16 bytes into a
// page, where malloc's large blocks begin.)
//
//   bench_verify FILE PAIRS [THREADS]     interleaved pairs: the seconds of verify() and of the
//                                         bare loop, one pair a line
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "flatbed/flatbed.hpp"
#include "stopwatch.hpp"

namespace {

constexpr std::size_t kPieceSizes[] = {64U << 10, 128U << 10, 256U << 10, 512U << 10,
                                       1U << 20,  2U << 20,   4U << 20,   8U << 20};

struct alignas(4096) Page {
  std::byte bytes[4096];
};

void fail(const std::string& message) {
  std::fprintf(stderr, "bench_verify: %s\n", message.c_str());
  std::exit(1);
}

// Owns the descriptor and a buffer for each thread.
class BareLoop {
 public:
  BareLoop(const char* path, std::uint64_t begin, std::uint64_t end, unsigned threads)
      : descriptor_(open(path, O_RDONLY | O_CLOEXEC)), begin_(begin), end_(end) {
    if (descriptor_ < 0) fail(std::string(path) + ": cannot open");
    const Page touched{{std::byte{0x5a}}};
    buffers_.assign(threads,
                    std::vector<Page>(std::ranges::max(kPieceSizes) / sizeof(Page), touched));
  }
  BareLoop(const BareLoop&) = delete;
  BareLoop& operator=(const BareLoop&) = delete;
  ~BareLoop() { close(descriptor_); }

  // The calling thread is one of the threads, as in verify().
  void run(std::size_t piece_nbytes) {
    next_ = begin_;
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < buffers_.size(); ++i) {
      others.emplace_back([this, i, piece_nbytes] { take_pieces(buffers_[i], piece_nbytes); });
    }
    take_pieces(buffers_[0], piece_nbytes);
  }

  // The piece size with the fastest of three runs.
  std::size_t find_best_piece() {
    std::size_t best = 0;
    double best_seconds = 1e9;
    for (const std::size_t piece : kPieceSizes) {
      for (int i = 0; i < 3; ++i) {
        const double seconds = bench::time_seconds([&] { run(piece); });
        if (seconds < best_seconds) best = piece;
        best_seconds = std::min(best_seconds, seconds);
      }
    }
    return best;
  }

  [[nodiscard]] std::uint64_t sum() const { return sum_; }

 private:
  void take_pieces(std::vector<Page>& buffer, std::size_t piece_nbytes) {
    std::uint64_t sum = 0;
    for (;;) {
      const std::uint64_t at = next_.fetch_add(piece_nbytes);
      if (at >= end_) break;
      const std::size_t nbytes = std::min<std::uint64_t>(piece_nbytes, end_ - at);
      const ssize_t got = pread(descriptor_, buffer.data(), nbytes, static_cast<off_t>(at));
      if (got != static_cast<ssize_t>(nbytes)) fail("short read");
      sum += XXH3_64bits(buffer.data(), nbytes);
    }
    sum_ += sum;
  }

  int descriptor_;
  std::uint64_t begin_;
  std::uint64_t end_;
  std::vector<std::vector<Page>> buffers_;
  std::atomic<std::uint64_t> next_ = 0;
  std::atomic<std::uint64_t> sum_ = 0;  // printed, so that no compiler removes the hashing
};

void print_pairs(const char* path, int pairs, unsigned threads) {
  const auto checkpoint = flatbed::Checkpoint::open(path);
  if (!checkpoint) fail(checkpoint.error().message);
  if (checkpoint->seal() != flatbed::SealState::sealed) fail(std::string(path) + ": not sealed");
  std::uint64_t nbytes = 0;
  for (const flatbed::TensorInfo& tensor : checkpoint->tensors()) nbytes += tensor.nbytes;
  const std::uint64_t size = checkpoint->files().front().nbytes;

  BareLoop loop(path, size - nbytes, size, threads);
  const std::size_t piece = loop.find_best_piece();
  const auto verify = [&] {
    const auto report = flatbed::verify(*checkpoint, {.threads = threads});
    if (!report || !report->damaged.empty()) fail(std::string(path) + ": verification failed");
  };
  std::printf("xxHash %u, %llu bytes, %u threads, pieces of %zu KiB\n", XXH_versionNumber(),
              static_cast<unsigned long long>(nbytes), threads, piece >> 10);
  for (int i = -1; i < pairs; ++i) {  // pair -1 warms up; then each takes turns to be first
    double bare = i % 2 == 0 ? bench::time_seconds([&] { loop.run(piece); }) : 0;
    const double verified = bench::time_seconds(verify);
    if (i % 2 != 0) bare = bench::time_seconds([&] { loop.run(piece); });
    if (i >= 0) std::printf("%.9f %.9f\n", verified, bare);
  }
  std::fprintf(stderr, "sum of digests %llx\n", static_cast<unsigned long long>(loop.sum()));
}

}  // namespace

int main(int argc, char** argv) {
  // After the first large block is freed, glibc takes later ones from its heap, already touched and
  // at other offsets. This setting makes each verify() run as in a fresh process.
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  if (argc < 3) fail("usage: bench_verify FILE PAIRS [THREADS]");
  const int threads = argc > 3 ? std::atoi(argv[3]) : 2;
  print_pairs(argv[1], std::atoi(argv[2]), static_cast<unsigned>(std::max(threads, 1)));
  return 0;
}
