// load() from files that fail, change, and go away while they are read.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/str_cat.hpp"
#include "flatbed/load.hpp"
#include "support/expect_error.hpp"
#include "support/fake_device.hpp"
#include "support/fault_io.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FakeDevice;
using test::FaultIo;
using test::fill;
using test::IoCall;
using test::kEveryCall;
using test::ModelTensor;
using test::nth;
using test::read_file;
using test::Target;
using test::TempDir;
using test::write_file;
using test::write_model;

// "host" into memory, "device" onto a device, and how they are read.
struct Example {
  TempDir dir;
  std::vector<ModelTensor> tensors{{"host", Dtype::u8, {1'500'000}},
                                   {"device", Dtype::u8, {1'500'001}}};
  Checkpoint checkpoint;
  std::vector<Target> targets;
  FakeDevice device;
  LoadPlan plan;
  IoMode io = IoMode::buffered;

  explicit Example(bool seal = true) : checkpoint(write(seal)) {
    targets.emplace_back(1'500'000);
    targets.emplace_back(1'500'001);
    EXPECT_OK(plan.add(checkpoint, "host", targets[0].destination()));
    EXPECT_OK(plan.add(checkpoint, "device", targets[1].destination(&device), {.group = {1, 1}}));
  }
  [[nodiscard]] std::filesystem::path path() const { return dir / "a.safetensors"; }
  Checkpoint write(bool seal) {
    fill(tensors);
    return write_model(path(), tensors, seal);
  }
  Result<LoadReport> run() {
    for (Target& target : targets) std::fill_n(target.data(), 1'500'000, std::byte{0});
    Result<LoadReport> result =
        load(plan, {.io = io, .threads = 1, .staging_nbytes = 1 << 20, .slot_nbytes = 512 << 10});
    EXPECT_EQ(device.pending(), 0u);
    EXPECT_EQ(device.staged_nbytes(), 0u);
    return result;
  }
  [[nodiscard]] bool arrived() {
    return targets[0].bytes() == tensors[0].bytes && targets[1].bytes() == tensors[1].bytes;
  }
};

class LoadIoFaults : public testing::TestWithParam<IoMode> {};
INSTANTIATE_TEST_SUITE_P(Ways, LoadIoFaults, testing::Values(IoMode::buffered, IoMode::direct),
                         [](const auto& way) {
                           return way.param == IoMode::direct ? "Direct" : "Buffered";
                         });

// Each read in turn meets what `fault` asks for; returns how many reads a load has.
std::uint64_t sweep(Example& a, const std::function<void(FaultIo&, std::uint64_t)>& fault,
                    const std::function<void(const Result<LoadReport>&)>& expect) {
  for (std::uint64_t n = 1; n < 1000; ++n) {
    SCOPED_TRACE(str_cat("read ", n));
    FaultIo faults("a.safetensors");
    fault(faults, n);
    const Result<LoadReport> result = a.run();
    if (faults.count(IoCall::read) < n) {
      EXPECT_OK(result);
      EXPECT_TRUE(a.arrived());
      return n - 1;
    }
    expect(result);
  }
  return 0;
}

TEST_P(LoadIoFaults, EachReadThatFailsEndsTheLoad) {
  Example a;
  a.io = GetParam();
  const auto reads = sweep(
      a, [](FaultIo& faults, std::uint64_t n) { faults.fail(IoCall::read, nth(n), EIO); },
      [&](const Result<LoadReport>& result) {
        EXPECT_ERROR(result, io_error);
        EXPECT_NE(result.error().message.find("tensor '"), std::string::npos);
        EXPECT_NE(result.error().message.find("a.safetensors"), std::string::npos);
      });
  EXPECT_GE(reads, 4u);
}

TEST_P(LoadIoFaults, InterruptedReadsAreRepeatedAndOthersAreNot) {
  Example a;
  a.io = GetParam();
  sweep(
      a, [](FaultIo& faults, std::uint64_t n) { faults.fail(IoCall::read, nth(n), EINTR); },
      [&](const Result<LoadReport>& result) {
        EXPECT_OK(result);
        EXPECT_TRUE(a.arrived());
      });
  sweep(
      a, [](FaultIo& faults, std::uint64_t n) { faults.fail(IoCall::read, nth(n), EAGAIN); },
      [&](const Result<LoadReport>& result) { EXPECT_ERROR(result, resource_exhausted); });
}

