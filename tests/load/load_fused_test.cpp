// Loads of joined and split tensors: whole, in slices, by rank, cast, from several files and to
// devices, against what cutting and joining by hand gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/key_map.hpp"
#include "flatbed/load.hpp"
#include "flatbed/load_all.hpp"
#include "load/load_plan.hpp"
#include "support/expect_message.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/slow_cast.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::expect_error;
using test::FakeDevice;
using test::kChunk;
using test::ModelTensor;
using test::slow_cast;
using test::Target;
using test::TempDir;

constexpr std::uint64_t kHidden = 96;
constexpr std::uint64_t kHeadRows = 10;
constexpr std::uint64_t kHeads = 8;
constexpr std::uint64_t kSharedHeads = 2;  // of k and v: grouped-query attention

// Rows [rank / count, (rank + 1) / count) of a tensor.
std::string part_of(const ModelTensor& tensor, std::uint64_t rank, std::uint64_t count,
                    std::size_t dim = 0) {
  const std::uint64_t each = tensor.shape[dim] / count;
  return test::slice_of(tensor, dim, rank * each, (rank + 1) * each);
}

std::string rows_joined(std::string_view a, std::string_view b, std::size_t rows) {
  std::string out;
  for (std::size_t row = 0; row < rows; ++row) {
    out += a.substr(row * (a.size() / rows), a.size() / rows);
    out += b.substr(row * (b.size() / rows), b.size() / rows);
  }
  return out;
}

// q, k and v of one layer, and gate and up, which are joined along dimension 1.
class LoadFused : public testing::Test {
 protected:
  LoadFused() {
    std::vector<ModelTensor> tensors{{"q", Dtype::f32, {kHeads * kHeadRows, kHidden}},
                                     {"k", Dtype::f32, {kSharedHeads * kHeadRows, kHidden}},
                                     {"v", Dtype::f32, {kSharedHeads * kHeadRows, kHidden}},
                                     {"gate", Dtype::bf16, {700, 512}},
                                     {"up", Dtype::bf16, {700, 512}}};
    test::fill(tensors);
    q_ = tensors[0], k_ = tensors[1], v_ = tensors[2], gate_ = tensors[3], up_ = tensors[4];
    model_ = test::write_model(dir_ / "a.safetensors", tensors);
    view_ = fused(*model_);
  }

  static Checkpoint fused(const Checkpoint& model) {
    KeyMap map;
    EXPECT_OK(map.cat("qkv", {"q", "k", "v"}));
    EXPECT_OK(map.cat("gate_up", {"gate", "up"}, 1));
    return model.rename(map).value();
  }

  [[nodiscard]] std::string qkv(std::uint64_t rank, std::uint64_t count) const {
    return part_of(q_, rank, count) + part_of(k_, rank, count) + part_of(v_, rank, count);
  }

  static void expect_loads(const Checkpoint& checkpoint, std::string_view name,
                           const LoadItem& item, const std::string& expected,
                           Device* device = nullptr) {
    Target target(expected.size());
    LoadPlan plan;
    ASSERT_OK(plan.add(checkpoint, name, target.destination(device), item));
    ASSERT_OK(load(plan));
    EXPECT_TRUE(target.bytes() == expected) << name;
    EXPECT_TRUE(target.border_is_whole()) << name;
  }

