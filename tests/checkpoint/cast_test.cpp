// Checkpoint::cast(): which tensors become another dtype, that every way of reading gives the same
// bytes, and what stays.
#include "flatbed/cast.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "flatbed/checkpoint.hpp"
#include "flatbed/save.hpp"
#include "flatbed/save_plan.hpp"
#include "support/expect_message.hpp"
#include "support/read_checkpoint.hpp"
#include "support/slow_cast.hpp"
#include "support/temp_dir.hpp"
#include "support/zip_builder.hpp"

namespace flatbed {
namespace {

namespace fs = std::filesystem;
namespace pickle = test::pickle;
using test::bytes_of;
using test::expect_error;
using test::names_of;
using test::slow_cast;
using test::TempDir;

constexpr std::size_t kChunk = 262'144;

std::string floats(std::size_t count, float first = 0.1F) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    const float value = first + static_cast<float>(i) * 0.37F;
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

// The bytes of the first 1,000 elements: the slow cast takes long.
std::string start_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::string out(std::min<std::uint64_t>(tensor.nbytes, 1'000 * bits(tensor.dtype) / 8), '\0');
  EXPECT_OK(checkpoint.read(tensor, 0, std::as_writable_bytes(std::span(out))));
  return out;
}

// "w" F32 of more than two chunks with the alias "tied", "h" F16, "n" I64, and a structure.
class CastTest : public testing::Test {
 protected:
  CastTest() {
    SavePlan plan;
    plan.items.push_back({"w", Dtype::f32, {values_.size() / 4}, as_bytes(values_)});
    plan.items.push_back({"h", Dtype::f16, {2}, as_bytes(halves_)});
    plan.items.push_back({"n", Dtype::i64, {1}, as_bytes(number_)});
    plan.aliases.push_back({"tied", "w"});
    plan.metadata = {{"format", "pt"}, {"note", "of the values"}};
    ValueTree& tree = plan.tree;
    const NodeId root = tree.add_dict();
    const NodeId weight = tree.add_tensor(0, {});
    tree.set_item(root, tree.add_string("w"), weight);
    tree.set_item(root, tree.add_string("tied"), weight);
    tree.set_item(root, tree.add_string("h"), tree.add_tensor(1, {}));
    tree.set_item(root, tree.add_string("n"), tree.add_tensor(2, {}));
    tree.set_item(root, tree.add_string("epoch"), tree.add_integer(3));
    tree.set_root(root);
    EXPECT_OK(save(path(), plan, {.sync = false}));
  }

  [[nodiscard]] fs::path path() const { return dir_ / "a.safetensors"; }
  [[nodiscard]] Checkpoint open() const { return Checkpoint::open(path()).value(); }

  TempDir dir_;
  std::string values_ = floats(2 * kChunk / 4 + 100);
  std::string halves_ = std::string("\x00\x3c\x00\xc0", 4);  // 1, -2
  std::string number_ = std::string(8, '\7');
};

TEST_F(CastTest, ChangesTensorsOfFloatsAndNothingElse) {
  const Checkpoint cast = open().cast({.to = Dtype::bf16}).value();
  EXPECT_EQ(names_of(cast), names_of(open()));
  const TensorInfo& weight = *cast.find("w");
  EXPECT_EQ(weight.dtype, Dtype::bf16);
  EXPECT_EQ(weight.nbytes, values_.size() / 2);
  EXPECT_EQ(weight.shape[0], values_.size() / 4);
  EXPECT_EQ(weight.stored, Stored::computed);
  EXPECT_TRUE(weight.digests.empty());
  EXPECT_EQ(bytes_of(cast, "w"), slow_cast(Dtype::f32, Dtype::bf16, values_));
  EXPECT_EQ(bytes_of(cast, "h"), std::string("\x80\x3f\x00\xc0", 4));
  EXPECT_EQ(cast.find("n")->dtype, Dtype::i64);
  EXPECT_EQ(cast.find("n")->stored, Stored::plain);
  EXPECT_EQ(bytes_of(cast, "n"), number_);
}

TEST_F(CastTest, KeepsStructureAndAliases) {
  const Checkpoint cast = open().cast({.to = Dtype::f16}).value();
  EXPECT_EQ(cast.find("tied"), cast.find("w"));
  ASSERT_TRUE(cast.has_tree());
  const Value root = cast.tree().value();
  EXPECT_EQ(root.at("epoch").value().as_int(), 3);
  EXPECT_EQ(root.at("tied").value().id(), root.at("w").value().id());
  ASSERT_EQ(cast.metadata().size(), 1U);  // the others may no longer be true
  EXPECT_EQ(cast.metadata()[0].first, "format");
}

TEST_F(CastTest, ReadsAnyRangeOfBytes) {
  for (const Dtype to : {Dtype::bf16, Dtype::f64, Dtype::f8_e4m3}) {
    const Checkpoint cast = open().cast({.to = to}).value();
    const TensorInfo& weight = *cast.find("w");
    const std::string all = slow_cast(Dtype::f32, to, values_);
    const std::size_t middle = all.size() / 2;
    for (const auto& [begin, end] : std::vector<std::pair<std::size_t, std::size_t>>{
             {0, 1}, {1, 2}, {3, 12}, {middle - 3, middle + 9}, {7, 7}, {middle - 1, all.size()}}) {
      std::string out(end - begin, '?');
      EXPECT_OK(cast.read(weight, begin, std::as_writable_bytes(std::span(out))));
      EXPECT_EQ(out, all.substr(begin, end - begin)) << begin;
    }
    std::string out(2, '?');
    expect_error(cast.read(weight, all.size() - 1, std::as_writable_bytes(std::span(out))),
                 ErrorCode::buffer_too_small, "2 bytes");
  }
}

TEST_F(CastTest, HasNoView) {
  const Checkpoint cast = open().cast({.to = Dtype::bf16}).value();
  expect_error(cast.view(*cast.find("w")), ErrorCode::not_viewable, "computed when it is read");
  expect_error(cast.prefetch(*cast.find("w"), 0, 1), ErrorCode::not_viewable, "'w'");
  EXPECT_OK(cast.view(*cast.find("n")));
}

TEST_F(CastTest, ChecksTheDigestsOfItsSource) {
  std::string file = test::read_file(path());
  const Checkpoint intact = open();
  const TensorInfo weight = *intact.find("w");
  file[weight.where.offset + kChunk + 5] ^= 1;
  test::write_file(path(), file);
  const Checkpoint cast = open().cast({.to = Dtype::bf16}).value();
  std::string out(kChunk, '?');
  const TensorInfo& changed = *cast.find("w");
  EXPECT_OK(cast.read(changed, 0, std::as_writable_bytes(std::span(out).first(kChunk / 2))));
  expect_error(cast.read(changed, 0, std::as_writable_bytes(std::span(out))),
               ErrorCode::chunk_corrupt, "chunk 1");
  EXPECT_OK(cast.read(changed, 0, std::as_writable_bytes(std::span(out)), Verify::no));
}

TEST_F(CastTest, KeepsWhatTheGlobsNameAlsoByAnAlias) {
  const Checkpoint checkpoint = open();
  const Checkpoint kept = checkpoint.cast({.to = Dtype::bf16, .keep = {"tie?"}}).value();
  EXPECT_EQ(kept.find("w")->dtype, Dtype::f32);
  const Checkpoint some = checkpoint.cast({.to = Dtype::f64, .include = {"h*"}}).value();
  EXPECT_EQ(some.find("w")->dtype, Dtype::f32);
  EXPECT_EQ(some.find("h")->dtype, Dtype::f64);
  expect_error(checkpoint.cast({.to = Dtype::bf16, .keep = {"lm_head*"}}),
               ErrorCode::tensor_not_found, "no tensor matches keep 'lm_head*'");
}

TEST_F(CastTest, RefusesByNameWhatCannotBeCast) {
  expect_error(open().cast({.to = Dtype::i8}), ErrorCode::invalid_argument,
               "tensors cannot be cast to I8: expected one of F64, F32, F16, BF16, F8_E4M3");
  expect_error(open().cast({.to = Dtype::f8_e8m0}), ErrorCode::invalid_argument, "F8_E8M0");
  expect_error(open().cast({.to = Dtype::bf16, .include = {"n"}}), ErrorCode::invalid_argument,
               "tensor 'n': cannot be cast to BF16: found I64");
  EXPECT_OK(open().cast({.to = Dtype::bf16, .include = {"*"}}));
}

TEST_F(CastTest, IsTheSameHandleIfNothingChanges) {
  const Checkpoint cast = open().cast({.to = Dtype::f16, .include = {"h"}}).value();
  EXPECT_EQ(cast.find("h")->stored, Stored::plain);
}

TEST_F(CastTest, CombinesWithSelectionsAndCasts) {
  const Checkpoint selected =
      open().cast({.to = Dtype::f16}).value().select({.include = {"tied"}}).value();
  EXPECT_EQ(bytes_of(selected, "tied"), slow_cast(Dtype::f32, Dtype::f16, values_));
  const Checkpoint other =
      open().select({.include = {"w"}}).value().cast({.to = Dtype::f16}).value();
  EXPECT_EQ(bytes_of(other, "w"), slow_cast(Dtype::f32, Dtype::f16, values_));
  const Checkpoint twice = other.cast({.to = Dtype::f8_e5m2}).value();
  EXPECT_EQ(bytes_of(twice, "w"),
            slow_cast(Dtype::f16, Dtype::f8_e5m2, slow_cast(Dtype::f32, Dtype::f16, values_)));
}

// A tensor whose strides are 0 may be of any size.
TEST(Cast, RefusesSizesThatDoNotFit64Bits) {
  const TempDir dir;
  const std::string pickled = pickle::finish(
      pickle::tensor({.sizes = pickle::counts({1LL << 58}), .strides = pickle::counts({0})}));
  test::write_file(dir / "a.pth", test::torch_zip({.pickle = pickled}));
  const Checkpoint huge = Checkpoint::open(dir / "a.pth").value();
  EXPECT_OK(huge.cast({.to = Dtype::bf16}));
  expect_error(huge.cast({.to = Dtype::f64}), ErrorCode::size_overflow, "2^61");
}

// Torch's own files: byte-swapped, compressed, strided, of every dtype and every layout.
TEST(Cast, ReadsTensorsHoweverTheyAreStored) {
  std::size_t compared = 0;
  std::vector<bool> seen(static_cast<std::size_t>(Stored::computed) + 1);
  for (const fs::directory_entry& entry :
       fs::directory_iterator(fs::path(FLATBED_FIXTURES_DIR) / "torch2")) {
    if (entry.path().extension() != ".pth") continue;
    const Result<Checkpoint> opened = Checkpoint::open(entry.path());
    if (!opened) continue;
    for (const Dtype to : {Dtype::bf16, Dtype::f64, Dtype::f8_e4m3fnuz}) {
      const Checkpoint cast = opened->cast({.to = to}).value();
      for (const TensorInfo& tensor : opened->tensors()) {
        const TensorInfo& changed = cast.tensors()[tensor.index];
        if (changed.stored != Stored::computed) {
          EXPECT_EQ(changed.dtype, tensor.dtype);
          continue;
        }
        EXPECT_EQ(start_of(cast, changed), slow_cast(tensor.dtype, to, start_of(*opened, tensor)))
            << entry.path() << " " << tensor.name;
        seen[static_cast<std::size_t>(tensor.stored)] = true;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 100U);
  for (const Stored stored :
       {Stored::plain, Stored::strided, Stored::byteswapped, Stored::deflated})
    EXPECT_TRUE(seen[static_cast<std::size_t>(stored)]) << static_cast<int>(stored);
}

// Complex numbers in pairs and numpy arrays are floats only for the format.
TEST(Cast, LeavesWhatTheStructureGivesATypeOfItsOwn) {
  const fs::path fixtures = fs::path(FLATBED_FIXTURES_DIR) / "torch2";
  for (const std::string name : {"complex_views.pth", "numpy_values.pth", "dtypes.pth"}) {
    const Checkpoint checkpoint = Checkpoint::open(fixtures / name).value();
    const Checkpoint cast = checkpoint.cast({.to = Dtype::bf16}).value();
    const TempDir dir;
    EXPECT_OK(save(dir / "out", make_plan(cast).value(), {.sync = false}));
    const Checkpoint written = Checkpoint::open(dir / "out").value();
    EXPECT_OK(written.tree()) << name;  // it fits its tensors
  }
}

}  // namespace
}  // namespace flatbed
