// PrivateView: memory that may be written and never reaches the file.
#include "flatbed/private_view.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
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

// 2 TiB, more than the memory of most machines.
TEST(PrivateView, AFileMayBeLargerThanMemory) {
  const test::TempDir dir;
  constexpr std::uint64_t kHuge = std::uint64_t{2} << 40;
  const std::string json =
      str_cat(R"({"w":{"dtype":"U8","shape":[)", kHuge, R"(],"data_offsets":[0,)", kHuge, "]}}");
  std::string head(8, '\0');
  head[0] = static_cast<char>(json.size());
  test::write_file(dir / "a.safetensors", head + json);
  std::filesystem::resize_file(dir / "a.safetensors", head.size() + json.size() + kHuge);
  const Checkpoint checkpoint = Checkpoint::open(dir / "a.safetensors").value();
  const TensorInfo info = checkpoint.tensor("w").value();
  const Result<PrivateView> view = PrivateView::make(checkpoint, info);
  ASSERT_OK(view);
  view->bytes()[kHuge - 1] = std::byte{1};
  EXPECT_EQ(view->bytes()[kHuge - 2], std::byte{0});
}

TEST(PrivateViews, ShareOneMappingAndOutliveTheCheckpoint) {
  const test::TempDir dir;
  const auto path = example(dir);
  const std::string before = test::read_file(path);
  std::optional<PrivateViews> views(Checkpoint::open(path).value());
  const Checkpoint checkpoint = Checkpoint::open(path).value();
  const PrivateView small = views->view(checkpoint.tensor("s").value()).value();
  const PrivateView large = views->view(checkpoint.tensor("w").value()).value();
  const PrivateView again = views->view(checkpoint.tensor("w").value()).value();
  EXPECT_TRUE(small.is_mapping() && large.is_mapping());
  EXPECT_EQ(small.bytes().data() - large.bytes().data(),
            static_cast<std::ptrdiff_t>(checkpoint.tensor("s").value().where.offset -
                                        checkpoint.tensor("w").value().where.offset));
  EXPECT_EQ(again.bytes().data(), large.bytes().data());
  EXPECT_TRUE(views->view(checkpoint.tensor("none").value()).value().bytes().empty());
  views.reset();
  std::filesystem::remove(path);
  ASSERT_EQ(small.bytes().size(), 12u);
  std::memset(large.bytes().data(), 'y', large.bytes().size());
  EXPECT_EQ(small.bytes()[11], std::byte{'x'});
}

TEST(PrivateViews, ReadWhatCannotBeMappedInPlace) {
  const test::TempDir dir;
  // Three bytes before the floats: they are not aligned in the file.
  const std::string json = R"({"o":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                           R"("f":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}})";
  std::string head(8, '\0');
  head[0] = static_cast<char>(json.size());
  test::write_file(dir / "a.safetensors", head + json + "abc12345678");
  const Checkpoint checkpoint = Checkpoint::open(dir / "a.safetensors").value();
  const PrivateViews views(checkpoint);
  const PrivateView view = views.view(checkpoint.tensor("f").value()).value();
  EXPECT_FALSE(view.is_mapping());
  EXPECT_EQ(view.bytes()[7], std::byte{'8'});
  EXPECT_TRUE(views.view(checkpoint.tensor("o").value()).value().is_mapping());
}

TEST(PrivateViews, OfASealedFileThatChangedAreRefused) {
  const test::TempDir dir;
  const auto path = example(dir);
  const Checkpoint checkpoint = Checkpoint::open(path).value();
  const PrivateViews views(checkpoint);
  const TensorInfo info = checkpoint.tensor("w").value();
  EXPECT_OK(views.view(info));
  std::filesystem::last_write_time(
      path, std::filesystem::last_write_time(path) + std::chrono::seconds(5));
  EXPECT_ERROR(views.view(info), file_changed);
  EXPECT_OK(views.view(info, Verify::no));
}

TEST(PrivateViews, OfAnotherCheckpointIsRefused) {
  const test::TempDir dir;
  const Checkpoint checkpoint = Checkpoint::open(example(dir)).value();
  TensorInfo other = checkpoint.tensor("w").value();
  other.name = "other";
  EXPECT_ERROR(PrivateViews(checkpoint).view(other), invalid_argument);
}

}  // namespace
}  // namespace flatbed
