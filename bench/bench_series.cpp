// The pause of Series::save_async() beside memcpy() of the same bytes into warm memory, round by
// round in one run; and the time to list a folder of many checkpoints.
//
//   bench_series pause FOLDER [MIB [ROUNDS]]     FOLDER must not exist; 1024 MiB, 15 rounds
//   bench_series list FOLDER [COUNT]             10000 checkpoints, warm
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flatbed/series.hpp"
#include "io/large_allocator.hpp"
#include "save/save_in_series.hpp"
#include "series/statement.hpp"
#include "stopwatch.hpp"

namespace {

using flatbed::Result;

template <typename T>
T value_of(Result<T> result) {
  if (result) return *std::move(result);
  std::fprintf(stderr, "%s\n", result.error().message.c_str());
  std::exit(1);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// Tensors of the sizes of a transformer's layer, over and over, with what is left as the last one.
flatbed::SavePlan plan_of(std::span<const std::byte> bytes) {
  constexpr std::size_t kSizes[] = {8 << 20, 4096, 2 << 20, 2 << 20, 8 << 20, 4096, 22 << 20};
  flatbed::SavePlan plan;
  for (std::size_t i = 0; !bytes.empty(); ++i) {
    const std::size_t nbytes = std::min(kSizes[i % std::size(kSizes)], bytes.size());
    plan.items.push_back(
        {"layers." + std::to_string(i), flatbed::Dtype::u8, {nbytes}, bytes.first(nbytes)});
    bytes = bytes.subspan(nbytes);
  }
  return plan;
}

int pause(const std::filesystem::path& folder, std::size_t mib, std::uint64_t rounds) {
  const std::size_t nbytes = mib << 20;
  // In pages like those of the copy, which the first use of each touches.
  flatbed::ByteBuffer source(nbytes);
  flatbed::ByteBuffer warm(nbytes);
  std::memset(source.data(), 0x5A, nbytes);
  std::memset(warm.data(), 1, nbytes);
  const flatbed::SavePlan plan = plan_of(source);
  flatbed::Series series =
      value_of(flatbed::Series::open(folder, {.keep_last = 1, .file = {.sync = false}}));
  const auto copy = [&] { std::memcpy(warm.data(), source.data(), nbytes); };
  std::vector<double> copies;
  std::vector<double> again;
  std::vector<double> pauses;
  for (std::uint64_t step = 0; step <= rounds; ++step) {
    const double one = bench::time_seconds(copy);
    Result<flatbed::PendingSave> pending = flatbed::Error{};
    const double paused =
        bench::time_seconds([&] { pending = series.save_async(plan, {.step = step}); });
    const flatbed::SeriesSave saved = value_of(value_of(std::move(pending)).wait());
    for (const std::string& note : saved.notes) std::printf("note: %s\n", note.c_str());
    const double other = bench::time_seconds(copy);
    std::printf("%s  memcpy %.4f s, save_async %.4f s, memcpy %.4f s\n",
                step == 0 ? "first " : "      ", one, paused, other);
    if (step == 0) continue;
    copies.push_back(one);
    pauses.push_back(paused);
    again.push_back(other);
  }
  std::printf("%zu tensors, %zu MiB, medians of %llu rounds from the second save on:\n",
              plan.items.size(), mib, static_cast<unsigned long long>(rounds));
  std::printf("pause / memcpy %.3f (at most 1.1), memcpy / memcpy %.3f\n",
              median(pauses) / median(copies), median(again) / median(copies));
  return 0;
}

int list(const std::filesystem::path& folder, std::uint64_t count) {
  const std::string_view text = "0123456789";
  const flatbed::SavePlan plan = plan_of(std::as_bytes(std::span(text)));
  std::filesystem::create_directory(folder);
  for (std::uint64_t i = 1; i <= count; ++i) {
    flatbed::Statement statement{.sequence = i, .step = i, .score = 1.0 / static_cast<double>(i)};
    statement.metric = "val_loss";
    const std::string value = value_of(encode_statement(statement));
    const std::string name = std::to_string(i) + ".safetensors";
    value_of(flatbed::save_in_series(folder / name, plan, {.sync = false}, value));
  }
  const flatbed::Series series = value_of(flatbed::Series::open(folder));
  for (int round = 0; round < 7; ++round) {
    std::size_t listed = 0;
    const double seconds =
        bench::time_seconds([&] { listed = value_of(series.list()).entries.size(); });
    std::printf("list() of %zu checkpoints: %.3f s (at most 1)\n", listed, seconds);
  }
  const double seconds = bench::time_seconds([&] { value_of(series.latest()); });
  std::printf("latest(): %.3f s\n", seconds);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto number = [&](int at, std::uint64_t otherwise) {
    return argc > at ? std::strtoull(argv[at], nullptr, 10) : otherwise;
  };
  const std::string_view mode = argc > 2 ? argv[1] : "";
  if (mode == "pause") return pause(argv[2], number(3, 1024), number(4, 15));
  if (mode == "list") return list(argv[2], number(3, 10'000));
  std::fprintf(stderr, "usage: bench_series pause|list FOLDER [...]\n");
  return 2;
}
