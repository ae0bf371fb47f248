// Compares save() from memory, 256 MiB as a few large tensors or as many small ones, sealed and
// not, with a bare write of the same bytes. Nothing is synced, so this shows the cost of the work,
// not of the disk. Writes into the temporary folder (TMPDIR) and removes the files.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "flatbed/save.hpp"

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

}  // namespace

BENCHMARK_MAIN();
