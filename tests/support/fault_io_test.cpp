// FaultIo: each kind of fault reaches File and DirectFile, and what becomes of it there.
#include "support/fault_io.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "flatbed/save.hpp"
#include "flatbed/verify.hpp"
#include "io/direct_file.hpp"
#include "io/file.hpp"
#include "io/large_allocator.hpp"
#include "io/mapped_file.hpp"
#include "io/page_cache.hpp"
#include "io/thread_pool.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FaultIo;
using test::IoCall;
using test::kEveryCall;
using test::nth;
using test::read_file;
using test::TempDir;
using test::write_file;

constexpr std::size_t kNbytes = (1 << 20) + 1000;

// A file "a" of bytes that differ, its text, and room for it that is aligned for direct reads.
struct Example {
  TempDir dir;
  std::string text = std::string(kNbytes, '\0');
  ByteBuffer memory = ByteBuffer(2 << 20, std::byte{0});
  std::optional<File> file;

  Example() {
    for (std::size_t i = 0; i < kNbytes; ++i) text[i] = static_cast<char>(i * 7 ^ i >> 8);
    write_file(path(), text);
    file = File::open(path()).value();
  }
  [[nodiscard]] std::filesystem::path path() const { return dir / "a"; }
  [[nodiscard]] std::span<std::byte> out() { return std::span(memory).first(kNbytes); }
  [[nodiscard]] Result<void> read() { return file->read_at(0, out()); }
  // As parts of 0, 1000, 2000, ... bytes.
  [[nodiscard]] Result<void> read_parts() {
    std::vector<std::span<std::byte>> parts;
    for (std::span<std::byte> rest = out(); !rest.empty(); rest = rest.subspan(parts.back().size()))
      parts.push_back(rest.first(std::min(rest.size(), parts.size() * 1000)));
    return file->read_parts(0, parts);
  }
  [[nodiscard]] Result<std::size_t> read_direct(const DirectFile& direct) {
    return direct.read_at(0, memory);
  }
  [[nodiscard]] bool is_read() { return as_text(out()) == text; }
  void forget() { std::ranges::fill(memory, std::byte{0}); }
};

TEST(FaultIo, ChangesNothingUnlessItNamesTheFile) {
  Example a;
  {
    FaultIo faults("b");
    faults.fail(IoCall::read, kEveryCall, EIO);
    faults.fail(IoCall::open, kEveryCall, EMFILE);
    faults.fail(IoCall::stat, kEveryCall, EIO);
    EXPECT_OK(a.read());
    EXPECT_OK(File::open(a.path()));
    EXPECT_EQ(faults.count(IoCall::read), 0u);
  }
  EXPECT_OK(a.read_parts());
  EXPECT_TRUE(a.is_read());
  EXPECT_OK(a.file->check_unchanged());
}

struct FailedRead {
  int error_number;
  ErrorCode code;
};

TEST(FaultIo, FailsReads) {
  Example a;
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  for (const FailedRead& wanted : {FailedRead{EIO, ErrorCode::io_error},
                                   {EAGAIN, ErrorCode::resource_exhausted},
                                   {ENOMEM, ErrorCode::resource_exhausted},
                                   {EFAULT, ErrorCode::destination_invalid}}) {
    FaultIo faults("a");
    faults.fail(IoCall::read, kEveryCall, wanted.error_number);
    EXPECT_TRUE(test::has_error(a.read(), wanted.code));
    EXPECT_TRUE(test::has_error(a.read_parts(), wanted.code));
    EXPECT_EQ(faults.count(IoCall::read), 2u);
    EXPECT_EQ(faults.direct_reads(), 0u);
    if (!direct) continue;
    EXPECT_TRUE(test::has_error(a.read_direct(*direct), wanted.code));
    EXPECT_EQ(faults.direct_reads(), 1u);
  }
}

