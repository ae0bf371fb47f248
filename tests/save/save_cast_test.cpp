// Files written from a checkpoint with casts: their bytes and seals, what of the source is checked,
// that a second run finds them up to date, and what is reported.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_compare.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_torch.hpp"
#include "flatbed/verify.hpp"
#include "support/expect_error.hpp"
#include "support/read_checkpoint.hpp"
#include "support/slow_cast.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::bytes_of;
using test::slow_cast;
using test::TempDir;

std::string floats(std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(i) * 0.37F - 11;
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

class SaveCast : public testing::Test {
 protected:
  // "w" of several pieces, "v" with values that F16 does not have, "n" of integers.
  SaveCast() {
    SavePlan plan;
    plan.items.push_back({"w", Dtype::f32, {values_.size() / 4}, as_bytes(values_)});
    plan.items.push_back({"v", Dtype::f32, {4}, std::as_bytes(std::span(large_))});
    plan.items.push_back({"n", Dtype::u8, {3}, as_bytes(std::string_view("abc"))});
    plan.aliases.push_back({"tied", "w"});
    EXPECT_OK(save(in(), plan, {.sync = false}));
  }
  [[nodiscard]] fs::path in() const { return dir_ / "in.safetensors"; }
  [[nodiscard]] fs::path out() const { return dir_ / "out.safetensors"; }
  [[nodiscard]] SavePlan plan(Dtype to) const {
    return make_plan(Checkpoint::open(in()).value().cast({.to = to}).value()).value();
  }

  TempDir dir_;
  std::string values_ = floats(800'000);
  std::vector<float> large_{1, 65'519, -70'000, std::numeric_limits<float>::infinity()};
};

TEST_F(SaveCast, WritesAndSealsTheNewBytes) {
  for (const Dtype to : {Dtype::f16, Dtype::f64, Dtype::f8_e4m3}) {
    const SaveReport report = save(out(), plan(to), {.sync = false}).value();
    const Checkpoint written = Checkpoint::open(out(), {.check_seal = CheckSeal::required}).value();
    EXPECT_EQ(written.find("w")->dtype, to);
    EXPECT_EQ(bytes_of(written, "w"), slow_cast(Dtype::f32, to, values_));
    EXPECT_EQ(bytes_of(written, "n"), "abc");
    EXPECT_EQ(written.find("tied"), written.find("w"));
    EXPECT_TRUE(verify(written).value().damaged.empty());
    EXPECT_EQ(report.casts.tensors, 2U);
  }
}

TEST_F(SaveCast, ReportsTheValuesThatDoNotFitByTensor) {
  const CastReport report = save(out(), plan(Dtype::f16), {.sync = false}).value().casts;
  ASSERT_EQ(report.overflows.size(), 2U);  // 800,000 * 0.37 is above 65,504, too
  EXPECT_EQ(report.overflows[0].name, "w");
  EXPECT_EQ(report.overflows[1].name, "v");
  EXPECT_EQ(report.overflows[1].counts, (CastCounts{.saturated = 1, .infinite = 1}));
  EXPECT_EQ(report.overflowed, 2U);
  EXPECT_GT(report.overflows[0].counts.infinite, 600'000U);
  const CastReport fits = save(out(), plan(Dtype::bf16), {.sync = false}).value().casts;
  EXPECT_EQ(fits.counts, CastCounts{});
  EXPECT_EQ(fits.tensors, 2U);
}

TEST_F(SaveCast, IsUpToDateTheSecondTime) {
  EXPECT_OK(save(out(), plan(Dtype::bf16), {.sync = false}));
  for (const CompareData data : {CompareData::sampled, CompareData::all}) {
    EXPECT_EQ(compare_output(out(), plan(Dtype::bf16), {}, data).value().kind,
              OutputKind::up_to_date);
    EXPECT_EQ(compare_output(out(), plan(Dtype::f16), {}, data).value().kind,
              OutputKind::different);
  }
  const fs::path torch = dir_ / "out.pth";
  EXPECT_OK(save_torch(torch, plan(Dtype::bf16), {.file = {.sync = false}}));
  EXPECT_EQ(compare_torch_output(torch, plan(Dtype::bf16)).value().kind, OutputKind::up_to_date);
  EXPECT_EQ(bytes_of(Checkpoint::open(torch).value(), "w"),
            slow_cast(Dtype::f32, Dtype::bf16, values_));
}

TEST_F(SaveCast, RefusesASealedSourceThatIsCorrupt) {
  std::string file = test::read_file(in());
  const Checkpoint intact = Checkpoint::open(in()).value();
  const TensorInfo weight = *intact.find("w");
  file[weight.where.offset + 1'000'000] ^= 1;
  test::write_file(in(), file);
  EXPECT_ERROR(save(out(), plan(Dtype::bf16), {.sync = false}), chunk_corrupt);
  EXPECT_FALSE(fs::exists(out()));
  EXPECT_OK(save(out(), plan(Dtype::bf16), {.sync = false, .verify = Verify::no}));
  const Checkpoint cast = Checkpoint::open(in()).value().cast({.to = Dtype::f64}).value();
  const VerifyReport report = verify(cast).value();  // of the stored bytes
  ASSERT_EQ(report.damaged.size(), 1U);
  EXPECT_EQ(cast.tensors()[report.damaged[0].tensor].name, "w");
  EXPECT_EQ(report.damaged[0].begin, 786'432U);
  EXPECT_EQ(report.damaged[0].end, 1'048'576U);
  EXPECT_EQ(report.chunks_checked, 15U);
}

TEST_F(SaveCast, RefusesARecordThatDoesNotMatchItsCrc) {
  std::vector<test::ZipItem> items =
      test::torch_items({.pickle = test::pickle::finish(
                             test::pickle::dict({test::pickle::text("a"), test::pickle::tensor()})),
                         .storages = {{"0", std::string(24, '\1')}}});
  const auto converted = [&] {
    test::write_file(dir_ / "in.pth", test::build_zip(items));
    const Checkpoint source = Checkpoint::open(dir_ / "in.pth").value();
    const Checkpoint cast = source.cast({.to = Dtype::bf16}).value();
    return save(out(), make_plan(cast).value(), {.sync = false});
  };
  const Result<SaveReport> intact = converted();
  ASSERT_OK(intact);
  EXPECT_EQ(intact->crc.checked, 4U);  // the storage and three of the structure
  for (test::ZipItem& item : items) {
    if (item.name == "archive/data/0") item.central.crc = test::crc_of(item.data) ^ 1;
  }
  EXPECT_ERROR(converted(), zip_crc_mismatch);
}

// Every file of torch's own, of every layout, with strided, swapped and compressed tensors.
TEST_F(SaveCast, WritesWhatReadGivesOfFilesOfEveryLayout) {
  std::size_t files = 0;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(fs::path(FLATBED_FIXTURES_DIR) / "torch2")) {
    if (entry.path().extension() != ".pth") continue;
    const Result<Checkpoint> opened = Checkpoint::open(entry.path());
    if (!opened) continue;
    const Checkpoint cast = opened->cast({.to = Dtype::f16}).value();
    ASSERT_OK(save(out(), make_plan(cast).value(), {.sync = false})) << entry.path();
    const Checkpoint written = Checkpoint::open(out()).value();
    EXPECT_OK(written.tree()) << entry.path();
    for (const TensorInfo& tensor : cast.tensors())
      EXPECT_EQ(bytes_of(written, tensor.name), bytes_of(cast, tensor.name)) << entry.path();
    const fs::path torch = dir_ / "out.pth";
    const SaveTorchOptions keep{.file = {.sync = false}, .unsafe_objects = UnsafeObjects::keep};
    ASSERT_OK(save_torch(torch, make_plan(cast).value(), keep)) << entry.path();
    const Checkpoint back = Checkpoint::open(torch).value();
    for (const TensorInfo& tensor : back.tensors())
      EXPECT_EQ(bytes_of(back, tensor.name), bytes_of(cast, tensor.name)) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 20U);
}

}  // namespace
}  // namespace flatbed