TEST_P(LoadIoFaults, ShortReadsAreContinued) {
  Example a;
  a.io = GetParam();
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    FaultIo faults("a.safetensors");
    faults.shorten({.seed = seed, .multiple = seed % 2 == 0 ? std::size_t{1} : 4096});
    EXPECT_OK(a.run());
    EXPECT_TRUE(a.arrived()) << seed;
  }
}

TEST_P(LoadIoFaults, ReadsWithoutDataAreFound) {
  Example a;
  a.io = GetParam();
  sweep(
      a, [](FaultIo& faults, std::uint64_t n) { faults.pretend(nth(n)); },
      [&](const Result<LoadReport>& result) { EXPECT_ERROR(result, chunk_corrupt); });
}

TEST_P(LoadIoFaults, FlippedBitsAreFoundWhereThereIsASeal) {
  Example a;
  a.io = GetParam();
  const auto flip = [](FaultIo& faults, std::uint64_t n) { faults.flip_bit(nth(n), 800'003); };
  sweep(a, flip, [&](const Result<LoadReport>& result) {
    // A direct read may reach beyond the bytes that are wanted.
    if (result) {
      EXPECT_TRUE(a.arrived());
      return;
    }
    EXPECT_ERROR(result, chunk_corrupt);
    EXPECT_NE(result.error().message.find(": chunk "), std::string::npos);
  });
  Example plain(false);
  plain.io = GetParam();
  FaultIo faults("a.safetensors");
  faults.flip_bit(nth(1), 800'003);
  EXPECT_OK(plain.run());
  EXPECT_FALSE(plain.arrived());
}

TEST_P(LoadIoFaults, FilesThatEndEarlyHaveChanged) {
  Example a;
  a.io = GetParam();
  EXPECT_GE(sweep(
                a,
                [](FaultIo& faults, std::uint64_t n) {
                  faults.end_early({n, 1000});
                },
                [&](const Result<LoadReport>& result) { EXPECT_ERROR(result, file_changed); }),
            4u);
}

TEST_P(LoadIoFaults, FilesThatAreCutHaveChanged) {
  for (const std::uint64_t n : {0U, 1U, 2U, 4U}) {
    Example a;
    a.io = GetParam();
    const auto cut = [&] { EXPECT_EQ(::truncate(a.path().c_str(), 5000), 0); };
    FaultIo faults("a.safetensors");
    n == 0 ? cut() : faults.before(IoCall::read, nth(n), cut);
    EXPECT_ERROR(a.run(), file_changed) << n;
  }
}

TEST_P(LoadIoFaults, FilesThatAreWrittenToHaveChanged) {
  for (const bool seal : {true, false}) {
    Example a(seal);
    a.io = GetParam();
    FaultIo faults("a.safetensors");
    faults.before(IoCall::read, nth(2), [&] {
      const std::string all = read_file(a.path());
      write_file(a.path(), std::string(all.size(), 'x'));
    });
    const Result<LoadReport> result = a.run();
    ASSERT_FALSE(result.has_value());
    EXPECT_TRUE(result.error().code == ErrorCode::file_changed ||
                (seal && result.error().code == ErrorCode::chunk_corrupt))
        << result.error().message;
  }
}

// Whenever another program writes into the file, and even if it hides that by setting the time
// back: what is called verified is the old bytes.
TEST_P(LoadIoFaults, AMixOfOldAndNewBytesIsNeverCalledVerified) {
  std::uint64_t reads = 1000;
  for (std::uint64_t n = 1; n <= reads; ++n) {
    SCOPED_TRACE(str_cat("read ", n));
    Example a;
    a.io = GetParam();
    FaultIo faults("a.safetensors");
    faults.before(IoCall::read, nth(n), [&] {
      struct stat status = {};
      ASSERT_EQ(::stat(a.path().c_str(), &status), 0);
      std::string all = read_file(a.path());
      for (std::size_t i = 100'000; i < all.size(); i += 1000)
        all[i] = static_cast<char>(all[i] ^ 1);
      write_file(a.path(), all);
      const timespec times[] = {status.st_atim, status.st_mtim};
      ASSERT_EQ(::utimensat(AT_FDCWD, a.path().c_str(), times, 0), 0);
    });
    const Result<LoadReport> result = a.run();
    reads = std::min(reads, faults.count(IoCall::read));
    if (result) {
      EXPECT_TRUE(a.arrived());
      EXPECT_EQ(result->bytes_verified, 3'000'001u);
    } else {
      EXPECT_TRUE(result.error().code == ErrorCode::chunk_corrupt ||
                  result.error().code == ErrorCode::file_changed)
          << result.error().message;
    }
  }
  EXPECT_GE(reads, 1u);
}

TEST_P(LoadIoFaults, FilesThatAreReplacedOrRemovedAreReadAsTheyWere) {
  for (const bool replace : {true, false}) {
    Example a;
    a.io = GetParam();
    FaultIo faults;
    faults.before(IoCall::read, nth(2), [&] {
      write_file(a.dir / "b", "other");
      replace ? std::filesystem::rename(a.dir / "b", a.path())
              : static_cast<void>(std::filesystem::remove(a.path()));
    });
    EXPECT_OK(a.run());
    EXPECT_TRUE(a.arrived());
    EXPECT_OK(a.run());  // and again, of a file that has no name
    EXPECT_TRUE(a.arrived());
  }
}

TEST(LoadDirectFaults, RefusedReadsComeThroughThePageCache) {
  for (const IoCall call : {IoCall::open, IoCall::read}) {
    Example a;
    a.io = IoMode::direct;
    FaultIo faults("a.safetensors");
    faults.refuse_direct(call);
    const Result<LoadReport> report = a.run();
    ASSERT_OK(report);
    EXPECT_TRUE(a.arrived());
    EXPECT_EQ(report->files_direct, 0u);
    EXPECT_EQ(report->files_buffered, 1u);
    EXPECT_EQ(report->bytes_read, 3'000'001u);
  }
}

TEST(LoadDirectFaults, ASecondDescriptorThatIsNotToBeHadIsNotNeeded) {
  Example a;
  a.io = IoMode::direct;
  FaultIo faults;
  faults.fail(IoCall::open, kEveryCall, EMFILE);
  const Result<LoadReport> report = a.run();
  ASSERT_OK(report);
  EXPECT_TRUE(a.arrived());
  EXPECT_EQ(report->files_buffered, 1u);
}

TEST(LoadIo, LooksAtNoSidecarAfterOpening) {
  Example a(false);
  ASSERT_OK(save_sidecar(a.path(), {.sync = false}));
  const Checkpoint sealed = Checkpoint::open(a.path()).value();
  a.plan = LoadPlan();
  ASSERT_OK(a.plan.add(sealed, "host", a.targets[0].destination()));
  ASSERT_OK(a.plan.add(sealed, "device", a.targets[1].destination(&a.device)));
  std::filesystem::path sidecar = a.path();
  sidecar += ".flatbed.json";
  ASSERT_TRUE(std::filesystem::exists(sidecar));
  write_file(sidecar, "{}");
  const Result<LoadReport> report = a.run();
  ASSERT_OK(report);
  EXPECT_TRUE(a.arrived());
  EXPECT_EQ(report->bytes_verified, 3'000'001u);
}

// Memory of the caller that the kernel refuses to write.
TEST_P(LoadIoFaults, MemoryThatCannotBeWrittenIsNoDestination) {
  Example a;
  const std::uint64_t place = a.checkpoint.find("host")->where.offset % 4096;
  for (const bool unmapped : {false, true}) {
    constexpr std::size_t kNbytes = 2 << 20;
    void* memory = ::mmap(nullptr, kNbytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    if (unmapped) {
      ASSERT_EQ(::mprotect(memory, kNbytes, PROT_NONE), 0);
    }
    LoadPlan plan;
    // Aligned as in the file, so that direct reads go straight there.
    ASSERT_OK(plan.add(a.checkpoint, "host",
                       {nullptr, static_cast<std::byte*>(memory) + place, 1'500'000, 0}));
    const Result<LoadReport> result = load(plan, {.io = GetParam(), .threads = 1});
    EXPECT_ERROR(result, destination_invalid);
    EXPECT_NE(result.error().message.find("tensor 'host'"), std::string::npos);
    ::munmap(memory, kNbytes);
  }
}

}  // namespace
}  // namespace flatbed
