// Measures how long opening takes, in one process, with files in the page cache.
//
//   bench_open FILE... [flags of Google Benchmark]    opens each FILE over and over; for a
//                                                     .safetensors file also the bare simdjson
//                                                     parse of its header
//   bench_open --pairs N FILE.safetensors             N interleaved pairs: the seconds of opening
//                                                     and of the bare parse, one pair a line
//   bench_open --pairs N FOLDER/INDEX.json            the same of a set: the bare parse is that of
//                                                     the index and of each header in the folder
//
// "Bare" is the minimum for any reader built on simdjson's DOM: the header's bytes are in memory, a
// fresh parser parses them, and nothing looks at the result. Opening also reads the file, checks
// every rule and indexes the names.
#include <benchmark/benchmark.h>
#include <simdjson.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flatbed/flatbed.hpp"
#include "stopwatch.hpp"

namespace {

void fail(const std::string& message) {
  std::fprintf(stderr, "bench_open: %s\n", message.c_str());
  std::exit(1);
}

// Opens the file and finds its last tensor by name.
void open_file(const std::string& path) {
  const auto checkpoint = flatbed::Checkpoint::open(path);
  if (!checkpoint) fail(checkpoint.error().message);
  const auto tensors = checkpoint->tensors();
  if (tensors.empty() || checkpoint->find(tensors.back().name) != &tensors.back()) {
    fail(path + ": cannot find the last tensor");
  }
}

simdjson::padded_string read_header(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::uint64_t nbytes = 0;
  file.read(reinterpret_cast<char*>(&nbytes), sizeof nbytes);
  if (!file || nbytes > 100'000'000) fail(path + ": not a .safetensors file");
  simdjson::padded_string header(nbytes);
  file.read(header.data(), static_cast<std::streamsize>(nbytes));
  if (!file) fail(path + ": the file ends inside its header");
  return header;
}

// The JSON texts that opening `path` has to parse.
std::vector<simdjson::padded_string> read_texts(const std::string& path) {
  std::vector<simdjson::padded_string> texts;
  if (!path.ends_with(".json")) {
    texts.push_back(read_header(path));
    return texts;
  }
  auto index = simdjson::padded_string::load(path);
  if (index.error() != simdjson::SUCCESS) fail(path + ": cannot read");
  texts.push_back(std::move(index).value_unsafe());
  const auto folder = std::filesystem::path(path).parent_path();
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") texts.push_back(read_header(entry.path()));
  }
  return texts;
}

void parse_bare(const simdjson::padded_string& text) {
  simdjson::dom::parser parser;
  const auto parsed = parser.parse(text);
  if (parsed.error() != simdjson::SUCCESS) fail(simdjson::error_message(parsed.error()));
}

void print_pairs(int pairs, const std::string& path) {
  const std::vector<simdjson::padded_string> texts = read_texts(path);
  const auto parse_all = [&] {
    for (const simdjson::padded_string& text : texts) parse_bare(text);
  };
  const auto open = [&] { return bench::time_seconds([&] { open_file(path); }); };
  const auto parse = [&] { return bench::time_seconds(parse_all); };
  std::size_t nbytes = 0;
  for (const simdjson::padded_string& text : texts) nbytes += text.size();
  std::printf("simdjson %s, %s, %zu bytes of JSON\n", SIMDJSON_STRINGIFY(SIMDJSON_VERSION),
              simdjson::get_active_implementation()->name().c_str(), nbytes);
  for (int i = -1; i < pairs; ++i) {  // pair -1 warms up; then each takes turns to be first
    double bare = i % 2 == 0 ? parse() : 0;
    const double opened = open();
    if (i % 2 != 0) bare = parse();
    if (i >= 0) std::printf("%.9f %.9f\n", opened, bare);
  }
}

void register_file(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  benchmark::RegisterBenchmark(("open/" + name).c_str(), [path](benchmark::State& state) {
    for ([[maybe_unused]] auto _ : state) open_file(path);
  })->Unit(benchmark::kMillisecond);
  if (!name.ends_with(".safetensors")) return;
  benchmark::RegisterBenchmark(("bare_parse/" + name).c_str(), [path](benchmark::State& state) {
    const simdjson::padded_string header = read_header(path);
    for ([[maybe_unused]] auto _ : state) parse_bare(header);
  })->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--pairs") == 0) {
    print_pairs(std::atoi(argv[2]), argv[3]);
    return 0;
  }
  benchmark::Initialize(&argc, argv);
  if (argc < 2) fail("which files? bench/inputs.py makes some");
  for (int i = 1; i < argc; ++i) register_file(argv[i]);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
