// verify(): names exactly the chunks that do not match, in leased pages of the file or in a buffer,
// and survives whatever happens to the file.
#include "flatbed/verify.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/save.hpp"
#include "io/descriptor.hpp"
#include "support/expect_error.hpp"
#include "support/leases.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;

constexpr std::size_t kChunk = 262'144;

struct Damage {
  std::string tensor;
  std::uint64_t begin;
  std::uint64_t end;
  bool operator==(const Damage&) const = default;
};

std::vector<Damage> damage_of(const Checkpoint& checkpoint, const VerifyReport& report) {
  std::vector<Damage> out;
  for (const DamagedRange& range : report.damaged) {
    out.push_back({std::string(checkpoint.tensors()[range.tensor].name), range.begin, range.end});
  }
  return out;
}

// "big" has 6 chunks, the last of 5 bytes; "a", "b", "c" one each.
void write_example(const std::filesystem::path& path, bool seal = true) {
  const std::string big(5 * kChunk + 5, 'x');
  SavePlan plan;
  for (const std::string_view name : {"a", "b", "c"}) {
    plan.items.push_back({std::string(name), Dtype::u8, {3}, as_bytes("abc")});
  }
  plan.items.push_back({"big", Dtype::u8, {big.size()}, as_bytes(big)});
  ASSERT_OK(save(path, plan, {.seal = seal}));
}

// Flips a bit of byte `at` of each named tensor.
void damage(const std::filesystem::path& path,
            const std::vector<std::pair<std::string, std::uint64_t>>& places) {
  std::string bytes = read_file(path);
  const Checkpoint checkpoint = Checkpoint::open(path).value();
  for (const auto& [name, at] : places) {
    char& byte = bytes[checkpoint.find(name)->where.offset + at];
    byte = static_cast<char>(byte ^ 0x10);
  }
  write_file(path, bytes);
}

TEST(Verify, FindsNothingInAGoodFile) {
  const TempDir dir;
  write_example(dir / "a");
  for (const unsigned threads : {0U, 1U, 2U, 9U}) {
    const Result<VerifyReport> report =
        verify(Checkpoint::open(dir / "a").value(), {.threads = threads});
    ASSERT_OK(report);
    EXPECT_EQ(report->bytes_checked, 5 * kChunk + 5 + 9);
    EXPECT_EQ(report->chunks_checked, 9u);
    EXPECT_TRUE(report->damaged.empty());
    EXPECT_TRUE(report->damaged_complete);
  }
}

TEST(Verify, NamesTensorAndChunk) {
  const TempDir dir;
  write_example(dir / "a");
  damage(dir / "a", {{"big", kChunk + 7}});
  const Checkpoint checkpoint = Checkpoint::open(dir / "a").value();
  const Result<VerifyReport> report = verify(checkpoint);
  ASSERT_OK(report);
  EXPECT_EQ(damage_of(checkpoint, *report), (std::vector<Damage>{{"big", kChunk, 2 * kChunk}}));
  EXPECT_EQ(report->damaged[0].file, 0u);
}

TEST(Verify, JoinsNeighboursAndEndsWithTheTensor) {
  const TempDir dir;
  write_example(dir / "a");
  damage(dir / "a",
         {{"big", 0}, {"big", 2 * kChunk}, {"big", 3 * kChunk}, {"big", 5 * kChunk + 4}});
  const Checkpoint checkpoint = Checkpoint::open(dir / "a").value();
  const Result<VerifyReport> report = verify(checkpoint);
  ASSERT_OK(report);
  EXPECT_EQ(damage_of(checkpoint, *report),
            (std::vector<Damage>{{"big", 0, kChunk},
                                 {"big", 2 * kChunk, 4 * kChunk},
                                 {"big", 5 * kChunk, 5 * kChunk + 5}}));
}

TEST(Verify, TellsSmallNeighboursApart) {
  const TempDir dir;
  write_example(dir / "a");
  damage(dir / "a", {{"a", 2}, {"c", 0}});
  const Checkpoint checkpoint = Checkpoint::open(dir / "a").value();
  const Result<VerifyReport> report = verify(checkpoint);
  ASSERT_OK(report);
  EXPECT_EQ(damage_of(checkpoint, *report), (std::vector<Damage>{{"a", 0, 3}, {"c", 0, 3}}));
}