  // Loads a slice of a tensor of bytes to memory and to a device, to rows that lie together and to
  // others.
  static void expect_rows(const Checkpoint& checkpoint, const ModelTensor& tensor,
                          const Slice& slice) {
    const std::string expected = test::slice_of(tensor, slice.dim, slice.begin, slice.end);
    const std::uint64_t row = slice.dim == 2 ? slice.end - slice.begin : tensor.shape[2];
    const std::uint64_t rows = expected.size() / row;
    FakeDevice device;
    for (Device* const to : {static_cast<Device*>(nullptr), static_cast<Device*>(&device)}) {
      for (const std::uint64_t pitch : {row, row + 3}) {
        Target target((rows - 1) * pitch + row);
        Destination destination = target.destination(to);
        destination.row_pitch = pitch;
        LoadPlan plan;
        ASSERT_OK(plan.add(checkpoint, tensor.name, destination, {.slice = slice}));
        ASSERT_OK(load(plan));
        std::string found;
        for (std::uint64_t i = 0; i < rows; ++i) found += target.bytes().substr(i * pitch, row);
        EXPECT_TRUE(found == expected) << slice.dim << ' ' << slice.begin << ' ' << slice.end;
        EXPECT_TRUE(target.border_is_whole());
      }
    }
  }

  TempDir dir_;
  ModelTensor q_, k_, v_, gate_, up_;
  std::optional<Checkpoint> model_, view_;
};

TEST_F(LoadFused, LoadsJoinedTensorsWhole) {
  expect_loads(*view_, "qkv", {}, q_.bytes + k_.bytes + v_.bytes);
  expect_loads(*view_, "gate_up", {}, rows_joined(gate_.bytes, up_.bytes, 700));
}

// The trap: the joined tensor, cut by rank, would mix heads of q with those of k.
TEST_F(LoadFused, ARankGetsItsPartOfEachTensor) {
  const TensorInfo tensor = view_->tensor("qkv").value();
  for (const std::uint64_t count : {1U, 2U, 4U}) {
    for (std::uint64_t rank = 0; rank < count; ++rank) {
      const Slice slice = shard_slice(tensor, 0, rank, count).value();
      EXPECT_EQ(slice.end - slice.begin, 120 / count);
      EXPECT_EQ(slice_nbytes(tensor, slice).value(), qkv(rank, count).size());
      expect_loads(*view_, "qkv", {.slice = slice}, qkv(rank, count));
    }
  }
}

TEST_F(LoadFused, ARankGetsItsPartAlongAnInnerDimension) {
  const TensorInfo tensor = view_->tensor("gate_up").value();
  FakeDevice device;
  for (std::uint64_t rank = 0; rank < 4; ++rank) {
    const Slice slice = shard_slice(tensor, 1, rank, 4).value();
    const std::string expected =
        rows_joined(part_of(gate_, rank, 4, 1), part_of(up_, rank, 4, 1), 700);
    expect_loads(*view_, "gate_up", {.slice = slice}, expected);
    expect_loads(*view_, "gate_up", {.slice = slice}, expected, &device);
  }
}

TEST_F(LoadFused, OtherDimensionsAreCutAsUsual) {
  const std::string whole = q_.bytes + k_.bytes + v_.bytes;
  const ModelTensor joined{"qkv", Dtype::f32, {120, kHidden}, whole};
  const Slice slice = shard_slice(*view_->find("qkv"), 1, 2, 5).value();
  expect_loads(*view_, "qkv", {.slice = slice}, test::slice_of(joined, 1, slice.begin, slice.end));
}

TEST_F(LoadFused, ASliceOfElementsStaysWhatItSays) {
  const std::string whole = q_.bytes + k_.bytes + v_.bytes;
  const ModelTensor joined{"qkv", Dtype::f32, {120, kHidden}, whole};
  expect_loads(*view_, "qkv", {.slice = {.dim = 0, .begin = 75, .end = 95}},
               test::slice_of(joined, 0, 75, 95));
}

TEST_F(LoadFused, RefusesASliceThatWasChanged) {
  const TensorInfo tensor = view_->tensor("qkv").value();
  Slice slice = shard_slice(tensor, 0, 1, 2).value();
  ++slice.begin;
  expect_error(slice_nbytes(tensor, slice), ErrorCode::slice_invalid,
               "tensor 'qkv' [120,96]: part 1 of 2 of a joined tensor has elements of its own: "
               "found [61,120), expected [60,120)");
  Target target(tensor.nbytes);
  LoadPlan plan;
  EXPECT_ERROR(plan.add(*view_, "qkv", target.destination(), {.slice = slice}), slice_invalid);
  // Of a tensor that is not joined only the elements count.
  EXPECT_OK(
      slice_nbytes(*model_->find("q"), {.dim = 0, .begin = 3, .end = 9, .rank = 1, .count = 2}));
}

