// Whole files damaged at every place: every prefix of every valid vector, and every bit of the
// sealed file small.safetensors (spec S9).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "flatbed/checkpoint.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::read_file;
using test::TempDir;
using test::write_file;

const fs::path kValid = fs::path(FLATBED_SPEC_VECTORS_DIR) / "valid";

// Whether a file is sealed and every byte of its tensors is as its digests say.
bool is_sealed_and_right(const fs::path& path) {
  const auto opened = Checkpoint::open(path);
  if (!opened || opened->seal() != SealState::sealed) return false;
  return std::ranges::all_of(opened->tensors(), [&](const TensorInfo& tensor) {
    std::vector<std::byte> bytes(tensor.nbytes);
    return opened->read(tensor, 0, bytes).has_value();
  });
}

std::vector<fs::path> vectors() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(kValid)) {
    if (entry.path().extension() == ".safetensors") out.push_back(entry.path());
  }
  std::ranges::sort(out);
  return out;
}

class ValidVector : public testing::TestWithParam<fs::path> {};

// A safetensors file says in its header how long it is: no prefix of it is a whole one.
TEST_P(ValidVector, IsRefusedWhereverItIsCut) {
  const TempDir dir;
  const std::string bytes = read_file(GetParam());
  write_file(dir / "a", bytes);
  ASSERT_TRUE(Checkpoint::open(dir / "a"));
  for (std::size_t size = bytes.size(); size-- > 0;) {
    fs::resize_file(dir / "a", size);
    EXPECT_FALSE(Checkpoint::open(dir / "a")) << "the first " << size << " bytes";
  }
}

std::string test_name(const testing::TestParamInfo<fs::path>& vector) {
  std::string text = vector.param.stem().native();
  std::ranges::replace_if(
      text, [](char c) { return c == '-' || c == '.'; }, '_');
  return text;
}

INSTANTIATE_TEST_SUITE_P(Spec, ValidVector, testing::ValuesIn(vectors()), test_name);

// A file of which single bytes are changed in place.
class Victim {
 public:
  explicit Victim(const fs::path& path) : path_(path), descriptor_(::open(path.c_str(), O_RDWR)) {}
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() { ::close(descriptor_); }

  [[nodiscard]] const fs::path& path() const { return path_; }
  void set(std::size_t at, char byte) const {
    ASSERT_EQ(::pwrite(descriptor_, &byte, 1, static_cast<off_t>(at)), 1);
  }

 private:
  fs::path path_;
  int descriptor_;
};

TEST(SealedFile, NoticesEveryFlippedBit) {
  const TempDir dir;
  const std::string bytes = read_file(kValid / "small.safetensors");
  write_file(dir / "a", bytes);
  ASSERT_TRUE(is_sealed_and_right(dir / "a"));
  const Victim victim(dir / "a");
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const char byte = bytes[bit / 8];
    victim.set(bit / 8, static_cast<char>(byte ^ (1 << bit % 8)));
    EXPECT_FALSE(is_sealed_and_right(victim.path())) << "byte " << bit / 8 << " bit " << bit % 8;
    victim.set(bit / 8, byte);
  }
  EXPECT_TRUE(is_sealed_and_right(dir / "a"));
}

}  // namespace
}  // namespace flatbed
