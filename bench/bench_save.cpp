// Compares save() from memory, 256 MiB as a few large tensors or as many small ones, sealed and
// not, with a bare write of the same bytes. Nothing is synced, so this shows the cost of the work,
// not of the disk. Writes into the temporary folder (TMPDIR) and removes the files.
//
//   bench_save durable FILE OUT ROUNDS   seconds of save() of FILE's tensors from memory to OUT,
//                                        sealed and synced, and of `cp FILE OUT && sync OUT`, one
//                                        line for each round
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "flatbed/save.hpp"
#include "load_common.hpp"
#include "stopwatch.hpp"

namespace {

constexpr std::size_t kBytes = 256 << 20;

const std::vector<std::byte>& source() {
  static const std::vector<std::byte> bytes(kBytes, std::byte{0x5a});
  return bytes;
}

// A folder of its own, removed with its contents.
class Target {
 public:
  Target() {
    std::string name = (std::filesystem::temp_directory_path() / "bench-save-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      std::perror(name.c_str());
      std::exit(1);
    }
    folder_ = name;
  }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;
  ~Target() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  [[nodiscard]] std::filesystem::path path() const { return folder_ / "out.safetensors"; }

 private:
  std::filesystem::path folder_;
};

flatbed::SavePlan make_plan(std::size_t tensors) {
  flatbed::SavePlan plan;
  const std::size_t nbytes = kBytes / tensors;
  for (std::size_t i = 0; i < tensors; ++i) {
    plan.items.push_back({"layers." + std::to_string(i) + ".weight",
                          flatbed::Dtype::u8,
                          {nbytes},
                          std::span(source()).subspan(i * nbytes, nbytes)});
  }
  return plan;
}

// Arguments: number of tensors; whether to seal.
void save(benchmark::State& state) {
  const Target target;
  const flatbed::SavePlan plan = make_plan(static_cast<std::size_t>(state.range(0)));
  const flatbed::SaveOptions options{.seal = state.range(1) != 0, .sync = false};
  for ([[maybe_unused]] auto _ : state) {
    const auto report = flatbed::save(target.path(), plan, options);
    if (!report) state.SkipWithError(report.error().message.c_str());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kBytes));
}

void bare_write(benchmark::State& state) {
  const Target target;
  for ([[maybe_unused]] auto _ : state) {
    std::filesystem::remove(target.path());
    std::ofstream file(target.path(), std::ios::binary);
    file.write(reinterpret_cast<const char*>(source().data()), kBytes);
    if (!file.flush()) state.SkipWithError("cannot write");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kBytes));
}

BENCHMARK(save)
    ->ArgNames({"tensors", "sealed"})
    ->ArgsProduct({{16, 65536}, {1, 0}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(bare_write)->Unit(benchmark::kMillisecond)->UseRealTime();

// The tensors of a file in memory, to be saved. Borrows the memory.
flatbed::SavePlan plan_of(const flatbed::Checkpoint& model, const bench::OwnedMemory& memory) {
  bench::take(flatbed::load(bench::make_plan(model, memory, bench::Placement::as_in_file), {}));
  const bench::DataRange data = bench::find_data(model);
  flatbed::SavePlan plan;
  for (const flatbed::TensorInfo& tensor : model.tensors()) {
    const std::byte* const at = memory.data() + (tensor.where.offset - data.begin);
    plan.items.push_back({std::string(tensor.name),
                          tensor.dtype,
                          {tensor.shape.begin(), tensor.shape.end()},
                          std::span(at, static_cast<std::size_t>(tensor.nbytes))});
  }
  return plan;
}

void print_durable(const char* path, const std::string& out, int rounds) {
  const auto model = bench::take(flatbed::Checkpoint::open(path));
  const bench::OwnedMemory memory(bench::count_memory(model, bench::Placement::as_in_file));
  const flatbed::SavePlan plan = plan_of(model, memory);
  const std::string copy = "cp '" + std::string(path) + "' '" + out + "' && sync '" + out + "'";
  const auto time = [&](const auto& work) {
    std::filesystem::remove(out);
    ::sync();
    return bench::time_seconds(work);
  };
  const auto save = [&] { bench::take(flatbed::save(out, plan, {})); };
  const auto cp = [&] {
    if (std::system(copy.c_str()) != 0) bench::fail(copy);
  };
  for (int i = -1; i < rounds; ++i) {
    double copied = i % 2 == 0 ? time(cp) : 0;
    const double saved = time(save);
    if (i % 2 != 0) copied = time(cp);
    if (i >= 0) std::printf("%.9f %.9f\n", saved, copied);
  }
  std::filesystem::remove(out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "durable") == 0) {
    print_durable(argv[2], argv[3], std::atoi(argv[4]));
    return 0;
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