TEST_F(LoadFused, RefusesPartsThatDoNotDivide) {
  expect_error(shard_slice(*view_->find("qkv"), 0, 0, 3), ErrorCode::slice_invalid,
               "tensor 'qkv' [120,96]: elements [0,80) of dimension 0 are one of the tensors that "
               "it is joined of, and do not divide into 3 equal parts");
  expect_error(shard_slice(*view_->find("qkv"), 0, 0, 8), ErrorCode::slice_invalid,
               "elements [80,100) of dimension 0");
  EXPECT_OK(shard_slice(*model_->find("q"), 0, 0, 3));
}

// One tensor that does not divide is nothing to the others.
TEST_F(LoadFused, CutsWhatDividesBesideWhatDoesNot) {
  std::vector<ModelTensor> tensors{
      {"a", Dtype::u8, {4}}, {"b", Dtype::u8, {2}}, {"c", Dtype::u8, {3}}, {"d", Dtype::u8, {5}}};
  test::fill(tensors);
  KeyMap map;
  ASSERT_OK(map.cat("ab", {"a", "b"}));
  ASSERT_OK(map.cat("cd", {"c", "d"}));
  const Checkpoint view = test::write_model(dir_ / "b.safetensors", tensors).rename(map).value();
  const Slice slice = shard_slice(*view.find("ab"), 0, 1, 2).value();
  expect_loads(view, "ab", {.slice = slice}, part_of(tensors[0], 1, 2) + part_of(tensors[1], 1, 2));
  EXPECT_ERROR(shard_slice(*view.find("cd"), 0, 1, 2), slice_invalid);
}

TEST_F(LoadFused, RefusesPartsThatDoNotFillBytes) {
  std::vector<ModelTensor> tensors{{"a", Dtype::f4, {2, 4}},
                                   {"b", Dtype::f4, {2, 2}},
                                   {"c", Dtype::u8, {2, 2}},
                                   {"d", Dtype::u8, {2, 2}}};
  test::fill(tensors);
  KeyMap map;
  ASSERT_OK(map.cat("ab", {"a", "b"}, 1));
  ASSERT_OK(map.cat("cd", {"c", "d"}, 1));
  const Checkpoint view = test::write_model(dir_ / "b.safetensors", tensors).rename(map).value();
  const Slice slice = shard_slice(*view.find("ab"), 1, 1, 2).value();
  Target target(100);
  LoadPlan plan;
  expect_error(plan.add(view, "ab", target.destination(), {.slice = slice}),
               ErrorCode::slice_invalid,
               "tensor 'ab' [2,6]: part 1 of 2 of the tensors that it is joined of along dimension "
               "1 does not fill whole bytes of F4");
  const Slice other = shard_slice(*view.find("cd"), 1, 1, 2).value();
  expect_loads(view, "cd", {.slice = other},
               rows_joined(part_of(tensors[2], 1, 2, 1), part_of(tensors[3], 1, 2, 1), 2));
}

// A tensor that the file has joined is cut by parts, too, once rules say what they are.
TEST_F(LoadFused, CutsAFusedTensorOfAFileByItsParts) {
  std::vector<ModelTensor> tensors{{"qkv", Dtype::f32, {120, kHidden}}};
  test::fill(tensors);
  const KeyMap map =
      KeyMap::parse("q, k, v = split(qkv, 80, 20, 20)\nqkv = cat(q, k, v)", "r").value();
  const Checkpoint view = test::write_model(dir_ / "b.safetensors", tensors).rename(map).value();
  const Slice slice = shard_slice(*view.find("qkv"), 0, 1, 2).value();
  expect_loads(view, "qkv", {}, tensors[0].bytes);
  expect_loads(view, "qkv", {.slice = slice},
               test::slice_of(tensors[0], 0, 40, 80) + test::slice_of(tensors[0], 0, 90, 100) +
                   test::slice_of(tensors[0], 0, 110, 120));
}

