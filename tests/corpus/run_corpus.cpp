// Opens every file of the corpus that make.py wrote, reads all that it has, and compares what comes
// of it with the manifest: the exact code, what the message must say, and for valid files the bytes
// of every tensor. All on one thread with a small stack, with limits on time and memory for each
// file, and no descriptor may be left open.
//
//   flatbed_corpus FOLDER [--only TEXT] [--times]
//
// Exit status 1 when a file gives something else.
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "corpus/counted_memory.hpp"
#include "corpus/judge.hpp"
#include "support/descriptors.hpp"
#include "support/sanitizers.hpp"

namespace flatbed::corpus {
namespace {

#if FLATBED_SANITIZED
constexpr std::size_t kStackBytes = 256 * 1024;
constexpr int kMostSeconds = 60;  // of a processor, for one file
#else
constexpr std::size_t kStackBytes = 64 * 1024;
constexpr int kMostSeconds = 30;               // of a processor, for one file
constexpr rlim_t kMostAddresses = 4ULL << 30;  // of the process
#endif
// What may be allocated at one time while a file is read: this, and so much for each of its bytes.
// A pickle of up to 16 MiB may come out of a few deflated bytes, is copied twice, and has room made
// for its nodes.
constexpr std::uint64_t kFreeBytes = 96 << 20;
constexpr std::uint64_t kBytesPerByte = 96;

struct Options {
  std::string folder;
  std::string only;
  bool times = false;
};

// What the thread that reads and the thread that watches it share.
struct Progress {
  std::atomic<std::size_t> done = 0;
  std::atomic<bool> finished = false;
};

struct Work {
  const Options& options;
  const std::vector<Case>& cases;
  Progress progress;
  std::size_t failures = 0;
  std::size_t judged = 0;
};

std::string check_case(const Case& one, const std::string& folder) {
  const std::size_t before = test::open_descriptors();
  reset_peak();
  const std::uint64_t held = live_bytes();
  std::string wrong = judge(one, folder);
  const std::uint64_t peak = peak_bytes() - held;
  const std::uint64_t most = kFreeBytes + kBytesPerByte * one.nbytes;
  if (wrong.empty() && peak > most)
    wrong = "took " + std::to_string(peak) + " bytes of memory, expected at most " +
            std::to_string(most);
  if (wrong.empty() && test::open_descriptors() != before) wrong = "left a descriptor open";
  return wrong;
}

void* run_cases(void* argument) {
  Work& work = *static_cast<Work*>(argument);
  for (const Case& one : work.cases) {
    if (one.id.find(work.options.only) != std::string::npos) {
      const auto began = std::chrono::steady_clock::now();
      const std::string wrong = check_case(one, work.options.folder);
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - began;
      ++work.judged;
      if (!wrong.empty()) {
        ++work.failures;
        std::printf("%s (%s): %s\n", one.id.c_str(), one.file.c_str(), wrong.c_str());
      }
      if (work.options.times) std::printf("%8.2f ms  %s\n", took.count(), one.id.c_str());
    }
    ++work.progress.done;
  }
  work.progress.finished = true;
  return nullptr;
}

// What this process has used of a processor.
std::chrono::seconds cpu_time() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec);
}

// Ends the process when one file takes too long: a thread cannot be stopped from outside. One that
// waits for ever is left to ctest.
void watch(const Work& work) {
  std::size_t seen = 0;
  auto since = cpu_time();
  while (!work.progress.finished) {
    ::usleep(20'000);
    const std::size_t done = work.progress.done;
    const auto now = cpu_time();
    if (done != seen) since = now;
    seen = done;
    if (done < work.cases.size() && now - since > std::chrono::seconds(kMostSeconds)) {
      std::printf("%s: still running after %d s\n", work.cases[done].id.c_str(), kMostSeconds);
      std::fflush(stdout);
      ::_exit(1);
    }
  }
}

int run(const Options& options) {
  std::vector<Case> cases;
  if (!read_manifest(options.folder + "/manifest.jsonl", cases)) return 2;
#if !FLATBED_SANITIZED
  const rlimit limit{kMostAddresses, kMostAddresses};
  ::setrlimit(RLIMIT_AS, &limit);
#endif
  Work work{options, cases, {}};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t thread{};
  if (pthread_create(&thread, &attributes, run_cases, &work) != 0) return 2;
  watch(work);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  std::printf("%zu files, %zu of them not as the manifest says\n", work.judged, work.failures);
  return work.failures == 0 && work.judged != 0 ? 0 : 1;
}

}  // namespace
}  // namespace flatbed::corpus

int main(int argc, char** argv) {
  flatbed::corpus::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--times") {
      options.times = true;
    } else if (argument == "--only" && i + 1 < argc) {
      options.only = argv[++i];
    } else {
      options.folder = argument;
    }
  }
  return flatbed::corpus::run(options);
}