TEST(FaultIo, InterruptsReadsThatAreThenRepeated) {
  Example a;
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  FaultIo faults("a");
  faults.fail(IoCall::read, {1, 3}, EINTR);
  faults.fail(IoCall::read, {5, 2}, EINTR);
  EXPECT_OK(a.read());
  EXPECT_EQ(faults.count(IoCall::read), 4u);
  EXPECT_TRUE(a.is_read());
  a.forget();
  EXPECT_OK(a.read_parts());
  EXPECT_EQ(faults.count(IoCall::read), 7u);
  EXPECT_TRUE(a.is_read());
  if (!direct) return;
  a.forget();
  faults.fail(IoCall::read, nth(8), EINTR);
  EXPECT_EQ(a.read_direct(*direct).value(), kNbytes);
  EXPECT_EQ(faults.count(IoCall::read), 9u);
  EXPECT_TRUE(a.is_read());
}

TEST(FaultIo, ShortensReadsThatAreThenContinued) {
  Example a;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    FaultIo faults("a");
    faults.shorten({.seed = seed, .multiple = seed % 2 == 0 ? std::size_t{1} : 512});
    a.forget();
    EXPECT_OK(a.read());
    EXPECT_TRUE(a.is_read()) << seed;
    a.forget();
    EXPECT_OK(a.read_parts());
    EXPECT_TRUE(a.is_read()) << seed;
    EXPECT_GT(faults.count(IoCall::read), 4u);
  }
}

TEST(FaultIo, ShortensDirectReads) {
  Example a;
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  if (!direct) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  bool stopped_early = false;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    a.forget();
    {
      FaultIo faults("a");
      faults.shorten({.seed = seed, .multiple = direct->alignment()});
      EXPECT_EQ(a.read_direct(*direct).value(), kNbytes);
      EXPECT_TRUE(a.is_read()) << seed;
    }
    FaultIo faults("a");
    faults.shorten({.seed = seed});
    const std::size_t got = a.read_direct(*direct).value();
    EXPECT_TRUE(as_text(a.out().first(got)) == a.text.substr(0, got)) << seed;
    stopped_early |= got % direct->alignment() != 0 && got < kNbytes;
  }
  EXPECT_TRUE(stopped_early);
}

TEST(FaultIo, EndsFilesEarly) {
  Example a;
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  FaultIo faults("a");
  faults.end_early(kEveryCall);
  EXPECT_ERROR(a.read(), file_changed);
  EXPECT_ERROR(a.read_parts(), file_changed);
  if (direct) {
    EXPECT_EQ(a.read_direct(*direct).value(), 0u);
  }
}

TEST(FaultIo, PretendsToHaveRead) {
  Example a;
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  FaultIo faults("a");
  faults.pretend(kEveryCall);
  EXPECT_OK(a.read());
  EXPECT_OK(a.read_parts());
  if (direct) {
    EXPECT_EQ(a.read_direct(*direct).value(), a.memory.size());
  }
  EXPECT_TRUE(as_text(a.out()) == std::string(kNbytes, '\0'));
}

// Nothing is read, so that the memory need not be there.
TEST(FaultIo, ShowsThatNoCallIsForMoreThanOneGibibyte) {
  const TempDir dir;
  constexpr std::size_t kGiB = std::size_t{1} << 30;
  constexpr std::size_t kSize = 2 * kGiB + kGiB / 2;
  write_file(dir / "a", "");
  if (::truncate((dir / "a").c_str(), off_t{kSize}) != 0) GTEST_SKIP() << "no sparse files";
  const Result<File> file = File::open(dir / "a");
  ASSERT_OK(file);
  void* memory = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) GTEST_SKIP() << "no address space";
  const std::span<std::byte> out(static_cast<std::byte*>(memory), kSize);
  const std::optional<DirectFile> direct = DirectFile::open(*file);
  FaultIo faults("a");
  faults.pretend(kEveryCall);
  EXPECT_OK(file->read_at(0, out));
  EXPECT_EQ(faults.count(IoCall::read), 3u);
  EXPECT_OK(file->read_parts(0, std::array{out.first(1000), out.subspan(1000)}));
  EXPECT_EQ(faults.count(IoCall::read), 6u);
  if (direct) {
    EXPECT_EQ(direct->read_at(0, out).value(), kSize);
    EXPECT_EQ(faults.direct_reads(), 3u);
  }
  ::munmap(memory, kSize);
}