TEST_F(LoadFused, CastsWhatIsJoinedAndJoinsWhatIsCast) {
  const Slice slice = shard_slice(*view_->find("qkv"), 0, 1, 2).value();
  const std::string expected = slow_cast(Dtype::f32, Dtype::bf16, qkv(1, 2));
  expect_loads(*view_, "qkv", {.slice = slice, .as = Dtype::bf16}, expected);
  const Checkpoint cast = view_->cast({.to = Dtype::bf16}).value();
  EXPECT_TRUE(std::ranges::equal(cast.find("qkv")->joined_along(0),
                                 std::vector<std::uint64_t>{80, 20, 20}));
  expect_loads(cast, "qkv", {.slice = slice}, expected);
  const Checkpoint joined = fused(model_->cast({.to = Dtype::bf16}).value());
  EXPECT_TRUE(joined.find("qkv")->cast);
  EXPECT_FALSE(joined.find("gate_up")->cast);
  expect_loads(joined, "qkv", {.slice = slice}, expected);
  const std::string wide =
      slow_cast(Dtype::bf16, Dtype::f64, rows_joined(gate_.bytes, up_.bytes, 700).substr(0, 4096));
  std::string out(wide.size(), '?');
  const Checkpoint f64 = view_->cast({.to = Dtype::f64}).value();
  ASSERT_OK(f64.read(*f64.find("gate_up"), 0, std::as_writable_bytes(std::span(out))));
  EXPECT_EQ(out, wide);
}

TEST_F(LoadFused, CountsOnlyCastsAsCasts) {
  Target target(q_.bytes.size() * 2);
  LoadPlan plan;
  ASSERT_OK(plan.add(*view_, "qkv", target.destination()));
  const LoadReport report = load(plan).value();
  EXPECT_EQ(report.casts.tensors, 0U);
  EXPECT_EQ(report.bytes_read, view_->find("qkv")->nbytes);
  EXPECT_EQ(report.bytes_verified, view_->find("qkv")->nbytes);
}

TEST_F(LoadFused, LaysOutARanksPartOfAWholeModel) {
  const std::unique_ptr<Device> host = host_device();
  LoadAllOptions options;
  options.slice = [](const TensorInfo& tensor) {
    return shard_slice(tensor, tensor.name == "gate_up" ? 1 : 0, 1, 4);
  };
  const LoadedTensors loaded = load_all(*view_, *host, options).value();
  const LoadedTensor& tensor = *loaded.find("qkv");
  EXPECT_TRUE(std::ranges::equal(tensor.shape, std::vector<std::uint64_t>{30, kHidden}));
  EXPECT_TRUE(as_text({tensor.data, tensor.nbytes}) == qkv(1, 4));
  const LoadedTensor& gate_up = *loaded.find("gate_up");
  EXPECT_TRUE(as_text({gate_up.data, gate_up.nbytes}) ==
              rows_joined(part_of(gate_, 1, 4, 1), part_of(up_, 1, 4, 1), 700));
}

TEST_F(LoadFused, FillsRowsWithAPitch) {
  const Slice slice = shard_slice(*view_->find("qkv"), 0, 0, 2).value();
  const std::uint64_t row = kHidden * 4;
  const std::uint64_t pitch = row + 64;
  Target target(59 * pitch + row);
  Destination to = target.destination();
  to.row_pitch = pitch;
  LoadPlan plan;
  ASSERT_OK(plan.add(*view_, "qkv", to, {.slice = slice}));
  ASSERT_OK(load(plan));
  std::string found;
  for (std::uint64_t i = 0; i < 60; ++i) found += target.bytes().substr(i * pitch, row);
  EXPECT_TRUE(found == qkv(0, 2));
}

