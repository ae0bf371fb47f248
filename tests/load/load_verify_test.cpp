// load(): what is checked, what is not, and what an error says.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "io/digest.hpp"
#include "load/load_hooks.hpp"
#include "load/load_job.hpp"
#include "load/load_schedule.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::fill;
using test::kChunk;
using test::ModelTensor;
using test::read_file;
using test::slice_of;
using test::Target;
using test::TempDir;
using test::write_file;
using test::write_model;

constexpr std::uint64_t kBig = 5 * kChunk + 10;
constexpr std::uint64_t kBad = 2;  // the chunk of "big" that is damaged

// "small" and "big", one bit of which is not as it was sealed.
struct Damaged {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"small", Dtype::u8, {1000}}, {"big", Dtype::u8, {kBig}}};
  std::uint64_t place = 0;  // of "big" in the file
  Checkpoint checkpoint;

  explicit Damaged(bool seal = true) : checkpoint(write(seal)) {}
  Checkpoint write(bool seal) {
    fill(tensors);
    const Checkpoint whole = write_model(dir / "a.safetensors", tensors, seal);
    place = whole.find("big")->where.offset;
    std::string& bytes = tensors[1].bytes;
    const std::uint64_t at = kBad * kChunk + 77;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    std::string file = read_file(dir / "a.safetensors");
    file[place + at] = bytes[at];
    write_file(dir / "a.safetensors", file);
    return Checkpoint::open(dir / "a.safetensors").value();
  }
};

// A slice of "big" by one of several ways; the bytes are compared when it succeeds.
Result<LoadReport> load_big(const Damaged& a, std::uint64_t begin, std::uint64_t end,
                            const LoadOptions& options, Device* device = nullptr) {
  Target target(end - begin);
  LoadPlan plan;
  FLATBED_TRY(
      plan.add(a.checkpoint, "big", target.destination(device), {.slice = {0, begin, end}}));
  Result<LoadReport> report = load(plan, options);
  if (report) {
    EXPECT_TRUE(target.bytes() == slice_of(a.tensors[1], 0, begin, end));
  }
  return report;
}

TEST(LoadVerify, PassesTheChunksBesideADamagedOne) {
  const Damaged a;
  FakeDevice fake;
  for (const IoMode io : {IoMode::buffered, IoMode::direct}) {
    for (Device* device : {static_cast<Device*>(nullptr), static_cast<Device*>(&fake)}) {
      const LoadOptions options{.io = io, .staging_nbytes = 1 << 20};
      EXPECT_OK(load_big(a, 0, kBad * kChunk, options, device));
      EXPECT_OK(load_big(a, kBad * kChunk - 1, kBad * kChunk, options, device));
      EXPECT_OK(load_big(a, (kBad + 1) * kChunk, kBig, options, device));
      EXPECT_OK(load_big(a, kBig - 1, kBig, options, device));
      EXPECT_ERROR(load_big(a, 0, kBig, options, device), chunk_corrupt);
      // Bytes of the damaged chunk that are whole themselves.
      EXPECT_ERROR(load_big(a, kBad * kChunk, kBad * kChunk + 1, options, device), chunk_corrupt);
      EXPECT_ERROR(load_big(a, (kBad + 1) * kChunk - 1, kBig, options, device), chunk_corrupt);
    }
  }
  EXPECT_EQ(fake.staged_nbytes(), 0u);
}

TEST(LoadVerify, ReadsDamagedDataWithoutComplaintWhereItIsTold) {
  const Damaged a;
  FakeDevice fake;
  for (const IoMode io : {IoMode::buffered, IoMode::direct}) {
    const LoadOptions options{.verify = Verify::no, .io = io};
    EXPECT_OK(load_big(a, 0, kBig, options));
    EXPECT_OK(load_big(a, kBad * kChunk + 70, kBad * kChunk + 80, options, &fake));
    EXPECT_EQ(load_big(a, 0, kBig, options)->bytes_verified, 0u);
  }
}

TEST(LoadVerify, CannotSeeDamageToAnUnsealedFile) {
  const Damaged a(false);
  EXPECT_OK(load_big(a, 0, kBig, {}));
}

TEST(LoadVerify, SaysFileTensorChunkAndOffset) {
  const Damaged a;
  const Result<LoadReport> report = load_big(a, 0, kBig, {});
  EXPECT_ERROR(report, chunk_corrupt);
  const std::string& message = report.error().message;
  EXPECT_TRUE(message.starts_with((a.dir / "a.safetensors").native())) << message;
  EXPECT_NE(message.find(str_cat("tensor 'big': chunk 2, bytes [524288,786432) at file offset ",
                                 a.place + kBad * kChunk)),
            std::string::npos)
      << message;
}

// Neither is queued to a device, nor is its group ready.
TEST(LoadVerify, DeliversNothingOfADamagedChunk) {
  const Damaged a;
  FakeDevice device;
  Target target(1000 + kBig);
  LoadPlan plan;
  ASSERT_OK(plan.add(a.checkpoint, "small", {&device, target.data(), 1000, 0}));
  ASSERT_OK(
      plan.add(a.checkpoint, "big", {&device, target.data() + 1000, kBig, 0}, {.group = {1, 1}}));
  std::vector<std::uint32_t> ready;
  const auto note = [&](const GroupReady& group) -> Result<void> {
    ready.push_back(group.group);
    return {};
  };
  EXPECT_ERROR(load(plan, {.threads = 1, .staging_nbytes = 1 << 20, .ready = note}), chunk_corrupt);
  EXPECT_TRUE(target.bytes().substr(0, 1000) == a.tensors[0].bytes || ready.empty());
  const std::string_view arrived = target.bytes().substr(1000 + kBad * kChunk, kChunk);
  EXPECT_EQ(arrived.find_first_not_of('\x5c'), arrived.npos);
  EXPECT_TRUE(ready.empty() || ready == std::vector<std::uint32_t>{0});
}

