// Runs every target over the inputs that once broke something (fuzz/kept/<target>/) and over
// fixtures and vectors as they are, in every build.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/targets.hpp"

namespace flatbed::fuzz {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder, none)) {
    if (entry.is_regular_file() && entry.file_size() < 100'000) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> contents;
  for (const fs::path& path : paths) {
    std::ifstream in(path, std::ios::binary);
    contents.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return contents;
}

class FuzzReplay : public testing::TestWithParam<Target> {};

TEST_P(FuzzReplay, KeptInputsGiveValuesOrErrors) {
  for (const std::string& input :
       files_below(fs::path(FLATBED_FUZZ_DIR) / "kept" / GetParam().name))
    GetParam().run(input);
}

TEST_P(FuzzReplay, FixturesGiveValuesOrErrors) {
  const std::vector<std::string> inputs = files_below(FLATBED_FIXTURES_DIR);
  ASSERT_FALSE(inputs.empty());
  for (const std::string& input : inputs) GetParam().run(input);
}

TEST_P(FuzzReplay, ShortInputsGiveValuesOrErrors) {
  GetParam().run("");
  for (int first = 0; first < 256; ++first) {
    GetParam().run(std::string(1, static_cast<char>(first)));
    GetParam().run(std::string("\x80\x02") + static_cast<char>(first) + ".");
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzReplay, testing::ValuesIn(kTargets),
                         [](const auto& target) { return std::string(target.param.name); });

}  // namespace
}  // namespace flatbed::fuzz