// So it is read by several threads, straight to its places, and past the page cache.
TEST_F(LoadFused, ATensorIsLoadedAsWhatItIsJoinedOf) {
  LoadPlan plan;
  std::vector<Target> targets;
  targets.reserve(3);
  for (const std::string_view name : {"qkv", "gate_up"}) {
    targets.emplace_back(view_->find(name)->nbytes);
    ASSERT_OK(plan.add(*view_, name, targets.back().destination()));
  }
  const Slice slice = shard_slice(*view_->find("qkv"), 0, 1, 2).value();
  targets.emplace_back(qkv(1, 2).size());
  ASSERT_OK(plan.add(*view_, "qkv", targets.back().destination(), {.slice = slice}));
  EXPECT_EQ(plan.size(), 3U);
  std::vector<std::string_view> names;
  const LoadPlanState& state = LoadPlanAccess::state(plan);
  for (const Transfer& transfer : state.transfers) {
    EXPECT_EQ(transfer.tensor->stored, Stored::plain);
    names.push_back(transfer.tensor->name);
  }
  EXPECT_EQ(names, (std::vector<std::string_view>{"q", "k", "v", "gate", "up", "q", "k", "v"}));
  ASSERT_OK(load(plan));
  EXPECT_TRUE(targets[0].bytes() == q_.bytes + k_.bytes + v_.bytes);
  EXPECT_TRUE(targets[1].bytes() == rows_joined(gate_.bytes, up_.bytes, 700));
  EXPECT_TRUE(targets[2].bytes() == qkv(1, 2));
}

TEST_F(LoadFused, MessagesNameTheTensorThatWasAsked) {
  const std::uint64_t nbytes = view_->tensor("qkv").value().nbytes;
  Target target(nbytes);
  for (const auto& [part, begin] : {std::pair{"q", std::size_t{0}},
                                    {"k", q_.bytes.size()},
                                    {"v", q_.bytes.size() + k_.bytes.size()}}) {
    LoadPlan plan;
    ASSERT_OK(plan.add(*view_, "qkv", target.destination()));
    ASSERT_OK(plan.add(*model_, "v", {nullptr, target.data() + begin, v_.bytes.size()}));
    const Result<LoadPlanReport> checked = plan.check();
    ASSERT_FALSE(checked);
    EXPECT_EQ(checked.error().code, ErrorCode::destination_overlap);
    const std::string named = str_cat("that of tensor 'qkv' (its part '", part, "')");
    EXPECT_NE(checked.error().message.find(named), std::string::npos) << checked.error().message;
  }
}

// Joined along each dimension, cut along each, to rows with and without a pitch.
TEST_F(LoadFused, EverySliceArrivesAsReadGivesIt) {
  for (const std::size_t joined : {0U, 1U, 2U}) {
    std::vector<ModelTensor> tensors{{"a", Dtype::u8, {4, 6, 8}}, {"b", Dtype::u8, {4, 6, 8}}};
    tensors[0].shape[joined] = 2;
    tensors[1].shape[joined] = 5;
    test::fill(tensors);
    const Checkpoint model = test::write_model(dir_ / "c.safetensors", tensors);
    KeyMap map;
    ASSERT_OK(map.cat("ab", {"a", "b"}, static_cast<std::int64_t>(joined)));
    const Checkpoint view = model.rename(map).value();
    ModelTensor ab{"ab", Dtype::u8, {4, 6, 8}};
    ab.shape[joined] = 7;
    ab.bytes.resize(view.find("ab")->nbytes);
    ASSERT_OK(view.read(*view.find("ab"), 0, std::as_writable_bytes(std::span(ab.bytes))));
    for (const std::size_t dim : {0U, 1U, 2U}) {
      for (std::uint64_t begin = 0; begin < ab.shape[dim]; ++begin) {
        for (std::uint64_t end = begin + 1; end <= ab.shape[dim]; end += 2)
          expect_rows(view, ab, {.dim = dim, .begin = begin, .end = end});
      }
    }
  }
}

