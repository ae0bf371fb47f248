// Files written from a checkpoint with joined and split tensors: bytes and seals, what verify() and
// diff() make of the view, that a second run finds them up to date, and what is counted as a cast.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/diff.hpp"
#include "flatbed/key_map.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_compare.hpp"
#include "flatbed/save_plan.hpp"
#include "flatbed/save_set.hpp"
#include "flatbed/save_torch.hpp"
#include "flatbed/verify.hpp"
#include "support/expect_message.hpp"
#include "support/load_model.hpp"
#include "support/read_checkpoint.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
using test::bytes_of;
using test::expect_error;
using test::kChunk;
using test::ModelTensor;
using test::TempDir;

// "ab" of a and b of several pieces, joined along dimension 1; "c1" and "c2", which were "c".
constexpr std::string_view kRules = "ab = cat(a, b, dim=1)\nc1, c2 = split(c, 1, 2)\n";

class SaveFused : public testing::Test {
 protected:
  SaveFused() {
    tensors_ = {{"a", Dtype::f32, {300, 1500}},
                {"b", Dtype::f32, {300, 1000}},
                {"c", Dtype::bf16, {3, 70'000}},
                {"d", Dtype::i64, {3}}};
    test::fill(tensors_);
    static_cast<void>(test::write_model(in(), tensors_));
  }
  [[nodiscard]] fs::path in() const { return dir_ / "in.safetensors"; }
  [[nodiscard]] fs::path out() const { return dir_ / "out.safetensors"; }
  [[nodiscard]] Checkpoint view() const {
    return Checkpoint::open(in()).value().rename(KeyMap::parse(kRules, "r").value()).value();
  }
  [[nodiscard]] std::string ab() const {
    std::string out;
    for (std::size_t row = 0; row < 300; ++row) {
      out += tensors_[0].bytes.substr(row * 6000, 6000);
      out += tensors_[1].bytes.substr(row * 4000, 4000);
    }
    return out;
  }
  void expect_written(const Checkpoint& written) const {
    EXPECT_TRUE(bytes_of(written, "ab") == ab());
    EXPECT_TRUE(bytes_of(written, "c1") == tensors_[2].bytes.substr(0, 140'000));
    EXPECT_TRUE(bytes_of(written, "c2") == tensors_[2].bytes.substr(140'000));
    EXPECT_TRUE(bytes_of(written, "d") == tensors_[3].bytes);
    EXPECT_EQ(written.tensors().size(), 4U);
  }

  TempDir dir_;
  std::vector<ModelTensor> tensors_;
};

TEST_F(SaveFused, WritesASealedFileThatStandsForItself) {
  const SavePlan plan = make_plan(view()).value();
  const SaveReport report = save(out(), plan, {.sync = false}).value();
  EXPECT_EQ(report.casts.tensors, 0U);
  const Checkpoint written = Checkpoint::open(out(), {.check_seal = CheckSeal::required}).value();
  expect_written(written);
  EXPECT_EQ(written.find("ab")->stored, Stored::plain);
  EXPECT_TRUE(written.find("ab")->joined.empty());
  const VerifyReport verified = verify(written).value();
  EXPECT_TRUE(verified.damaged.empty());
  EXPECT_EQ(compare_output(out(), plan, {.sync = false}).value().kind, OutputKind::up_to_date);
}

TEST_F(SaveFused, WritesSetsAndTorchFiles) {
  const SavePlan plan = make_plan(view()).value();
  SaveSetOptions options;
  options.max_shard_nbytes = 1'500'000;
  options.file.sync = false;
  ASSERT_OK(save_set(dir_ / "set", plan, options));
  expect_written(Checkpoint::open(dir_ / "set").value());
  SaveTorchOptions torch;
  torch.file.sync = false;
  ASSERT_OK(save_torch(dir_ / "out.pth", plan, torch));
  expect_written(Checkpoint::open(dir_ / "out.pth").value());
}

TEST_F(SaveFused, RefusesDamagedParts) {
  std::string file = test::read_file(in());
  const Checkpoint intact = Checkpoint::open(in()).value();
  file[intact.find("b")->where.offset + 2 * kChunk] ^= 1;
  test::write_file(in(), file);
  expect_error(save(out(), make_plan(view()).value(), {.sync = false}), ErrorCode::chunk_corrupt,
               "tensor 'b': chunk 2");
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(SaveFused, VerifyChecksWhatTensorsAreMadeOfOnce) {
  const Checkpoint checkpoint = view();
  const VerifyReport report = verify(checkpoint).value();
  EXPECT_EQ(report.bytes_checked, 300U * 2500 * 4 + 3 * 70'000 * 2 + 24);
  std::string file = test::read_file(in());
  const Checkpoint intact = Checkpoint::open(in()).value();
  file[intact.find("b")->where.offset + kChunk] ^= 1;
  file[intact.find("c")->where.offset + kChunk] ^= 1;
  test::write_file(in(), file);
  const Checkpoint damaged = view();
  const VerifyReport found = verify(damaged).value();
  ASSERT_EQ(found.damaged.size(), 2U);
  for (const DamagedRange& range : found.damaged) {
    const std::string_view name = damaged.tensors()[range.tensor].name;
    EXPECT_TRUE(name == "ab" || name == "c1") << name;
    EXPECT_EQ(range.begin, kChunk);
  }
}

TEST_F(SaveFused, DiffComparesTheirContents) {
  ASSERT_OK(save(out(), make_plan(view()).value(), {.sync = false}));
  const Checkpoint written = Checkpoint::open(out()).value();
  const Checkpoint joined = view();
  const DiffReport same = diff(joined, written).value();
  EXPECT_TRUE(same.tensors.empty());
  EXPECT_EQ(same.equal_tensors, 4U);
  tensors_[1].bytes[0] = static_cast<char>(tensors_[1].bytes[0] ^ 1);
  static_cast<void>(test::write_model(in(), tensors_));
  const Checkpoint other = view();
  const DiffReport changed = diff(other, written).value();
  ASSERT_EQ(changed.tensors.size(), 1U);
  EXPECT_EQ(changed.tensors[0].name, "ab");
}

TEST_F(SaveFused, CountsCastsOfJoinedTensors) {
  const Checkpoint cast = view().cast({.to = Dtype::f16}).value();
  const SaveReport report = save(out(), make_plan(cast).value(), {.sync = false}).value();
  EXPECT_EQ(report.casts.tensors, 3U);
}

}  // namespace
}  // namespace flatbed
