// Measures rename(), match() and the index of a set over many names, in one process. Only the index
// is written, into the current folder.
//
//   bench_names [flags of Google Benchmark]
#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "flatbed/flatbed.hpp"
#include "io/atomic_file.hpp"
#include "save/set_parts.hpp"

namespace {

using flatbed::Checkpoint;
using flatbed::Expected;
using flatbed::KeyMap;

template <typename T>
T must(flatbed::Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "bench_names: %s\n", result.error().message.c_str());
    std::exit(1);
  }
  return *std::move(result);
}

// Names as those of a large transformer.
std::string name_of(std::size_t i) {
  const std::size_t layer = i / 100;
  return "layers." + std::to_string(layer) + ".mlp.experts." + std::to_string(i % 100) +
         (i % 2 == 0 ? ".down.weight" : ".up.weight");
}

// Names of which three are to be joined each.
std::string part_of(std::size_t i) {
  constexpr std::array<const char*, 3> kParts{".k.weight", ".q.weight", ".v.weight"};
  return "layers." + std::to_string(i / 3) + ".self_attn" + kParts[i % 3];
}

// A header of `count` tensors without bytes; the checkpoint borrows it.
std::string header_of(std::size_t count, const std::string& prefix,
                      std::string (*name)(std::size_t) = name_of) {
  std::string json = "{";
  for (std::size_t i = 0; i < count; ++i) {
    json += (i == 0 ? "\"" : ",\"") + prefix + name(i) +
            R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  json += '}';
  const std::uint64_t nbytes = json.size();
  std::string file(sizeof nbytes, '\0');
  std::memcpy(file.data(), &nbytes, sizeof nbytes);
  return file + json;
}

Checkpoint open(const std::string& file) {
  return must(Checkpoint::open_memory(std::as_bytes(std::span(file)), "bench"));
}

// `count` rules, of which the last matches every name. Each other one matches one name, though it
// begins and ends as many do.
KeyMap rules(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    const std::string number = std::to_string(i);
    text += "module.layers." + number + ".mlp.*." + number + "*.weight=a." + number + ".{1}{2}\n";
  }
  return must(KeyMap::parse(text + "*={1}.x\n", "rules"));
}

// Arguments: names, rules.
void rename_all(benchmark::State& state) {
  const std::string file = header_of(static_cast<std::size_t>(state.range(0)), "module.");
  const Checkpoint checkpoint = open(file);
  const KeyMap map = rules(static_cast<std::size_t>(state.range(1)));
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(must(checkpoint.rename(map)));
}
BENCHMARK(rename_all)->Args({1'000'000, 1})->Args({1'000'000, 100})->Unit(benchmark::kMillisecond);

// `count` rules that join, each of them the layers whose numbers end with one pair of digits.
KeyMap joins(std::size_t count) {
  KeyMap map;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string digits = count == 1 ? "*" : std::to_string(i / 10) + std::to_string(i % 10);
    const std::string layer = count == 1 ? "layers.*" : "layers.*" + digits;
    const std::string attention = layer + ".self_attn.";
    const std::string name = count == 1 ? "l.{1}.qkv" : "l.{1}" + digits + ".qkv";
    const auto added =
        map.cat(name, {attention + "q.weight", attention + "k.weight", attention + "v.weight"});
    if (!added) std::exit(1);
  }
  return map;
}

// Arguments: names, rules. All names are joined, except for the few layers with one digit.
void join_all(benchmark::State& state) {
  const std::string file = header_of(static_cast<std::size_t>(state.range(0)), "", part_of);
  const Checkpoint checkpoint = open(file);
  const KeyMap map = joins(static_cast<std::size_t>(state.range(1)));
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(must(checkpoint.rename(map)));
}
BENCHMARK(join_all)->Args({999'999, 1})->Args({999'999, 100})->Unit(benchmark::kMillisecond);

void match_names(benchmark::State& state, const std::string& prefix) {
  const std::string file = header_of(static_cast<std::size_t>(state.range(0)), prefix);
  const Checkpoint checkpoint = open(file);
  const std::string plain = header_of(static_cast<std::size_t>(state.range(0)), "");
  const std::vector<Expected> expected = flatbed::expectations(open(plain));
  const bool all = prefix.empty();
  for ([[maybe_unused]] auto _ : state) {
    const auto report = must(flatbed::match(checkpoint, expected));
    if (report.complete() != all || report.suggested.has_value() == all) std::exit(1);
  }
}
BENCHMARK_CAPTURE(match_names, all, "")->Arg(100'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(match_names, prefixed, "module.")->Arg(100'000)->Unit(benchmark::kMillisecond);

// Arguments: tensors of one byte, shards.
void write_index(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0));
  const auto shards = static_cast<std::size_t>(state.range(1));
  const std::byte byte{};
  flatbed::SavePlan plan;
  for (std::size_t i = 0; i < count; ++i)
    plan.items.push_back({name_of(i), flatbed::Dtype::u8, {1}, std::span(&byte, 1)});
  flatbed::SaveSetOptions options;
  options.max_shard_nbytes = count / shards;
  const auto parts = must(flatbed::SetParts::of(plan, options));
  const std::vector<std::string> contents(parts.shards().size(), std::string(16, '0'));
  const std::filesystem::path path = "bench_names.index.json";
  for ([[maybe_unused]] auto _ : state) {
    const std::string text = must(parts.index(contents));
    auto file = must(flatbed::AtomicFile::create(path, text.size()));
    if (!file.write_at(0, std::as_bytes(std::span(text)))) std::exit(1);
    benchmark::DoNotOptimize(must(file.commit()));
  }
  std::filesystem::remove(path);
}
BENCHMARK(write_index)->Args({500'000, 1'000})->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