TEST_F(LoadFused, LoadsPiecesOfASplitTensor) {
  KeyMap map;
  ASSERT_OK(map.split({"g1", "g2"}, "gate", {100, 412}, 1));
  const Checkpoint view = model_->rename(map).value();
  expect_loads(view, "g2", {}, test::slice_of(gate_, 1, 100, 512));
  const Slice slice = shard_slice(*view.find("g2"), 0, 2, 7).value();
  const ModelTensor g2{"g2", Dtype::bf16, {700, 412}, test::slice_of(gate_, 1, 100, 512)};
  expect_loads(view, "g2", {.slice = slice}, test::slice_of(g2, 0, 200, 300));
}

TEST_F(LoadFused, ChecksTheDigestsOfWhatIsJoined) {
  std::string file = test::read_file(dir_ / "a.safetensors");
  file[model_->find("up")->where.offset + kChunk] ^= 1;
  test::write_file(dir_ / "a.safetensors", file);
  const Checkpoint damaged = fused(Checkpoint::open(dir_ / "a.safetensors").value());
  Target target(gate_.bytes.size() * 2);
  LoadPlan plan;
  ASSERT_OK(plan.add(damaged, "gate_up", target.destination()));
  expect_error(load(plan), ErrorCode::chunk_corrupt, "tensor 'up': chunk 1");
  EXPECT_OK(load(plan, {.verify = Verify::no}));
}

// Parts in several files, of which one is damaged: the error names that one.
TEST_F(LoadFused, JoinsAcrossShards) {
  std::filesystem::create_directory(dir_ / "set");
  static_cast<void>(test::write_model(dir_ / "set/1.safetensors", {q_, gate_}));
  static_cast<void>(test::write_model(dir_ / "set/2.safetensors", {v_}, false));
  static_cast<void>(test::write_model(dir_ / "set/3.safetensors", {k_, up_}));
  test::write_file(dir_ / "set/model.safetensors.index.json", R"({"weight_map": {
      "q": "1.safetensors", "k": "3.safetensors", "v": "2.safetensors", "gate": "1.safetensors",
      "up": "3.safetensors"}})");
  const Checkpoint set = Checkpoint::open(dir_ / "set").value();
  const Checkpoint view = fused(set);
  const Slice slice = shard_slice(*view.find("qkv"), 0, 3, 4).value();
  expect_loads(view, "qkv", {.slice = slice}, qkv(3, 4));
  Target target(q_.bytes.size() * 2);
  LoadPlan plan;
  ASSERT_OK(plan.add(view, "qkv", target.destination()));
  EXPECT_EQ(plan.check().value().files.size(), 3U);
  const LoadReport report = load(plan).value();
  EXPECT_EQ(report.files_buffered, 3U);

  std::string file = test::read_file(dir_ / "set/3.safetensors");
  file[set.find("k")->where.offset] ^= 1;
  test::write_file(dir_ / "set/3.safetensors", file);
  LoadPlan again;
  const Checkpoint damaged = fused(Checkpoint::open(dir_ / "set").value());
  ASSERT_OK(again.add(damaged, "qkv", target.destination()));
  const Result<LoadReport> failed = load(again);
  expect_error(failed, ErrorCode::chunk_corrupt, "set/3.safetensors: tensor 'k': chunk 0");
}

TEST_F(LoadFused, ReadsEachChunkOnce) {
  for (const std::string_view name : {"qkv", "gate_up"}) {
    const TensorInfo& tensor = *view_->find(name);
    Target target(tensor.nbytes);
    LoadPlan plan;
    ASSERT_OK(plan.add(*view_, name, target.destination()));
    const LoadReport report = load(plan, {.threads = 1}).value();
    EXPECT_EQ(report.bytes_read, tensor.nbytes) << name;
  }
}

}  // namespace
}  // namespace flatbed
