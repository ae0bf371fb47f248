// LoadFile: the same bytes past the page cache and through it, also where a read stops early or is
// refused, and hooks in the place of both.
#include "load/load_file.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/str_cat.hpp"
#include "io/file.hpp"
#include "load/load_schedule.hpp"
#include "support/expect_error.hpp"
#include "support/fault_io.hpp"
#include "support/load_model.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::FaultIo;
using test::IoCall;
using test::nth;
using test::Target;
using test::TempDir;

constexpr std::size_t kNbytes = 100'000;  // of the file: its last block is not whole

struct Place {
  std::size_t offset;
  std::size_t nbytes;
};
// Whole blocks, parts of one, parts of several, and the end of the file.
constexpr Place kPlaces[] = {{0, 8192},        {4096, 4096},   {10, 100},        {4000, 200},
                             {1, 20'000},      {4096, 9000},   {5000, 4096 * 3}, {0, kNbytes},
                             {90'000, 10'000}, {98'304, 1696}, {99'999, 1}};

class LoadFileTest : public testing::Test {
 protected:
  void SetUp() override {
    for (std::size_t i = 0; i < kNbytes; ++i) text_ += static_cast<char>(i * i >> 9 ^ i);
    test::write_file(dir_ / "a", text_);
    file_ = File::open(dir_ / "a").value();
  }
  LoadFile open(bool direct) { return LoadFile(*file_, {&hooks_, 7, direct}); }
  [[nodiscard]] bool can_be_direct() { return open(true).direct(); }
  [[nodiscard]] std::string text(const Place& place) const {
    return text_.substr(place.offset, place.nbytes);
  }
  // Lies in memory as it does in the file.
  static Target target(const Place& place) {
    return Target(place.nbytes, place.offset % kDirectAlignment);
  }
  static std::span<std::byte> span(Target& target, const Place& place) {
    return {target.data(), place.nbytes};
  }

  TempDir dir_;
  std::string text_;
  std::optional<File> file_;
  LoadHooks hooks_;
};

TEST_F(LoadFileTest, ReadsAroundAPlacePastThePageCache) {
  if (!can_be_direct()) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  for (const Place& place : kPlaces) {
    SCOPED_TRACE(str_cat(place.nbytes, " bytes at ", place.offset));
    LoadFile file = open(true);
    Target out = target(place);
    const FaultIo calls("a");
    ASSERT_OK(file.read_around(place.offset, span(out, place)));
    EXPECT_TRUE(out.bytes() == text(place));
    EXPECT_EQ(calls.count(IoCall::read), calls.direct_reads());
    EXPECT_GT(calls.direct_reads(), 0u);
  }
}

TEST_F(LoadFileTest, ReadsWithinAPlacePastThePageCacheAndTouchesNothingBeside) {
  if (!can_be_direct()) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  for (const Place& place : kPlaces) {
    SCOPED_TRACE(str_cat(place.nbytes, " bytes at ", place.offset));
    LoadFile file = open(true);
    Target out = target(place);
    const FaultIo calls("a");
    ASSERT_OK(file.read_within(place.offset, span(out, place)));
    EXPECT_TRUE(out.bytes() == text(place));
    EXPECT_TRUE(out.border_is_whole());
    EXPECT_EQ(file.bytes_read(), place.nbytes);
    const std::size_t first = (place.offset + kDirectAlignment - 1) / kDirectAlignment;
    const std::size_t last = (place.offset + place.nbytes) / kDirectAlignment;
    EXPECT_EQ(calls.direct_reads() > 0, first < last);
    const bool is_whole =
        place.offset % kDirectAlignment == 0 && place.nbytes % kDirectAlignment == 0;
    EXPECT_EQ(calls.count(IoCall::read) == calls.direct_reads(), is_whole);
  }
}

TEST_F(LoadFileTest, GoesOnWhereADirectReadStopped) {
  for (const Place& place : kPlaces) {
    for (std::uint64_t seed = 1; seed < 6; ++seed) {
      SCOPED_TRACE(str_cat(place.nbytes, " bytes at ", place.offset, ", seed ", seed));
      LoadFile file = open(true);
      Target around = target(place);
      Target within = target(place);
      FaultIo faults("a");
      faults.shorten({.seed = seed, .multiple = 512});
      ASSERT_OK(file.read_around(place.offset, span(around, place)));
      ASSERT_OK(file.read_within(place.offset, span(within, place)));
      EXPECT_TRUE(around.bytes() == text(place));
      EXPECT_TRUE(within.bytes() == text(place));
    }
  }
}

TEST_F(LoadFileTest, GivesDirectReadsUpForGoodWhenTheyAreRefused) {
  if (!can_be_direct()) GTEST_SKIP() << "no O_DIRECT in the folder for temporary files";
  const Place place{5000, 50'000};
  for (const bool within : {false, true}) {
    LoadFile file = open(true);
    Target out = target(place);
    FaultIo faults("a");
    faults.refuse_direct(IoCall::read);
    for (int i = 0; i < 3; ++i) {
      std::fill_n(out.data(), place.nbytes, std::byte{0});
      ASSERT_OK(within ? file.read_within(place.offset, span(out, place))
                       : file.read_around(place.offset, span(out, place)));
      EXPECT_TRUE(out.bytes() == text(place));
      EXPECT_FALSE(file.direct());
    }
    EXPECT_EQ(faults.direct_reads(), 1u);
  }
}

TEST_F(LoadFileTest, IsNotDirectWhereTheFileCannotBeOpenedSo) {
  FaultIo faults;
  faults.refuse_direct(IoCall::open);
  LoadFile file = open(true);
  EXPECT_FALSE(file.direct());
  Target out(8192);
  ASSERT_OK(file.read_around(0, {out.data(), 8192}));
  EXPECT_TRUE(out.bytes() == text({0, 8192}));
}

TEST_F(LoadFileTest, IsReadThroughThePageCacheWhereThatIsWanted) {
  LoadFile file = open(false);
  EXPECT_FALSE(file.direct());
  const FaultIo calls("a");
  Target out(8192);
  ASSERT_OK(file.read_around(0, {out.data(), 8192}));
  ASSERT_OK(file.read_within(0, {out.data(), 8192}));
  ASSERT_OK(file.read(0, {out.data(), 8192}));
  EXPECT_EQ(calls.direct_reads(), 0u);
  EXPECT_EQ(file.bytes_read(), 3 * 8192u);
}

// Blocks, and what is before and after them.
TEST_F(LoadFileTest, EndsWithTheErrorOfEachOfItsReads) {
  const Place place{5000, 50'000};
  for (const bool within : {false, true}) {
    std::uint64_t reads = 0;
    {
      LoadFile file = open(true);
      Target out = target(place);
      const FaultIo calls("a");
      ASSERT_OK(within ? file.read_within(place.offset, span(out, place))
                       : file.read_around(place.offset, span(out, place)));
      reads = calls.count(IoCall::read);
    }
    for (std::uint64_t n = 1; n <= reads; ++n) {
      SCOPED_TRACE(str_cat(within ? "within" : "around", ", read ", n));
      LoadFile file = open(true);
      Target out = target(place);
      FaultIo faults("a");
      faults.fail(IoCall::read, nth(n), EIO);
      EXPECT_ERROR(within ? file.read_within(place.offset, span(out, place))
                          : file.read_around(place.offset, span(out, place)),
                   io_error);
    }
  }
}

TEST_F(LoadFileTest, ReadsIntoSeveralPlaces) {
  LoadFile file = open(false);
  const Place place{77, 6001};
  Target a(1000);
  Target b(1);
  Target c(5000);
  const std::vector<std::span<std::byte>> parts{{a.data(), 1000}, {b.data(), 1}, {c.data(), 5000}};
  ASSERT_OK(file.read(place.offset, parts));
  EXPECT_TRUE(str_cat(a.bytes(), b.bytes(), c.bytes()) == text(place));
  EXPECT_EQ(file.bytes_read(), place.nbytes);
}

TEST_F(LoadFileTest, AsksHooksInThePlaceOfEveryRead) {
  std::size_t left = 100;  // reads that succeed
  hooks_.read = [&](std::uint32_t index, std::uint64_t offset, std::span<std::byte> out) {
    EXPECT_EQ(index, 7u);
    if (left == 0) return Result<void>(make_error(ErrorCode::io_error, "hook"));
    --left;
    std::memcpy(out.data(), text_.data() + offset, out.size());
    return Result<void>();
  };
  const ReadProgress nothing_arrives = [](std::uint64_t) {
    ADD_FAILURE() << "hooks read all at once";
    return Result<void>();
  };
  const Place place{5000, 6001};
  for (const bool direct : {false, true}) {
    LoadFile file = open(direct);
    EXPECT_EQ(file.direct(), direct);
    const FaultIo calls("a");
    Target out = target(place);
    const std::span<std::byte> all = span(out, place);
    const std::vector<std::span<std::byte>> parts{all.first(1000), all.subspan(1000, 1),
                                                  all.subspan(1001)};
    const auto read = [&](int way) {
      std::fill_n(out.data(), place.nbytes, std::byte{0});
      return way == 0   ? file.read(place.offset, all)
             : way == 1 ? file.read(place.offset, parts)
             : way == 2 ? file.read_around(place.offset, all)
             : way == 3 ? file.read_within(place.offset, all)
                        : file.read(place.offset, parts, nothing_arrives);
    };
    for (int way = 0; way < 5; ++way) {
      left = 100;
      ASSERT_OK(read(way)) << way;
      EXPECT_TRUE(out.bytes() == text(place)) << way;
      EXPECT_TRUE(out.border_is_whole()) << way;
      for (std::size_t n = 0; n < (way == 1 || way == 4 ? 3u : 1u); ++n) {
        left = n;
        EXPECT_ERROR(read(way), io_error) << way;
      }
    }
    EXPECT_EQ(calls.count(IoCall::read), 0u);
  }
}

}  // namespace
}  // namespace flatbed