TEST(Verify, ListsAtMostTenThousandRanges) {
  const TempDir dir;
  SavePlan plan;
  for (std::size_t i = 0; i < 10'001; ++i) {
    plan.items.push_back({str_cat("t", i), Dtype::u8, {1}, as_bytes("x")});
  }
  ASSERT_OK(save(dir / "a", plan, {.sync = false}));
  std::string bytes = read_file(dir / "a");
  bytes.replace(bytes.size() - 10'001, 10'000, 10'000, 'y');  // all but the last tensor
  write_file(dir / "a", bytes);
  Result<VerifyReport> report = verify(Checkpoint::open(dir / "a").value());
  ASSERT_OK(report);
  EXPECT_EQ(report->damaged.size(), 10'000u);
  EXPECT_TRUE(report->damaged_complete);

  bytes.back() = 'y';
  write_file(dir / "a", bytes);
  report = verify(Checkpoint::open(dir / "a").value());
  ASSERT_OK(report);
  EXPECT_EQ(report->damaged.size(), 10'000u);
  EXPECT_FALSE(report->damaged_complete);
}

TEST(Verify, ChecksNothingWithoutASeal) {
  const TempDir dir;
  write_example(dir / "a", false);
  const Result<VerifyReport> report = verify(Checkpoint::open(dir / "a").value());
  ASSERT_OK(report);
  EXPECT_EQ(report->bytes_checked, 0u);
  EXPECT_EQ(report->chunks_checked, 0u);
}

TEST(Verify, TakesTheSealOfASidecar) {
  const TempDir dir;
  write_example(dir / "a", false);
  ASSERT_OK(save_sidecar(dir / "a"));
  damage(dir / "a", {{"b", 1}});
  const Checkpoint checkpoint = Checkpoint::open(dir / "a").value();
  const Result<VerifyReport> report = verify(checkpoint);
  ASSERT_OK(report);
  EXPECT_EQ(damage_of(checkpoint, *report), (std::vector<Damage>{{"b", 0, 3}}));
}

TEST(Verify, ChecksOnlyWhatIsSelected) {
  const TempDir dir;
  write_example(dir / "a");
  damage(dir / "a", {{"a", 0}});
  const Checkpoint whole = Checkpoint::open(dir / "a").value();
  Selection all_but_a;
  all_but_a.exclude = {"a"};
  const Result<Checkpoint> others = whole.select(all_but_a);
  ASSERT_OK(others);
  const Result<VerifyReport> report = verify(*others);
  ASSERT_OK(report);
  EXPECT_TRUE(report->damaged.empty());
  EXPECT_EQ(report->bytes_checked, 5 * kChunk + 5 + 6);
}

TEST(Verify, DoesNotCallAChangedFileDamaged) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = Checkpoint::open(dir / "a").value();
  const std::array<timespec, 2> times{timespec{1, 0}, timespec{1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (dir / "a").c_str(), times.data(), 0), 0);
  EXPECT_ERROR(verify(checkpoint), file_changed);
  ASSERT_EQ(::truncate((dir / "a").c_str(), 10'000), 0);
  EXPECT_ERROR(verify(checkpoint), file_changed);
}

TEST(Verify, CanBeCancelled) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = Checkpoint::open(dir / "a").value();
  std::atomic<bool> cancel = true;
  EXPECT_ERROR(verify(checkpoint, {.cancel = &cancel}), cancelled);
  cancel = false;
  EXPECT_OK(verify(checkpoint, {.cancel = &cancel}));
}

TEST(Verify, ReturnsTheErrorOfItsProgress) {
  const TempDir dir;
  write_example(dir / "a");
  VerifyOptions options;
  options.progress = [](const Progress&) -> Result<void> {
    return make_error(ErrorCode::device_error, "enough");
  };
  EXPECT_ERROR(verify(Checkpoint::open(dir / "a").value(), options), device_error);
}

// With somebody who may write there is no lease, and pieces are read to a buffer.
TEST(Verify, FindsTheSameWhereSomebodyMayWrite) {
  const TempDir dir;
  write_example(dir / "a");
  damage(dir / "a", {{"big", 0}, {"big", 5 * kChunk + 4}, {"b", 0}});
  const Checkpoint checkpoint = Checkpoint::open(dir / "a").value();
  const std::vector<Damage> expected{
      {"b", 0, 3}, {"big", 0, kChunk}, {"big", 5 * kChunk, 5 * kChunk + 5}};
  for (const bool somebody : {false, true}) {
    const Descriptor writer(somebody ? ::open((dir / "a").c_str(), O_RDWR | O_CLOEXEC) : -1);
    const Result<VerifyReport> report = verify(checkpoint);
    ASSERT_OK(report);
    EXPECT_EQ(damage_of(checkpoint, *report), expected);
    EXPECT_EQ(report->bytes_checked, 5 * kChunk + 5 + 9);
  }
}

// A mapping would end the process.
TEST(Verify, SurvivesAFileThatShrinksAgainAndAgain) {
  const TempDir dir;
  write_example(dir / "a");
  const std::string whole = read_file(dir / "a");
  std::atomic<bool> done = false;
  std::thread other([&] {
    for (std::uint64_t n = 0; !done; ++n) {
      const auto nbytes = static_cast<off_t>(whole.size() / 7 * (n % 7));
      if (::truncate((dir / "a").c_str(), nbytes) != 0) break;
      write_file(dir / "a", whole);
      std::this_thread::sleep_for(std::chrono::microseconds(n % 20 * 100));
    }
  });
  unsigned failed = 0;
  unsigned succeeded = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while ((failed < 20 || succeeded < 20) && std::chrono::steady_clock::now() < end) {
    const Result<Checkpoint> opened = Checkpoint::open(dir / "a");
    if (!opened) continue;
    const Result<VerifyReport> report = verify(*opened);
    ++(report ? succeeded : failed);
    if (report) {
      EXPECT_TRUE(report->damaged.empty());
    } else {
      EXPECT_EQ(report.error().code, ErrorCode::file_changed) << report.error().message;
    }
  }
  done = true;
  other.join();
  EXPECT_GE(failed, 20U);
  EXPECT_GE(succeeded, 20U);
}

TEST(Verify, LeavesNothingMapped) {
  const TempDir dir;
  write_example(dir / "a");
  const Checkpoint checkpoint = Checkpoint::open(dir / "a").value();
  ASSERT_OK(verify(checkpoint));
  EXPECT_EQ(read_file("/proc/self/maps").find((dir / "a").native()), std::string::npos);
  EXPECT_TRUE(test::can_write(dir / "a"));
}

}  // namespace
}  // namespace flatbed
