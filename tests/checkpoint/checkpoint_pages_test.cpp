// Checkpoint::prefetch(), release() and lock(): of which tensors the memory can be asked for, and
// what happens to it.
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "support/expect_error.hpp"
#include "support/page_map.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace pickle = test::pickle;
using test::page_nbytes;
using test::present_pages;
using test::TempDir;

constexpr std::size_t kNbytes = 1 << 20;

// One tensor "w" of kNbytes, all 'x'.
Checkpoint example(const TempDir& dir) {
  const std::string bytes(kNbytes, 'x');
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {kNbytes}, as_bytes(bytes)});
  EXPECT_OK(save(dir / "a.safetensors", plan, {.sync = false}));
  return Checkpoint::open(dir / "a.safetensors").value();
}

// A file with a long bytes object, which the checkpoint holds in its own memory.
Checkpoint with_held_bytes(const TempDir& dir) {
  const std::string blob = "B" + test::le(kNbytes, 4) + std::string(kNbytes, 'x');
  const std::string pickled = pickle::finish(
      pickle::dict({pickle::text("held"), blob, pickle::text("w"), pickle::tensor()}));
  test::write_file(dir / "held.pth", test::torch_zip({.pickle = pickled}));
  return Checkpoint::open(dir / "held.pth").value();
}

TEST(CheckpointPages, ArePrefetchedAndReleased) {
  const TempDir dir;
  const Checkpoint checkpoint = example(dir);
  const TensorInfo& w = *checkpoint.find("w");
  ASSERT_OK(checkpoint.prefetch(w, 0, w.nbytes));
  const TensorView view = checkpoint.view(w).value();
  const std::size_t pages = present_pages(view.bytes);
  if (pages == 0) GTEST_SKIP() << "no MADV_POPULATE_READ";
  EXPECT_GE(pages, kNbytes / page_nbytes());
  ASSERT_OK(checkpoint.release(w, 0, w.nbytes));
  EXPECT_LE(present_pages(view.bytes), 2u);
  EXPECT_EQ(view.bytes[kNbytes / 2], std::byte{'x'});
}

TEST(CheckpointPages, RangesLieInTheTensor) {
  const TempDir dir;
  const Checkpoint checkpoint = example(dir);
  const TensorInfo& w = *checkpoint.find("w");
  EXPECT_OK(checkpoint.prefetch(w, kNbytes, 0));
  EXPECT_OK(checkpoint.release(w, 1, kNbytes - 1));
  EXPECT_ERROR(checkpoint.prefetch(w, 1, kNbytes), buffer_too_small);
  EXPECT_ERROR(checkpoint.release(w, kNbytes + 1, 0), buffer_too_small);
  EXPECT_ERROR(checkpoint.lock(w, 8, ~std::uint64_t{0}), buffer_too_small);
}

TEST(CheckpointPages, OfATruncatedFileAreAnErrorAndNoSignal) {
  const TempDir dir;
  const Checkpoint checkpoint = example(dir);
  const TensorInfo& w = *checkpoint.find("w");
  ASSERT_OK(checkpoint.view(w));
  std::filesystem::resize_file(dir / "a.safetensors", kNbytes / 2);
  EXPECT_ERROR(checkpoint.prefetch(w, 0, w.nbytes), file_changed);
  EXPECT_ERROR(checkpoint.prefetch(w, 0, 1), file_changed);
  EXPECT_ERROR(checkpoint.lock(w, 0, w.nbytes), file_changed);
}

TEST(CheckpointPages, StayInMemoryWhileTheyAreLocked) {
  if (!test::kPagesCanBeLocked) GTEST_SKIP() << "mlock() does nothing here";
  const TempDir dir;
  std::optional<Checkpoint> checkpoint = example(dir);
  const TensorInfo w = *checkpoint->find("w");
  const std::size_t before = test::locked_nbytes();
  {
    const Result<PageLock> lock = checkpoint->lock(w, 0, 100'000);
    ASSERT_OK(lock);
    EXPECT_GE(test::locked_nbytes(), before + 100'000);
    EXPECT_ERROR(checkpoint->release(w, 0, w.nbytes), invalid_argument);
    checkpoint.reset();
    EXPECT_EQ(lock->bytes()[99'999], std::byte{'x'}) << "the lock keeps the mapping";
  }
  EXPECT_EQ(test::locked_nbytes(), before);
}

TEST(CheckpointPages, ThatTheCheckpointHoldsItselfAreNotDiscarded) {
  const TempDir dir;
  const Checkpoint checkpoint = with_held_bytes(dir);
  const TensorInfo& held = *checkpoint.find("held");
  ASSERT_EQ(held.stored, Stored::held);
  EXPECT_OK(checkpoint.prefetch(held, 0, held.nbytes));
  EXPECT_OK(checkpoint.release(held, 0, held.nbytes));
  const TensorView view = checkpoint.view(held).value();
  EXPECT_EQ(as_text(view.bytes), std::string(kNbytes, 'x'));
  EXPECT_OK(checkpoint.lock(held, 0, held.nbytes));
}

TEST(CheckpointPages, AreThoseOfViewsOnly) {
  const TempDir dir;
  const std::string pickled = pickle::finish(pickle::dict(
      {pickle::text("t"),
       pickle::tensor({.sizes = pickle::counts({3, 2}), .strides = pickle::counts({1, 3})})}));
  test::write_file(dir / "t.pth",
                   test::build_zip(test::torch_items(
                       {.pickle = pickled, .storages = {{"0", "aaaabbbbccccddddeeeeffff"}}})));
  const Checkpoint checkpoint = Checkpoint::open(dir / "t.pth").value();
  EXPECT_ERROR(checkpoint.prefetch(*checkpoint.find("t"), 0, 4), not_viewable);
  EXPECT_ERROR(checkpoint.lock(*checkpoint.find("t"), 0, 4), not_viewable);
}

}  // namespace
}  // namespace flatbed
