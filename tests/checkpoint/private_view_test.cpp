// PrivateView: memory that may be written and never reaches the file.
#include "flatbed/private_view.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "flatbed/save.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

constexpr std::size_t kNbytes = 1 << 20;

// A small tensor "s", a large one "w", all 'x', and "none" without elements.
std::filesystem::path example(const test::TempDir& dir) {
  const std::string bytes(kNbytes, 'x');
  SavePlan plan;
  plan.items.push_back({"s", Dtype::f32, {3}, as_bytes(bytes).subspan(0, 12)});
  plan.items.push_back({"w", Dtype::u8, {kNbytes}, as_bytes(bytes)});
  plan.items.push_back({"none", Dtype::f64, {0, 4}, {}});
  EXPECT_OK(save(dir / "a.safetensors", plan, {.sync = false}));
  return dir / "a.safetensors";
}

TEST(PrivateView, WritesReachNeitherFileNorOtherViews) {
  const test::TempDir dir;
  const auto path = example(dir);
  const std::string before = test::read_file(path);
  const Checkpoint checkpoint = Checkpoint::open(path).value();
  for (const char* const name : {"s", "w"}) {
    const TensorInfo info = checkpoint.tensor(name).value();
    const PrivateView view = PrivateView::make(checkpoint, info).value();
    EXPECT_TRUE(view.is_mapping());
    ASSERT_EQ(view.bytes().size(), info.nbytes);
    std::memset(view.bytes().data(), 'y', view.bytes().size());
    EXPECT_EQ(checkpoint.view(info).value().bytes[0], std::byte{'x'});
    EXPECT_EQ(PrivateView::make(checkpoint, info).value().bytes()[0], std::byte{'x'});
  }
  EXPECT_EQ(test::read_file(path), before);
}

TEST(PrivateView, OutlivesTheCheckpointAndTheFile) {
  const test::TempDir dir;
  const auto path = example(dir);
  std::optional<Checkpoint> checkpoint = Checkpoint::open(path).value();
  const PrivateView view = PrivateView::make(*checkpoint, checkpoint->tensor("w").value()).value();
  checkpoint.reset();
  std::filesystem::remove(path);
  EXPECT_EQ(view.bytes()[kNbytes - 1], std::byte{'x'});
}

TEST(PrivateView, TensorsThatAreNotPlainAreReadAndVerified) {
  const test::TempDir dir;
  const auto path = example(dir);
  const Checkpoint checkpoint = Checkpoint::open(path).value().cast({.to = Dtype::f64}).value();
  const TensorInfo info = checkpoint.tensor("s").value();
  const PrivateView view = PrivateView::make(checkpoint, info).value();
  EXPECT_FALSE(view.is_mapping());
  EXPECT_EQ(view.bytes().size(), 24u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.bytes().data()) % 64, 0u);
  std::string bytes = test::read_file(path);
  bytes[checkpoint.tensor("s").value().where.offset] = 'z';
  test::write_file(path, bytes);
  EXPECT_ERROR(
      PrivateView::make(Checkpoint::open(path).value().cast({.to = Dtype::f64}).value(), info),
      chunk_corrupt);
}

TEST(PrivateView, MemoryIsCopied) {
  const test::TempDir dir;
  const std::string file = test::read_file(example(dir));
  const Checkpoint checkpoint = Checkpoint::open_memory(as_bytes(file), "memory").value();
  const TensorInfo info = checkpoint.tensor("w").value();
  const PrivateView view = PrivateView::make(checkpoint, info).value();
  EXPECT_FALSE(view.is_mapping());
  view.bytes()[0] = std::byte{'y'};
  EXPECT_EQ(checkpoint.view(info).value().bytes[0], std::byte{'x'});
}

TEST(PrivateView, TensorsWithoutElementsHaveNoBytes) {
  const test::TempDir dir;
  const Checkpoint checkpoint = Checkpoint::open(example(dir)).value();
  const TensorInfo info = checkpoint.tensor("none").value();
  EXPECT_TRUE(PrivateView::make(checkpoint, info).value().bytes().empty());
}

TEST(PrivateView, ATruncatedFileIsAnError) {
  const test::TempDir dir;
  const auto path = example(dir);
  const Checkpoint checkpoint = Checkpoint::open(path).value();
  std::filesystem::resize_file(path, 4096);
  EXPECT_ERROR(PrivateView::make(checkpoint, checkpoint.tensor("w").value()), file_changed);
}

TEST(PrivateView, OfAnotherCheckpointIsRefused) {
  const test::TempDir dir;
  const Checkpoint checkpoint = Checkpoint::open(example(dir)).value();
  TensorInfo other = checkpoint.tensor("w").value();
  other.name = "other";
  EXPECT_ERROR(PrivateView::make(checkpoint, other), invalid_argument);
}

}  // namespace
}  // namespace flatbed