TEST(LoadVerify, CountsWhatItChecked) {
  const Damaged a;
  const Result<LoadReport> report = load_big(a, kChunk - 1, kChunk + 1, {});
  ASSERT_OK(report);
  EXPECT_EQ(report->bytes_wanted, 2u);
  EXPECT_EQ(report->bytes_read, 2 * kChunk);
  EXPECT_EQ(report->bytes_verified, 2 * kChunk);
  EXPECT_EQ(report->chunks_verified, 2u);
  EXPECT_GT(report->seconds, 0.0);
}

// A writer that does not know flatbed has changed the data and kept the seal's keys.
TEST(LoadVerify, CallsChunksOfAnAnnotatedFileRewritten) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"big", Dtype::u8, {kBig}}};
  fill(tensors);
  const Checkpoint sealed = write_model(dir / "a", tensors);
  std::string file = read_file(dir / "a");
  const std::uint64_t place = sealed.find("big")->where.offset;
  file[place] = static_cast<char>(file[place] ^ 1);
  // Another header length than the seal was made for: blanks at its end.
  const std::uint64_t header = place - 8;
  file.insert(place, 64, ' ');
  const std::uint64_t longer = header + 64;
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(longer >> (8 * i));
  write_file(dir / "b", file);
  const Result<Checkpoint> annotated = Checkpoint::open(dir / "b");
  ASSERT_OK(annotated);
  ASSERT_EQ(annotated->seal(), SealState::annotated);
  ASSERT_FALSE(annotated->find("big")->digests.empty());
  Target target(kBig);
  LoadPlan plan;
  ASSERT_OK(plan.add(*annotated, "big", target.destination()));
  EXPECT_ERROR(load(plan), chunk_rewritten);
  LoadPlan rest;
  ASSERT_OK(rest.add(*annotated, "big", target.destination(), {.slice = {0, kChunk, kBig}}));
  EXPECT_OK(load(rest));
}

TEST(LoadVerify, ChecksAFileThatIsSealedBesideIt) {
  Damaged a(false);
  ASSERT_OK(save_sidecar(a.dir / "a.safetensors", {.sync = false}));
  a.checkpoint = Checkpoint::open(a.dir / "a.safetensors").value();
  ASSERT_TRUE(a.checkpoint.files()[0].sidecar);
  const Result<LoadReport> whole = load_big(a, 0, kBig, {});
  ASSERT_OK(whole);
  EXPECT_EQ(whole->chunks_verified, 6u);
  std::string file = read_file(a.dir / "a.safetensors");
  file[a.place] = static_cast<char>(file[a.place] ^ 1);
  write_file(a.dir / "a.safetensors", file);
  // The size is the same, so that only the bytes can tell; or the time, by which open() judges.
  Result<Checkpoint> changed = Checkpoint::open(a.dir / "a.safetensors");
  if (!changed) GTEST_SKIP() << "open() saw it: " << changed.error().message;
  a.checkpoint = *changed;
  EXPECT_ERROR(load_big(a, 0, kBig, {}), chunk_corrupt);
}

// What has been read and not been hashed is still in the processor's cache.
TEST(LoadVerify, HashesEachPieceBeforeTheNextIsRead) {
  const TempDir dir;
  std::vector<ModelTensor> tensors{{"small", Dtype::u8, {1000}}, {"big", Dtype::u8, {kBig}}};
  fill(tensors);
  const Checkpoint checkpoint = write_model(dir / "a.safetensors", tensors);
  const std::string file = read_file(dir / "a.safetensors");
  FakeDevice device;
  struct Way {
    Device* device = nullptr;
    bool bounce = false;
  };
  for (const Way& way : {Way{}, Way{nullptr, true}, Way{&device}}) {
    std::uint64_t waiting = 0;  // bytes that were read and not hashed
    std::uint64_t most = 0;
    LoadHooks hooks;
    hooks.now_ns = [] { return std::uint64_t{0}; };
    hooks.bounce = way.bounce;
    hooks.read = [&](std::uint32_t, std::uint64_t offset, std::span<std::byte> out) {
      std::memcpy(out.data(), file.data() + offset, out.size());
      most = std::max(most, waiting += out.size());
      return Result<void>();
    };
    hooks.hash = [&](std::span<const std::byte> bytes) {
      waiting -= std::min<std::uint64_t>(waiting, bytes.size());
      return xxh3(bytes);
    };
    Target target(kBig);
    LoadPlan plan;
    ASSERT_OK(plan.add(checkpoint, "big", target.destination(way.device)));
    ASSERT_OK(load_with_hooks(plan, {.io = IoMode::buffered, .threads = 1}, hooks));
    EXPECT_EQ(target.bytes(), tensors[1].bytes);
    EXPECT_EQ(most, way.bounce ? kBounceNbytes : kPieceNbytes);
  }
}

}  // namespace
}  // namespace flatbed