TEST(FaultIo, FlipsOneBit) {
  Example a;
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  std::string wanted = a.text;
  wanted[12'345] = static_cast<char>(wanted[12'345] ^ 1 << 6);
  FaultIo faults("a");
  faults.flip_bit(kEveryCall, 12'345 * 8 + 6);
  EXPECT_OK(a.read());
  EXPECT_TRUE(as_text(a.out()) == wanted);
  a.forget();
  EXPECT_OK(a.read_parts());
  EXPECT_TRUE(as_text(a.out()) == wanted);
  if (!direct) return;
  a.forget();
  EXPECT_EQ(a.read_direct(*direct).value(), kNbytes);
  EXPECT_TRUE(as_text(a.out()) == wanted);
}

TEST(FaultIo, LetsATestCutTheFileBetweenTwoReads) {
  for (const bool in_parts : {false, true}) {
    Example a;
    FaultIo faults("a");
    faults.shorten({.seed = 1});
    faults.before(IoCall::read, nth(2), [&] {
      EXPECT_EQ(::truncate(a.path().c_str(), 1), 0);
      EXPECT_EQ(read_file(a.path()).size(), 1u);
    });
    EXPECT_ERROR(in_parts ? a.read_parts() : a.read(), file_changed);
    EXPECT_EQ(faults.count(IoCall::read), 2u);
  }
}

TEST(FaultIo, LetsATestMoveTheFileBetweenTwoReads) {
  Example a;
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  FaultIo faults;  // of any name: it changes
  faults.shorten({.seed = 1, .multiple = 4096});
  faults.before(IoCall::read, nth(2), [&] { std::filesystem::rename(a.path(), a.dir / "b"); });
  faults.before(IoCall::read, nth(3), [&] { std::filesystem::remove(a.dir / "b"); });
  EXPECT_OK(a.read());
  EXPECT_TRUE(a.is_read());
  EXPECT_GT(faults.count(IoCall::read), 3u);
  if (!direct) return;
  a.forget();
  EXPECT_EQ(a.read_direct(*direct).value(), kNbytes);
  EXPECT_TRUE(a.is_read());
}

TEST(FaultIo, LetsATestWriteTheFileBetweenTwoReads) {
  Example a;
  FaultIo faults("a");
  faults.shorten({.seed = 1});
  faults.before(IoCall::read, nth(2), [&] { write_file(a.path(), std::string(kNbytes + 1, 'x')); });
  EXPECT_OK(a.read());
  EXPECT_FALSE(a.is_read());
  EXPECT_ERROR(a.file->check_unchanged(), file_changed);
}

TEST(FaultIo, RefusesDirectReads) {
  Example a;
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  FaultIo faults("a");
  faults.refuse_direct(IoCall::read);
  EXPECT_OK(a.read());
  EXPECT_TRUE(a.is_read());
  if (direct) {
    EXPECT_ERROR(a.read_direct(*direct), unsupported_filesystem);
  }
  faults.refuse_direct(IoCall::open);
  EXPECT_FALSE(DirectFile::open(*a.file));
  EXPECT_EQ(faults.count(IoCall::open), 2u);
  EXPECT_OK(File::open(a.path()));
}

TEST(FaultIo, FailsOpens) {
  Example a;
  FaultIo faults("a");
  faults.fail(IoCall::open, nth(2), EMFILE);
  faults.fail(IoCall::open, nth(4), EINTR);
  EXPECT_OK(File::open(a.path()));
  EXPECT_ERROR(File::open(a.path()), resource_exhausted);
  EXPECT_OK(File::open(a.path()));
  EXPECT_OK(File::open(a.path()));
  EXPECT_EQ(faults.count(IoCall::open), 5u);
}

TEST(FaultIo, FailsStats) {
  Example a;
  FaultIo faults("a");
  faults.fail(IoCall::stat, kEveryCall, EIO);
  EXPECT_ERROR(File::open(a.path()), io_error);
  EXPECT_ERROR(a.file->check_unchanged(), io_error);
  EXPECT_ERROR(MappedFile::map(*a.file), io_error);
  EXPECT_FALSE(DirectFile::open(*a.file));
}

