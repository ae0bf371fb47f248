// One contender in a comparison of programs: keeps its memory, and loads a file on each request.
// Run:ai's streamer is a shared library that is built or installed by hand; compiling this program
// does not need it.
//
//   bench_load_serve flatbed FILE verified|unverified
//   bench_load_serve runai FILE LIBRARY      its settings: its environment variables,
//   RUNAI_STREAMER_*
//
// Prints "ready", then answers each line read. "load": the seconds of a load, in which flatbed
// opens the file, plans and loads, and the streamer is given the tensors' ranges and waited for.
// "sum": the sum of everything in the memory. Ends with its input.
#include <dlfcn.h>

#include <atomic>
#include <functional>
#include <iostream>
#include <string_view>
#include <thread>

#include "load_common.hpp"
#include "stopwatch.hpp"

namespace {

// The part of libstreamer.so 0.17's C interface that is used here: ranges of files to host memory.
struct RunaiDevice {
  int type = 0;  // the host
  int ordinal = 0;
};
using RunaiStart = int (*)(void** streamer);
using RunaiEnd = void (*)(void* streamer);
using RunaiRequest = int (*)(void* streamer, std::uint64_t* submission, std::uint32_t files,
                             const char** paths, std::uint32_t* ranges_of_file,
                             std::size_t* offsets, std::size_t* sizes, void** destinations,
                             RunaiDevice device);
using RunaiResponse = int (*)(void* streamer, std::uint64_t* submission, std::uint32_t* file,
                              std::uint32_t* range, int* submission_done,
                              unsigned timeout_milliseconds);

// Owns a streamer, whose threads live as long as it does. The library stays loaded.
class Runai {
 public:
  explicit Runai(const char* library) : library_(dlopen(library, RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) bench::fail(dlerror());
    request_ = find<RunaiRequest>("runai_file_streamer_request");
    response_ = find<RunaiResponse>("runai_file_streamer_response");
    end_ = find<RunaiEnd>("runai_file_streamer_end");
    if (find<RunaiStart>("runai_file_streamer_start")(&streamer_) != 0) {
      bench::fail("the streamer does not start");
    }
  }
  Runai(const Runai&) = delete;
  Runai& operator=(const Runai&) = delete;
  ~Runai() { end_(streamer_); }

  struct Ranges {
    std::vector<std::size_t> offsets;
    std::vector<std::size_t> sizes;
    std::vector<void*> destinations;
  };

  void load(const char* path, Ranges& ranges) {
    auto count = static_cast<std::uint32_t>(ranges.sizes.size());
    std::uint64_t submission = 0;
    if (request_(streamer_, &submission, 1, &path, &count, ranges.offsets.data(),
                 ranges.sizes.data(), ranges.destinations.data(), {}) != 0) {
      bench::fail("the streamer refuses the request");
    }
    for (int done = 0; done == 0;) {
      std::uint32_t file = 0;
      std::uint32_t range = 0;
      if (response_(streamer_, &submission, &file, &range, &done, 0) != 0) {
        bench::fail("the streamer fails to read");
      }
    }
  }

 private:
  template <typename Function>
  Function find(const char* name) {
    void* symbol = dlsym(library_, name);
    if (symbol == nullptr) bench::fail(std::string("the library lacks ") + name);
    return reinterpret_cast<Function>(symbol);
  }

  void* library_;
  void* streamer_ = nullptr;
  RunaiRequest request_ = nullptr;
  RunaiResponse response_ = nullptr;
  RunaiEnd end_ = nullptr;
};

struct Contender {
  std::function<void()> load;
  std::function<std::uint64_t()> sum;
};

void serve(const Contender& contender) {
  std::cout << "ready" << std::endl;
  std::string line;
  while (std::getline(std::cin, line)) {
    if (line == "load") {
      std::cout << bench::time_seconds(contender.load) << std::endl;
    } else if (line == "sum") {
      std::cout << contender.sum() << std::endl;
    } else {
      bench::fail("expected \"load\" or \"sum\", found " + line);
    }
  }
}

bench::OwnedMemory make_memory(const char* path) {
  return bench::OwnedMemory(bench::count_memory(bench::take(flatbed::Checkpoint::open(path)),
                                                bench::Placement::as_in_file));
}

void serve_flatbed(const char* path) {
  const bench::OwnedMemory memory = make_memory(path);
  const auto load = [&] {
    const auto model = bench::take(flatbed::Checkpoint::open(path));
    const flatbed::LoadPlan plan = bench::make_plan(model, memory, bench::Placement::as_in_file);
    const flatbed::LoadReport report = bench::take(flatbed::load(plan));
    if (report.bytes_verified < report.bytes_wanted) bench::fail("not all was verified");
  };
  serve({.load = load, .sum = [&] { return memory.sum(); }});
}

// The sum of the words at every `step` bytes of all tensors, divided among the threads.
std::uint64_t sum_views(const char* path, std::size_t step, int threads) {
  const auto model = bench::take(flatbed::Checkpoint::open(path));
  std::atomic<std::size_t> next = 0;
  std::atomic<std::uint64_t> total = 0;
  const auto take_tensors = [&] {
    std::uint64_t sum = 0;
    for (std::size_t k = next++; k < model.tensors().size(); k = next++) {
      const flatbed::TensorView view = bench::take(model.view(model.tensors()[k]));
      for (std::size_t i = 0; i + 8 <= view.bytes.size(); i += step) {
        std::uint64_t word = 0;
        std::memcpy(&word, view.bytes.data() + i, 8);
        sum += word;
      }
    }
    total += sum;
  };
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(take_tensors);
    take_tensors();
  }
  return total;
}

void serve_view(const char* path, int threads) {
  volatile std::uint64_t kept = 0;  // so that no compiler removes the reads
  serve({.load = [&] { kept = sum_views(path, bench::kPage, threads); },
         .sum = [&] { return sum_views(path, 8, threads); }});
}

void serve_runai(const char* path, const char* library) {
  const bench::OwnedMemory memory = make_memory(path);
  Runai::Ranges ranges;
  {
    const auto model = bench::take(flatbed::Checkpoint::open(path));
    const bench::DataRange data = bench::find_data(model);
    for (const flatbed::TensorInfo& tensor : model.tensors()) {
      ranges.offsets.push_back(tensor.where.offset);
      ranges.sizes.push_back(tensor.nbytes);
      ranges.destinations.push_back(memory.data() + (tensor.where.offset - data.begin));
    }
  }
  Runai runai(library);
  serve({.load = [&] { runai.load(path, ranges); }, .sum = [&] { return memory.sum(); }});
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 2 ? argv[1] : "";
  if (what == "flatbed") {
    serve_flatbed(argv[2]);
  } else if (what == "view" && argc > 3) {
    serve_view(argv[2], std::atoi(argv[3]));
  } else if (what == "evict") {
    const bench::ColdFile file(argv[2]);
    serve({.load = [&] { file.evict(); }, .sum = [&] { return file.count_resident(); }});
  } else if (what == "runai" && argc > 3) {
    serve_runai(argv[2], argv[3]);
  } else {
    bench::fail("usage: bench_load_serve flatbed|runai FILE ...");
  }
  return 0;
}