// Where there is no /proc, the path is tried, and is believed only if it is still the same file.
TEST(FaultIo, ShowsHowADirectFileIsFoundWithoutProc) {
  Example a;
  if (!DirectFile::open(*a.file)) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  {
    FaultIo faults;
    faults.fail(IoCall::open, nth(1), ENOENT);
    const std::optional<DirectFile> direct = DirectFile::open(*a.file);
    ASSERT_TRUE(direct);
    EXPECT_EQ(faults.count(IoCall::open), 2u);
    EXPECT_EQ(a.read_direct(*direct).value(), kNbytes);
    EXPECT_TRUE(a.is_read());
  }
  std::filesystem::rename(a.path(), a.dir / "b");
  write_file(a.path(), a.text);
  EXPECT_TRUE(DirectFile::open(*a.file));
  FaultIo faults;
  faults.fail(IoCall::open, nth(1), ENOENT);
  EXPECT_FALSE(DirectFile::open(*a.file));
}

TEST(FaultIo, CountsTheReadsOfAllThreads) {
  Example a;
  constexpr unsigned kThreads = 4;
  const auto read = [&](unsigned) -> Result<void> {
    ByteBuffer out(kNbytes);
    for (int i = 0; i < 8; ++i) {
      FLATBED_TRY(a.file->read_at(0, out));
      if (as_text(out) != a.text) return make_error(ErrorCode::internal_error, "other bytes");
    }
    return {};
  };
  {
    FaultIo faults("a");
    faults.shorten({.seed = 3, .multiple = 4096});
    EXPECT_OK(run_parallel(kThreads, read));
    EXPECT_GT(faults.count(IoCall::read), 2 * 8 * kThreads);
  }
  FaultIo faults("a");
  faults.fail(IoCall::read, nth(20), EIO);
  std::atomic<int> failures = 0;
  EXPECT_ERROR(run_parallel(kThreads,
                            [&](unsigned number) {
                              Result<void> result = read(number);
                              if (!result) ++failures;
                              return result;
                            }),
               io_error);
  EXPECT_EQ(failures, 1);
}

// Each read in turn fails, until there is none left to fail. Returns how many there were.
template <typename Act>
std::uint64_t sweep(std::string_view name, Act act) {
  for (std::uint64_t n = 1; n < 10'000; ++n) {
    FaultIo faults(name);
    faults.shorten({.seed = 5, .multiple = 4096});
    faults.fail(IoCall::read, nth(n), EIO);
    const auto result = act();
    if (result) return n - 1;
    EXPECT_ERROR(result, io_error) << "read " << n;
    EXPECT_EQ(faults.count(IoCall::read), n);
  }
  return 0;
}

TEST(FaultIo, FailsEachReadInTurn) {
  Example a;
  EXPECT_GT(sweep("a", [&] { return a.read(); }), 4u);
  EXPECT_TRUE(a.is_read());
  a.forget();
  EXPECT_GT(sweep("a", [&] { return a.read_parts(); }), 4u);
  EXPECT_TRUE(a.is_read());
  const std::optional<DirectFile> direct = DirectFile::open(*a.file);
  if (!direct) return;
  a.forget();
  EXPECT_GT(sweep("a", [&] { return a.read_direct(*direct); }), 4u);
  EXPECT_TRUE(a.is_read());
}

TEST(FaultIo, FailsEachReadOfACheckpointInTurn) {
  const TempDir dir;
  const std::string data(1 << 20, 'x');
  SavePlan plan;
  plan.items.push_back({"w", Dtype::u8, {data.size()}, as_bytes(data)});
  plan.items.push_back({"b", Dtype::u8, {3}, as_bytes("abc")});
  ASSERT_OK(save(dir / "a.safetensors", plan));
  std::string out(data.size(), '\0');
  const std::uint64_t reads = sweep("a.safetensors", [&]() -> Result<void> {
    FLATBED_ASSIGN(const Checkpoint checkpoint, Checkpoint::open(dir / "a.safetensors"));
    FLATBED_ASSIGN(const VerifyReport report, verify(checkpoint, {.threads = 1}));
    if (!report.damaged.empty()) return make_error(ErrorCode::internal_error, "damaged");
    return checkpoint.read(*checkpoint.find("w"), 0, std::as_writable_bytes(std::span(out)));
  });
  EXPECT_GT(reads, 8u);
  EXPECT_TRUE(out == data);
}

}  // namespace
}  // namespace flatbed
